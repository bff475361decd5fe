//! What each purpose needs. All of it is looked for first, so a second run does nothing.

use anyhow::Result;
use clap::ValueEnum;

use crate::{
    apt,
    command::say,
    linker, lint,
    toolchain::{self, Task, Wanted},
};

/// What a machine is set up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Purpose {
    /// The BPF programs
    Build,
    /// Programs that the tests call
    Test,
    /// Clippy for BPF, cargo-deny, typos
    Lint,
    /// `build`, what faultctl is measured beside, and guests
    Bench,
}

/// Sets up for the purposes, or for all of them.
pub fn setup(purposes: &[Purpose], wanted: &Wanted) -> Result<()> {
    let purposes = match purposes {
        [] => Purpose::value_variants(),
        some => some,
    };
    for purpose in purposes {
        match purpose {
            Purpose::Build => build(wanted)?,
            Purpose::Bench => {
                build(wanted)?;
                apt::ensure(apt::BENCH)?;
                // Guests have of this machine what tests have.
                test()?;
            }
            Purpose::Test => {
                build(wanted)?;
                test()?;
            }
            Purpose::Lint => {
                let toolchain = toolchain::ensure(wanted, Task::Clippy)?;
                say(&format!("lints of the BPF programs: {toolchain}"));
                lint::ensure_tools()?;
            }
        }
        let name = purpose.to_possible_value();
        let name = name.as_ref().map_or("", |value| value.get_name());
        say(&format!("ready for {name}"));
    }
    Ok(())
}

/// Programs that the tests call, and virtual machines.
pub fn test() -> Result<()> {
    apt::ensure(apt::TESTS)?;
    apt::ensure(apt::GUESTS)?;
    apt::extract(&apt::PROMTOOL, &[])?;
    apt::extract(&apt::SSHD, apt::SSHD_LIBRARIES)
}

fn build(wanted: &Wanted) -> Result<()> {
    let toolchain = toolchain::ensure(wanted, Task::Build)?;
    say(&format!("BPF compiler: {toolchain}"));
    let linker = linker::ensure()?;
    say(&format!("BPF linker: {}", linker.display()));
    Ok(())
}
