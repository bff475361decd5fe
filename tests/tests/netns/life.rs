//! How a fault ends, and what is left of it.

use std::{
    io::{BufRead as _, BufReader, pipe},
    process::Stdio,
    time::{Duration, Instant},
};

use fault_tests::{
    Family, Faultctl, Lab, Side,
    faultctl::{command, run, words},
    kernel::{has_tcx, hooks},
    programs, udp,
    wait::{SOON, until},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// A fault outlives the process that keeps it by no more.
const LEASE: Duration = Duration::from_secs(3);
/// What a loaded machine may need to notice.
const SLACK: Duration = Duration::from_secs(1);

/// A fault that takes everything, on an interface that no other test has.
struct Down {
    lab: Lab,
    before: String,
    line: String,
}

impl Down {
    fn new(name: &str, hook: &str) -> Self {
        let lab = Lab::with_iface(&format!("{name}{}", std::process::id()));
        let line = format!("loss 100 --iface {} --attach {hook}", lab.iface);
        Self {
            before: programs::hooks(&lab),
            lab,
            line,
        }
    }

    fn start(&self, more: &str) -> Faultctl {
        let faultctl = Faultctl::start(&self.lab.near, &format!("{} {more}", self.line));
        assert!(self.in_force());
        faultctl
    }

    /// With a child behind `--`.
    fn start_with(&self, more: &str, child: &[&str]) -> Faultctl {
        let line = format!("{} --json {more} --", self.line);
        let args = [words(&line), child.to_vec()].concat();
        Faultctl::spawn(&mut command(&self.lab.near, &args))
    }

    #[track_caller]
    fn in_force(&self) -> bool {
        let lost = || udp::flow(&self.lab, Family::V4, Side::Near, 20).lost();
        let all_or_none = |lost| match lost {
            0 => Some(false),
            20 => Some(true),
            _ => None,
        };
        // A flow may see the fault begin or end, the next one doesn't.
        all_or_none(lost())
            .or_else(|| all_or_none(lost()))
            .expect("all of a flow is lost, or none")
    }

    #[track_caller]
    fn assert_gone(&self) {
        assert!(!self.in_force());
        assert_eq!(programs::hooks(&self.lab), self.before);
        // The kernel frees programs a moment after their last user.
        until("no program is left", SOON, || {
            programs::of(&self.lab.near).is_empty().then_some(())
        });
    }

    /// What `status` says of a process.
    #[track_caller]
    fn status(&self, pid: Pid) -> Option<Value> {
        let output = run(&self.lab.near, &["status", "--json"]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a JSON line"))
            .find(|fault| fault["pid"] == pid.as_raw())
    }

    #[track_caller]
    fn clear(&self) {
        let output = run(
            &self.lab.near,
            &["clear", "--json", "--iface", &self.lab.iface],
        );
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn signal_ends_the_fault_and_leaves_nothing() {
    for hook in hooks() {
        let down = Down::new("sg", hook);
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            let faultctl = down.start("");
            faultctl.signal(signal);
            let ended = faultctl.ended();
            down.assert_gone();
            assert_eq!(ended.code, 0, "{ended:?}");
            assert_eq!(ended.stopped()["reason"], "signal");
            assert_eq!(ended.count("egress", "dropped"), 20);
        }
    }
}

#[test]
fn time_ends_the_fault_and_leaves_nothing() {
    for hook in hooks() {
        let down = Down::new("fr", hook);
        let start = Instant::now();
        let faultctl = down.start("--for 1500ms");
        assert!(faultctl.started["until"].is_string());
        let ended = faultctl.ended();
        assert!(start.elapsed() >= Duration::from_millis(1_500));
        down.assert_gone();
        assert_eq!((ended.code, &ended.stopped()["reason"]), (0, &"for".into()));
    }
}

#[test]
fn child_ends_the_fault_and_gives_its_code() {
    for (script, code) in [("exit 7", 7), ("exit 0", 0), ("kill -9 $$", 137)] {
        for hook in hooks() {
            let down = Down::new("ch", hook);
            let line = format!("{} --json --", down.line);
            let script = format!("read -r line; {script}");
            let args = [words(&line), vec!["sh", "-c", &script]].concat();
            let (reader, writer) = pipe().expect("a pipe");
            let faultctl = Faultctl::spawn(command(&down.lab.near, &args).stdin(reader));
            assert!(down.in_force());
            drop(writer);
            let ended = faultctl.ended();
            down.assert_gone();
            assert_eq!(ended.code, code, "{script}");
            assert_eq!(ended.stopped()["reason"], "child");
        }
    }
}

#[test]
fn child_gets_the_signal_and_its_code_is_passed() {
    let down = Down::new("cs", hooks()[0]);
    let script = "trap 'exit 9' TERM; echo '{\"event\":\"ready\"}'; while :; do sleep 0.05; done";
    let faultctl = down.start_with("", &["sh", "-c", script]);
    faultctl.event("ready");
    faultctl.signal(Signal::SIGTERM);
    assert_eq!(faultctl.ended().code, 9);
    down.assert_gone();
}

#[test]
fn child_that_cannot_start_ends_the_fault() {
    let down = Down::new("cx", "clsact");
    let line = format!("{} --", down.line);
    let args = [words(&line), vec!["/nonexistent/program"]].concat();
    let output = run(&down.lab.near, &args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("`/nonexistent/program`"), "{stderr}");
    down.assert_gone();
}

#[test]
fn second_ctrl_c_does_not_wait_for_the_child() {
    for hook in hooks() {
        let down = Down::new("cc", hook);
        let script = "trap '' INT; echo \"{\\\"event\\\":\\\"ready\\\",\\\"child\\\":$$}\"; \
                      exec >&- 2>&-; for i in $(seq 400); do sleep 0.05; done";
        let faultctl = down.start_with("", &["sh", "-c", script]);
        let child = faultctl.event("ready")["child"].as_i64().expect("a pid");
        faultctl.signal(Signal::SIGINT);
        faultctl.event("stopped");
        // The kernel frees a filter's program a grace period after the filter.
        until("nothing of a fault that is over", SOON, || {
            down.status(faultctl.pid()).is_none().then_some(())
        });
        faultctl.signal(Signal::SIGINT);
        assert_eq!(faultctl.ended().code, 130);
        down.assert_gone();
        let child = Pid::from_raw(i32::try_from(child).expect("a pid"));
        kill(child, Signal::SIGKILL).expect("it had not to end");
    }
}

#[test]
fn killed_process_leaves_nothing_on_tcx() {
    if !has_tcx() {
        return;
    }
    let down = Down::new("kt", "tcx");
    let faultctl = down.start("");
    faultctl.signal(Signal::SIGKILL);
    assert_eq!(faultctl.ended().code, 137);
    down.assert_gone();
}

#[test]
fn killed_process_leaves_a_filter_without_force_that_clear_removes() {
    let down = Down::new("kc", "clsact");
    let faultctl = down.start("");
    let pid = faultctl.pid();
    faultctl.signal(Signal::SIGKILL);
    assert_eq!(faultctl.ended().code, 137);
    until("the lease is over", LEASE + SLACK, || {
        (!down.in_force()).then_some(())
    });

    let left = down.status(pid).expect("the filter is still there");
    assert_eq!(
        (&left["alive"], &left["in_force"]),
        (&false.into(), &false.into())
    );
    assert_ne!(programs::hooks(&down.lab), down.before);
    down.clear();
    down.assert_gone();
    assert_eq!(down.status(pid), None);
}

#[test]
fn next_fault_removes_what_a_killed_one_left() {
    let down = Down::new("nx", "clsact");
    let faultctl = down.start("");
    faultctl.signal(Signal::SIGKILL);
    faultctl.ended();
    until("the lease is over", LEASE + SLACK, || {
        (!down.in_force()).then_some(())
    });
    down.start("").end();
    down.assert_gone();
}

#[test]
fn stopped_process_loses_its_fault_and_takes_it_up_again() {
    for hook in hooks() {
        let down = Down::new("st", hook);
        let faultctl = down.start("");
        faultctl.stop_still();
        until("the lease is over", LEASE + SLACK, || {
            (!down.in_force()).then_some(())
        });
        let status = down.status(faultctl.pid()).expect("it is there");
        assert_eq!(
            (&status["alive"], &status["in_force"]),
            (&true.into(), &false.into())
        );

        faultctl.signal(Signal::SIGCONT);
        until("it is in force again", SOON, || {
            down.in_force().then_some(())
        });
        let ended = faultctl.end();
        down.assert_gone();
        let lapsed = ended.stopped()["lapsed"].as_f64();
        assert!(lapsed > Some(0.0), "{lapsed:?}");
    }
}

#[test]
fn kernel_ends_the_fault_of_a_stopped_process_in_time() {
    for hook in hooks() {
        let down = Down::new("sf", hook);
        let faultctl = down.start("--for 1s");
        let start = Instant::now();
        faultctl.stop_still();
        until("its time is over", SOON, || {
            (!down.in_force()).then_some(())
        });
        let took = start.elapsed();
        assert!(
            took < Duration::from_secs(2),
            "{took:?}: shorter than a lease"
        );
        faultctl.signal(Signal::SIGCONT);
        assert_eq!(faultctl.ended().stopped()["reason"], "for");
        down.assert_gone();
    }
}

#[test]
fn clear_ends_a_running_and_a_stopped_process() {
    for hook in hooks() {
        for stop in [false, true] {
            let down = Down::new("cl", hook);
            let faultctl = down.start("");
            if stop {
                faultctl.stop_still();
            }
            down.clear();
            down.assert_gone();
            faultctl.ended();
        }
    }
}

#[test]
fn status_says_what_is_in_force_and_by_whom() {
    for hook in hooks() {
        let down = Down::new("ss", hook);
        let faultctl = down.start("--for 1h --seed 3 --direction both");
        let status = down.status(faultctl.pid()).expect("a fault");
        assert_eq!(status["iface"], down.lab.iface.as_str());
        assert_eq!(status["netns"], down.lab.near.inode());
        for (key, value) in [("alive", true), ("in_force", true)] {
            assert_eq!(status[key], value, "{key}");
        }
        let command = status["command"].as_str().expect("a command");
        assert!(command.contains("--for 1h"), "{command}");
        assert!(status["until"].is_string() && status["since"].is_string());
        let rules = status["rules"].as_array().expect("rules");
        let of = |direction: &str| {
            rules
                .iter()
                .find(|rule| rule["direction"] == direction)
                .unwrap_or_else(|| panic!("no {direction}: {status}"))
        };
        assert_eq!(of("egress")["dropped"], 20);
        assert_eq!(of("ingress")["dropped"], 0);
        assert_eq!(of("egress")["asked"], "100%");
        let pid = faultctl.pid();
        faultctl.end();
        assert_eq!(down.status(pid), None);
    }
}

#[test]
fn counters_are_told_every_second() {
    let down = Down::new("ev", hooks()[0]);
    let faultctl = down.start("");
    let stats = faultctl.event("stats");
    assert_eq!(
        fault_tests::faultctl::count(&stats, "egress", "dropped"),
        20
    );
    faultctl.event("stats");
    faultctl.end();
}

#[test]
fn closed_stdout_ends_the_fault() {
    for hook in hooks() {
        let down = Down::new("so", hook);
        let (reader, writer) = pipe().expect("a pipe");
        let line = format!("{} --json", down.line);
        let mut child = command(&down.lab.near, &words(&line))
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .expect("faultctl runs");
        let mut reader = BufReader::new(reader);
        let mut started = String::new();
        reader.read_line(&mut started).expect("its first line");
        assert!(started.contains("started"), "{started}");
        drop(reader);
        let status = until("it ends", SOON, || child.try_wait().expect("our child"));
        let stderr = std::io::read_to_string(child.stderr.take().expect("piped"));
        assert_eq!(status.code(), Some(1), "{stderr:?}");
        down.assert_gone();
    }
}

#[test]
fn ctrl_c_ends_a_start_that_waits_for_somebody_elses_lock() {
    let lab = Lab::new();
    // The lock's file in a mount namespace of its own, so that no other test waits. The
    // process holds the lock by a descriptor that it does not know of.
    let script = format!(
        "mount -t tmpfs none /run && mkdir /run/faultctl && \
         exec flock --no-fork /run/faultctl/lock {} loss 50 --iface eth0 --attach clsact",
        fault_tests::faultctl::binary().display()
    );
    let mut child = lab
        .near
        .command("unshare")
        .args(["--mount", "sh", "-c", &script])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("unshare runs");
    let pid = Pid::from_raw(child.id().cast_signed());
    // Its own descriptor beside the one that it was started with.
    until("it waits for the lock", SOON, || {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let of_the_lock = descriptors
            .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
            .filter(|path| path.ends_with("faultctl/lock"))
            .count();
        (of_the_lock == 2).then_some(())
    });
    kill(pid, Signal::SIGINT).expect("it runs");
    let start = Instant::now();
    let ended = loop {
        match child.try_wait().expect("our child") {
            None if start.elapsed() > LEASE => break false,
            None => std::thread::yield_now(),
            Some(_) => break true,
        }
    };
    let _ = child.kill();
    let _ = child.wait();
    assert!(ended, "it still waits");
}
