//! The verifier's work on each program, compared with what is stored for the kernel.
//! `cargo xtask verifier` runs it as root; `--store` stores.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result};
use aya::programs::SchedClassifier;
use clap::Parser;
use fault_common::{layout::Direction, packet::LinkLayer};
use fault_user::{
    attach,
    maps::{Capacity, Loaded},
    object::Object,
};
use serde::{Deserialize, Serialize};

/// Instructions that the verifier walks for each program
#[derive(Parser)]
struct Options {
    /// Write this kernel's counts to docs/verifier.json
    #[arg(long)]
    store: bool,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Cost {
    /// Instructions walked; the kernel's limit is a million.
    verified_insns: u32,
    /// Size after the verifier, in bytes.
    xlated_bytes: u32,
}

/// By kernel (`major.minor`), then by program.
type Stored = BTreeMap<String, BTreeMap<String, Cost>>;

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let path = stored_at();
    let text = fs::read_to_string(&path).unwrap_or_else(|_| "{}".into());
    let mut stored: Stored = serde_json::from_str(&text)
        .with_context(|| format!("{} is not as this program writes it", path.display()))?;
    let kernel = kernel()?;
    let now = measure()?;
    if options.store {
        stored.insert(kernel.clone(), now);
        fs::write(&path, serde_json::to_string_pretty(&stored)? + "\n")?;
        println!("stored for Linux {kernel} in {}", path.display());
        return Ok(ExitCode::SUCCESS);
    }
    let Some(before) = stored.get(&kernel) else {
        println!("nothing is stored for Linux {kernel}; `cargo xtask verifier --store` stores it");
        return Ok(ExitCode::SUCCESS);
    };
    let mut code = ExitCode::SUCCESS;
    for (program, cost) in &now {
        let limit = before
            .get(program)
            .map_or(0, |cost| cost.verified_insns / 4 * 5);
        if cost.verified_insns > limit {
            println!(
                "{program}: {} instructions, more than a quarter above what is stored; make it \
                 simpler, or store it with `cargo xtask verifier --store`",
                cost.verified_insns
            );
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

fn stored_at() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/verifier.json")
}

fn kernel() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(['.', '-']);
    let (major, minor) = (numbers.next(), numbers.next());
    Ok(format!(
        "{}.{}",
        major.context("no version")?,
        minor.context("no version")?
    ))
}

fn measure() -> Result<BTreeMap<String, Cost>> {
    let capacity = Capacity {
        hosts: 1,
        prefixes: 1,
    };
    let mut costs = BTreeMap::new();
    for (link, name) in [(LinkLayer::Ethernet, "ethernet"), (LinkLayer::None, "ip")] {
        for direction in Direction::ALL {
            let mut loaded = Loaded::new(Object::embedded()?, link, capacity)?;
            let start = Instant::now();
            attach::load(&mut loaded, &[direction])?;
            let span = start.elapsed();
            let program: &SchedClassifier = loaded
                .ebpf
                .program(attach::program_name(direction))
                .context("no such program")?
                .try_into()?;
            let info = program.info()?;
            let cost = Cost {
                verified_insns: info.verified_instruction_count().context("Linux 5.16")?,
                xlated_bytes: info.size_translated().context("no size")?,
            };
            let program = format!("{}/{name}", attach::program_name(direction));
            println!(
                "{program:<28} {:>8} instructions walked, {:>6} bytes, loaded in {:.0} ms",
                cost.verified_insns,
                cost.xlated_bytes,
                span.as_secs_f64() * 1000.0
            );
            costs.insert(program, cost);
        }
    }
    Ok(costs)
}
