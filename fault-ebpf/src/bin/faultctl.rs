//! The object that faultctl carries inside.

#![no_std]
#![no_main]
#![expect(
    missing_docs,
    clippy::inline_always,
    clippy::needless_pass_by_value,
    reason = "the attribute that makes a program drops its documentation and decides its argument"
)]

use aya_ebpf::{
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use fault_common::{
    layout::{ABI, Direction},
    packet::LinkLayer,
};
use fault_ebpf::{classify, receive};

/// Layouts of this object, read by user space before it loads anything.
#[unsafe(link_section = "faultctl_abi")]
#[unsafe(no_mangle)]
#[used]
static FAULTCTL_ABI: u64 = ABI;

/// 1 where frames have no link-layer header. Written by user space before the load.
#[unsafe(no_mangle)]
static NO_LINK_LAYER: u8 = 0;

/// Frames that leave the interface.
#[classifier]
pub fn faultctl_egress(ctx: TcContext) -> i32 {
    classify(&ctx, link(), Direction::Egress)
}

/// Frames that arrive at the interface.
#[classifier]
pub fn faultctl_ingress(ctx: TcContext) -> i32 {
    classify(&ctx, link(), Direction::Ingress)
}

/// Frames that the interface's driver has received, of one buffer or several.
#[xdp(frags)]
pub fn faultctl_xdp(ctx: XdpContext) -> u32 {
    receive(&ctx, link())
}

#[inline(always)]
fn link() -> LinkLayer {
    // SAFETY: a constant for the kernel; volatile, because the compiler must not
    // take the value that it sees here for the last word.
    if unsafe { (&raw const NO_LINK_LAYER).read_volatile() } == 0 {
        LinkLayer::Ethernet
    } else {
        LinkLayer::None
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
