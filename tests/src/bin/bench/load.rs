//! How long it takes until many destinations are in force, and the memory that it takes.

use std::{
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result};
use fault_tests::{Faultctl, Lab};

use crate::rows::{Aim, Row, Samples};

/// Destinations of the two that are compared.
const FEW: u32 = 1;
const MANY: u32 = 1 << 20;

/// A file with lines; removed when dropped.
pub struct List(PathBuf);

impl List {
    /// So many addresses of [`destination`], one a line.
    pub fn of(entries: u32) -> Result<Self> {
        let mut text = String::new();
        for n in 0..entries {
            writeln!(text, "{}", destination(n))?;
        }
        Self::write(&format!("{entries}"), &text)
    }

    /// These lines. Of the same name there is one at a time.
    pub fn write(name: &str, text: &str) -> Result<Self> {
        let name = format!("fault-bench-{}-{name}.list", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for List {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The n-th of many destinations, from 10.80.0.0 on.
pub fn destination(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a50_0000 + n)
}

/// Starts a loss of nothing for so many destinations, and says how many milliseconds that
/// took.
pub fn start(lab: &Lab, list: &List) -> (Faultctl, f64) {
    let line = format!("loss 0 --iface eth0 --to @{}", list.path().display());
    let begin = Instant::now();
    let faultctl = Faultctl::start(&lab.near, &line);
    (faultctl, begin.elapsed().as_secs_f64() * 1e3)
}

/// Start to `started`, the peak of faultctl's own memory, and the kernel's.
pub fn rows(rounds: usize) -> Result<Vec<Row>> {
    let lab = Lab::new();
    let lists = [List::of(FEW)?, List::of(MANY)?];
    let mut times = [const { Vec::new() }; 2].map(|_: Vec<f64>| Samples::default());
    let mut memory = [0.0; 2];
    let mut kernel = [0.0; 2];
    for _ in 0..rounds {
        for (n, list) in lists.iter().enumerate() {
            let (faultctl, span) = start(&lab, list);
            times[n].add(span);
            memory[n] = peak(&faultctl)?;
            let charged = faultctl.started["memory"].as_f64();
            kernel[n] = charged.context("no `memory` in `started`")? / 1e6;
            faultctl.end();
        }
    }
    let times = times.map(|samples| samples.median());
    let rows = |what: &str, [few, many]: [f64; 2], unit, aim| {
        let row = Row::new(what, MANY, many, unit).beside("one", few);
        let row = Row { aim, ..row };
        [Row::new(what, FEW, few, unit), row]
    };
    Ok([
        rows("start to in force", times, "ms", Some(Aim::Value(2_000.0))),
        rows(
            "memory of faultctl, peak",
            memory,
            "MB",
            Some(Aim::Value(200.0)),
        ),
        rows("memory of its maps", kernel, "MB", None),
    ]
    .into_iter()
    .flatten()
    .collect())
}

/// The most memory that a process has had, in megabytes.
fn peak(faultctl: &Faultctl) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", faultctl.pid()))?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next())
        .context("no VmHWM")?
        .parse()?;
    Ok(kib * 1024.0 / 1e6)
}
