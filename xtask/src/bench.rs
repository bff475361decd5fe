//! The benchmark, on this machine and in guests.

use std::{
    convert::Infallible,
    ffi::OsString,
    process::{Command, ExitCode},
    str::FromStr,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::{
    cargo,
    command::{self, not_started, say},
    ebpf, run,
    toolchain::Wanted,
    vm::{self, Source},
};

/// What the delay line is measured beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Beside {
    /// The kernel's own
    Netem,
}

/// Where it is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the kernel that runs here
    Host,
    /// In a guest
    Guest(Source),
}

impl FromStr for Place {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        if text == "host" {
            return Ok(Self::Host);
        }
        text.parse().map(Self::Guest)
    }
}

/// What a packet costs.
pub fn bench(arguments: &[OsString], wanted: &Wanted) -> Result<()> {
    match command::exec(here(arguments, wanted)?)? {}
}

/// The delay line beside netem, at each place. Fails if an aim was missed at one of them.
pub fn netem(places: &[Place], arguments: &[OsString], wanted: &Wanted) -> ExitCode {
    let guests = Source::every().into_iter().map(Place::Guest);
    let every: Vec<_> = [Place::Host].into_iter().chain(guests).collect();
    let places = if places.is_empty() { &every } else { places };
    let arguments = [&["netem".into()], arguments].concat();
    let mut failed = false;
    for place in places {
        // Where one kernel cannot be measured, the others still can.
        match at(place, &arguments, wanted) {
            Ok(good) => failed |= !good,
            Err(error) => {
                say(&format!("{error:#}"));
                failed = true;
            }
        }
        println!();
    }
    if failed {
        say("aims were missed, or could not be measured: see the tables");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Whether all aims were met there.
fn at(place: &Place, arguments: &[OsString], wanted: &Wanted) -> Result<bool> {
    match place {
        Place::Host => {
            let mut command = here(arguments, wanted)?;
            let status = command
                .status()
                .map_err(|error| not_started(&command, &error, "it was built just now"))?;
            Ok(status.success())
        }
        Place::Guest(source) => Ok(vm::bench(source, &words(arguments)?, wanted)? == 0),
    }
}

/// It on this machine, as root.
fn here(arguments: &[OsString], wanted: &Wanted) -> Result<Command> {
    ebpf::build(wanted)?;
    let faultctl = cargo::binary("faultctl", "release")?;
    let bench = cargo::binary("bench", "release")?;
    let mut environment = run::environment();
    environment.push(("FAULTCTL_BIN", faultctl.into()));
    let mut command = command::as_root(&bench, &environment)?;
    command.args(arguments);
    Ok(command)
}

fn words(arguments: &[OsString]) -> Result<Vec<String>> {
    let word = |argument: &OsString| argument.to_str().map(str::to_owned);
    let words: Option<_> = arguments.iter().map(word).collect();
    words.context("an argument is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_the_host_or_a_guests_kernel() {
        assert_eq!("host".parse(), Ok(Place::Host));
        let kernel = "6.1".parse().unwrap_or_else(|never| match never {});
        assert_eq!("6.1".parse(), Ok(Place::Guest(kernel)));
    }
}
