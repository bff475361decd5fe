//! A fault that its command has left to a background process.

use std::{
    process::{Command, Output},
    time::Duration,
};

use fault_user::process::{Process, start_ticks};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    faultctl::{command, output, words},
    namespace::Namespace,
    wait::SOON,
};

/// A holder, by its process; killed when dropped.
#[derive(Debug)]
pub struct Holder {
    process: Process,
    pid: Pid,
    /// The `started` event.
    pub started: Value,
}

impl Holder {
    /// Starts one in a namespace; returns when its command has. `line` is split at white
    /// space, `--detach --json` added.
    #[track_caller]
    pub fn begin(namespace: &Namespace, line: &str) -> Self {
        let mut args = words(line);
        args.splice(1..1, ["--detach", "--json"]);
        Self::of(&mut command(namespace, &args))
    }

    /// Runs a command that leaves one behind and prints its `started` event.
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        let output: Output = output(command);
        assert!(output.status.success(), "{output:?}");
        let started: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("one line of JSON ({error}): {output:?}"));
        Self::named_by(started)
    }

    /// The one that an event names.
    #[track_caller]
    pub fn named_by(started: Value) -> Self {
        assert_eq!(started["event"], "started", "{started}");
        let pid = started["pid"].as_u64().expect("a number");
        let pid = u32::try_from(pid).expect("a pid");
        let process = start_ticks(pid).and_then(|start| Process::find(pid, start));
        Self {
            process: process.unwrap_or_else(|| panic!("no process: {started}")),
            pid: Pid::from_raw(pid.cast_signed()),
            started,
        }
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// A file of its /proc directory.
    #[track_caller]
    pub fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.pid))
            .unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("it runs");
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        !self.process.wait(Duration::ZERO).expect("a wait")
    }

    /// Ends it.
    #[track_caller]
    pub fn end(self) {
        self.signal(Signal::SIGTERM);
        self.ended();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(self) {
        assert!(
            self.process.wait(SOON).expect("a wait"),
            "it does not end: {self:?}"
        );
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Its number may be another's when it has ended.
        if self.is_running() {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}
