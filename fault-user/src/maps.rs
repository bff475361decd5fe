//! The one place that touches map types: from a rule set into the kernel, and
//! counters out of it.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::{
    Ebpf, EbpfLoader,
    maps::{
        Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues,
        lpm_trie::Key as PrefixKey,
    },
    programs::ProgramInfo,
    util::nr_cpus,
};
use fault_common::{
    layout::{
        Config, Connection, Counters, Direction, Key, Owner, RULES, RULES_PER_SET,
        RULES_PER_TARGET, Rule, SETS, State, TARGETS_PER_SET, Target,
    },
    packet::{LinkLayer, Reason},
};

use crate::{error::KernelError, object::Object, spec::compile::RuleSet};

mod lines;

pub use lines::Lines;

/// How many far ends the tables have room for, over both sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Exact hosts.
    pub hosts: u32,
    /// Prefixes.
    pub prefixes: u32,
}

impl Capacity {
    /// Just enough for one rule set; where far ends have host names, for two side by
    /// side, with room for the names to get more addresses.
    pub fn of(set: &RuleSet, names: usize) -> Result<Self, KernelError> {
        const PER_NAME: usize = 64;
        let count = |what, n: usize| u32::try_from(n).map_err(|_| KernelError::TooMany { what });
        let sets = if names == 0 { 1 } else { SETS as usize };
        Ok(Self {
            hosts: count("hosts", sets * (set.hosts.len() + names * PER_NAME))?,
            prefixes: count("prefixes", sets * (set.prefixes.len() + names))?,
        })
    }
}

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
    targets: Array<MapData, Target>,
    hosts: HashMap<MapData, Key, u32>,
    prefixes: LpmTrie<MapData, Key, u32>,
    states: Array<MapData, State>,
    spared: HashMap<MapData, Connection, u32>,
    /// Bits of [`Config::tables`] beside those of the rule sets.
    spares: u32,
    set: u32,
    first_rule: u32,
    /// What the set in force put into the tables, to be taken out when it is replaced.
    keys: (Vec<Key>, Vec<PrefixKey<Key>>),
}

impl Loaded {
    /// Creates the maps and parses the programs; nothing is in force yet.
    pub fn new(
        object: Object<'_>,
        link: LinkLayer,
        capacity: Capacity,
    ) -> Result<Self, KernelError> {
        let no_link_layer = u8::from(link == LinkLayer::None);
        let mut ebpf = EbpfLoader::new()
            .override_global("NO_LINK_LAYER", &no_link_layer, true)
            .map_max_entries("HOSTS", capacity.hosts.max(1))
            .map_max_entries("PREFIXES", capacity.prefixes.max(1))
            .load(object.bytes())
            .map_err(KernelError::load)?;
        let deadlines = Deadlines::of(&ebpf)?;
        let owner = descriptor(&ebpf, "OWNER")?;
        let mut take = |name| ebpf.take_map(name);
        let tables = Tables::from_maps(&mut take)?;
        Ok(Self {
            targets: map("TARGET_LIST", take("TARGET_LIST"))?,
            hosts: map("HOSTS", take("HOSTS"))?,
            prefixes: map("PREFIXES", take("PREFIXES"))?,
            states: map("STATES", take("STATES"))?,
            spared: map("SPARED_LIST", take("SPARED_LIST"))?,
            spares: 0,
            set: SETS - 1,
            first_rule: RULES - RULES_PER_SET,
            keys: (Vec::new(), Vec::new()),
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
    pub fn replace(&mut self, set: &RuleSet, deadline_ns: u64) -> Result<(), KernelError> {
        // Not where those in force are.
        let first_rule = (self.first_rule + RULES_PER_SET) % RULES;
        self.write_rules(first_rule, set, deadline_ns)?;
        self.switch(first_rule, set)
    }

    /// Puts the far ends of a rule set in force for the rules that are there, which keep
    /// their counters, sequences and deadlines; in the same way as [`Self::replace`].
    pub fn readdress(&mut self, set: &RuleSet) -> Result<(), KernelError> {
        self.switch(self.first_rule, set)
    }

    fn switch(&mut self, first_rule: u32, set: &RuleSet) -> Result<(), KernelError> {
        let next = (self.set + 1) % SETS;
        let keys = self
            .write_far_ends(next, first_rule, set)
            .inspect_err(|_| self.forget(&keys_of(next, set)))?;
        self.tables
            .active
            .set(0, next, 0)
            .map_err(KernelError::map("ACTIVE"))?;
        let before = std::mem::replace(&mut self.keys, keys);
        self.set = next;
        self.first_rule = first_rule;
        wait_for_readers();
        self.forget(&before);
        Ok(())
    }

    fn write_rules(
        &mut self,
        first_rule: u32,
        set: &RuleSet,
        deadline_ns: u64,
    ) -> Result<(), KernelError> {
        if set.rules.len() > RULES_PER_SET as usize {
            return Err(KernelError::TooMany { what: "rules" });
        }
        let rules = set.rules.iter().map(|named| named.rule);
        for (id, rule) in (first_rule..first_rule + RULES_PER_SET)
            .zip(rules.chain(std::iter::repeat(Rule::default())))
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
                self.tables.reset(slot)?;
            }
        }
        Ok(())
    }

    fn write_far_ends(
        &mut self,
        next: u32,
        first_rule: u32,
        set: &RuleSet,
    ) -> Result<(Vec<Key>, Vec<PrefixKey<Key>>), KernelError> {
        let first_target = next * TARGETS_PER_SET;
        if set.targets.len() > TARGETS_PER_SET as usize {
            return Err(KernelError::TooMany { what: "targets" });
        }
        for (id, rules) in (first_target..).zip(&set.targets) {
            let mut target = Target::default();
            if rules.len() > RULES_PER_TARGET {
                return Err(KernelError::TooMany {
                    what: "faults on one target",
                });
            }
            for (place, rule) in target.rules.iter_mut().zip(rules) {
                *place = first_rule + rule;
                target.len += 1;
            }
            self.targets
                .set(id, target, 0)
                .map_err(KernelError::map("TARGET_LIST"))?;
        }
        let keys = keys_of(next, set);
        for (key, (_, target)) in keys.0.iter().zip(&set.hosts) {
            self.hosts
                .insert(key, first_target + target, 0)
                .map_err(KernelError::map("HOSTS"))?;
        }
        for (key, (_, _, target)) in keys.1.iter().zip(&set.prefixes) {
            self.prefixes
                .insert(key, first_target + target, 0)
                .map_err(KernelError::map("PREFIXES"))?;
        }
        let mut tables = self.spares;
        for (there, bit) in [
            (!set.hosts.is_empty(), Config::HOSTS),
            (!set.prefixes.is_empty(), Config::PREFIXES),
        ] {
            tables |= if there { bit } else { 0 };
        }
        let config = Config {
            tables,
            first_rule,
            default_target: set
                .default_target
                .map_or(Config::NO_TARGET, |target| first_target + target),
        };
        self.tables
            .config
            .set(next, config, 0)
            .map_err(KernelError::map("CONFIG"))?;
        Ok(keys)
    }

    /// Takes entries out; those that never got in are no error.
    fn forget(&mut self, (hosts, prefixes): &(Vec<Key>, Vec<PrefixKey<Key>>)) {
        for key in hosts {
            let _ = self.hosts.remove(key);
        }
        for key in prefixes {
            let _ = self.prefixes.remove(key);
        }
    }
}

fn keys_of(set: u32, rules: &RuleSet) -> (Vec<Key>, Vec<PrefixKey<Key>>) {
    let key = |address| Key { set, address };
    (
        rules
            .hosts
            .iter()
            .map(|(address, _)| key(*address))
            .collect(),
        rules
            .prefixes
            .iter()
            .map(|(address, len, _)| PrefixKey::new(Key::SET_BITS + len, key(*address)))
            .collect(),
    )
}

/// Returns when every program run that began before has ended: membarrier(2)'s
/// global command is the kernel's `synchronize_rcu`, and programs run under RCU.
/// Where it is not there (`nohz_full`), a reader that takes microseconds could
/// miss an old entry and see its packet pass.
pub fn wait_for_readers() {
    let _ = rustix::thread::membarrier(rustix::thread::MembarrierCommand::Global);
}

/// The maps that tell about a fault, of this process or found in the kernel.
pub struct Tables {
    active: Array<MapData, u32>,
    config: Array<MapData, Config>,
    rules: Array<MapData, Rule>,
    deadlines: Array<MapData, u64>,
    counters: PerCpuArray<MapData, Counters>,
    reasons: PerCpuArray<MapData, u64>,
    owner: Array<MapData, Owner>,
}

impl Tables {
    fn from_maps(take: &mut dyn FnMut(&'static str) -> Option<Map>) -> Result<Self, KernelError> {
        Ok(Self {
            active: map("ACTIVE", take("ACTIVE"))?,
            config: map("CONFIG", take("CONFIG"))?,
            rules: map("RULE_LIST", take("RULE_LIST"))?,
            deadlines: map("DEADLINES", take("DEADLINES"))?,
            counters: map("COUNTERS", take("COUNTERS"))?,
            reasons: map("REASON_COUNTS", take("REASON_COUNTS"))?,
            owner: map("OWNER", take("OWNER"))?,
        })
    }

    /// Those of a loaded program, by the ids of its maps; `None` where its layouts
    /// are of another version. Needs `CAP_SYS_ADMIN`.
    pub fn of_program(program: &ProgramInfo) -> Result<Option<Self>, KernelError> {
        let mut maps = Vec::new();
        for id in program
            .map_ids()
            .map_err(KernelError::inventory)?
            .unwrap_or_default()
        {
            let data = MapData::from_id(id).map_err(KernelError::inventory)?;
            let name = data.info().map_err(KernelError::inventory)?;
            let name = name.name_as_str().unwrap_or_default().to_owned();
            maps.push((
                name,
                Map::from_map_data(data).map_err(KernelError::inventory)?,
            ));
        }
        let mut take = |name: &'static str| {
            let place = maps.iter().position(|(other, _)| other == name)?;
            Some(maps.swap_remove(place).1)
        };
        Ok(Self::from_maps(&mut take).ok())
    }

    /// The rules in force, with their ids.
    pub fn rules(&self) -> Result<Vec<(u32, Rule)>, KernelError> {
        let set = self.active.get(&0, 0).map_err(KernelError::map("ACTIVE"))?;
        let config = self
            .config
            .get(&set, 0)
            .map_err(KernelError::map("CONFIG"))?;
        let mut rules = Vec::new();
        for id in (config.first_rule..).take(RULES_PER_SET as usize) {
            let rule = self
                .rules
                .get(&id, 0)
                .map_err(KernelError::map("RULE_LIST"))?;
            if rule.model == 0 {
                break;
            }
            rules.push((id, rule));
        }
        Ok(rules)
    }

    /// When the rule ends, `CLOCK_BOOTTIME` in nanoseconds; 0: it has no force.
    pub fn deadline(&self, id: u32) -> Result<u64, KernelError> {
        self.deadlines
            .get(&id, 0)
            .map_err(KernelError::map("DEADLINES"))
    }

    /// Moves the rule's end.
    pub fn set_deadline(&mut self, id: u32, deadline_ns: u64) -> Result<(), KernelError> {
        self.deadlines
            .set(id, deadline_ns, 0)
            .map_err(KernelError::map("DEADLINES"))
    }

    /// What the rule did in a direction, over all CPUs.
    pub fn counters(&self, rule: u32, direction: Direction) -> Result<Counters, KernelError> {
        let per_cpu = self
            .counters
            .get(&direction.slot(rule), 0)
            .map_err(KernelError::map("COUNTERS"))?;
        let mut sum = Counters::default();
        per_cpu.iter().for_each(|one| sum.add(one));
        Ok(sum)
    }

    fn reset(&mut self, slot: u32) -> Result<(), KernelError> {
        let cpus = nr_cpus().map_err(|(_, error)| KernelError::inventory(error))?;
        let zero = PerCpuValues::try_from(vec![Counters::default(); cpus])
            .map_err(KernelError::inventory)?;
        self.counters
            .set(slot, zero, 0)
            .map_err(KernelError::map("COUNTERS"))
    }

    /// Frames that could not be read in full.
    pub fn reason(&self, reason: Reason) -> Result<u64, KernelError> {
        let per_cpu = self
            .reasons
            .get(&(reason as u32), 0)
            .map_err(KernelError::map("REASON_COUNTS"))?;
        Ok(per_cpu.iter().sum())
    }

    /// Whose it is.
    pub fn owner(&self) -> Result<Owner, KernelError> {
        self.owner.get(&0, 0).map_err(KernelError::map("OWNER"))
    }

    /// Says whose it is.
    pub fn set_owner(&mut self, owner: &Owner) -> Result<(), KernelError> {
        self.owner
            .set(0, owner, 0)
            .map_err(KernelError::map("OWNER"))
    }
}

/// A handle of its own on the deadlines of an object, for the thread that keeps them.
pub struct Deadlines(Array<MapData, u64>);

impl Deadlines {
    fn of(ebpf: &Ebpf) -> Result<Self, KernelError> {
        let data = MapData::from_fd(descriptor(ebpf, "DEADLINES")?)
            .map_err(KernelError::map("DEADLINES"))?;
        map("DEADLINES", Map::from_map_data(data).ok()).map(Self)
    }

    /// Moves a rule's end.
    pub fn set(&mut self, rule: u32, deadline_ns: u64) -> Result<(), MapError> {
        self.0.set(rule, deadline_ns, 0)
    }
}

/// A descriptor of its own of an array.
fn descriptor(ebpf: &Ebpf, name: &str) -> Result<OwnedFd, KernelError> {
    let Some(Map::Array(data)) = ebpf.map(name) else {
        return Err(KernelError::ObjectVersion);
    };
    data.fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(KernelError::system("duplicate a descriptor"))
}

fn map<T>(name: &'static str, map: Option<Map>) -> Result<T, KernelError>
where
    T: TryFrom<Map, Error = MapError>,
{
    map.ok_or(KernelError::ObjectVersion)?
        .try_into()
        .map_err(KernelError::map(name))
}
