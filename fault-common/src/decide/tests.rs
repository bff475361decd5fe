//! Decisions and filters: ends of scales exactly, what is left to chance by
//! statistics.
//!
//! The statistics hold to six standard deviations and a half, beyond which a good
//! generator comes once in 10^10 (two-sided normal bound). The seeds are fixed, so a
//! run that fails is a change in the code.

extern crate std;

use proptest::prelude::*;

use super::*;
use crate::{
    address::{Address, Network},
    chain::{Chain, START},
    layout::PortRange,
};

const DEVIATIONS: f64 = 6.5;
const SEEDS: [u64; 3] = [0, 1, 0xdead_beef_0bad_cafe];

fn share(share: f64) -> u64 {
    #[expect(clippy::cast_sign_loss, reason = "shares are positive")]
    let steps = (share * 4_294_967_296.0).round() as u64;
    steps
}

fn random(loss: f64, seed: u64) -> Rule {
    Rule {
        model: Model::Random as u32,
        probability: share(loss),
        seed,
        ..Rule::default()
    }
}

/// The turn of the packet after so many.
fn turn(sequence: u64, direction: Direction) -> Turn {
    Turn {
        state: State {
            word: sequence.wrapping_mul(State::PACKET),
        },
        direction,
    }
}

/// Calls `each` with the outcome of the packets from 0 on.
fn simulate(rule: &Rule, direction: Direction, packets: u64, mut each: impl FnMut(bool)) {
    for sequence in 0..packets {
        each(decide(rule, turn(sequence, direction)) == Decision::Drop);
    }
}

fn losses(rule: &Rule, packets: u64) -> u64 {
    let mut losses = 0;
    simulate(rule, Direction::Egress, packets, |lost| {
        losses += u64::from(lost);
    });
    losses
}

/// Whether a count of `n` trials is near its mean.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn is_near(count: u64, n: u64, p: f64) -> bool {
    let mean = n as f64 * p;
    let deviation = (mean * (1.0 - p)).sqrt();
    (count as f64 - mean).abs() <= DEVIATIONS * deviation
}

#[test]
fn mark_is_no_matter_of_chance() {
    let rule = Rule {
        model: Model::Mark as u32,
        ..random(1.0, 0)
    };
    for sequence in [0, 1, 1 << 40] {
        assert_eq!(
            decide(&rule, turn(sequence, Direction::Ingress)),
            Decision::Mark
        );
    }
}

#[test]
fn one_in_n_is_lost_exactly() {
    for every in [1, 2, 3, 10, 997] {
        let rule = Rule {
            model: Model::Every as u32,
            every,
            ..Rule::default()
        };
        let mut number = 0;
        simulate(&rule, Direction::Egress, 10_000, |lost| {
            number += 1;
            assert_eq!(lost, number % every == 0, "packet {number} of 1 in {every}");
        });
    }
}

#[test]
fn loss_rate_is_what_was_asked() {
    const PACKETS: u64 = 1_000_000;
    for seed in SEEDS {
        for loss in [0.001, 0.1, 0.5, 0.99] {
            let lost = losses(&random(loss, seed), PACKETS);
            assert!(
                is_near(lost, PACKETS, loss),
                "{lost} of {PACKETS} for {loss}, seed {seed}"
            );
        }
    }
}

#[test]
fn chain_moves_on_with_each_packet_and_its_draws_are_those_of_the_rule() {
    let rule = Rule {
        model: Model::Burst as u32,
        chain: Chain::gilbert(share(0.3), share(0.2), share(0.4)),
        seed: 0xfeed,
        ..Rule::default()
    };
    for direction in Direction::ALL {
        let mut state = State::default();
        let mut chain = START;
        for sequence in 0..1000 {
            let turn = Turn { state, direction };
            let bits = draw(rule.seed ^ u64::from(direction as u32), sequence);
            chain = rule.chain.next(chain, bits);
            state = next(&rule, turn);
            assert_eq!((state.sequence(), state.chain()), (sequence + 1, chain));
            let lost = decide_by_chain(&rule, turn, chain) == Decision::Drop;
            assert_eq!(lost, rule.chain.loses(chain, bits));
        }
    }
}

#[test]
fn directions_and_seeds_draw_apart() {
    const PACKETS: u64 = 100_000;
    let outcomes = |seed, direction| {
        let mut outcomes = std::vec::Vec::new();
        simulate(&random(0.5, seed), direction, PACKETS, |lost| {
            outcomes.push(lost);
        });
        outcomes
    };
    let one = outcomes(7, Direction::Egress);
    // The direction is in the seed's last bit: 7 and 9 differ elsewhere.
    for other in [
        outcomes(7, Direction::Ingress),
        outcomes(9, Direction::Egress),
    ] {
        let same = one.iter().zip(&other).filter(|(a, b)| a == b).count() as u64;
        assert!(is_near(same, PACKETS, 0.5), "{same} alike");
    }
    assert_eq!(one, outcomes(7, Direction::Egress));
}

/// A rule with a selector, so that it takes IP packets of both directions only.
fn rule() -> Rule {
    Rule {
        directions: Direction::Egress.bit() | Direction::Ingress.bit(),
        ..Rule::default()
    }
}

fn flow() -> Flow {
    Flow {
        flags: Flow::IPV4 | Flow::PORTS,
        network_offset: 14,
        far: Address::from_v4([198, 51, 100, 7]),
        near: Address::from_v4([192, 0, 2, 1]),
        protocol: 6,
        far_port: 443,
        near_port: 40_000,
    }
}

fn ports(ranges: &[(u16, u16)]) -> Ports {
    let mut ports = Ports::default();
    for (slot, (first, last)) in ports.ranges.iter_mut().zip(ranges) {
        *slot = PortRange {
            first: *first,
            last: *last,
        };
        ports.len += 1;
    }
    ports
}

fn takes(rule: &Rule, flow: &Flow) -> bool {
    matches(rule, flow, Direction::Egress)
}

#[test]
fn rule_takes_its_directions_only() {
    for flags in [0, Rule::EVERY_FRAME] {
        for of_rule in Direction::ALL {
            let rule = Rule {
                directions: of_rule.bit(),
                flags,
                ..Rule::default()
            };
            for direction in Direction::ALL {
                assert_eq!(matches(&rule, &flow(), direction), direction == of_rule);
            }
        }
    }
}

#[test]
fn rule_without_selectors_takes_every_frame_and_others_spare_address_resolution() {
    let every_frame = Rule {
        flags: Rule::EVERY_FRAME,
        ..rule()
    };
    let not_ip = Flow::default();
    let discovery = Flow {
        flags: Flow::IPV6 | Flow::NEIGHBOUR_DISCOVERY,
        protocol: 58,
        ..flow()
    };
    for flow in [not_ip, discovery] {
        assert!(takes(&every_frame, &flow));
        assert!(!takes(&rule(), &flow));
    }
    let other_icmp = Flow {
        flags: Flow::IPV6,
        ..discovery
    };
    assert!(takes(&rule(), &other_icmp));
}

#[test]
fn each_protocol_has_a_bit_of_its_own() {
    for asked in 0..=255_u32 {
        let mut rule = rule();
        rule.protocols[(asked / 64) as usize] = 1 << (asked % 64);
        for protocol in 0..=Flow::UNKNOWN_PROTOCOL {
            let flow = Flow { protocol, ..flow() };
            assert_eq!(takes(&rule, &flow), protocol == asked);
        }
    }
}

#[test]
fn unknown_protocol_is_taken_by_rules_without_protocols_only() {
    let unknown = Flow {
        protocol: Flow::UNKNOWN_PROTOCOL,
        ..flow()
    };
    assert!(takes(&rule(), &unknown));
    let every_protocol = Rule {
        protocols: [u64::MAX; 4],
        ..rule()
    };
    assert!(!takes(&every_protocol, &unknown));
}

#[test]
fn packet_without_ports_is_taken_by_no_port_rule() {
    let later_fragment = Flow {
        flags: Flow::IPV4,
        ..flow()
    };
    let any = ports(&[(0, u16::MAX)]);
    for rule in [
        Rule {
            far_ports: any,
            ..rule()
        },
        Rule {
            near_ports: any,
            ..rule()
        },
    ] {
        assert!(takes(&rule, &flow()));
        assert!(!takes(&rule, &later_fragment));
    }
    assert!(takes(&rule(), &later_fragment));
}

#[test]
fn ports_of_both_ends_have_to_agree() {
    let both = Rule {
        far_ports: ports(&[(443, 443)]),
        near_ports: ports(&[(40_000, 40_000)]),
        ..rule()
    };
    assert!(takes(&both, &flow()));
    for other in [
        Flow {
            far_port: 444,
            ..flow()
        },
        Flow {
            near_port: 39_999,
            ..flow()
        },
        Flow {
            far_port: 40_000,
            near_port: 443,
            ..flow()
        },
    ] {
        assert!(!takes(&both, &other));
    }
}

#[test]
fn near_end_is_in_one_of_the_networks_that_count() {
    let network = |n: u8| Network::new(Address::from_v4([10, n, 0, 0]), 96 + 16);
    let near = core::array::from_fn(|n| network(n as u8));
    for near_len in 0..=NEAR_NETWORKS {
        let rule = Rule {
            near,
            near_len: near_len as u32,
            ..rule()
        };
        for n in 0..=NEAR_NETWORKS {
            let flow = Flow {
                near: Address::from_v4([10, n as u8, 1, 2]),
                ..flow()
            };
            assert_eq!(takes(&rule, &flow), near_len == 0 || n < near_len);
        }
    }
}

proptest! {
    #[test]
    fn ends_of_the_scale_are_exact(seed: u64, sequence: u64, ingress: bool) {
        let turn = turn(sequence, Direction::ALL[usize::from(ingress)]);
        prop_assert_eq!(decide(&random(0.0, seed), turn), Decision::Pass);
        prop_assert_eq!(decide(&random(1.0, seed), turn), Decision::Drop);
    }

    #[test]
    fn more_loss_loses_all_that_less_loses(
        seed: u64,
        sequence: u64,
        one in 0..=probability::ONE,
        other in 0..=probability::ONE,
    ) {
        let lost = |probability| {
            let rule = Rule { probability, ..random(0.0, seed) };
            decide(&rule, turn(sequence, Direction::Egress)) == Decision::Drop
        };
        prop_assert!(lost(one.max(other)) || !lost(one.min(other)));
    }

    #[test]
    fn port_is_taken_by_the_ranges_that_hold_it(
        ranges in proptest::collection::vec(any::<(u16, u16)>(), 1..=PORT_RANGES),
        port: u16,
    ) {
        let ranges: std::vec::Vec<_> =
            ranges.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
        // The ends of each range, one of chance, and what an unused range would hold.
        let candidates = ranges.iter().flat_map(|(first, last)| {
            [*first, *last, first.wrapping_sub(1), last.wrapping_add(1)]
        });
        for port in candidates.chain([port, 0]) {
            let held = ranges.iter().any(|(first, last)| (*first..=*last).contains(&port));
            let flow = Flow {
                far_port: port.into(),
                near_port: port.into(),
                ..flow()
            };
            for rule in [
                Rule { far_ports: ports(&ranges), ..rule() },
                Rule { near_ports: ports(&ranges), ..rule() },
            ] {
                prop_assert_eq!(takes(&rule, &flow), held);
            }
        }
    }
}
