//! The lab by itself: without a fault every packet arrives, and none is there that no
//! test sent.

use fault_tests::{
    Family, Lab, Namespace, Side,
    echo::ping,
    foreign::Counting,
    frame::{self, Fragment, ethernet, ip},
    packet, programs, tcp,
    tun::Tun,
    udp,
};

#[test]
fn every_datagram_arrives_once() {
    let lab = Lab::new();
    for family in Family::ALL {
        for sender in Side::ALL {
            let outcome = udp::flow(&lab, family, sender, 10_000);
            assert_eq!(outcome.refused, 0);
            assert_eq!(outcome.arrived, (0..10_000).collect::<Vec<_>>());
        }
    }
}

#[test]
fn every_echo_is_answered() {
    let lab = Lab::new();
    for family in Family::ALL {
        let outcome = ping(&lab.near, family.far(), 1_000);
        assert_eq!((outcome.received(), outcome.duplicates()), (1_000, 0));
    }
}

#[test]
fn nothing_is_sent_but_by_the_test() {
    let lab = Lab::new();
    let seen = Side::ALL.map(|side| Counting::on(&lab, side));
    for family in Family::ALL {
        udp::flow(&lab, family, Side::Near, 1_000);
        udp::flow(&lab, family, Side::Far, 100);
    }
    assert_eq!(seen.each_ref().map(Counting::frames), [2_000, 200]);
    assert_eq!(lab.device_packets(Side::Near), (200, 2_000));
}

#[test]
fn resolving_lab_asks_for_its_neighbours() {
    let lab = Lab::resolving();
    for family in Family::ALL {
        assert_eq!(ping(&lab.near, family.far(), 1).received(), 1);
    }
    let (_, sent) = lab.device_packets(Side::Near);
    assert!(sent >= 4, "two echo requests, ARP and ND: {sent}");
    assert!(lab.near.proc("arp").contains("02:00:00:00:00:02"));
}

#[test]
fn frames_by_hand_arrive_with_their_tags() {
    let lab = Lab::new();
    for (tags, seen_as) in [
        (&[][..], frame::IPV4),
        (&[(frame::VLAN, 5)], frame::IPV4),
        (&[(frame::SERVICE_VLAN, 7), (frame::VLAN, 5)], frame::VLAN),
    ] {
        for sender in Side::ALL {
            let outcome = packet::flow(&lab, sender, seen_as, 100, |number| {
                let packet = ip(
                    Family::V4.near(),
                    Family::V4.far(),
                    frame::UDP,
                    Fragment::default(),
                    &frame::udp(1, 2, number),
                );
                ethernet(sender, tags, frame::IPV4, &packet)
            });
            assert_eq!(outcome.arrived, (0..100).collect::<Vec<_>>(), "{tags:?}");
        }
    }
}

#[test]
fn tcp_sends_next_to_nothing_again() {
    let lab = Lab::new();
    for family in Family::ALL {
        let again = tcp::retransmits(&lab, family, Side::Near, 3_000_000);
        assert!(again < 40, "{again}");
    }
}

#[test]
fn tun_carries_packets_both_ways() {
    let namespace = Namespace::new();
    let mut tun = Tun::new(&namespace, "tun0");
    namespace.ip("link set tun0 up\naddr add 10.78.0.1/24 dev tun0");
    let (near, far) = (
        "10.78.0.1:40000".parse().expect("an address"),
        "10.78.0.2:50000".parse().expect("an address"),
    );
    udp::send(&namespace, near, far, 100);
    let sent = tun
        .drain()
        .into_iter()
        .filter(|packet| packet[0] == 0x45)
        .count();
    assert_eq!(sent, 100);

    let socket = udp::socket(&namespace, near);
    tun.deliver(&ip(
        far.ip(),
        near.ip(),
        frame::UDP,
        Fragment::default(),
        &frame::udp(far.port(), near.port(), b"hello"),
    ));
    assert_eq!(udp::drain(&socket), [b"hello"]);
}

#[test]
fn fresh_pair_has_no_program_of_faultctl() {
    let lab = Lab::new();
    assert!(programs::of(&lab.near).is_empty());
    let hooks = programs::hooks(&lab);
    assert!(hooks.starts_with("qdisc noqueue 0: root"), "{hooks}");
    assert_eq!(hooks.lines().count(), 1, "{hooks}");
}
