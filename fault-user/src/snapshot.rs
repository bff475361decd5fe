//! What faults have done, at one moment.

use std::time::Duration;

use fault_common::{
    layout::{Counters, Direction, Fault},
    packet::Reason,
};

use crate::down::LinkMode;

/// What one rule did on one interface in one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleCount {
    /// The rule's name.
    pub rule: String,
    /// What it is.
    pub fault: Fault,
    /// The interface.
    pub iface: String,
    /// The direction.
    pub direction: Direction,
    /// What was asked, in the user's words.
    pub asked: String,
    /// The share of packets that it is to drop, 0 to 1.
    pub probability: Option<f64>,
    /// What it did.
    pub counters: Counters,
}

impl RuleCount {
    /// The share of packets that it did something to, 0 to 1; `None` while none came.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a ratio to look at; counters below 2^53 are exact"
    )]
    pub fn injected(&self) -> Option<f64> {
        let touched = match self.fault {
            Fault::Mark => self.counters.marked_packets,
            Fault::Loss | Fault::Partition | Fault::Down => self.counters.dropped_packets,
        };
        let matched = self.counters.matched_packets;
        (matched > 0).then(|| touched as f64 / matched as f64)
    }
}

/// A link that is away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkAway {
    /// The interface, by its name when the fault began.
    pub iface: String,
    /// How it was taken away.
    pub mode: LinkMode,
}

/// What all rules did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// By rule, interface and direction.
    pub counts: Vec<RuleCount>,
    /// Frames that could not be read in full, by interface.
    pub unparsed: Vec<(String, Reason, u64)>,
    /// Links that are away; the kernel does not count what they lose.
    pub links: Vec<LinkAway>,
    /// How long the rules had no force because the controller did not run.
    pub lapsed: Duration,
}
