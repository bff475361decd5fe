//! What a fault is, in the user's units; [`compile()`] turns it into rules.
//!
//! The modules parse the values that a command line or a file is made of.

use std::num::NonZeroU64;

use fault_common::layout::{Direction, Fault, PortRange};
use ipnet::IpNet;

use crate::netem as words;

pub mod burst;
pub mod compile;
pub mod count;
pub mod duration;
pub mod endpoint;
pub mod hold;
pub mod mark;
mod netem;
pub mod percent;
pub mod port;
pub mod protocol;
mod selection;
mod value;

pub use burst::{Burst, BurstLength, FourStates, Gemodel};
pub use compile::{NamedRule, RuleSet, compile};
pub use endpoint::Endpoint;
pub use mark::{Dscp, SkbMark};
pub use percent::Percent;
pub use protocol::Protocol;
pub use value::ValueError;

/// A fault and the packets that it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultSpec {
    /// What happens to them.
    pub kind: FaultKind,
    /// Which packets.
    pub selectors: Selectors,
    /// Start of the random draws; a run with the same seed repeats.
    pub seed: Option<u64>,
}

/// What happens to a packet.
#[derive(Clone, Debug, PartialEq)]
pub enum FaultKind {
    /// Some are lost.
    Loss(Loss),
    /// All are lost.
    Partition,
    /// All are lost, as if the interface were down.
    Down,
    /// They are marked.
    Mark(Mark),
    /// They wait.
    Latency(words::Delay),
    /// They wait, but for some that go ahead.
    Reorder {
        /// How long.
        delay: words::Delay,
        /// Which go ahead.
        reorder: words::Reorder,
    },
    /// Some come twice.
    Duplicate(words::Chance),
    /// They wait for their turn on a link of some speed.
    Rate {
        /// The speed.
        rate: words::Rate,
        /// Bytes that may go at once.
        burst: u32,
    },
    /// Several of these, in netem's order.
    Netem(Vec<Self>),
}

/// Which packets are lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// By chance.
    Random {
        /// How many.
        percent: Percent,
        /// How often a packet shares the fate of the one before.
        correlation: Percent,
    },
    /// By chance, in bursts.
    Burst(Burst),
    /// As netem's `gemodel`.
    Gemodel(Gemodel),
    /// As netem's `state`.
    State(FourStates),
    /// One in so many: the n-th, the 2n-th and so on.
    Every(NonZeroU64),
}

/// What is written on a packet; at least one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The skb mark.
    pub skb: Option<SkbMark>,
    /// The DSCP in the IP header.
    pub dscp: Option<Dscp>,
}

/// Which packets: those that every list with an entry agrees to. Without any
/// entry, every frame, ARP and neighbour discovery included; with one, IP
/// packets only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selectors {
    /// The far end: destination on egress, source on ingress.
    pub to: Vec<IpNet>,
    /// The near end.
    pub from: Vec<IpNet>,
    /// Far ends that are never hit, whatever `to` says.
    pub except: Vec<IpNet>,
    /// IP protocols.
    pub protocols: Vec<Protocol>,
    /// Ports of the far end.
    pub far_ports: Vec<PortRange>,
    /// Ports of the near end.
    pub near_ports: Vec<PortRange>,
    /// The share of flows; None for all.
    pub flows: Option<Percent>,
    /// Directions, seen from the interface.
    pub directions: Directions,
}

/// One direction or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Directions {
    /// What leaves the interface.
    #[default]
    Egress,
    /// What comes in.
    Ingress,
    /// Both.
    Both,
}

impl FaultKind {
    /// The verb that asks for it, which is also the name of its rule.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Loss(_) => Fault::Loss.name(),
            Self::Partition => Fault::Partition.name(),
            Self::Down => Fault::Down.name(),
            Self::Mark(_) => Fault::Mark.name(),
            Self::Latency(_) => Fault::Latency.name(),
            Self::Reorder { .. } => Fault::Reorder.name(),
            Self::Duplicate(_) => Fault::Duplicate.name(),
            Self::Rate { .. } => Fault::Rate.name(),
            Self::Netem(_) => "netem",
        }
    }

    /// The faults that it is made of, in the order in which a packet meets them.
    pub fn parts(&self) -> &[Self] {
        match self {
            Self::Netem(parts) => parts,
            one => std::slice::from_ref(one),
        }
    }

    /// Whether packets wait.
    pub fn holds(&self) -> bool {
        self.parts().iter().any(|part| {
            matches!(
                part,
                Self::Latency(_) | Self::Reorder { .. } | Self::Rate { .. }
            )
        })
    }

    /// Whether packets that wait are due in the order in which they come.
    pub fn keeps_order(&self) -> bool {
        self.delay().is_none_or(|delay| delay.jitter.is_zero())
    }

    /// Whether all that it does is to lose packets.
    pub fn only_loses(&self) -> bool {
        self.parts()
            .iter()
            .all(|part| matches!(part, Self::Loss(_) | Self::Partition | Self::Down))
    }

    /// How long packets wait, if they do for a time that was asked for.
    pub fn delay(&self) -> Option<&words::Delay> {
        self.parts().iter().find_map(|part| match part {
            Self::Latency(delay) | Self::Reorder { delay, .. } => Some(delay),
            _ => None,
        })
    }

    /// The directions when none are asked for: egress, as netem; both for what
    /// cuts a machine off.
    pub fn default_directions(&self) -> Directions {
        match self {
            Self::Partition | Self::Down => Directions::Both,
            _ => Directions::Egress,
        }
    }
}

impl Selectors {
    /// Whether nothing is selected by address, port, protocol or flow: then a rule
    /// takes frames of any kind.
    pub fn takes_every_frame(&self) -> bool {
        self.to.is_empty()
            && self.from.is_empty()
            && self.except.is_empty()
            && self.protocols.is_empty()
            && self.far_ports.is_empty()
            && self.near_ports.is_empty()
            && self.flows.is_none()
    }
}

impl Directions {
    /// The directions one by one, egress first.
    pub fn each(self) -> &'static [Direction] {
        match self {
            Self::Egress => &[Direction::Egress],
            Self::Ingress => &[Direction::Ingress],
            Self::Both => &Direction::ALL,
        }
    }
}
