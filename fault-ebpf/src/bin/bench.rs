//! What `cargo xtask bench` measures beside the programs of faultctl itself.

#![no_std]
#![no_main]
#![expect(
    missing_docs,
    clippy::inline_always,
    clippy::needless_pass_by_value,
    reason = "the attribute that makes a program drops its documentation and decides its argument"
)]

use aya_ebpf::{
    bindings::TC_ACT_UNSPEC,
    helpers::bpf_get_prandom_u32,
    macros::{classifier, map},
    maps::Array,
    programs::TcContext,
};
use fault_common::{
    layout::{ABI, Direction},
    packet::LinkLayer,
};
use fault_ebpf::classify;

/// Layouts of this object, read by user space before it loads anything.
#[unsafe(link_section = "faultctl_abi")]
#[unsafe(no_mangle)]
#[used]
static FAULTCTL_ABI: u64 = ABI;

/// As in faultctl's own object; Ethernet only here.
#[unsafe(no_mangle)]
static NO_LINK_LAYER: u8 = 0;

/// Destinations are the address in the frame plus a random number up to this mask.
#[map]
static RANDOM_MASK: Array<u32> = Array::with_max_entries(1, 0);

/// The floor: a program that does nothing.
#[classifier]
pub fn bench_empty(_ctx: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// What it costs to randomise the destination, to be taken off the next.
#[classifier]
pub fn bench_randomize(ctx: TcContext) -> i32 {
    randomize(&ctx);
    TC_ACT_UNSPEC
}

/// faultctl's egress with another destination for every packet.
#[classifier]
pub fn bench_random(ctx: TcContext) -> i32 {
    // SAFETY: as in faultctl's object; keeps the constant in the object.
    let _ = unsafe { (&raw const NO_LINK_LAYER).read_volatile() };
    randomize(&ctx);
    classify(&ctx, LinkLayer::Ethernet, Direction::Egress)
}

/// The last bits of the destination (IPv4 at offset 30, IPv6 at 50) are
/// drawn again, so each packet of a repeated run goes elsewhere.
#[inline(always)]
fn randomize(ctx: &TcContext) {
    let Some(mask) = RANDOM_MASK.get(0) else {
        return;
    };
    // SAFETY: takes nothing, returns a number.
    let random = unsafe { bpf_get_prandom_u32() } & *mask;
    let Ok(ether_type) = ctx.load::<u16>(12) else {
        return;
    };
    let offset = if u16::from_be(ether_type) == 0x0800 {
        30
    } else {
        50
    };
    let Ok(word) = ctx.load::<u32>(offset) else {
        return;
    };
    let word = (u32::from_be(word) & !*mask) | random;
    let _ = ctx.skb.store(offset, &word.to_be(), 0);
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
