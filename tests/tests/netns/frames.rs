//! Frames that are not plain UDP over IP over Ethernet.

use std::net::IpAddr;

use fault_tests::{
    Family, Faultctl, Lab, Namespace, Side,
    frame::{
        self, DESTINATION_OPTIONS, FRAGMENT, Fragment, HOP_BY_HOP, UDP, ethernet, fragment_header,
        ip, options_header,
    },
    kernel::ways,
    packet,
    tun::Tun,
    udp,
};

const PORT: u16 = 80;
const COUNT: u64 = 50;

/// A rule that takes UDP to the far end's port 80, and what it does to frames.
#[track_caller]
fn check(
    lab: &Lab,
    ether_type: u16,
    expected: u64,
    frame: impl Fn(Side, &[u8; 8]) -> Vec<u8> + Sync,
) {
    for way in ways() {
        let faultctl = Faultctl::start(
            &lab.near,
            &format!("partition --iface eth0 --proto udp --port {PORT} {way}"),
        );
        let lost = Side::ALL.map(|sender| {
            packet::flow(lab, sender, ether_type, COUNT, |number| {
                frame(sender, number)
            })
            .lost()
        });
        let ended = faultctl.end();
        assert_eq!(lost, [expected; 2], "{way}");
        let dropped = Side::ALL.map(|sender| ended.count(sender.direction(), "dropped"));
        assert_eq!(dropped, lost, "{way}");
    }
}

fn ends(family: Family, sender: Side) -> (IpAddr, IpAddr) {
    match sender {
        Side::Near => (family.near(), family.far()),
        Side::Far => (family.far(), family.near()),
    }
}

/// UDP between the far end's `port` and another one.
fn datagram(sender: Side, port: u16, number: &[u8]) -> Vec<u8> {
    match sender {
        Side::Near => frame::udp(1_000, port, number),
        Side::Far => frame::udp(port, 1_000, number),
    }
}

fn ether_type(family: Family) -> u16 {
    match family {
        Family::V4 => frame::IPV4,
        Family::V6 => frame::IPV6,
    }
}

#[test]
fn rule_holds_behind_vlan_tags() {
    let lab = Lab::new();
    for family in Family::ALL {
        let kind = ether_type(family);
        for (tags, seen_as) in [
            (&[][..], kind),
            (&[(frame::VLAN, 5)], kind),
            (&[(frame::SERVICE_VLAN, 7), (frame::VLAN, 5)], frame::VLAN),
            (&[(frame::VLAN, 7), (frame::VLAN, 5)], frame::VLAN),
        ] {
            for (port, lost) in [(PORT, COUNT), (PORT + 1, 0)] {
                check(&lab, seen_as, lost, |sender, number| {
                    let (from, to) = ends(family, sender);
                    let datagram = datagram(sender, port, number);
                    let packet = ip(from, to, UDP, Fragment::default(), &datagram);
                    ethernet(sender, tags, kind, &packet)
                });
            }
        }
    }
}

#[test]
fn rule_holds_behind_extension_headers() {
    let lab = Lab::new();
    for (port, lost) in [(PORT, COUNT), (PORT + 1, 0)] {
        check(&lab, frame::IPV6, lost, |sender, number| {
            let (from, to) = ends(Family::V6, sender);
            let payload = [
                &options_header(DESTINATION_OPTIONS)[..],
                &options_header(UDP),
                &datagram(sender, port, number),
            ]
            .concat();
            let packet = ip(from, to, HOP_BY_HOP, Fragment::default(), &payload);
            ethernet(sender, &[], frame::IPV6, &packet)
        });
    }
}

#[test]
fn later_fragment_does_not_match_port_rule() {
    let lab = Lab::new();
    for family in Family::ALL {
        for (fragment, lost) in [
            // The first one has the ports.
            (
                Fragment {
                    offset: 0,
                    more: true,
                },
                COUNT,
            ),
            // What lies where ports would be are none.
            (
                Fragment {
                    offset: 1,
                    more: true,
                },
                0,
            ),
            (
                Fragment {
                    offset: 185,
                    more: false,
                },
                0,
            ),
        ] {
            check(&lab, ether_type(family), lost, |sender, number| {
                let (from, to) = ends(family, sender);
                let datagram = datagram(sender, PORT, number);
                let packet = match family {
                    Family::V4 => ip(from, to, UDP, fragment, &datagram),
                    Family::V6 => {
                        let payload = [&fragment_header(UDP, fragment)[..], &datagram].concat();
                        ip(from, to, FRAGMENT, Fragment::default(), &payload)
                    }
                };
                ethernet(sender, &[], ether_type(family), &packet)
            });
        }
    }
}

#[test]
fn later_fragment_matches_address_rule() {
    let lab = Lab::new();
    for family in Family::ALL {
        let far = family.far();
        let faultctl = Faultctl::start(&lab.near, &format!("partition --iface eth0 --to {far}"));
        let fragment = Fragment {
            offset: 185,
            more: false,
        };
        let outcome = packet::flow(&lab, Side::Near, ether_type(family), COUNT, |number| {
            let packet = match family {
                Family::V4 => ip(family.near(), far, UDP, fragment, number),
                Family::V6 => {
                    let payload = [&fragment_header(UDP, fragment)[..], number].concat();
                    ip(family.near(), far, FRAGMENT, Fragment::default(), &payload)
                }
            };
            ethernet(Side::Near, &[], ether_type(family), &packet)
        });
        faultctl.end();
        assert_eq!(outcome.lost(), COUNT);
    }
}

#[test]
fn unknown_frames_pass_a_rule_with_selectors_and_not_one_without() {
    /// For local experiments, IEEE 802.
    const EXPERIMENT: u16 = 0x88b5;
    let lab = Lab::new();
    for (selector, lost) in [
        ("--to 0.0.0.0/0 --to ::/0", 0),
        ("--proto udp", 0),
        ("", COUNT),
    ] {
        let faultctl = Faultctl::start(&lab.near, &format!("partition --iface eth0 {selector}"));
        let outcomes = Side::ALL.map(|sender| {
            packet::flow(&lab, sender, EXPERIMENT, COUNT, |number| {
                ethernet(sender, &[], EXPERIMENT, &[&[0; 46][..], number].concat())
            })
            .lost()
        });
        faultctl.end();
        assert_eq!(outcomes, [lost; 2], "{selector}");
    }
}

#[test]
fn interface_without_ethernet_header_has_the_same_rules() {
    for way in ways() {
        let namespace = Namespace::new();
        let mut tun = Tun::new(&namespace, "tun0");
        namespace.ip(
            "link set tun0 up\naddr add 10.77.0.1/24 dev tun0\naddr add fd77::1/64 dev tun0 nodad",
        );
        for family in Family::ALL {
            let [near, far] = [family.near(), family.far()];
            for (port, lost) in [(PORT, COUNT), (PORT + 1, 0)] {
                let faultctl = Faultctl::start(
                    &namespace,
                    &format!("partition --iface tun0 --to {far} --port {PORT} {way}"),
                );
                tun.drain();
                let ends = ((near, 1_000).into(), (far, port).into());
                let outcome = udp::send(&namespace, ends.0, ends.1, COUNT);
                assert_eq!(outcome.refused, 0);
                let version = if near.is_ipv4() { 4 } else { 6 };
                let sent = tun
                    .drain()
                    .iter()
                    .filter(|packet| packet[0] >> 4 == version && is_udp(packet))
                    .count();
                assert_eq!(sent as u64, COUNT - lost);

                let (receiving, ready) = (udp::socket(&namespace, ends.0), COUNT - lost);
                for number in 0..COUNT {
                    let packet = ip(
                        far,
                        near,
                        UDP,
                        Fragment::default(),
                        &checked(far, near, frame::udp(port, 1_000, &number.to_be_bytes())),
                    );
                    tun.deliver(&packet);
                }
                let ended = faultctl.end();
                assert_eq!(udp::drain(&receiving).len() as u64, ready);
                for direction in ["egress", "ingress"] {
                    assert_eq!(ended.count(direction, "dropped"), lost);
                }
            }
        }
    }
}

fn is_udp(packet: &[u8]) -> bool {
    match packet[0] >> 4 {
        4 => packet[9] == UDP,
        _ => packet[6] == UDP,
    }
}

/// UDP over IPv6 needs its checksum: RFC 8200, 8.1.
fn checked(from: IpAddr, to: IpAddr, mut datagram: Vec<u8>) -> Vec<u8> {
    if let (IpAddr::V6(from), IpAddr::V6(to)) = (from, to) {
        let len = u16::try_from(datagram.len()).expect("a small datagram");
        let pseudo = [
            &from.octets()[..],
            &to.octets(),
            &[0, 0],
            &len.to_be_bytes(),
            &[0, 0, 0, UDP],
            &datagram,
        ]
        .concat();
        let sum = frame::checksum(&pseudo).to_be_bytes();
        datagram[6..8].copy_from_slice(&sum);
    }
    datagram
}
