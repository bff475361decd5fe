//! An skb: its size, and what may be written to it.

use core::{ffi::c_void, mem::offset_of};

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_RECOMPUTE_CSUM},
    helpers::bpf_skb_load_bytes,
    programs::TcContext,
};
use fault_common::{
    engine::{Size, Verdict},
    layout::Rule,
    packet::{Flow, Packet as _},
};

use crate::frame::{Context, Frame};

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
    fn skb(&self) -> *mut __sk_buff {
        self.ctx.skb.skb
    }

    /// Its packets on the wire and its bytes.
    #[inline(always)]
    pub fn size(&self) -> Size {
        // SAFETY: the kernel hands a valid context; all of these may be read on tc.
        let (segments, size, bytes, wire_bytes) = unsafe {
            let raw = self.skb();
            (
                (*raw).gso_segs,
                (*raw).gso_size,
                (*raw).len,
                (*raw).wire_len,
            )
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
            // On ingress the kernel leaves out the link layer, and the headers of the
            // segments that it has put together.
            wire_bytes: wire_bytes.max(bytes),
        }
    }

    /// Writes skb mark and DSCP.
    #[inline(always)]
    pub fn mark(&self, verdict: &Verdict) {
        if verdict.mark_mask != 0 {
            // SAFETY: as in `size`; the mark may be written.
            unsafe {
                let raw = self.skb();
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
        let old = Frame(self).half(offset)?;
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
        let old = Frame(self).half(offset)?;
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
}

impl Context for Skb<'_> {
    const DATA: usize = offset_of!(__sk_buff, data);
    const DATA_END: usize = offset_of!(__sk_buff, data_end);

    #[inline(always)]
    fn raw(&self) -> *mut c_void {
        self.skb().cast()
    }

    #[inline(always)]
    unsafe fn load_bytes(context: *mut c_void, offset: u32, to: *mut c_void, len: u32) -> i64 {
        // SAFETY: the caller's promise.
        unsafe { bpf_skb_load_bytes(context, offset, to, len) }
    }
}
