//! Links that stay away when the command returns.

use std::process::{Command, Stdio};

use fault_tests::{
    Holder, Lab,
    faultctl::{binary, output, run, words},
};
use nix::sys::signal::Signal;

use super::{assert_passes, is_down, line, plain, saved, status, until_up};

/// A shell that does not see `/run`.
fn elsewhere(lab: &Lab, script: &str) -> Command {
    let script = format!("mount -t tmpfs none /run && {script}");
    let mut command = lab.near.command("unshare");
    command.args(["--mount", "sh", "-c", &script]);
    command.stdin(Stdio::null());
    command
}

#[test]
fn link_is_away_when_the_command_returns_and_back_after_its_time() {
    let lab = plain("lt");
    let holder = Holder::begin(&lab.near, &line(&lab, "--for 3s"));
    assert!(is_down(&lab));
    assert_eq!(
        status(&lab, holder.pid()).expect("it is saved")["alive"],
        true
    );
    holder.ended();
    assert!(!saved(&lab).exists());
    assert_passes(&lab);
}

#[test]
fn watchdog_puts_the_link_of_a_killed_holder_back() {
    let lab = plain("lk");
    let holder = Holder::begin(&lab.near, &line(&lab, "--for 1h"));
    holder.signal(Signal::SIGKILL);
    holder.ended();
    until_up(&lab, fault_tests::wait::SOON);
    assert_passes(&lab);
}

#[test]
fn holder_that_is_told_to_end_puts_the_link_back() {
    let lab = plain("le");
    let holder = Holder::begin(&lab.near, &line(&lab, "--for 1h"));
    holder.end();
    assert!(!is_down(&lab));
    assert!(!saved(&lab).exists());
    assert_passes(&lab);
}

#[test]
fn clear_finds_it_from_another_mount_namespace() {
    let lab = plain("lc");
    let holder = Holder::begin(&lab.near, &line(&lab, "--for 1h"));
    let faultctl = binary();
    let faultctl = faultctl.display();
    let seen = output(&mut elsewhere(
        &lab,
        &format!("exec {faultctl} status --json"),
    ));
    let pid = format!("\"pid\":{},", holder.pid());
    let text = String::from_utf8_lossy(&seen.stdout);
    assert!(text.contains(&pid), "{seen:?}");
    let script = format!("exec {faultctl} clear --iface {}", lab.iface);
    let cleared = output(&mut elsewhere(&lab, &script));
    assert!(cleared.status.success(), "{cleared:?}");
    holder.ended();
    assert!(!is_down(&lab));
    assert!(!saved(&lab).exists());
    assert_passes(&lab);
}

#[test]
fn clear_finds_what_was_begun_in_another_mount_namespace() {
    let lab = plain("lo");
    let script = format!(
        "exec {} {}",
        binary().display(),
        line(&lab, "--for 1h --detach --json")
    );
    let holder = Holder::of(&mut elsewhere(&lab, &script));
    assert!(is_down(&lab) && !saved(&lab).exists());
    let seen = status(&lab, holder.pid()).expect("it is found");
    assert_eq!(
        (&seen["alive"], &seen["in_force"]),
        (&true.into(), &true.into())
    );
    let clear = format!("clear --iface {}", lab.iface);
    let cleared = run(&lab.near, &words(&clear));
    assert!(cleared.status.success(), "{cleared:?}");
    holder.ended();
    assert!(!is_down(&lab));
    assert_passes(&lab);
}
