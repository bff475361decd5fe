//! Processes by their identity, not by their number alone.

use std::{fs, io, os::fd::OwnedFd, path::PathBuf, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::error::KernelError;

/// A process that lives, held by a descriptor: its number cannot pass to another.
#[derive(Debug)]
pub struct Process {
    fd: OwnedFd,
}

impl Process {
    /// The process with this number, if it is the one that started then.
    pub fn find(pid: u32, start_ticks: u64) -> Option<Self> {
        let fd = pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok()?;
        // Read after the descriptor is held: what is read belongs to what is held.
        (self::start_ticks(pid)? == start_ticks).then_some(Self { fd })
    }

    /// Sends a signal; to a process that has just ended, none.
    pub fn signal(&self, signal: Signal) -> Result<(), KernelError> {
        match pidfd_send_signal(&self.fd, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            result => result.map_err(KernelError::system("signal a faultctl process")),
        }
    }

    /// Waits for its end; says whether it came in time.
    pub fn wait(&self, at_most: Duration) -> Result<bool, KernelError> {
        let timeout = Timespec {
            tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: at_most.subsec_nanos().into(),
        };
        poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&timeout))
            .map(|ready| ready > 0)
            .map_err(KernelError::system("wait for a faultctl process"))
    }
}

/// What proc(5)'s stat says of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The name of its program, cut to 15 bytes.
    pub name: String,
    /// Its parent; 0 for the first process, and where the parent cannot be seen.
    pub parent: u32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
}

/// What is known of a process. `None` where there is none, or only its remains.
pub fn stat(pid: u32) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is in parentheses and may hold anything.
    let (before, after) = stat.rsplit_once(") ")?;
    let (_, name) = before.split_once('(')?;
    let mut fields = after.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    Some(Stat {
        name: name.into(),
        parent: fields.next()?.parse().ok()?,
        start_ticks: fields.nth(17)?.parse().ok()?,
    })
}

/// When a process started, in clock ticks since boot.
pub fn start_ticks(pid: u32) -> Option<u64> {
    stat(pid).map(|stat| stat.start_ticks)
}

/// The processes of this machine, as far as they can be seen.
pub fn all() -> io::Result<impl Iterator<Item = u32>> {
    Ok(numbers(fs::read_dir("/proc")?).map(|(pid, _)| pid))
}

/// The descriptors of a process, with the paths that lead to what they hold.
pub fn descriptors(pid: u32) -> io::Result<impl Iterator<Item = (u32, PathBuf)>> {
    Ok(numbers(fs::read_dir(format!("/proc/{pid}/fd"))?))
}

/// The entries of a directory whose names are numbers.
fn numbers(entries: fs::ReadDir) -> impl Iterator<Item = (u32, PathBuf)> {
    entries.filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_itself_by_number_and_start() {
        let pid = std::process::id();
        let start = start_ticks(pid).expect("this process lives");
        assert!(Process::find(pid, start).is_some());
        assert!(Process::find(pid, start + 1).is_none());
    }
}
