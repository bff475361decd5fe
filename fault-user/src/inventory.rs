//! Faults of any process on this machine, read from the kernel itself: no state
//! file can be stale, lost or out of sight.

use aya::programs::{ProgramInfo, loaded_programs};
use fault_common::layout::{ABI, Direction, Owner};

use crate::{attach, clock, error::KernelError, maps::Tables, process::Process};

/// A program of ours in the kernel.
pub struct Found {
    /// The kernel's id of the program.
    pub program: u32,
    /// Which way it looks.
    pub direction: Direction,
    /// What it tells; `None` for a program of another version of faultctl.
    pub fault: Option<Fault>,
}

/// What a program tells about its fault.
pub struct Fault {
    /// Whose it is.
    pub owner: Owner,
    /// Rules, deadlines and counters.
    pub tables: Tables,
}

impl Fault {
    /// The process that keeps it, if that still lives.
    pub fn process(&self) -> Option<Process> {
        Process::find(self.owner.pid, self.owner.start_ticks)
    }

    /// Whether its rules still touch packets.
    pub fn in_force(&self) -> Result<bool, KernelError> {
        let now = clock::boot_ns();
        for (id, _) in self.tables.rules()? {
            if self.tables.deadline(id)? > now {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Name of its interface when it began.
    pub fn iface(&self) -> String {
        text(&self.owner.iface)
    }

    /// How it was asked for.
    pub fn command(&self) -> String {
        text(&self.owner.command)
    }
}

impl Found {
    /// Whether it is on this interface, by its namespace's inode and its index there.
    pub fn is_at(&self, netns_inode: u64, ifindex: u32) -> bool {
        self.fault.as_ref().is_some_and(|fault| {
            fault.owner.netns_inode == netns_inode && fault.owner.ifindex == ifindex
        })
    }
}

fn text(padded: &[u8]) -> String {
    let end = padded
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(padded.len());
    String::from_utf8_lossy(&padded[..end]).into_owned()
}

/// Everything of ours in the kernel. Needs `CAP_SYS_ADMIN`.
pub fn scan() -> Result<Vec<Found>, KernelError> {
    let mut found = Vec::new();
    for program in loaded_programs() {
        let program = match program {
            Ok(program) => program,
            // Unloaded between the two calls that list it.
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(KernelError::inventory(error)),
        };
        let Some(direction) = direction_of(&program) else {
            continue;
        };
        let fault = match Tables::of_program(&program) {
            Ok(Some(tables)) => {
                let owner = tables.owner()?;
                // Loaded, and not attached yet.
                if owner.abi == 0 {
                    continue;
                }
                (owner.abi == ABI).then_some(Fault { owner, tables })
            }
            Ok(None) => None,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        found.push(Found {
            program: program.id(),
            direction,
            fault,
        });
    }
    Ok(found)
}

/// A name alone anybody may give, where unprivileged programs are allowed.
fn direction_of(program: &ProgramInfo) -> Option<Direction> {
    attach::Program::ALL
        .into_iter()
        .find(|ours| {
            program.program_type() == ours.kind() && program.name() == ours.short_name().as_bytes()
        })
        .map(attach::Program::direction)
}

fn is_gone(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What a dead process left on a clsact qdisc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Whether faultctl added the qdisc.
    pub added_clsact: bool,
}

/// Whether a program is ours and its process is gone. A process that is not to be
/// seen, as from another pid namespace, shows itself by what is in force.
pub fn leftover(found: &[Found], program: u32) -> Option<Leftover> {
    let fault = of_program(found, program)?;
    let gone = fault.process().is_none() && !fault.in_force().unwrap_or(true);
    gone.then_some(Leftover {
        added_clsact: fault.owner.added_clsact != 0,
    })
}

/// Whether a program is ours and faultctl added the qdisc that it is on.
pub fn added_clsact(found: &[Found], program: u32) -> bool {
    of_program(found, program).is_some_and(|fault| fault.owner.added_clsact != 0)
}

fn of_program(found: &[Found], program: u32) -> Option<&Fault> {
    found
        .iter()
        .find(|one| one.program == program)?
        .fault
        .as_ref()
}
