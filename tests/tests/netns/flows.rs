//! A share of flows.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use fault_tests::{
    Family, Faultctl, Lab, Namespace, Side, binomial::assert_rate, kernel::hooks, udp,
};

use socket2::{Domain, Socket, Type};

const FLOWS: u16 = 150;
const SHARE: f64 = 0.3;

/// Which of many flows are lost, each as a whole, whoever sends.
#[track_caller]
fn lost(lab: &Lab, family: Family) -> Vec<bool> {
    (0..FLOWS)
        .map(|n| {
            let near = (family.near(), 20_000 + n).into();
            let far = (family.far(), 7_000).into();
            let lost = [
                udp::between(lab, Side::Near, near, far, 5).lost(),
                udp::between(lab, Side::Far, far, near, 5).lost(),
            ];
            assert!(lost == [0; 2] || lost == [5; 2], "flow {n}: {lost:?} of 5");
            lost == [5; 2]
        })
        .collect()
}

#[test]
fn flow_is_lost_as_a_whole_or_not_at_all_and_the_seed_says_which() {
    let lab = Lab::new();
    let mut before = None;
    for hook in hooks() {
        let line = format!("partition --iface eth0 --attach {hook} --flows 30% --seed 11");
        let faultctl = Faultctl::start(&lab.near, &line);
        let lost = Family::ALL.map(|family| lost(&lab, family));
        let ended = faultctl.end();
        let hits = lost.iter().flatten().filter(|lost| **lost).count() as u64;
        assert_rate(hits, 2 * u64::from(FLOWS), SHARE);
        // Other flows are not the rule's.
        for direction in ["egress", "ingress"] {
            let counts = ["matched", "dropped"].map(|counter| ended.count(direction, counter));
            assert_eq!(counts, [5 * hits; 2]);
        }
        assert!(lost[0] != lost[1]);
        assert_eq!(*before.get_or_insert_with(|| lost.clone()), lost);
    }
    let _other = Faultctl::start(&lab.near, "partition --iface eth0 --flows 30% --seed 12");
    assert_ne!(
        before.map(|before| before[0].clone()),
        Some(lost(&lab, Family::V4))
    );
}

#[test]
fn retransmissions_share_the_fate_of_their_flow() {
    const CONNECTIONS: u64 = 400;
    let lab = Lab::new();
    let _fault = Faultctl::start(&lab.near, "loss 100 --iface eth0 --flows 50% --seed 4");
    let address = SocketAddr::new(Family::V6.far(), 7_000);
    let listener = lab
        .far
        .run(|| Socket::new(Domain::IPV6, Type::STREAM, None))
        .expect("a socket");
    listener.bind(&address.into()).expect("a free port");
    // The standard library's would hold 128 that nobody accepts.
    listener.listen(1_024).expect("to listen");
    // Time for SYN to be sent a second time, after a second.
    let patience = Duration::from_millis(1_500);
    let connect = || TcpStream::connect_timeout(&address, patience).is_ok();
    let connected = lab.near.run(|| {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(connect)).collect();
            let results = threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"));
            results.filter(|connected| *connected).count() as u64
        })
    });
    // Were each SYN lost by its own chance, three quarters would get through.
    assert_rate(connected, CONNECTIONS, 0.5);
}

#[test]
fn flow_that_crosses_two_interfaces_is_hit_on_both_or_on_none() {
    let lab = Lab::new();
    let third = Namespace::new();
    lab.near.ip(&format!(
        "link add eth2 type veth peer name eth3 netns {}\n\
         addr add 10.79.0.1/24 dev eth2\nlink set eth2 up",
        third.path().display()
    ));
    third.ip("addr add 10.79.0.2/24 dev eth3\nlink set eth3 up\nroute add default via 10.79.0.1");
    lab.far.ip("route add 10.79.0.0/24 via 10.77.0.1");
    lab.near.set("ipv4/ip_forward", "1");

    let line = "partition --iface eth0 --iface eth2 --flows 50% --seed 5";
    let _fault = Faultctl::start(&lab.near, line);
    let to = (Family::V4.far(), 7_000).into();
    let receiving = udp::socket(&lab.far, to);
    for n in 0..300 {
        let from = (Ipv4Addr::new(10, 79, 0, 2), 20_000 + n).into();
        udp::send(&third, from, to, 1);
    }
    // Were each interface to draw anew, a quarter would arrive.
    assert_rate(udp::drain(&receiving).len() as u64, 300, 0.5);
}
