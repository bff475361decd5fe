//! Links that are taken away unless somebody confirms it.

use std::{
    io::{Write as _, pipe},
    time::{Duration, Instant},
};

use fault_tests::{
    Faultctl,
    faultctl::{command, words},
    wait::{SOON, until},
};
use nix::sys::signal::Signal;

use super::{Dressed, SLACK, is_down, line, plain, until_up};

/// What the watchdog leaves to its controller.
const GRACE: Duration = Duration::from_secs(3);

#[test]
fn what_nobody_confirms_comes_back_as_it_was() {
    let dressed = Dressed::new("cf");
    // On stdin nothing comes: it is at its end.
    let start = Instant::now();
    let faultctl = dressed.start("--confirm 4s --for 1h");
    assert!(faultctl.started["confirm_until"].is_string());
    let ended = faultctl.ended();
    assert!(start.elapsed() >= Duration::from_secs(4));
    assert_eq!(ended.stopped()["reason"], "not confirmed");
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("undone"), "{ended:?}");
    dressed.assert_back();
}

#[test]
fn watchdog_puts_back_what_nobody_confirms_in_place_of_a_stopped_controller() {
    let dressed = Dressed::new("cs");
    let start = Instant::now();
    let faultctl = dressed.start("--confirm 4s --for 1h");
    faultctl.stop_still();
    until_up(&dressed.lab, SOON);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(4 + SLACK) + GRACE, "{took:?}");
    dressed.assert_back();
    faultctl.signal(Signal::SIGCONT);
    let ended = faultctl.ended();
    assert_eq!(ended.stopped()["reason"], "not confirmed", "{ended:?}");
    let notes = ended.stopped()["notes"].to_string();
    assert!(notes.contains("by the watchdog"), "{notes}");
}

#[test]
fn line_confirms_to_the_watchdog_too() {
    let lab = plain("cy");
    let (reader, mut writer) = pipe().expect("a pipe");
    let start = Instant::now();
    let line = line(&lab, "--json --confirm 3s --for 9s");
    let faultctl = Faultctl::spawn(command(&lab.near, &words(&line)).stdin(reader));
    writer.write_all(b"\n").expect("it reads");
    assert!(
        faultctl
            .event("note")
            .to_string()
            .contains("confirmed: the fault stays")
    );
    // The watchdog would have put it back by now.
    until("its time without an answer is over", SOON, || {
        (start.elapsed() > Duration::from_millis(3_500) + GRACE).then_some(())
    });
    assert!(is_down(&lab));
    let ended = faultctl.ended();
    assert!(start.elapsed() >= Duration::from_secs(9));
    assert_eq!((ended.code, &ended.stopped()["reason"]), (0, &"for".into()));
    super::assert_passes(&lab);
}
