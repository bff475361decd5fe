//! Loss in bursts, as the receiver sees it.
//!
//! Each case is outside its bounds by chance once in 2·10^8: five bounds of
//! [`fault_tests::binomial::CHANCE`].

use fault_tests::{
    Family, Faultctl, Lab, Side,
    faultctl::run,
    kernel::{hooks, ways},
    markov::Theory,
    udp,
};
use serde_json::Value;

const PACKETS: u64 = 10_000;

/// Each model, as it is asked for and as it is meant.
fn models() -> Vec<(&'static str, Theory)> {
    vec![
        ("20 --burst 5", Theory::burst(0.2, 5.0)),
        (
            "--gemodel 5,20%,80,0.5",
            Theory::gemodel([0.05, 0.2, 0.8, 0.005]),
        ),
        ("--gemodel 10", Theory::gemodel([0.1, 0.9, 1.0, 0.0])),
        (
            "--state 5,30,20,40,1%",
            Theory::states([0.05, 0.3, 0.2, 0.4, 0.01]),
        ),
        ("--state 10", Theory::states([0.1, 0.9, 0.0, 1.0, 0.0])),
        ("30 --correlation 80", Theory::correlated(0.3, 0.8)),
    ]
}

#[test]
fn bursts_are_as_long_and_as_many_as_asked() {
    for (asked, theory) in models() {
        let bounds = theory.bounds(PACKETS);
        for way in ways() {
            for (sender, family) in [(Side::Near, Family::V4), (Side::Far, Family::V6)] {
                let lab = Lab::new();
                let (direction, other) = match sender {
                    Side::Near => ("egress", "ingress"),
                    Side::Far => ("ingress", "egress"),
                };
                let faultctl = Faultctl::start(
                    &lab.near,
                    &format!("loss {asked} --iface eth0 --direction both {way}"),
                );
                let outcome = udp::flow(&lab, family, sender, PACKETS);
                let ended = faultctl.end();
                bounds.assert_hold(&outcome.missing());
                assert_eq!(ended.count(direction, "dropped"), outcome.lost());
                assert_eq!(ended.count(direction, "matched"), PACKETS);
                assert_eq!(ended.count(other, "matched"), 0);
                assert_eq!(outcome.duplicates(), 0);
                assert_eq!(outcome.refused, 0, "the sender is not told");
            }
        }
    }
}

#[test]
fn burst_of_each_direction_is_its_own() {
    let lab = Lab::new();
    let faultctl = Faultctl::start(
        &lab.near,
        "loss --gemodel 5,20 --iface eth0 --direction both --seed 3",
    );
    let bounds = Theory::gemodel([0.05, 0.2, 1.0, 0.0]).bounds(PACKETS);
    let missing = [(Family::V6, Side::Near), (Family::V4, Side::Far)].map(|(family, sender)| {
        let outcome = udp::flow(&lab, family, sender, PACKETS);
        bounds.assert_hold(&outcome.missing());
        outcome.missing()
    });
    faultctl.end();
    assert_ne!(missing[0], missing[1]);
}

#[test]
fn same_seed_makes_the_same_bursts() {
    let lab = Lab::new();
    for (asked, _) in models() {
        let missing = |seed: u64, hook: &str| {
            let faultctl = Faultctl::start(
                &lab.near,
                &format!("loss {asked} --iface eth0 --seed {seed} --attach {hook}"),
            );
            let outcome = udp::flow(&lab, Family::V6, Side::Near, 1_000);
            faultctl.end();
            outcome.missing()
        };
        let first = missing(7, "auto");
        for hook in hooks() {
            assert_eq!(missing(7, hook), first, "{asked}");
        }
        assert_ne!(missing(8, "auto"), first, "{asked}");
    }
}

#[test]
fn burst_model_is_read_back_by_status() {
    let lab = Lab::new();
    for (asked, told) in [
        ("20 --burst 5", "20% burst 5"),
        ("--gemodel 1,10,80,0.1", "7.364% gemodel 1,10,80,0.1"),
        ("--state 1,10", "9.091% state 1,10,0,100,0"),
        ("30 --correlation 80", "30% correlation 80%"),
    ] {
        let faultctl = Faultctl::start(&lab.near, &format!("loss {asked} --iface eth0"));
        assert_eq!(faultctl.started["rules"][0]["asked"], told);
        let output = run(&lab.near, &["status", "--json"]);
        let output = String::from_utf8_lossy(&output.stdout);
        let status = output
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a JSON line"))
            .find(|fault| fault["pid"] == faultctl.pid().as_raw())
            .expect("it is listed");
        assert_eq!(status["rules"][0]["asked"], told);
        faultctl.end();
    }
}
