//! Guests: tests and a shell on other kernels.

mod files;
mod initramfs;
mod kernel;
mod network;
mod qemu;
mod run;

use std::{
    ffi::OsString,
    fs,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};

use crate::{
    cargo::{self, Executable, cargo},
    command::{self, failure, say},
    count::{Count, Table, Tally},
    ebpf, setup,
    test::Level,
    toolchain::Wanted,
};
use kernel::Kernel;
pub use kernel::Source;
use qemu::{Accelerator, Machine};
use run::Run;

/// What to do in a guest.
#[derive(Subcommand)]
pub enum Task {
    /// Run the verdict and netns levels on other kernels
    Test {
        /// `6.1`, `6.12`, or a directory with a kernel's `boot` and `lib/modules`;
        /// repeatable, both series without it
        #[arg(long = "kernel", value_name = "KERNEL")]
        kernels: Vec<Source>,
        #[command(flatten)]
        size: Size,
        /// Arguments of the test binaries, like a filter
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// A shell with faultctl, ip, tc, ping, tcpdump, iperf3 and curl
    Shell(Guest),
    /// One command; its exit code is ours
    Run {
        #[command(flatten)]
        guest: Guest,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// Which guest.
#[derive(Args)]
pub struct Guest {
    /// `6.1`, `6.12`, or a directory with a kernel's `boot` and `lib/modules`
    #[arg(long, value_name = "KERNEL", default_value = "6.12")]
    kernel: Source,
    #[command(flatten)]
    size: Size,
}

/// How large it is.
#[derive(Args, Clone, Copy)]
pub struct Size {
    /// Its memory
    #[arg(long, value_name = "MIB", default_value_t = Size::default().memory)]
    memory: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self { memory: 2048 }
    }
}

/// Levels that guests run.
const LEVELS: [Level; 2] = [Level::Verdict, Level::Netns];
/// Does it.
pub fn perform(task: Task, wanted: &Wanted) -> Result<ExitCode> {
    match task {
        Task::Test {
            kernels,
            size,
            args,
        } => {
            let mut table = Table::default();
            test(&kernels, size, &args, wanted, &mut table)?;
            Ok(table.end(!args.is_empty()))
        }
        Task::Shell(guest) => {
            let command = ["bash", "-c", SHELL].map(str::to_owned);
            interact(&guest, &command, true, wanted)
        }
        Task::Run { guest, command } => {
            let mut words = ["bash", "-c", COMMAND, "bash"].map(str::to_owned).to_vec();
            for word in command {
                words.push(word.into_string().ok().context("a word is not UTF-8")?);
            }
            interact(&guest, &words, false, wanted)
        }
    }
}

/// The guest's devices get their addresses first.
const COMMAND: &str = ". /etc/network && exec \"$@\"";
const SHELL: &str = ". /etc/network && cat /etc/motd && exec bash -i";
/// Runs the levels on each kernel and adds to the table what they came to.
pub fn test(
    kernels: &[Source],
    size: Size,
    arguments: &[OsString],
    wanted: &Wanted,
    table: &mut Table,
) -> Result<()> {
    setup::test()?;
    ebpf::build(wanted)?;
    let every = Source::every();
    let kernels = if kernels.is_empty() { &every } else { kernels };
    let targets = LEVELS.iter().flat_map(|level| ["--test", level.name()]);
    let tests = cargo::executables(cargo("test").arg("--no-run").args(targets))?;
    for source in kernels {
        let kernel = kernel::ensure(source)?;
        let run = Run::new()?;
        let accelerator = accelerator(&kernel, &run, size)?;
        for level in LEVELS {
            let version = kernel.version();
            let mut tally = Tally::begin(&version, level.name());
            for test in tests.iter().filter(|test| level.has(test)) {
                say(&format!(
                    "{} tests on Linux {}",
                    level.name(),
                    kernel.release
                ));
                let outcome = run_test(
                    test,
                    &kernel,
                    &run,
                    accelerator,
                    size,
                    arguments,
                    &mut tally,
                );
                if let Err(error) = outcome {
                    say(&format!("{error:#}"));
                    tally.add(Count::FAILED);
                }
            }
            table.add(tally);
        }
    }
    Ok(())
}

fn run_test(
    test: &Executable,
    kernel: &Kernel,
    run: &Run,
    accelerator: Accelerator,
    size: Size,
    arguments: &[OsString],
    tally: &mut Tally,
) -> Result<()> {
    // Two threads, or libtest prints a test's name before what the test prints.
    // Guests have no SSH server, and what finds the operator's connection is the host's
    // to test; that it is spared, the verdict level tests here too.
    let mut words = ["/bin/tests", "--test-threads=4", "--skip", "ssh::"]
        .map(str::to_owned)
        .to_vec();
    for argument in arguments {
        words.push(
            argument
                .to_str()
                .context("an argument is not UTF-8")?
                .to_owned(),
        );
    }
    files::write(kernel, run, &words, None, Some(&test.path))?;
    let machine = Machine {
        kernel,
        run,
        accelerator,
        memory: size.memory,
    };
    let version = kernel.version();
    let code = machine.run(|line| {
        println!("{version}: {line}");
        tally.line(line);
    })?;
    tally.exit(code == 0);
    Ok(())
}

/// Runs the benchmark with these arguments, and returns its exit code.
pub fn bench(source: &Source, arguments: &[String], wanted: &Wanted) -> Result<i32> {
    setup::test()?;
    ebpf::build(wanted)?;
    let kernel = kernel::ensure(source)?;
    let run = Run::new()?;
    let size = Size::default();
    let accelerator = accelerator(&kernel, &run, size)?;
    let words = [&["tests".to_owned()], arguments].concat();
    let bench = cargo::binary("bench", "release")?;
    files::write(&kernel, &run, &words, None, Some(&bench))?;
    let machine = Machine {
        kernel: &kernel,
        run: &run,
        accelerator,
        memory: size.memory,
    };
    machine.run(|line| println!("{line}"))
}

/// What the binary `verifier` prints on each kernel.
pub fn verifier(wanted: &Wanted) -> Result<Vec<(String, String)>> {
    setup::test()?;
    ebpf::build(wanted)?;
    let mut texts = Vec::new();
    for source in Source::every() {
        let kernel = kernel::ensure(&source)?;
        let run = Run::new()?;
        let size = Size::default();
        let accelerator = accelerator(&kernel, &run, size)?;
        files::write(&kernel, &run, &["verifier".to_owned()], None, None)?;
        let machine = Machine {
            kernel: &kernel,
            run: &run,
            accelerator,
            memory: size.memory,
        };
        let mut text = String::new();
        let code = machine.run(|line| text += line)?;
        ensure!(
            code == 0,
            "`verifier` failed on Linux {}: {text}",
            kernel.release
        );
        texts.push((kernel.version(), text));
    }
    Ok(texts)
}

fn interact(
    guest: &Guest,
    command: &[String],
    is_shell: bool,
    wanted: &Wanted,
) -> Result<ExitCode> {
    setup::test()?;
    ebpf::build(wanted)?;
    let kernel = kernel::ensure(&guest.kernel)?;
    let run = Run::new()?;
    let accelerator = accelerator(&kernel, &run, guest.size)?;
    let terminal = is_shell.then(terminal_size);
    files::write(&kernel, &run, command, terminal, None)?;
    let machine = Machine {
        kernel: &kernel,
        run: &run,
        accelerator,
        memory: guest.size.memory,
    };
    let code = if is_shell {
        say("booting; the shell comes in a few seconds");
        machine.attend()?
    } else {
        machine.run(|line| println!("{line}"))?
    };
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// KVM where a guest really boots: a device alone does not tell.
fn accelerator(kernel: &Kernel, run: &Run, size: Size) -> Result<Accelerator> {
    if Accelerator::kvm_is_there() {
        files::write(kernel, run, &[], None, None)?;
        let machine = Machine {
            kernel,
            run,
            accelerator: Accelerator::Kvm,
            memory: size.memory,
        };
        if machine.boots() {
            return Ok(Accelerator::Kvm);
        }
        say("/dev/kvm is there but boots no guest: QEMU emulates the processor");
    } else {
        say("no /dev/kvm: QEMU emulates the processor");
    }
    Ok(Accelerator::Emulation)
}

/// Rows and columns of our terminal.
fn terminal_size() -> [u16; 2] {
    let usual = [24, 80];
    if !std::io::stdin().is_terminal() {
        return usual;
    }
    let text = command::probe(Command::new("stty").arg("size").stdin(Stdio::inherit()));
    let numbers = text.and_then(|text| {
        let (rows, columns) = text.trim().split_once(' ')?;
        Some([rows.parse().ok()?, columns.parse().ok()?])
    });
    numbers.unwrap_or(usual)
}

/// Where guests have their files.
pub fn directory() -> PathBuf {
    command::root().join("target/vm")
}

/// Fails where a disk is about to be full.
pub fn require_room(at: &Path, bytes: u64) -> Result<()> {
    fs::create_dir_all(at)?;
    let stat = rustix::fs::statvfs(at)?;
    let free = stat.f_bavail * stat.f_frsize;
    if free < bytes {
        return Err(failure(
            &format!(
                "{} MB are free at {}, guests need {}",
                free >> 20,
                at.display(),
                bytes >> 20
            ),
            "make room, or build elsewhere",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disk_is_said_with_what_is_needed() {
        let at = std::env::temp_dir();
        assert!(require_room(&at, 0).is_ok());
        let text = require_room(&at, u64::MAX).unwrap_err().to_string();
        assert!(text.contains(" MB are free at "), "{text}");
        assert!(text.contains("\nhint: "), "{text}");
    }
}
