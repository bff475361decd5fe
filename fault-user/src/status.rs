//! What is in force on this machine, by whom, since when and until when.

use std::time::SystemTime;

use fault_common::layout::{self, Direction};

use crate::{
    Error, clock,
    down::{self, Entry, LinkMode, Saved},
    error::KernelError,
    inventory::{self, Fault, Found},
    namespace::Namespace,
    privilege,
    report::Reporter,
    snapshot::RuleCount,
    spec::FaultKind,
};

/// How to tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// JSON lines on stdout.
    pub json: bool,
}

/// All faults on this machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// One an interface and process.
    pub faults: Vec<FaultStatus>,
    /// Programs of another version of faultctl, which this one can't read.
    pub other_version: usize,
}

/// A fault on one interface.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultStatus {
    /// The interface's name when the fault began.
    pub iface: String,
    /// Inode of its network namespace.
    pub netns: u64,
    /// Whether that is the caller's own.
    pub own_netns: bool,
    /// The process that keeps it.
    pub pid: u32,
    /// Whether that process lives.
    pub alive: bool,
    /// The user behind it.
    pub uid: u32,
    /// What its maps cost the kernel, in bytes.
    pub memory: u64,
    /// How it was asked for.
    pub command: String,
    /// When it began, `CLOCK_BOOTTIME` in nanoseconds: with the process and the
    /// interface, what tells faults apart.
    pub since_ns: u64,
    /// The same as a date.
    pub since: SystemTime,
    /// When it ends, if by time.
    pub until: Option<SystemTime>,
    /// Whether packets are touched; not by what a dead or stopped process left.
    pub in_force: bool,
    /// What it did.
    pub counts: Vec<RuleCount>,
    /// Of a link that was taken away, more.
    pub link: Option<LinkStatus>,
}

/// A link that was taken away, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// How it was taken away.
    pub mode: LinkMode,
    /// The process that puts it back if the first one cannot.
    pub watchdog: u32,
    /// Whether that process lives.
    pub watched: bool,
    /// Without either process: what is not as it was, and nobody puts back.
    pub missing: Vec<String>,
}

/// Prints them.
pub fn run(request: &Request) -> Result<i32, Error> {
    privilege::require(&[privilege::TO_LOOK_AROUND])?;
    Reporter::new(request.json)
        .status(&status()?)
        .map_err(|_| Error::OutputClosed)?;
    Ok(0)
}

/// Reads them from the kernel.
pub fn status() -> Result<Status, KernelError> {
    let own = Namespace::default().inode()?;
    let mut status = Status::default();
    for Found {
        direction, fault, ..
    } in inventory::scan()?
    {
        let Some(fault) = fault else {
            status.other_version += 1;
            continue;
        };
        let mut one = of(&fault, own)?;
        let counts = counts(&fault, direction)?;
        // A fault on both directions has a program for each.
        let same = status.faults.iter_mut().find(|other| {
            (other.pid, other.netns, other.since_ns, &other.iface)
                == (one.pid, one.netns, one.since_ns, &one.iface)
        });
        if let Some(same) = same {
            same.counts.extend(counts);
        } else {
            one.counts = counts;
            status.faults.push(one);
        }
    }
    for entry in down::entries()? {
        match entry {
            Entry::State(state) => status.faults.push(of_link(&state.saved, own)?),
            Entry::OtherVersion => status.other_version += 1,
        }
    }
    Ok(status)
}

fn of(fault: &Fault, own: u64) -> Result<FaultStatus, KernelError> {
    let owner = &fault.owner;
    Ok(FaultStatus {
        iface: fault.iface(),
        netns: owner.netns_inode,
        own_netns: owner.netns_inode == own,
        pid: owner.pid,
        alive: fault.process().is_some(),
        uid: owner.uid,
        memory: fault.tables.memory(),
        command: fault.command(),
        since_ns: owner.since_ns,
        since: clock::wall(owner.since_ns),
        until: (owner.until_ns != 0).then(|| clock::wall(owner.until_ns)),
        in_force: fault.in_force()?,
        counts: Vec::new(),
        link: None,
    })
}

fn of_link(saved: &Saved, own: u64) -> Result<FaultStatus, KernelError> {
    let alive = saved.controller.find().is_some();
    let watched = saved.watchdog.find().is_some();
    let left = down::left(saved)?;
    Ok(FaultStatus {
        iface: saved.target().name.clone(),
        netns: saved.netns,
        own_netns: saved.netns == own,
        pid: saved.controller.pid,
        alive,
        uid: saved.uid,
        command: saved.command.clone(),
        since_ns: saved.since_ns,
        since: clock::wall(saved.since_ns),
        until: Some(clock::wall(saved.until_ns)),
        in_force: left.away,
        memory: 0,
        counts: Vec::new(),
        link: Some(LinkStatus {
            mode: saved.mode,
            watchdog: saved.watchdog.pid,
            watched,
            missing: if alive || watched {
                Vec::new()
            } else {
                left.missing
            },
        }),
    })
}

fn counts(fault: &Fault, direction: Direction) -> Result<Vec<RuleCount>, KernelError> {
    let mut counts = Vec::new();
    for (id, rule) in fault.tables.rules()? {
        let Some(kind) = FaultKind::of(&rule) else {
            continue;
        };
        counts.push(RuleCount {
            rule: kind.name().into(),
            fault: layout::Fault::from_number(rule.fault).unwrap_or(layout::Fault::Loss),
            iface: fault.iface(),
            direction,
            asked: kind.asked(),
            probability: kind.probability(),
            counters: fault.tables.counters(id, direction)?,
            delays: fault.tables.delays(id, direction)?,
        });
    }
    Ok(counts)
}
