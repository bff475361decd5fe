//! The delay line's way out to the helper device and back to the interface.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::{
        bpf_check_mtu, bpf_clone_redirect, bpf_redirect, bpf_redirect_peer, bpf_set_hash,
        bpf_set_hash_invalid, bpf_skb_change_head,
    },
    programs::TcContext,
};
use fault_common::{
    layout::Direction,
    line::{FAR_END, Held, Line, Seen, Tag, Ticket, Words},
};

/// Of a header that is put in front of what has none: two addresses and the type.
const ETHERNET: u32 = 14;
const ETHER_TYPE: usize = 12;

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
/// can one that is larger than the kernel lets a program put something in front of
/// (16 KiB but for super-packets): any for a TAP, and none with Ethernet for fq.
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
    if line.engine == Line::FQ {
        return hold_in_fq(ctx, line, due_ns, twice);
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

/// A frame of a local socket counts as unsent until it is freed, and TCP sends no more
/// than a few of these: a copy is held in its place, which belongs to no socket.
#[inline(always)]
fn hold_in_fq(ctx: &TcContext, line: &Line, due_ns: u64, twice: bool) -> Option<i32> {
    let skb = ctx.skb.skb;
    if line.no_link_layer != 0 {
        // The pair wants Ethernet; the way back takes it off again.
        // SAFETY: a valid context; pointers into the frame are not kept over the call.
        if unsafe { bpf_skb_change_head(skb, ETHERNET, 0) } != 0 {
            return None;
        }
        // SAFETY: a valid context.
        let protocol = unsafe { (*skb).protocol } as u16;
        let _ = ctx.store(ETHER_TYPE, &protocol, 0);
    }
    // SAFETY: a valid context, whose fields may be read on tc.
    let (mark, priority, is_local) = unsafe {
        let socket = (*skb).__bindgen_anon_2.sk;
        ((*skb).mark, (*skb).priority, !socket.is_null())
    };
    let ticket = Ticket {
        due_ns,
        mark,
        priority,
    };
    set_words(ctx, ticket.words());
    if twice {
        // SAFETY: a valid context; pointers into the frame are not kept over the call.
        let _ = unsafe { bpf_clone_redirect(skb, line.helper, 0) };
    }
    if !is_local {
        // SAFETY: takes plain numbers.
        return Some(unsafe { bpf_redirect(line.helper, 0) as i32 });
    }
    // What fq refuses is lost as what it takes is held: silently.
    // SAFETY: a valid context; pointers into the frame are not kept over the call.
    let _ = unsafe { bpf_clone_redirect(skb, line.helper, 0) };
    // No interface has the index 0: the original is freed, on tcx and clsact alike.
    // SAFETY: takes plain numbers.
    Some(unsafe { bpf_redirect(0, 0) as i32 })
}

/// What comes out of the helper goes where it was going. With fq, the same program is at
/// the entry of the pair and at its far end, and does what is to be done there.
#[inline(always)]
pub fn give_back(ctx: &TcContext, line: &Line, direction: Direction) -> i32 {
    if line.engine == Line::FQ
        && let Some(action) = pass_pair(ctx, line)
    {
        return action;
    }
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

/// The way of a frame through the pair; `None` when it has come out.
#[inline(always)]
fn pass_pair(ctx: &TcContext, line: &Line) -> Option<i32> {
    let skb = ctx.skb.skb;
    let words = words(ctx);
    // SAFETY: a valid context, whose fields may be read on tc.
    let (ifindex, ingress) = unsafe { ((*skb).ifindex, (*skb).ingress_ifindex) };
    if ingress != ifindex {
        // It goes in, fq comes next. What somebody else sends on the device ends here.
        let Some(ticket) = Ticket::of(words) else {
            return Some(TC_ACT_SHOT);
        };
        // SAFETY: a valid context, whose fields may be written on tc; the rest are
        // plain numbers.
        unsafe {
            (*skb).tstamp = ticket.due_ns;
            // Some priorities go by fq's other ways, one of them at once.
            (*skb).priority = 0;
            bpf_set_hash(skb, ticket.flow(line.in_order != 0));
        }
        return Some(TC_ACT_UNSPEC);
    }
    if ifindex == FAR_END {
        // To the other end at once, instead of one more way through a queue.
        // SAFETY: takes plain numbers.
        return Some(unsafe { bpf_redirect_peer(FAR_END, 0) as i32 });
    }
    // SAFETY: as above. A time that stayed would be the receiver's, or another fq's.
    unsafe {
        (*skb).tstamp = 0;
        bpf_set_hash_invalid(skb);
        if let Some((mark, priority)) = Ticket::kept(words) {
            (*skb).mark = mark;
            (*skb).priority = priority;
        }
    }
    None
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

#[inline(always)]
fn words(ctx: &TcContext) -> Words {
    let skb: *mut __sk_buff = ctx.skb.skb;
    let [third, fourth, fifth] = tag(ctx);
    // SAFETY: as in `tag`.
    unsafe {
        [
            (&raw const (*skb).cb[0]).read_volatile(),
            (&raw const (*skb).cb[1]).read_volatile(),
            third,
            fourth,
            fifth,
        ]
    }
}

#[inline(always)]
fn set_words(ctx: &TcContext, words: Words) {
    let skb: *mut __sk_buff = ctx.skb.skb;
    let [first, second, rest @ ..] = words;
    // SAFETY: as in `set_tag`.
    unsafe {
        (&raw mut (*skb).cb[0]).write_volatile(first);
        (&raw mut (*skb).cb[1]).write_volatile(second);
    }
    set_tag(ctx, rest);
}
