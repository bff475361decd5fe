//! Bytes to a flow: one parser for the kernel and for tests.

#![expect(
    clippy::cast_possible_truncation,
    reason = "fields are cut out of words"
)]

use bytemuck::{Pod, Zeroable};

use crate::{address::Address, layout::Direction};

/// A frame whose bytes can be read, in network byte order; `None` where it ends
/// before.
pub trait Packet {
    /// One byte.
    fn byte(&self, offset: u32) -> Option<u8>;
    /// Two bytes.
    fn half(&self, offset: u32) -> Option<u16>;
    /// Four bytes.
    fn word(&self, offset: u32) -> Option<u32>;
    /// A header at once.
    fn words<const N: usize>(&self, offset: u32) -> Option<[u32; N]>;

    /// The same number, of which the kernel's verifier knows nothing: it would otherwise
    /// walk on from here once for each value that it may have.
    fn forget(&self, number: u32) -> u32;

    /// The same frame for reads at offsets that the frame itself decides about.
    ///
    /// In the kernel these go through a helper: slower than a look into memory, but
    /// the verifier needs not follow every offset that there could be.
    type Wandering<'a>: Packet
    where
        Self: 'a;
    /// See [`Packet::Wandering`].
    fn wandering(&self) -> Self::Wandering<'_>;
}

impl Packet for &[u8] {
    fn byte(&self, offset: u32) -> Option<u8> {
        self.get(offset as usize).copied()
    }

    fn half(&self, offset: u32) -> Option<u16> {
        let bytes = self.get(offset as usize..)?.first_chunk()?;
        Some(u16::from_be_bytes(*bytes))
    }

    fn word(&self, offset: u32) -> Option<u32> {
        let bytes = self.get(offset as usize..)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes))
    }

    fn words<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        let bytes = self.get(offset as usize..)?.get(..4 * N)?;
        let (words, _) = bytes.as_chunks();
        Some(core::array::from_fn(|n| u32::from_be_bytes(words[n])))
    }

    fn forget(&self, number: u32) -> u32 {
        number
    }

    type Wandering<'a>
        = &'a [u8]
    where
        Self: 'a;

    fn wandering(&self) -> &[u8] {
        self
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

/// A frame as rules see it. Without [`Flow::IPV4`] or [`Flow::IPV6`] it is not IP, and
/// the other fields mean nothing.
///
/// Plain numbers, each always with a value: the kernel's verifier refuses a program
/// that carries undefined bytes about, even where they are never looked at.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Flow {
    /// What it is: the constants below.
    pub flags: u32,
    /// Where the IP header starts.
    pub network_offset: u32,
    /// The remote address: destination on egress, source on ingress.
    pub far: Address,
    /// The local address.
    pub near: Address,
    /// IP protocol, or [`Flow::UNKNOWN_PROTOCOL`].
    pub protocol: u32,
    /// Port of the remote end, in host byte order.
    pub far_port: u32,
    /// Port of the local end, in host byte order.
    pub near_port: u32,
}

impl Flow {
    /// Flag: an IPv4 packet.
    pub const IPV4: u32 = 1;
    /// Flag: an IPv6 packet.
    pub const IPV6: u32 = 2;
    /// Flag: the ports are known. Not for protocols without ports, for later
    /// fragments and for headers that are cut off.
    pub const PORTS: u32 = 4;
    /// Flag: neighbour discovery (RFC 4861), IPv6's ARP.
    pub const NEIGHBOUR_DISCOVERY: u32 = 8;
    /// Flag: ARP (RFC 826).
    pub const ARP: u32 = 16;

    /// The protocol of a packet whose header chain could not be followed.
    pub const UNKNOWN_PROTOCOL: u32 = 0x100;

    /// Whether all of these flags are set.
    #[inline(always)]
    pub const fn is(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }

    /// Whether it is an IP packet.
    #[inline(always)]
    pub const fn is_ip(&self) -> bool {
        self.flags & (Self::IPV4 | Self::IPV6) != 0
    }
}

/// Why no flow, or only a part of one, could be read. Such frames are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// Neither IPv4 nor IPv6: ARP, LLDP, MPLS, `PPPoE`, a third VLAN tag.
    NotIp = 0,
    /// The frame ends inside a header.
    Truncated = 1,
    /// A header that contradicts itself.
    Malformed = 2,
    /// More IPv6 extension headers than are followed.
    TooManyHeaders = 3,
}

impl Reason {
    /// How many there are.
    pub const COUNT: u32 = 4;
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::NotIp,
        Self::Truncated,
        Self::Malformed,
        Self::TooManyHeaders,
    ];

    /// As a label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotIp => "not_ip",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::TooManyHeaders => "too_many_headers",
        }
    }
}

mod ether_type {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const ARP: u16 = 0x0806;
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

/// Whether another header follows (IANA's list of IPv6 extension headers).
#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
            | protocol::HIP
            | protocol::SHIM6
    )
}

const VLAN_TAGS: u32 = 2;
const EXTENSION_HEADERS: u32 = 8;

/// Reads the flow of a frame, and why it could not be read to its end, if so.
///
/// Two VLAN tags (IEEE 802.1Q, 802.1ad) are skipped in the frame; one more may be
/// in the skb's metadata, where the kernel put it.
#[inline(always)]
pub fn parse<P: Packet>(
    packet: &P,
    link: LinkLayer,
    direction: Direction,
) -> (Flow, Option<Reason>) {
    let mut flow = Flow {
        protocol: Flow::UNKNOWN_PROTOCOL,
        ..Flow::default()
    };
    let reason = flow.read(packet, link, direction).err();
    (flow, reason)
}

impl Flow {
    #[inline(always)]
    fn read<P: Packet>(
        &mut self,
        packet: &P,
        link: LinkLayer,
        direction: Direction,
    ) -> Result<(), Reason> {
        let version = match link {
            LinkLayer::Ethernet => match self.read_ethernet(packet)? {
                ether_type::IPV4 => 4,
                ether_type::IPV6 => 6,
                ether_type::ARP => {
                    self.flags = Self::ARP;
                    return Err(Reason::NotIp);
                }
                _ => return Err(Reason::NotIp),
            },
            LinkLayer::None => packet.byte(0).ok_or(Reason::Truncated)? >> 4,
        };
        match version {
            4 => self.read_ipv4(packet, direction),
            6 => self.read_ipv6(packet, direction),
            _ => Err(Reason::NotIp),
        }
    }

    #[inline(always)]
    fn read_ethernet<P: Packet>(&mut self, packet: &P) -> Result<u16, Reason> {
        let mut ether_type = packet.half(12).ok_or(Reason::Truncated)?;
        let mut offset = 14;
        for _ in 0..VLAN_TAGS {
            if !ether_type::VLAN.contains(&ether_type) {
                break;
            }
            ether_type = packet.half(offset + 2).ok_or(Reason::Truncated)?;
            offset += 4;
        }
        self.network_offset = packet.forget(offset);
        Ok(ether_type)
    }

    #[inline(always)]
    fn read_ipv4<P: Packet>(&mut self, packet: &P, direction: Direction) -> Result<(), Reason> {
        let offset = self.network_offset;
        let [first, second, third, source, destination] =
            packet.words(offset).ok_or(Reason::Truncated)?;
        let header_len = (first >> 24 & 0x0f) * 4;
        if first >> 28 != 4 || header_len < 20 {
            return Err(Reason::Malformed);
        }
        let fragment_offset = second & 0x1fff;
        let protocol = (third >> 16) as u8;
        self.set_ends(
            Address::from_v4_word(source.to_be()),
            Address::from_v4_word(destination.to_be()),
            direction,
        );
        self.flags = Self::IPV4;
        self.protocol = u32::from(protocol);
        if fragment_offset != 0 {
            return Ok(());
        }
        self.read_ports(packet, protocol, offset + header_len, direction)
    }

    #[inline(always)]
    fn read_ipv6<P: Packet>(&mut self, packet: &P, direction: Direction) -> Result<(), Reason> {
        let offset = self.network_offset;
        let words: [u32; 10] = packet.words(offset).ok_or(Reason::Truncated)?;
        let [first, second, source @ .., to0, to1, to2, to3] = words;
        if first >> 28 != 6 {
            return Err(Reason::Malformed);
        }
        let address = |words: [u32; 4]| Address(words.map(u32::to_be));
        self.set_ends(address(source), address([to0, to1, to2, to3]), direction);
        self.flags = Self::IPV6;
        let next = (second >> 8) as u8;
        let hop_limit = second as u8;
        if is_extension(next) {
            self.skip_extensions(&packet.wandering(), next, hop_limit, offset + 40, direction)
        } else {
            self.read_upper(packet, next, hop_limit, offset + 40, direction)
        }
    }

    /// Follows IPv6 extension headers (RFC 8200 section 4) to the upper layer.
    #[inline(always)]
    fn skip_extensions<P: Packet>(
        &mut self,
        packet: &P,
        first: u8,
        hop_limit: u8,
        start: u32,
        direction: Direction,
    ) -> Result<(), Reason> {
        let mut protocol = first;
        let mut offset = start;
        for _ in 0..EXTENSION_HEADERS {
            let header = packet.word(offset).ok_or(Reason::Truncated)?;
            let len = header >> 16 & 0xff;
            offset += match protocol {
                // RFC 4302 section 2.2: counted in words of four bytes, less two.
                protocol::AUTHENTICATION => len * 4 + 8,
                protocol::FRAGMENT => 8,
                _ => len * 8 + 8,
            };
            let later_fragment = protocol == protocol::FRAGMENT && header & 0xfff8 != 0;
            protocol = (header >> 24) as u8;
            if later_fragment {
                self.protocol = u32::from(protocol);
                return Ok(());
            }
            if !is_extension(protocol) {
                return self.read_upper(packet, protocol, hop_limit, offset, direction);
            }
        }
        Err(Reason::TooManyHeaders)
    }

    #[inline(always)]
    fn read_upper<P: Packet>(
        &mut self,
        packet: &P,
        protocol: u8,
        hop_limit: u8,
        offset: u32,
        direction: Direction,
    ) -> Result<(), Reason> {
        self.protocol = u32::from(protocol);
        if protocol == protocol::ICMPV6 && hop_limit == 255 {
            let kind = packet.byte(offset).ok_or(Reason::Truncated)?;
            if matches!(kind, 133..=137) {
                self.flags |= Self::NEIGHBOUR_DISCOVERY;
            }
        }
        self.read_ports(packet, protocol, offset, direction)
    }

    #[inline(always)]
    fn set_ends(&mut self, source: Address, destination: Address, direction: Direction) {
        (self.far, self.near) = match direction {
            Direction::Egress => (destination, source),
            Direction::Ingress => (source, destination),
        };
    }

    #[inline(always)]
    fn read_ports<P: Packet>(
        &mut self,
        packet: &P,
        protocol: u8,
        offset: u32,
        direction: Direction,
    ) -> Result<(), Reason> {
        if !matches!(
            protocol,
            protocol::TCP | protocol::UDP | protocol::DCCP | protocol::SCTP | protocol::UDP_LITE
        ) {
            return Ok(());
        }
        let ports = packet.word(offset).ok_or(Reason::Truncated)?;
        let (source, destination) = (ports >> 16, ports & 0xffff);
        self.flags |= Self::PORTS;
        (self.far_port, self.near_port) = match direction {
            Direction::Egress => (destination, source),
            Direction::Ingress => (source, destination),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
