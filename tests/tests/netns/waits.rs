//! Packets that wait, come twice or go ahead: who receives what, and when.

use std::time::{Duration, Instant};

use fault_tests::{
    Family, Faultctl, Lab, Side,
    binomial::assert_rate,
    faultctl::count,
    kernel::{engines, hooks},
    lab::ends,
    udp,
    wait::{SOON, until},
};

use crate::line::{EARLY, delayed, receiver};

const COUNT: u64 = 5_000;

/// Each family and direction once.
const WAYS: [(Side, Family); 4] = [
    (Side::Near, Family::V4),
    (Side::Near, Family::V6),
    (Side::Far, Family::V4),
    (Side::Far, Family::V6),
];

#[test]
fn copies_are_as_many_as_asked_and_exactly_as_counted() {
    for hook in hooks() {
        let lab = Lab::new();
        for (sender, family) in WAYS {
            let way = sender.direction();
            let line = format!("duplicate 30 --iface eth0 --direction {way} --attach {hook}");
            let faultctl = Faultctl::start(&lab.near, &line);
            let (from, to) = ends(family, sender);
            let receiving = udp::socket(receiver(&lab, sender), to);
            let outcome = udp::send(lab.namespace(sender), from, to, COUNT);
            let mut arrived = Vec::new();
            let stats = until("all copies arrive", SOON, || {
                arrived.extend(udp::drain(&receiving));
                let stats = faultctl.event("stats");
                let copies = count(&stats, way, "duplicated");
                (arrived.len() as u64 == COUNT + copies).then_some(stats)
            });
            assert_eq!(outcome.refused, 0);
            assert_eq!(count(&stats, way, "matched"), COUNT, "a copy is none of it");
            // Two-sided 1e-9, by `binomial`.
            assert_rate(count(&stats, way, "duplicated"), COUNT, 0.3);
            let mut numbers = arrived;
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len() as u64, COUNT, "each came");
            assert_eq!(faultctl.end().code, 0);
        }
    }
}

#[test]
fn copies_wait_too() {
    for engine in engines() {
        for (sender, family) in WAYS {
            let lab = Lab::new();
            let way = sender.direction();
            let mut words = vec!["netem", "delay 20ms duplicate 30% limit 100000"];
            let line = format!("--json --iface eth0 --direction {way} --engine {engine}");
            words.extend(line.split(' '));
            let faultctl = Faultctl::spawn(&mut fault_tests::faultctl::command(&lab.near, &words));
            let start = Instant::now();
            let arrived = delayed(&lab, family, sender, COUNT, |n| n > COUNT);
            assert!(start.elapsed() + EARLY >= Duration::from_millis(20));
            assert!(arrived.len() as u64 > COUNT);
            let ended = faultctl.end();
            let lines = &ended.stopped()["lines"][0];
            let copies = ended.count(way, "duplicated");
            assert_rate(copies, COUNT, 0.3);
            assert_eq!(lines["held"], COUNT + copies, "{lines}");
            assert_eq!(lines["dropped"], 0);
        }
    }
}

#[test]
fn packets_go_ahead_as_asked_and_the_others_keep_their_order() {
    for engine in engines() {
        for (sender, family) in WAYS {
            let lab = Lab::new();
            let way = sender.direction();
            // Longer than sending takes.
            let line = format!(
                "reorder 25 --delay 2s --limit 100000 --iface eth0 --direction {way} \
                 --engine {engine}"
            );
            let faultctl = Faultctl::start(&lab.near, &line);
            let start = Instant::now();
            let mut sent = Duration::ZERO;
            let arrived = delayed(&lab, family, sender, COUNT, |n| {
                if sent.is_zero() {
                    sent = start.elapsed();
                }
                n == COUNT
            });
            let ended = faultctl.end();
            let waited = ended.count(way, "delayed");
            assert_rate(COUNT - waited, COUNT, 0.25);
            if sent < Duration::from_secs(2) {
                let ahead = usize::try_from(COUNT - waited).expect("fits");
                assert!(arrived[..ahead].is_sorted(), "those ahead");
                assert!(arrived[ahead..].is_sorted(), "those that waited");
            }
        }
    }
}

#[test]
fn every_fifth_goes_ahead() {
    for engine in engines() {
        for sender in Side::ALL {
            let lab = Lab::new();
            let way = sender.direction();
            let line = format!(
                "reorder 100 --gap 5 --delay 2s --iface eth0 --direction {way} --engine {engine}"
            );
            let faultctl = Faultctl::start(&lab.near, &line);
            let arrived = delayed(&lab, Family::V4, sender, 100, |n| n == 100);
            let ended = faultctl.end();
            assert_eq!(ended.count(way, "delayed"), 80);
            let fifths: Vec<u64> = (4..100).step_by(5).collect();
            assert_eq!(arrived[..20], fifths);
            assert!(arrived[20..].is_sorted());
        }
    }
}

#[test]
fn nothing_goes_faster_than_the_rate() {
    // 8 bytes in UDP, IP and Ethernet.
    let bytes = |family| 1000 * (8 + 8 + if family == Family::V4 { 20 } else { 40 } + 14);
    for engine in engines() {
        for sender in Side::ALL {
            for (family, more, bytes) in [
                (Family::V4, "", bytes(Family::V4)),
                (Family::V6, "", bytes(Family::V6)),
                (Family::V4, " --overhead 50", 2 * bytes(Family::V4)),
                (Family::V6, " --burst 10000b", bytes(Family::V6) - 10_000),
            ] {
                let lab = Lab::new();
                let way = sender.direction();
                let line = format!(
                    "rate 1mbit{more} --limit 100000 --iface eth0 --direction {way} \
                     --engine {engine}"
                );
                let faultctl = Faultctl::start(&lab.near, &line);
                let start = Instant::now();
                let arrived = delayed(&lab, family, sender, 1000, |n| n == 1000);
                let took = start.elapsed();
                assert_eq!(arrived, (0..1000).collect::<Vec<_>>());
                let least = Duration::from_micros(bytes * 8);
                assert!(took + EARLY >= least, "{line}: {took:?}");
                let ended = faultctl.end();
                assert_eq!(ended.count(way, "delayed"), 1000);
                // On average half of what the last one waited, if it came in one burst.
                let mean = ended.stopped()["rules"][0]["mean_delay"].as_f64();
                let mean = mean.expect("packets waited");
                assert!(mean > 0.0 && mean <= least.as_secs_f64(), "{line}: {mean}");
            }
        }
    }
}

#[test]
fn jitter_reorders_and_has_its_mean() {
    for engine in engines() {
        for (sender, family) in WAYS {
            let lab = Lab::new();
            let way = sender.direction();
            let line = format!(
                "latency 50ms --jitter 20ms --distribution normal --iface eth0 --direction {way} \
                 --engine {engine}"
            );
            let faultctl = Faultctl::start(&lab.near, &line);
            let arrived = delayed(&lab, family, sender, COUNT, |n| n == COUNT);
            assert!(!arrived.is_sorted());
            let ended = faultctl.end();
            let mean = ended.stopped()["rules"][0]["mean_delay"].as_f64();
            let mean = mean.expect("packets waited");
            // Six standard errors, 20 ms / sqrt(5000), beside waits below zero that are none
            // (1.2 of 200, by 0.1 ms at most).
            assert!((mean - 0.050).abs() < 0.002, "{mean}");
        }
    }
}

#[test]
fn netems_words_act_in_netems_order() {
    for engine in engines() {
        for (sender, family) in WAYS {
            let lab = Lab::new();
            let way = sender.direction();
            let words = "rate 100mbit delay 5ms duplicate 20% loss 30% limit 100000 seed 7";
            let mut args = vec!["netem", words];
            let line = format!("--json --iface eth0 --direction {way} --engine {engine}");
            args.extend(line.split(' '));
            let faultctl = Faultctl::spawn(&mut fault_tests::faultctl::command(&lab.near, &args));
            let (from, to) = ends(family, sender);
            let receiving = udp::socket(receiver(&lab, sender), to);
            udp::send(lab.namespace(sender), from, to, COUNT);
            let ended = faultctl.end();
            let stopped = ended.stopped();
            let rules = stopped["rules"].as_array().expect("rules");
            let names: Vec<_> = rules.iter().map(|rule| &rule["rule"]).collect();
            assert_eq!(names, ["loss", "duplicate", "latency", "rate"]);
            let of = |n: usize, key: &str| rules[n][key].as_u64().expect("a number");
            let (lost, copies) = (of(0, "dropped"), of(1, "duplicated"));
            assert_rate(lost, COUNT, 0.3);
            assert_rate(copies, COUNT - lost, 0.2);
            for n in 1..4 {
                assert_eq!(of(n, "matched"), COUNT - lost, "{}", names[n]);
            }
            assert_eq!(of(2, "delayed"), COUNT - lost);
            let arrived = until("all arrive", SOON, || {
                Some(udp::drain(&receiving).len() as u64)
            });
            let line = &stopped["lines"][0];
            assert_eq!(line["held"], COUNT - lost + copies, "{line}");
            assert_eq!((&line["dropped"], &line["missed"]), (&0.into(), &0.into()));
            assert_eq!(arrived, COUNT - lost + copies);
        }
    }
}

#[test]
fn selected_packets_wait_and_the_others_do_not() {
    for engine in engines() {
        let lab = Lab::new();
        let line = format!("latency 200s --proto udp --port 50000 --iface eth0 --engine {engine}");
        let faultctl = Faultctl::start(&lab.near, &line);
        for family in Family::ALL {
            let echoes = fault_tests::echo::ping(&lab.near, family.far(), 20);
            assert_eq!(echoes.received(), 20, "{family:?}");
            assert_eq!(udp::flow(&lab, family, Side::Near, 20).received(), 0);
        }
        let ended = faultctl.end();
        assert_eq!(ended.count("egress", "delayed"), 40);
    }
}
