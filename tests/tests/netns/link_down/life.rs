//! How a link that was taken away comes back, whoever is left.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use fault_tests::{
    Faultctl, Lab,
    faultctl::{command, run, words},
    wait::{SOON, until},
};
use nix::{
    sys::signal::Signal,
    unistd::{getpgid, getsid},
};
use serde_json::Value;

use super::{
    Dressed, SLACK, assert_cut_off, assert_passes, is_down, line, plain, saved, send, status,
    until_up, watchdog,
};

#[test]
fn signals_and_the_child_end_it_early() {
    let dressed = Dressed::new("sg");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let faultctl = dressed.start("--for 1h");
        faultctl.signal(signal);
        let ended = faultctl.ended();
        assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
        assert_eq!(ended.stopped()["reason"], "signal");
        dressed.assert_back();
    }
    let args = line(&dressed.lab, "--for 1h --json --");
    let args = [words(&args), vec!["sh", "-c", "exit 7"]].concat();
    let ended = Faultctl::spawn(&mut command(&dressed.lab.near, &args)).ended();
    assert_eq!(ended.code, 7, "{ended:?}");
    assert_eq!(ended.stopped()["reason"], "child");
    dressed.assert_back();
}

#[test]
fn watchdog_puts_the_link_back_when_the_controller_is_killed() {
    let dressed = Dressed::new("kl");
    let faultctl = dressed.start("--for 1h");
    let watchdog = watchdog(&dressed.lab, &faultctl);
    faultctl.signal(Signal::SIGKILL);
    let killed = Instant::now();
    until_up(&dressed.lab, SOON);
    assert!(killed.elapsed() < Duration::from_secs(SLACK));
    assert_eq!(faultctl.ended().code, 137);
    dressed.assert_back();
    until("the watchdog ends", SOON, || {
        getpgid(Some(watchdog)).is_err().then_some(())
    });
}

#[test]
fn link_comes_back_after_a_kill_at_thirty_random_moments() {
    let lab = plain("rm");
    let file = saved(&lab);
    for moment in 0..30 {
        let mut child = command(&lab.near, &words(&line(&lab, "--for 1h")))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("faultctl runs");
        // From before anything is saved to well after the link is down; the moment is what
        // is tested, there is nothing to wait for.
        thread::sleep(Duration::from_micros(moment * 2_700));
        child.kill().expect("it runs");
        child.wait().expect("our child");
        until(&format!("moment {moment}: the link is up"), SOON, || {
            (!is_down(&lab) && !file.exists()).then_some(())
        });
        assert_passes(&lab);
    }
}

#[test]
fn watchdog_shares_nothing_with_the_controller() {
    let lab = plain("wd");
    let faultctl = Faultctl::start(&lab.near, &line(&lab, "--for 1h"));
    let watchdog = watchdog(&lab, &faultctl);
    assert_eq!(getsid(Some(watchdog)), Ok(watchdog));
    assert_eq!(getpgid(Some(watchdog)), Ok(watchdog));
    let open = fs::read_dir(format!("/proc/{watchdog}/fd")).expect("it runs");
    for descriptor in open {
        let path = descriptor.expect("a descriptor").path();
        let target = fs::read_link(&path).expect("a link").display().to_string();
        let number = path.file_name().expect("a number").to_string_lossy();
        let ours = match &*number {
            "0" => target.starts_with("pipe:"),
            "1" | "2" => target == "/dev/null",
            _ => target == saved(&lab).display().to_string(),
        };
        assert!(ours, "{number}: {target}");
    }
    for pid in [watchdog, faultctl.pid()] {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let value = status
                .lines()
                .find_map(|line| line.strip_prefix(set)?.strip_prefix(":\t"))
                .and_then(|value| u64::from_str_radix(value, 16).ok())
                .expect("a capability set");
            // CAP_NET_ADMIN
            assert_eq!(value & !(1 << 12), 0, "{set} {value:x} of {status}");
        }
    }
    let mode = |path: &std::path::Path| {
        let metadata = fs::metadata(path).expect("it is there");
        metadata.permissions().mode() & 0o777
    };
    let file = saved(&lab);
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().expect("a directory")), 0o700);

    // Whoever asks it to end has to ask its controller.
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        send(watchdog, signal);
    }
    assert_eq!(faultctl.end().code, 0);
    assert_passes(&lab);
}

#[test]
fn clear_puts_back_what_a_killed_controller_and_watchdog_left() {
    let dressed = Dressed::new("kb");
    let lab = &dressed.lab;
    let faultctl = dressed.start("--for 1h");
    let (pid, watchdog) = (faultctl.pid(), watchdog(lab, &faultctl));
    // Stopped first: it would be at work at once.
    send(watchdog, Signal::SIGSTOP);
    faultctl.signal(Signal::SIGKILL);
    send(watchdog, Signal::SIGKILL);
    assert_eq!(faultctl.ended().code, 137);
    until("the watchdog ends", SOON, || {
        let left = status(lab, pid)?;
        (left["link"]["watched"] == false).then_some(())
    });

    assert_cut_off(lab);
    let left = status(lab, pid).expect("it is saved");
    for (key, value) in [("alive", false), ("in_force", true)] {
        assert_eq!(left[key], value, "{left}");
    }
    let missing = left["link"]["missing"].to_string();
    for what in ["address fd50::1/64", "route 10.80.0.0/16", "nexthop 70"] {
        assert!(missing.contains(what), "{what}: {missing}");
    }
    let text = run(&lab.near, &["status"]);
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(
        text.contains("`faultctl clear` puts the link back"),
        "{text}"
    );
    assert!(text.contains("missing: address fd50::1/64"), "{text}");

    let refused = run(&lab.near, &words(&line(lab, "--for 1s")));
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&format!("pid {pid}")), "{stderr}");
    assert!(stderr.contains("hint: that process is gone"), "{stderr}");

    let output = run(&lab.near, &words(&format!("clear --iface {}", lab.iface)));
    assert!(output.status.success(), "{output:?}");
    dressed.assert_back();
    assert_eq!(status(lab, pid), None);
}

#[test]
fn clear_ends_a_running_and_a_stopped_controller() {
    let lab = plain("cl");
    for stop in [false, true] {
        let faultctl = Faultctl::start(&lab.near, &line(&lab, "--for 1h"));
        if stop {
            faultctl.stop_still();
        }
        let output = run(&lab.near, &words(&format!("clear --iface {}", lab.iface)));
        assert!(output.status.success(), "{output:?}");
        assert!(!saved(&lab).exists());
        assert_passes(&lab);
        faultctl.ended();
    }
}

#[test]
fn stopped_controller_does_not_keep_the_link_away() {
    let dressed = Dressed::new("st");
    let faultctl = dressed.start("--for 4s");
    let start = Instant::now();
    faultctl.stop_still();
    until_up(&dressed.lab, SOON);
    // Its time, what it may take beyond, and slack.
    assert!(start.elapsed() < Duration::from_secs(4 + 3 + SLACK));
    dressed.assert_back();

    // What the user does from here on is left alone.
    let dev = &dressed.lab.iface;
    dressed.lab.near.ip("route del default");
    faultctl.signal(Signal::SIGCONT);
    let ended = faultctl.ended();
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
    assert!(
        !dressed
            .lab
            .near
            .ip(&format!("route show dev {dev}"))
            .contains("default")
    );
}

#[test]
fn without_its_watchdog_the_fault_ends() {
    let dressed = Dressed::new("ww");
    let faultctl = dressed.start("--for 1h");
    send(watchdog(&dressed.lab, &faultctl), Signal::SIGKILL);
    let ended = faultctl.ended();
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("watchdog"), "{ended:?}");
    dressed.assert_back();
}

#[test]
fn second_fault_on_a_link_is_refused_and_names_the_first() {
    let lab = plain("sc");
    let faultctl = Faultctl::start(&lab.near, &line(&lab, "--for 1h"));
    for mode in ["admin", "carrier"] {
        let second = format!("down --mode {mode} --iface {} --for 1s", lab.iface);
        let output = run(&lab.near, &words(&second));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains(&format!("pid {}", faultctl.pid())),
            "{stderr}"
        );
        assert!(
            stderr.contains("--for 1h") && stderr.contains("\nhint: "),
            "{stderr}"
        );
    }
    assert!(is_down(&lab));
    assert_eq!(faultctl.end().code, 0);
    assert_passes(&lab);
}

#[test]
fn link_that_is_down_already_is_refused() {
    let lab = plain("dd");
    lab.near.ip(&format!("link set {} down", lab.iface));
    let output = run(&lab.near, &words(&line(&lab, "--for 1s")));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("is down already") && stderr.contains("\nhint: "),
        "{stderr}"
    );
    assert!(!saved(&lab).exists() && is_down(&lab));
}

#[test]
fn all_links_are_taken_away_or_none() {
    let lab = plain("al");
    lab.near
        .ip("link add other type veth peer name other1\nlink set other up");
    let both = line(&lab, "--iface other --for 1h");
    let faultctl = Faultctl::start(&lab.near, &both);
    assert!(is_down(&lab) && !up(&lab, "other"));
    assert_eq!(faultctl.end().code, 0);
    assert!(up(&lab, "other"));
    assert_passes(&lab);

    lab.near.ip("link set other down");
    let output = run(&lab.near, &words(&both));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    // The command that was to run with it does not start.
    let args = line(&lab, "--for 1h --");
    let args = [words(&args), vec!["/nonexistent/program"]].concat();
    assert_eq!(run(&lab.near, &args).status.code(), Some(1));
    assert!(!saved(&lab).exists());
    assert_passes(&lab);
}

fn up(lab: &Lab, dev: &str) -> bool {
    let text = lab.near.ip_json(&format!("link show dev {dev}"));
    let links: Value = serde_json::from_str(&text).expect("JSON");
    links[0]["flags"].to_string().contains("\"UP\"")
}
