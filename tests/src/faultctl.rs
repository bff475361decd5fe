//! `faultctl` as a child process.

use std::{
    env,
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    namespace::Namespace,
    wait::{SOON, until},
};

/// A running `faultctl` with `--json`; killed when dropped.
#[derive(Debug)]
pub struct Faultctl {
    child: Child,
    events: Receiver<Value>,
    stderr: Option<JoinHandle<String>>,
    /// Its `started` event.
    pub started: Value,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code, as a shell has it: 128 and the signal where a signal killed it.
    pub code: i32,
    /// Events after `started`.
    pub events: Vec<Value>,
    /// What it said on stderr.
    pub stderr: String,
}

/// The binary in `FAULTCTL_BIN`, else the one in the directory of the profile that
/// the test was built in.
pub fn binary() -> PathBuf {
    env::var_os("FAULTCTL_BIN").map_or_else(
        || {
            let test = env::current_exe().expect("a running test has a path");
            let profile = test.ancestors().nth(2).expect("it lies in `deps`");
            profile.join("faultctl")
        },
        PathBuf::from,
    )
}

/// A faultctl command inside a namespace, that will die with the calling thread.
pub fn command(namespace: &Namespace, args: &[&str]) -> Command {
    let mut command = namespace.command(binary());
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs it to its end, within a bound.
#[track_caller]
pub fn run(namespace: &Namespace, args: &[&str]) -> Output {
    output(&mut command(namespace, args))
}

/// Runs a command to its end, within a bound.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = read(child.stdout.take().expect("piped"));
    let stderr = read(child.stderr.take().expect("piped"));
    let status = wait(&mut child, SOON);
    Output {
        status: status.unwrap_or_else(|| panic!("{command:?} does not end")),
        stdout: stdout.join().expect("a reader").into_bytes(),
        stderr: stderr.join().expect("a reader").into_bytes(),
    }
}

/// The words of a line, as arguments.
pub fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

impl Faultctl {
    /// Starts it in the near end's namespace, where the interface is; returns when the
    /// fault is in force. `line` is split at white space, `--json` added.
    #[track_caller]
    pub fn start(namespace: &Namespace, line: &str) -> Self {
        let mut args = words(line);
        args.insert(1, "--json");
        Self::spawn(&mut command(namespace, &args))
    }

    /// Starts a command that prints faultctl's JSON lines; returns when the fault is in force.
    #[track_caller]
    pub fn spawn(command: &mut Command) -> Self {
        let mut faultctl = Self::launch(command);
        if let Err(why) = faultctl.ready() {
            panic!("{command:?} did not start: {why}");
        }
        faultctl
    }

    /// The same without waiting: [`Faultctl::ready`] does.
    #[track_caller]
    pub fn launch(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let stderr = read(child.stderr.take().expect("piped"));
        let (sender, events) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // What the child of faultctl prints is not ours.
                if let Ok(event @ Value::Object(_)) = serde_json::from_str(&line)
                    && sender.send(event).is_err()
                {
                    break;
                }
            }
        });
        Self {
            child,
            events,
            stderr: Some(stderr),
            started: Value::Null,
        }
    }

    /// Waits until the fault is in force, or says why it will not be.
    pub fn ready(&mut self) -> Result<(), String> {
        match self.events.recv_timeout(SOON) {
            Ok(event) if event["event"] == "started" => {
                self.started = event;
                Ok(())
            }
            other => {
                let _ = self.child.kill();
                let message = other.as_ref().ok().and_then(|it| it["message"].as_str());
                let said = message.map_or_else(|| format!("{other:?}"), str::to_owned);
                Err(format!("{said}\n{}", self.stderr()))
            }
        }
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it runs");
    }

    /// Sends it SIGSTOP and waits until it stands.
    #[track_caller]
    pub fn stop_still(&self) {
        self.signal(Signal::SIGSTOP);
        until("it stands still", SOON, || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
            let (_, state) = stat.rsplit_once(") ")?;
            state.starts_with('T').then_some(())
        });
    }

    /// The next event of a kind.
    #[track_caller]
    pub fn event(&self, kind: &str) -> Value {
        self.event_within(kind, SOON)
            .unwrap_or_else(|| panic!("no event `{kind}`"))
    }

    /// The next event of a kind, if one comes in time.
    pub fn event_within(&self, kind: &str, bound: Duration) -> Option<Value> {
        let start = Instant::now();
        loop {
            let left = bound.saturating_sub(start.elapsed());
            match self.events.recv_timeout(left) {
                Ok(event) if event["event"] == kind => return Some(event),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Ends it by Ctrl-C.
    #[track_caller]
    pub fn end(self) -> Ended {
        self.signal(Signal::SIGINT);
        self.ended()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(mut self) -> Ended {
        let mut events = Vec::new();
        let start = Instant::now();
        loop {
            match self
                .events
                .recv_timeout(SOON.saturating_sub(start.elapsed()))
            {
                Ok(event) => events.push(event),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {events:?}"),
            }
        }
        let status = wait(&mut self.child, SOON).expect("it ends once stdout is closed");
        Ended {
            code: code(status),
            events,
            stderr: self.stderr(),
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn stderr(&mut self) -> String {
        self.stderr
            .take()
            .and_then(|reader| reader.join().ok())
            .unwrap_or_default()
    }
}

impl Drop for Faultctl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Its closing event.
    #[track_caller]
    pub fn stopped(&self) -> &Value {
        self.events
            .iter()
            .find(|event| event["event"] == "stopped")
            .unwrap_or_else(|| panic!("no `stopped`: {self:?}"))
    }

    /// A closing counter, summed over rules and interfaces.
    #[track_caller]
    pub fn count(&self, direction: &str, counter: &str) -> u64 {
        count(self.stopped(), direction, counter)
    }
}

/// A counter of a `stats` or `stopped` event, summed over rules and interfaces.
#[track_caller]
pub fn count(event: &Value, direction: &str, counter: &str) -> u64 {
    event["rules"]
        .as_array()
        .unwrap_or_else(|| panic!("no rules: {event}"))
        .iter()
        .filter(|rule| rule["direction"] == direction)
        .map(|rule| {
            rule[counter]
                .as_u64()
                .unwrap_or_else(|| panic!("no `{counter}`: {event}"))
        })
        .sum()
}

/// As a shell has it.
fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().expect("a code or a signal"))
}

fn wait(child: &mut Child, bound: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("our child") {
            return Some(status);
        }
        if start.elapsed() > bound {
            let _ = child.kill();
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn read(mut from: impl std::io::Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut all = Vec::new();
        let _ = from.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    })
}
