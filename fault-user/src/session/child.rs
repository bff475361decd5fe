//! The command after `--`, for whose life a fault is in force.

use std::{ffi::OsString, os::unix::process::ExitStatusExt as _, process::ExitStatus};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

use crate::{Error, error::KernelError, signals::Ended};

/// A command that runs.
pub(super) struct Child(tokio::process::Child);

impl Child {
    /// Starts it, if there is one.
    pub(super) fn start(command: &[OsString]) -> Result<Option<Self>, Error> {
        let Some((program, args)) = command.split_first() else {
            return Ok(None);
        };
        Command::new(program)
            .args(args)
            .spawn()
            .map(|child| Some(Self(child)))
            .map_err(|source| Error::Command {
                program: program.to_string_lossy().into_owned(),
                source,
            })
    }

    pub(super) async fn wait(&mut self) -> Result<ExitStatus, Error> {
        Ok(self
            .0
            .wait()
            .await
            .map_err(KernelError::system("wait for the command"))?)
    }

    /// Passes a signal on, unless the terminal has given it to the child already.
    pub(super) fn forward(&self, signal: Ended) {
        let pid = self.0.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let (false, Some(pid), Some(number)) = (
            signal.from_terminal,
            pid,
            Signal::from_named_raw(signal.number),
        ) {
            let _ = kill_process(pid, number);
        }
    }
}

/// As a shell has it: its own code, or 128 and the signal.
pub(super) fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
