//! From a fault to rules and tables: the one place that rounds and scales.

use std::{fmt::Write as _, net::IpAddr, num::NonZeroU64, time::Duration};

use fault_common::{
    address::{Address, Network},
    chain::{BAD, BURST_LOSS, Chain, GOOD, ISOLATED_LOSS, START},
    layout::{self, Fault, Model, PortRange, Ports, Rule},
    random::{draw, probability::ONE},
};
use ipnet::{IpNet, Ipv4Net};

use super::{
    Burst, BurstLength, Dscp, FaultKind, FaultSpec, FourStates, Gemodel, Loss, Mark, Percent,
    SkbMark,
    selection::{Selection, spans_mapped_v4},
};
use crate::{
    Error,
    clock::nanos,
    netem::{self, Chance, Distribution, Reorder},
};

/// Rules, and the far ends that they are for. Ids are indexes into the vectors.
///
/// An address takes the target of its host entry, else that of its longest
/// prefix, else the default target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSet {
    /// The rules.
    pub rules: Vec<NamedRule>,
    /// Lists of rules; an empty one is a far end that is never hit.
    pub targets: Vec<Vec<u32>>,
    /// Exact hosts and their targets, each host once.
    pub hosts: Vec<(Address, u32)>,
    /// Networks with their prefix length in mapped form (0 to 128; IPv4 from 96)
    /// and their targets, each network once.
    pub prefixes: Vec<(Address, u32, u32)>,
    /// The target of every other far end, and of frames that have none.
    pub default_target: Option<u32>,
    /// The table of the distribution of waits, if there is one.
    pub quantiles: Vec<i16>,
}

/// A rule, and what it is called in front of people.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedRule {
    /// Its name: the verb.
    pub name: String,
    /// What was asked for: `50%`, `1 in 10`, `all`, `0x10`.
    pub asked: String,
    /// The share of packets that it is to drop, 0 to 1; None where it drops none.
    pub probability: Option<f64>,
    /// The rule for the kernel.
    pub rule: Rule,
}

/// Compiles a fault. The same spec and seed give the same rules and draws.
///
/// `--except` wins over `--to` whatever the prefix lengths. An IPv6 network that
/// spans the mapped form of IPv4, such as `::/0`, means IPv6 only.
pub fn compile(spec: &FaultSpec, seed: u64) -> Result<RuleSet, Error> {
    let selection = Selection::new(&spec.selectors)?;
    let quantiles = quantiles(&spec.kind)?;
    let rules: Vec<_> = (1..)
        .zip(spec.kind.parts())
        .map(|(n, part)| NamedRule {
            name: part.name().into(),
            asked: part.asked(),
            probability: part.probability(),
            rule: rule(part, &quantiles, spec, &selection, draw(seed, n)),
        })
        .collect();
    let mut set = RuleSet {
        targets: vec![(0..).take(rules.len()).collect()],
        rules,
        quantiles,
        hosts: Vec::new(),
        prefixes: Vec::new(),
        default_target: selection.to.is_none().then_some(HIT),
    };
    for network in selection.to.iter().flatten() {
        set.insert(network, HIT);
    }
    for network in &selection.except {
        let spared = set.spared();
        set.insert(network, spared);
    }
    set.keep_v4_apart(&selection);
    Ok(set)
}

/// The target of what is hit.
const HIT: u32 = 0;

impl RuleSet {
    /// Has its rules draw from another seed, the same that [`compile`] takes; but for flows,
    /// which are the same wherever `flow_seed` is.
    pub fn reseed(&mut self, seed: u64, flow_seed: u64) {
        for (n, named) in (1..).zip(&mut self.rules) {
            named.rule.seed = draw(seed, n);
            named.rule.flow_seed = flow_seed;
        }
    }

    fn spared(&mut self) -> u32 {
        const SPARED: u32 = HIT + 1;
        if self.targets.len() == 1 {
            self.targets.push(Vec::new());
        }
        SPARED
    }

    fn insert(&mut self, network: &IpNet, target: u32) {
        match mapped(network) {
            (address, 128) => self.hosts.push((address, target)),
            (address, length) => self.prefixes.push((address, length, target)),
        }
    }

    /// IPv4 is a part of IPv6 in the tables, but not for the user: where an IPv6
    /// network would take IPv4 along, an entry of its own decides about IPv4.
    fn keep_v4_apart(&mut self, selection: &Selection) {
        let v4_all = mapped(&Ipv4Net::default().into());
        let spanned = selection
            .to
            .iter()
            .flatten()
            .chain(&selection.except)
            .chain(&selection.near)
            .any(spans_mapped_v4);
        let decided = self
            .prefixes
            .iter()
            .any(|(address, length, _)| (*address, *length) == v4_all);
        if !spanned || decided {
            return;
        }
        let target = if selection.to.is_none() && selection.v4 {
            HIT
        } else {
            self.spared()
        };
        self.prefixes.push((v4_all.0, v4_all.1, target));
    }
}

fn mapped(network: &IpNet) -> (Address, u32) {
    let length = u32::from(network.prefix_len());
    match network.network() {
        IpAddr::V4(v4) => (
            Address::from_v4(v4.octets()),
            Address::V4_PREFIX_LEN + length,
        ),
        IpAddr::V6(v6) => (Address::from_v6(v6.octets()), length),
    }
}

fn rule(
    kind: &FaultKind,
    quantiles: &[i16],
    spec: &FaultSpec,
    selection: &Selection,
    seed: u64,
) -> Rule {
    let mut rule = Rule {
        seed,
        dscp: Rule::NO_DSCP,
        ..Rule::default()
    };
    model(&mut rule, kind, quantiles);
    rule.flows = spec.selectors.flows.map_or(0, Percent::steps);
    for direction in spec.selectors.directions.each() {
        rule.directions |= direction.bit();
    }
    if spec.selectors.takes_every_frame() {
        rule.flags |= Rule::EVERY_FRAME;
    }
    for protocol in &spec.selectors.protocols {
        for number in protocol.numbers() {
            if let Some(word) = rule.protocols.get_mut(usize::from(number >> 6)) {
                *word |= 1 << (number & 63);
            }
        }
    }
    rule.far_ports = ports(&selection.far_ports);
    rule.near_ports = ports(&selection.near_ports);
    for (network, slot) in selection.near.iter().zip(&mut rule.near) {
        let (address, length) = mapped(network);
        *slot = Network::new(address, length);
        rule.near_len += 1;
    }
    rule
}

/// What the rule does to packets.
fn model(rule: &mut Rule, kind: &FaultKind, quantiles: &[i16]) {
    rule.fault = fault(kind) as u32;
    match *kind {
        FaultKind::Loss(Loss::Random {
            percent,
            correlation,
        }) => {
            rule.model = Model::Random as u32;
            rule.probability = percent.steps();
            if correlation.points() > 0.0 {
                rule.model = Model::Correlated as u32;
                rule.chain = correlated(percent, correlation);
            }
        }
        FaultKind::Loss(Loss::Burst(burst)) => {
            rule.model = Model::Burst as u32;
            let (p, r) = burst.transitions();
            rule.chain = Chain::gilbert(burst.percent().steps(), p.steps(), r.steps());
        }
        FaultKind::Loss(Loss::Gemodel(Gemodel { p, r, bad, good })) => {
            rule.model = Model::Gemodel as u32;
            let [p, r, bad, good] = [p, r, bad, good].map(Percent::steps);
            rule.chain = Chain::gilbert_elliott(p, r, bad, good);
        }
        FaultKind::Loss(Loss::State(states)) => {
            rule.model = Model::State as u32;
            let [p13, p31, p32, p23, p14] = states.transitions().map(Percent::steps);
            rule.chain = Chain::four_states(p13, p31, p32, p23, p14);
        }
        FaultKind::Loss(Loss::Every(every)) => {
            rule.model = Model::Every as u32;
            rule.every = every.get();
        }
        FaultKind::Partition | FaultKind::Down => {
            rule.model = Model::Random as u32;
            rule.probability = Percent::ALL.steps();
        }
        FaultKind::Mark(Mark { skb, dscp }) => {
            rule.model = Model::Mark as u32;
            if let Some(skb) = skb {
                rule.mark = skb.value;
                rule.mark_mask = skb.mask;
            }
            if let Some(dscp) = dscp {
                rule.dscp = dscp.value().into();
            }
        }
        FaultKind::Latency(ref delay) => {
            rule.model = Model::Delay as u32;
            rule.delay = waits(delay, quantiles, 0);
        }
        FaultKind::Reorder {
            ref delay,
            reorder: Reorder { chance, gap },
        } => {
            rule.model = Model::Delay as u32;
            rule.delay = waits(delay, quantiles, gap);
            rule.chain = correlated(chance.percent, chance.correlation);
        }
        FaultKind::Duplicate(chance) => {
            rule.model = Model::Duplicate as u32;
            rule.chain = correlated(chance.percent, chance.correlation);
        }
        FaultKind::Rate { rate, burst } => {
            rule.model = Model::Rate as u32;
            let burst_ns = u64::from(burst) * 1_000_000_000 / rate.bytes_per_sec.max(1);
            rule.rate = layout::Rate {
                bytes_per_sec: rate.bytes_per_sec,
                burst_ns,
                packet_overhead: rate.packet_overhead,
                cell_size: rate.cell_size,
                cell_overhead: rate.cell_overhead,
                pad: 0,
            };
        }
        // Made of others; never a part itself.
        FaultKind::Netem(_) => {}
    }
}

/// The number in the maps; that of several is not asked for.
fn fault(kind: &FaultKind) -> Fault {
    match kind {
        FaultKind::Loss(_) => Fault::Loss,
        FaultKind::Partition => Fault::Partition,
        FaultKind::Down => Fault::Down,
        FaultKind::Mark(_) => Fault::Mark,
        FaultKind::Reorder { .. } => Fault::Reorder,
        FaultKind::Duplicate(_) => Fault::Duplicate,
        FaultKind::Rate { .. } => Fault::Rate,
        FaultKind::Latency(_) | FaultKind::Netem(_) => Fault::Latency,
    }
}

/// The table of its distribution, computed or read. That of the uniform one is not needed:
/// the kernel computes it.
fn quantiles(kind: &FaultKind) -> Result<Vec<i16>, Error> {
    match kind.delay() {
        Some(delay) if !delay.jitter.is_zero() && delay.distribution != Distribution::Uniform => {
            Ok(delay.distribution.table()?.values().to_vec())
        }
        _ => Ok(Vec::new()),
    }
}

fn waits(delay: &netem::Delay, quantiles: &[i16], gap: u32) -> layout::Delay {
    layout::Delay {
        mean_ns: nanos(delay.time),
        jitter_ns: nanos(delay.jitter),
        correlation: delay.correlation.steps(),
        distribution: match delay.distribution {
            Distribution::Uniform => 0,
            Distribution::Normal => 1,
            Distribution::Pareto => 2,
            Distribution::ParetoNormal => 3,
            Distribution::File { .. } => 4,
        },
        table_len: u32::try_from(quantiles.len()).unwrap_or(u32::MAX),
        gap,
        pad: 0,
    }
}

/// The previous outcome with the probability of the correlation, and else a draw of
/// its own. What leads from loss to loss and from pass to loss differs by the
/// correlation.
fn correlated(percent: Percent, correlation: Percent) -> Chain {
    let points = percent.points() * (1.0 - correlation.fraction());
    let p13 = Percent::new(points).map_or(0, Percent::steps);
    let p31 = (ONE - correlation.steps()).saturating_sub(p13);
    Chain::gilbert(percent.steps(), p13, p31)
}

fn ports(ranges: &[PortRange]) -> Ports {
    let mut ports = Ports::default();
    for (range, slot) in ranges.iter().zip(&mut ports.ranges) {
        *slot = *range;
        ports.len += 1;
    }
    ports
}

impl FaultKind {
    /// The inverse of compiling: what a rule in the kernel was made from. `None` for
    /// numbers that no fault of this version has.
    pub fn of(rule: &Rule) -> Option<Self> {
        Some(match Fault::from_number(rule.fault)? {
            Fault::Loss => Self::Loss(Loss::of(rule)?),
            Fault::Partition => Self::Partition,
            Fault::Down => Self::Down,
            Fault::Mark => Self::Mark(Mark {
                skb: (rule.mark_mask != 0).then_some(SkbMark {
                    value: rule.mark,
                    mask: rule.mark_mask,
                }),
                dscp: u8::try_from(rule.dscp).ok().and_then(Dscp::new),
            }),
            Fault::Latency => Self::Latency(delay_of(rule)),
            Fault::Reorder => Self::Reorder {
                delay: delay_of(rule),
                reorder: Reorder {
                    chance: chance_of(rule)?,
                    gap: rule.delay.gap,
                },
            },
            Fault::Duplicate => Self::Duplicate(chance_of(rule)?),
            Fault::Rate => Self::Rate {
                rate: netem::Rate {
                    bytes_per_sec: rule.rate.bytes_per_sec,
                    packet_overhead: rule.rate.packet_overhead,
                    cell_size: rule.rate.cell_size,
                    cell_overhead: rule.rate.cell_overhead,
                },
                burst: u32::try_from(
                    u128::from(rule.rate.burst_ns) * u128::from(rule.rate.bytes_per_sec)
                        / 1_000_000_000,
                )
                .ok()?,
            },
        })
    }

    /// What was asked for, as short as it was typed.
    pub fn asked(&self) -> String {
        match self {
            Self::Loss(Loss::Random {
                percent,
                correlation,
            }) => {
                if correlation.points() > 0.0 {
                    format!("{percent} correlation {correlation}")
                } else {
                    percent.to_string()
                }
            }
            Self::Loss(Loss::Burst(burst)) => {
                format!("{} burst {}", burst.percent(), burst.length())
            }
            Self::Loss(Loss::Gemodel(model)) => {
                format!("{} gemodel {model}", rounded(model.rate()))
            }
            Self::Loss(Loss::State(states)) => {
                format!("{} state {states}", rounded(states.rate()))
            }
            Self::Loss(Loss::Every(every)) => format!("1 in {every}"),
            Self::Partition | Self::Down => "all".into(),
            Self::Mark(Mark { skb, dscp }) => {
                let skb = skb.map(|skb| skb.to_string());
                let dscp = dscp.map(|dscp| format!("dscp {dscp}"));
                skb.into_iter().chain(dscp).collect::<Vec<_>>().join(" ")
            }
            Self::Latency(delay) => delay.asked(),
            Self::Reorder {
                delay,
                reorder: Reorder { chance, gap },
            } => {
                let mut text = chance.asked();
                if *gap > 1 {
                    let _ = write!(text, " gap {gap}");
                }
                format!("{text}, others {}", delay.asked())
            }
            Self::Duplicate(chance) => chance.asked(),
            Self::Rate { rate, burst } => {
                let mut text = rate.asked();
                if *burst > 0 {
                    let _ = write!(text, " burst {burst}b");
                }
                text
            }
            Self::Netem(parts) => {
                let parts = parts
                    .iter()
                    .map(|part| format!("{} {}", part.name(), part.asked()));
                parts.collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// The share of packets that are to be lost.
    pub fn probability(&self) -> Option<f64> {
        match self {
            Self::Loss(Loss::Random { percent, .. }) => Some(percent.fraction()),
            Self::Loss(Loss::Burst(burst)) => Some(burst.percent().fraction()),
            Self::Loss(Loss::Gemodel(model)) => Some(model.rate()),
            Self::Loss(Loss::State(states)) => Some(states.rate()),
            #[expect(
                clippy::cast_precision_loss,
                reason = "a ratio to look at; the kernel counts with the integer"
            )]
            Self::Loss(Loss::Every(every)) => Some(1.0 / every.get() as f64),
            Self::Partition | Self::Down => Some(1.0),
            _ => None,
        }
    }
}

/// The inverse of [`waits`]; what a file was called is not known.
fn delay_of(rule: &Rule) -> netem::Delay {
    let delay = &rule.delay;
    netem::Delay {
        time: Duration::from_nanos(delay.mean_ns),
        jitter: Duration::from_nanos(delay.jitter_ns),
        correlation: Percent::from_steps(delay.correlation),
        distribution: match delay.distribution {
            0 => Distribution::Uniform,
            1 => Distribution::Normal,
            2 => Distribution::Pareto,
            3 => Distribution::ParetoNormal,
            _ => Distribution::File {
                name: "file".into(),
            },
        },
    }
}

/// The inverse of [`correlated`].
fn chance_of(rule: &Rule) -> Option<Chance> {
    let transition = |from, to| rule.chain.transition(from, to);
    let again = transition(BURST_LOSS, BURST_LOSS);
    Some(Chance {
        percent: Percent::from_steps(transition(START, BURST_LOSS)),
        correlation: Percent::from_steps(again.checked_sub(transition(GOOD, BURST_LOSS))?),
    })
}

impl Loss {
    fn of(rule: &Rule) -> Option<Self> {
        let transition = |from, to| rule.chain.transition(from, to);
        let percent = Percent::from_steps;
        let is = |model| rule.model == model as u32;
        Some(if is(Model::Every) {
            Self::Every(NonZeroU64::new(rule.every)?)
        } else if is(Model::Correlated) {
            let Chance {
                percent,
                correlation,
            } = chance_of(rule)?;
            Self::Random {
                percent,
                correlation,
            }
        } else if is(Model::Burst) {
            // Not checked again: a rounded number may lie just beyond the bound.
            Self::Burst(Burst {
                percent: percent(transition(START, BURST_LOSS)),
                length: BurstLength::from_end(transition(BURST_LOSS, GOOD))?,
            })
        } else if is(Model::Gemodel) {
            Self::Gemodel(Gemodel {
                p: percent(transition(GOOD, BAD)),
                r: percent(transition(BAD, GOOD)),
                bad: percent(rule.chain.loss(BAD)),
                good: percent(rule.chain.loss(GOOD)),
            })
        } else if is(Model::State) {
            let steps = [
                transition(GOOD, BURST_LOSS),
                transition(BURST_LOSS, GOOD),
                transition(BURST_LOSS, BAD),
                transition(BAD, BURST_LOSS),
                transition(GOOD, ISOLATED_LOSS),
            ];
            Self::State(FourStates::new(steps.map(percent)).ok()?)
        } else {
            Self::Random {
                percent: percent(rule.probability),
                correlation: Percent::default(),
            }
        })
    }
}

/// A rate that nobody typed, to four digits.
fn rounded(rate: f64) -> String {
    let points = format!("{:.3e}", rate * 100.0);
    let percent = points.parse().ok().and_then(Percent::new);
    percent.unwrap_or(Percent::ALL).to_string()
}

#[cfg(test)]
mod tests;
