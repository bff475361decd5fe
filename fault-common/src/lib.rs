//! What the kernel side and the user side of faultctl agree on: the layouts of
//! the maps, the parser of frames, and every decision about a packet.
//!
//! No I/O and no allocation. The kernel program and the tests on the host run
//! the same code; only where tables and packet bytes come from differs, behind
//! [`engine::Tables`] and [`packet::Packet`].

#![no_std]
#![expect(
    clippy::inline_always,
    reason = "the kernel program is one function: calls cost stack, of which there is little"
)]

pub mod address;
pub mod chain;
pub mod decide;
pub mod engine;
pub mod layout;
pub mod line;
pub mod packet;
pub mod random;
pub mod search;
