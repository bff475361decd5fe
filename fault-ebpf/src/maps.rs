//! The maps, and the engine's view of them.

use core::{arch::asm, marker::PhantomData};

use aya_ebpf::{
    helpers::{bpf_ktime_get_boot_ns, bpf_ktime_get_ns},
    macros::map,
    maps::{Array, HashMap, PerCpuArray},
};
use fault_common::{
    address::Address,
    decide::Decision,
    engine::{Passage, Size, Tables, Told},
    layout::{
        Config, Connection, Counters, DELAY_BUCKETS, Delays, Direction, Key, Memory, Owner,
        REASONS, RULES, Rule, SETS, SLOTS, SPARED, STEPS, State, Step, TARGETS, Target,
    },
    line::Line,
    packet::Reason,
    search,
};

use crate::Teller;

/// The set in force.
#[map]
static ACTIVE: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static CONFIG: Array<Config> = Array::with_max_entries(SETS, 0);
/// Sized by user space.
#[map]
static FAR_ENDS: HashMap<Key, u32> = HashMap::with_max_entries(1, 0);
/// Sized by user space.
#[map]
static FILTER: Array<u64> = Array::with_max_entries(1, 0);
/// How to search it for prefixes.
#[map]
static STEP_LIST: Array<Step> = Array::with_max_entries(STEPS, 0);
/// Each connection as either end sees it.
#[map]
static SPARED_LIST: HashMap<Connection, u32> = HashMap::with_max_entries(2 * SPARED, 0);
#[map]
static TARGET_LIST: Array<Target> = Array::with_max_entries(TARGETS, 0);
#[map]
static RULE_LIST: Array<Rule> = Array::with_max_entries(RULES, 0);
/// When each rule ends, `CLOCK_BOOTTIME` in nanoseconds. A controller that lives
/// moves it on; one that doesn't can't keep its fault.
#[map]
static DEADLINES: Array<u64> = Array::with_max_entries(RULES, 0);
#[map]
static STATES: Array<State> = Array::with_max_entries(SLOTS, 0);
/// What rules remember beside it.
#[map]
static MEMORY: Array<Memory> = Array::with_max_entries(SLOTS, 0);
/// The table of a distribution. Sized by user space.
#[map]
static QUANTILES: Array<i16> = Array::with_max_entries(1, 0);
/// Packets by how long they wait.
#[map]
static DELAYS: PerCpuArray<Delays> = PerCpuArray::with_max_entries(SLOTS, 0);
/// The delay line of each direction.
#[map]
static LINES: Array<Line> = Array::with_max_entries(Direction::COUNT, 0);
/// Packets that were to wait or to be sent twice, and could not, by direction.
#[map]
static MISSED: PerCpuArray<u64> = PerCpuArray::with_max_entries(Direction::COUNT, 0);
#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(SLOTS, 0);
/// Frames that could not be read in full, by [`Reason`].
#[map]
static REASON_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(REASONS, 0);
/// The packet on its way through the rules.
#[map]
static PASSAGE: PerCpuArray<Passage> = PerCpuArray::with_max_entries(1, 0);
/// Where a number goes and comes back unknown.
#[map]
static NUMBER: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);
/// Not read here: tells any process who this program belongs to.
#[map]
static OWNER: Array<Owner> = Array::with_max_entries(1, 0);

/// How often a packet tries to make its transition before it lets others go first.
const ATTEMPTS: u32 = 32;

/// The tables of the engine, and who hears of packets.
pub struct Maps<T>(pub PhantomData<T>);

impl<T: Teller> Tables for Maps<T> {
    #[inline(always)]
    fn active(&self) -> u32 {
        // SAFETY: a map value; volatile, so that it is read once and the packet sees
        // one set only.
        ACTIVE
            .get_ptr(0)
            .map_or(0, |active| unsafe { active.read_volatile() })
    }

    #[inline(always)]
    fn config(&self, set: u32) -> Option<Config> {
        CONFIG.get(set).copied()
    }

    #[inline(always)]
    fn host(&self, set: u32, far: Address) -> Option<u32> {
        far_end(&Key::host(set, far))
    }

    #[inline(always)]
    fn prefix(&self, set: u32, far: Address) -> Option<u32> {
        search::longest(
            set,
            far,
            |id| STEP_LIST.get(id),
            |word| FILTER.get(word).copied(),
            far_end,
        )
    }

    #[inline(always)]
    fn spared(&self, connection: &Connection) -> bool {
        SPARED_LIST.get_ptr(connection).is_some()
    }

    #[inline(always)]
    fn target(&self, id: u32) -> Option<&Target> {
        TARGET_LIST.get(id)
    }

    #[inline(always)]
    fn rule(&self, id: u32) -> Option<&Rule> {
        RULE_LIST.get(id)
    }

    #[inline(always)]
    fn detached<'a>(&'a self, passage: &'a mut Passage) -> Option<&'a mut Passage> {
        // SAFETY: as in `count`, and there is one reference to it at a time.
        let place = unsafe { &mut *PASSAGE.get_ptr_mut(0)? };
        *place = *passage;
        // SAFETY: does nothing; the compiler must forget what it just wrote.
        unsafe { asm!("", options(nostack)) };
        Some(place)
    }

    #[inline(always)]
    fn in_force(&self, rule: u32) -> bool {
        // SAFETY: no arguments; allowed in every program type (Linux 5.8).
        let now = unsafe { bpf_ktime_get_boot_ns() };
        DEADLINES.get(rule).is_some_and(|deadline| now < *deadline)
    }

    #[inline(always)]
    fn advance(&self, slot: u32) -> State {
        let word = STATES.get_ptr_mut(slot).map_or(0, |state| {
            // SAFETY: eight aligned bytes of a map value.
            unsafe { fetch_add(&raw mut (*state).word, State::PACKET) }
        });
        State { word }
    }

    /// Number and state are one word, replaced in one exchange if no other CPU has
    /// done so meanwhile. The n-th transition is therefore made by the n-th draw, and
    /// what becomes of the n-th packet depends on the seed alone, not on how many CPUs
    /// there are. An exchange fails only where another one succeeded, in the few
    /// nanoseconds since; a spin lock would cost two calls for every packet, and make
    /// the others wait.
    ///
    /// A program has to end: a packet that failed [`ATTEMPTS`] times takes its number
    /// and goes where the chain would go next, without moving it. In the long run it
    /// is lost as often as any other, so the loss rate stays, and a burst may end up
    /// one packet longer or shorter.
    #[inline(always)]
    fn step(&self, slot: u32, next: impl Fn(State) -> State) -> (State, State) {
        let Some(state) = STATES.get_ptr_mut(slot) else {
            return Default::default();
        };
        // SAFETY: `state` points into a map value, which outlives the program's run.
        let place = unsafe { &raw mut (*state).word };
        // SAFETY: as before; volatile, because other CPUs write it.
        let mut word = unsafe { place.read_volatile() };
        for _ in 0..ATTEMPTS {
            let before = State { word };
            let after = next(before);
            // SAFETY: eight aligned bytes of a map value.
            word = unsafe { compare_exchange(place, before.word, after.word) };
            if word == before.word {
                return (before, after);
            }
        }
        // SAFETY: eight aligned bytes of a map value.
        let word = unsafe { fetch_add(place, State::PACKET) };
        let before = State { word };
        (before, next(before))
    }

    #[inline(always)]
    fn memory(&self, slot: u32) -> Memory {
        MEMORY.get(slot).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn remember(&self, slot: u32, memory: Memory) {
        if let Some(place) = MEMORY.get_ptr_mut(slot) {
            // SAFETY: eight aligned bytes of a map value; volatile, because other CPUs
            // write it too.
            unsafe { place.write_volatile(memory) };
        }
    }

    #[inline(always)]
    fn quantile(&self, place: u32) -> i16 {
        QUANTILES.get(place).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: takes nothing, returns a number.
        unsafe { bpf_ktime_get_ns() }
    }

    /// As [`Self::step`]; a packet that failed too often goes behind all others.
    #[inline(always)]
    fn transmit(&self, slot: u32, there_ns: u64, for_ns: u64) -> u64 {
        let Some(memory) = MEMORY.get_ptr_mut(slot) else {
            return there_ns;
        };
        // SAFETY: `memory` points into a map value, which outlives the program's run.
        let place = unsafe { &raw mut (*memory).word };
        // SAFETY: as before; volatile, because other CPUs write it.
        let mut free_ns = unsafe { place.read_volatile() };
        for _ in 0..ATTEMPTS {
            let end_ns = free_ns.max(there_ns).saturating_add(for_ns);
            // SAFETY: eight aligned bytes of a map value.
            let found = unsafe { compare_exchange(place, free_ns, end_ns) };
            if found == free_ns {
                return end_ns;
            }
            free_ns = found;
        }
        // SAFETY: eight aligned bytes of a map value.
        let free_ns = unsafe { fetch_add(place, for_ns) };
        free_ns.max(there_ns).saturating_add(for_ns)
    }

    #[inline(always)]
    fn count(&self, slot: u32, size: Size, decision: Decision, wait_ns: u64) {
        let Some(counters) = COUNTERS.get_ptr_mut(slot) else {
            return;
        };
        // SAFETY: the value belongs to this CPU, and a tc program is not interrupted
        // by another on the same CPU (bottom halves are off).
        let counters = unsafe { &mut *counters };
        let packets = u64::from(size.packets);
        let bytes = u64::from(size.bytes);
        counters.matched_skbs += 1;
        counters.matched_packets += packets;
        counters.matched_bytes += bytes;
        match decision {
            Decision::Pass => {}
            Decision::Drop => {
                counters.dropped_skbs += 1;
                counters.dropped_packets += packets;
                counters.dropped_bytes += bytes;
                counters.dropped_super_skbs += u64::from(packets > 1);
            }
            Decision::Mark => counters.marked_packets += packets,
            Decision::Delay => {
                counters.delayed_packets += packets;
                counters.delayed_ns += wait_ns * packets;
                count_delay(slot, packets, wait_ns);
            }
            Decision::Duplicate => counters.duplicated_packets += packets,
        }
    }

    #[inline(always)]
    fn number(&self, decision: Decision) -> u32 {
        T::number(decision)
    }

    #[inline(always)]
    fn tell(&self, told: Told, passage: &Passage) {
        T::tell(told, passage);
    }

    #[inline(always)]
    fn count_reason(&self, reason: Reason) {
        if let Some(count) = REASON_COUNTS.get_ptr_mut(reason as u32) {
            // SAFETY: as in `count`.
            unsafe { *count += 1 };
        }
    }
}

/// The delay line of a direction.
#[inline(always)]
pub fn line(direction: Direction) -> Option<&'static Line> {
    LINES.get(direction as u32)
}

/// Counts a packet that was to wait or to be sent twice, and could not.
#[inline(always)]
pub fn count_missed(direction: Direction) {
    if let Some(count) = MISSED.get_ptr_mut(direction as u32) {
        // SAFETY: the value belongs to this CPU.
        unsafe { *count += 1 };
    }
}

#[inline(always)]
fn count_delay(slot: u32, packets: u64, wait_ns: u64) {
    if let Some(delays) = DELAYS.get_ptr_mut(slot) {
        // The mask is for the verifier.
        let bucket = Delays::bucket(wait_ns) & (DELAY_BUCKETS - 1);
        // SAFETY: the value belongs to this CPU.
        unsafe { (*delays).buckets[bucket] += packets };
    }
}

#[inline(always)]
fn far_end(key: &Key) -> Option<u32> {
    // SAFETY: an entry that is deleted while it is read yields its old value or
    // that of another entry of the set that was replaced; both were rules of ours.
    unsafe { FAR_ENDS.get(key) }.copied()
}

/// The same number, by way of memory.
#[inline(always)]
pub fn forget(number: u32) -> u32 {
    let Some(place) = NUMBER.get_ptr_mut(0) else {
        return number;
    };
    // SAFETY: as in `count`.
    unsafe {
        place.write_volatile(number);
        place.read_volatile()
    }
}

/// Adds to a number that all CPUs share and gives what it was.
///
/// Rust's atomics offer no fetch for this target, LLVM's BPF instructions do
/// (`BPF_ATOMIC | BPF_FETCH`, Linux 5.12).
///
/// # Safety
/// `number` points to eight aligned bytes of a map value.
#[inline(always)]
unsafe fn fetch_add(number: *mut u64, add: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = add;
        // SAFETY: the caller's promise.
        unsafe {
            asm!(
                "{value} = atomic_fetch_add((u64 *)({number} + 0), {value})",
                value = inout(reg) value,
                number = in(reg) number,
            );
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    unimplemented!("runs in the kernel only: {number:p} {add}")
}

/// Replaces a number that all CPUs share, if it is still the old one, and gives what
/// it was.
///
/// In assembly for the reason that `fetch_add` is (`BPF_CMPXCHG`, Linux 5.12).
///
/// # Safety
/// As for `fetch_add`.
#[inline(always)]
unsafe fn compare_exchange(number: *mut u64, old: u64, new: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let found: u64;
        // SAFETY: the caller's promise.
        unsafe {
            asm!(
                "r0 = cmpxchg_64({number} + 0, r0, {new})",
                number = in(reg) number,
                new = in(reg) new,
                inout("r0") old => found,
            );
        }
        found
    }
    #[cfg(not(target_arch = "bpf"))]
    unimplemented!("runs in the kernel only: {number:p} {old} {new}")
}
