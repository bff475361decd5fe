//! What faultctl costs, beside its peers in the same run. `cargo xtask bench` builds it and
//! runs it as root.

mod load;
mod netem;
mod programs;
mod reaction;
mod rows;
mod traffic;

use std::{fs, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use rows::{HEAD, Row};

/// What faultctl costs
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    beside: Option<Beside>,
    /// Parts of the table; all of them if none is named
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Runs of a program a measurement
    #[arg(long, default_value_t = 1_000_000)]
    repeat: u32,
    /// Measurements of each case, of which the median is told
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

#[derive(Subcommand)]
enum Beside {
    Netem(netem::Options),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The programs, by `BPF_PROG_TEST_RUN`
    Programs,
    /// Time and memory to load many destinations
    Load,
    /// A packet of real traffic, beside tc, iptables and nftables
    Traffic,
    /// From start to the first packet lost, and from Ctrl-C to the last
    Reaction,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    println!("{}\n\n{HEAD}", machine());
    let mut missed = 0;
    let mut tell = |rows: &[Row]| {
        for row in rows {
            println!("{}", row.markdown());
        }
        missed += rows.iter().filter(|row| !row.is_good()).count();
    };
    match &options.beside {
        Some(Beside::Netem(options)) => netem::run(options, tell),
        None => {
            let parts = match &options.parts[..] {
                [] => Part::value_variants(),
                some => some,
            };
            for part in parts {
                tell(&match part {
                    Part::Programs => programs::rows(options.repeat, options.rounds)?,
                    Part::Load => load::rows(options.rounds)?,
                    Part::Traffic => traffic::rows(options.rounds)?,
                    Part::Reaction => reaction::rows(options.rounds),
                });
            }
        }
    }
    if missed > 0 {
        eprintln!("{missed} aims were missed: is the machine quiet?");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// The kernel, the processor and its caches, and how busy the machine is with other things.
fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("?", |(_, value)| value);
    let cpus = info
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let caches: Vec<_> = (0..4)
        .filter_map(|n| {
            let dir = format!("/sys/devices/system/cpu/cpu0/cache/index{n}");
            let level = fs::read_to_string(format!("{dir}/level")).ok()?;
            let size = fs::read_to_string(format!("{dir}/size")).ok()?;
            Some(format!("L{} {}", level.trim(), size.trim()))
        })
        .collect();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "Linux {}, {cpus} CPUs {model} ({}), load {load} at the start",
        kernel.trim(),
        caches.join(", ")
    )
}
