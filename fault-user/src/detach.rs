//! A fault that stays when its command returns: `--detach`.
//!
//! The holder is a fork of the command, made before any thread is there. What the command
//! line named (files, host names) has been read by then, and is not read again. It has a
//! session of its own, tells its errors itself while the command waits, and lets go of all
//! that is the caller's once the fault is in force.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::fd::{AsRawFd as _, RawFd},
    process,
    time::Duration,
};

use rustix::{
    io::retry_on_intr,
    process::{Pid, Signal, WaitOptions, set_parent_process_death_signal, setsid, waitpid},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};

use crate::{Error, error::KernelError, report::Reporter};

/// How long a fault stays where nothing else is said.
pub const UNLESS_SAID: Duration = Duration::from_hours(1);

/// What the holder says, once.
const IN_FORCE: u8 = b'f';

/// The command that waits, seen from its holder.
#[derive(Debug)]
pub struct Caller(io::PipeWriter);

/// Lets a holder do the work, and returns when that has called [`Caller::in_force`] or has
/// ended: 0, or the holder's exit code, which has said what went wrong. The holder does not
/// return from here. For a process with one thread.
pub fn run(
    json: bool,
    hold: impl FnOnce(Caller) -> Result<i32, Error>,
) -> Result<i32, KernelError> {
    let (answer, caller) = io::pipe().map_err(KernelError::system("open a pipe"))?;
    let threads = fs::read_dir("/proc/self/task").map_err(KernelError::system("list threads"))?;
    if threads.count() > 1 {
        return Err(KernelError::Threads);
    }
    // SAFETY: no other thread can hold a lock that the child would wait for.
    match unsafe { libc::fork() } {
        -1 => Err(KernelError::system("start the holder")(
            io::Error::last_os_error(),
        )),
        0 => {
            drop(answer);
            process::exit(be_holder(json, caller, hold))
        }
        holder => {
            drop(caller);
            wait(answer, holder)
        }
    }
}

impl Caller {
    /// Tells it that the fault is in force, and lets go of its descriptors. From here on
    /// nobody hears what is printed.
    pub fn in_force(mut self) -> Result<(), KernelError> {
        let nowhere = OpenOptions::new().read(true).write(true).open("/dev/null");
        let nowhere = nowhere.map_err(KernelError::system("open `/dev/null`"))?;
        dup2_stdin(&nowhere)
            .and_then(|()| dup2_stdout(&nowhere))
            .and_then(|()| dup2_stderr(&nowhere))
            .and_then(|()| set_parent_process_death_signal(None))
            .map_err(KernelError::system("let go of the caller"))?;
        drop(nowhere);
        // Whoever began the fault has given it up meanwhile.
        self.0
            .write_all(&[IN_FORCE])
            .map_err(|_| KernelError::Interrupted)
    }
}

fn be_holder(
    json: bool,
    caller: io::PipeWriter,
    hold: impl FnOnce(Caller) -> Result<i32, Error>,
) -> i32 {
    let result = leave(caller.as_raw_fd())
        .map_err(KernelError::system("leave the caller"))
        .map_err(Error::from)
        .and_then(|()| hold(Caller(caller)));
    result.unwrap_or_else(|error| {
        Reporter::new(json).error(&error);
        error.exit_code()
    })
}

/// A session of its own, and of the caller's descriptors only the standard streams, to say
/// what goes wrong, and this one.
fn leave(kept: RawFd) -> io::Result<()> {
    setsid()?;
    // Until the fault is in force, it ends with the caller, however that ends.
    set_parent_process_death_signal(Some(Signal::TERM))?;
    env::set_current_dir("/")?;
    close(3, kept - 1)?;
    close(kept + 1, RawFd::MAX)
}

/// Closes what the caller has left open from one descriptor to another.
fn close(first: RawFd, last: RawFd) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: this process has just begun, and opened none of them: nothing in it refers to
    // them.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn wait(mut answer: io::PipeReader, holder: libc::pid_t) -> Result<i32, KernelError> {
    if answer.read_exact(&mut [0]).is_ok() {
        return Ok(0);
    }
    let status = retry_on_intr(|| waitpid(Pid::from_raw(holder), WaitOptions::empty()))
        .map_err(KernelError::system("wait for the holder"))?;
    match status.and_then(|(_, status)| status.exit_status()) {
        Some(code) => Ok(code),
        None => Err(KernelError::Holder),
    }
}
