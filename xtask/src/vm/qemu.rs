//! Booting a guest and hearing how it goes.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use super::{kernel::Kernel, network, run::Run};
use crate::command::{self, failure};

/// Emulated, on a busy machine too.
const BOOT: Duration = Duration::from_mins(5);
/// The longest test is silent for a few minutes when it is emulated.
const SILENCE: Duration = Duration::from_mins(10);
/// How many lines of the console a failure shows.
const TAIL: usize = 80;

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor
    Kvm,
    /// QEMU, slowly
    Emulation,
}

/// A virtual machine to be booted.
pub struct Machine<'a> {
    /// Its kernel
    pub kernel: &'a Kernel,
    /// Its initramfs and what it tells us
    pub run: &'a Run,
    /// What runs it
    pub accelerator: Accelerator,
    /// MiB
    pub memory: u32,
}

impl Machine<'_> {
    /// Boots it and passes its output on, line by line. Returns the exit code of its
    /// last command.
    pub fn run(&self, mut line: impl FnMut(&str)) -> Result<i32> {
        let mut qemu = self.spawn(Stdio::null(), Stdio::piped(), true)?;
        let stdout = qemu.stdout.take().context("a pipe")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut heard = Instant::now();
        let mut is_ready = false;
        loop {
            match lines.recv_timeout(Duration::from_millis(200)) {
                Ok(text) => {
                    heard = Instant::now();
                    line(text.trim_end_matches('\r'));
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    if !is_ready && self.run.control().contains("ready\n") {
                        is_ready = true;
                        heard = Instant::now();
                    }
                    let bound = if is_ready { SILENCE } else { BOOT };
                    if heard.elapsed() > bound {
                        end(&mut qemu);
                        let seconds = bound.as_secs();
                        return Err(self.failure(&format!("silent for {seconds} s")));
                    }
                }
            }
        }
        qemu.wait()?;
        self.verdict()
    }

    /// Boots it on this terminal, and returns the exit code of its last command.
    pub fn attend(&self) -> Result<i32> {
        let mut qemu = self.spawn(Stdio::inherit(), Stdio::inherit(), false)?;
        qemu.wait()?;
        self.verdict()
    }

    /// Whether such a guest gets as far as its first process.
    pub fn boots(&self) -> bool {
        let _ = self.run(|_| ());
        self.run.control().contains("ready\n")
    }

    fn spawn(&self, stdin: Stdio, stdout: Stdio, signals: bool) -> Result<Child> {
        self.run.clear()?;
        let mut command = self.command(signals)?;
        let mut qemu = command
            .stdin(stdin)
            .stdout(stdout)
            .spawn()
            .map_err(|error| {
                command::not_started(&command, &error, "util-linux has setpriv and unshare")
            })?;
        if let Err(error) = network::join(&mut qemu) {
            end(&mut qemu);
            return Err(error);
        }
        Ok(qemu)
    }

    /// QEMU dies with us, and its network is nobody else's.
    fn command(&self, signals: bool) -> Result<Command> {
        let qemu = command::find("qemu-system-x86_64").ok_or_else(|| {
            failure(
                "no `qemu-system-x86_64`",
                "`cargo xtask setup --for test` installs it on Debian",
            )
        })?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--net"]);
        if !command::is_root() {
            command.arg("--map-root-user");
        }
        let signals = if signals { "on" } else { "off" };
        let (accelerator, processor) = match self.accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            Accelerator::Emulation => ("tcg,thread=multi", "max"),
        };
        command
            .arg(qemu)
            .args(["-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-machine", "q35"])
            .args(["-accel", accelerator, "-cpu", processor, "-smp", "2"])
            .args(["-m", &self.memory.to_string()])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(self.run.initramfs())
            .args([
                "-append",
                "console=ttyS1 panic=-1 oops=panic rdinit=/bin/guest mitigations=off rcupdate.rcu_expedited=1 nokaslr",
            ])
            .args(["-device", "virtio-rng-pci"])
            .args(["-chardev", &format!("stdio,id=data,signal={signals}")])
            .args(["-serial", "chardev:data"])
            .args([
                "-serial",
                &format!("file:{}", self.run.console_at().display()),
            ])
            .args([
                "-serial",
                &format!("file:{}", self.run.control_at().display()),
            ])
            .args(network::devices());
        Ok(command)
    }

    /// What it said on its last port.
    fn verdict(&self) -> Result<i32> {
        let control = self.run.control();
        let last = control.lines().last().unwrap_or_default();
        if let Some(code) = last.strip_prefix("exit ") {
            let code = code.trim().parse().context("an exit code")?;
            return Ok(code);
        }
        Err(match last.strip_prefix("error ") {
            Some(reason) => self.failure(reason),
            None => self.failure("it ended without a verdict"),
        })
    }

    /// With what the console says about it.
    fn failure(&self, what: &str) -> anyhow::Error {
        let console = self.run.console();
        let lines: Vec<_> = console.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        let release = &self.kernel.release;
        let cause = cause(&console).map_or_else(String::new, |cause| format!(": {cause}"));
        anyhow!("the guest with Linux {release} failed, {what}{cause}\nits console ends:\n{tail}")
    }
}

/// What the kernel itself calls the cause.
fn cause(console: &str) -> Option<&'static str> {
    const CAUSES: &[(&str, &str)] = &[
        (
            "Initramfs unpacking failed",
            "its files don't fit into its memory; give it more with `--memory`",
        ),
        (
            "Out of memory",
            "it ran out of memory; give it more with `--memory`",
        ),
        ("Kernel panic", "its kernel panicked"),
    ];
    CAUSES
        .iter()
        .find(|(sign, _)| console.contains(sign))
        .map(|(_, cause)| *cause)
}

fn end(qemu: &mut Child) {
    let _ = qemu.kill();
    let _ = qemu.wait();
}

impl Accelerator {
    /// What can be tried: a device that is there may still not boot a guest.
    pub fn kvm_is_there() -> bool {
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(PathBuf::from("/dev/kvm"))
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_cause_is_named() {
        let console = "Out of memory: Killed process 1\nKernel panic - not syncing";
        assert!(cause(console).unwrap().contains("--memory"));
        assert_eq!(cause("all is well"), None);
    }
}
