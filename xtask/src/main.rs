//! `cargo xtask`: sets up a machine, builds, tests, lints and installs faultctl.

mod apt;
mod bench;
mod cargo;
mod command;
mod count;
mod ebpf;
mod install;
mod linker;
mod lint;
mod run;
mod setup;
mod test;
mod toolchain;
mod verifier;
mod vm;

use std::{env, ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{setup::Purpose, test::Level, toolchain::Wanted};

/// Sets up a machine, builds, tests, lints and installs faultctl
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    /// What compiles the BPF side: `debian`, or the name of a rustup toolchain like
    /// `nightly`; without it, what is found first. Also `FAULTCTL_BPF_TOOLCHAIN`
    #[arg(long, global = true, value_name = "NAME")]
    toolchain: Option<Wanted>,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing
    Setup {
        /// Only what this needs; repeatable
        #[arg(long = "for", value_name = "PURPOSE")]
        purposes: Vec<Purpose>,
    },
    /// Compile the BPF programs to target/bpf
    BuildEbpf,
    /// Set up, build and run faultctl as root
    Run {
        /// faultctl's arguments
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Run the test levels and count
    Test {
        /// All levels without it
        levels: Vec<Level>,
        /// Arguments of the test binaries, like a filter
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Tests, a shell or a command on other kernels, in virtual machines
    #[command(subcommand)]
    Vm(vm::Task),
    /// Check format, lints on both targets, dependencies and spelling
    Lint,
    /// Build a release and install the binary
    Install {
        #[arg(long, default_value = "/usr/local")]
        prefix: PathBuf,
        /// Put in front of the prefix, for packagers
        #[arg(long, value_name = "DIR")]
        destdir: Option<PathBuf>,
    },
    /// Measure what a packet costs, or the delay line beside netem
    Bench {
        /// `netem`: here and in guests, a table for each kernel
        beside: Option<bench::Beside>,
        /// With `netem`: `host`, `6.1`, `6.12` or a directory with a kernel's `boot` and
        /// `lib/modules`; repeatable, the first three without it
        #[arg(long = "kernel", value_name = "KERNEL", requires = "beside")]
        kernels: Vec<bench::Place>,
        /// The benchmark's arguments
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Compare the verifier's instruction counts on each kernel with the stored ones
    Verifier {
        /// Store the counts
        #[arg(long)]
        store: bool,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match perform(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(cli: Cli) -> Result<ExitCode> {
    let wanted = match cli.toolchain {
        Some(wanted) => wanted,
        None => match env::var("FAULTCTL_BPF_TOOLCHAIN") {
            Ok(name) => name.parse()?,
            Err(_) => Wanted::Any,
        },
    };
    match cli.task {
        Task::Setup { purposes } => setup::setup(&purposes, &wanted)?,
        Task::BuildEbpf => ebpf::build(&wanted)?,
        Task::Run { args } => run::faultctl(&args, &wanted)?,
        Task::Test { levels, args } => return test::test(&levels, &args, &wanted),
        Task::Vm(task) => return vm::perform(task, &wanted),
        Task::Lint => lint::lint(&wanted)?,
        Task::Install { prefix, destdir } => {
            install::install(&prefix, destdir.as_deref(), &wanted)?;
        }
        Task::Bench {
            beside: Some(bench::Beside::Netem),
            kernels,
            args,
        } => return Ok(bench::netem(&kernels, &args, &wanted)),
        Task::Bench { args, .. } => bench::bench(&args, &wanted)?,
        Task::Verifier { store } => return verifier::verifier(store, &wanted),
    }
    Ok(ExitCode::SUCCESS)
}
