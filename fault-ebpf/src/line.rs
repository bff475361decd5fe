//! The delay line's way out to the helper device and back to the interface.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS},
    helpers::{bpf_check_mtu, bpf_clone_redirect, bpf_redirect, bpf_skb_change_head},
    programs::TcContext,
};
use fault_common::{
    layout::Direction,
    line::{Held, Line, Seen, Tag},
};

/// Whether the program of this line has decided about the frame before.
#[inline(always)]
pub fn decided(ctx: &TcContext, line: &Line) -> bool {
    match line.seen(tag(ctx)) {
        Seen::New => false,
        Seen::Decided => true,
        Seen::Returned => {
            set_tag(ctx, Tag::default());
            true
        }
    }
}

/// Sends the frame to the helper, to come back at `due_ns`; both times by
/// `CLOCK_MONOTONIC`. The return value of the program if that is done.
///
/// Nothing is done, and the frame can pass, if user space has not renewed the line or
/// its helper is gone: a redirect to a device that is not there loses everything. So
/// can one that is larger than the kernel lets a program write to (16 KiB but for
/// super-packets).
///
/// The original is consumed: a local sender is told of success, and its socket lets go
/// of the frame. `twice` sends a copy along.
#[inline(always)]
pub fn hold(ctx: &TcContext, line: &Line, now_ns: u64, due_ns: u64, twice: bool) -> Option<i32> {
    if now_ns >= line.until_ns {
        return None;
    }
    let skb = ctx.skb.skb;
    let mut any_len = 0;
    // SAFETY: a valid context, a number on the stack; the frame is left as it is.
    let there = unsafe { bpf_check_mtu(skb.cast(), line.helper, &raw mut any_len, 0, 0) };
    if there < 0 {
        return None;
    }
    // SAFETY: a valid context; pointers into the frame are not kept over the call.
    if unsafe { bpf_skb_change_head(skb, Held::LEN as u32, 0) } != 0 {
        return None;
    }
    // The bytes have just been made, and may be written.
    let _ = ctx.store(0, &Held::until(due_ns), 0);
    if twice {
        // SAFETY: a valid context; pointers into the frame are not kept over the call.
        let _ = unsafe { bpf_clone_redirect(skb, line.helper, 0) };
    }
    // SAFETY: takes plain numbers.
    Some(unsafe { bpf_redirect(line.helper, 0) as i32 })
}

/// Sends a copy of a frame along. It comes to the hook by itself, tagged as decided about
/// by this program and those in front of it; those behind see two frames.
#[inline(always)]
pub fn copy(ctx: &TcContext, line: &Line, direction: Direction) -> bool {
    set_tag(ctx, line.tag());
    // SAFETY: a valid context; pointers into the frame are not kept over the call.
    let result = unsafe { bpf_clone_redirect(ctx.skb.skb, line.iface, flags(direction)) };
    set_tag(ctx, Tag::default());
    result == 0
}

/// What comes out of the helper goes where it was going.
#[inline(always)]
pub fn give_back(ctx: &TcContext, line: &Line, direction: Direction) -> i32 {
    set_tag(ctx, line.tag());
    // SAFETY: takes plain numbers.
    unsafe { bpf_redirect(line.iface, flags(direction)) as i32 }
}

#[inline(always)]
fn flags(direction: Direction) -> u64 {
    match direction {
        Direction::Egress => 0,
        Direction::Ingress => u64::from(BPF_F_INGRESS),
    }
}

/// The last words of the control block: other people's programs begin at the first.
#[inline(always)]
fn tag(ctx: &TcContext) -> Tag {
    let skb: *mut __sk_buff = ctx.skb.skb;
    // SAFETY: a valid context, whose control block may be read on tc; word by word, as
    // the verifier wants it.
    unsafe {
        [
            (&raw const (*skb).cb[2]).read_volatile(),
            (&raw const (*skb).cb[3]).read_volatile(),
            (&raw const (*skb).cb[4]).read_volatile(),
        ]
    }
}

#[inline(always)]
fn set_tag(ctx: &TcContext, tag: Tag) {
    let skb: *mut __sk_buff = ctx.skb.skb;
    // SAFETY: as in `tag`; it may be written, too.
    unsafe {
        (&raw mut (*skb).cb[2]).write_volatile(tag[0]);
        (&raw mut (*skb).cb[3]).write_volatile(tag[1]);
        (&raw mut (*skb).cb[4]).write_volatile(tag[2]);
    }
}
