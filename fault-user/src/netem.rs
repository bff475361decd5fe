//! The words of tc-netem(8): what they mean, and how tc prints them again.
//!
//! [`parse()`] takes what comes after `netem` on a command line of tc, as
//! iproute2 6.1 takes it: its abbreviations, its units, its defaults, and its
//! refusals. A word that comes twice counts the second time, and values that the
//! second leaves out stay those of the first. `netem/tc-6.1.txt` holds what tc makes
//! of some 260 lines; the tests compare. On purpose otherwise:
//!
//! - `seed`, and `ns` as a unit of `delay`, are read, as newer versions of tc do.
//!   A bare number after `delay` stays microseconds, though iproute2 6.9 and later
//!   take it for nanoseconds. Times below a microsecond are kept.
//! - `distribution uniform` is what the manual says it is; tc has no such table.
//! - The correlation of `duplicate` counts; tc forgets it unless another is given.
//! - A rate in percent of the link's speed is refused.
//! - What only gets past tc by accident is refused: `nan`, `inf`, a percentage
//!   without digits, negative rates.

use std::time::Duration;

use crate::spec::Percent;

mod asked;
pub mod distribution;
mod error;
mod number;
mod parse;
mod show;
pub mod tc;
#[cfg(test)]
mod truth;
pub(crate) mod unit;

pub use distribution::{Distribution, DistributionError};
pub use error::{Expected, NetemError};
pub use parse::parse;

/// What netem is told to do to packets.
#[derive(Clone, Debug, PartialEq)]
pub struct Netem {
    /// How many packets are held at most.
    pub limit: u32,
    /// How long they are held.
    pub delay: Delay,
    /// Which are lost.
    pub loss: Loss,
    /// Whether those that can be are marked with CE (RFC 3168) instead of lost.
    pub ecn: bool,
    /// Which come twice.
    pub duplicate: Chance,
    /// Which arrive with a flipped bit.
    pub corrupt: Chance,
    /// Which overtake the others.
    pub reorder: Option<Reorder>,
    /// The speed of the link.
    pub rate: Option<Rate>,
    /// When the link delivers at all.
    pub slot: Option<Slot>,
    /// Start of the random draws.
    pub seed: Option<u64>,
}

/// A delay, and how it varies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delay {
    /// Its mean.
    pub time: Duration,
    /// What the distribution is multiplied with.
    pub jitter: Duration,
    /// How much the delay of one packet depends on that of the one before.
    pub correlation: Percent,
    /// How the jitter is distributed.
    pub distribution: Distribution,
}

/// Something that happens to some packets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Chance {
    /// To how many.
    pub percent: Percent,
    /// How much it depends on what happened to the one before.
    pub correlation: Percent,
}

/// Which packets are lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// By chance.
    Random(Chance),
    /// By a Markov chain of four states; 1 is good reception, 2 good reception within
    /// a burst, 3 loss within a burst, 4 an isolated loss.
    State {
        /// From state 1 to state 3.
        p13: Percent,
        /// From state 3 to state 1.
        p31: Percent,
        /// From state 3 to state 2.
        p32: Percent,
        /// From state 2 to state 3.
        p23: Percent,
        /// From state 1 to state 4.
        p14: Percent,
    },
    /// By the model of Gilbert and Elliott.
    Gemodel {
        /// From the good state to the bad one.
        p: Percent,
        /// From the bad state to the good one.
        r: Percent,
        /// Loss in the bad state: 1-h.
        bad: Percent,
        /// Loss in the good state: 1-k.
        good: Percent,
    },
}

/// Packets that are sent at once while others are delayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reorder {
    /// Which.
    pub chance: Chance,
    /// One in so many can be: those before it are always delayed. At least 1.
    pub gap: u32,
}

/// The speed of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// The speed.
    pub bytes_per_sec: u64,
    /// Bytes that each packet is longer.
    pub packet_overhead: i32,
    /// Bytes in a cell; 0 for a link without cells.
    pub cell_size: u32,
    /// Bytes that each cell is longer.
    pub cell_overhead: i32,
}

/// A link that delivers in slots.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// The time from one to the next.
    pub pace: Pace,
    /// Packets in one; 0 for any number.
    pub packets: u32,
    /// Bytes in one; 0 for any number.
    pub bytes: u32,
}

/// The time from one slot to the next.
#[derive(Clone, Debug, PartialEq)]
pub enum Pace {
    /// Anything between two times.
    Between {
        /// The shorter.
        min: Duration,
        /// The longer.
        max: Duration,
    },
    /// By a distribution.
    Distributed {
        /// Which one.
        distribution: Distribution,
        /// The mean.
        delay: Duration,
        /// What the distribution is multiplied with; more than nothing.
        jitter: Duration,
    },
}

impl Default for Netem {
    /// What netem does without a word.
    fn default() -> Self {
        Self {
            limit: 1000,
            delay: Delay::default(),
            loss: Loss::default(),
            ecn: false,
            duplicate: Chance::default(),
            corrupt: Chance::default(),
            reorder: None,
            rate: None,
            slot: None,
            seed: None,
        }
    }
}

impl Default for Loss {
    /// None at all.
    fn default() -> Self {
        Self::Random(Chance::default())
    }
}

impl Loss {
    /// Whether none was asked for. A model counts as asked for, whatever its numbers.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Random(chance) if chance.is_never())
    }
}

impl Chance {
    /// Whether it happens to no packet.
    pub fn is_never(&self) -> bool {
        self.percent.points() <= 0.0
    }
}

impl Default for Slot {
    /// No slots.
    fn default() -> Self {
        Self {
            pace: Pace::Between {
                min: Duration::ZERO,
                max: Duration::ZERO,
            },
            packets: 0,
            bytes: 0,
        }
    }
}

impl Slot {
    /// Whether packets need not wait for slots.
    pub fn is_none(&self) -> bool {
        matches!(self.pace, Pace::Between { max, .. } if max.is_zero())
    }
}
