//! Bytes to a flow: one parser for the kernel and for tests.

use crate::{address::Address, layout::Direction};

/// A frame whose bytes can be read.
pub trait Packet {
    /// `N` bytes at `offset`, or `None` where the frame ends before.
    fn read<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;
}

impl Packet for [u8] {
    fn read<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.get(offset as usize..)?.first_chunk().copied()
    }
}

/// What lies in front of the network header at the hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkLayer {
    /// An Ethernet header: Ethernet, loopback, veth, bridges, bonds, VLAN devices, tap.
    Ethernet,
    /// Nothing: tun, wireguard, ppp, IP tunnels.
    None,
}

/// An IP packet as rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The remote address: destination on egress, source on ingress.
    pub far: Address,
    /// The local address.
    pub near: Address,
    /// IP protocol, or [`Flow::UNKNOWN_PROTOCOL`].
    pub protocol: u16,
    /// Ports in host byte order: far and near. None for protocols without ports,
    /// for later fragments and for headers that are cut off.
    pub ports: Option<(u16, u16)>,
    /// Whether it is neighbour discovery (RFC 4861), IPv6's ARP.
    pub neighbour_discovery: bool,
    /// Where the IP header starts.
    pub network_offset: u32,
    /// 4 or 6.
    pub version: u8,
    /// Whether the header chain could not be followed to its end, and why.
    pub incomplete: Option<Reason>,
}

impl Flow {
    /// The protocol of a packet whose header chain could not be followed.
    pub const UNKNOWN_PROTOCOL: u16 = 0x100;
}

/// Why no flow, or only a part of one, could be read. Such frames are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// Neither IPv4 nor IPv6: ARP, LLDP, MPLS, PPPoE, a third VLAN tag.
    NotIp = 0,
    /// The frame ends inside a header.
    Truncated = 1,
    /// A header that contradicts itself.
    Malformed = 2,
    /// More IPv6 extension headers than are followed.
    TooManyHeaders = 3,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [
        Self::NotIp,
        Self::Truncated,
        Self::Malformed,
        Self::TooManyHeaders,
    ];
}

mod ether_type {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const IPV6: u16 = 0x86dd;
    pub(super) const VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
}

/// IP protocol numbers with a meaning here (IANA's registry).
pub mod protocol {
    /// RFC 792
    pub const ICMP: u8 = 1;
    /// RFC 9293
    pub const TCP: u8 = 6;
    /// RFC 768
    pub const UDP: u8 = 17;
    /// RFC 4340
    pub const DCCP: u8 = 33;
    /// RFC 4443
    pub const ICMPV6: u8 = 58;
    /// RFC 9260
    pub const SCTP: u8 = 132;
    /// RFC 3828
    pub const UDP_LITE: u8 = 136;

    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION_OPTIONS: u8 = 60;
    pub(super) const MOBILITY: u8 = 135;
    pub(super) const HIP: u8 = 139;
    pub(super) const SHIM6: u8 = 140;
}

const VLAN_TAGS: u32 = 2;
const EXTENSION_HEADERS: u32 = 8;

/// Reads the flow of a frame.
///
/// Two VLAN tags (IEEE 802.1Q, 802.1ad) are skipped in the frame; one more may be
/// in the skb's metadata, where the kernel put it.
#[inline(always)]
pub fn parse<P: Packet + ?Sized>(
    packet: &P,
    link: LinkLayer,
    direction: Direction,
) -> Result<Flow, Reason> {
    match link {
        LinkLayer::Ethernet => {
            let (ether_type, offset) = ethernet(packet)?;
            match ether_type {
                ether_type::IPV4 => ipv4(packet, offset, direction),
                ether_type::IPV6 => ipv6(packet, offset, direction),
                _ => Err(Reason::NotIp),
            }
        }
        LinkLayer::None => {
            let [first] = packet.read(0).ok_or(Reason::Truncated)?;
            match first >> 4 {
                4 => ipv4(packet, 0, direction),
                6 => ipv6(packet, 0, direction),
                _ => Err(Reason::NotIp),
            }
        }
    }
}

#[inline(always)]
fn ethernet<P: Packet + ?Sized>(packet: &P) -> Result<(u16, u32), Reason> {
    let mut offset = 12;
    let mut ether_type = u16::from_be_bytes(packet.read(offset).ok_or(Reason::Truncated)?);
    offset += 2;
    for _ in 0..VLAN_TAGS {
        if !ether_type::VLAN.contains(&ether_type) {
            break;
        }
        let [_, _, high, low] = packet.read(offset).ok_or(Reason::Truncated)?;
        ether_type = u16::from_be_bytes([high, low]);
        offset += 4;
    }
    Ok((ether_type, offset))
}

#[inline(always)]
fn ipv4<P: Packet + ?Sized>(
    packet: &P,
    offset: u32,
    direction: Direction,
) -> Result<Flow, Reason> {
    let header: [u8; 20] = packet.read(offset).ok_or(Reason::Truncated)?;
    let header_len = u32::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || header_len < 20 {
        return Err(Reason::Malformed);
    }
    let source = Address::from_v4([header[12], header[13], header[14], header[15]]);
    let destination = Address::from_v4([header[16], header[17], header[18], header[19]]);
    let protocol = header[9];
    let mut flow = Flow::new(source, destination, direction, offset, 4);
    flow.protocol = u16::from(protocol);
    let fragment_offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    if fragment_offset == 0 {
        flow.read_ports(packet, protocol, offset + header_len, direction);
    }
    Ok(flow)
}

#[inline(always)]
fn ipv6<P: Packet + ?Sized>(
    packet: &P,
    offset: u32,
    direction: Direction,
) -> Result<Flow, Reason> {
    let header: [u8; 40] = packet.read(offset).ok_or(Reason::Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(Reason::Malformed);
    }
    let mut source = [0; 16];
    let mut destination = [0; 16];
    source.copy_from_slice(&header[8..24]);
    destination.copy_from_slice(&header[24..40]);
    let mut flow = Flow::new(
        Address(source),
        Address(destination),
        direction,
        offset,
        6,
    );
    match skip_extensions(packet, header[6], offset + 40) {
        Ok(Upper {
            protocol,
            offset: upper,
            later_fragment,
        }) => {
            flow.protocol = u16::from(protocol);
            if !later_fragment {
                flow.read_ports(packet, protocol, upper, direction);
                if protocol == protocol::ICMPV6 && header[7] == 255 {
                    flow.neighbour_discovery =
                        matches!(packet.read::<1>(upper), Some([133..=137]));
                }
            }
        }
        Err(reason) => flow.incomplete = Some(reason),
    }
    Ok(flow)
}

struct Upper {
    protocol: u8,
    offset: u32,
    later_fragment: bool,
}

/// Follows IPv6 extension headers (RFC 8200 section 4, IANA's list) to the upper layer.
#[inline(always)]
fn skip_extensions<P: Packet + ?Sized>(
    packet: &P,
    first: u8,
    start: u32,
) -> Result<Upper, Reason> {
    let mut upper = Upper {
        protocol: first,
        offset: start,
        later_fragment: false,
    };
    for _ in 0..EXTENSION_HEADERS {
        let unit = match upper.protocol {
            protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
            | protocol::HIP
            | protocol::SHIM6 => 8,
            // RFC 4302 section 2.2: counted in words of four bytes, less two.
            protocol::AUTHENTICATION => 4,
            protocol::FRAGMENT => {
                let [next, _, high, low] =
                    packet.read(upper.offset).ok_or(Reason::Truncated)?;
                upper.protocol = next;
                upper.offset += 8;
                if u16::from_be_bytes([high, low]) >> 3 != 0 {
                    upper.later_fragment = true;
                    return Ok(upper);
                }
                continue;
            }
            _ => return Ok(upper),
        };
        let [next, len] = packet.read(upper.offset).ok_or(Reason::Truncated)?;
        upper.protocol = next;
        upper.offset += u32::from(len) * unit + 8;
    }
    Err(Reason::TooManyHeaders)
}

impl Flow {
    #[inline(always)]
    fn new(
        source: Address,
        destination: Address,
        direction: Direction,
        network_offset: u32,
        version: u8,
    ) -> Self {
        let (far, near) = match direction {
            Direction::Egress => (destination, source),
            Direction::Ingress => (source, destination),
        };
        Self {
            far,
            near,
            protocol: Self::UNKNOWN_PROTOCOL,
            ports: None,
            neighbour_discovery: false,
            network_offset,
            version,
            incomplete: None,
        }
    }

    #[inline(always)]
    fn read_ports<P: Packet + ?Sized>(
        &mut self,
        packet: &P,
        protocol: u8,
        offset: u32,
        direction: Direction,
    ) {
        if !matches!(
            protocol,
            protocol::TCP
                | protocol::UDP
                | protocol::DCCP
                | protocol::SCTP
                | protocol::UDP_LITE
        ) {
            return;
        }
        let Some([a, b, c, d]) = packet.read(offset) else {
            self.incomplete = Some(Reason::Truncated);
            return;
        };
        let source = u16::from_be_bytes([a, b]);
        let destination = u16::from_be_bytes([c, d]);
        self.ports = Some(match direction {
            Direction::Egress => (destination, source),
            Direction::Ingress => (source, destination),
        });
    }
}
