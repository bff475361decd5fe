//! The parser on frames that are built by hand, and on chance.

extern crate std;

use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const SOURCE_V4: [u8; 4] = [192, 0, 2, 1];
const DESTINATION_V4: [u8; 4] = [198, 51, 100, 7];
const SOURCE_V6: [u8; 16] = [0xfd; 16];
const DESTINATION_V6: [u8; 16] = [0x20; 16];
const SOURCE_PORT: u16 = 40_000;
const DESTINATION_PORT: u16 = 443;

const ESP: u8 = 50;
/// 802.1Q, 802.1ad, and what came before it.
const VLAN_TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];

fn ethernet(ether_types: &[u16], packet: &[u8]) -> Vec<u8> {
    let mut frame = [0; 12].to_vec();
    for (n, ether_type) in ether_types.iter().enumerate() {
        if n > 0 {
            // The tag control information of the tag before.
            frame.extend([0x20, 0x07]);
        }
        frame.extend(ether_type.to_be_bytes());
    }
    frame.extend(packet);
    frame
}

fn ipv4(protocol: u8, option_words: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = [0; 20].to_vec();
    packet[0] = 0x45 + option_words;
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[9] = protocol;
    packet[12..16].copy_from_slice(&SOURCE_V4);
    packet[16..20].copy_from_slice(&DESTINATION_V4);
    packet.resize(packet.len() + 4 * usize::from(option_words), 1);
    packet.extend(payload);
    packet
}

fn ipv6(next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = [0; 40].to_vec();
    packet[0] = 0x60;
    packet[6..8].copy_from_slice(&[next, hop_limit]);
    packet[8..24].copy_from_slice(&SOURCE_V6);
    packet[24..40].copy_from_slice(&DESTINATION_V6);
    packet.extend(payload);
    packet
}

/// The start of a header with ports.
fn ports() -> Vec<u8> {
    [SOURCE_PORT, DESTINATION_PORT]
        .map(u16::to_be_bytes)
        .concat()
}

/// An extension header with its length in the units of its second byte.
fn extension(next: u8, length: u8, bytes: usize) -> Vec<u8> {
    let mut header = [next, length].to_vec();
    header.resize(bytes, 0);
    header
}

/// A fragment header.
fn fragment(next: u8, offset_and_more: u16) -> Vec<u8> {
    let [high, low] = offset_and_more.to_be_bytes();
    [next, 0, high, low, 0, 0, 0, 1].to_vec()
}

fn read(packet: &[u8], link: LinkLayer) -> (Flow, Option<Reason>) {
    parse(&packet, link, Direction::Egress)
}

fn egress(frame: &[u8]) -> (Flow, Option<Reason>) {
    read(frame, LinkLayer::Ethernet)
}

fn v4_flow(network_offset: u32) -> Flow {
    Flow {
        flags: Flow::IPV4 | Flow::PORTS,
        network_offset,
        far: Address::from_v4(DESTINATION_V4),
        near: Address::from_v4(SOURCE_V4),
        protocol: u32::from(protocol::UDP),
        far_port: u32::from(DESTINATION_PORT),
        near_port: u32::from(SOURCE_PORT),
    }
}

fn v6_flow(network_offset: u32) -> Flow {
    Flow {
        flags: Flow::IPV6 | Flow::PORTS,
        far: Address::from_v6(DESTINATION_V6),
        near: Address::from_v6(SOURCE_V6),
        ..v4_flow(network_offset)
    }
}

fn without_ports(flow: Flow, protocol: u8) -> Flow {
    Flow {
        flags: flow.flags & !Flow::PORTS,
        protocol: u32::from(protocol),
        far_port: 0,
        near_port: 0,
        ..flow
    }
}

#[test]
fn far_end_is_the_destination_of_what_leaves_and_the_source_of_what_comes() {
    let v4 = ethernet(&[0x0800], &ipv4(protocol::UDP, 0, 0, &ports()));
    let v6 = ethernet(&[0x86dd], &ipv6(protocol::UDP, 64, &ports()));
    for (frame, flow) in [(v4, v4_flow(14)), (v6, v6_flow(14))] {
        assert_eq!(egress(&frame), (flow, None));
        let ingress = Flow {
            far: flow.near,
            near: flow.far,
            far_port: flow.near_port,
            near_port: flow.far_port,
            ..flow
        };
        let read = parse(&frame.as_slice(), LinkLayer::Ethernet, Direction::Ingress);
        assert_eq!(read, (ingress, None));
    }
}

#[test]
fn every_protocol_with_ports_is_read_and_no_other() {
    for protocol in 0..=u8::MAX {
        let frame = ethernet(&[0x0800], &ipv4(protocol, 0, 0, &ports()));
        let flow = match protocol {
            protocol::TCP
            | protocol::UDP
            | protocol::DCCP
            | protocol::SCTP
            | protocol::UDP_LITE => Flow {
                protocol: u32::from(protocol),
                ..v4_flow(14)
            },
            _ => without_ports(v4_flow(14), protocol),
        };
        assert_eq!(egress(&frame), (flow, None), "protocol {protocol}");
    }
}

#[test]
fn two_vlan_tags_are_skipped_and_a_third_is_not_ip() {
    let v4 = ipv4(protocol::UDP, 0, 0, &ports());
    let v6 = ipv6(protocol::UDP, 64, &ports());
    for outer in VLAN_TAGS {
        let one = ethernet(&[outer, 0x0800], &v4);
        assert_eq!(egress(&one), (v4_flow(18), None));
        for inner in VLAN_TAGS {
            let two = ethernet(&[outer, inner, 0x86dd], &v6);
            assert_eq!(egress(&two), (v6_flow(22), None));
            let three = ethernet(&[outer, inner, 0x8100, 0x0800], &v4);
            let (flow, reason) = egress(&three);
            assert!(!flow.is_ip());
            assert_eq!(reason, Some(Reason::NotIp));
        }
    }
}

#[test]
fn frame_of_another_kind_is_not_ip() {
    // ARP, LLDP, MPLS, PPPoE, and a length as in 802.3.
    for ether_type in [0x0806, 0x88cc, 0x8847, 0x8864, 0x0026] {
        let (flow, reason) = egress(&ethernet(&[ether_type], &[0x45; 60]));
        assert!(!flow.is_ip());
        assert_eq!(flow.is(Flow::ARP), ether_type == 0x0806);
        assert_eq!(reason, Some(Reason::NotIp));
    }
}

#[test]
fn link_without_a_header_is_read_by_the_version_of_its_packets() {
    let v4 = ipv4(protocol::UDP, 0, 0, &ports());
    let v6 = ipv6(protocol::UDP, 64, &ports());
    assert_eq!(read(&v4, LinkLayer::None), (v4_flow(0), None));
    assert_eq!(read(&v6, LinkLayer::None), (v6_flow(0), None));
    let other = read(&[0x50; 60], LinkLayer::None);
    assert_eq!(other.1, Some(Reason::NotIp));
    assert_eq!(read(&[], LinkLayer::None).1, Some(Reason::Truncated));
}

#[test]
fn options_of_ipv4_move_the_ports() {
    for words in 0..=10 {
        let frame = ethernet(&[0x0800], &ipv4(protocol::UDP, words, 0, &ports()));
        assert_eq!(egress(&frame), (v4_flow(14), None), "{words} words");
    }
}

#[test]
fn first_fragment_has_ports_and_a_later_one_has_none() {
    let (more, later) = (0x2000, 185);
    let v4 = |fragment| ethernet(&[0x0800], &ipv4(protocol::UDP, 0, fragment, &ports()));
    assert_eq!(egress(&v4(more)), (v4_flow(14), None));
    for fragment in [later, more | later] {
        let flow = without_ports(v4_flow(14), protocol::UDP);
        assert_eq!(egress(&v4(fragment)), (flow, None));
    }

    let v6 = |offset_and_more| {
        let payload = [fragment(protocol::UDP, offset_and_more), ports()].concat();
        ethernet(&[0x86dd], &ipv6(protocol::FRAGMENT, 64, &payload))
    };
    // An atomic fragment, a first one, later ones.
    for first in [0, 1] {
        assert_eq!(egress(&v6(first)), (v6_flow(14), None));
    }
    for later in [8, 8 | 1, 0xfff8] {
        let flow = without_ports(v6_flow(14), protocol::UDP);
        assert_eq!(egress(&v6(later)), (flow, None));
    }
}

#[test]
fn extension_headers_are_followed_to_the_ports() {
    let chain = [
        extension(protocol::DESTINATION_OPTIONS, 1, 16),
        extension(protocol::ROUTING, 0, 8),
        extension(protocol::FRAGMENT, 2, 24),
        fragment(protocol::AUTHENTICATION, 0),
        extension(protocol::MOBILITY, 4, 24),
        extension(protocol::HIP, 0, 8),
        extension(protocol::SHIM6, 0, 8),
        extension(protocol::UDP, 0, 8),
        ports(),
    ]
    .concat();
    let frame = ethernet(&[0x86dd], &ipv6(protocol::HOP_BY_HOP, 64, &chain));
    assert_eq!(egress(&frame), (v6_flow(14), None));
}

#[test]
fn authentication_header_is_counted_in_words_of_four_bytes() {
    // RFC 4302: 12 bytes and a 12-byte check value are 6 words, less 2.
    let chain = [extension(protocol::UDP, 4, 24), ports()].concat();
    let frame = ethernet(&[0x86dd], &ipv6(protocol::AUTHENTICATION, 64, &chain));
    assert_eq!(egress(&frame), (v6_flow(14), None));
}

#[test]
fn eight_extension_headers_are_followed_and_nine_are_not() {
    let chain = |headers: usize| {
        let mut chain = Vec::new();
        for _ in 1..headers {
            chain.extend(extension(protocol::DESTINATION_OPTIONS, 0, 8));
        }
        chain.extend(extension(protocol::UDP, 0, 8));
        chain.extend(ports());
        ethernet(&[0x86dd], &ipv6(protocol::DESTINATION_OPTIONS, 64, &chain))
    };
    assert_eq!(egress(&chain(8)), (v6_flow(14), None));
    let (flow, reason) = egress(&chain(9));
    assert_eq!(reason, Some(Reason::TooManyHeaders));
    // Its ends are known: a rule for the address takes it.
    assert_eq!(flow.flags, Flow::IPV6);
    assert_eq!(flow.far, v6_flow(14).far);
    assert_eq!(flow.protocol, Flow::UNKNOWN_PROTOCOL);
}

#[test]
fn what_is_encrypted_is_not_looked_into() {
    let chain = [extension(ESP, 0, 8), ports()].concat();
    let frame = ethernet(&[0x86dd], &ipv6(protocol::DESTINATION_OPTIONS, 64, &chain));
    let flow = without_ports(v6_flow(14), ESP);
    assert_eq!(egress(&frame), (flow, None));
}

#[test]
fn neighbour_discovery_is_told_by_type_and_hop_limit() {
    for kind in 0..=u8::MAX {
        for hop_limit in [1, 64, 254, 255] {
            let is_nd = (133..=137).contains(&kind) && hop_limit == 255;
            let message = [kind, 0, 0, 0];
            let plain = ipv6(protocol::ICMPV6, hop_limit, &message);
            let behind = [extension(protocol::ICMPV6, 0, 8), message.to_vec()].concat();
            let behind = ipv6(protocol::HOP_BY_HOP, hop_limit, &behind);
            for packet in [plain, behind] {
                let (flow, reason) = egress(&ethernet(&[0x86dd], &packet));
                assert_eq!(reason, None);
                assert_eq!(flow.is(Flow::NEIGHBOUR_DISCOVERY), is_nd, "type {kind}");
                assert!(!flow.is(Flow::PORTS));
            }
        }
    }
}

#[test]
fn frame_that_ends_early_keeps_what_was_read() {
    let v4 = ethernet(&[0x8100, 0x0800], &ipv4(protocol::UDP, 2, 0, &ports()));
    let chain = [extension(protocol::UDP, 0, 8), ports()].concat();
    let v6 = ethernet(&[0x86dd], &ipv6(protocol::DESTINATION_OPTIONS, 64, &chain));
    // Where the header with the addresses ends.
    for (frame, known_from) in [(v4, 14 + 4 + 20), (v6, 14 + 40)] {
        let whole = egress(&frame).0;
        for length in 0..frame.len() {
            let (flow, reason) = egress(&frame[..length]);
            assert_eq!(reason, Some(Reason::Truncated), "{length} bytes");
            assert_eq!(flow.is_ip(), length >= known_from, "{length} bytes");
            if flow.is_ip() {
                assert_eq!((flow.far, flow.near), (whole.far, whole.near));
                assert!(!flow.is(Flow::PORTS));
            }
        }
    }
}

#[test]
fn header_that_contradicts_itself_is_malformed() {
    let mut version = ipv4(protocol::UDP, 0, 0, &ports());
    version[0] = 0x65;
    let mut length = ipv4(protocol::UDP, 0, 0, &ports());
    length[0] = 0x44;
    for packet in [version, length] {
        let (flow, reason) = egress(&ethernet(&[0x0800], &packet));
        assert_eq!(reason, Some(Reason::Malformed));
        assert!(!flow.is_ip());
    }
    let v4_as_v6 = ethernet(&[0x86dd], &ipv4(protocol::UDP, 5, 0, &ports()));
    assert_eq!(egress(&v4_as_v6).1, Some(Reason::Malformed));
}

/// Bytes of chance, often with the start of a real frame.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        Just(Vec::new()),
        Just(ethernet(&[0x0800], &[0x45])),
        Just(ethernet(&[0x8100, 0x88a8, 0x86dd], &[0x60])),
        Just(ethernet(&[0x86dd], &ipv6(protocol::HOP_BY_HOP, 255, &[]))),
        Just(ipv6(protocol::ROUTING, 255, &[])),
    ];
    let rest = proptest::collection::vec(any::<u8>(), 0..128);
    (start, rest).prop_map(|(start, rest)| [start, rest].concat())
}

fn link() -> impl Strategy<Value = LinkLayer> {
    prop_oneof![Just(LinkLayer::Ethernet), Just(LinkLayer::None)]
}

proptest! {
    #[test]
    fn any_bytes_give_a_flow_that_holds_together(frame in bytes(), link in link()) {
        let (flow, reason) = read(&frame, link);
        if !flow.is_ip() {
            prop_assert_eq!(flow.flags, 0);
            prop_assert!(reason.is_some());
        }
        prop_assert!(!flow.is(Flow::IPV4 | Flow::IPV6));
        if flow.is(Flow::PORTS) {
            prop_assert_eq!(reason, None);
        }
        prop_assert!(flow.protocol <= Flow::UNKNOWN_PROTOCOL);
        prop_assert!(flow.far_port <= 0xffff && flow.near_port <= 0xffff);
    }

    #[test]
    fn directions_swap_the_ends_and_nothing_else(frame in bytes(), link in link()) {
        let (flow, reason) = read(&frame, link);
        let swapped = Flow {
            far: flow.near,
            near: flow.far,
            far_port: flow.near_port,
            near_port: flow.far_port,
            ..flow
        };
        let ingress = parse(&frame.as_slice(), link, Direction::Ingress);
        prop_assert_eq!(ingress, (swapped, reason));
    }

    #[test]
    fn bytes_behind_the_headers_change_nothing(
        frame in bytes(),
        more in proptest::collection::vec(any::<u8>(), 0..64),
        link in link(),
    ) {
        let (flow, reason) = read(&frame, link);
        if reason != Some(Reason::Truncated) {
            let longer = [frame, more].concat();
            prop_assert_eq!(read(&longer, link), (flow, reason));
        }
    }
}
