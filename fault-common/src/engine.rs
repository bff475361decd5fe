//! From a frame to a verdict, over tables that the caller holds.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::Address,
    decide::{Decision, Turn, decide, decide_by_chain, delay, matches, next, transmission_ns},
    layout::{
        Config, Connection, Direction, Memory, Model, RULES_PER_TARGET, Rule, Scope, State, Target,
    },
    packet::{Flow, LinkLayer, Packet, Reason, parse, protocol},
};

/// Where rules and their state are: the maps in the kernel, vectors in tests.
pub trait Tables {
    /// What rules there can be.
    fn scope(&self) -> Scope;
    /// Whether packets can be held here. Where not, no rule says how long they wait.
    fn holds(&self) -> bool;
    /// The set in force: 0 or 1.
    fn active(&self) -> u32;
    /// What is known of a set.
    fn config(&self, set: u32) -> Option<Config>;
    /// Target of an exact host.
    fn host(&self, set: u32, far: Address) -> Option<u32>;
    /// Target of the longest prefix that holds an address.
    fn prefix(&self, set: u32, far: Address) -> Option<u32>;
    /// Whether a connection is one that no rule may touch.
    fn spared(&self, connection: &Connection) -> bool;
    /// A target.
    fn target(&self, id: u32) -> Option<&Target>;
    /// A rule.
    fn rule(&self, id: u32) -> Option<&Rule>;
    /// The same passage, in memory of which nothing is known: the kernel's verifier
    /// would otherwise walk the rules once for each way to get there.
    fn detached<'a>(&'a self, passage: &'a mut Passage) -> Option<&'a mut Passage>;
    /// Whether the rule's deadline is still to come.
    fn in_force(&self, rule: u32) -> bool;
    /// Adds a packet to a slot's sequence and says where the slot stood before.
    fn advance(&self, slot: u32) -> State;
    /// Adds a packet and moves on to what `next` says, in one step among those of all
    /// CPUs. Says where the slot stood before, and where it stands now.
    fn step(&self, slot: u32, next: impl Fn(State) -> State) -> (State, State);
    /// What a slot remembers.
    fn memory(&self, slot: u32) -> Memory;
    /// Has it remember something else.
    fn remember(&self, slot: u32, memory: Memory);
    /// A value of a distribution's table, in units of 1/8192 of its standard deviation.
    fn quantile(&self, place: u32) -> i16;
    /// `CLOCK_MONOTONIC` in nanoseconds.
    fn now_ns(&self) -> u64;
    /// Takes the link of a slot for so long, from when it is free and the packet there.
    /// Says when that ends.
    fn transmit(&self, slot: u32, there_ns: u64, for_ns: u64) -> u64;
    /// Counts what a rule did; `wait_ns` goes with [`Decision::Delay`].
    fn count(&self, slot: u32, size: Size, decision: Decision, wait_ns: u64);
    /// A decision for who hears of it: a number that comes from nowhere, for the kernel's
    /// verifier, which would walk on from each decision by itself.
    fn number(&self, decision: Decision) -> u32;
    /// Hears of a packet, and of the last rule that decided about it.
    fn tell(&self, told: Told, passage: &Passage);
    /// Counts a frame that could not be read in full.
    fn count_reason(&self, reason: Reason);
}

/// How large the skb is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Size {
    /// Packets on the wire: more than one for a super-packet.
    pub packets: u32,
    /// Bytes of the frame.
    pub bytes: u32,
    /// Bytes of all its packets on the wire, as far as the kernel knows them: those of a
    /// super-packet have headers each.
    pub wire_bytes: u32,
}

/// What a rule decided about a packet.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The rule.
    pub rule: u32,
    /// What it decided, as [`Tables::number`] says it.
    pub decision: u32,
    /// Which way the packet goes.
    pub direction: Direction,
    /// How many the rule decided about before.
    pub sequence: u64,
}

/// A packet on its way through the rules.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Passage {
    /// What it is.
    pub flow: Flow,
    /// How large it is.
    pub size: Size,
    /// [`Verdict::mark`] so far.
    mark: u32,
    /// [`Verdict::mark_mask`] so far.
    mark_mask: u32,
    /// [`Verdict::dscp`] so far.
    dscp: u32,
    /// [`Verdict::twice`] so far, as a number.
    twice: u32,
    /// [`Verdict::wait_ns`] so far.
    wait_ns: u64,
}

/// What is to happen to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Lose it; the rest is moot.
    pub drop: bool,
    /// Bits of the skb mark to set.
    pub mark: u32,
    /// Bits of the skb mark to replace.
    pub mark_mask: u32,
    /// The DSCP to write into an IP header, or [`Rule::NO_DSCP`].
    pub dscp: u32,
    /// Where the IP header starts.
    pub network_offset: u32,
    /// [`Flow::IPV4`], [`Flow::IPV6`], or 0 where there is no IP header.
    pub ip: u32,
    /// How long it waits, in nanoseconds.
    pub wait_ns: u64,
    /// Whether a copy goes with it.
    pub twice: bool,
}

impl Told {
    #[inline(always)]
    const fn nothing(direction: Direction) -> Self {
        Self {
            rule: 0,
            decision: 0,
            direction,
            sequence: 0,
        }
    }
}

impl Verdict {
    /// Leave it alone.
    pub const PASS: Self = Self {
        drop: false,
        mark: 0,
        mark_mask: 0,
        dscp: Rule::NO_DSCP,
        network_offset: 0,
        ip: 0,
        wait_ns: 0,
        twice: false,
    };
    /// Lose it.
    pub const DROP: Self = Self {
        drop: true,
        ..Self::PASS
    };
}

/// Runs a frame through the rules: parse, look its far end up, pass what is spared,
/// let each rule of the target decide in order. The first that drops ends it.
#[inline(always)]
pub fn run<T: Tables, P: Packet>(
    tables: &T,
    packet: &P,
    size: impl FnOnce() -> Size,
    link: LinkLayer,
    direction: Direction,
) -> Verdict {
    let set = tables.active();
    let Some(config) = tables.config(set) else {
        return Verdict::PASS;
    };
    let (flow, incomplete) = parse(packet, link, direction);
    if let Some(reason) = incomplete {
        tables.count_reason(reason);
    }
    let target = if flow.is_ip() {
        look_up(tables, set, &config, &flow)
    } else {
        config.default_target
    };
    // Also the way out for `Config::NO_TARGET`, which is no valid id.
    let Some(target) = tables.target(target) else {
        return Verdict::PASS;
    };
    let mut passage = Passage::new(flow);
    let Some(passage) = tables.detached(&mut passage) else {
        return Verdict::PASS;
    };
    // Not before: each way to it would be walked on each way through the parser.
    passage.size = size();
    if config.tables & Config::SPARED != 0 && passage.flow.is_spared(tables, config) {
        return Verdict::PASS;
    }
    // Not an option: memory that holds nothing may hold a pointer, for the verifier.
    let (mut last, mut any) = (Told::nothing(direction), false);
    for i in 0..RULES_PER_TARGET {
        if i >= target.len as usize || i >= tables.scope().rules as usize {
            break;
        }
        let id = target.rules[i];
        let Some(rule) = tables.rule(id) else {
            break;
        };
        if !matches(rule, &passage.flow, direction) || !tables.in_force(id) {
            continue;
        }
        let slot = direction.slot(id);
        let (turn, mut decision) = take_turn(tables, rule, slot, direction);
        let mut wait_ns = 0;
        if tables.holds()
            && tables.scope().has_waits()
            && (rule.model == Model::Delay as u32 || decision == Decision::Delay)
        {
            match wait(tables, target, rule, slot, turn, decision, passage) {
                Some(ns) => (decision, wait_ns) = (Decision::Delay, ns),
                None => decision = Decision::Pass,
            }
        }
        tables.count(slot, passage.size, decision, wait_ns);
        let told = Told {
            rule: id,
            decision: tables.number(decision),
            direction,
            sequence: turn.state.sequence(),
        };
        match decision {
            Decision::Pass => {}
            Decision::Drop => {
                tables.tell(told, passage);
                return Verdict::DROP;
            }
            Decision::Mark => passage.mark(rule),
            Decision::Delay => passage.wait_ns = passage.wait_ns.saturating_add(wait_ns),
            Decision::Duplicate => passage.twice = 1,
        }
        (last, any) = (told, true);
    }
    if any {
        tables.tell(last, passage);
    }
    passage.verdict()
}

/// Takes the next number of the slot's sequence and decides.
#[inline(always)]
fn take_turn<T: Tables>(
    tables: &T,
    rule: &Rule,
    slot: u32,
    direction: Direction,
) -> (Turn, Decision) {
    let turn = |state| Turn { state, direction };
    if tables.scope().has_chains() && rule.has_chain() {
        let (before, after) = tables.step(slot, |state| next(rule, turn(state)));
        let turn = turn(before);
        (turn, decide_by_chain(rule, turn, after.chain()))
    } else {
        let turn = turn(tables.advance(slot));
        (turn, decide(rule, turn))
    }
}

/// How long a packet waits by one rule; `None` where it goes ahead of the others.
#[inline(always)]
fn wait<T: Tables>(
    tables: &T,
    target: &Target,
    rule: &Rule,
    slot: u32,
    turn: Turn,
    decision: Decision,
    passage: &Passage,
) -> Option<u64> {
    if tables.scope().has(Model::Rate) && rule.model == Model::Rate as u32 {
        // It gets to the link when it has waited elsewhere, its copy behind it.
        let there_ns = tables.now_ns().saturating_add(passage.wait_ns);
        let bytes = u64::from(passage.size.wire_bytes);
        let for_ns = transmission_ns(rule, bytes) << (passage.twice & 1);
        let end_ns = tables.transmit(slot, there_ns, for_ns);
        let wait_ns = end_ns
            .saturating_sub(rule.rate.burst_ns)
            .saturating_sub(there_ns);
        // Its turn, if nothing else: going at once it would overtake those that are held.
        return Some(wait_ns.max(1));
    }
    if !tables.scope().has(Model::Delay) {
        return None;
    }
    let before = tables.memory(slot);
    let chosen = decision == Decision::Pass;
    let quantile = |place| tables.quantile(place);
    let (wait_ns, after) = delay(rule, turn, chosen, before, target.wait_ns, quantile);
    if rule.delay.gap != 0 || rule.delay.correlation != 0 {
        tables.remember(slot, after);
    }
    wait_ns
}

#[inline(always)]
fn look_up<T: Tables>(tables: &T, set: u32, config: &Config, flow: &Flow) -> u32 {
    if config.tables & Config::HOSTS != 0
        && let Some(target) = tables.host(set, flow.far)
    {
        return target;
    }
    if config.tables & Config::PREFIXES != 0
        && let Some(target) = tables.prefix(set, flow.far)
    {
        return target;
    }
    config.default_target
}

impl Flow {
    #[inline(always)]
    fn is_spared<T: Tables>(&self, tables: &T, config: Config) -> bool {
        if self.flags & (Self::ARP | Self::NEIGHBOUR_DISCOVERY) != 0 {
            return config.tables & Config::NEIGHBOURS != 0;
        }
        self.is(Self::PORTS)
            && self.protocol == u32::from(protocol::TCP)
            && tables.spared(&Connection {
                far: self.far,
                near: self.near,
                far_port: self.far_port,
                near_port: self.near_port,
            })
    }
}

impl Passage {
    #[inline(always)]
    const fn new(flow: Flow) -> Self {
        Self {
            flow,
            size: Size {
                packets: 0,
                bytes: 0,
                wire_bytes: 0,
            },
            mark: 0,
            mark_mask: 0,
            dscp: Rule::NO_DSCP,
            twice: 0,
            wait_ns: 0,
        }
    }

    /// A later mark replaces the bits that it names.
    #[inline(always)]
    fn mark(&mut self, rule: &Rule) {
        self.mark = (self.mark & !rule.mark_mask) | (rule.mark & rule.mark_mask);
        self.mark_mask |= rule.mark_mask;
        if rule.dscp != Rule::NO_DSCP {
            self.dscp = rule.dscp;
        }
    }

    /// What it comes to, where no rule lost the packet.
    #[inline(always)]
    fn verdict(&self) -> Verdict {
        Verdict {
            drop: false,
            mark: self.mark,
            mark_mask: self.mark_mask,
            dscp: self.dscp,
            network_offset: self.flow.network_offset,
            ip: self.flow.flags & (Flow::IPV4 | Flow::IPV6),
            wait_ns: self.wait_ns,
            twice: self.twice != 0,
        }
    }
}
