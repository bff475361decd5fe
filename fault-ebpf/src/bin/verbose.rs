//! The same programs, telling of packets: for `faultctl --verbose`.

#![no_std]
#![no_main]
#![expect(
    missing_docs,
    clippy::inline_always,
    reason = "the attribute that makes a program drops its documentation; calls cost stack"
)]

use aya_ebpf::{helpers::bpf_ktime_get_boot_ns, macros::map, maps::PerCpuArray};
use aya_log_ebpf::info;
use fault_common::{
    decide::Decision,
    engine::{Passage, Told},
};
use fault_ebpf::{Teller, maps::forget};

/// Nanoseconds between two packets that a CPU tells of: a flood of packets must not become
/// one of lines.
const PAUSE: u64 = 10_000_000;

/// When this CPU told of a packet last, `CLOCK_BOOTTIME` in nanoseconds.
#[map]
static TOLD_AT: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Whoever reads the log. `fault_user::verbose` takes its words in this order.
struct Log;

impl Teller for Log {
    #[inline(always)]
    fn number(decision: Decision) -> u32 {
        forget(decision as u32)
    }

    /// Unless this CPU has just told of another.
    #[inline(always)]
    fn tell(told: Told, passage: &Passage) {
        let Some(at) = TOLD_AT.get_ptr_mut(0) else {
            return;
        };
        // SAFETY: takes nothing, returns a number; the value belongs to this CPU.
        unsafe {
            let now = bpf_ktime_get_boot_ns();
            if now - *at < PAUSE {
                return;
            }
            *at = now;
        }
        let flow = &passage.flow;
        info!(
            (),
            "{} {} {} {} {:i} {} {:i} {} {} {} {}",
            told.rule,
            told.decision,
            told.direction as u32,
            flow.flags,
            flow.far.octets(),
            flow.far_port,
            flow.near.octets(),
            flow.near_port,
            flow.protocol,
            passage.size.bytes,
            told.sequence
        );
    }
}

fault_ebpf::programs!(Log);
