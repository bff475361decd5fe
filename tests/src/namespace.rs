//! A network namespace without a name.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::{AsRawFd as _, BorrowedFd},
        unix::{fs::MetadataExt as _, process::CommandExt as _},
    },
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::{prctl, signal::Signal},
};

/// A network namespace, with its loopback up; gone when dropped and no process is left in it.
#[derive(Debug)]
pub struct Namespace {
    handle: File,
}

impl Namespace {
    /// A new, empty one.
    pub fn new() -> Self {
        let handle = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("netns tests run as root");
            File::open("/proc/thread-self/ns/net").expect("own namespace")
        })
        .join()
        .expect("a namespace");
        let namespace = Self { handle };
        namespace.ip("link set lo up");
        namespace
    }

    /// The one that this process is in.
    pub fn of_the_caller() -> Self {
        let handle = File::open("/proc/self/ns/net").expect("own namespace");
        Self { handle }
    }

    /// Runs `work` on a thread of its own inside.
    #[track_caller]
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&self.handle, CloneFlags::CLONE_NEWNET).expect("into the namespace");
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command that will run inside, and die with the thread that starts it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let handle = self.handle.as_raw_fd();
        let mut command = Command::new(program);
        // SAFETY: between fork and exec only system calls are made, nothing is
        // allocated; the descriptor lives as long as `self`, and the borrow ends
        // before exec.
        unsafe {
            command.pre_exec(move || {
                let handle = BorrowedFd::borrow_raw(handle);
                setns(handle, CloneFlags::CLONE_NEWNET)?;
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                Ok(())
            });
        }
        command
    }

    /// A path that leads to it while `self` lives.
    pub fn path(&self) -> PathBuf {
        format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.handle.as_raw_fd()
        )
        .into()
    }

    /// Its number.
    pub fn inode(&self) -> u64 {
        self.handle.metadata().expect("an open namespace").ino()
    }

    /// Runs lines of ip(8).
    #[track_caller]
    pub fn ip(&self, lines: &str) -> String {
        output(self.command("ip").args(["-batch", "-"]), lines)
    }

    /// What an ip(8) command shows, as JSON.
    #[track_caller]
    pub fn ip_json(&self, command: &str) -> String {
        let args = ["-json"].into_iter().chain(command.split_whitespace());
        output(self.command("ip").args(args), "")
    }

    /// Runs one tc(8) command.
    #[track_caller]
    pub fn tc(&self, command: &str) -> String {
        output(self.command("tc").args(command.split_whitespace()), "")
    }

    /// Sets what is below /proc/sys/net.
    #[track_caller]
    pub fn set(&self, key: &str, value: &str) {
        self.run(|| fs::write(format!("/proc/sys/net/{key}"), value))
            .unwrap_or_else(|error| panic!("{key}: {error}"));
    }

    /// Reads a file of /proc/net.
    #[track_caller]
    pub fn proc(&self, file: &str) -> String {
        self.run(|| fs::read_to_string(format!("/proc/thread-self/net/{file}")))
            .unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// A counter of /proc/net/snmp, such as `Ip`, `InHdrErrors`.
    #[track_caller]
    pub fn snmp(&self, protocol: &str, counter: &str) -> u64 {
        self.counter("snmp", protocol, counter)
    }

    /// A counter of TCP in /proc/net/netstat, such as `TCPDSACKRecvSegs`.
    #[track_caller]
    pub fn tcp_ext(&self, counter: &str) -> u64 {
        self.counter("netstat", "TcpExt", counter)
    }

    /// A counter of a file that has a line of names above each line of numbers.
    #[track_caller]
    fn counter(&self, file: &str, protocol: &str, counter: &str) -> u64 {
        let text = self.proc(file);
        let mut lines = text
            .lines()
            .filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(':'));
        let (names, values) = (lines.next(), lines.next());
        names
            .zip(values)
            .and_then(|(names, values)| {
                let position = names.split_whitespace().position(|name| name == counter)?;
                values.split_whitespace().nth(position)?.parse().ok()
            })
            .unwrap_or_else(|| panic!("no {protocol} {counter}"))
    }

    /// A counter of /proc/net/snmp6, such as `Udp6InCsumErrors`.
    #[track_caller]
    pub fn snmp6(&self, counter: &str) -> u64 {
        self.proc("snmp6")
            .lines()
            .filter_map(|line| line.split_once(char::is_whitespace))
            .find(|(name, _)| *name == counter)
            .and_then(|(_, value)| value.trim().parse().ok())
            .unwrap_or_else(|| panic!("no {counter}"))
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs a command to its end and returns its stdout; panics unless it succeeds.
#[track_caller]
fn output(command: &mut Command, input: &str) -> String {
    let mut run = || -> io::Result<_> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        child.wait_with_output()
    };
    let output = run().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} {input}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
