//! What a rule does with a packet: pure and total.

#![expect(
    clippy::cast_possible_truncation,
    reason = "a draw is taken apart into two halves"
)]

use crate::{
    layout::{Direction, Memory, Model, NEAR_NETWORKS, PORT_RANGES, Ports, Rule, State},
    packet::Flow,
    random::{draw, probability},
};

mod flows;

/// What a rule wants with a packet that it matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Decision {
    /// Nothing.
    Pass = 0,
    /// Lose it.
    Drop = 1,
    /// Mark it, with the values in the rule.
    Mark = 2,
    /// Let it wait.
    Delay = 3,
    /// Send it twice.
    Duplicate = 4,
}

/// What a decision depends on beside the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Where the rule stands, in this direction.
    pub state: State,
    /// The direction; each has its own sequence and its own draws.
    pub direction: Direction,
}

/// Decides for a rule without a chain ([`Rule::has_chain`]).
#[inline]
pub fn decide(rule: &Rule, turn: Turn) -> Decision {
    if rule.model == Model::Mark as u32 {
        return Decision::Mark;
    }
    if rule.model == Model::Rate as u32 {
        return Decision::Delay;
    }
    let lost = if rule.model == Model::Every as u32 {
        let number = turn.state.sequence().wrapping_add(1);
        number.is_multiple_of(rule.every)
    } else {
        probability::happens(rule.probability, (turn.draw(rule) >> 32) as u32)
    };
    if lost { Decision::Drop } else { Decision::Pass }
}

/// Where a rule with a chain stands after a packet.
#[inline(always)]
pub fn next(rule: &Rule, turn: Turn) -> State {
    let chain = rule.chain.next(turn.state.chain(), turn.draw(rule));
    turn.state.after(chain)
}

/// Decides for a rule with a chain, which has made its transition ([`next`]) to `chain`.
/// What may go ahead of those that wait passes; see [`delay()`].
///
/// A correlated loss (or copy, or reordering) is one of these: it repeats the previous
/// outcome with the probability of the correlation and draws afresh otherwise. The rate
/// stays what was asked, and neighbours correlate by exactly what was asked. (netem
/// mixes the previous *random number* in, which narrows the distribution that the
/// rate is taken from, so that the rate itself changes.)
#[inline(always)]
pub fn decide_by_chain(rule: &Rule, turn: Turn, chain: u32) -> Decision {
    let happens = rule.chain.loses(chain, turn.draw(rule));
    // Without branches between the models: the kernel's verifier would walk each way on.
    if rule.model == Model::Delay as u32 {
        return if happens {
            Decision::Pass
        } else {
            Decision::Delay
        };
    }
    match (happens, rule.model == Model::Duplicate as u32) {
        (false, _) => Decision::Pass,
        (true, false) => Decision::Drop,
        (true, true) => Decision::Duplicate,
    }
}

/// How long a packet waits by [`Model::Delay`], in nanoseconds, and what the rule
/// remembers of it; `None` where it goes ahead.
///
/// As netem does it: a packet goes ahead if `chosen` by the chance of reordering, and if
/// `gap - 1` waited since the last one did. A wait below zero is none. `quantile` gives the
/// values of the distribution's table, in units of 1/8192.
///
/// A correlated wait repeats the previous draw with the probability of the correlation;
/// see [`decide_by_chain`] for why not as netem does.
#[inline(always)]
pub fn delay(
    rule: &Rule,
    turn: Turn,
    chosen: bool,
    before: Memory,
    quantile: impl Fn(u32) -> i16,
) -> (Option<u64>, Memory) {
    let delay = &rule.delay;
    if chosen && delay.gap != 0 && before.waited() >= delay.gap - 1 {
        return (None, Memory::of_delay(before.draw(), 0));
    }
    let fresh = draw(turn.seed(rule) ^ ANOTHER, turn.state.sequence());
    // As long as nothing is remembered, nothing is repeated. Without a branch, for the
    // verifier: all bits where the low half of the draw is below the correlation.
    let again = (fresh & u64::from(u32::MAX)).wrapping_sub(delay.correlation) >> 63;
    let remembered = (before.word >> 1 | before.word & 1).wrapping_neg() >> 63;
    let again = (again & remembered).wrapping_neg() as u32;
    let draw = (before.draw() & again) | ((fresh >> 32) as u32 & !again);
    let jitter_ns = delay.jitter_ns.cast_signed();
    let deviation = if delay.table_len == 0 {
        // From -2^23 to 2^23 for -1 to 1.
        (jitter_ns * i64::from(draw.cast_signed() >> 8)) >> 23
    } else {
        let place = (u64::from(draw) * u64::from(delay.table_len)) >> 32;
        (jitter_ns * i64::from(quantile(place as u32))) >> 13
    };
    // Both are far below 2^62. Below zero is none.
    let wait_ns = delay.mean_ns.cast_signed().wrapping_add(deviation);
    let wait_ns = (wait_ns & !(wait_ns >> 63)).cast_unsigned();
    let waited = u64::from(before.waited()) + 1;
    let waited = (waited - (waited >> 32)) as u32;
    (Some(wait_ns), Memory::of_delay(draw, waited))
}

/// The draws of a delay are others than those of its chain.
const ANOTHER: u64 = 0x5bd1_e995_9d1b_54a5;

/// How long a packet of so many bytes takes on the link of [`Model::Rate`], in nanoseconds.
/// The bytes are those that netem counts: frames with the headers of each segment.
#[inline]
pub fn transmission_ns(rule: &Rule, bytes: u64) -> u64 {
    let rate = &rule.rate;
    let mut bytes = bytes.saturating_add_signed(rate.packet_overhead.into());
    if rate.cell_size != 0 {
        let cells = bytes.div_ceil(rate.cell_size.into());
        let cell = u64::from(rate.cell_size).saturating_add_signed(rate.cell_overhead.into());
        bytes = cells.wrapping_mul(cell);
    }
    // A checked product takes 128 bits, which the kernel's instructions have not. With no
    // overheads of gigabytes it stays below 2^64.
    bytes.wrapping_mul(1_000_000_000) / rate.bytes_per_sec.max(1)
}

impl Turn {
    #[inline(always)]
    fn draw(&self, rule: &Rule) -> u64 {
        draw(self.seed(rule), self.state.sequence())
    }

    #[inline(always)]
    fn seed(&self, rule: &Rule) -> u64 {
        rule.seed ^ u64::from(self.direction as u32)
    }
}

/// Whether a rule takes a frame in this direction. The far end is not compared:
/// the tables have done that.
#[inline]
pub fn matches(rule: &Rule, flow: &Flow, direction: Direction) -> bool {
    if rule.directions & direction.bit() == 0 {
        return false;
    }
    if rule.flags & Rule::EVERY_FRAME != 0 {
        // A DSCP alone needs an IP header to stand in.
        let only_dscp = rule.model == Model::Mark as u32 && rule.mark_mask == 0;
        return !only_dscp || flow.is_ip();
    }
    flow.is_ip()
        && !flow.is(Flow::NEIGHBOUR_DISCOVERY)
        && takes_protocol(&rule.protocols, flow.protocol)
        && takes_ports(rule, flow)
        && takes_near(rule, flow)
        && flows::takes(rule, flow)
}

#[inline]
fn takes_protocol(protocols: &[u64; 4], protocol: u32) -> bool {
    let [a, b, c, d] = *protocols;
    if a | b | c | d == 0 {
        return true;
    }
    let word = match protocol >> 6 {
        0 => a,
        1 => b,
        2 => c,
        3 => d,
        _ => 0,
    };
    word >> (protocol & 63) & 1 == 1
}

#[inline]
fn takes_ports(rule: &Rule, flow: &Flow) -> bool {
    if rule.far_ports.len | rule.near_ports.len == 0 {
        return true;
    }
    flow.is(Flow::PORTS)
        && has_port(&rule.far_ports, flow.far_port)
        && has_port(&rule.near_ports, flow.near_port)
}

#[inline]
fn has_port(ports: &Ports, port: u32) -> bool {
    if ports.len == 0 {
        return true;
    }
    // Plain loops: the verifier walks each path, and an iterator's are many.
    for i in 0..PORT_RANGES {
        if i >= ports.len as usize {
            break;
        }
        let range = &ports.ranges[i];
        // Both ends in one comparison: below the first, the difference wraps.
        let span = u32::from(range.last - range.first);
        if port.wrapping_sub(u32::from(range.first)) <= span {
            return true;
        }
    }
    false
}

#[inline]
fn takes_near(rule: &Rule, flow: &Flow) -> bool {
    if rule.near_len == 0 {
        return true;
    }
    for i in 0..NEAR_NETWORKS {
        if i >= rule.near_len as usize {
            break;
        }
        if rule.near[i].contains(flow.near) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;
