//! Capabilities: those that are missing, and those that are kept.

use std::{fs, io, os::unix::process::CommandExt as _, process::Command};

use fault_tests::{
    Family, Faultctl, Lab, Namespace, Side,
    faultctl::{command, output, words},
    kernel::hooks,
    programs, udp,
};

const NET_ADMIN: u8 = 12;
const SYS_PTRACE: u8 = 19;
const SYS_ADMIN: u8 = 21;
const PERFMON: u8 = 38;
const BPF: u8 = 39;

#[test]
fn each_missing_capability_is_named() {
    let lab = Lab::new();
    for (without, named) in [
        (&[NET_ADMIN][..], &["CAP_NET_ADMIN"][..]),
        (&[BPF, SYS_ADMIN], &["CAP_BPF"]),
        (&[PERFMON, SYS_ADMIN], &["CAP_PERFMON"]),
        (
            &[NET_ADMIN, SYS_ADMIN, PERFMON, BPF],
            &["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"],
        ),
    ] {
        let mut command = command(&lab.near, &words("loss 50 --iface eth0"));
        drop_capabilities(&mut command, without);
        let output = output(&mut command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let message = stderr.lines().next().unwrap_or_default();
        for capability in ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF", "CAP_SYS_ADMIN"] {
            assert_eq!(
                message.contains(capability),
                named.contains(&capability),
                "{capability}: {stderr}"
            );
        }
        assert!(stderr.contains("\nhint: "), "{stderr}");
    }
}

#[test]
fn nobody_is_told_what_is_missing() {
    const NOBODY: u32 = 65_534;
    let lab = Lab::new();
    for line in ["loss 50 --iface eth0", "status", "clear --iface none"] {
        // Runs after the way into the namespace, which takes privileges.
        let mut command = command(&lab.near, &words(line));
        // SAFETY: one system call between fork and exec.
        unsafe {
            command.pre_exec(|| match libc::setuid(NOBODY) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        let output = output(&mut command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}: {stderr}");
        assert!(
            stderr.contains("CAP_") && stderr.contains("\nhint: "),
            "{stderr}"
        );
    }
}

#[test]
fn own_namespace_needs_no_sys_admin() {
    for hook in hooks() {
        let lab = Lab::new();
        let before = programs::hooks(&lab);
        let line = format!("loss 100 --json --iface eth0 --attach {hook}");
        let mut command = command(&lab.near, &words(&line));
        drop_capabilities(&mut command, &[SYS_ADMIN]);
        let faultctl = Faultctl::spawn(&mut command);
        assert_eq!(udp::flow(&lab, Family::V4, Side::Near, 20).lost(), 20);
        assert_eq!(faultctl.end().code, 0);
        assert_eq!(programs::hooks(&lab), before);
    }
}

#[test]
fn running_fault_has_only_the_capabilities_that_its_end_takes() {
    let outside = Namespace::new();
    let come_back = 1 << NET_ADMIN | 1 << SYS_ADMIN | 1 << SYS_PTRACE;
    for (verb, hook, other_namespace, kept) in [
        ("loss 50", "tcx", false, 0),
        ("loss 50", "tcx", true, 0),
        ("loss 50", "clsact", false, 1 << NET_ADMIN),
        ("loss 50", "clsact", true, come_back),
        ("latency 5ms", "tcx", false, 0),
        ("latency 5ms --engine tap", "tcx", false, 0),
        ("latency 5ms", "tcx", true, come_back),
        ("latency 5ms", "clsact", false, 1 << NET_ADMIN),
    ] {
        if !hooks().contains(&hook) {
            continue;
        }
        let lab = Lab::new();
        let line = format!("{verb} --iface eth0 --attach {hook}");
        let faultctl = if other_namespace {
            let path = lab.near.path();
            Faultctl::start(&outside, &format!("{line} --netns {}", path.display()))
        } else {
            Faultctl::start(&lab.near, &line)
        };
        // It lives on its own by then.
        faultctl.event("stats");
        let tasks = format!("/proc/{}/task", faultctl.pid());
        let mut threads = 0;
        for thread in fs::read_dir(&tasks).expect("it runs") {
            let path = thread.expect("a thread").path().join("status");
            // Those that do a piece of work and end may have ended.
            let Ok(status) = fs::read_to_string(path) else {
                continue;
            };
            threads += 1;
            for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                let value = status
                    .lines()
                    .find_map(|line| line.strip_prefix(set)?.strip_prefix(":\t"))
                    .and_then(|value| u64::from_str_radix(value, 16).ok())
                    .expect("a capability set");
                assert_eq!(value & !kept, 0, "{set} {value:x} of {status}");
            }
        }
        // The first one, and the one that keeps the lease.
        assert!(threads >= 2, "{threads} threads in {tasks}");
        assert_eq!(faultctl.end().code, 0);
    }
}

#[test]
fn child_keeps_the_capabilities_of_the_caller() {
    let lab = Lab::new();
    let script = "echo \"{\\\"event\\\":\\\"child\\\",\\\"caps\\\":\\\"$(\
                  grep CapEff /proc/self/status)\\\"}\" | tr '\\t' ' '";
    let line = "loss 50 --json --iface eth0 --";
    let args = [words(line), vec!["sh", "-c", script]].concat();
    let ended = Faultctl::spawn(&mut command(&lab.near, &args)).ended();
    let own = fs::read_to_string("/proc/self/status").expect("own status");
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:\t"))
        .expect("own capabilities");
    let child = ended
        .events
        .iter()
        .find(|event| event["event"] == "child")
        .unwrap_or_else(|| panic!("{ended:?}"));
    assert!(
        child["caps"]
            .as_str()
            .is_some_and(|caps| caps.ends_with(own)),
        "{child}"
    );
}

/// Runs after the way into the namespace. Root gets no capability by exec that is not
/// in the bounding set.
fn drop_capabilities(command: &mut Command, capabilities: &'static [u8]) {
    // SAFETY: only system calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            for capability in capabilities {
                let number = libc::c_ulong::from(*capability);
                if libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}
