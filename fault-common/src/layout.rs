//! Keys and values of the maps.
//!
//! A *set* is what one command asks for: targets that say which rules hold for which
//! far ends, and the rules. Two sets fit into the maps. `ACTIVE` names the
//! one in force, by a number whose change touches one byte: a set is built beside
//! the old one and then replaces it for every packet at once.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::{Address, Network},
    chain::{Chain, STATES},
};

/// Rules in one set.
pub const RULES_PER_SET: u32 = 32;
/// Rules that one target may name: the faults on one prefix.
pub const RULES_PER_TARGET: usize = 8;
/// Targets (distinct lists of rules) in one set.
pub const TARGETS_PER_SET: u32 = 256;
/// Port ranges in one filter.
pub const PORT_RANGES: usize = 16;
/// Near-end networks in one rule.
pub const NEAR_NETWORKS: usize = 8;
/// Sets that the maps hold side by side.
pub const SETS: u32 = 2;
/// Rule ids in the maps.
pub const RULES: u32 = RULES_PER_SET * SETS;
/// Target ids in the maps.
pub const TARGETS: u32 = TARGETS_PER_SET * SETS;
/// Steps of the search in one set: one for each length that a prefix can have.
pub const STEPS_PER_SET: u32 = 129;
/// Step ids in the maps.
pub const STEPS: u32 = STEPS_PER_SET * SETS;
/// Connections that are spared, whatever the rules say.
pub const SPARED: u32 = 32;
/// Counter and state slots in the maps.
pub const SLOTS: u32 = RULES * Direction::COUNT;

/// Identifies the layouts in this module; part of the object file, and compared
/// before it is loaded. FNV-1a over the package version and the sizes.
pub const ABI: u64 = {
    let mut hash = fnv1a(0xcbf2_9ce4_8422_2325, env!("CARGO_PKG_VERSION").as_bytes());
    let sizes = [
        size_of::<Config>(),
        size_of::<Key>(),
        size_of::<Step>(),
        size_of::<Connection>(),
        size_of::<Target>(),
        size_of::<Rule>(),
        size_of::<State>(),
        size_of::<Counters>(),
        size_of::<Memory>(),
        size_of::<Delays>(),
        size_of::<crate::line::Line>(),
        size_of::<Owner>(),
        RULES as usize,
        TARGETS as usize,
    ];
    let mut i = 0;
    while i < sizes.len() {
        hash = fnv1a(hash, &(sizes[i] as u64).to_le_bytes());
        i += 1;
    }
    hash
};

const fn fnv1a(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

/// Which way a frame goes, seen from the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Direction {
    /// Out of the interface; the far end is the destination.
    Egress = 0,
    /// Into the interface; the far end is the source.
    Ingress = 1,
}

impl Direction {
    /// How many directions there are.
    pub const COUNT: u32 = 2;
    /// Both, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Egress, Self::Ingress];

    /// What the user calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }

    /// The bit of this direction in [`Rule::directions`].
    #[inline]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// The slot of a rule's counters and state in this direction.
    #[inline]
    pub const fn slot(self, rule: u32) -> u32 {
        rule * Self::COUNT + self as u32
    }
}

/// What a program needs to know of a set before it looks at a packet. One entry a set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Config {
    /// Whether there is anything to look for: [`Self::HOSTS`], [`Self::PREFIXES`],
    /// [`Self::SPARED`]; and whether to leave address resolution alone:
    /// [`Self::NEIGHBOURS`].
    pub tables: u32,
    /// The target of every far end that no host and no prefix names, or [`Self::NO_TARGET`].
    pub default_target: u32,
    /// The first of the rules that its targets name, for those who read the maps. They
    /// need not be of the set's own number: far ends change and rules stay.
    pub first_rule: u32,
}

impl Config {
    /// Bit of `tables`: there are exact hosts.
    pub const HOSTS: u32 = 1;
    /// Bit of `tables`: there are prefixes.
    pub const PREFIXES: u32 = 2;
    /// Bit of `tables`: there are connections that no rule may touch.
    pub const SPARED: u32 = 4;
    /// Bit of `tables`: such a connection goes over this interface, so ARP and neighbour
    /// discovery pass. Without them it would end when its next hop is forgotten, or
    /// forgets this machine.
    pub const NEIGHBOURS: u32 = 8;
    /// No rules: the packet passes.
    pub const NO_TARGET: u32 = u32::MAX;
}

/// Key of the table of far ends: exact hosts, prefixes, and the signs that lead the search
/// to them (see [`crate::search`]). The value is a target id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Key {
    /// The set that the entry belongs to.
    pub set: u32,
    /// How many bits of the address count, or [`Self::HOST`].
    pub length: u32,
    /// The address; 0 in the bits that do not count.
    pub address: Address,
}

impl Key {
    /// `length` of an exact host, which is looked up before any prefix.
    pub const HOST: u32 = u32::MAX;

    /// That of an exact host.
    #[inline(always)]
    pub const fn host(set: u32, address: Address) -> Self {
        Self {
            set,
            length: Self::HOST,
            address,
        }
    }
}

/// A step of the search for the longest prefix: a length to look at, and where to go on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Step {
    /// The length of the prefixes to look for.
    pub length: u32,
    /// The first word of the set's filter.
    pub filter: u32,
    /// All ones in the numbers of the filter's words.
    pub filter_mask: u32,
    /// All ones in the bits that count.
    pub mask: Address,
    /// The step after this one, where there is such a prefix; or [`Self::LAST`].
    pub longer: u32,
    /// The step after this one, where there is none; or [`Self::LAST`].
    pub shorter: u32,
}

impl Step {
    /// No step.
    pub const LAST: u32 = u32::MAX;

    /// The one that the search in a set begins with.
    #[inline(always)]
    pub const fn first(set: u32) -> u32 {
        set * STEPS_PER_SET
    }
}

/// A TCP connection that no rule touches: key of a table that both sets share. Frames
/// carry it in both directions with the same ends.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Connection {
    /// The remote address.
    pub far: Address,
    /// The local address.
    pub near: Address,
    /// Port of the remote end, in host byte order.
    pub far_port: u32,
    /// Port of the local end, in host byte order.
    pub near_port: u32,
}

impl Connection {
    /// The same connection as its other end sees it.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            far: self.near,
            near: self.far,
            far_port: self.near_port,
            near_port: self.far_port,
        }
    }
}

/// A list of rule ids; their faults add up in this order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Target {
    /// How many of `rules` count.
    pub len: u32,
    /// Rule ids.
    pub rules: [u32; RULES_PER_TARGET],
}

/// An inclusive range of ports, in host byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port, not below `first`.
    pub last: u16,
}

/// Port ranges; no range means any port, and none at all.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Ports {
    /// How many of `ranges` count.
    pub len: u32,
    /// The ranges.
    pub ranges: [PortRange; PORT_RANGES],
}

/// One fault and its filters. Never changed by a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Rule {
    /// What the user called it, for those who read the map: a [`Fault`].
    pub fault: u32,
    /// What it does: a [`Model`].
    pub model: u32,
    /// [`Direction::bit`]s.
    pub directions: u32,
    /// [`Self::EVERY_FRAME`].
    pub flags: u32,
    /// [`Model::Random`]: loss probability, as [`crate::random::probability`].
    pub probability: u64,
    /// [`Model::Every`]: one packet in so many is lost.
    pub every: u64,
    /// Models with a chain ([`Self::has_chain`]): how losses follow each other; or copies,
    /// or packets that go ahead of those that wait.
    pub chain: Chain,
    /// [`Model::Delay`]: how long packets wait.
    pub delay: Delay,
    /// [`Model::Rate`]: how fast they go.
    pub rate: Rate,
    /// Start of the rule's random draws.
    pub seed: u64,
    /// Share of flows that it takes, as [`crate::random::probability`]; 0 for all.
    pub flows: u64,
    /// Which flows these are. The same for all rules that are to take the same.
    pub flow_seed: u64,
    /// [`Model::Mark`]: bits of the skb mark to set.
    pub mark: u32,
    /// [`Model::Mark`]: bits of the skb mark to replace.
    pub mark_mask: u32,
    /// [`Model::Mark`]: the DSCP to write (RFC 2474, 0 to 63), or [`Self::NO_DSCP`].
    pub dscp: u32,
    /// How many of `near` count; none means any near end.
    pub near_len: u32,
    /// IP protocols as a bit set, or all zero for any.
    pub protocols: [u64; 4],
    /// Ports of the far end.
    pub far_ports: Ports,
    /// Ports of the near end.
    pub near_ports: Ports,
    /// Networks of the near end.
    pub near: [Network; NEAR_NETWORKS],
}

impl Rule {
    /// Bit of `flags`: takes frames that are not IP too, neighbour discovery
    /// included. Without it, ARP and ND pass, so that a fault on packets does
    /// not turn into a fault of address resolution.
    pub const EVERY_FRAME: u32 = 1;
    /// `dscp` stays as it is.
    pub const NO_DSCP: u32 = u32::MAX;

    /// Whether its chain decides.
    #[inline]
    pub const fn has_chain(&self) -> bool {
        self.model >= Model::Correlated as u32
    }
}

/// How long packets wait, in netem's terms: a mean, and a distribution around it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Delay {
    /// The mean, in nanoseconds.
    pub mean_ns: u64,
    /// What the distribution is multiplied with, in nanoseconds; below 2^38.
    pub jitter_ns: u64,
    /// How likely a packet takes the draw of the one before it, as
    /// [`crate::random::probability`].
    pub correlation: u64,
    /// What the distribution was called, for those who read the map.
    pub distribution: u32,
    /// How many values the table of the distribution has; none: it is uniform.
    pub table_len: u32,
    /// One packet in so many may go ahead; 0 for none.
    pub gap: u32,
    /// 0
    pub pad: u32,
}

/// A link's speed, in netem's terms, and how much may go at once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Rate {
    /// The speed; at least 1.
    pub bytes_per_sec: u64,
    /// How far behind its time a packet may be and go all the same: the time that a
    /// burst takes at this speed, in nanoseconds.
    pub burst_ns: u64,
    /// Bytes that each packet is longer.
    pub packet_overhead: i32,
    /// Bytes in a cell; 0 for a link without cells.
    pub cell_size: u32,
    /// Bytes that each cell is longer.
    pub cell_overhead: i32,
    /// 0
    pub pad: u32,
}

/// What the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Fault {
    /// `faultctl loss`
    Loss = 1,
    /// `faultctl partition`
    Partition = 2,
    /// `faultctl down`
    Down = 3,
    /// `faultctl mark`
    Mark = 4,
    /// `faultctl latency`
    Latency = 5,
    /// `faultctl reorder`
    Reorder = 6,
    /// `faultctl duplicate`
    Duplicate = 7,
    /// `faultctl rate`
    Rate = 8,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Loss,
        Self::Partition,
        Self::Down,
        Self::Mark,
        Self::Latency,
        Self::Reorder,
        Self::Duplicate,
        Self::Rate,
    ];

    /// The verb that asks for it, which is also the name of its rule.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Partition => "partition",
            Self::Down => "down",
            Self::Mark => "mark",
            Self::Latency => "latency",
            Self::Reorder => "reorder",
            Self::Duplicate => "duplicate",
            Self::Rate => "rate",
        }
    }

    /// The one with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| *fault as u32 == number)
    }
}

/// What the kernel does with a packet that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Model {
    /// Lose it with a probability.
    Random = 1,
    /// Lose one in so many.
    Every = 2,
    /// Mark it.
    Mark = 3,
    /// Let it wait for its turn on a link of some speed.
    Rate = 4,
    /// Lose it by the rule's chain, which decides in all that follow: here one of a
    /// loss rate and a correlation.
    Correlated = 5,
    /// A chain of a loss rate and a mean length of bursts.
    Burst = 6,
    /// netem's `gemodel`.
    Gemodel = 7,
    /// netem's `state`.
    State = 8,
    /// Send it twice.
    Duplicate = 9,
    /// Let it wait, unless the chain says that it goes ahead.
    Delay = 10,
}

/// What packets change, per slot; shared by all CPUs.
///
/// One word, so that one atomic instruction takes a packet's number and, where
/// losses come in bursts, makes its transition.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct State {
    /// Packets that the rule has decided about, in units of [`Self::PACKET`]; below
    /// that, the state that the last one left the rule's chain in.
    pub word: u64,
}

impl State {
    /// Added for each packet.
    pub const PACKET: u64 = STATES as u64;

    /// How many packets the rule has decided about.
    #[inline]
    pub const fn sequence(self) -> u64 {
        self.word / Self::PACKET
    }

    /// The state of the chain; [`crate::chain::START`] before the first packet.
    #[inline]
    pub const fn chain(self) -> u32 {
        (self.word % Self::PACKET) as u32
    }

    /// After one more packet, which left the chain in a state.
    #[inline]
    #[must_use]
    pub const fn after(self, chain: u32) -> Self {
        Self {
            word: (self.sequence() + 1) * Self::PACKET + chain as u64,
        }
    }
}

/// What a rule remembers beside its [`State`], per slot; shared by all CPUs.
///
/// [`Model::Rate`]: when the link will be free, `CLOCK_MONOTONIC` in nanoseconds.
/// [`Model::Delay`]: the last draw, and how many packets waited since one went ahead.
/// That is kept by a plain write: where two CPUs meet, one of them may be forgotten.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Memory {
    /// All of it.
    pub word: u64,
}

impl Memory {
    /// That of [`Model::Delay`].
    #[inline]
    pub const fn of_delay(draw: u32, waited: u32) -> Self {
        Self {
            word: (waited as u64) << 32 | draw as u64,
        }
    }

    /// The last draw.
    #[inline]
    pub const fn draw(self) -> u32 {
        (self.word & 0xffff_ffff) as u32
    }

    /// How many packets waited since one went ahead.
    #[inline]
    pub const fn waited(self) -> u32 {
        (self.word >> 32) as u32
    }
}

/// Buckets of [`Delays`].
pub const DELAY_BUCKETS: usize = 32;
const LAST_BUCKET: u64 = DELAY_BUCKETS as u64 - 1;

/// Packets by how long they were told to wait, per slot and CPU. The n-th bucket has
/// those below 2^n microseconds that the one before has not; the last one all others.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Delays {
    /// Packets on the wire.
    pub buckets: [u64; DELAY_BUCKETS],
}

impl Delays {
    /// The bucket of a time.
    #[inline]
    pub const fn bucket(wait_ns: u64) -> usize {
        let mut micros = wait_ns / 1000;
        // By halves, and without a branch: the kernel's verifier would walk each way on.
        let mut bucket = 0;
        let mut step = 32;
        while step > 0 {
            let is_more = is_some(micros >> step);
            micros >>= step * is_more;
            bucket += step * is_more;
            step /= 2;
        }
        bucket += is_some(micros);
        let beyond = bucket.saturating_sub(LAST_BUCKET);
        (bucket - beyond) as usize
    }

    /// Adds what another CPU counted.
    pub fn add(&mut self, other: &Self) {
        for (sum, one) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += one;
        }
    }
}

/// 1 for anything but 0, below 2^63.
const fn is_some(number: u64) -> u64 {
    number.wrapping_neg() >> 63
}

/// What happened, per slot and CPU. Packets are wire packets: a super-packet
/// (GSO, GRO) counts its segments. Bytes are frame bytes as the hook sees them,
/// link-layer header included, the headers of a super-packet once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counters {
    /// Times that the rule matched and decided.
    pub matched_skbs: u64,
    /// Packets in them.
    pub matched_packets: u64,
    /// Bytes in them.
    pub matched_bytes: u64,
    /// Times that the decision was to drop.
    pub dropped_skbs: u64,
    /// Packets in them.
    pub dropped_packets: u64,
    /// Bytes in them.
    pub dropped_bytes: u64,
    /// Super-packets that were dropped whole.
    pub dropped_super_skbs: u64,
    /// Packets marked.
    pub marked_packets: u64,
    /// Packets that were told to wait.
    pub delayed_packets: u64,
    /// How long, in sum, in nanoseconds.
    pub delayed_ns: u64,
    /// Packets of which a copy was sent.
    pub duplicated_packets: u64,
}

impl Counters {
    /// Adds what another CPU counted.
    pub fn add(&mut self, other: &Self) {
        let Self {
            matched_skbs,
            matched_packets,
            matched_bytes,
            dropped_skbs,
            dropped_packets,
            dropped_bytes,
            dropped_super_skbs,
            marked_packets,
            delayed_packets,
            delayed_ns,
            duplicated_packets,
        } = *other;
        self.matched_skbs += matched_skbs;
        self.matched_packets += matched_packets;
        self.matched_bytes += matched_bytes;
        self.dropped_skbs += dropped_skbs;
        self.dropped_packets += dropped_packets;
        self.dropped_bytes += dropped_bytes;
        self.dropped_super_skbs += dropped_super_skbs;
        self.marked_packets += marked_packets;
        self.delayed_packets += delayed_packets;
        self.delayed_ns += delayed_ns;
        self.duplicated_packets += duplicated_packets;
    }
}

/// Who put a program where, for `status` and `clear` of any later process. The
/// record lives and dies with the program. One entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Owner {
    /// [`ABI`] of the writer.
    pub abi: u64,
    /// When the fault came into force, `CLOCK_BOOTTIME` in nanoseconds.
    pub since_ns: u64,
    /// When it is to end, `CLOCK_BOOTTIME` in nanoseconds, or 0: not by time.
    pub until_ns: u64,
    /// Start of the process, field 22 of proc(5)'s stat: with `pid`, its identity.
    pub start_ticks: u64,
    /// Inode of the network namespace of the interface.
    pub netns_inode: u64,
    /// Process that keeps the fault alive, by its number in its own pid namespace.
    pub pid: u32,
    /// The real user, before sudo.
    pub uid: u32,
    /// Index of the interface in its namespace.
    pub ifindex: u32,
    /// 1 where the writer added the interface's clsact qdisc.
    pub added_clsact: u32,
    /// Name of the interface when the fault began, padded with zeros.
    pub iface: [u8; 16],
    /// The command line, cut to fit, padded with zeros.
    pub command: [u8; 256],
}

/// Counters of frames that could not be read in full.
pub const REASONS: u32 = crate::packet::Reason::COUNT;

#[cfg(feature = "aya")]
mod pod {
    use super::{
        Config, Connection, Counters, Delays, Key, Memory, Owner, Rule, State, Step, Target,
    };
    use crate::line::Line;

    macro_rules! pod {
        ($($t:ty),+) => {$(
            // SAFETY: bytemuck's derive proved that every byte of it is initialised
            // and that every bit pattern is a value.
            unsafe impl aya::Pod for $t {}
        )+};
    }
    pod!(
        Config, Connection, Counters, Delays, Key, Line, Memory, Owner, Rule, State, Step, Target
    );
}
