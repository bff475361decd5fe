//! A frame as the TAP gives it, made what the TAP takes.
//!
//! In place: the header moves forward over the metadata.

use std::ops::Range;

use bytemuck::{Pod, Zeroable, bytes_of, pod_read_unaligned};
use fault_common::{line::Held, packet::LinkLayer};

/// `struct virtio_net_hdr` of `linux/virtio_net.h`, in the machine's byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
struct VnetHdr {
    flags: u8,
    gso_type: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

/// Its bytes, as the kernel is told.
#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    reason = "ten"
)]
pub const VNET_HDR: libc::c_int = HDR as libc::c_int;
const HDR: usize = size_of::<VnetHdr>();
const NEEDS_CSUM: u8 = 1;
/// Two addresses.
const ADDRESSES: usize = 12;
const TAG: usize = 4;
const ETHERNET: usize = 14;

/// When the frame is due, and which of the bytes the TAP takes for it. `None` if it has
/// no metadata: the device sent it itself.
pub fn take(bytes: &mut [u8], link: LinkLayer) -> Option<(u64, Range<usize>)> {
    let mut header: VnetHdr = pod_read_unaligned(bytes.get(..HDR)?);
    let body = bytes.get_mut(HDR..)?;
    let due_ns = u64::from_ne_bytes(*body.first_chunk()?);
    let word = |at: usize| {
        let word = body.get(at..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*word))
    };
    if word(8)? != Held::MAGIC {
        return None;
    }
    // How far the frame begins behind the start of the body.
    let start = if word(12)? == Held::END {
        match link {
            LinkLayer::Ethernet => Held::LEN,
            LinkLayer::None => {
                // The device wants Ethernet; the way back takes it off again.
                let ether_type = match body.get(Held::LEN)? >> 4 {
                    6 => [0x86, 0xdd],
                    _ => [0x08, 0x00],
                };
                let start = Held::LEN - ETHERNET;
                body[start..start + ADDRESSES].fill(0);
                body[start + ADDRESSES..Held::LEN].copy_from_slice(&ether_type);
                start
            }
        }
    } else {
        // The kernel put a VLAN tag at offset 12, into the metadata.
        if word(ADDRESSES + TAG)? != Held::END {
            return None;
        }
        let tag: [u8; TAG] = *body.get(ADDRESSES..)?.first_chunk()?;
        let frame = Held::LEN + TAG;
        body.get(frame..frame + ADDRESSES)?;
        body.copy_within(frame..frame + ADDRESSES, Held::LEN);
        body[Held::LEN + ADDRESSES..][..TAG].copy_from_slice(&tag);
        Held::LEN
    };
    let shift = u16::try_from(start).ok()?;
    if header.flags & NEEDS_CSUM != 0 {
        header.csum_start = header.csum_start.checked_sub(shift)?;
    }
    header.hdr_len = header.hdr_len.saturating_sub(shift);
    bytes[start..start + HDR].copy_from_slice(bytes_of(&header));
    Some((due_ns, start..bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: VnetHdr = VnetHdr {
        flags: NEEDS_CSUM,
        gso_type: 1,
        hdr_len: 16 + 54,
        gso_size: 1448,
        csum_start: 16 + 34,
        csum_offset: 16,
    };

    fn joined(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    fn taken(mut bytes: Vec<u8>, link: LinkLayer) -> Option<(u64, VnetHdr, Vec<u8>)> {
        let (due_ns, range) = take(&mut bytes, link)?;
        let bytes = &bytes[range];
        let header = pod_read_unaligned(&bytes[..HDR]);
        Some((due_ns, header, bytes[HDR..].to_vec()))
    }

    #[test]
    fn frame_comes_out_as_it_went_in() {
        let frame: Vec<u8> = (0..100).collect();
        let bytes = joined(&[bytes_of(&HEADER), bytes_of(&Held::until(77)), &frame]);
        let (due_ns, header, out) = taken(bytes, LinkLayer::Ethernet).unwrap();
        assert_eq!((due_ns, out), (77, frame));
        let expected = VnetHdr {
            hdr_len: 54,
            csum_start: 34,
            ..HEADER
        };
        assert_eq!(header, expected);
    }

    #[test]
    fn vlan_tag_goes_from_the_metadata_to_its_place() {
        let frame: Vec<u8> = (0..100).collect();
        let held = Held::until(77);
        let (tag, held) = ([0x81, 0, 0, 5], bytes_of(&held));
        // The kernel counts the tag in.
        let header = VnetHdr {
            csum_start: HEADER.csum_start + 4,
            ..HEADER
        };
        let bytes = joined(&[bytes_of(&header), &held[..12], &tag, &held[12..], &frame]);
        let (due_ns, header, out) = taken(bytes, LinkLayer::Ethernet).unwrap();
        assert_eq!(due_ns, 77);
        assert_eq!(out, joined(&[&frame[..12], &tag, &frame[12..]]));
        assert_eq!(header.csum_start, 34 + 4);
    }

    #[test]
    fn packet_without_ethernet_gets_one_for_the_way() {
        for (first, ether_type) in [(0x45, [8, 0]), (0x60, [0x86, 0xdd])] {
            let packet = [first; 40];
            let header = VnetHdr {
                csum_start: 16 + 20,
                ..HEADER
            };
            let bytes = joined(&[bytes_of(&header), bytes_of(&Held::until(77)), &packet]);
            let (_, header, out) = taken(bytes, LinkLayer::None).unwrap();
            assert_eq!(out, joined(&[&[0; 12], &ether_type, &packet]));
            assert_eq!(header.csum_start, 14 + 20);
        }
    }

    #[test]
    fn frame_of_the_device_itself_is_none_of_ours() {
        for len in [0, 9, 10, 20, 25, 26, 60] {
            assert_eq!(taken(vec![0; len], LinkLayer::Ethernet), None);
        }
        let header = VnetHdr::zeroed();
        let bytes = joined(&[bytes_of(&header), &[0x33; 60]]);
        assert_eq!(taken(bytes, LinkLayer::Ethernet), None);
    }

    #[test]
    fn bytes_that_end_anywhere_do_no_harm() {
        let held = Held::until(1);
        let held = bytes_of(&held);
        let tagged = joined(&[
            bytes_of(&HEADER),
            &held[..12],
            &[0x81, 0, 0, 5],
            &held[12..],
        ]);
        let plain = joined(&[bytes_of(&HEADER), held, &[1; 20]]);
        for bytes in [tagged, plain] {
            for len in 0..bytes.len() {
                for link in [LinkLayer::Ethernet, LinkLayer::None] {
                    let _ = taken(bytes[..len].to_vec(), link);
                }
            }
        }
    }
}
