//! An skb as the engine reads it, and what may be written to it.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, BPF_F_RECOMPUTE_CSUM},
    helpers::bpf_skb_load_bytes,
    programs::TcContext,
};
use fault_common::{
    engine::{Dscp, Size, Verdict},
    packet::Packet,
};

/// No header that is read starts further inside a frame.
const FURTHEST: u32 = 0x3fff;

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
        // SAFETY: the kernel hands a valid context; both fields may be read on tc.
        let (segments, bytes) = unsafe { ((*self.raw()).gso_segs, (*self.raw()).len) };
        Size {
            packets: if segments > 1 { segments } else { 1 },
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
        if let Some(dscp) = verdict.dscp {
            // A frame that can't be written keeps its DSCP.
            let _ = if dscp.version == 4 {
                self.set_ipv4_dscp(dscp)
            } else {
                self.set_ipv6_dscp(dscp)
            };
        }
    }

    /// The upper six bits of the second byte (RFC 2474), with the header checksum
    /// (RFC 1624) mended for the 16-bit word that holds them.
    #[inline(always)]
    fn set_ipv4_dscp(&self, dscp: Dscp) -> Option<()> {
        let offset = dscp.network_offset;
        let [version, tos] = self.read(offset)?;
        let new_tos = (dscp.value << 2) | (tos & 3);
        if new_tos == tos {
            return Some(());
        }
        let old = u16::from_ne_bytes([version, tos]);
        let new = u16::from_ne_bytes([version, new_tos]);
        let skb = &self.ctx.skb;
        skb.l3_csum_replace((offset + 10) as usize, u64::from(old), u64::from(new), 2)
            .ok()?;
        skb.store((offset + 1) as usize, &new_tos, 0).ok()
    }

    /// The upper six bits of the traffic class, which lies across two bytes. There
    /// is no header checksum, but a sum over the whole packet may ride along.
    #[inline(always)]
    fn set_ipv6_dscp(&self, dscp: Dscp) -> Option<()> {
        let old: [u8; 2] = self.read(dscp.network_offset)?;
        let cleared = u16::from_be_bytes(old) & !0x0fc0;
        let new = (cleared | (u16::from(dscp.value) << 6)).to_be_bytes();
        if new == old {
            return Some(());
        }
        self.ctx
            .skb
            .store(
                dscp.network_offset as usize,
                &new,
                u64::from(BPF_F_RECOMPUTE_CSUM),
            )
            .ok()
    }
}

impl Packet for Skb<'_> {
    /// Straight from the linear part where the bytes are there, else by the helper,
    /// which reads fragments of the skb too.
    #[inline(always)]
    fn read<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        if offset > FURTHEST {
            return None;
        }
        let start = self.ctx.data() + offset as usize;
        if start + N <= self.ctx.data_end() {
            // SAFETY: the line above checked both ends, and bytes need no alignment.
            return Some(unsafe { (start as *const [u8; N]).read_unaligned() });
        }
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the helper fills all `N` bytes or fails.
        unsafe {
            (bpf_skb_load_bytes(
                self.ctx.as_ptr().cast(),
                offset,
                bytes.as_mut_ptr().cast(),
                N as u32,
            ) == 0)
                .then(|| bytes.assume_init())
        }
    }
}
