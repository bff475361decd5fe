//! Packets told one by one.

use std::time::Duration;

use fault_tests::{
    Family, Faultctl, Lab, Side,
    kernel::ways,
    udp,
    wait::{SOON, until},
};
use serde_json::Value;

const FROM: u16 = 4_000;
const TO: u16 = 5_000;

/// Sends datagrams until a packet is told, as a CPU tells of one each ten milliseconds.
fn told(lab: &Lab, faultctl: &Faultctl, family: Family, sender: Side) -> Value {
    let (from, to) = match sender {
        Side::Near => (family.near(), family.far()),
        Side::Far => (family.far(), family.near()),
    };
    until("a packet is told", SOON, || {
        udp::between(lab, sender, (from, FROM).into(), (to, TO).into(), 1);
        faultctl
            .event_within("packet", Duration::from_millis(200))
            .filter(|packet| {
                packet["direction"] == sender.direction()
                    && packet["far"] == family.far().to_string()
            })
    })
}

#[test]
fn packets_are_told_with_their_ends_and_what_became_of_them() {
    let lab = Lab::new();
    for way in ways() {
        for (percent, decision) in [(100, "dropped"), (0, "passed")] {
            let line = format!("loss {percent} --iface eth0 --direction both -v {way}");
            let faultctl = Faultctl::start(&lab.near, &line);
            for (family, header) in [(Family::V4, 20), (Family::V6, 40)] {
                for sender in Side::ALL {
                    let packet = told(&lab, &faultctl, family, sender);
                    let (near, far) = match sender {
                        Side::Near => (FROM, TO),
                        Side::Far => (TO, FROM),
                    };
                    for (key, expected) in [
                        ("iface", Value::from("eth0")),
                        ("rule", "loss".into()),
                        ("decision", decision.into()),
                        ("near", family.near().to_string().into()),
                        ("near_port", near.into()),
                        ("far_port", far.into()),
                        ("protocol", 17.into()),
                        ("bytes", (14 + header + 8 + 8).into()),
                    ] {
                        assert_eq!(packet[key], expected, "{way} {key}: {packet}");
                    }
                }
            }
            assert_eq!(faultctl.end().code, 0);
        }
    }
}

#[test]
fn flood_is_told_by_samples() {
    let lab = Lab::new();
    let faultctl = Faultctl::start(&lab.near, "loss 50 --iface eth0 -v");
    let start = std::time::Instant::now();
    udp::flow(&lab, Family::V4, Side::Near, 50_000);
    let seconds = start.elapsed().as_secs_f64();
    let ended = faultctl.end();
    let told = ended
        .events
        .iter()
        .filter(|event| event["event"] == "packet");
    let cpus = std::thread::available_parallelism().expect("CPUs").get();
    let most = (seconds.ceil() as usize + 1) * 100 * cpus;
    let told = told.count();
    assert!(
        (1..=most).contains(&told),
        "{told} of 50,000 in {seconds} s"
    );
    assert_eq!(ended.count("egress", "matched"), 50_000);
}

#[test]
fn nothing_is_told_to_who_does_not_ask() {
    let lab = Lab::new();
    let faultctl = Faultctl::start(&lab.near, "loss 50 --iface eth0");
    udp::flow(&lab, Family::V4, Side::Near, 1_000);
    let ended = faultctl.end();
    assert!(!ended.events.iter().any(|event| event["event"] == "packet"));
}
