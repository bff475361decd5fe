//! The delay line, by what applications see.

use std::{
    io::Read as _,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use fault_tests::{
    Family, Faultctl, Lab, Namespace, Side,
    frame::{self, Fragment, ethernet, ip},
    kernel::{cases, engines, hooks},
    lab::{FAR_IFACE, ends},
    line::{Line, said},
    packet, tcp,
    tun::Tun,
    udp,
    wait::{SOON, until},
};
use nix::sys::signal::Signal;

mod kept;
mod several;
mod through;

const COUNT: u64 = 2_000;
const MILLISECOND: Duration = Duration::from_millis(1);
/// Two lines may each let go 25 us early.
pub const EARLY: Duration = Duration::from_micros(50);

/// What faultctl is told to attach by this hook.
fn by(hook: &str) -> &'static str {
    if hook == "clsact" {
        "--attach clsact"
    } else {
        ""
    }
}

pub fn receiver(lab: &Lab, sender: Side) -> &Namespace {
    match sender {
        Side::Near => &lab.far,
        Side::Far => &lab.near,
    }
}

/// How long a datagram takes from one side to the other, several times, sorted.
fn one_way(lab: &Lab, family: Family, sender: Side, times: usize) -> Vec<Duration> {
    let (from, to) = ends(family, sender);
    let bind = |namespace: &Namespace, address| {
        until("a socket", SOON, || {
            namespace.run(|| UdpSocket::bind(address)).ok()
        })
    };
    let (sending, receiving) = (
        bind(lab.namespace(sender), from),
        bind(receiver(lab, sender), to),
    );
    receiving.set_read_timeout(Some(SOON)).expect("a timeout");
    let mut spans: Vec<_> = (0..times)
        .map(|_| {
            let start = Instant::now();
            sending.send_to(b"held", to).expect("to send");
            receiving.recv(&mut [0; 8]).expect("it arrives");
            start.elapsed()
        })
        .collect();
    spans.sort_unstable();
    spans
}

/// Sends numbered datagrams and waits until so many have arrived, in their order of
/// arrival.
pub fn delayed(
    lab: &Lab,
    family: Family,
    sender: Side,
    count: u64,
    mut arrive: impl FnMut(u64) -> bool,
) -> Vec<u64> {
    let (from, to) = ends(family, sender);
    let receiving = udp::socket(receiver(lab, sender), to);
    udp::send(lab.namespace(sender), from, to, count);
    let mut arrived = Vec::new();
    until("datagrams arrive", SOON, || {
        for datagram in udp::drain(&receiving) {
            let number = datagram.try_into().expect("a numbered datagram");
            arrived.push(u64::from_be_bytes(number));
        }
        arrive(arrived.len() as u64).then_some(())
    });
    arrived
}

fn helpers(namespace: &Namespace) -> usize {
    namespace.proc("dev").matches("fc-").count()
}

/// A pair goes with its namespace, which the kernel takes apart in its own time.
#[track_caller]
fn gone(namespace: &Namespace) {
    until("helpers go", SOON, || {
        (helpers(namespace) == 0).then_some(())
    });
}

#[test]
fn datagrams_take_the_delay_in_their_direction_only() {
    for engine in engines() {
        for hook in hooks() {
            let lab = Lab::new();
            for sender in Side::ALL {
                for delay in [1, 100].map(|n| n * MILLISECOND) {
                    let (way, micros) = (sender.direction(), delay.as_micros());
                    let line = format!(
                        "latency {micros}us --iface eth0 --engine {engine} --direction {way}"
                    );
                    let line = Line::start(&lab.near, &format!("{line} {}", by(hook)));
                    assert_eq!(helpers(&lab.near), 1);
                    for family in Family::ALL {
                        let spans = one_way(&lab, family, sender, 9);
                        let what = format!("{hook} {way} {family:?} {delay:?}: {spans:?}");
                        assert!(spans[0] + EARLY >= delay, "{what}");
                        // Not twice, the quickest of them. A busy or emulated machine may need
                        // longer than a short delay to wake somebody up.
                        let much = delay.max(100 * MILLISECOND);
                        assert!(spans[0] < delay + much, "{what}");
                    }
                    let said = line.end();
                    assert_eq!((said[0].held, said[0].sent), (18, 18), "{said:?}");
                    gone(&lab.near);
                }
            }
        }
    }
}

#[test]
fn other_direction_is_not_delayed() {
    for engine in engines() {
        let lab = Lab::new();
        for sender in Side::ALL {
            let way = sender.direction();
            let line = format!("latency 10000ms --iface eth0 --engine {engine} --direction {way}");
            let _line = Line::start(&lab.near, &line);
            let other = Side::ALL.into_iter().find(|side| *side != sender);
            for family in Family::ALL {
                let spans = one_way(&lab, family, other.expect("there are two"), 9);
                assert!(spans[8] < Duration::from_secs(5), "{spans:?}");
            }
        }
    }
}

#[test]
fn bulk_data_arrives_unchanged_in_super_packets() {
    let len = cases(50_000) * 1000;
    for engine in engines() {
        for family in Family::ALL {
            for sender in Side::ALL {
                let lab = Lab::new();
                let line = Line::start(
                    &lab.near,
                    &format!("latency 10ms --iface eth0 --engine {engine} --direction both"),
                );
                carry(&lab, sender, family, len);
                let said = line.end();
                for said in &said {
                    assert_eq!((said.dropped, said.held), (0, said.sent), "{said:?}");
                }
                let data = said
                    .iter()
                    .find(|said| said.direction == sender.direction());
                let frames = data.expect("it was asked for").held;
                assert!(frames < len / 1500, "super-packets: {frames}");
            }
        }
    }
}

#[test]
fn bulk_data_arrives_unchanged_when_it_waits_comes_twice_and_out_of_order() {
    const WORDS: &str = "delay 2ms 1ms reorder 10% duplicate 5% limit 1000000";
    let len = cases(200_000) * 1000;
    for engine in engines() {
        for (sender, family) in [(Side::Near, Family::V4), (Side::Far, Family::V6)] {
            let lab = Lab::new();
            let mut args = vec!["netem", WORDS];
            let line = format!("--json --iface eth0 --engine {engine} --direction both");
            args.extend(line.split(' '));
            let faultctl = Faultctl::spawn(&mut fault_tests::faultctl::command(&lab.near, &args));
            carry(&lab, sender, family, len);
            let ended = faultctl.end();
            let way = sender.direction();
            assert!(ended.count(way, "duplicated") > 0, "{ended:?}");
            assert!(ended.count(way, "delayed") > 0, "{ended:?}");
            assert_eq!(ended.stopped()["lines"][0]["dropped"], 0);
            assert_eq!(ended.stopped()["lines"][1]["dropped"], 0);
        }
    }
}

/// Bytes that differ everywhere, from one side to the other, and no packet that came
/// with a wrong checksum.
#[track_caller]
pub fn carry(lab: &Lab, sender: Side, family: Family, len: u64) {
    let (_, to) = ends(family, sender);
    tcp::carry(lab.namespace(sender), receiver(lab, sender), to, len);
    for side in Side::ALL {
        assert_eq!(lab.namespace(side).snmp("Tcp", "InCsumErrors"), 0);
    }
}

#[test]
fn order_is_kept_where_the_delay_is_constant() {
    for engine in engines() {
        let lab = Lab::new();
        for sender in Side::ALL {
            let way = sender.direction();
            let line = format!("latency 10ms --iface eth0 --engine {engine} --direction {way}");
            let line = Line::start(&lab.near, &line);
            let arrived = delayed(&lab, Family::V6, sender, COUNT, |n| n == COUNT);
            let overtaken = arrived.windows(2).find(|pair| pair[0] > pair[1]);
            assert_eq!(overtaken, None, "{engine} {way}");
            assert_eq!(line.end()[0].sent, COUNT);
        }
    }
}

#[test]
fn what_has_no_room_is_counted_and_said_once() {
    for engine in engines() {
        for sender in Side::ALL {
            let lab = Lab::new();
            let way = sender.direction();
            let line = format!(
                "latency 1000ms --limit 100 --iface eth0 --engine {engine} --direction {way}"
            );
            let faultctl = Faultctl::start(&lab.near, &line);
            let (from, to) = ends(Family::V4, sender);
            let receiving = udp::socket(receiver(&lab, sender), to);
            udp::send(lab.namespace(sender), from, to, COUNT);
            let full =
                format!("so many packets wait on `eth0` {way} that others are lost; see `--limit`");
            assert_eq!(faultctl.event("note")["message"], *full);
            udp::send(lab.namespace(sender), from, to, COUNT);
            faultctl.event("stats");
            // What is held goes on at the end.
            let ended = faultctl.end();
            assert!(ended.events.iter().all(|event| event["event"] != "note"));
            let said = &said(&ended)[0];
            let arrived = udp::drain(&receiving).len() as u64;
            assert_eq!(said.decided, 2 * COUNT);
            assert!(said.dropped > 0, "{said:?}");
            assert_eq!(arrived, said.sent);
            assert_eq!(said.sent + said.dropped, 2 * COUNT);
        }
    }
}

#[test]
fn traffic_flows_when_the_holder_is_killed() {
    for engine in engines() {
        for hook in hooks() {
            for sender in Side::ALL {
                let lab = Lab::new();
                let line = format!(
                    "latency 200s --iface eth0 --engine {engine} --direction both {}",
                    by(hook)
                );
                let line = Line::start(&lab.near, &line);
                let (from, to) = ends(Family::V4, sender);
                // Many once; they take their time on an emulated machine.
                let many = sender == Side::Near && hook == hooks()[0];
                let count = if many { 100_000 } else { COUNT };
                udp::send(lab.namespace(sender), from, to, count);
                line.signal(Signal::SIGKILL);
                drop(line);
                gone(&lab.near);
                for family in Family::ALL {
                    assert_eq!(udp::flow(&lab, family, sender, 100).lost(), 0, "{hook}");
                }
                // The next one starts clean.
                let line = format!("latency 20ms --iface eth0 --engine {engine}");
                let line = Line::start(&lab.near, &line);
                assert!(one_way(&lab, Family::V6, Side::Near, 1)[0] + EARLY >= 20 * MILLISECOND);
                assert_eq!(line.end()[0].sent, 1);
            }
        }
    }
}

#[test]
fn fault_ends_when_its_helper_is_deleted() {
    for engine in engines() {
        for sender in Side::ALL {
            let lab = Lab::new();
            let way = sender.direction();
            let line = format!("latency 200s --iface eth0 --engine {engine} --direction {way}");
            let faultctl = Faultctl::start(&lab.near, &line);
            assert_eq!(udp::flow(&lab, Family::V4, sender, 10).received(), 0);
            let helper = if way == "egress" { "out0" } else { "in0" };
            lab.near.ip(&format!("link del fc-eth0-{helper}"));
            for family in Family::ALL {
                assert_eq!(udp::flow(&lab, family, sender, 100).lost(), 0);
            }
            let ended = faultctl.ended();
            assert_eq!(ended.code, 1);
            assert!(ended.stderr.contains("or its helper"), "{}", ended.stderr);
            assert_eq!(ended.stopped()["reason"], "interface gone");
            assert_eq!(helpers(&lab.near), 0);
        }
    }
}

#[test]
fn traffic_flows_within_the_lease_when_the_holder_is_stopped() {
    for engine in engines() {
        for sender in Side::ALL {
            let lab = Lab::new();
            let line = Line::start(
                &lab.near,
                &format!("latency 100ms --iface eth0 --engine {engine} --direction both"),
            );
            assert!(one_way(&lab, Family::V4, sender, 1)[0] + EARLY >= 100 * MILLISECOND);
            line.signal(Signal::SIGSTOP);
            until("nothing is held", SOON, || {
                (udp::flow(&lab, Family::V4, sender, 10).lost() == 0).then_some(())
            });
            // It goes on where it was.
            line.signal(Signal::SIGCONT);
            until("frames are held again", SOON, || {
                (udp::flow(&lab, Family::V4, sender, 10).received() == 0).then_some(())
            });
            let said = line.end();
            assert!(said.iter().all(|said| said.held == said.sent), "{said:?}");
        }
    }
}

#[test]
fn vlan_tags_are_kept() {
    for engine in engines() {
        // On ingress the kernel has taken the outer one off the frame and keeps it beside.
        let tags = [(frame::SERVICE_VLAN, 7), (frame::VLAN, 5)];
        for (sender, other) in [(Side::Near, Side::Far), (Side::Far, Side::Near)] {
            let lab = Lab::new();
            let line = Line::start(
                &lab.near,
                &format!("latency 5ms --iface eth0 --engine {engine} --direction both"),
            );
            let packet = ip(
                Family::V4.near(),
                Family::V4.far(),
                frame::UDP,
                Fragment::default(),
                &frame::udp(1, 2, b"tagged"),
            );
            let sent = ethernet(sender, &tags, frame::IPV4, &packet);
            // Behind the hook the outer tag is off again. Were it lost, the inner one would be.
            let mut receiving = packet::open(&lab, other, frame::VLAN);
            packet::open(&lab, sender, 0).send(&sent).expect("to send");
            let mut got = vec![0; 2048];
            let len = until("the frame arrives", SOON, || receiving.read(&mut got).ok());
            assert_eq!(got[..12], sent[..12]);
            assert_eq!(got[12..len], sent[16..]);
            assert_eq!(line.end().iter().map(|said| said.sent).sum::<u64>(), 1);
        }
    }
}

#[test]
fn packets_without_ethernet_are_held_too() {
    for engine in engines() {
        let namespace = Namespace::new();
        let mut tun = Tun::new(&namespace, "tun0");
        namespace.ip("link set tun0 addrgenmode none up\naddr add 10.78.0.1/24 dev tun0");
        let line = Line::start(
            &namespace,
            &format!("latency 20ms --iface tun0 --engine {engine} --direction both"),
        );
        let (near, far): (SocketAddr, SocketAddr) = (
            "10.78.0.1:40000".parse().expect("an address"),
            "10.78.0.2:50000".parse().expect("an address"),
        );
        let start = Instant::now();
        udp::send(&namespace, near, far, 100);
        let mut packets = Vec::new();
        until("packets leave", SOON, || {
            // Not what the interface itself says.
            packets.extend(tun.drain().into_iter().filter(|packet| packet[0] == 0x45));
            (packets.len() >= 100).then_some(())
        });
        assert!(start.elapsed() + EARLY >= 20 * MILLISECOND);
        for (number, packet) in (0_u64..).zip(&packets) {
            assert_eq!(packet[28..], number.to_be_bytes());
        }

        let socket = udp::socket(&namespace, near);
        let start = Instant::now();
        tun.deliver(&ip(
            far.ip(),
            near.ip(),
            frame::UDP,
            Fragment::default(),
            &frame::udp(far.port(), near.port(), b"hello"),
        ));
        let got = until("it comes in", SOON, || udp::drain(&socket).pop());
        assert_eq!(got, b"hello");
        assert!(start.elapsed() + EARLY >= 20 * MILLISECOND);
        assert_eq!(line.end()[1].sent, 1);
    }
}

#[test]
fn another_namespace_is_served_and_not_kept_alive() {
    for engine in engines() {
        let elsewhere = Namespace::new();
        let lab = Lab::new();
        let path = lab.near.path();
        let start = |millis: u64| {
            let line = format!(
                "latency {millis}ms --iface eth0 --engine {engine} --direction both --netns {}",
                path.display()
            );
            Line::start(&elsewhere, &line)
        };
        // Two, so that the second finds its number taken.
        let lines = [start(20), start(20)];
        assert_eq!((helpers(&lab.near), helpers(&elsewhere)), (4, 0));
        let spans = one_way(&lab, Family::V4, Side::Near, 3);
        assert!(spans[0] + EARLY >= 40 * MILLISECOND, "{spans:?}");

        let Lab { near, far, .. } = lab;
        drop(near);
        until("the namespace goes, and its end of the pair", SOON, || {
            (!far.proc("dev").contains(FAR_IFACE)).then_some(())
        });
        drop(lines);
    }
}
