//! Far ends as the kernel's table holds them: hosts, prefixes, and the signs that lead the
//! search to prefixes (`fault_common::search`).

use std::collections::BTreeMap;

use fault_common::{
    address::Address,
    layout::{Key, SETS, STEPS_PER_SET, Scope, Step},
    search,
};

use crate::spec::RuleSet;

/// The far ends of a rule set, ready to be written. Targets are those of the rule set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FarEnds {
    hosts: Vec<(Address, u32)>,
    prefixes: Vec<Prefix>,
    steps: Vec<Step>,
}

/// How much the maps have room for, and programs are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Entries of the table, over both sets.
    pub entries: usize,
    /// Prefixes and their signs that the filter of one set is made for. With more it is
    /// slower, and as right.
    pub prefixes: usize,
    /// Values of the table of a distribution.
    pub quantiles: usize,
    /// Targets of one set.
    pub targets: usize,
    /// What rules there can be.
    pub scope: Scope,
}

impl Default for Room {
    /// For no far ends, a few targets, and whatever rules there are.
    fn default() -> Self {
        Self {
            entries: 0,
            prefixes: 0,
            quantiles: 0,
            targets: 16,
            scope: Scope::ALL,
        }
    }
}

impl Room {
    /// Words of one set's filter, a power of two: two bytes for each prefix, or more.
    pub(super) fn words(self) -> usize {
        self.prefixes.div_ceil(4).next_power_of_two()
    }
}

/// A prefix, or the sign that there are longer ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Prefix {
    address: Address,
    length: u32,
    /// Its own target; for a sign, that of the longest prefix that holds it, if any does.
    target: Option<u32>,
}

impl FarEnds {
    /// Takes them out of a rule set.
    pub fn take(set: &mut RuleSet) -> Self {
        let mut lengths: Vec<_> = set.prefixes.iter().map(|(_, length, _)| *length).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let mut steps = Vec::with_capacity(lengths.len());
        if let Some((shortest, longer)) = lengths.split_first() {
            // First of all: where it finds nothing, there is nothing to be found.
            let first = add(*shortest, &mut steps);
            steps[first].longer = grow(longer, &mut steps);
        }
        let prefixes = with_signs(std::mem::take(&mut set.prefixes), &steps);
        Self {
            hosts: std::mem::take(&mut set.hosts),
            prefixes,
            steps,
        }
    }

    /// What the maps have to have for them; where some have host names, for two sets side by
    /// side, with room for the names to get more addresses. Names have hosts only, so the
    /// prefixes stay.
    pub fn room(&self, names: usize) -> Room {
        const PER_NAME: usize = 64;
        let entries = if names == 0 {
            self.len()
        } else {
            SETS as usize * (self.len() + names * PER_NAME)
        };
        Room {
            entries,
            prefixes: self.prefixes.len(),
            ..Room::default()
        }
    }

    /// How many entries they take in the table.
    pub fn len(&self) -> usize {
        self.hosts.len() + self.prefixes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there are exact hosts.
    pub fn has_hosts(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// Whether there are prefixes.
    pub fn has_prefixes(&self) -> bool {
        !self.prefixes.is_empty()
    }

    /// The keys of a set and their targets.
    pub fn entries(&self, set: u32) -> impl Iterator<Item = (Key, Option<u32>)> {
        let hosts = self
            .hosts
            .iter()
            .map(move |(address, target)| (Key::host(set, *address), Some(*target)));
        let prefixes = self.prefixes.iter().map(move |prefix| {
            let key = Key {
                set,
                length: prefix.length,
                address: prefix.address,
            };
            (key, prefix.target)
        });
        hosts.chain(prefixes)
    }

    /// The filter of a set, in so many words.
    pub(super) fn filter(&self, set: u32, words: u32) -> Vec<u64> {
        let mut filter = vec![0; words as usize];
        let steps: BTreeMap<_, _> = self
            .steps(set, words)
            .map(|(_, step)| (step.length, step))
            .collect();
        for prefix in &self.prefixes {
            let (word, bits) = search::place(&steps[&prefix.length], prefix.address);
            filter[(word - set * words) as usize] |= bits;
        }
        filter
    }

    /// The steps of the search in a set whose filter has so many words, by their ids.
    pub(super) fn steps(&self, set: u32, words: u32) -> impl Iterator<Item = (u32, Step)> {
        let first = Step::first(set);
        let shift = move |id: u32| if id == Step::LAST { id } else { first + id };
        (first..first + STEPS_PER_SET)
            .zip(&self.steps)
            .map(move |(id, step)| {
                let step = Step {
                    filter: set * words,
                    filter_mask: words - 1,
                    longer: shift(step.longer),
                    shorter: shift(step.shorter),
                    ..*step
                };
                (id, step)
            })
    }
}

/// Adds the steps of a search over sorted lengths, from the middle, and gives the first.
fn grow(lengths: &[u32], steps: &mut Vec<Step>) -> u32 {
    let (shorter, rest) = lengths.split_at(lengths.len() / 2);
    let Some((&length, longer)) = rest.split_first() else {
        return Step::LAST;
    };
    let place = add(length, steps);
    let (longer, shorter) = (grow(longer, steps), grow(shorter, steps));
    steps[place].longer = longer;
    steps[place].shorter = shorter;
    u32::try_from(place).unwrap_or(Step::LAST)
}

/// Adds a step with nothing behind it, and gives its place.
fn add(length: u32, steps: &mut Vec<Step>) -> usize {
    steps.push(Step {
        length,
        mask: Address::mask(length),
        longer: Step::LAST,
        shorter: Step::LAST,
        ..Step::default()
    });
    steps.len() - 1
}

fn with_signs(networks: Vec<(Address, u32, u32)>, steps: &[Step]) -> Vec<Prefix> {
    let mut prefixes = Vec::with_capacity(networks.len());
    for (address, length, target) in networks {
        let mut id = 0;
        while let Some(step) = steps.get(id as usize) {
            let there = Prefix {
                address: address.and(step.mask),
                length: step.length,
                target: (step.length == length).then_some(target),
            };
            if step.length > length {
                id = step.shorter;
                continue;
            }
            prefixes.push(there);
            if step.length == length {
                break;
            }
            id = step.longer;
        }
    }
    // What holds a network comes before it, a prefix before a sign of the same network.
    let order = |one: &Prefix| (one.address.octets(), one.length, one.target.is_none());
    prefixes.sort_unstable_by_key(order);
    prefixes.dedup_by_key(|one| (one.address, one.length));
    let mut around: Vec<Prefix> = Vec::new();
    for one in &mut prefixes {
        while around
            .pop_if(|outer| one.address.and(Address::mask(outer.length)) != outer.address)
            .is_some()
        {}
        match one.target {
            Some(_) => around.push(*one),
            None => one.target = around.last().and_then(|outer| outer.target),
        }
    }
    prefixes.shrink_to_fit();
    prefixes
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use fault_common::address::Network;
    use proptest::prelude::*;

    use super::*;

    /// Addresses that are near each other, and networks that hold many of them.
    fn address() -> impl Strategy<Value = Address> {
        (0_u32..4, any::<u32>(), 0_u32..4)
            .prop_map(|(high, bits, low)| Address([high, 0, bits & 0x0101_0101, low << 24]))
    }

    /// With a filter that hardly ever errs.
    fn search(far_ends: &FarEnds, set: u32, address: Address) -> (Option<u32>, usize) {
        search_by(far_ends, set, 256, address)
    }

    fn search_by(
        far_ends: &FarEnds,
        set: u32,
        words: u32,
        address: Address,
    ) -> (Option<u32>, usize) {
        let entries: HashMap<_, _> = far_ends.entries(set).collect();
        let steps: HashMap<_, _> = far_ends.steps(set, words).collect();
        let filter = far_ends.filter(set, words);
        let mut looks = 0;
        let found = search::longest(
            set,
            address,
            |id| steps.get(&id),
            |word| filter.get((word - set * words) as usize).copied(),
            |key| {
                looks += 1;
                // As the table has it: no prefix is the default target.
                entries.get(key).map(|target| target.unwrap_or(u32::MAX))
            },
        );
        (found.filter(|target| *target != u32::MAX), looks)
    }

    proptest! {
        #[test]
        fn search_finds_what_trying_all_prefixes_finds(
            networks in prop::collection::vec((address(), 0_u32..=128), 0..60),
            addresses in prop::collection::vec(address(), 20),
            set in 0_u32..2,
            words in (0_u32..8).prop_map(|bits| 1_u32 << bits),
        ) {
            let mut prefixes: Vec<(Address, u32, u32)> = Vec::new();
            for (target, (address, length)) in (0..).zip(networks) {
                let network = Network::new(address, length);
                let same = |(other, len, _): &(Address, u32, u32)| {
                    *len == length && network.contains(*other)
                };
                if !prefixes.iter().any(same) {
                    prefixes.push((address, length, target));
                }
            }
            let far_ends = FarEnds::take(&mut RuleSet {
                prefixes: prefixes.clone(),
                ..RuleSet::default()
            });
            for address in addresses {
                let expected = prefixes
                    .iter()
                    .filter(|(net, length, _)| Network::new(*net, *length).contains(address))
                    .max_by_key(|(_, length, _)| *length)
                    .map(|(_, _, target)| *target);
                let (found, looks) = search_by(&far_ends, set, words, address);
                prop_assert_eq!(found, expected);
                prop_assert!(looks <= 10);
            }
        }
    }

    #[test]
    fn one_length_is_one_look_and_needs_no_sign() {
        let net = |n: u8| (Address::from_v4([10, n, 0, 0]), 96 + 16, u32::from(n));
        let mut set = RuleSet {
            prefixes: (0..100).map(net).collect(),
            ..RuleSet::default()
        };
        let far_ends = FarEnds::take(&mut set);
        assert_eq!(far_ends.len(), 100);
        let host = Address::from_v4([10, 7, 1, 2]);
        assert_eq!(search(&far_ends, 1, host), (Some(7), 1));
    }

    #[test]
    fn address_in_no_prefix_takes_no_look() {
        let mut set = RuleSet {
            prefixes: (8..=32)
                .map(|length| (Address::from_v4([10, 0, 0, 0]), 96 + length, length))
                .collect(),
            ..RuleSet::default()
        };
        let far_ends = FarEnds::take(&mut set);
        assert_eq!(
            search(&far_ends, 0, Address::from_v4([11, 0, 0, 0])),
            (None, 0)
        );
    }

    #[test]
    fn all_lengths_are_found_in_one_look_mostly() {
        let mut set = RuleSet {
            prefixes: (0..=128)
                .map(|length| (Address([0; 4]), length, length))
                .collect(),
            ..RuleSet::default()
        };
        let far_ends = FarEnds::take(&mut set);
        let mut more = 0;
        for bit in 0..128 {
            let address = Address::from_v6((1_u128 << (127 - bit)).to_be_bytes());
            let (found, looks) = search(&far_ends, 0, address);
            assert_eq!(found, Some(bit));
            more += usize::from(looks > 1);
        }
        assert!(more < 16, "{more} of 128 took more");
        assert_eq!(search(&far_ends, 0, Address([0; 4])).0, Some(128));
    }
}
