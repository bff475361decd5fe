//! A frame in the driver, before there is an skb.

use core::{ffi::c_void, mem::offset_of};

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    programs::XdpContext,
};
use fault_common::engine::Size;

use crate::frame::Context;

/// A frame on the XDP hook, of one buffer or several.
pub struct Xdp<'a> {
    ctx: &'a XdpContext,
}

impl<'a> Xdp<'a> {
    /// The frame of a context.
    #[inline(always)]
    pub const fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx }
    }

    /// Its bytes, in all its buffers. How many packets a driver has put together in it (LRO)
    /// is not told here: it counts for one.
    #[inline(always)]
    pub fn size(&self) -> Size {
        // SAFETY: the kernel hands a valid context (Linux 5.18).
        let bytes = unsafe { bpf_xdp_get_buff_len(self.ctx.ctx) };
        Size {
            packets: 1,
            bytes: bytes as u32,
            wire_bytes: bytes as u32,
        }
    }
}

impl Context for Xdp<'_> {
    const DATA: usize = offset_of!(xdp_md, data);
    const DATA_END: usize = offset_of!(xdp_md, data_end);

    #[inline(always)]
    fn raw(&self) -> *mut c_void {
        self.ctx.ctx.cast()
    }

    #[inline(always)]
    unsafe fn load_bytes(context: *mut c_void, offset: u32, to: *mut c_void, len: u32) -> i64 {
        // SAFETY: the caller's promise (Linux 5.18).
        unsafe { bpf_xdp_load_bytes(context.cast(), offset, to, len) }
    }
}
