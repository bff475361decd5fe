//! Faults that are undone unless somebody confirms them.

use std::{
    io::{Write as _, pipe},
    time::{Duration, Instant},
};

use fault_tests::{
    Family, Faultctl, Lab, Side,
    faultctl::{command, words},
    kernel::hooks,
    programs, udp,
    wait::{SOON, until},
};

const LINE: &str = "loss 100 --json --iface eth0";

fn in_force(lab: &Lab) -> bool {
    udp::flow(lab, Family::V4, Side::Near, 20).lost() == 20
}

#[test]
fn what_nobody_confirms_is_undone() {
    let lab = Lab::new();
    let before = programs::hooks(&lab);
    for hook in hooks() {
        // A stdin that is at its end, and one on which nothing comes.
        let (reader, _writer) = pipe().expect("a pipe");
        let mut silent = command(&lab.near, &[]);
        silent.stdin(reader);
        for mut command in [command(&lab.near, &[]), silent] {
            let start = Instant::now();
            let line = format!("{LINE} --attach {hook} --confirm 1500ms --for 1h");
            let faultctl = Faultctl::spawn(command.args(words(&line)));
            assert!(faultctl.started["confirm_until"].is_string());
            assert!(in_force(&lab));
            let ended = faultctl.ended();
            assert_eq!(ended.stopped()["reason"], "not confirmed");
            let took = start.elapsed();
            assert!(took >= Duration::from_millis(1_500), "{took:?}: {ended:?}");
            assert_eq!(ended.code, 1);
            assert!(ended.stderr.contains("undone"), "{}", ended.stderr);
            assert!(!in_force(&lab));
            assert_eq!(programs::hooks(&lab), before);
        }
    }
}

#[test]
fn line_confirms_and_the_fault_lives_to_its_own_end() {
    let lab = Lab::new();
    let (reader, mut writer) = pipe().expect("a pipe");
    let start = Instant::now();
    let line = format!("{LINE} --confirm 2s --for 5s");
    let faultctl = Faultctl::spawn(command(&lab.near, &words(&line)).stdin(reader));
    writer.write_all(b"\n").expect("it reads");
    let note = faultctl.event("note");
    assert!(
        note["message"]
            .as_str()
            .is_some_and(|text| text.contains("confirmed")),
        "{note}"
    );
    until("two seconds are over", SOON, || {
        (start.elapsed() > Duration::from_millis(2_500)).then_some(())
    });
    assert!(in_force(&lab));
    let ended = faultctl.ended();
    assert!(start.elapsed() >= Duration::from_secs(5));
    assert_eq!((ended.code, &ended.stopped()["reason"]), (0, &"for".into()));
}

#[test]
fn kernel_ends_what_a_stopped_process_cannot_undo() {
    let lab = Lab::new();
    let line = format!("{LINE} --confirm 1s");
    let faultctl = Faultctl::spawn(&mut command(&lab.near, &words(&line)));
    let start = Instant::now();
    faultctl.stop_still();
    until("its time is over", SOON, || (!in_force(&lab)).then_some(()));
    let took = start.elapsed();
    assert!(
        took < Duration::from_secs(2),
        "{took:?}: shorter than a lease"
    );
    faultctl.signal(nix::sys::signal::Signal::SIGCONT);
    assert_eq!(faultctl.ended().stopped()["reason"], "not confirmed");
}
