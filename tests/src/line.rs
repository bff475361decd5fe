//! A fault that lets packets wait, as `faultctl` tells of it.

use nix::sys::signal::Signal;

use crate::{
    faultctl::{Ended, Faultctl},
    namespace::Namespace,
};

/// A running one; killed when dropped.
#[derive(Debug)]
pub struct Line {
    faultctl: Faultctl,
}

/// What it says at its end of a direction.
#[derive(Clone, Debug)]
pub struct Said {
    /// `egress` or `ingress`.
    pub direction: String,
    /// Packets that its rule decided about.
    pub decided: u64,
    /// Frames that its delay line took in.
    pub held: u64,
    /// Frames that it gave back.
    pub sent: u64,
    /// Frames for which there was no room.
    pub dropped: u64,
}

impl Line {
    /// Starts it inside a namespace, and returns when it is in force.
    #[track_caller]
    pub fn start(namespace: &Namespace, arguments: &str) -> Self {
        let faultctl = Faultctl::start(namespace, arguments);
        Self { faultctl }
    }

    /// Ends it, and hears what became of the frames of each direction.
    #[track_caller]
    pub fn end(self) -> Vec<Said> {
        let ended = self.faultctl.end();
        assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
        said(&ended)
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.faultctl.signal(signal);
    }
}

/// The same of a fault that has ended, by direction, egress first.
pub fn said(ended: &Ended) -> Vec<Said> {
    let stopped = ended.stopped();
    let of = |list: &str, direction: &str, key: &str| {
        let entries = stopped[list].as_array().expect("a list");
        let entry = entries.iter().find(|it| it["direction"] == direction);
        entry.map_or(0, |entry| entry[key].as_u64().expect("a number"))
    };
    stopped["rules"]
        .as_array()
        .expect("rules")
        .iter()
        .map(|rule| {
            let direction = rule["direction"].as_str().expect("a direction");
            Said {
                direction: direction.into(),
                decided: of("rules", direction, "matched"),
                held: of("lines", direction, "held"),
                sent: of("lines", direction, "sent"),
                dropped: of("lines", direction, "dropped"),
            }
        })
        .collect()
}
