//! Capabilities: what a fault needs, and giving up what it needs no more.

use caps::{CapSet, Capability, CapsHashSet};

use crate::error::KernelError;

/// What loading and attaching takes.
pub const TO_ATTACH: [Capability; 3] = [
    Capability::CAP_NET_ADMIN,
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
];
/// What entering a namespace takes, and reading the programs of other processes.
pub const TO_LOOK_AROUND: Capability = Capability::CAP_SYS_ADMIN;

/// What taking a filter out of another namespace takes: the last lets a path through
/// another process's `/proc` be followed.
pub const TO_COME_BACK: [Capability; 3] = [
    Capability::CAP_NET_ADMIN,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_PTRACE,
];

/// Fails with the names of those that this thread lacks.
pub fn require(needed: &[Capability]) -> Result<(), KernelError> {
    let missing = missing(needed)?;
    if missing.is_empty() {
        Ok(())
    } else {
        Err(KernelError::Capabilities { missing })
    }
}

/// The names of those that this thread lacks.
pub fn missing(needed: &[Capability]) -> Result<Vec<String>, KernelError> {
    let have = caps::read(None, CapSet::Effective).map_err(KernelError::inventory)?;
    // capabilities(7): before 5.8 it stood for both, and it still does.
    let stands_for = |cap| {
        matches!(cap, Capability::CAP_BPF | Capability::CAP_PERFMON)
            && have.contains(&Capability::CAP_SYS_ADMIN)
    };
    Ok(needed
        .iter()
        .filter(|cap| !have.contains(cap) && !stands_for(**cap))
        .map(ToString::to_string)
        .collect())
}

/// Gives up all capabilities of this thread, and of those that it will start, but
/// these; and the way to new ones by running a program. Before other threads exist.
pub fn keep(kept: &[Capability]) -> Result<(), KernelError> {
    let have = caps::read(None, CapSet::Permitted).map_err(KernelError::inventory)?;
    let kept: CapsHashSet = kept
        .iter()
        .copied()
        .filter(|cap| have.contains(cap))
        .collect();
    caps::clear(None, CapSet::Ambient).map_err(KernelError::inventory)?;
    caps::clear(None, CapSet::Inheritable).map_err(KernelError::inventory)?;
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept).map_err(KernelError::inventory)?;
    }
    rustix::thread::set_no_new_privs(true).map_err(KernelError::system("give up privileges"))
}
