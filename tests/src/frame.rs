//! Frames by hand, for what sockets do not send.

use std::net::IpAddr;

use crate::lab::{FAR_MAC, NEAR_MAC, Side};

/// `EtherType` of IPv4.
pub const IPV4: u16 = 0x0800;
/// `EtherType` of IPv6.
pub const IPV6: u16 = 0x86dd;
/// `EtherType` of a VLAN tag, IEEE 802.1Q.
pub const VLAN: u16 = 0x8100;
/// `EtherType` of a service VLAN tag, IEEE 802.1ad.
pub const SERVICE_VLAN: u16 = 0x88a8;
/// UDP's protocol number.
pub const UDP: u8 = 17;
/// Hop-by-hop options, routing, fragment and destination options: RFC 8200.
pub const HOP_BY_HOP: u8 = 0;
/// See [`HOP_BY_HOP`].
pub const DESTINATION_OPTIONS: u8 = 60;
/// See [`HOP_BY_HOP`].
pub const FRAGMENT: u8 = 44;

/// An Ethernet frame from a side to the other, with VLAN tags (`EtherType`, id) from the outside in.
pub fn ethernet(sender: Side, tags: &[(u16, u16)], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let (from, to) = match sender {
        Side::Near => (NEAR_MAC, FAR_MAC),
        Side::Far => (FAR_MAC, NEAR_MAC),
    };
    let mut frame = [to, from].concat();
    for (kind, id) in tags {
        frame.extend(kind.to_be_bytes());
        frame.extend(id.to_be_bytes());
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Where a fragment lies: offset in units of 8 bytes, and whether more follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// Offset in units of 8 bytes.
    pub offset: u16,
    /// Whether more follow.
    pub more: bool,
}

/// An IP packet of either family; [`Fragment`] is for IPv4, IPv6 has [`fragment_header`].
pub fn ip(from: IpAddr, to: IpAddr, protocol: u8, fragment: Fragment, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("a small packet");
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0];
            header.extend((len + 20).to_be_bytes());
            header.extend([0xfa, 0x17]);
            header.extend((fragment.offset | u16::from(fragment.more) << 13).to_be_bytes());
            header.extend([64, protocol, 0, 0]);
            header.extend(from.octets());
            header.extend(to.octets());
            let sum = checksum(&header).to_be_bytes();
            header[10..12].copy_from_slice(&sum);
            [header, payload.to_vec()].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(len.to_be_bytes());
            header.extend([protocol, 64]);
            header.extend(from.octets());
            header.extend(to.octets());
            [header, payload.to_vec()].concat()
        }
        _ => panic!("addresses of two families"),
    }
}

/// An IPv6 extension header with nothing but padding in it.
pub fn options_header(next: u8) -> [u8; 8] {
    // PadN over the six bytes that are left.
    [next, 0, 1, 4, 0, 0, 0, 0]
}

/// An IPv6 fragment header.
pub fn fragment_header(next: u8, fragment: Fragment) -> [u8; 8] {
    let [high, low] = (fragment.offset << 3 | u16::from(fragment.more)).to_be_bytes();
    [next, 0, high, low, 0, 0, 0xfa, 0x17]
}

/// A UDP datagram without a checksum.
pub fn udp(from_port: u16, to_port: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len() + 8).expect("a small datagram");
    let mut datagram = Vec::new();
    for field in [from_port, to_port, len, 0] {
        datagram.extend(field.to_be_bytes());
    }
    datagram.extend(payload);
    datagram
}

/// RFC 1071.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

#[cfg(test)]
mod tests {
    use super::checksum;

    #[test]
    fn checksum_is_that_of_rfc_1071() {
        // Section 3: the sum of these is ddf2.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&bytes), !0xddf2);
    }
}
