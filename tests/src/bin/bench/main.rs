//! What faultctl costs, beside its peers in the same run. `cargo xtask bench` builds it and
//! runs it as root.

mod programs;
mod rows;

use std::fs;

use anyhow::Result;
use clap::Parser;

use rows::{Aim, Row};

/// What faultctl costs
#[derive(Parser)]
struct Options {
    /// Runs of a program a measurement
    #[arg(long, default_value_t = 1_000_000)]
    repeat: u32,
    /// Measurements a case, of which the median is told
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

fn main() -> Result<()> {
    let options = Options::parse();
    println!("{}", machine());
    let rows = programs::rows(options.repeat, options.rounds)?;
    println!("| what | entries | ns | own ns | to peer | aim |");
    for row in &rows {
        let show =
            |number: Option<f64>, digits| number.map_or("".into(), |n| format!("{n:.digits$}"));
        let aim = match row.aim {
            Some(Aim::Ratio(most)) => format!("{most}"),
            Some(Aim::Nanos(most)) => format!("{most} ns"),
            None => String::new(),
        };
        println!(
            "| {} | {} | {:.0} | {} | {} | {aim} |",
            row.what,
            row.entries,
            row.nanos,
            show(row.own, 0),
            show(row.peer, 2)
        );
    }
    Ok(())
}

/// The kernel, the processor and its caches.
fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("?", |(_, value)| value);
    let caches: Vec<_> = (0..4)
        .filter_map(|n| {
            let dir = format!("/sys/devices/system/cpu/cpu0/cache/index{n}");
            let level = fs::read_to_string(format!("{dir}/level")).ok()?;
            let size = fs::read_to_string(format!("{dir}/size")).ok()?;
            Some(format!("L{} {}", level.trim(), size.trim()))
        })
        .collect();
    format!("Linux {}, {model} ({})", kernel.trim(), caches.join(", "))
}
