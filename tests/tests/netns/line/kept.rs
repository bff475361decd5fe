//! What frames, streams and the interface keep beside the delay.

use std::{net::UdpSocket, time::Instant};

use fault_tests::{
    Family, Lab, Side, foreign::Counting, kernel::engines, lab::ends, line::Line, udp,
};
use nix::sys::socket::{setsockopt, sockopt};

use super::{EARLY, MILLISECOND, carry, one_way};

#[test]
fn tcp_is_not_held_back_by_what_is_held() {
    const LEN: u64 = 4_000_000;
    for engine in engines() {
        for sender in Side::ALL {
            let lab = Lab::new();
            let start = Instant::now();
            carry(&lab, sender, Family::V4, LEN);
            let plain = start.elapsed();
            let way = sender.direction();
            let line = format!("latency 10ms --iface eth0 --engine {engine} --direction {way}");
            let line = Line::start(&lab.near, &line);
            let start = Instant::now();
            carry(&lab, sender, Family::V4, LEN);
            let held = start.elapsed();
            assert_eq!(line.end()[0].dropped, 0);
            // Held frames that counted as unsent would leave TCP a few KB for each of the
            // 10 ms: hundreds of them.
            assert!(
                held < 10 * plain + 2_000 * MILLISECOND,
                "{engine} {way}: {held:?} {plain:?}"
            );
        }
    }
}

#[test]
fn addresses_are_resolved_through_the_line() {
    for engine in engines() {
        for family in Family::ALL {
            let lab = Lab::resolving();
            let line = format!("latency 20ms --iface eth0 --engine {engine} --direction both");
            let line = Line::start(&lab.near, &line);
            let spans = one_way(&lab, family, Side::Near, 1);
            assert!(spans[0] + EARLY >= 20 * MILLISECOND, "{spans:?}");
            // The question, its answer, and the datagram.
            let held: u64 = line.end().iter().map(|said| said.held).sum();
            assert!(held >= 3, "{engine} {family:?}: {held}");
        }
    }
}

#[test]
fn mark_comes_through_fq_and_is_lost_in_a_tap() {
    const MARK: u32 = 0x1234;
    for engine in engines() {
        let lab = Lab::new();
        let seen = Counting::marked(&lab, Side::Near, MARK.cast_signed());
        let line = format!("latency 5ms --iface eth0 --engine {engine}");
        let line = Line::start(&lab.near, &line);
        let (from, to) = ends(Family::V4, Side::Near);
        let sending = lab.near.run(|| UdpSocket::bind(from)).expect("a socket");
        setsockopt(&sending, sockopt::Mark, &MARK).expect("a mark");
        for _ in 0..100 {
            sending.send_to(b"marked", to).expect("to send");
        }
        assert_eq!(line.end()[0].sent, 100);
        assert_eq!(seen.frames(), if *engine == "fq" { 100 } else { 0 });
    }
}

#[test]
fn interface_stays_as_it_is() {
    for engine in engines().iter().chain(&["auto"]) {
        let lab = Lab::new();
        let look = || {
            let features = lab.near.command("ethtool").args(["-k", "eth0"]).output();
            let qdiscs = lab.near.tc("qdisc show dev eth0 root");
            let link = lab.near.ip_json("-details link show dev eth0");
            (features.expect("ethtool runs").stdout, qdiscs, link)
        };
        lab.near
            .tc("qdisc add dev eth0 root handle 7: pfifo limit 77");
        let before = look();
        let line = Line::start(
            &lab.near,
            &format!("latency 1ms --iface eth0 --engine {engine} --direction both"),
        );
        assert_eq!(udp::flow(&lab, Family::V4, Side::Far, 1).refused, 0);
        assert_eq!(look(), before);
        line.end();
        assert_eq!(look(), before);
    }
}
