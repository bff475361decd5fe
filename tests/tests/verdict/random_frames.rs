//! Frames of nothing but chance.

use fault_common::packet::LinkLayer;
use fault_tests::{
    kernel::cases,
    verdict::{Programs, runs},
};
use fault_user::{
    attach::Program,
    maps::Room,
    spec::{FaultKind, FaultSpec, Selectors, compile},
};

use crate::generate::Dice;

const FRAMES: u64 = 1_000_000;

#[test]
fn random_frames_pass_what_no_rule_names() {
    let spec = FaultSpec {
        kind: FaultKind::Partition,
        selectors: Selectors {
            to: vec![
                "192.0.2.1/32".parse().expect("a host"),
                "2001:db8::/32".parse().expect("a network"),
            ],
            ..Selectors::default()
        },
        waits: fault_user::spec::Waits::default(),
        seed: None,
    };
    let mut set = compile(&spec, 1).expect("a good fault");
    set.rules[0].rule.directions = 3;
    let named: Vec<_> = set
        .prefixes
        .iter()
        .map(|(address, len, _)| (*address, *len))
        .collect();
    assert_eq!((set.hosts.len(), named.len()), (1, 1));
    let mut dice = Dice::new(0x5eed);
    let room = Room {
        entries: 64,
        prefixes: 64,
        quantiles: 0,
        ..Room::default()
    };
    let links = [LinkLayer::Ethernet, LinkLayer::None].map(|link| {
        let mut programs = Programs::load(link, room).expect("the programs load");
        programs.replace(&set).expect("the rules fit");
        programs
    });
    for n in 0..cases(FRAMES) {
        let length = 15 + dice.below(112);
        let mut frame = dice.bytes(length);
        // Half of them get past the first look.
        if dice.one_in(2) {
            let start = dice.of(&[
                [0x08_u8, 0x00, 0x45],
                [0x86, 0xdd, 0x60],
                [0x81, 0x00, 0x00],
            ]);
            frame[12..15].copy_from_slice(&start);
        }
        if !runs(&frame) {
            frame.resize(54, 0);
        }
        let program = dice.of(&Program::ALL);
        let outcome = links[dice.below(2)]
            .run(program, &frame, 7, 1)
            .unwrap_or_else(|error| panic!("frame {n}: {error:#}"));
        // A chance of 2^-32 at most for each frame to be named after all.
        assert!(!outcome.dropped, "frame {n}, {program:?}: {frame:02x?}");
        assert_eq!((outcome.mark, outcome.frame), (7, frame), "frame {n}");
    }
}
