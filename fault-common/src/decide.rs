//! What a rule does with a packet: pure and total.

#![expect(
    clippy::cast_possible_truncation,
    reason = "a draw is taken apart into two halves"
)]

use crate::{
    layout::{Direction, Model, NEAR_NETWORKS, PORT_RANGES, Ports, Rule, State},
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
}

/// What a decision depends on beside the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Where the rule stands, in this direction.
    pub state: State,
    /// The direction; each has its own sequence and its own draws.
    pub direction: Direction,
}

/// Decides for a rule whose losses do not come in bursts ([`Rule::in_bursts`]).
#[inline]
pub fn decide(rule: &Rule, turn: Turn) -> Decision {
    if rule.model == Model::Mark as u32 {
        return Decision::Mark;
    }
    let lost = if rule.model == Model::Every as u32 {
        let number = turn.state.sequence().wrapping_add(1);
        number.is_multiple_of(rule.every)
    } else {
        probability::happens(rule.probability, (turn.draw(rule) >> 32) as u32)
    };
    if lost { Decision::Drop } else { Decision::Pass }
}

/// Where a rule whose losses come in bursts stands after a packet.
#[inline(always)]
pub fn next(rule: &Rule, turn: Turn) -> State {
    let chain = rule.chain.next(turn.state.chain(), turn.draw(rule));
    turn.state.after(chain)
}

/// Decides for a rule whose losses come in bursts, and that has made its transition
/// ([`next`]) to `chain`.
///
/// Correlated loss is one of these: it repeats the previous outcome with the
/// probability of the correlation and draws afresh otherwise. The loss rate stays
/// what was asked, and neighbours correlate by exactly what was asked. (netem
/// mixes the previous *random number* in, which narrows the distribution that the
/// rate is taken from, so that the rate itself changes.)
#[inline(always)]
pub fn decide_in_bursts(rule: &Rule, turn: Turn, chain: u32) -> Decision {
    if rule.chain.loses(chain, turn.draw(rule)) {
        Decision::Drop
    } else {
        Decision::Pass
    }
}

impl Turn {
    #[inline(always)]
    fn draw(&self, rule: &Rule) -> u64 {
        let seed = rule.seed ^ u64::from(self.direction as u32);
        draw(seed, self.state.sequence())
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
