//! What a packet costs in the programs, by `BPF_PROG_TEST_RUN`, beside one that does nothing.

use std::{collections::HashSet, env, fs, rc::Rc, sync::Arc};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, ProgramArray},
    programs::{ProgramFd, SchedClassifier},
};
use fault_common::{
    address::Address,
    chain::Chain,
    layout::{Direction, Fault, Model, Rule},
    packet::LinkLayer,
    random::{draw, probability},
};
use fault_tests::verdict::time;
use fault_user::{
    attach::{self, Program},
    maps::{FarEnds, Loaded},
    object::Object,
    spec::{NamedRule, RuleSet, compile::Target},
};

use crate::rows::{Aim, Row, Samples};

/// Hosts: one, a thousand, a hundred thousand and a million, each a power of two so that a
/// random number below it hits.
const HOSTS: [u32; 4] = [1, 1 << 10, 1 << 17, 1 << 20];
/// Prefixes: a /8 (of IPv6, a /104), and so many random ones inside it.
const PREFIXES: [u32; 3] = [1, 1 << 10, 100_000];
/// Bits of an address inside the prefix that holds all others.
const INSIDE: u32 = 24;

/// Measures them all.
pub fn rows(repeat: u32, rounds: usize) -> Result<Vec<Row>> {
    let bench = bench_object()?;
    let mut rows = Vec::new();
    for family in [Family::V4, Family::V6] {
        let mut cases = family_cases(family, &bench)?;
        // Rounds alternate over the cases, so that a busy moment does not hit one alone.
        for _ in 0..rounds {
            for case in &mut cases {
                let span = time(case.program()?, &case.frame, repeat)?;
                #[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
                case.nanos.add(span.as_nanos() as f64);
            }
        }
        rows.extend(cases.iter().map(|case| row(&cases, case)));
    }
    Ok(rows)
}

/// What a case came to: less the empty program or what made its destination random, and
/// beside the same case with a single entry.
fn row(cases: &[Case], case: &Case) -> Row {
    let find = |what: &str, entries: u32| {
        cases
            .iter()
            .find(|other| other.what == what && other.entries == entries)
    };
    let floor = if case.program == RANDOM {
        RANDOM_FLOOR
    } else {
        FLOOR
    };
    let floor = find(floor, 0).map_or(0.0, |case| case.nanos.median());
    let nanos = case.nanos.median();
    let row = Row::new(
        format!("{}, {}", case.what, case.family.name()),
        case.entries,
        nanos,
        "ns",
    );
    let one = find(&case.what, 1).filter(|_| case.entries > 1);
    Row {
        own: Some(nanos - floor),
        aim: case.aim,
        ..match one {
            Some(one) => row.beside("one", one.nanos.median()),
            None => row,
        }
    }
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

impl Family {
    fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// A program, its tables and a frame.
struct Case {
    what: String,
    family: Family,
    entries: u32,
    /// faultctl's program and its tables; not for the floor.
    loaded: Option<Rc<Loaded>>,
    /// The programs of the benchmark, for the floor and for random destinations.
    bench: Option<Ebpf>,
    program: &'static str,
    frame: Vec<u8>,
    nanos: Samples,
    aim: Option<Aim>,
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
}

const EMPTY: &str = "bench_empty";
const RANDOM: &str = "bench_random";
const FLOOR: &str = "empty program";
/// The floor of cases with random destinations.
const RANDOM_FLOOR: &str = "empty program, random destinations";

fn family_cases(family: Family, bench: &[u8]) -> Result<Vec<Case>> {
    let none = load_rules(&table(family, Entry::Host, 0))?;
    let mut cases = vec![
        floor(FLOOR, family, bench, None)?,
        floor(RANDOM_FLOOR, family, bench, Some(u32::MAX >> 8))?,
        case("no rules", family, 0, &none, strange(family)),
    ];
    let hosts = HOSTS.map(|n| (Entry::Host, n));
    let prefixes = PREFIXES.map(|n| (Entry::Prefix, n));
    for (entry, n) in hosts.into_iter().chain(prefixes) {
        let (kind, fixed, random) = match entry {
            Entry::Host => ("hosts", Some(Aim::Ratio(1.5)), Some(Aim::Hope(400.0))),
            Entry::Prefix => ("prefixes", Some(Aim::Ratio(3.0)), Some(Aim::Ratio(3.0))),
        };
        let most = n == HOSTS[3] || n == PREFIXES[2];
        let aim = |aim: Option<Aim>| aim.filter(|_| most);
        let set = table(family, entry, n);
        let known = known(&set);
        let loaded = load_rules(&set)?;
        let new = |what: &str, to| case(&format!("{kind}, {what}"), family, n, &loaded, to);
        cases.push(new("miss", strange(family)));
        cases.push(Case {
            aim: aim(fixed),
            ..new("one destination", known)
        });
        let inside = match entry {
            Entry::Host => n - 1,
            Entry::Prefix => (1 << INSIDE) - 1,
        };
        cases.push(Case {
            aim: aim(random),
            ..new("random destinations", known).behind_random(bench, inside)?
        });
    }
    let mut lost = table(family, Entry::Host, 1);
    lost.rules[0].rule.probability = probability::ONE;
    // Of two states that lose nothing, so that only the chain is more.
    let mut bursts = table(family, Entry::Host, 1);
    let rule = &mut bursts.rules[0].rule;
    rule.model = Model::Gemodel as u32;
    let (p, r) = (probability::ONE / 100, probability::ONE / 10);
    rule.chain = Chain::gilbert_elliott(p, r, 0, 0);
    for (what, set) in [("lost", lost), ("gemodel", bursts)] {
        let what = format!("hosts, one destination, {what}");
        cases.push(case(&what, family, 1, &load_rules(&set)?, known(&set)));
    }
    Ok(cases)
}

/// A far end that is hit: for prefixes, one of the many.
fn known(set: &RuleSet) -> Address {
    match (set.hosts.first(), set.prefixes.last()) {
        (Some((host, _)), _) => *host,
        (_, Some((address, ..))) => *address,
        _ => Address::default(),
    }
}

/// A far end that no table holds.
fn strange(family: Family) -> Address {
    match family {
        Family::V4 => Address::from_v4([192, 0, 2, 7]),
        Family::V6 => Address::from_v6([0x2a; 16]),
    }
}

/// faultctl's egress program with a rule set in force.
fn load_rules(set: &RuleSet) -> Result<Rc<Loaded>> {
    let mut set = set.clone();
    let far_ends = Arc::new(FarEnds::take(&mut set));
    let mut loaded = Loaded::new(Object::embedded()?, LinkLayer::Ethernet, far_ends.room(0))?;
    attach::load(&mut loaded, &[Program::Egress])?;
    loaded.replace(&set, far_ends, u64::MAX)?;
    Ok(Rc::new(loaded))
}

fn case(what: &str, family: Family, entries: u32, loaded: &Rc<Loaded>, to: Address) -> Case {
    Case {
        what: what.into(),
        family,
        entries,
        loaded: Some(Rc::clone(loaded)),
        bench: None,
        program: Program::Egress.name(),
        frame: frame(family, to),
        nanos: Samples::default(),
        aim: None,
    }
}

/// The empty program, alone or behind the one that draws the destination.
fn floor(what: &str, family: Family, bench: &[u8], mask: Option<u32>) -> Result<Case> {
    let mut ebpf = Ebpf::load(bench)?;
    load(&mut ebpf, EMPTY)?;
    if let Some(mask) = mask {
        let next = load(&mut ebpf, EMPTY)?;
        chain(&mut ebpf, &next, mask)?;
    }
    Ok(Case {
        what: what.into(),
        family,
        entries: 0,
        loaded: None,
        bench: Some(ebpf),
        program: if mask.is_some() { RANDOM } else { EMPTY },
        frame: frame(family, strange(family)),
        nanos: Samples::default(),
        aim: None,
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

/// So many hosts, one after the other, or a large prefix and random ones inside it, of all
/// lengths that leave room for so many.
fn table(family: Family, entry: Entry, entries: u32) -> RuleSet {
    let rule = Rule {
        fault: Fault::Loss as u32,
        model: Model::Random as u32,
        directions: Direction::Egress.bit(),
        dscp: Rule::NO_DSCP,
        ..Rule::default()
    };
    let mut set = RuleSet {
        rules: vec![NamedRule {
            name: "loss".into(),
            asked: "0%".into(),
            probability: Some(0.0),
            rule,
        }],
        targets: vec![Target {
            rules: vec![0],
            wait_ns: 0,
        }],
        ..RuleSet::default()
    };
    match entry {
        Entry::Host => set.hosts = (0..entries).map(|n| (address(family, n), 0)).collect(),
        Entry::Prefix => {
            let mut drawn = HashSet::from([(address(family, 0), 128 - INSIDE)]);
            set.prefixes.push((address(family, 0), 128 - INSIDE, 0));
            for bits in (0..).map(|n| draw(1, n)) {
                if set.prefixes.len() == entries as usize {
                    break;
                }
                let length = 128 - INSIDE + 1 + u32::from(bits.to_be_bytes()[0]) % INSIDE;
                let network = address(family, low(bits)).and(Address::mask(length));
                if drawn.insert((network, length)) {
                    set.prefixes.push((network, length, 0));
                }
            }
        }
    }
    set
}

/// The bits of an address inside the large prefix.
fn low(bits: u64) -> u32 {
    let [a, b, c, ..] = bits.to_le_bytes();
    u32::from_le_bytes([a, b, c, 0])
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

/// A UDP packet of 64 bytes or little more.
fn frame(family: Family, to: Address) -> Vec<u8> {
    let mut frame = vec![0; 12];
    let to = to.octets();
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
