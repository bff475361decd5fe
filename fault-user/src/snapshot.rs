//! What faults have done, at one moment.

use std::time::Duration;

use fault_common::{
    layout::{Counters, Delays, Direction, Fault},
    packet::Reason,
};

use crate::{down::LinkMode, line};

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
    /// How long packets were told to wait.
    pub delays: Delays,
}

impl RuleCount {
    /// The share of packets that it did something to, 0 to 1; `None` while none came.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a ratio to look at; counters below 2^53 are exact"
    )]
    pub fn injected(&self) -> Option<f64> {
        let matched = self.counters.matched_packets;
        (matched > 0).then(|| self.touched() as f64 / matched as f64)
    }

    /// How many packets it did something to, in the sense of the fault's name.
    pub fn touched(&self) -> u64 {
        let counters = &self.counters;
        match self.fault {
            Fault::Mark => counters.marked_packets,
            Fault::Loss | Fault::Partition | Fault::Down => counters.dropped_packets,
            Fault::Latency | Fault::Rate => counters.delayed_packets,
            // Those that went ahead.
            Fault::Reorder => counters
                .matched_packets
                .saturating_sub(counters.delayed_packets),
            Fault::Duplicate => counters.duplicated_packets,
        }
    }

    /// How long packets were told to wait on average; `None` while none was.
    pub fn mean_delay(&self) -> Option<Duration> {
        let packets = self.counters.delayed_packets;
        let ns = self.counters.delayed_ns.checked_div(packets)?;
        Some(Duration::from_nanos(ns))
    }
}

/// What one delay line did.
#[derive(Clone, Debug, PartialEq)]
pub struct LineCount {
    /// The interface.
    pub iface: String,
    /// The direction.
    pub direction: Direction,
    /// What became of the frames that it held.
    pub stats: line::Stats,
    /// Frames that were to wait or to come twice, and could not.
    pub missed: u64,
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
    /// By interface and direction, where packets wait.
    pub lines: Vec<LineCount>,
    /// Frames that could not be read in full, by interface.
    pub unparsed: Vec<(String, Reason, u64)>,
    /// Links that are away; the kernel does not count what they lose.
    pub links: Vec<LinkAway>,
    /// How long the rules had no force because the controller did not run.
    pub lapsed: Duration,
}
