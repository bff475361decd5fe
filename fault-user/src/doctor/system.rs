//! The kernel, and what this process may do.

use std::{fs, path::Path};

use aya::{
    programs::{SchedClassifier, TcAttachType},
    util::KernelVersion,
};
use fault_common::packet::LinkLayer;

use super::{Finding, Level, note, ok, whole, wrong};
use crate::{
    Error, attach, inventory,
    maps::{Loaded, Room},
    object::Object,
    privilege,
};

/// Looks at everything but interfaces.
pub fn examine() -> Result<Vec<Finding>, Error> {
    let mut findings = vec![kernel(), object()];
    findings.extend(capabilities()?);
    findings.extend(programs());
    findings.extend([tcx(), memory(), lockdown()]);
    findings.extend(leftovers());
    Ok(findings)
}

/// The oldest kernel that faultctl is tested on.
const OLDEST: (u8, u8) = (6, 1);

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let (major, minor) = OLDEST;
    let old =
        KernelVersion::current().is_ok_and(|current| current < KernelVersion::new(major, minor, 0));
    if old {
        note(
            "kernel",
            format!("{release} is older than any that faultctl is tested on"),
            format!("use Linux {major}.{minor} or newer"),
        )
    } else {
        ok("kernel", release)
    }
}

fn object() -> Finding {
    match Object::embedded() {
        Ok(_) => ok("BPF object", "built in"),
        Err(error) => wrong(
            "BPF object",
            whole(&error),
            error.hint().unwrap_or_default(),
        ),
    }
}

fn capabilities() -> Result<Vec<Finding>, Error> {
    const SUDO: &str = "run it with `sudo`";
    let mut findings = Vec::new();
    for (needed, purpose, level) in [
        (&privilege::TO_ATTACH[..], "to inject faults", Level::Error),
        (
            &[privilege::TO_LOOK_AROUND][..],
            "for `status`, `clear`, `selftest` and `--netns`",
            Level::Note,
        ),
    ] {
        let missing = privilege::missing(needed)?;
        findings.push(if missing.is_empty() {
            ok("capabilities", format!("all that it takes {purpose}"))
        } else {
            let missing = format!("missing {purpose}: {}", missing.join(", "));
            Finding {
                level,
                ..note("capabilities", missing, SUDO)
            }
        });
    }
    Ok(findings)
}

/// The verifier's word on our programs, and whether they are compiled.
fn programs() -> [Finding; 2] {
    let loaded = Object::embedded()
        .and_then(|object| Loaded::new(object, LinkLayer::Ethernet, Room::default()))
        .and_then(|mut loaded| {
            attach::load(&mut loaded, &attach::Program::ALL)?;
            Ok(loaded)
        });
    match loaded {
        Ok(loaded) => {
            let mut infos = loaded.ebpf.programs().filter_map(|(_, it)| it.info().ok());
            let is_jitted = infos.next().map(|info| info.size_jitted() > 0);
            [ok("verifier", "takes the programs"), jit(is_jitted)]
        }
        Err(error) => {
            let fix = "see docs/kernels.md for what the programs need of a kernel";
            [wrong("verifier", whole(&error), fix), jit(None)]
        }
    }
}

fn tcx() -> Finding {
    match SchedClassifier::query_tcx("lo", TcAttachType::Egress) {
        Ok(_) => ok(
            "tcx",
            "there: a fault ends with its process, however it ends",
        ),
        Err(_) => note(
            "tcx",
            "not there (or not to be asked about); clsact filters are used",
            "after a SIGKILL the fault ends with its lease, and `faultctl clear` removes the filter",
        ),
    }
}

/// By what became of our programs; without them, by the switch, which only the first
/// network namespace shows.
fn jit(is_on: Option<bool>) -> Finding {
    let switch = || fs::read_to_string("/proc/sys/net/core/bpf_jit_enable");
    match is_on.or_else(|| Some(switch().ok()?.trim() != "0")) {
        Some(true) => ok("BPF JIT", "on"),
        Some(false) => note(
            "BPF JIT",
            "off: programs are interpreted, and packets cost more",
            "sysctl net.core.bpf_jit_enable=1",
        ),
        None => ok("BPF JIT", "unknown: no /proc/sys/net/core/bpf_jit_enable"),
    }
}

fn leftovers() -> Option<Finding> {
    let dead = inventory::scan().ok()?.into_iter().filter(|found| {
        found
            .fault
            .as_ref()
            .is_some_and(|fault| fault.process().is_none())
    });
    let count = dead.count();
    (count > 0).then(|| {
        note(
            "leftovers",
            format!("{count} filters of faultctl processes that were killed, without force"),
            "faultctl clear",
        )
    })
}

/// Maps are charged to the memory cgroup (Linux 5.11), no longer to `RLIMIT_MEMLOCK`.
fn memory() -> Finding {
    let limit = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|text| memory_limit(Path::new("/sys/fs/cgroup"), &text));
    let limit = limit.map_or_else(
        || "without a limit".to_owned(),
        |bytes| format!("with a limit of {} MiB", bytes >> 20),
    );
    ok(
        "memory",
        format!("maps are charged to the memory cgroup, {limit}; `ulimit -l` does not count"),
    )
}

/// The lowest limit of a process's cgroup (version 2) and those above it.
fn memory_limit(root: &Path, cgroup: &str) -> Option<u64> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    root.join(path)
        .ancestors()
        .take_while(|above| above.starts_with(root))
        .filter_map(|above| fs::read_to_string(above.join("memory.max")).ok())
        .filter_map(|limit| limit.trim().parse().ok())
        .min()
}

fn lockdown() -> Finding {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let mode = modes
        .split_whitespace()
        .find_map(|mode| mode.strip_prefix('[')?.strip_suffix(']'));
    ok(
        "lockdown",
        match mode {
            None => "not there".to_owned(),
            Some("none") => "off".to_owned(),
            Some(mode) => {
                format!("{mode}; the programs read packets and maps, which it does not forbid")
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lowest_limit_above_counts() {
        let root = std::env::temp_dir().join(format!("faultctl-cgroup-{}", std::process::id()));
        let inner = root.join("a/b");
        fs::create_dir_all(&inner).expect("a temporary directory");
        for (path, limit) in [("a", "1048576\n"), ("a/b", "max\n")] {
            fs::write(root.join(path).join("memory.max"), limit).expect("a file in it");
        }
        let limit = |cgroup| memory_limit(&root, cgroup);
        let found = [limit("0::/a/b\n"), limit("0::/\n"), limit("1:cpu:/a\n")];
        fs::remove_dir_all(&root).expect("to remove it");
        assert_eq!(found, [Some(1 << 20), None, None]);
    }
}
