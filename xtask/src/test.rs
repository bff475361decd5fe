//! The test levels, their output as it comes, and the count.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::{
    cargo::{self, Executable, Kind, cargo},
    command::{self, say},
    count::{Table, Tally},
    ebpf, run, setup,
    toolchain::Wanted,
    vm::{self, Size},
};

/// A level of tests, from pure functions to namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Level {
    /// Unit, property and documentation tests
    Unit,
    /// What the command line answers
    Cli,
    /// The loaded program under `BPF_PROG_TEST_RUN`; root
    Verdict,
    /// faultctl on interfaces of its own; root
    Netns,
    /// The two levels before on other kernels, in virtual machines
    Vm,
}

impl Level {
    /// Its name, which is that of its test binary.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Cli => "cli",
            Self::Verdict => "verdict",
            Self::Netns => "netns",
            Self::Vm => "vm",
        }
    }

    /// Whether it loads BPF programs.
    fn needs_kernel(self) -> bool {
        matches!(self, Self::Verdict | Self::Netns)
    }

    /// Whether a test belongs to it.
    pub fn has(self, test: &Executable) -> bool {
        if self == Self::Unit {
            test.kind == Kind::UnitTest
        } else {
            test.kind == Kind::IntegrationTest && test.name == self.name()
        }
    }
}

/// Runs the levels, or all of them, and ends with the count on a line of its own.
pub fn test(levels: &[Level], arguments: &[OsString], wanted: &Wanted) -> Result<ExitCode> {
    let levels = match levels {
        [] => Level::value_variants(),
        some => some,
    };
    let own: Vec<_> = levels
        .iter()
        .copied()
        .filter(|level| *level != Level::Vm)
        .collect();
    let mut table = Table::default();
    if own.iter().any(|level| level.needs_kernel()) {
        setup::test()?;
        ebpf::build(wanted)?;
    }
    if !own.is_empty() {
        let faultctl = cargo::binary("faultctl", "dev")?;
        let tests = cargo::executables(cargo("test").arg("--no-run").args(targets(&own)))?;
        for &level in &own {
            table.add(run_level(level, &tests, &faultctl, arguments)?);
        }
    }
    if levels.contains(&Level::Vm) {
        vm::test(&[], Size::default(), arguments, wanted, &mut table)?;
    }
    Ok(table.end(!arguments.is_empty()))
}

/// Which targets cargo builds: no more than the chosen levels.
fn targets(levels: &[Level]) -> Vec<&'static str> {
    let of = |level: &Level| match level {
        Level::Unit => ["--lib", "--bins"],
        other => ["--test", other.name()],
    };
    levels.iter().flat_map(of).collect()
}

fn run_level(
    level: Level,
    tests: &[Executable],
    faultctl: &Path,
    arguments: &[OsString],
) -> Result<Tally> {
    let mut environment = run::environment();
    environment.push(("FAULTCTL_BIN", faultctl.into()));
    let mut tally = Tally::begin(&command::own_kernel(), level.name());
    for test in tests.iter().filter(|test| level.has(test)) {
        say(&format!("{} tests: {}", level.name(), test.name));
        let mut environment = environment.clone();
        // As `cargo test` has it.
        environment.push(("CARGO_MANIFEST_DIR", test.package.clone().into()));
        let mut command = if level.needs_kernel() {
            command::as_root(&test.path, &environment)?
        } else {
            let mut command = Command::new(&test.path);
            command.envs(environment);
            command
        };
        // That one needs a guest's network cards.
        let skip = ["--skip", "virtio::"];
        command
            .current_dir(&test.package)
            .args(skip)
            .args(arguments);
        stream(&mut command, &mut tally)?;
    }
    if level == Level::Unit {
        say("documentation tests");
        let mut command = cargo("test");
        command.args(["--locked", "--quiet", "--doc", "--"]);
        stream(command.args(arguments), &mut tally)?;
    }
    Ok(tally)
}

/// Passes a test binary's output on and counts.
fn stream(command: &mut Command, tally: &mut Tally) -> Result<()> {
    let hint = "see the messages above";
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| command::not_started(command, &error, hint))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("a test's output ends early")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            tally.line(&line);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        say(&format!("`{}`: {status}", command::describe(command)));
    }
    tally.exit(status.success());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_levels_build_only_their_own() {
        assert_eq!(
            targets(&[Level::Unit, Level::Netns]),
            ["--lib", "--bins", "--test", "netns"]
        );
    }

    #[test]
    fn test_belongs_to_the_level_of_its_name() {
        let test = |name: &str, kind| Executable {
            name: name.to_owned(),
            kind,
            package: "/".into(),
            path: "/".into(),
        };
        assert!(Level::Cli.has(&test("cli", Kind::IntegrationTest)));
        assert!(!Level::Unit.has(&test("cli", Kind::IntegrationTest)));
        assert!(!Level::Cli.has(&test("cli", Kind::UnitTest)));
        // A binary that an integration test may call is none.
        assert!(!Level::Unit.has(&test("cli", Kind::Binary)));
        assert!(Level::Unit.has(&test("fault_common", Kind::UnitTest)));
    }
}
