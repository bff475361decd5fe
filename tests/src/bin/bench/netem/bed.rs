//! A veth pair on which netem or faultctl holds packets.

use std::process::Stdio;

use fault_tests::{
    Faultctl, Lab, Namespace, Side,
    faultctl::{self, command},
    kernel::engines,
};
use nix::unistd::Pid;
use serde_json::Value;

use super::missing;
use crate::rows::Row;

/// Bytes that a TCP socket may buffer, least, usual and most: more than 10 Gbit/s at 100 ms.
const BUFFERS: &str = "4096 1048576 536870912";

/// Who holds packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// They go on at once.
    Nobody,
    /// The kernel's netem, as root qdisc of the sender's end. For ingress this is its best
    /// case: at the receiver it would take an ifb device and a redirect to it.
    Netem,
    /// faultctl with the engine fq, at the near end.
    Fq,
    /// faultctl with the engine TAP, at the near end.
    Tap,
}

/// The pair, and what is on it; all of it goes when dropped.
pub struct Bed {
    /// Who holds packets.
    pub who: Who,
    /// The side whose packets are held.
    pub sender: Side,
    /// The pair.
    pub lab: Lab,
    faultctl: Option<Faultctl>,
}

impl Who {
    /// As tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Netem => "netem",
            Self::Fq => "fq",
            Self::Tap => "tap",
        }
    }
}

/// Who can hold packets on this kernel, and rows that say why others cannot.
pub fn there() -> (Vec<Who>, Vec<Row>) {
    let mut holders = Vec::new();
    let mut rows = Vec::new();
    match tc(&Namespace::new(), "qdisc add dev lo root netem delay 1ms") {
        Ok(_) => holders.push(Who::Netem),
        Err(why) => rows.push(missing("all rows", Who::Netem, &why)),
    }
    if engines().contains(&"fq") {
        holders.push(Who::Fq);
    } else {
        let why = "this kernel has no sch_fq";
        rows.push(missing("all rows", Who::Fq, why));
    }
    holders.push(Who::Tap);
    (holders, rows)
}

impl Bed {
    /// One on which `who` does to what `sender` sends what the words of tc-netem(8) say, once
    /// it is [ready](Bed::ready).
    pub fn new(who: Who, sender: Side, words: &str) -> Result<Self, String> {
        let mut bed = Self::bare(who, sender);
        match who {
            Who::Nobody => {}
            Who::Netem => {
                let dev = bed.lab.dev(sender);
                let line = format!("qdisc add dev {dev} root netem {words}");
                tc(bed.lab.namespace(sender), &line)?;
            }
            Who::Fq | Who::Tap => {
                let way = sender.direction();
                bed.start(&["netem", words, "--iface", "eth0", "--direction", way]);
            }
        }
        Ok(bed)
    }

    /// One on which nothing is yet.
    pub fn bare(who: Who, sender: Side) -> Self {
        let lab = Lab::new();
        for side in Side::ALL {
            for key in ["ipv4/tcp_rmem", "ipv4/tcp_wmem"] {
                lab.namespace(side).set(key, BUFFERS);
            }
        }
        Self {
            who,
            sender,
            lab,
            faultctl: None,
        }
    }

    /// Starts faultctl with these words, its engine added, at the near end.
    pub fn start(&mut self, words: &[&str]) {
        let words = [words, &["--json", "--engine", self.who.name()]].concat();
        self.faultctl = Some(Faultctl::launch(&mut command(&self.lab.near, &words)));
    }

    /// Waits until who holds packets does, or says why not.
    pub fn ready(&mut self) -> Result<(), String> {
        self.faultctl.as_mut().map_or(Ok(()), Faultctl::ready)
    }

    /// The side that receives what is held.
    pub fn receiver(&self) -> Side {
        match self.sender {
            Side::Near => Side::Far,
            Side::Far => Side::Near,
        }
    }

    /// faultctl's process.
    pub fn pid(&self) -> Option<Pid> {
        self.faultctl.as_ref().map(Faultctl::pid)
    }

    /// Ends it. How many packets who holds them has dropped, by its own count.
    pub fn dropped(self) -> u64 {
        let count = |list: &Value| {
            let list = list.as_array().map_or(&[][..], Vec::as_slice);
            list.iter()
                .filter_map(|it| it["drops"].as_u64().or_else(|| it["dropped"].as_u64()))
                .sum()
        };
        if let Some(faultctl) = self.faultctl {
            return count(&faultctl.end().stopped()["lines"]);
        }
        let line = format!("-s -j qdisc show dev {}", self.lab.dev(self.sender));
        let text = tc(self.lab.namespace(self.sender), &line).expect("it has qdiscs");
        count(&serde_json::from_str(&text).expect("tc speaks JSON"))
    }
}

/// One tc(8) command in a namespace, and what it says.
pub fn tc(namespace: &Namespace, line: &str) -> Result<String, String> {
    let mut command = namespace.command("tc");
    command.args(line.split(' ')).stdin(Stdio::null());
    let output = faultctl::output(&mut command);
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
