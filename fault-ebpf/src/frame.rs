//! Reading frames: from the linear part where they lie there, else by a helper.

use core::{arch::asm, ffi::c_void, marker::PhantomData};

use fault_common::packet::Packet;

use crate::maps;

/// What a program gets from its hook.
pub trait Context {
    /// Offset of the field that says where the linear part begins.
    const DATA: usize;
    /// Offset of the field that says where the linear part ends.
    const DATA_END: usize;

    /// As the kernel gave it.
    fn raw(&self) -> *mut c_void;

    /// Copies bytes from anywhere in the frame; negative if it ends before.
    ///
    /// # Safety
    /// `context` is what [`Self::raw`] gave, and `len` bytes at `to` may be written.
    unsafe fn load_bytes(context: *mut c_void, offset: u32, to: *mut c_void, len: u32) -> i64;
}

/// A frame on a hook.
pub struct Frame<'a, C>(pub &'a C);

impl<C: Context> Frame<'_, C> {
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
                ctx = in(reg) self.0.raw(),
                offset = inout(reg) u64::from(offset) => _,
                furthest = const FURTHEST,
                start = out(reg) start,
                end = out(reg) end,
                data = const C::DATA,
                data_end = const C::DATA_END,
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
            None => load::<C, $type>($self.0.raw(), $offset).map(|value| value as $type),
        }
    }};
}

impl<C: Context> Packet for Frame<'_, C> {
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
            return load_words::<C, N>(self.0.raw(), offset);
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
        = Wandering<C>
    where
        Self: 'a;

    #[inline(always)]
    fn wandering(&self) -> Wandering<C> {
        Wandering(self.0.raw(), PhantomData)
    }
}

/// A frame that is read by the helper only.
pub struct Wandering<C>(*mut c_void, PhantomData<C>);

impl<C: Context> Packet for Wandering<C> {
    #[inline(always)]
    fn byte(&self, offset: u32) -> Option<u8> {
        load::<C, u8>(self.0, offset).map(|value| value as u8)
    }

    #[inline(always)]
    fn half(&self, offset: u32) -> Option<u16> {
        load::<C, u16>(self.0, offset).map(|value| value as u16)
    }

    #[inline(always)]
    fn word(&self, offset: u32) -> Option<u32> {
        load::<C, u32>(self.0, offset)
    }

    #[inline(always)]
    fn words<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        load_words::<C, N>(self.0, offset)
    }

    #[inline(always)]
    fn forget(&self, number: u32) -> u32 {
        maps::forget(number)
    }

    type Wandering<'a>
        = Self
    where
        Self: 'a;

    #[inline(always)]
    fn wandering(&self) -> Self {
        Self(self.0, PhantomData)
    }
}

/// Bytes from anywhere in the frame, also from beyond the linear part, where some
/// drivers leave headers.
///
/// Inlined: before Linux 6.4 a program with functions of its own is verified without
/// forgetting any number, which takes ten times as long.
#[inline(always)]
fn load<C: Context, T>(context: *mut c_void, offset: u32) -> Option<u32> {
    let len = size_of::<T>() as u32;
    let mut word = 0_u32;
    let to = (&raw mut word).cast();
    // SAFETY: the buffer is that long.
    let result = unsafe { C::load_bytes(context, offset, to, len) };
    (result >= 0).then(|| u32::from_be(word) >> (32 - 8 * len))
}

/// The same for several words.
#[inline(always)]
fn load_words<C: Context, const N: usize>(context: *mut c_void, offset: u32) -> Option<[u32; N]> {
    let mut words = [0_u32; N];
    let to = (&raw mut words).cast();
    // SAFETY: the buffer is that long.
    let result = unsafe { C::load_bytes(context, offset, to, 4 * N as u32) };
    (result >= 0).then(|| words.map(u32::from_be))
}
