//! The delay line by itself: programs that hold every frame for the same time, and lose
//! some of them first.

#![no_std]
#![no_main]
#![expect(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::inline_always,
    clippy::needless_pass_by_value,
    reason = "the attribute that makes a program drops its documentation and decides its argument"
)]

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_redirect},
    macros::{classifier, map},
    maps::PerCpuArray,
    programs::TcContext,
};
use fault_common::layout::Direction;
use fault_ebpf::{
    back,
    line::{decided, hold},
    maps::line,
};

/// Frames that were decided about, by direction.
#[map]
static DECIDED: PerCpuArray<u64> = PerCpuArray::with_max_entries(Direction::COUNT, 0);

/// How long each frame is held; 0 for not at all. Written before the load.
#[unsafe(no_mangle)]
static DELAY_NS: u64 = 0;

/// How many of 2^32 frames are lost. Written before the load.
#[unsafe(no_mangle)]
static LOSS: u32 = 0;

#[classifier]
pub fn line_egress(ctx: TcContext) -> i32 {
    classify(&ctx, Direction::Egress)
}

#[classifier]
pub fn line_ingress(ctx: TcContext) -> i32 {
    classify(&ctx, Direction::Ingress)
}

/// On the helper of what leaves, wherever frames pass it.
#[classifier]
pub fn line_back_out(ctx: TcContext) -> i32 {
    back(&ctx, Direction::Egress)
}

/// On the helper of what comes in, likewise.
#[classifier]
pub fn line_back_in(ctx: TcContext) -> i32 {
    back(&ctx, Direction::Ingress)
}

#[inline(always)]
fn classify(ctx: &TcContext, direction: Direction) -> i32 {
    let Some(line) = line(direction) else {
        return TC_ACT_UNSPEC;
    };
    if decided(ctx, line) {
        return TC_ACT_UNSPEC;
    }
    if let Some(count) = DECIDED.get_ptr_mut(direction as u32) {
        // SAFETY: the value belongs to this CPU.
        unsafe { *count += 1 };
    }
    // SAFETY: constants for the kernel; volatile, because the compiler must not take
    // the values that it sees here for the last word.
    let (delay_ns, loss) = unsafe {
        (
            (&raw const DELAY_NS).read_volatile(),
            (&raw const LOSS).read_volatile(),
        )
    };
    // SAFETY: takes nothing, returns a number.
    if loss != 0 && unsafe { bpf_get_prandom_u32() } < loss {
        return match direction {
            // SAFETY: takes plain numbers.
            Direction::Egress => unsafe { bpf_redirect(0, 0) as i32 },
            Direction::Ingress => TC_ACT_SHOT,
        };
    }
    if delay_ns == 0 {
        return TC_ACT_UNSPEC;
    }
    // SAFETY: takes nothing, returns a number.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    hold(ctx, line, now_ns, now_ns + delay_ns, false).unwrap_or(TC_ACT_UNSPEC)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
