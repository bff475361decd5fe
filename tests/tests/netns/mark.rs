//! `mark`: the skb mark, and the DSCP with the checksum that goes with it.

use std::net::{SocketAddr, UdpSocket};

use fault_tests::{
    Family, Faultctl, Lab, Side,
    foreign::Counting,
    kernel::hooks,
    lab::{TO_PORT, ends},
    udp,
    wait::SOON,
};
use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt},
};
use std::{io::IoSliceMut, os::fd::AsRawFd as _};

#[test]
fn routing_by_fwmark_sees_the_ingress_mark() {
    for hook in hooks() {
        let lab = Lab::new();
        // Marked packets are for nobody here; all others are for us.
        lab.near.ip(
            "rule del pref 0\nrule add pref 10 fwmark 0x10/0xf0 table 99\n\
             rule add pref 20 table local\n\
             route add blackhole 0.0.0.0/0 table 99",
        );
        for (mark, lost) in [
            ("0x10", 100),
            ("0x10/0xf0", 100),
            ("0x0f", 0),
            ("0x0f/0x0f", 0),
        ] {
            let faultctl = Faultctl::start(
                &lab.near,
                &format!("mark {mark} --iface eth0 --direction ingress --attach {hook}"),
            );
            let outcome = udp::flow(&lab, Family::V4, Side::Far, 100);
            let ended = faultctl.end();
            assert_eq!(outcome.lost(), lost, "{mark}");
            assert_eq!(ended.count("ingress", "marked"), 100);
            assert_eq!(ended.count("ingress", "dropped"), 0);
        }
    }
}

#[test]
fn filter_behind_sees_the_egress_mark() {
    let lab = Lab::new();
    let seen = Counting::marked(&lab, Side::Near, 0x10);
    let faultctl = Faultctl::start(&lab.near, "mark 0x10 --iface eth0");
    let outcome = udp::flow(&lab, Family::V4, Side::Near, 100);
    faultctl.end();
    assert_eq!((outcome.lost(), seen.frames()), (0, 100));
}

#[test]
fn receiver_sees_the_dscp_and_nothing_else_changed() {
    for hook in hooks() {
        let lab = Lab::new();
        for (dscp, number) in [("ef", 46), ("af11", 10), ("cs1", 8), ("63", 63), ("0", 0)] {
            for family in Family::ALL {
                for sender in Side::ALL {
                    let direction = sender.direction();
                    let faultctl = Faultctl::start(
                        &lab.near,
                        &format!(
                            "mark --dscp {dscp} --iface eth0 --direction {direction} --attach {hook}"
                        ),
                    );
                    // ECT(0) is to stay: RFC 3168.
                    let classes = traffic_classes(&lab, family, sender, 0b10);
                    let ended = faultctl.end();
                    assert_eq!(classes, [number << 2 | 0b10; 20], "{dscp} {direction}");
                    assert_eq!(ended.count(direction, "marked"), 20);
                }
            }
        }
        for namespace in [&lab.near, &lab.far] {
            assert_eq!(namespace.snmp("Ip", "InHdrErrors"), 0);
            assert_eq!(namespace.snmp("Udp", "InCsumErrors"), 0);
            assert_eq!(namespace.snmp6("Udp6InCsumErrors"), 0);
        }
    }
}

/// Traffic classes (TOS) that twenty datagrams arrive with.
fn traffic_classes(lab: &Lab, family: Family, sender: Side, class: u8) -> Vec<u8> {
    let (from, to) = ends(family, sender);
    let receiver = match sender {
        Side::Near => &lab.far,
        Side::Far => &lab.near,
    };
    let receiving = udp::socket(receiver, to);
    receiving.set_nonblocking(false).expect("blocking");
    receiving.set_read_timeout(Some(SOON)).expect("a timeout");
    lab.namespace(sender).run(|| {
        let socket = UdpSocket::bind(SocketAddr::new(from.ip(), 0)).expect("a socket");
        if from.is_ipv4() {
            setsockopt(&receiving, sockopt::IpRecvTos, &true).expect("to hear the TOS");
            setsockopt(&socket, sockopt::Ipv4Tos, &class.into()).expect("to set the TOS");
        } else {
            setsockopt(&receiving, sockopt::Ipv6RecvTClass, &true).expect("to hear the class");
            setsockopt(&socket, sockopt::Ipv6TClass, &class.into()).expect("to set the class");
        }
        for _ in 0..20 {
            socket.send_to(b"x", (to.ip(), TO_PORT)).expect("to send");
        }
    });
    (0..20)
        .map(|_| {
            let mut payload = [0; 16];
            let mut control = cmsg_space!(libc::c_int);
            let mut payload = [IoSliceMut::new(&mut payload)];
            let message = recvmsg::<SockaddrStorage>(
                receiving.as_raw_fd(),
                &mut payload,
                Some(&mut control),
                MsgFlags::empty(),
            )
            .expect("a datagram");
            message
                .cmsgs()
                .expect("control messages")
                .find_map(|control| match control {
                    ControlMessageOwned::Ipv4Tos(class) => Some(class),
                    ControlMessageOwned::Ipv6TClass(class) => u8::try_from(class).ok(),
                    _ => None,
                })
                .expect("a traffic class")
        })
        .collect()
}
