//! Loss in bursts: Markov chains in the words of netem.
//!
//! Each packet makes one transition, and the state that it comes to says how likely
//! it is lost. The models are those of linux/net/sched/sch_netem.c (`loss_4state`,
//! `loss_gilb_ell`) and tc-netem(8), after S. Salsano, F. Ludovici, A. Ordine and
//! D. Giannuzzi, "Definition of a general and intuitive loss model for packet
//! networks and its implementation in the Netem module in the Linux kernel" (2012).
//!
//! Probabilities are as in [`crate::random::probability`].

use bytemuck::{Pod, Zeroable};

use crate::random::probability::{self, ONE};

/// Before the first packet.
pub const START: u32 = 0;
/// Good reception.
pub const GOOD: u32 = 1;
/// Of four states: good reception within a burst. Of two, after Gilbert and Elliott:
/// the bad state.
pub const BAD: u32 = 2;
/// Loss within a burst.
pub const BURST_LOSS: u32 = 3;
/// An isolated loss.
pub const ISOLATED_LOSS: u32 = 4;

/// A chain of up to four states.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Chain {
    /// From each state, [`START`] first: how likely the next one is [`GOOD`]; that or
    /// [`BAD`]; that or [`BURST_LOSS`]. Else it is [`ISOLATED_LOSS`].
    next: [[u64; 3]; 5],
    /// How likely a packet is lost in each state, [`GOOD`] first.
    loss: [u64; 4],
}

impl Chain {
    /// netem's `loss state`. `p13 + p14` and `p31 + p32` are at most one, and `p41`
    /// is one.
    ///
    /// As in netem, a packet makes its transition first, from state 1 when it is the
    /// very first, and is lost in the states 3 and 4.
    pub const fn four_states(p13: u64, p31: u64, p32: u64, p23: u64, p14: u64) -> Self {
        let from_good = row(ONE - p13 - p14, 0, p13);
        Self {
            next: [
                from_good,
                from_good,
                row(0, ONE - p23, p23),
                row(p31, p32, ONE - p31 - p32),
                row(ONE, 0, 0),
            ],
            loss: [0, 0, ONE, ONE],
        }
    }

    /// netem's `loss gemodel`: `p` leads from the good to the bad state, `r` back;
    /// a packet in the bad state is lost with `bad` (netem's 1-h), in the good one
    /// with `good` (1-k).
    ///
    /// netem decides by the state that a packet finds, and then makes a transition
    /// for the next packet. The same chain is had by the transition first, where that
    /// of the first packet always leads to the good state.
    pub const fn gilbert_elliott(p: u64, r: u64, bad: u64, good: u64) -> Self {
        let surely_good = row(ONE, 0, 0);
        Self {
            next: [
                surely_good,
                row(ONE - p, p, 0),
                row(r, ONE - r, 0),
                surely_good,
                surely_good,
            ],
            loss: [good, bad, 0, 0],
        }
    }

    /// Gilbert's two states: a packet is lost with `p13` after one that passed, and
    /// passes with `p31` after one that was lost. The first is lost with `rate`; where
    /// this is `p13 / (p13 + p31)`, so is each.
    pub const fn gilbert(rate: u64, p13: u64, p31: u64) -> Self {
        let mut chain = Self::four_states(p13, p31, 0, ONE, 0);
        chain.next[START as usize] = row(ONE - rate, 0, rate);
        chain
    }

    /// How likely one state follows another.
    pub fn transition(&self, from: u32, to: u32) -> u64 {
        let row = self.next[from as usize];
        // The end of each state's share, and where it begins.
        let ends = [0, row[0], row[1], row[2], ONE];
        ends[to as usize] - ends[to as usize - 1]
    }

    /// How likely a packet is lost in a state.
    pub fn loss(&self, state: u32) -> u64 {
        self.loss[state as usize - 1]
    }

    /// The next state after `state`, and whether the packet that comes to it is lost.
    /// Both are decided by one draw. A state that the chain does not have counts as
    /// [`START`].
    #[inline(always)]
    pub fn step(&self, state: u32, draw: u64) -> (u32, bool) {
        let row = self.next.get(state as usize).unwrap_or(&self.next[0]);
        let bits = draw & u64::from(u32::MAX);
        // 1 where the draw is below. No branch and no index: the kernel's verifier
        // would walk each way on, for each attempt at each rule.
        let below = row.map(|end| bits.wrapping_sub(end) >> 63);
        let next = u64::from(ISOLATED_LOSS) - below[0] - below[1] - below[2];
        let [good, bad, burst, isolated] = self.loss;
        let loss = [(2, burst, isolated), (1, bad, burst), (0, good, bad)]
            .iter()
            .fold(isolated, |loss, (n, this, other)| {
                loss.wrapping_add(below[*n].wrapping_mul(this.wrapping_sub(*other)))
            });
        let lost = probability::happens(loss, (draw >> 32) as u32);
        (next as u32, lost)
    }
}

/// The shares of [`GOOD`], [`BAD`] and [`BURST_LOSS`], added up.
const fn row(good: u64, bad: u64, burst_loss: u64) -> [u64; 3] {
    [good, good + bad, good + bad + burst_loss]
}

#[cfg(test)]
mod tests;
