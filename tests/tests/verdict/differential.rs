//! The same rules and frames through `fault_common::engine` on the host and through
//! the loaded programs: every verdict, every byte and every counter must agree.

#![expect(
    clippy::cast_possible_truncation,
    reason = "small numbers, and fields cut out of larger ones"
)]

use fault_common::{
    engine::Verdict,
    layout::{Connection, Direction, Rule},
    packet::{Flow, LinkLayer, Reason},
};
use fault_tests::{
    kernel::cases,
    verdict::{Programs, runs},
};
use fault_user::{attach::Program, maps::Room};

use crate::{
    generate::{Dice, checksum, connections, frame, rule_set},
    model::Model,
};

const CASES: u64 = 120_000;
/// For each set of rules.
const FRAMES: u64 = 200;

#[test]
fn kernel_and_host_agree_on_generated_cases() {
    // Once with a filter in front of the prefixes that mostly errs, once with a good one.
    for (link, prefixes) in [(LinkLayer::Ethernet, 1), (LinkLayer::None, 256)] {
        let room = Room {
            entries: 256,
            prefixes,
            quantiles: 5,
        };
        let mut programs = Programs::load(link, room).expect("the programs load");
        let connections = connections(&mut Dice::new(0x55));
        let mut lost = 0;
        let sets = cases(CASES) / FRAMES / 2;
        for n in 0..sets {
            // Nothing is spared at first, then connections, then address resolution too.
            if n == sets / 4 {
                for connection in &connections {
                    programs.loaded.spare(connection).expect("it fits");
                }
            } else if n == sets / 2 {
                programs.loaded.spare_neighbours();
            }
            let in_force = if n < sets / 4 { &[] } else { &connections[..] };
            let spared = Spared {
                connections: in_force,
                neighbours: n >= sets / 2,
            };
            lost += compare(&mut programs, link, n, &connections, &spared);
        }
        // The cases are worth something only if both outcomes are common.
        let cases = sets * FRAMES;
        assert!(
            (cases / 10..cases * 9 / 10).contains(&lost),
            "{lost} of {cases} lost"
        );
    }
}

/// What no rule may touch.
struct Spared<'a> {
    connections: &'a [Connection],
    neighbours: bool,
}

fn compare(
    programs: &mut Programs,
    link: LinkLayer,
    n: u64,
    connections: &[Connection],
    spared: &Spared<'_>,
) -> u64 {
    let mut dice = Dice::new(n << 1 | u64::from(link == LinkLayer::None));
    let set = rule_set(&mut dice);
    let mut model = Model::new(&set);
    model.spared = spared.connections.to_vec();
    model.neighbours = spared.neighbours;
    programs.replace(&set).expect("the rules fit");
    let first = programs.loaded.first_rule();
    for id in (0..).take(set.rules.len()) {
        if dice.one_in(8) {
            model.ended.push(id);
            programs
                .loaded
                .tables
                .set_deadline(first + id, 1)
                .expect("a deadline is set");
        }
    }
    let reasons = |programs: &Programs| {
        Reason::ALL.map(|reason| programs.loaded.tables.reason(reason).expect("a counter"))
    };
    let before = reasons(programs);
    let mut lost = 0;
    for case in 0..FRAMES {
        let program = dice.of(&Program::ALL);
        let direction = program.direction();
        let frame = loop {
            let frame = frame(&mut dice, link, connections);
            if runs(&frame) {
                break frame;
            }
        };
        let mark = dice.of(&[0, 1, u32::MAX]);
        let segments = match program {
            Program::Xdp => 1,
            _ => dice.of(&[1, 1, 1, 2, 45]),
        };
        let holds = program != Program::Xdp;
        let verdict = model.decide(&frame, segments, link, direction, holds);
        let outcome = programs
            .run(program, &frame, mark, segments)
            .unwrap_or_else(|error| panic!("set {n}, case {case}: {error:#}"));
        let at = || format!("set {n}, case {case}, {program:?}, {frame:02x?}, {set:#?}");
        assert_eq!(outcome.dropped, verdict.drop, "{}", at());
        lost += u64::from(verdict.drop);
        if program == Program::Xdp {
            assert_eq!(
                (outcome.mark, outcome.frame),
                (mark, frame.clone()),
                "{}",
                at()
            );
        } else if !verdict.drop {
            assert_eq!(
                outcome.mark,
                mark & !verdict.mark_mask | verdict.mark,
                "{}",
                at()
            );
            assert_eq!(outcome.frame, with_dscp(&frame, &verdict), "{}", at());
        }
    }
    for (id, rule) in (0..).zip(&set.rules) {
        for direction in Direction::ALL {
            let counted = programs
                .loaded
                .tables
                .counters(first + id, direction)
                .expect("counters");
            assert_eq!(
                counted,
                model.counters(id, direction),
                "set {n}, rule {id}, {direction:?}, {rule:#?}"
            );
            let delays = programs.loaded.tables.delays(first + id, direction);
            assert_eq!(delays.expect("delays"), model.delays(id, direction));
        }
    }
    for ((reason, before), after) in Reason::ALL.into_iter().zip(before).zip(reasons(programs)) {
        assert_eq!(after - before, model.reason(reason), "set {n}, {reason:?}");
    }
    lost
}

/// The frame as it must leave: DSCP written, and the checksum right if it was.
fn with_dscp(frame: &[u8], verdict: &Verdict) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if verdict.dscp == Rule::NO_DSCP {
        return frame;
    }
    let ip = &mut frame[verdict.network_offset as usize..];
    let dscp = verdict.dscp as u8;
    match verdict.ip {
        Flow::IPV4 => {
            let length = usize::from(ip[0] & 0x0f) * 4;
            let valid = ip.len() >= length && checksum(&ip[..length]) == 0;
            let (old, new) = (ip[1], dscp << 2 | ip[1] & 3);
            ip[1] = new;
            if valid {
                ip[10..12].fill(0);
                let sum = checksum(&ip[..length]);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
            } else if old != new {
                // RFC 1624, equation 3: a wrong sum stays as wrong as it was.
                let word = |tos: u8| u32::from(u16::from_be_bytes([ip[0], tos]));
                let sum = u32::from(!u16::from_be_bytes([ip[10], ip[11]]));
                let mut sum = sum + (word(old) ^ 0xffff) + word(new);
                while sum > 0xffff {
                    sum = (sum & 0xffff) + (sum >> 16);
                }
                ip[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
            }
        }
        Flow::IPV6 => {
            ip[0] = ip[0] & 0xf0 | dscp >> 2;
            ip[1] = dscp << 6 | ip[1] & 0x3f;
        }
        _ => {}
    }
    frame
}
