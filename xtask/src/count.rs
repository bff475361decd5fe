//! What tests came to, by kernel and level.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::AddAssign,
    process::ExitCode,
    time::Instant,
};

use crate::command::say;

/// What tests came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Count {
    /// One that failed.
    pub const FAILED: Self = Self {
        passed: 0,
        failed: 1,
        skipped: 0,
    };

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

/// One level on one kernel, told by the lines that libtest prints.
pub struct Tally {
    kernel: String,
    level: &'static str,
    start: Instant,
    count: Count,
    ran: BTreeSet<String>,
    skipped: BTreeSet<String>,
}

impl Tally {
    /// Nothing yet.
    pub fn begin(kernel: &str, level: &'static str) -> Self {
        Self {
            kernel: kernel.to_owned(),
            level,
            start: Instant::now(),
            count: Count::default(),
            ran: BTreeSet::new(),
            skipped: BTreeSet::new(),
        }
    }

    /// A line of a test binary.
    pub fn line(&mut self, line: &str) {
        if let Some(count) = result(line) {
            self.count += count;
        } else if let Some((name, minimum)) = skip(line) {
            self.skipped.insert(name.to_owned());
            if !older(&self.kernel, minimum) {
                say(&format!(
                    "{name} skipped itself on Linux {}, though it needs only {minimum}",
                    self.kernel
                ));
                self.count += Count::FAILED;
            }
        } else if let Some(name) = passed(line) {
            self.ran.insert(name.to_owned());
        }
    }

    /// The end of a test binary: one that dies without a count is a failed test.
    pub fn exit(&mut self, is_success: bool) {
        if !is_success && self.count.failed == 0 {
            say("a test binary failed without a failed test");
            self.count += Count::FAILED;
        }
    }

    /// More of them.
    pub fn add(&mut self, count: Count) {
        self.count += count;
    }

    /// What libtest counted, less those that skipped themselves: they returned, which
    /// libtest takes for a success.
    fn count(&self) -> Count {
        let skipped = self.skipped.len() as u64;
        Count {
            passed: self.count.passed.saturating_sub(skipped),
            skipped: self.count.skipped + skipped,
            ..self.count
        }
    }
}

/// All levels on all kernels.
#[derive(Default)]
pub struct Table {
    rows: Vec<(String, &'static str, Count, f64)>,
    ran: BTreeSet<String>,
    skipped: BTreeSet<String>,
}

impl Table {
    /// One more row.
    pub fn add(&mut self, tally: Tally) {
        let seconds = tally.start.elapsed().as_secs_f64();
        let count = tally.count();
        self.ran
            .extend(tally.ran.difference(&tally.skipped).cloned());
        self.skipped.extend(tally.skipped);
        self.rows.push((tally.kernel, tally.level, count, seconds));
    }

    /// Prints it, and the sum on a line of its own. `is_filtered` says that a level may
    /// have been left without tests.
    pub fn end(&self, is_filtered: bool) -> ExitCode {
        let mut is_good = true;
        let mut total = Count::default();
        let mut kernels = BTreeMap::<_, Count>::new();
        println!("\nkernel   level      passed   failed  skipped  seconds");
        for (kernel, level, count, seconds) in &self.rows {
            println!("{kernel:<8} {level:<8} {} {seconds:>8.1}", columns(*count));
            if count.all() == 0 && !is_filtered {
                say(&format!("level `{level}` ran no tests on Linux {kernel}"));
                is_good = false;
            }
            total += *count;
            *kernels.entry(kernel).or_default() += *count;
        }
        for (kernel, count) in kernels {
            println!("{kernel:<8} all      {}", columns(count));
        }
        for name in self.skipped.difference(&self.ran) {
            say(&format!("{name} ran on no kernel"));
            is_good &= is_filtered;
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
}

fn columns(count: Count) -> String {
    let Count {
        passed,
        failed,
        skipped,
    } = count;
    format!("{passed:>8} {failed:>8} {skipped:>8}")
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

/// What a test of ours prints: `skip: NAME needs Linux 6.6`.
fn skip(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("skip: ")?.split_once(" needs Linux ")
}

/// The name in libtest's `test NAME ... ok`.
fn passed(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... ok")
}

/// Whether a kernel is older than another, by major and minor version.
fn older(kernel: &str, than: &str) -> bool {
    let numbers = |version: &str| {
        let (major, minor) = version.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    };
    match (numbers(kernel), numbers(than)) {
        (Some(kernel), Some(than)) => kernel < than,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(kernel: &str, lines: &[&str]) -> Tally {
        let mut tally = Tally::begin(kernel, "netns");
        for line in lines {
            tally.line(line);
        }
        tally
    }

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
    fn skip_is_counted_below_its_minimum_and_a_failure_from_there_on() {
        let lines = [
            "skip: loss::a needs Linux 6.6",
            "test loss::a ... ok",
            "test loss::b ... ok",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        ];
        let old = tally("6.1", &lines).count();
        assert_eq!((old.passed, old.failed, old.skipped), (1, 0, 1));
        let new = tally("6.12", &lines).count();
        assert_eq!((new.passed, new.failed, new.skipped), (1, 1, 1));
    }

    #[test]
    fn test_that_ran_on_no_kernel_is_found() {
        let skip = ["skip: a needs Linux 6.6", "test a ... ok"];
        let mut table = Table::default();
        table.add(tally("6.1", &skip));
        let missing = |table: &Table| table.skipped.difference(&table.ran).count();
        assert_eq!(missing(&table), 1);
        table.add(tally("6.12", &["test a ... ok"]));
        assert_eq!(missing(&table), 0);
    }

    #[test]
    fn death_without_a_count_is_a_failure() {
        let mut dead = tally("6.1", &[]);
        dead.exit(false);
        assert_eq!(dead.count(), Count::FAILED);
        let mut alive = tally("6.1", &[]);
        alive.exit(true);
        assert_eq!(alive.count(), Count::default());
    }
}
