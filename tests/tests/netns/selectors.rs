//! Which packets a fault takes.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

use fault_tests::{
    Family, Faultctl, Lab, Side,
    echo::ping,
    kernel::hooks,
    lab::{FROM_PORT, TO_PORT},
    tcp, udp,
};

const COUNT: u64 = 100;

/// Datagrams between two addresses of the lab, sent by a side.
struct Packets {
    near: SocketAddr,
    far: SocketAddr,
}

impl Packets {
    fn new(near: IpAddr, far: IpAddr) -> Self {
        Self {
            near: SocketAddr::new(near, FROM_PORT),
            far: SocketAddr::new(far, TO_PORT),
        }
    }

    fn ports(near: (IpAddr, u16), far: (IpAddr, u16)) -> Self {
        Self {
            near: near.into(),
            far: far.into(),
        }
    }

    /// How many are lost on the way.
    fn lost(&self, lab: &Lab, sender: Side) -> u64 {
        let (from, to) = match sender {
            Side::Near => (self.near, self.far),
            Side::Far => (self.far, self.near),
        };
        udp::between(lab, sender, from, to, COUNT).lost()
    }
}

/// Partitions by `selectors`, both directions, and says which of `packets` were lost;
/// all or none of each, and the counters agree.
#[track_caller]
fn partitioned<const N: usize>(lab: &Lab, selectors: &str, packets: &[Packets; N]) -> [bool; N] {
    let mut results = [None; N];
    for hook in hooks() {
        let faultctl = Faultctl::start(
            &lab.near,
            &format!("partition --iface eth0 --attach {hook} {selectors}"),
        );
        let lost = Side::ALL.map(|sender| {
            packets
                .iter()
                .zip(&mut results)
                .map(|(packets, result)| {
                    let lost = packets.lost(lab, sender);
                    assert!(lost == 0 || lost == COUNT, "{lost} of {COUNT}: {selectors}");
                    let all = *result.get_or_insert(lost == COUNT);
                    assert_eq!(all, lost == COUNT, "{sender:?} {hook}: {selectors}");
                    lost
                })
                .sum::<u64>()
        });
        let ended = faultctl.end();
        let dropped = Side::ALL.map(|sender| ended.count(sender.direction(), "dropped"));
        assert_eq!(dropped, lost, "{hook}: {selectors}");
    }
    results.map(|result| result.expect("it was asked"))
}

#[test]
fn partition_from_one_host_leaves_the_other_alone() {
    let lab = Lab::new();
    for family in Family::ALL {
        let [near, far, other] = [family.near(), family.far(), family.far_other()];
        assert_eq!(
            partitioned(
                &lab,
                &format!("--to {other}"),
                &[Packets::new(near, far), Packets::new(near, other)]
            ),
            [false, true]
        );
    }
}

#[test]
fn prefix_takes_its_hosts_but_for_the_exceptions() {
    let lab = Lab::new();
    for (family, prefix) in [(Family::V4, "10.77.0.0/30"), (Family::V6, "fd77::/126")] {
        let [near, far, other] = [family.near(), family.far(), family.far_other()];
        let both = [Packets::new(near, far), Packets::new(near, other)];
        let taken = |selectors: &str| partitioned(&lab, selectors, &both);
        assert_eq!(taken(&format!("--to {prefix}")), [true, true]);
        let except = format!("--to {prefix} --except {far}");
        assert_eq!(taken(&except), [false, true]);
        // An exception wins over a more specific `--to` too.
        let except = format!("--to {other} --to {far} --except {prefix}");
        assert_eq!(
            taken(&format!("{except} --to 192.0.2.0/24")),
            [false, false]
        );
        // Half a prefix taken out: the longest match decides.
        let half = format!("--to {prefix} --except {far}/{}", family.host_len() - 1);
        assert_eq!(taken(&half), [false, false]);
        assert_eq!(taken(&format!("--except {other}")), [true, false]);
    }
}

#[test]
fn from_names_the_near_end() {
    let lab = Lab::new();
    for family in Family::ALL {
        let [near, other, far] = [family.near(), family.near_other(), family.far()];
        let both = [Packets::new(near, far), Packets::new(other, far)];
        assert_eq!(
            partitioned(&lab, &format!("--from {other}"), &both),
            [false, true]
        );
        // The four addresses from 0 on.
        let network = ["10.77.0.0/30", "fd77::/126"][usize::from(near.is_ipv6())];
        assert_eq!(
            partitioned(&lab, &format!("--from {network}"), &both),
            [true, false]
        );
    }
}

#[test]
fn ports_are_of_the_end_that_is_named() {
    let lab = Lab::new();
    for family in Family::ALL {
        let [near, far] = [family.near(), family.far()];
        let all = [
            Packets::ports((near, 1_000), (far, 80)),
            Packets::ports((near, 80), (far, 1_000)),
            Packets::ports((near, 1_000), (far, 8_100)),
            Packets::ports((near, 1_000), (far, 8_101)),
        ];
        for (selectors, expected) in [
            ("--port 80", [true, false, false, false]),
            ("--local-port 80", [false, true, false, false]),
            ("--port 80,8000-8100", [true, false, true, false]),
            (
                "--port 1-65535 --local-port 80",
                [false, true, false, false],
            ),
            ("--port 80 --proto udp", [true, false, false, false]),
            ("--port 80 --proto tcp", [false, false, false, false]),
        ] {
            assert_eq!(partitioned(&lab, selectors, &all), expected, "{selectors}");
        }
    }
}

#[test]
fn protocols_are_told_apart() {
    let lab = Lab::new();
    for family in Family::ALL {
        for (protocols, udp_lost, echo_lost) in [
            ("udp", true, false),
            ("icmp", false, true),
            ("tcp,sctp", false, false),
            ("17", true, false),
            ("udp --proto icmp", true, true),
        ] {
            let faultctl = Faultctl::start(
                &lab.near,
                &format!("partition --iface eth0 --proto {protocols}"),
            );
            let datagrams = udp::flow(&lab, family, Side::Near, COUNT);
            let echoes = ping(&lab.near, family.far(), 100);
            faultctl.end();
            assert_eq!(datagrams.lost() == COUNT, udp_lost, "{protocols}");
            assert_eq!(echoes.lost() == 100, echo_lost, "{protocols}");
            assert!(
                [datagrams.lost(), echoes.lost()]
                    .iter()
                    .all(|lost| lost % 100 == 0)
            );
        }
    }
}

#[test]
fn tcp_rule_leaves_udp_alone() {
    let lab = Lab::new();
    let line = format!("loss 5 --iface eth0 --proto tcp --port {TO_PORT}");
    let faultctl = Faultctl::start(&lab.near, &line);
    let datagrams = udp::flow(&lab, Family::V6, Side::Near, 1_000);
    tcp::retransmits(&lab, Family::V6, Side::Near, 1_000_000);
    let ended = faultctl.end();
    assert_eq!(datagrams.lost(), 0);
    assert!(ended.count("egress", "dropped") > 0);
}

#[test]
fn list_file_takes_addresses_networks_and_comments() {
    let lab = Lab::new();
    let file = std::env::temp_dir().join(format!("fault-tests-{}.list", std::process::id()));
    fs::write(
        &file,
        "# both families\n\n10.77.0.3 # one host\nfd77::3/128\n192.0.2.0/24\n",
    )
    .expect("a temporary file");
    let taken = Family::ALL.map(|family| {
        let [near, far, other] = [family.near(), family.far(), family.far_other()];
        partitioned(
            &lab,
            &format!("--to @{}", file.display()),
            &[Packets::new(near, far), Packets::new(near, other)],
        )
    });
    fs::remove_file(&file).expect("it is ours");
    assert_eq!(taken, [[false, true]; 2]);
}

#[test]
fn one_command_takes_several_interfaces() {
    let lab = Lab::new();
    let faultctl = Faultctl::start(&lab.near, "partition --iface eth0 --iface lo");
    let wire = udp::socket(&lab.far, "10.77.0.2:50000".parse().expect("an address"));
    let loopback = udp::socket(&lab.near, "127.0.0.1:50000".parse().expect("an address"));
    lab.near.run(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
        for to in ["10.77.0.2:50000", "127.0.0.1:50000"] {
            socket.send_to(b"x", to).expect("to send");
        }
    });
    let ended = faultctl.end();
    assert_eq!(udp::drain(&wire).len() + udp::drain(&loopback).len(), 0);
    let interfaces: Vec<_> = ended.stopped()["rules"]
        .as_array()
        .expect("rules")
        .iter()
        .filter(|rule| rule["dropped"].as_u64() > Some(0) && rule["direction"] == "egress")
        .map(|rule| rule["iface"].clone())
        .collect();
    assert_eq!(interfaces, ["eth0", "lo"]);
}
