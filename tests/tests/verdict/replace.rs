//! Replacing a rule set while packets run.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use aya::programs::SchedClassifier;
use fault_common::{layout::Direction, packet::LinkLayer};
use fault_tests::verdict::{Programs, run};
use fault_user::{
    attach::Program,
    error::KernelError,
    maps::{Loaded, Room},
    object::Object,
    spec::{FaultKind, FaultSpec, RuleSet, Selectors, compile},
};

fn partition(to: &[&str]) -> RuleSet {
    let spec = FaultSpec {
        kind: FaultKind::Partition,
        selectors: Selectors {
            to: to.iter().map(|to| to.parse().expect("a network")).collect(),
            ..Selectors::default()
        },
        waits: fault_user::spec::Waits::default(),
        seed: None,
    };
    compile(&spec, 1).expect("a good fault")
}

/// For so many far ends.
fn room(entries: usize) -> Room {
    Room {
        entries,
        prefixes: entries,
        quantiles: 0,
        ..Room::default()
    }
}

/// UDP over IPv4 to an address.
fn to(address: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([
        0x08, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1,
    ]);
    frame.extend(address);
    frame.extend([0; 8]);
    frame
}

#[test]
fn a_host_that_both_sets_name_is_never_missed_meanwhile() {
    let mut programs = Programs::load(LinkLayer::Ethernet, room(32)).expect("the programs load");
    let sets = [
        partition(&["10.0.0.2/32", "10.1.0.0/16", "192.0.2.0/24"]),
        partition(&[
            "10.0.0.2/32",
            "10.1.0.0/24",
            "10.1.0.0/17",
            "198.51.100.7/32",
        ]),
    ];
    programs.replace(&sets[0]).expect("the rules fit");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let loaded = programs.loaded.ebpf.program(Program::Egress.name());
        let info = loaded.expect("the program").info();
        let info = info.expect("the program's info");
        let second = SchedClassifier::from_program_info(info, "second".into());
        let second = second.expect("a second handle on the program");
        let stop = &stop;
        let watch = scope.spawn(move || {
            let mut runs = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                for frame in [to([10, 0, 0, 2]), to([10, 1, 0, 9])] {
                    let outcome = run(&second, Program::Egress, &frame, 0, 1).expect("a run");
                    assert!(outcome.dropped, "missed after {runs} runs");
                    runs += 1;
                }
            }
            runs
        });
        for n in 1..200 {
            programs.replace(&sets[n % 2]).expect("the rules fit");
        }
        stop.store(true, Ordering::Relaxed);
        let runs = watch.join().expect("no packet was missed");
        assert!(runs > 200, "only {runs} packets looked");
    });
    assert!(dropped(&mut programs, [198, 51, 100, 7]));
    assert!(!dropped(&mut programs, [192, 0, 2, 1]));
}

#[test]
fn far_ends_change_under_rules_that_keep_their_counts() {
    let mut programs = Programs::load(LinkLayer::Ethernet, room(4)).expect("the programs load");
    let hosts = [[10, 0, 0, 2], [10, 0, 0, 3]];
    let sets = [partition(&["10.0.0.2/32"]), partition(&["10.0.0.3/32"])];
    programs.replace(&sets[0]).expect("the rules fit");
    let rule = programs.loaded.first_rule();
    for n in 1..=5 {
        assert!(dropped(&mut programs, hosts[(n + 1) % 2]));
        assert!(!dropped(&mut programs, hosts[n % 2]));
        programs.readdress(&sets[n % 2]).expect("they fit");
        let rules = programs.loaded.tables.rules().expect("rules");
        assert_eq!(rules.len(), 1);
        assert_eq!((rules[0].0, programs.loaded.first_rule()), (rule, rule));
        let counters = programs.loaded.tables.counters(rule, Direction::Egress);
        assert_eq!(counters.expect("counters").dropped_skbs, n as u64);
    }
    // A new rule set starts beside the rules in force, wherever its far ends go.
    programs.replace(&sets[0]).expect("the rules fit");
    assert_ne!(programs.loaded.first_rule(), rule);
    assert!(dropped(&mut programs, hosts[0]));
}

#[test]
fn a_full_map_is_named_and_leaves_the_old_set_in_force() {
    let mut programs = Programs::load(LinkLayer::Ethernet, room(2)).expect("the programs load");
    programs
        .replace(&partition(&["10.0.0.2/32"]))
        .expect("one fits");
    let many = partition(&["10.0.0.3/32", "10.0.0.4/32", "10.0.0.5/32"]);
    let error = programs
        .replace(&many)
        .expect_err("three don't")
        .downcast::<KernelError>();
    let error = error.expect("an error of the maps");
    assert_eq!(error.to_string(), "map `FAR_ENDS` is full");
    assert!(error.hint().is_some());
    assert!(dropped(&mut programs, [10, 0, 0, 2]));
    assert!(!dropped(&mut programs, [10, 0, 0, 3]));
    // What the failed attempt put in is out again: there is room for one more.
    programs
        .replace(&partition(&["10.0.0.9/32"]))
        .expect("one fits");
    assert!(dropped(&mut programs, [10, 0, 0, 9]));
}

#[test]
fn table_that_no_memory_is_enough_for_is_named() {
    let room = room(u32::MAX as usize);
    let room = Room {
        prefixes: 0,
        ..room
    };
    let Err(error) = Loaded::new(Object::embedded().expect("it"), LinkLayer::Ethernet, room) else {
        panic!("four thousand million entries fit");
    };
    assert_eq!(error.to_string(), "no memory for the map `FAR_ENDS`");
    assert!(error.hint().is_some());
}

fn dropped(programs: &mut Programs, address: [u8; 4]) -> bool {
    let outcome = programs.run(Program::Egress, &to(address), 0, 1);
    outcome.expect("a run").dropped
}
