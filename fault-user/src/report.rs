//! The one place that prints: events as lines for people, or as JSON lines.
//!
//! Data goes to stdout. Text from outside (names, command lines) is stripped of
//! control characters, or escaped by the JSON library.

mod human;
mod json;

use std::{
    io::{self, IsTerminal as _, Write},
    time::{Duration, SystemTime},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    Error, clear::Cleared, control_path::Connection, doctor::Finding, selftest::Check,
    snapshot::Snapshot, status::Status, verbose::Packet,
};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A fault came into force.
    Started(Started),
    /// What it has done so far.
    Stats(Snapshot),
    /// Something worth knowing.
    Note(String),
    /// A packet that a rule decided about.
    Packet(Packet),
    /// The fault is over.
    Stopped(Stopped),
    /// A check of `selftest` was made.
    Check(Check),
    /// Something that `doctor` found.
    Finding(Finding),
}

/// A fault that came into force.
#[derive(Clone, Debug)]
pub struct Started {
    /// Its rules, one an interface.
    pub rules: Vec<StartedRule>,
    /// The process that keeps it.
    pub pid: u32,
    /// Whether the command returns, and leaves the fault to that process.
    pub detached: bool,
    /// What its maps cost the kernel, in bytes.
    pub memory: u64,
    /// Start of its random draws, if it draws.
    pub seed: Option<u64>,
    /// When it ends, if by time.
    pub until: Option<SystemTime>,
    /// When it ends unless somebody confirms it.
    pub confirm_until: Option<SystemTime>,
    /// Connections that it leaves alone.
    pub spared: Vec<Connection>,
    /// The command that it lives as long as, if any.
    pub command: Option<String>,
}

/// A rule on an interface.
#[derive(Clone, Debug)]
pub struct StartedRule {
    /// Its name.
    pub rule: String,
    /// What it is: the verb.
    pub fault: String,
    /// The interface.
    pub iface: String,
    /// Directions, as `--direction` has them.
    pub directions: Vec<&'static str>,
    /// What was asked.
    pub asked: String,
    /// `tcx` or `clsact`; `link` for a fault without a program.
    pub hook: String,
}

/// A fault that is over.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// Why: `for`, `signal`, `child`, `not confirmed`, `interface gone`, `output closed`.
    pub reason: &'static str,
    /// How long it was in force.
    pub ran: Duration,
    /// All that it did.
    pub snapshot: Snapshot,
    /// What is worth knowing about what comes after it.
    pub notes: Vec<String>,
}

/// Prints events.
pub struct Reporter {
    json: bool,
    out: Box<dyn Write>,
    /// Columns of the terminal, if stdout is one.
    terminal: Option<usize>,
    /// Whether the last line is the live one.
    live: bool,
    /// Whether stdout is a command's.
    beside_command: bool,
}

impl Reporter {
    /// One for stdout.
    pub fn new(json: bool) -> Self {
        let stdout = io::stdout();
        Self {
            json,
            terminal: stdout.is_terminal().then(width),
            out: Box::new(stdout),
            live: false,
            beside_command: false,
        }
    }

    /// One beside a command, whose output stdout is: lines for people go to stderr.
    /// JSON lines stay on stdout.
    pub fn beside_command(json: bool) -> Self {
        if json {
            return Self::new(json);
        }
        Self {
            json,
            terminal: None,
            out: Box::new(io::stderr()),
            live: false,
            beside_command: true,
        }
    }

    /// Whether whoever read is gone, as far as a pipe tells.
    pub fn is_closed(&self) -> bool {
        let stdout = io::stdout();
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        !self.beside_command
            && poll(&mut fds, Some(&now)).is_ok()
            && fds[0].revents().contains(PollFlags::ERR)
    }

    /// Tells an event. An error means that nobody reads any more.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        let now = SystemTime::now();
        if self.json {
            return self.line(&json::event(event, now).to_string());
        }
        match (event, self.terminal) {
            (Event::Stats(snapshot), Some(width)) => self.live(&human::live(snapshot, width)),
            (Event::Stats(_), None) => Ok(()),
            _ => self.line(&human::event(event, now)),
        }
    }

    /// Tells what is in force.
    pub fn status(&mut self, status: &Status) -> io::Result<()> {
        if self.json {
            let now = SystemTime::now();
            for fault in &status.faults {
                self.line(&json::fault(fault, now).to_string())?;
            }
            if status.other_version > 0 {
                self.line(&json::other_version(status.other_version, now).to_string())?;
            }
            Ok(())
        } else {
            self.line(&human::status(status))
        }
    }

    /// Shows a qdisc, in tc's words and spaces.
    pub fn qdisc(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{line}")
    }

    /// Tells what was cleared.
    pub fn cleared(&mut self, cleared: &Cleared) -> io::Result<()> {
        if self.json {
            self.line(&json::cleared(cleared, SystemTime::now()).to_string())
        } else {
            self.line(&human::cleared(cleared))
        }
    }

    /// Tells what went wrong: text on stderr, with `--json` an event on stdout too.
    /// Neither may be open.
    pub fn error(&mut self, error: &Error) {
        let _ = io::stderr().write_all(human::error(error).as_bytes());
        if self.json {
            let _ = self.line(&json::error(error, SystemTime::now()).to_string());
        }
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        if std::mem::take(&mut self.live) {
            // Back to the start of the live line, and clear it.
            write!(self.out, "\r\x1b[K")?;
        }
        writeln!(self.out, "{}", text.trim_end())?;
        self.out.flush()
    }

    fn live(&mut self, text: &str) -> io::Result<()> {
        self.live = true;
        write!(self.out, "\r\x1b[K{text}")?;
        self.out.flush()
    }
}

fn width() -> usize {
    rustix::termios::tcgetwinsize(io::stdout()).map_or(80, |size| usize::from(size.ws_col).max(20))
}
