//! Loss in bursts: Markov chains in the words of netem.
//!
//! Each packet makes one transition, and the state that it comes to says how likely
//! it is lost. The models are those of `linux/net/sched/sch_netem.c` (`loss_4state`,
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

/// Room for states in a chain: a power of two, so that bits of a word name one.
pub const STATES: usize = 8;

/// A chain of up to four states.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Chain {
    /// [`START`] first.
    states: [State; STATES],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
struct State {
    /// How likely the next state is [`GOOD`]; that or [`BAD`]; that or
    /// [`BURST_LOSS`]. Else it is [`ISOLATED_LOSS`].
    next: [u64; 3],
    /// How likely a packet is lost in this one.
    loss: u64,
}

impl Chain {
    /// netem's `loss state`. `p13 + p14` and `p31 + p32` are at most one, and `p41`
    /// is one.
    ///
    /// As in netem, a packet makes its transition first, from state 1 when it is the
    /// very first, and is lost in the states 3 and 4.
    pub const fn four_states(p13: u64, p31: u64, p32: u64, p23: u64, p14: u64) -> Self {
        let next = [ONE - p13 - p14, 0, p13];
        let mut chain = Self::of(next);
        chain.states[GOOD as usize] = State::new(next, 0);
        chain.states[BAD as usize] = State::new([0, ONE - p23, p23], 0);
        chain.states[BURST_LOSS as usize] = State::new([p31, p32, ONE - p31 - p32], ONE);
        chain.states[ISOLATED_LOSS as usize] = State::new([ONE, 0, 0], ONE);
        chain
    }

    /// netem's `loss gemodel`: `p` leads from the good to the bad state, `r` back;
    /// a packet in the bad state is lost with `bad` (netem's 1-h), in the good one
    /// with `good` (1-k).
    ///
    /// netem decides by the state that a packet finds, and then makes a transition
    /// for the next packet. The same chain is had by the transition first, where that
    /// of the first packet always leads to the good state.
    pub const fn gilbert_elliott(p: u64, r: u64, bad: u64, good: u64) -> Self {
        let mut chain = Self::of([ONE, 0, 0]);
        chain.states[GOOD as usize] = State::new([ONE - p, p, 0], good);
        chain.states[BAD as usize] = State::new([r, ONE - r, 0], bad);
        chain
    }

    /// Gilbert's two states: a packet is lost with `p13` after one that passed, and
    /// passes with `p31` after one that was lost. The first is lost with `rate`; where
    /// this is `p13 / (p13 + p31)`, so is each.
    pub const fn gilbert(rate: u64, p13: u64, p31: u64) -> Self {
        let mut chain = Self::four_states(p13, p31, 0, ONE, 0);
        chain.states[START as usize] = State::new([ONE - rate, 0, rate], 0);
        chain
    }

    /// How likely one state follows another.
    pub fn transition(&self, from: u32, to: u32) -> u64 {
        let [good, bad, burst_loss] = self.states[from as usize].next;
        // Where each state's share ends, and where it begins.
        let ends = [0, good, bad, burst_loss, ONE];
        ends[to as usize] - ends[to as usize - 1]
    }

    /// How likely a packet is lost in a state.
    pub const fn loss(&self, state: u32) -> u64 {
        self.states[state as usize % STATES].loss
    }

    /// The next state, by the lower half of a draw.
    #[expect(clippy::cast_possible_truncation, reason = "three bits")]
    #[inline(always)]
    pub fn next(&self, state: u32, draw: u64) -> u32 {
        let bits = draw & u64::from(u32::MAX);
        // 1 where the draw is below. No branch: the kernel's verifier would walk each
        // way on, for each attempt at each rule.
        let [good, bad, burst_loss] = self.states[state as usize % STATES]
            .next
            .map(|end| bits.wrapping_sub(end) >> 63);
        ISOLATED_LOSS - (good + bad + burst_loss) as u32
    }

    /// Whether a packet is lost in a state, by the upper half of a draw.
    #[inline(always)]
    pub const fn loses(&self, state: u32, draw: u64) -> bool {
        probability::happens(self.loss(state), (draw >> 32) as u32)
    }

    /// All states lose nothing and lead on alike.
    const fn of(next: [u64; 3]) -> Self {
        Self {
            states: [State::new(next, 0); STATES],
        }
    }
}

impl State {
    /// `next` has the share of each.
    const fn new([good, bad, burst_loss]: [u64; 3], loss: u64) -> Self {
        Self {
            next: [good, good + bad, good + bad + burst_loss],
            loss,
        }
    }
}

#[cfg(test)]
mod tests;
