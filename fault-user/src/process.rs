//! Processes by their identity, not by their number alone.

use std::{fs, os::fd::OwnedFd, time::Duration};

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

/// When a process started, in clock ticks since boot: field 22 of its stat, proc(5).
/// `None` where there is no such process, or only its remains.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is in parentheses and may hold anything.
    let (_, after) = stat.rsplit_once(") ")?;
    let mut fields = after.split(' ');
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18)?.parse().ok())?
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
