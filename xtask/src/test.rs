//! The test levels, their output as it comes, and the count.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{BufRead as _, BufReader},
    ops::AddAssign,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::{
    cargo::{self, Executable, cargo},
    command::{self, say},
    ebpf, run, setup,
    toolchain::Wanted,
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
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Cli => "cli",
            Self::Verdict => "verdict",
            Self::Netns => "netns",
        }
    }

    /// Whether it loads BPF programs.
    fn needs_kernel(self) -> bool {
        matches!(self, Self::Verdict | Self::Netns)
    }

    fn has(self, test: &Executable) -> bool {
        if self == Self::Unit {
            !test.is_integration_test
        } else {
            test.is_integration_test && test.name == self.name()
        }
    }
}

/// What a level's tests came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Count {
    fn all(self) -> u64 {
        self.passed + self.failed + self.skipped
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Runs the levels, or all of them, and ends with the count on a line of its own.
pub fn test(levels: &[Level], arguments: &[OsString], wanted: &Wanted) -> Result<ExitCode> {
    let levels = match levels {
        [] => Level::value_variants(),
        some => some,
    };
    if levels.iter().any(|level| level.needs_kernel()) {
        setup::test()?;
        ebpf::build(wanted)?;
    }
    let faultctl = cargo::binary("faultctl", "dev")?;
    let tests = cargo::executables(cargo("test").arg("--no-run").args(targets(levels)))?;

    let mut counts = BTreeMap::new();
    for &level in levels {
        let start = Instant::now();
        let count = run_level(level, &tests, &faultctl, arguments)?;
        counts.insert(level, (count, start.elapsed()));
    }
    Ok(summary(&counts, !arguments.is_empty()))
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
) -> Result<Count> {
    let mut environment = run::environment();
    environment.push(("FAULTCTL_BIN", faultctl.into()));
    let mut count = Count::default();
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
        command.current_dir(&test.package).args(arguments);
        count += stream(&mut command)?;
    }
    if level == Level::Unit {
        say("documentation tests");
        let mut command = cargo("test");
        command.args(["--locked", "--quiet", "--doc", "--"]);
        count += stream(command.args(arguments))?;
    }
    Ok(count)
}

/// Passes a test binary's output on and counts. One that dies without a count is a
/// failed test.
fn stream(command: &mut Command) -> Result<Count> {
    let hint = "see the messages above";
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| command::not_started(command, &error, hint))?;
    let mut count = Count::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("a test's output ends early")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            count += result(&line).unwrap_or_default();
        }
    }
    let status = child.wait()?;
    if !status.success() && count.failed == 0 {
        say(&format!(
            "`{}` failed: {status}",
            command::describe(command)
        ));
        count.failed += 1;
    }
    Ok(count)
}

/// The count in libtest's `test result: ok. 2 passed; 0 failed; 1 ignored; ..`.
fn result(line: &str) -> Option<Count> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |word: &str| {
        counts
            .split("; ")
            .find_map(|part| part.strip_suffix(word)?.trim().parse().ok())
    };
    Some(Count {
        passed: number("passed")?,
        failed: number("failed")?,
        skipped: number("ignored")?,
    })
}

fn summary(counts: &BTreeMap<Level, (Count, std::time::Duration)>, is_filtered: bool) -> ExitCode {
    let mut total = Count::default();
    let mut is_good = true;
    println!("\nlevel      passed   failed  skipped  seconds");
    for (level, (count, time)) in counts {
        let Count {
            passed,
            failed,
            skipped,
        } = count;
        let (name, seconds) = (level.name(), time.as_secs_f64());
        println!("{name:<8} {passed:>8} {failed:>8} {skipped:>8} {seconds:>8.1}");
        if count.all() == 0 && !is_filtered {
            say(&format!("level `{name}` ran no tests"));
            is_good = false;
        }
        total += *count;
    }
    if total.all() == 0 {
        say("no tests ran");
        is_good = false;
    }
    println!(
        "{} passed, {} failed, {} skipped",
        total.passed, total.failed, total.skipped
    );
    if is_good && total.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtests_result_is_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 4 ignored; 0 measured; \
            5 filtered out; finished in 0.52s";
        let count = Count {
            passed: 12,
            failed: 3,
            skipped: 4,
        };
        assert_eq!(result(line), Some(count));
        assert_eq!(count.all(), 19);
    }

    #[test]
    fn other_lines_are_no_result() {
        for line in [
            "test decide::tests::miss ... ok",
            "running 3 tests",
            "test result: ok. some passed",
            "",
        ] {
            assert_eq!(result(line), None);
        }
    }

    #[test]
    fn chosen_levels_build_only_their_own() {
        assert_eq!(
            targets(&[Level::Unit, Level::Netns]),
            ["--lib", "--bins", "--test", "netns"]
        );
    }

    #[test]
    fn death_without_a_count_is_a_failure() {
        let count = stream(&mut Command::new("false")).unwrap();
        assert_eq!(count.failed, 1);
        assert_eq!(stream(&mut Command::new("true")).unwrap(), Count::default());
    }

    #[test]
    fn test_belongs_to_the_level_of_its_name() {
        let test = |name: &str, is_integration_test| Executable {
            name: name.to_owned(),
            is_integration_test,
            package: "/".into(),
            path: "/".into(),
        };
        assert!(Level::Cli.has(&test("cli", true)));
        assert!(!Level::Unit.has(&test("cli", true)));
        assert!(!Level::Cli.has(&test("cli", false)));
        assert!(Level::Unit.has(&test("fault_common", false)));
    }
}
