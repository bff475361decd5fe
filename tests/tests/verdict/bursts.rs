//! Loss in bursts on several CPUs at once: one chain for all, and what becomes of the
//! n-th packet is what the host says.

use std::{
    sync::{Barrier, RwLock},
    thread,
};

use aya::{
    maps::{Array, Map, MapData, MapInfo},
    programs::{ProgramInfo, SchedClassifier},
};
use fault_common::{
    decide::{Decision, Turn, decide_by_chain, next},
    layout::{Direction, Rule, SLOTS, State},
    packet::LinkLayer,
};
use fault_tests::{
    kernel::cases,
    verdict::{Programs, run, time},
};
use fault_user::{
    attach::Program,
    maps::Room,
    spec::{Burst, FaultKind, FaultSpec, Loss, Percent, RuleSet, Selectors, compile},
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// Loss of each model, whose outcomes depend on the state that they find.
fn models() -> Vec<Loss> {
    let percent = |points| Percent::new(points).expect("a percentage");
    let burst = Burst::new(percent(20.0), "5".parse().expect("a length"));
    vec![
        Loss::Burst(burst.expect("enough packets between")),
        Loss::Gemodel("10,30,80,1".parse().expect("a model")),
        Loss::State("10,30,20,40,5".parse().expect("a model")),
        Loss::Random {
            percent: percent(30.0),
            correlation: percent(70.0),
        },
    ]
}

fn rules(loss: Loss, seed: u64) -> RuleSet {
    let spec = FaultSpec {
        kind: FaultKind::Loss(loss),
        selectors: Selectors::default(),
        waits: fault_user::spec::Waits::default(),
        seed: None,
    };
    compile(&spec, seed).expect("a good fault")
}

/// What becomes of the first packets, and where the chain is after each.
fn outcomes(rule: &Rule, direction: Direction, packets: u64) -> Vec<(bool, State)> {
    let mut state = State::default();
    let step = |_| {
        let turn = Turn { state, direction };
        state = next(rule, turn);
        let decision = decide_by_chain(rule, turn, state.chain());
        (decision == Decision::Drop, state)
    };
    (0..packets).map(step).collect()
}

fn load() -> Programs {
    Programs::load(LinkLayer::Ethernet, Room::default()).expect("the programs load")
}

fn info(programs: &Programs, program: Program) -> ProgramInfo {
    let loaded = programs.loaded.ebpf.program(program.name());
    loaded.expect("the program").info().expect("its info")
}

/// The states of all rules, which user space has no other use for.
fn states(programs: &Programs) -> Array<MapData, State> {
    let ids = info(programs, Program::Egress).map_ids();
    let map = ids.expect("its maps").expect("since Linux 4.15");
    let map = map.into_iter().find_map(|id| {
        let info = MapInfo::from_id(id).expect("a map");
        (info.name_as_str() == Some("STATES")).then_some(id)
    });
    let data = MapData::from_id(map.expect("a map of states")).expect("the map");
    let states = Array::try_from(Map::Array(data)).expect("an array");
    assert_eq!(states.len(), SLOTS);
    states
}

/// Runs `work` in so many threads, each with a handle of its own on the egress program;
/// pinned ones go round the CPUs.
fn at_once<T: Send>(
    programs: &Programs,
    threads: usize,
    pinned: bool,
    work: impl Fn(&SchedClassifier) -> T + Sync,
) -> Vec<T> {
    let cpus = thread::available_parallelism().expect("CPUs").get();
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|n| {
                let info = info(programs, Program::Egress);
                let program = SchedClassifier::from_program_info(info, "another".into());
                let program = program.expect("another handle");
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    if pinned {
                        let mut set = CpuSet::new();
                        set.set(n % cpus).expect("a CPU");
                        sched_setaffinity(Pid::from_raw(0), &set).expect("pinned");
                    }
                    barrier.wait();
                    work(&program)
                })
            })
            .collect();
        let join = |handle: thread::ScopedJoinHandle<'_, T>| handle.join().expect("a thread");
        handles.into_iter().map(join).collect()
    })
}

const FRAME: [u8; 64] = [0; 64];
const WAYS: [(usize, bool); 5] = [(1, false), (2, false), (2, true), (4, false), (4, true)];

#[test]
fn burst_state_is_one_for_all_cpus() {
    // Each thread runs so many packets back to back inside the kernel.
    const RUNS: u64 = 100_000;
    let runs = cases(RUNS);
    let mut programs = load();
    for (seed, loss) in (1..).zip(models()) {
        let set = rules(loss, seed);
        let rule = &set.rules[0].rule;
        let host = outcomes(rule, Direction::Egress, 4 * runs);
        for (threads, pinned) in WAYS {
            // Each time the chain begins anew.
            programs.replace(&set).expect("the rule fits");
            let id = programs.loaded.first_rule();
            let repeat = u32::try_from(runs).expect("fits");
            at_once(&programs, threads, pinned, |program| {
                time(program, &FRAME, repeat).expect("a run")
            });
            let packets = usize::try_from(runs).expect("fits") * threads;
            let lost = host[..packets].iter().filter(|(lost, _)| *lost).count() as u64;
            let counters = programs.loaded.tables.counters(id, Direction::Egress);
            let counters = counters.expect("counters");
            let text = format!("{loss:?} in {threads} threads, pinned: {pinned}");
            assert_eq!(counters.matched_skbs, packets as u64, "{text}");
            // Exactly: a packet would have to meet another at each of its 32 attempts,
            // between its look at the state and its exchange. That is a third of a
            // round at most on two CPUs, emulated ones too: chance below 1e-9 for all.
            assert_eq!(counters.dropped_skbs, lost, "{text}");
            let state = states(&programs).get(&Direction::Egress.slot(id), 0);
            assert_eq!(state.expect("a state"), host[packets - 1].1, "{text}");
        }
    }
}

#[test]
fn burst_outcome_of_a_number_is_the_same_on_every_cpu() {
    const RUNS: u64 = 4_000;
    let runs = cases(RUNS);
    let mut programs = load();
    for (seed, loss) in (1..).zip(models()) {
        let set = rules(loss, seed);
        let rule = &set.rules[0].rule;
        let host = outcomes(rule, Direction::Egress, 4 * runs);
        for (threads, pinned) in WAYS {
            // Each time the chain begins anew.
            programs.replace(&set).expect("the rule fits");
            let slot = Direction::Egress.slot(programs.loaded.first_rule());
            let states = states(&programs);
            let number = || states.get(&slot, 0).expect("a state").sequence();
            let others = RwLock::new(());
            at_once(&programs, threads, pinned, |program| {
                let packet = || run(program, Program::Egress, &FRAME, 0, 1).expect("a run");
                for _ in 0..runs / 2 {
                    // Among those of the others, whose numbers nobody knows.
                    let among = others.read();
                    packet();
                    drop(among);
                    let _alone = others.write();
                    let before = number();
                    let expected = host[usize::try_from(before).expect("fits")].0;
                    let text = format!("packet {before} of {loss:?}");
                    assert_eq!(packet().dropped, expected, "{text}");
                    assert_eq!(number(), before + 1, "{text}");
                }
            });
        }
    }
}

#[test]
fn burst_state_is_one_for_each_direction_and_shared_by_xdp_and_tc() {
    let mut programs = load();
    for (seed, loss) in (1..).zip(models()) {
        let mut set = rules(loss, seed);
        set.rules[0].rule.directions = Direction::Egress.bit() | Direction::Ingress.bit();
        programs.replace(&set).expect("the rule fits");
        let rule = &set.rules[0].rule;
        let hosts = Direction::ALL.map(|direction| outcomes(rule, direction, 2000));
        assert_ne!(
            hosts[0].iter().map(|(lost, _)| lost).collect::<Vec<_>>(),
            hosts[1].iter().map(|(lost, _)| lost).collect::<Vec<_>>()
        );
        let mut number = [0; 2];
        for n in 0..2000 {
            let program = Program::ALL[n % Program::ALL.len()];
            let direction = program.direction() as usize;
            let outcome = programs.run(program, &FRAME, 0, 1).expect("a run");
            let expected = hosts[direction][number[direction]].0;
            assert_eq!(
                outcome.dropped, expected,
                "{program:?}, packet {n} of {loss:?}"
            );
            number[direction] += 1;
        }
    }
}
