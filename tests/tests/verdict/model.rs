//! The engine over plain vectors: what the kernel has to agree with.
//!
//! The far ends are looked up by trying every entry, so that the maps of the kernel
//! are compared with something simpler than they are.

use std::cell::RefCell;

use fault_common::{
    address::{Address, Network},
    decide::Decision,
    engine::{Passage, Size, Tables, Told, Verdict, run},
    layout::{
        Config, Connection, Counters, Delays, Direction, Memory, RULES_PER_TARGET, Rule, SLOTS,
        State, Target,
    },
    packet::{LinkLayer, Reason},
};
use fault_user::spec::RuleSet;

/// The same tables as in the kernel.
pub struct Model {
    set: RuleSet,
    rules: Vec<Rule>,
    targets: Vec<Target>,
    /// Rules whose deadline has passed.
    pub ended: Vec<u32>,
    /// Connections that no rule may touch.
    pub spared: Vec<Connection>,
    /// Whether ARP and neighbour discovery pass.
    pub neighbours: bool,
    states: RefCell<Vec<State>>,
    memories: RefCell<Vec<Memory>>,
    counters: RefCell<Vec<Counters>>,
    delays: RefCell<Vec<Delays>>,
    reasons: RefCell<[u64; Reason::ALL.len()]>,
}

impl Model {
    pub fn new(set: &RuleSet) -> Self {
        let targets = set.targets.iter().map(|rules| {
            let mut target = Target {
                len: u32::try_from(rules.len()).expect("a short list"),
                rules: [0; RULES_PER_TARGET],
            };
            target.rules[..rules.len()].copy_from_slice(rules);
            target
        });
        Self {
            rules: set.rules.iter().map(|named| named.rule).collect(),
            targets: targets.collect(),
            ended: Vec::new(),
            spared: Vec::new(),
            neighbours: false,
            states: vec![State::default(); SLOTS as usize].into(),
            memories: vec![Memory::default(); SLOTS as usize].into(),
            counters: vec![Counters::default(); SLOTS as usize].into(),
            delays: vec![Delays::default(); SLOTS as usize].into(),
            reasons: RefCell::default(),
            set: set.clone(),
        }
    }

    pub fn decide(
        &self,
        frame: &[u8],
        segments: u32,
        link: LinkLayer,
        direction: Direction,
        holds: bool,
    ) -> Verdict {
        let size = Size {
            packets: segments.max(1),
            bytes: u32::try_from(frame.len()).expect("a frame"),
            wire_bytes: 0,
        };
        run(self, &frame, size, link, direction, holds)
    }

    pub fn counters(&self, rule: u32, direction: Direction) -> Counters {
        self.counters.borrow()[direction.slot(rule) as usize]
    }

    pub fn delays(&self, rule: u32, direction: Direction) -> Delays {
        self.delays.borrow()[direction.slot(rule) as usize]
    }

    pub fn reason(&self, reason: Reason) -> u64 {
        self.reasons.borrow()[reason as usize]
    }
}

impl Tables for Model {
    fn active(&self) -> u32 {
        0
    }

    fn config(&self, _set: u32) -> Option<Config> {
        Some(Config {
            tables: Config::HOSTS
                | Config::PREFIXES
                | Config::SPARED
                | if self.neighbours {
                    Config::NEIGHBOURS
                } else {
                    0
                },
            first_rule: 0,
            default_target: self.set.default_target.unwrap_or(Config::NO_TARGET),
        })
    }

    fn host(&self, _set: u32, far: Address) -> Option<u32> {
        let found = self.set.hosts.iter().find(|(host, _)| *host == far);
        found.map(|(_, target)| *target)
    }

    fn prefix(&self, _set: u32, far: Address) -> Option<u32> {
        self.set
            .prefixes
            .iter()
            .filter(|(address, len, _)| Network::new(*address, *len).contains(far))
            .max_by_key(|(_, len, _)| *len)
            .map(|(_, _, target)| *target)
    }

    fn spared(&self, connection: &Connection) -> bool {
        self.spared.contains(connection) || self.spared.contains(&connection.reversed())
    }

    fn target(&self, id: u32) -> Option<&Target> {
        self.targets.get(id as usize)
    }

    fn rule(&self, id: u32) -> Option<&Rule> {
        self.rules.get(id as usize)
    }

    fn detached<'a>(&'a self, passage: &'a mut Passage) -> Option<&'a mut Passage> {
        Some(passage)
    }

    fn in_force(&self, rule: u32) -> bool {
        !self.ended.contains(&rule)
    }

    fn advance(&self, slot: u32) -> State {
        let state = &mut self.states.borrow_mut()[slot as usize];
        let before = *state;
        state.word += State::PACKET;
        before
    }

    fn step(&self, slot: u32, next: impl Fn(State) -> State) -> (State, State) {
        let state = &mut self.states.borrow_mut()[slot as usize];
        let before = *state;
        *state = next(before);
        (before, *state)
    }

    fn memory(&self, slot: u32) -> Memory {
        self.memories.borrow()[slot as usize]
    }

    fn remember(&self, slot: u32, memory: Memory) {
        self.memories.borrow_mut()[slot as usize] = memory;
    }

    fn quantile(&self, place: u32) -> i16 {
        self.set.quantiles[place as usize]
    }

    fn now_ns(&self) -> u64 {
        unimplemented!("no clock agrees with the kernel's")
    }

    fn transmit(&self, _slot: u32, _there_ns: u64, _for_ns: u64) -> u64 {
        unimplemented!("depends on the clock")
    }

    fn count(&self, slot: u32, size: Size, decision: Decision, wait_ns: u64) {
        let packets = u64::from(size.packets);
        let bytes = u64::from(size.bytes);
        let dropped = decision == Decision::Drop;
        let of = |which| if decision == which { packets } else { 0 };
        let delayed = of(Decision::Delay);
        self.delays.borrow_mut()[slot as usize].buckets[Delays::bucket(wait_ns)] += delayed;
        self.counters.borrow_mut()[slot as usize].add(&Counters {
            matched_skbs: 1,
            matched_packets: packets,
            matched_bytes: bytes,
            dropped_skbs: dropped.into(),
            dropped_packets: of(Decision::Drop),
            dropped_bytes: if dropped { bytes } else { 0 },
            dropped_super_skbs: (dropped && packets > 1).into(),
            marked_packets: of(Decision::Mark),
            delayed_packets: delayed,
            delayed_ns: wait_ns * delayed,
            duplicated_packets: of(Decision::Duplicate),
        });
    }

    fn number(&self, decision: Decision) -> u32 {
        decision as u32
    }

    fn tell(&self, _told: Told, _passage: &Passage) {}

    fn count_reason(&self, reason: Reason) {
        self.reasons.borrow_mut()[reason as usize] += 1;
    }
}
