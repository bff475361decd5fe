//! What is lost, and who hears of it.

use fault_tests::{
    Family, Faultctl, Lab, Side,
    binomial::{assert_rate, interval},
    echo::ping,
    kernel::hooks,
    tcp, udp,
};

const COUNT: u64 = 10_000;

#[test]
fn loss_is_within_chance_and_exactly_as_counted() {
    for hook in hooks() {
        let lab = Lab::new();
        for (sender, family, percent) in [
            (Side::Near, Family::V4, 50),
            (Side::Near, Family::V6, 1),
            (Side::Far, Family::V4, 1),
            (Side::Far, Family::V6, 50),
        ] {
            let direction = sender.direction();
            let faultctl = Faultctl::start(
                &lab.near,
                &format!("loss {percent} --iface eth0 --direction {direction} --attach {hook}"),
            );
            let outcome = udp::flow(&lab, family, sender, COUNT);
            let back = match sender {
                Side::Near => Side::Far,
                Side::Far => Side::Near,
            };
            let other = udp::flow(&lab, family, back, 1_000);
            let ended = faultctl.end();

            assert_rate(outcome.lost(), COUNT, f64::from(percent) / 100.0);
            assert_eq!(ended.count(direction, "dropped"), outcome.lost());
            assert_eq!(ended.count(direction, "matched"), COUNT);
            assert_eq!(ended.count(back.direction(), "matched"), 0);
            assert_eq!(outcome.duplicates(), 0);
            assert_eq!(other.lost(), 0, "the other direction");
            assert_eq!(ended.code, 0);

            let after = udp::flow(&lab, family, sender, 1_000);
            assert_eq!(after.lost(), 0, "after the end");
        }
    }
}

#[test]
fn local_sender_is_not_told_of_egress_loss() {
    for hook in hooks() {
        let lab = Lab::new();
        for family in Family::ALL {
            let faultctl =
                Faultctl::start(&lab.near, &format!("loss 50 --iface eth0 --attach {hook}"));
            let datagrams = udp::flow(&lab, family, Side::Near, 1_000);
            let echoes = ping(&lab.near, family.far(), 10_000);
            let ended = faultctl.end();

            assert_eq!(datagrams.refused, 0);
            assert_eq!(echoes.refused, 0);
            // With nobody told, nothing is sent twice: the count is what was sent.
            assert_eq!(ended.count("egress", "matched"), 11_000);
            assert_rate(echoes.lost(), 10_000, 0.5);
        }
    }
}

#[test]
fn tcp_sends_again_what_is_lost() {
    // 2,072 segments of 1,448 bytes.
    const BYTES: usize = 3_000_000;
    for (hook, sender, family) in [
        ("tcx", Side::Near, Family::V4),
        ("tcx", Side::Far, Family::V6),
        ("clsact", Side::Near, Family::V6),
        ("clsact", Side::Far, Family::V4),
    ] {
        if !hooks().contains(&hook) {
            continue;
        }
        let lab = Lab::new();
        let baseline = tcp::retransmits(&lab, family, sender, BYTES);
        let direction = sender.direction();
        let faultctl = Faultctl::start(
            &lab.near,
            &format!("loss 5 --iface eth0 --direction {direction} --attach {hook}"),
        );
        let again = tcp::retransmits(&lab, family, sender, BYTES);
        let ended = faultctl.end();

        let (matched, dropped) = (
            ended.count(direction, "matched"),
            ended.count(direction, "dropped"),
        );
        assert_rate(dropped, matched, 0.05);
        // Only the handshake's last acknowledgement is never sent again.
        assert!(
            again + 1 >= dropped,
            "{again} retransmits of {dropped} lost"
        );
        assert!(
            again > baseline + 50,
            "{again} retransmits, {baseline} without"
        );
    }
}

#[test]
fn super_packet_is_drawn_once_and_counted_in_segments() {
    let lab = Lab::new();
    let faultctl = Faultctl::start(&lab.near, "mark 1 --iface eth0 --proto tcp");
    tcp::send(&lab, Family::V4, Side::Near, 3_000_000);
    let ended = faultctl.end();
    // 2,072 segments in at least 46 super-packets; handshake and end add a few.
    let matched = ended.count("egress", "matched");
    assert!((2_072..2_300).contains(&matched), "{matched}");
}

#[test]
fn every_nth_is_lost_exactly() {
    for hook in hooks() {
        let lab = Lab::new();
        for sender in Side::ALL {
            let direction = sender.direction();
            let faultctl = Faultctl::start(
                &lab.near,
                &format!("loss --every 10 --iface eth0 --direction {direction} --attach {hook}"),
            );
            let outcome = udp::flow(&lab, Family::V4, sender, 1_000);
            let ended = faultctl.end();
            let missing = outcome.missing();
            assert_eq!(missing.len(), 100);
            assert!(
                missing.windows(2).all(|pair| pair[1] - pair[0] == 10),
                "{missing:?}"
            );
            assert_eq!(ended.count(direction, "dropped"), 100);
        }
    }
}

#[test]
fn same_seed_loses_the_same_packets() {
    let lab = Lab::new();
    let missing = |seed: u64, hook: &str| {
        let faultctl = Faultctl::start(
            &lab.near,
            &format!("loss 20 --iface eth0 --seed {seed} --attach {hook}"),
        );
        assert_eq!(faultctl.started["seed"], seed);
        let outcome = udp::flow(&lab, Family::V6, Side::Near, 1_000);
        faultctl.end();
        outcome.missing()
    };
    let first = missing(7, "auto");
    for hook in hooks() {
        assert_eq!(missing(7, hook), first);
    }
    assert_ne!(missing(8, "auto"), first);
}

#[test]
fn correlation_makes_bursts_and_keeps_the_rate() {
    const PACKETS: u64 = 20_000;
    let lab = Lab::new();
    let missing = |correlation: &str| {
        let faultctl = Faultctl::start(
            &lab.near,
            &format!("loss 30 {correlation} --iface eth0 --seed 1"),
        );
        let outcome = udp::flow(&lab, Family::V4, Side::Near, PACKETS);
        faultctl.end();
        outcome.missing()
    };
    let alone = missing("");
    let bursts = missing("--correlation 80");
    let followed = |missing: &[u64]| {
        missing
            .windows(2)
            .filter(|pair| pair[1] == pair[0] + 1)
            .count() as u64
    };
    // A lost packet is followed by another with probability p + c (1 - p).
    assert_rate(alone.len() as u64, PACKETS, 0.3);
    assert_rate(followed(&alone), alone.len() as u64, 0.3);
    assert_rate(followed(&bursts), bursts.len() as u64, 0.86);
    // The variance of a mean under correlation c is (1 + c) / (1 - c) = 9 times as
    // large: as if of a ninth of the packets.
    let rate = interval(PACKETS / 9, 0.3);
    let lost = bursts.len() as u64 / 9;
    assert!(rate.contains(&lost), "{lost} of {}: {rate:?}", PACKETS / 9);
}

#[test]
fn zero_and_all_are_exact() {
    let lab = Lab::new();
    for (percent, lost) in [("0", 0), ("100%", 500)] {
        let faultctl = Faultctl::start(&lab.near, &format!("loss {percent} --iface eth0"));
        let outcome = udp::flow(&lab, Family::V6, Side::Near, 500);
        let ended = faultctl.end();
        assert_eq!(outcome.lost(), lost);
        assert_eq!(ended.count("egress", "dropped"), lost);
    }
}
