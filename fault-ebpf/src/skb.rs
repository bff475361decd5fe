//! An skb as the engine reads it, and what may be written to it.

use core::{arch::asm, mem::offset_of};

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_RECOMPUTE_CSUM},
    helpers::bpf_skb_load_bytes,
    programs::TcContext,
};
use fault_common::{
    engine::{Size, Verdict},
    layout::Rule,
    packet::{Flow, Packet},
};

use crate::maps;

/// A frame on a tc hook.
pub struct Skb<'a> {
    ctx: &'a TcContext,
}

impl<'a> Skb<'a> {
    /// The frame of a context.
    #[inline(always)]
    pub const fn new(ctx: &'a TcContext) -> Self {
        Self { ctx }
    }

    #[inline(always)]
    fn raw(&self) -> *mut __sk_buff {
        self.ctx.skb.skb
    }

    /// Its packets on the wire and its bytes.
    #[inline(always)]
    pub fn size(&self) -> Size {
        // SAFETY: the kernel hands a valid context; all three may be read on tc.
        let (segments, size, bytes) = unsafe {
            let raw = self.raw();
            ((*raw).gso_segs, (*raw).gso_size, (*raw).len)
        };
        // Super-packets from a guest or a tap come without a count.
        let packets = if segments == 0 && size != 0 {
            bytes.div_ceil(size)
        } else {
            segments
        };
        Size {
            packets: packets.max(1),
            bytes,
        }
    }

    /// Writes skb mark and DSCP.
    #[inline(always)]
    pub fn mark(&self, verdict: &Verdict) {
        if verdict.mark_mask != 0 {
            // SAFETY: as in `size`; the mark may be written.
            unsafe {
                let raw = self.raw();
                (*raw).mark = ((*raw).mark & !verdict.mark_mask) | verdict.mark;
            }
        }
        if verdict.dscp != Rule::NO_DSCP {
            let dscp = (verdict.dscp & 0x3f) as u8;
            // A frame that can't be written keeps its DSCP.
            let _ = match verdict.ip {
                Flow::IPV4 => self.set_ipv4_dscp(verdict.network_offset, dscp),
                Flow::IPV6 => self.set_ipv6_dscp(verdict.network_offset, dscp),
                _ => None,
            };
        }
    }

    /// The upper six bits of the second byte (RFC 2474), with the header checksum
    /// (RFC 1624) mended for the 16-bit word that holds them.
    #[inline(always)]
    fn set_ipv4_dscp(&self, offset: u32, dscp: u8) -> Option<()> {
        let old = self.half(offset)?;
        let new = (old & !0x00fc) | (u16::from(dscp) << 2);
        if new == old {
            return Some(());
        }
        let skb = &self.ctx.skb;
        let (old, new_be) = (u64::from(old.to_be()), u64::from(new.to_be()));
        skb.l3_csum_replace((offset + 10) as usize, old, new_be, 2)
            .ok()?;
        skb.store((offset + 1) as usize, &(new as u8), 0).ok()
    }

    /// The upper six bits of the traffic class, which lies across two bytes. There
    /// is no header checksum, but a sum over the whole packet may ride along.
    #[inline(always)]
    fn set_ipv6_dscp(&self, offset: u32, dscp: u8) -> Option<()> {
        let old = self.half(offset)?;
        let new = (old & !0x0fc0) | (u16::from(dscp) << 6);
        if new == old {
            return Some(());
        }
        self.ctx
            .skb
            .store(
                offset as usize,
                &new.to_be(),
                u64::from(BPF_F_RECOMPUTE_CSUM),
            )
            .ok()
    }

    /// Where `len` bytes at `offset` lie in the linear part, if they do.
    ///
    /// In assembly, because the verifier follows pointers and the compiler sees
    /// numbers: it must not add them up in another order.
    #[inline(always)]
    fn linear(&self, offset: u32, len: u64) -> Option<u64> {
        let (start, end): (u64, u64);
        // SAFETY: reads two fields of a valid context and adds two numbers.
        unsafe {
            asm!(
                "{start} = *(u32 *)({ctx} + {data})",
                "{end} = *(u32 *)({ctx} + {data_end})",
                "{offset} &= {furthest}",
                "{start} += {offset}",
                ctx = in(reg) self.raw(),
                offset = inout(reg) u64::from(offset) => _,
                furthest = const FURTHEST,
                start = out(reg) start,
                end = out(reg) end,
                data = const offset_of!(__sk_buff, data),
                data_end = const offset_of!(__sk_buff, data_end),
            );
        }
        (start + len <= end).then_some(start)
    }
}

/// All ones, and beyond any header that is read by its place alone.
const FURTHEST: u32 = 0x3fff;

/// A number at an address that `linear` gave.
macro_rules! read {
    ($type:ty, $load:literal, $start:expr) => {{
        let value: u64;
        // SAFETY: `linear` checked both ends. BPF loads need no alignment on
        // the machines that this is built for.
        unsafe {
            asm!($load, value = out(reg) value, start = in(reg) $start);
        }
        <$type>::from_be(value as $type)
    }};
}

macro_rules! read_or_load {
    ($self:ident, $offset:ident, $type:ty, $load:literal) => {{
        match $self.linear($offset, size_of::<$type>() as u64) {
            Some(start) => Some(read!($type, $load, start)),
            None => load::<$type>($self.raw(), $offset).map(|value| value as $type),
        }
    }};
}

impl Packet for Skb<'_> {
    #[inline(always)]
    fn byte(&self, offset: u32) -> Option<u8> {
        read_or_load!(self, offset, u8, "{value} = *(u8 *)({start} + 0)")
    }

    #[inline(always)]
    fn half(&self, offset: u32) -> Option<u16> {
        read_or_load!(self, offset, u16, "{value} = *(u16 *)({start} + 0)")
    }

    #[inline(always)]
    fn word(&self, offset: u32) -> Option<u32> {
        read_or_load!(self, offset, u32, "{value} = *(u32 *)({start} + 0)")
    }

    #[inline(always)]
    fn words<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        let Some(start) = self.linear(offset, 4 * N as u64) else {
            return load_words(self.raw(), offset);
        };
        let mut words = [0; N];
        for (n, word) in (0..).zip(&mut words) {
            *word = read!(u32, "{value} = *(u32 *)({start} + 0)", start + 4 * n);
        }
        Some(words)
    }

    #[inline(always)]
    fn forget(&self, number: u32) -> u32 {
        maps::forget(number)
    }

    type Wandering<'a>
        = Wandering
    where
        Self: 'a;

    #[inline(always)]
    fn wandering(&self) -> Wandering {
        Wandering(self.raw())
    }
}

/// A frame that is read by the helper only.
pub struct Wandering(*mut __sk_buff);

impl Packet for Wandering {
    #[inline(always)]
    fn byte(&self, offset: u32) -> Option<u8> {
        load::<u8>(self.0, offset).map(|value| value as u8)
    }

    #[inline(always)]
    fn half(&self, offset: u32) -> Option<u16> {
        load::<u16>(self.0, offset).map(|value| value as u16)
    }

    #[inline(always)]
    fn word(&self, offset: u32) -> Option<u32> {
        load::<u32>(self.0, offset)
    }

    #[inline(always)]
    fn words<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        load_words(self.0, offset)
    }

    #[inline(always)]
    fn forget(&self, number: u32) -> u32 {
        maps::forget(number)
    }

    type Wandering<'a> = Self;

    #[inline(always)]
    fn wandering(&self) -> Self {
        Self(self.0)
    }
}

/// Bytes from anywhere in the frame, also from beyond the linear part, where some
/// drivers leave headers.
///
/// Inlined: before Linux 6.4 a program with functions of its own is verified without
/// forgetting any number, which takes ten times as long.
#[inline(always)]
fn load<T>(skb: *mut __sk_buff, offset: u32) -> Option<u32> {
    let len = size_of::<T>() as u32;
    let mut word = 0_u32;
    let to = (&raw mut word).cast();
    // SAFETY: the buffer is that long.
    let result = unsafe { bpf_skb_load_bytes(skb.cast(), offset, to, len) };
    (result >= 0).then(|| u32::from_be(word) >> (32 - 8 * len))
}

/// The same for several words.
#[inline(always)]
fn load_words<const N: usize>(skb: *mut __sk_buff, offset: u32) -> Option<[u32; N]> {
    let mut words = [0_u32; N];
    let to = (&raw mut words).cast();
    // SAFETY: the buffer is that long.
    let result = unsafe { bpf_skb_load_bytes(skb.cast(), offset, to, 4 * N as u32) };
    (result >= 0).then(|| words.map(u32::from_be))
}
