//! What any process may read of a fault, and its owner write.

use aya::{
    Ebpf,
    maps::{Array, Map, MapData, MapError, PerCpuArray, PerCpuValues},
    programs::ProgramInfo,
    util::nr_cpus,
};
use fault_common::{
    layout::{Config, Counters, Delays, Direction, Owner, RULES_PER_SET, Rule},
    packet::Reason,
};

use super::{data, descriptor, map, memory};
use crate::error::KernelError;

/// The maps that tell about a fault, of this process or found in the kernel.
pub struct Tables {
    pub(super) active: Array<MapData, u32>,
    pub(super) config: Array<MapData, Config>,
    pub(super) rules: Array<MapData, Rule>,
    deadlines: Array<MapData, u64>,
    counters: PerCpuArray<MapData, Counters>,
    delays: PerCpuArray<MapData, Delays>,
    /// Not among the maps of a program that can hold nothing.
    missed: Option<PerCpuArray<MapData, u64>>,
    reasons: PerCpuArray<MapData, u64>,
    owner: Array<MapData, Owner>,
    memory: u64,
}

impl Tables {
    pub(super) fn from_maps(
        memory: u64,
        take: &mut dyn FnMut(&'static str) -> Option<Map>,
    ) -> Result<Self, KernelError> {
        Ok(Self {
            active: map("ACTIVE", take("ACTIVE"))?,
            config: map("CONFIG", take("CONFIG"))?,
            rules: map("RULE_LIST", take("RULE_LIST"))?,
            deadlines: map("DEADLINES", take("DEADLINES"))?,
            counters: map("COUNTERS", take("COUNTERS"))?,
            delays: map("DELAYS", take("DELAYS"))?,
            missed: take("MISSED")
                .map(|missed| map("MISSED", Some(missed)))
                .transpose()?,
            reasons: map("REASON_COUNTS", take("REASON_COUNTS"))?,
            owner: map("OWNER", take("OWNER"))?,
            memory,
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
        let memory = memory::charged(maps.iter().filter_map(|(_, map)| data(map)));
        let mut take = |name: &'static str| {
            let place = maps.iter().position(|(other, _)| other == name)?;
            Some(maps.swap_remove(place).1)
        };
        Ok(Self::from_maps(memory, &mut take).ok())
    }

    /// What all maps of the object cost the kernel, in bytes.
    pub fn memory(&self) -> u64 {
        self.memory
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

    /// How long the rule told packets to wait in a direction, over all CPUs.
    pub fn delays(&self, rule: u32, direction: Direction) -> Result<Delays, KernelError> {
        let per_cpu = self
            .delays
            .get(&direction.slot(rule), 0)
            .map_err(KernelError::map("DELAYS"))?;
        let mut sum = Delays::default();
        per_cpu.iter().for_each(|one| sum.add(one));
        Ok(sum)
    }

    /// Frames that were to wait or to come twice in a direction, and could not.
    pub fn missed(&self, direction: Direction) -> Result<u64, KernelError> {
        let Some(missed) = &self.missed else {
            return Ok(0);
        };
        let per_cpu = missed
            .get(&(direction as u32), 0)
            .map_err(KernelError::map("MISSED"))?;
        Ok(per_cpu.iter().sum())
    }

    pub(super) fn reset(&mut self, slot: u32) -> Result<(), KernelError> {
        self.counters
            .set(slot, zeros(Counters::default())?, 0)
            .map_err(KernelError::map("COUNTERS"))?;
        self.delays
            .set(slot, zeros(Delays::default())?, 0)
            .map_err(KernelError::map("DELAYS"))
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

fn zeros<T: aya::Pod>(zero: T) -> Result<PerCpuValues<T>, KernelError> {
    let cpus = nr_cpus().map_err(|(_, error)| KernelError::inventory(error))?;
    PerCpuValues::try_from(vec![zero; cpus]).map_err(KernelError::inventory)
}

/// A handle of its own on the deadlines of an object, for the thread that keeps them.
pub struct Deadlines(Array<MapData, u64>);

impl Deadlines {
    pub(super) fn of(ebpf: &Ebpf) -> Result<Self, KernelError> {
        let data = MapData::from_fd(descriptor(ebpf, "DEADLINES")?)
            .map_err(KernelError::map("DEADLINES"))?;
        map("DEADLINES", Map::from_map_data(data).ok()).map(Self)
    }

    /// Moves a rule's end.
    pub fn set(&mut self, rule: u32, deadline_ns: u64) -> Result<(), MapError> {
        self.0.set(rule, deadline_ns, 0)
    }
}
