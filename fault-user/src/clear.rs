//! Ends every fault of faultctl, whoever started it, and takes out what dead
//! processes left.

use std::time::Duration;

use rustix::process::Signal;

use crate::{
    Error, bpf,
    clsact::{self, Lock},
    down::{self, Entry, Saved},
    error::KernelError,
    inventory::{self, Fault, Found},
    namespace::Namespace,
    privilege,
    report::Reporter,
};

/// What to clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Only faults on interfaces with these names; empty for all.
    pub interfaces: Vec<String>,
    /// JSON lines on stdout.
    pub json: bool,
}

/// How long a process may take to end by itself, before it is killed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Clears and says what was cleared; nothing to clear is no error.
pub fn run(request: &Request) -> Result<i32, Error> {
    privilege::require(&privilege::TO_ATTACH)?;
    privilege::require(&[privilege::TO_LOOK_AROUND])?;
    let cleared = clear(&request.interfaces)?;
    Reporter::new(request.json)
        .cleared(&cleared)
        .map_err(|_| Error::OutputClosed)?;
    if cleared.failed.is_empty() {
        Ok(0)
    } else {
        Err(KernelError::GivenUp {
            what: cleared.failed,
        }
        .into())
    }
}

/// What was cleared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Faults that were in force or left behind, as `status` names them.
    pub faults: Vec<ClearedFault>,
    /// Filters of dead processes that were taken out.
    pub filters: usize,
    /// Faults whose network namespace no name and no process leads to: without
    /// force from now on, and gone with the namespace.
    pub unreachable: usize,
    /// Programs and links of another version of faultctl, which were left alone.
    pub other_version: usize,
    /// What is worth knowing about links that were put back.
    pub notes: Vec<String>,
    /// What on them could not be put back, and will not be tried again.
    pub failed: Vec<String>,
}

/// A fault that was cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClearedFault {
    /// Its interface.
    pub iface: String,
    /// Its process, which may have been gone already.
    pub pid: u32,
    /// How it was asked for.
    pub command: String,
}

/// Clears the faults on these interfaces, or all.
pub fn clear(interfaces: &[String]) -> Result<Cleared, Error> {
    let mut cleared = Cleared::default();
    let mut namespaces = Vec::new();
    for Found { program, fault, .. } in inventory::scan()? {
        let Some(mut fault) = fault else {
            cleared.other_version += 1;
            continue;
        };
        if !interfaces.is_empty() && !interfaces.contains(&fault.iface()) {
            continue;
        }
        end(&mut fault)?;
        bpf::detach_from(program)?;
        let place = (fault.owner.netns_inode, fault.owner.ifindex);
        if !namespaces.contains(&place) {
            namespaces.push(place);
        }
        let one = ClearedFault {
            iface: fault.iface(),
            pid: fault.owner.pid,
            command: fault.command(),
        };
        // A fault on both directions has two programs.
        if !cleared.faults.contains(&one) {
            cleared.faults.push(one);
        }
    }
    // Whatever comes of the links, filters are taken out.
    let links = put_back(interfaces, &mut cleared);
    let _lock = Lock::take(|| false)?;
    let left = inventory::scan()?;
    for (inode, ifindex) in namespaces {
        if !left.iter().any(|found| found.is_at(inode, ifindex)) {
            continue;
        }
        let Some(namespace) = Namespace::with_inode(inode) else {
            cleared.unreachable += 1;
            continue;
        };
        cleared.filters += namespace.run(|| {
            clsact::remove_leftovers(ifindex, |program| inventory::leftover(&left, program))
        })?;
    }
    links?;
    Ok(cleared)
}

/// Puts back links that were taken away.
fn put_back(interfaces: &[String], cleared: &mut Cleared) -> Result<(), KernelError> {
    let mut states = Vec::new();
    for entry in down::entries()? {
        match entry {
            Entry::State(state) if is_meant(&state.saved, interfaces)? => states.push(*state),
            Entry::State(_) => {}
            Entry::OtherVersion => cleared.other_version += 1,
        }
    }
    for state in &states {
        down::end(state)?;
    }
    let (back, error) = down::put_back(&states, true, down::LONGEST);
    cleared.notes.extend(back.notes);
    cleared.failed.extend(back.failed);
    cleared
        .faults
        .extend(states.iter().map(|state| ClearedFault {
            iface: state.saved.target().name.clone(),
            pid: state.saved.controller.pid,
            command: state.saved.command.clone(),
        }));
    error.map_or(Ok(()), Err)
}

/// Whether a link has one of these names, or had it when it was taken away.
fn is_meant(saved: &Saved, interfaces: &[String]) -> Result<bool, KernelError> {
    Ok(interfaces.is_empty()
        || interfaces.contains(&saved.target().name)
        || down::left(saved)?
            .name
            .is_some_and(|now| interfaces.contains(&now)))
}

/// The fault has no force from here on; its process ends, by force if it must.
pub fn end(fault: &mut Fault) -> Result<(), KernelError> {
    disarm(fault)?;
    if let Some(process) = fault.process() {
        process.signal(Signal::TERM)?;
        // A stopped process has to run to end.
        process.signal(Signal::CONT)?;
        if !process.wait(PATIENCE)? {
            process.signal(Signal::KILL)?;
            process.wait(PATIENCE)?;
        }
        // It may have renewed its lease meanwhile.
        disarm(fault)?;
    }
    Ok(())
}

fn disarm(fault: &mut Fault) -> Result<(), KernelError> {
    for (id, _) in fault.tables.rules()? {
        fault.tables.set_deadline(id, 0)?;
    }
    Ok(())
}
