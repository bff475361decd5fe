//! What a packet costs: the programs by `BPF_PROG_TEST_RUN`, beside one that does
//! nothing. `cargo xtask bench` builds it and runs it as root.

use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    maps::{Array, ProgramArray},
    programs::{ProgramFd, SchedClassifier},
};
use clap::Parser;
use fault_common::{
    address::Address,
    chain::Chain,
    layout::{Direction, Fault, Model, Rule},
    packet::LinkLayer,
    random::probability,
};
use fault_tests::verdict::time;
use fault_user::{
    attach::{self, Program},
    maps::{Capacity, Loaded},
    object::Object,
    spec::{NamedRule, RuleSet},
};

/// What a packet costs in nanoseconds, by `BPF_PROG_TEST_RUN`
#[derive(Parser)]
struct Options {
    /// Runs a measurement
    #[arg(long, default_value_t = 1_000_000)]
    repeat: u32,
    /// Measurements a case; the best and the median are told
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// One JSON array instead of the table
    #[arg(long)]
    json: bool,
}

/// Entries of the tables: one, a thousand, a hundred thousand, each a power of two so
/// that a random number below it hits.
const ENTRIES: [u32; 3] = [1, 1 << 10, 1 << 17];

fn main() -> Result<()> {
    let options = Options::parse();
    let bench = bench_object()?;
    let mut cases = Vec::new();
    for family in [Family::V4, Family::V6] {
        cases.extend(family_cases(family, &bench)?);
    }
    // Rounds alternate over the cases, so that a busy moment does not hit one alone.
    for _ in 0..options.rounds {
        for case in &mut cases {
            let span = time(case.program()?, &case.frame, options.repeat)?;
            #[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
            case.nanos.push(span.as_nanos() as f64);
        }
    }
    if options.json {
        print_json(&mut cases);
    } else {
        print_table(&mut cases, &options);
    }
    Ok(())
}

fn bench_object() -> Result<Vec<u8>> {
    let path = env::var_os("FAULTCTL_BENCH_OBJECT").context("FAULTCTL_BENCH_OBJECT is not set")?;
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Host,
    Prefix,
}

/// One row of the table.
struct Case {
    name: String,
    family: Family,
    entries: u32,
    /// faultctl's program and its tables; not for the floor.
    loaded: Option<Loaded>,
    /// The programs of the benchmark, for the floor and for random destinations.
    bench: Option<Ebpf>,
    program: &'static str,
    frame: Vec<u8>,
    nanos: Vec<f64>,
}

impl Case {
    fn program(&self) -> Result<&SchedClassifier> {
        let loaded = self.loaded.as_ref().map(|loaded| &loaded.ebpf);
        let ebpf = self.bench.as_ref().or(loaded).context("nothing loaded")?;
        Ok(ebpf
            .program(self.program)
            .context("no such program")?
            .try_into()?)
    }

    fn best(&self) -> f64 {
        self.nanos.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn median(&mut self) -> f64 {
        self.nanos.sort_by(f64::total_cmp);
        self.nanos[self.nanos.len() / 2]
    }
}

const EMPTY: &str = "bench_empty";
const RANDOM: &str = "bench_random";
/// The floor of cases with random destinations.
const RANDOM_FLOOR: &str = "empty program, random destinations";

fn family_cases(family: Family, bench: &[u8]) -> Result<Vec<Case>> {
    let none = table(family, Entry::Host, 0);
    let all = u32::MAX >> 8;
    let mut cases = vec![
        floor("empty program", family, bench, None)?,
        floor(RANDOM_FLOOR, family, bench, Some(all))?,
        case("miss, no rules", family, 0, &none, MISS)?,
    ];
    for (entry, kind) in [(Entry::Host, "hosts"), (Entry::Prefix, "prefixes")] {
        for n in ENTRIES {
            let name = |what| format!("{what}, {kind}");
            let mut set = table(family, entry, n);
            cases.push(case(&name("miss"), family, n, &set, MISS)?);
            cases.push(case(&name("hit, one destination"), family, n, &set, HIT)?);
            // A prefix holds two addresses.
            let mask = if entry == Entry::Host { n } else { 2 * n } - 1;
            let random = case(&name("hit, random destinations"), family, n, &set, HIT)?;
            cases.push(random.behind_random(bench, mask)?);
            if n == 1 {
                // Of two states that lose nothing, so that only the chain is more.
                let rule = &mut set.rules[0].rule;
                rule.model = Model::Gemodel as u32;
                let (p, r) = (probability::ONE / 100, probability::ONE / 10);
                rule.chain = Chain::gilbert_elliott(p, r, 0, 0);
                cases.push(case(&name("hit, gemodel"), family, n, &set, HIT)?);
                set.rules[0].rule.model = Model::Random as u32;
            }
            set.rules[0].rule.probability = probability::ONE;
            cases.push(case(&name("lost, one destination"), family, n, &set, HIT)?);
        }
    }
    Ok(cases)
}

/// Whether the destination is one that no table holds.
const MISS: bool = true;
const HIT: bool = false;

/// faultctl's egress program over a table.
fn case(name: &str, family: Family, entries: u32, set: &RuleSet, miss: bool) -> Result<Case> {
    let mut loaded = Loaded::new(
        Object::embedded()?,
        LinkLayer::Ethernet,
        Capacity::of(set, 0)?,
    )?;
    attach::load(&mut loaded, &[Program::Egress])?;
    loaded.replace(set, u64::MAX)?;
    Ok(Case {
        name: name.into(),
        family,
        entries,
        loaded: Some(loaded),
        bench: None,
        program: Program::Egress.name(),
        frame: frame(family, miss),
        nanos: Vec::new(),
    })
}

/// The empty program, alone or behind the one that draws the destination.
fn floor(name: &str, family: Family, bench: &[u8], mask: Option<u32>) -> Result<Case> {
    let mut ebpf = Ebpf::load(bench)?;
    load(&mut ebpf, EMPTY)?;
    if let Some(mask) = mask {
        let next = load(&mut ebpf, EMPTY)?;
        chain(&mut ebpf, &next, mask)?;
    }
    Ok(Case {
        name: name.into(),
        family,
        entries: 0,
        loaded: None,
        bench: Some(ebpf),
        program: if mask.is_some() { RANDOM } else { EMPTY },
        frame: frame(family, HIT),
        nanos: Vec::new(),
    })
}

impl Case {
    /// The same with a destination drawn for each packet.
    fn behind_random(mut self, bench: &[u8], mask: u32) -> Result<Self> {
        let mut ebpf = Ebpf::load(bench)?;
        let next = self.program()?.fd()?.try_clone()?;
        chain(&mut ebpf, &next, mask)?;
        self.bench = Some(ebpf);
        self.program = RANDOM;
        Ok(self)
    }
}

fn load(ebpf: &mut Ebpf, name: &str) -> Result<ProgramFd> {
    let program = ebpf.program_mut(name).context("no such program")?;
    let program: &mut SchedClassifier = program.try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    Ok(program.fd()?.try_clone()?)
}

/// Has the random program hand on to another.
fn chain(ebpf: &mut Ebpf, next: &ProgramFd, mask: u32) -> Result<()> {
    load(ebpf, RANDOM)?;
    let map = ebpf.map_mut("RANDOM_MASK").context("no such map")?;
    Array::<_, u32>::try_from(map)?.set(0, mask, 0)?;
    // Kept: an array of programs is emptied when user space lets go of it.
    let map = ebpf.map_mut("NEXT").context("no such map")?;
    ProgramArray::try_from(map)?.set(0, next, 0)?;
    Ok(())
}

/// So many hosts, or prefixes of two addresses each, one after the other.
fn table(family: Family, entry: Entry, entries: u32) -> RuleSet {
    let rule = Rule {
        fault: Fault::Loss as u32,
        model: Model::Random as u32,
        directions: Direction::Egress.bit(),
        dscp: Rule::NO_DSCP,
        ..Rule::default()
    };
    let addresses = |step: u32| (0..entries).map(move |n| address(family, n * step));
    RuleSet {
        rules: vec![NamedRule {
            name: "loss".into(),
            asked: "0%".into(),
            probability: Some(0.0),
            rule,
        }],
        targets: vec![vec![0]],
        hosts: match entry {
            Entry::Host => addresses(1).map(|address| (address, 0)).collect(),
            Entry::Prefix => Vec::new(),
        },
        prefixes: match entry {
            Entry::Host => Vec::new(),
            Entry::Prefix => addresses(2).map(|address| (address, 127, 0)).collect(),
        },
        default_target: None,
    }
}

/// `10.0.0.0` or `fd77::`, and so many further.
fn address(family: Family, offset: u32) -> Address {
    match family {
        Family::V4 => Address::from_v4((0x0a00_0000 + offset).to_be_bytes()),
        Family::V6 => {
            let first = u128::from(0xfd77_u16) << 112;
            Address::from_v6((first + u128::from(offset)).to_be_bytes())
        }
    }
}

/// A UDP packet of 64 bytes or little more, to the first address or to a strange one.
fn frame(family: Family, miss: bool) -> Vec<u8> {
    let mut frame = vec![0; 12];
    let mut to = address(family, 0).octets();
    if miss {
        to[12] = 0xc0;
        to[1] ^= u8::from(family == Family::V6);
    }
    match family {
        Family::V4 => {
            frame.extend([
                0x08, 0x00, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1,
            ]);
            frame.extend(&to[12..]);
        }
        Family::V6 => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 30, 17, 64]);
            frame.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            frame.extend(to);
        }
    }
    frame.extend([0x9c, 0x40, 0, 53, 0, 30, 0, 0]);
    frame.resize(frame.len() + 22, 0);
    frame
}

/// Best time of a case of the same family.
fn best(cases: &[Case], family: Family, name: &str, entries: u32) -> Result<f64> {
    let found = cases
        .iter()
        .find(|case| case.family == family && case.name == name && case.entries == entries);
    match found {
        Some(case) => Ok(case.best()),
        None => bail!("no case {name} with {entries} entries"),
    }
}

/// What the programs' own work costs: without the floor, or without what made the
/// destination random.
fn own(cases: &[Case], case: &Case) -> f64 {
    let base = if case.program == RANDOM {
        RANDOM_FLOOR
    } else {
        "empty program"
    };
    case.best() - best(cases, case.family, base, 0).unwrap_or_default()
}

fn print_table(cases: &mut [Case], options: &Options) {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!(
        "kernel {}, {}, {} runs, best and median of {} rounds, nanoseconds",
        kernel.trim(),
        cpu(),
        options.repeat,
        options.rounds
    );
    println!(
        "{:<36} {:>4} {:>8} {:>7} {:>7} {:>10} {:>9}",
        "case", "IP", "entries", "best", "median", "over floor", "to one"
    );
    for n in 0..cases.len() {
        let median = cases[n].median();
        let case = &cases[n];
        let over = own(cases, case);
        // Against the same case with a single entry.
        let ratio = best(cases, case.family, &case.name, 1)
            .ok()
            .filter(|_| case.entries > 0)
            .map_or("-".into(), |one| format!("{:.2}", case.best() / one));
        let ip = if case.family == Family::V4 { 4 } else { 6 };
        println!(
            "{:<36} {ip:>4} {:>8} {:>7.0} {median:>7.0} {over:>10.0} {ratio:>9}",
            case.name,
            case.entries,
            case.best(),
        );
    }
    println!(
        "over floor: less the empty program; for random destinations, less what makes them random"
    );
}

fn print_json(cases: &mut [Case]) {
    let mut rows = Vec::new();
    for n in 0..cases.len() {
        let median = cases[n].median();
        let case = &cases[n];
        rows.push(serde_json::json!({
            "case": case.name,
            "family": if case.family == Family::V4 { 4 } else { 6 },
            "entries": case.entries,
            "ns": case.best(),
            "median_ns": median,
            "over_floor_ns": own(cases, case),
        }));
    }
    println!("{}", serde_json::Value::from(rows));
}

/// The processor, and its caches as the kernel knows them.
fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.split_once(": "))
            .map_or("?", |(_, value)| value)
            .to_owned()
    };
    let caches: Vec<_> = (0..4)
        .filter_map(|n| {
            let dir = format!("/sys/devices/system/cpu/cpu0/cache/index{n}");
            let level = fs::read_to_string(format!("{dir}/level")).ok()?;
            let size = fs::read_to_string(format!("{dir}/size")).ok()?;
            Some(format!("L{} {}", level.trim(), size.trim()))
        })
        .collect();
    format!("{} ({})", field("model name"), caches.join(", "))
}
