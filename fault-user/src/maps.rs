//! The one place that touches map types: from a rule set into the kernel, and
//! counters out of it.

mod batch;
mod far_ends;
mod lines;
mod memory;
mod tables;

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, MapError},
};
use fault_common::{
    layout::{
        Config, Connection, Direction, Memory, RULES, RULES_PER_SET, Rule, SETS, Scope, State,
        Step, TARGETS_PER_SET,
    },
    packet::LinkLayer,
};

use crate::{error::KernelError, object::Object, spec::compile::RuleSet};

pub use far_ends::{FarEnds, Room};
pub use lines::Lines;
pub use tables::{Deadlines, Tables};

/// An object in the kernel with its tables. Its programs are not attached.
pub struct Loaded {
    /// The programs, and the maps that nobody here needs by name.
    pub ebpf: Ebpf,
    /// Rules, counters and all that any process may read.
    pub tables: Tables,
    /// The map that says whose this is: no program reads it, so each is told to hold it.
    pub owner: OwnedFd,
    /// Taken by the thread that keeps the deadlines.
    pub deadlines: Option<Deadlines>,
    targets: OwnedFd,
    targets_per_set: u32,
    table: OwnedFd,
    filter: OwnedFd,
    filter_words: u32,
    steps: Array<MapData, Step>,
    states: Array<MapData, State>,
    memories: Array<MapData, Memory>,
    quantiles: OwnedFd,
    spared: HashMap<MapData, Connection, u32>,
    /// Bits of [`Config::tables`] beside those of the rule sets.
    spares: u32,
    /// What rules the programs are made for.
    scope: Scope,
    set: u32,
    first_rule: u32,
    /// Those of the set in force, to be taken out when it is replaced.
    far_ends: Arc<FarEnds>,
}

impl Loaded {
    /// Creates the maps and parses the programs; nothing is in force yet.
    pub fn new(object: Object<'_>, link: LinkLayer, room: Room) -> Result<Self, KernelError> {
        let number =
            |n: usize| u32::try_from(n).map_err(|_| KernelError::TooMany { what: "far ends" });
        let (entries, filter_words) = (number(room.entries)?, number(room.words())?);
        if room.targets > TARGETS_PER_SET as usize {
            return Err(KernelError::TooMany { what: "delays" });
        }
        let targets_per_set = number(room.targets)?;
        let no_link_layer = u8::from(link == LinkLayer::None);
        let mut ebpf = EbpfLoader::new()
            .override_global("NO_LINK_LAYER", &no_link_layer, true)
            .override_global("MODELS", &room.scope.models, true)
            .override_global("MOST_RULES", &room.scope.rules, true)
            .map_max_entries("FAR_ENDS", entries.max(1))
            .map_max_entries("FILTER", SETS * filter_words)
            .map_max_entries("TARGET_LIST", (SETS * targets_per_set).max(1))
            .map_max_entries("QUANTILES", number(room.quantiles)?.max(1))
            .load(object.bytes())
            .map_err(KernelError::load)?;
        let deadlines = Deadlines::of(&ebpf)?;
        let owner = descriptor(&ebpf, "OWNER")?;
        let table = descriptor(&ebpf, "FAR_ENDS")?;
        let filter = descriptor(&ebpf, "FILTER")?;
        let quantiles = descriptor(&ebpf, "QUANTILES")?;
        let targets = descriptor(&ebpf, "TARGET_LIST")?;
        let memory = memory::charged(ebpf.maps().filter_map(|(_, map)| data(map)));
        let mut take = |name| ebpf.take_map(name);
        let tables = Tables::from_maps(memory, &mut take)?;
        Ok(Self {
            targets,
            targets_per_set,
            steps: map("STEP_LIST", take("STEP_LIST"))?,
            table,
            filter,
            filter_words,
            scope: room.scope,
            states: map("STATES", take("STATES"))?,
            memories: map("MEMORY", take("MEMORY"))?,
            quantiles,
            spared: map("SPARED_LIST", take("SPARED_LIST"))?,
            spares: 0,
            set: SETS - 1,
            first_rule: RULES - RULES_PER_SET,
            far_ends: Arc::default(),
            tables,
            owner,
            deadlines: Some(deadlines),
            ebpf,
        })
    }

    /// Id of the first rule in force; the others follow.
    pub fn first_rule(&self) -> u32 {
        self.first_rule
    }

    /// Lets a connection pass whatever the rules say, from the next rule set on.
    pub fn spare(&mut self, connection: &Connection) -> Result<(), KernelError> {
        // Through the loopback interface, what one end sends comes in as from the other.
        for seen in [*connection, connection.reversed()] {
            self.spared
                .insert(seen, 0, 0)
                .map_err(KernelError::map("SPARED_LIST"))?;
        }
        self.spares |= Config::SPARED;
        Ok(())
    }

    /// Lets ARP and neighbour discovery pass too, from the next rule set on, where a
    /// connection is spared.
    pub fn spare_neighbours(&mut self) {
        self.spares |= Config::NEIGHBOURS;
    }

    /// Puts a rule set in force: built beside the one before, switched to by one
    /// byte, the old entries taken out when no packet can read them any more.
    ///
    /// `deadline_ns` (`CLOCK_BOOTTIME`) is the first end of its rules. On an error
    /// the set before stays in force.
    pub fn replace(
        &mut self,
        set: &RuleSet,
        far_ends: Arc<FarEnds>,
        deadline_ns: u64,
    ) -> Result<(), KernelError> {
        // Not where those in force are.
        let first_rule = (self.first_rule + RULES_PER_SET) % RULES;
        self.write_rules(first_rule, set, deadline_ns)?;
        self.switch(first_rule, set, far_ends)
    }

    /// Puts the far ends of a rule set in force for the rules that are there, which keep
    /// their counters, sequences and deadlines; in the same way as [`Self::replace`].
    pub fn readdress(&mut self, set: &RuleSet, far_ends: Arc<FarEnds>) -> Result<(), KernelError> {
        self.switch(self.first_rule, set, far_ends)
    }

    fn switch(
        &mut self,
        first_rule: u32,
        set: &RuleSet,
        far_ends: Arc<FarEnds>,
    ) -> Result<(), KernelError> {
        let next = (self.set + 1) % SETS;
        self.write_far_ends(next, first_rule, set, &far_ends)
            .inspect_err(|_| self.forget(next, &far_ends))?;
        self.tables
            .active
            .set(0, next, 0)
            .map_err(KernelError::map("ACTIVE"))?;
        let before = std::mem::replace(&mut self.set, next);
        let old = std::mem::replace(&mut self.far_ends, far_ends);
        self.first_rule = first_rule;
        wait_for_readers();
        self.forget(before, &old);
        Ok(())
    }

    fn write_rules(
        &mut self,
        first_rule: u32,
        set: &RuleSet,
        deadline_ns: u64,
    ) -> Result<(), KernelError> {
        let rules = || set.rules.iter().map(|named| named.rule);
        if set.rules.len() > RULES_PER_SET as usize || !rules().all(|rule| self.scope.covers(&rule))
        {
            return Err(KernelError::TooMany { what: "rules" });
        }
        for (id, rule) in (first_rule..first_rule + RULES_PER_SET)
            .zip(rules().chain(std::iter::repeat(Rule::default())))
        {
            self.tables
                .rules
                .set(id, rule, 0)
                .map_err(KernelError::map("RULE_LIST"))?;
            self.tables.set_deadline(id, deadline_ns)?;
            for direction in Direction::ALL {
                let slot = direction.slot(id);
                self.states
                    .set(slot, State::default(), 0)
                    .map_err(KernelError::map("STATES"))?;
                self.memories
                    .set(slot, Memory::default(), 0)
                    .map_err(KernelError::map("MEMORY"))?;
                self.tables.reset(slot)?;
            }
        }
        let quantiles = (0..).zip(set.quantiles.iter().copied());
        batch::insert(self.quantiles.as_fd(), quantiles).map_err(KernelError::map_io("QUANTILES"))
    }

    fn write_far_ends(
        &mut self,
        next: u32,
        first_rule: u32,
        set: &RuleSet,
        far_ends: &FarEnds,
    ) -> Result<(), KernelError> {
        let first_target = next * self.targets_per_set;
        if set.targets.len() > self.targets_per_set as usize {
            return Err(KernelError::TooMany { what: "targets" });
        }
        let most = self.scope.rules as usize;
        if set.targets.iter().any(|target| target.rules.len() > most) {
            return Err(KernelError::TooMany {
                what: "faults on one target",
            });
        }
        let targets = set.targets.iter().map(|target| target.layout(first_rule));
        batch::insert(self.targets.as_fd(), (first_target..).zip(targets))
            .map_err(KernelError::map_io("TARGET_LIST"))?;
        let id = |target: Option<u32>| target.map(|target| first_target + target);
        let default_target = id(set.default_target).unwrap_or(Config::NO_TARGET);
        for (id, step) in far_ends.steps(next, self.filter_words) {
            self.steps
                .set(id, step, 0)
                .map_err(KernelError::map("STEP_LIST"))?;
        }
        if far_ends.has_prefixes() {
            let words = far_ends.filter(next, self.filter_words);
            batch::insert(self.filter.as_fd(), (next * self.filter_words..).zip(words))
                .map_err(KernelError::map_io("FILTER"))?;
        }
        let entries = far_ends
            .entries(next)
            .map(|(key, target)| (key, id(target).unwrap_or(default_target)));
        batch::insert(self.table.as_fd(), entries).map_err(KernelError::map_io("FAR_ENDS"))?;
        let mut tables = self.spares;
        for (there, bit) in [
            (far_ends.has_hosts(), Config::HOSTS),
            (far_ends.has_prefixes(), Config::PREFIXES),
        ] {
            tables |= if there { bit } else { 0 };
        }
        let config = Config {
            tables,
            first_rule,
            default_target,
        };
        self.tables
            .config
            .set(next, config, 0)
            .map_err(KernelError::map("CONFIG"))
    }

    /// Takes entries out; those that never got in are no error.
    fn forget(&self, set: u32, far_ends: &FarEnds) {
        batch::remove(
            self.table.as_fd(),
            far_ends.entries(set).map(|(key, _)| key),
        );
    }
}

/// Returns when every program run that began before has ended: membarrier(2)'s
/// global command is the kernel's `synchronize_rcu`, and programs run under RCU.
/// Where it is not there (`nohz_full`), a reader that takes microseconds could
/// miss an old entry and see its packet pass.
pub fn wait_for_readers() {
    let _ = rustix::thread::membarrier(rustix::thread::MembarrierCommand::Global);
}

/// A descriptor of its own of a map.
fn descriptor(ebpf: &Ebpf, name: &str) -> Result<OwnedFd, KernelError> {
    let data = ebpf.map(name).and_then(data);
    data.ok_or(KernelError::ObjectVersion)?
        .fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(KernelError::system("duplicate a descriptor"))
}

/// Of the types of map that the object has.
fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data) | Map::PerCpuArray(data) | Map::HashMap(data) => Some(data),
        _ => None,
    }
}

fn map<T>(name: &'static str, map: Option<Map>) -> Result<T, KernelError>
where
    T: TryFrom<Map, Error = MapError>,
{
    map.ok_or(KernelError::ObjectVersion)?
        .try_into()
        .map_err(KernelError::map(name))
}
