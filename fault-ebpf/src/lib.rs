//! faultctl in the kernel: reads a frame, asks `fault_common::engine`, carries
//! the verdict out.

#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![expect(
    clippy::inline_always,
    reason = "a program is one function: calls cost stack, of which there is little"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "helpers take and return wider numbers than they use"
)]

pub mod frame;
pub mod line;
pub mod maps;
mod programs;
pub mod skb;
pub mod xdp;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    helpers::{bpf_ktime_get_ns, bpf_redirect},
    programs::{TcContext, XdpContext},
};
use fault_common::{
    decide::Decision,
    engine::{self, Passage, Told, Verdict},
    layout::{Direction, Model},
    line::Line,
    packet::LinkLayer,
};

use crate::frame::Frame;

/// Who hears of packets that rules decided about.
pub trait Teller {
    /// A decision for [`Self::tell`].
    fn number(decision: Decision) -> u32;
    /// Tells of one.
    fn tell(told: Told, passage: &Passage);
}

/// Nobody does.
pub struct Quiet;

impl Teller for Quiet {
    #[inline(always)]
    fn number(_decision: Decision) -> u32 {
        0
    }

    #[inline(always)]
    fn tell(_told: Told, _passage: &Passage) {}
}

/// One frame on the tc hook: tcx or clsact.
#[inline(always)]
pub fn classify<T: Teller>(ctx: &TcContext, link: LinkLayer, direction: Direction) -> i32 {
    let Some(held) = maps::line(direction) else {
        return TC_ACT_UNSPEC;
    };
    if line::decided(ctx, held) {
        return TC_ACT_UNSPEC;
    }
    let skb = skb::Skb::new(ctx);
    let verdict = engine::run(
        &maps::Maps::<T>::on_tc(),
        &Frame(&skb),
        || skb.size(),
        link,
        direction,
    );
    if verdict.drop {
        return lose(direction);
    }
    if maps::scope().has(Model::Mark) {
        skb.mark(&verdict);
    }
    carry(ctx, held, direction, &verdict)
}

/// Holds a frame that is to wait, and sends the copy of one that is to come twice.
#[inline(always)]
fn carry(ctx: &TcContext, line: &Line, direction: Direction, verdict: &Verdict) -> i32 {
    if maps::scope().has_waits() && verdict.wait_ns > 0 {
        // SAFETY: takes nothing, returns a number.
        let now_ns = unsafe { bpf_ktime_get_ns() };
        let due_ns = now_ns.saturating_add(verdict.wait_ns);
        if let Some(action) = line::hold(ctx, line, now_ns, due_ns, verdict.twice) {
            return action;
        }
        maps::count_missed(direction);
    }
    if maps::scope().has(Model::Duplicate) && verdict.twice && !line::copy(ctx, line, direction) {
        maps::count_missed(direction);
    }
    // "No verdict of mine": programs and filters behind this one still run.
    TC_ACT_UNSPEC
}

/// What comes out of the helper device goes where it was going.
#[inline(always)]
pub fn back(ctx: &TcContext, direction: Direction) -> i32 {
    maps::line(direction).map_or(TC_ACT_SHOT, |line| line::give_back(ctx, line, direction))
}

/// One frame on the XDP hook, where frames only arrive, and can only be lost.
#[inline(always)]
pub fn receive<T: Teller>(ctx: &XdpContext, link: LinkLayer) -> u32 {
    let xdp = xdp::Xdp::new(ctx);
    let frame = Frame(&xdp);
    let maps = maps::Maps::<T>::on_xdp();
    if engine::run(&maps, &frame, || xdp.size(), link, Direction::Ingress).drop {
        xdp_action::XDP_DROP
    } else {
        xdp_action::XDP_PASS
    }
}

/// Loses the packet as the wire would.
///
/// A drop code on egress is reported to a local sender, whose TCP then requeues
/// without a retransmit and whose ping tries again. A redirect to a device that
/// is not there frees the packet and reports success, on tcx as on clsact;
/// no device ever has the index 0.
#[inline(always)]
fn lose(direction: Direction) -> i32 {
    match direction {
        // SAFETY: the helper takes plain numbers; on the tc hook it may always be called.
        Direction::Egress => unsafe { bpf_redirect(0, 0) as i32 },
        Direction::Ingress => TC_ACT_SHOT,
    }
}
