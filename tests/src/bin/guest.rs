//! The first process of a virtual machine: makes it a small Linux, runs what it is told
//! and turns it off.
//!
//! `cargo xtask vm` starts it from an initramfs. `/guest.json` says what to do. Three
//! serial ports lead out: `ttyS0` is what the commands print, or the shell's terminal;
//! `ttyS1` the kernel's console; on `ttyS2` it says how far it is, line by line:
//! `ready`, then for each command `exit` and its code; `error` and a reason.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::{fd::AsRawFd as _, unix::fs::symlink},
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use fault_tests::foreign;
use nix::{
    mount::{MsFlags, mount},
    sys::{
        reboot::{RebootMode, reboot},
        termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
        wait::{WaitStatus, wait},
    },
    unistd::{Pid, getpid, sethostname, sync},
};
use serde::Deserialize;

/// What `/guest.json` says.
#[derive(Deserialize)]
struct Job {
    /// Commands to run, one after the other, each with its arguments.
    commands: Vec<Vec<String>>,
    /// Their environment.
    environment: BTreeMap<String, String>,
    /// Rows and columns of the terminal that the commands get, if they get one.
    terminal: Option<[u16; 2]>,
}

fn main() -> ExitCode {
    // Its end would be the kernel's.
    if getpid() != Pid::from_raw(1) {
        eprintln!("error: this is the first process of a virtual machine");
        return ExitCode::FAILURE;
    }
    if let Err(error) = perform() {
        let _ = mount_all();
        let _ = OpenOptions::new()
            .write(true)
            .open("/dev/ttyS2")
            .and_then(|mut control| writeln!(control, "error {error:#}"));
        eprintln!("guest: {error:#}");
    }
    sync();
    let _ = reboot(RebootMode::RB_AUTOBOOT);
    ExitCode::FAILURE
}

fn perform() -> Result<()> {
    mount_all()?;
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        let _ = symlink(target, link);
    }
    sethostname("guest").context("the host's name")?;
    let job: Job = serde_json::from_str(&fs::read_to_string("/guest.json")?)?;
    let mut control = port("/dev/ttyS2")?;
    let data = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/ttyS0")?;
    if job.terminal.is_none() {
        raw(&data)?;
    }
    for arguments in [
        &["ip", "link", "set", "lo", "up"][..],
        &["modprobe", "-a", "virtio_pci", "virtio_net", "tun"],
        &["tc", "qdisc", "add", "dev", "lo", "clsact"],
    ] {
        let status = Command::new(arguments[0])
            .args(&arguments[1..])
            .env_clear()
            .envs(&job.environment)
            .status()
            .with_context(|| arguments[0].to_owned())?;
        ensure!(status.success(), "`{}`: {status}", arguments.join(" "));
    }
    // The kernel patches its own code when the first program comes to a hook and when the
    // last one goes, by way of a breakpoint. A CPU that QEMU emulates may still meet it when
    // nobody expects it any more, and the kernel panics. So no hook is ever empty.
    let _programs = foreign::on_loopback();
    writeln!(control, "ready")?;
    for command in &job.commands {
        let code = run(command, &job, &data)?;
        drain(&data)?;
        writeln!(control, "exit {code}")?;
    }
    drain(&control)
}

fn mount_all() -> Result<()> {
    for (kind, path) in [
        ("devtmpfs", "/dev"),
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
        ("devpts", "/dev/pts"),
        ("tmpfs", "/dev/shm"),
        ("cgroup2", "/sys/fs/cgroup"),
        ("bpf", "/sys/fs/bpf"),
    ] {
        if !Path::new(path).exists() {
            fs::create_dir_all(path)?;
        }
        match mount(Some(kind), path, Some(kind), MsFlags::empty(), None::<&str>) {
            Ok(()) | Err(nix::errno::Errno::EBUSY) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot mount {path}")),
        }
    }
    Ok(())
}

/// A serial port that passes bytes as they are.
fn port(path: &str) -> Result<File> {
    let port = OpenOptions::new()
        .write(true)
        .open(path)
        .with_context(|| path.to_owned())?;
    raw(&port)?;
    Ok(port)
}

fn raw(port: &File) -> Result<()> {
    let mut settings = tcgetattr(port)?;
    cfmakeraw(&mut settings);
    tcsetattr(port, SetArg::TCSANOW, &settings)?;
    Ok(())
}

/// Waits until the other side has it all.
fn drain(port: &File) -> Result<()> {
    Ok(nix::sys::termios::tcdrain(port)?)
}

/// Runs a command and returns its exit code as a shell has it. Orphans come to the
/// first process, so it is the one to wait for all.
fn run(words: &[String], job: &Job, data: &File) -> Result<i32> {
    let (program, arguments) = words.split_first().context("an empty command")?;
    let mut command = match job.terminal {
        None => Command::new(program),
        Some([rows, columns]) => {
            set_size(data, rows, columns)?;
            // A session of its own, with the port as its terminal.
            let mut command = Command::new("setsid");
            command.args(["-c", program]);
            command
        }
    };
    command
        .args(arguments)
        .env_clear()
        .envs(&job.environment)
        .stdin(if job.terminal.is_some() {
            data.try_clone()?.into()
        } else {
            Stdio::null()
        })
        .stdout(data.try_clone()?)
        .stderr(data.try_clone()?);
    let child = match command.spawn() {
        Ok(child) => Pid::from_raw(child.id().cast_signed()),
        Err(error) => {
            let mut data = data;
            writeln!(data, "guest: cannot start `{program}`: {error}")?;
            return Ok(127);
        }
    };
    loop {
        match wait()? {
            WaitStatus::Exited(pid, code) if pid == child => return Ok(code),
            WaitStatus::Signaled(pid, signal, _) if pid == child => return Ok(128 + signal as i32),
            _ => {}
        }
    }
}

fn set_size(terminal: &File, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the kernel reads a `winsize` from the pointer.
    match unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
