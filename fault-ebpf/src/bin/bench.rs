//! What `cargo xtask bench` measures beside the programs of faultctl itself.

#![no_std]
#![no_main]
#![expect(
    missing_docs,
    clippy::needless_pass_by_value,
    reason = "the attribute that makes a program drops its documentation and decides its argument"
)]

use aya_ebpf::{
    bindings::TC_ACT_UNSPEC,
    helpers::bpf_get_prandom_u32,
    macros::{classifier, map},
    maps::{Array, ProgramArray},
    programs::TcContext,
};

/// The low bits of the destination that are drawn again.
#[map]
static RANDOM_MASK: Array<u32> = Array::with_max_entries(1, 0);

/// The program that is measured behind `bench_random`.
#[map]
static NEXT: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The floor: a program that does nothing.
#[classifier]
pub fn bench_empty(_ctx: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// Gives the frame another destination, so that each packet of a repeated run goes
/// elsewhere, and hands it on to the program in `NEXT`.
#[classifier]
pub fn bench_random(ctx: TcContext) -> i32 {
    let _ = randomize(&ctx);
    // SAFETY: user space put a program in before the run; without one, this one ends.
    unsafe { NEXT.tail_call(&ctx, 0) };
    TC_ACT_UNSPEC
}

/// In the last word of the destination: IPv4 has it at offset 30, IPv6 at 50.
fn randomize(ctx: &TcContext) -> Option<()> {
    let mask = RANDOM_MASK.get(0)?;
    // SAFETY: takes nothing, returns a number.
    let random = unsafe { bpf_get_prandom_u32() } & *mask;
    let ether_type = u16::from_be(ctx.load(12).ok()?);
    let offset = if ether_type == 0x0800 { 30 } else { 50 };
    let word = u32::from_be(ctx.load(offset).ok()?);
    let word = (word & !*mask) | random;
    ctx.skb.store(offset, &word.to_be(), 0).ok()
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
