//! Shares of flows: all packets of a flow, or none.

use crate::{
    address::Address,
    layout::Rule,
    packet::Flow,
    random::{draw, probability},
};

/// Whether a flow is in the share that a rule takes.
#[inline]
pub(super) fn takes(rule: &Rule, flow: &Flow) -> bool {
    rule.flows == 0 || probability::happens(rule.flows, number(rule.flow_seed, flow))
}

/// Evenly spread over flows, and the same for a flow as either end sees it: what comes in
/// on one interface and leaves on another is one flow.
///
/// A flow is both addresses, the protocol and both ports; without the ports where a packet
/// has none: of a protocol without ports, and in later fragments.
#[inline]
fn number(seed: u64, flow: &Flow) -> u32 {
    let end = |address: Address, port: u32| {
        let [a, b, c, d] = address.0.map(u64::from);
        draw(draw(draw(seed, a << 32 | b), c << 32 | d), u64::from(port))
    };
    let both = end(flow.far, flow.far_port).wrapping_add(end(flow.near, flow.near_port));
    draw(both, u64::from(flow.protocol)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decide::matches, layout::Direction};

    /// A good generator comes beyond so many once in 10^10; the seeds are fixed.
    const DEVIATIONS: f64 = 6.5;
    const SEEDS: [u64; 3] = [0, 1, 0xdead_beef_0bad_cafe];

    fn steps(share: f64) -> u64 {
        #[expect(clippy::cast_sign_loss, reason = "shares are positive")]
        let steps = (share * 4_294_967_296.0) as u64;
        steps
    }

    /// TCP over IPv4, as the near end sees it; a different one for each number.
    fn numbered(number: u32) -> Flow {
        let [_, b, c, d] = number.to_be_bytes();
        Flow {
            flags: Flow::IPV4 | Flow::PORTS,
            far: Address::from_v4([10, 0, 0, b]),
            near: Address::from_v4([10, 0, 1, 1]),
            protocol: 6,
            far_port: 443,
            near_port: u32::from_be_bytes([0, 0, c, d]),
            ..Flow::default()
        }
    }

    fn reversed(flow: Flow) -> Flow {
        Flow {
            far: flow.near,
            near: flow.far,
            far_port: flow.near_port,
            near_port: flow.far_port,
            ..flow
        }
    }

    #[test]
    fn share_of_flows_is_what_was_asked() {
        const FLOWS: u32 = 200_000;
        for seed in SEEDS {
            for asked in [0.001, 0.1, 0.5, 0.9] {
                let rule = Rule {
                    directions: 3,
                    flows: steps(asked),
                    flow_seed: seed,
                    ..Rule::default()
                };
                let taken = (0..FLOWS)
                    .filter(|n| matches(&rule, &numbered(*n), Direction::Egress))
                    .count();
                let (mean, variance) = (
                    f64::from(FLOWS) * asked,
                    f64::from(FLOWS) * asked * (1.0 - asked),
                );
                #[expect(clippy::cast_precision_loss, reason = "a count below 2^52")]
                let distance = (taken as f64 - mean).abs();
                assert!(
                    distance < DEVIATIONS * variance.sqrt(),
                    "{taken} for {asked}"
                );
            }
        }
    }

    #[test]
    fn flow_is_one_as_either_end_and_either_direction_see_it() {
        for seed in SEEDS {
            let rule = Rule {
                directions: 3,
                flows: steps(0.5),
                flow_seed: seed,
                ..Rule::default()
            };
            for number in 0..1000 {
                let flow = numbered(number);
                let taken = matches(&rule, &flow, Direction::Egress);
                assert_eq!(taken, matches(&rule, &flow, Direction::Ingress));
                assert_eq!(taken, matches(&rule, &reversed(flow), Direction::Ingress));
            }
        }
    }

    #[test]
    fn whatever_makes_a_flow_another_draws_anew() {
        let flow = numbered(7);
        let others = [
            Flow {
                far: Address::from_v4([10, 0, 0, 9]),
                ..flow
            },
            Flow {
                near: Address::from_v6([9; 16]),
                ..flow
            },
            Flow {
                far_port: 80,
                ..flow
            },
            Flow {
                near_port: 80,
                ..flow
            },
            Flow {
                protocol: 17,
                ..flow
            },
        ];
        for other in others {
            // Of so many seeds, half give another side of the middle.
            let differ = (0..1000)
                .filter(|seed| (number(*seed, &flow) ^ number(*seed, &other)) >> 31 == 1)
                .count();
            assert!((397..=603).contains(&differ), "{differ}: {other:?}");
        }
    }

    #[test]
    fn share_of_flows_holds_nothing_but_ip() {
        let rule = Rule {
            directions: 3,
            flows: probability::ONE,
            ..Rule::default()
        };
        assert!(matches(&rule, &numbered(1), Direction::Egress));
        assert!(!matches(&rule, &Flow::default(), Direction::Egress));
    }
}
