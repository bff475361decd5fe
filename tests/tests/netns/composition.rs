//! Several faults, and other people's programs, on one interface.

use fault_tests::{
    Family, Faultctl, Lab, Side,
    binomial::assert_rate,
    faultctl::{run, words},
    foreign::Counting,
    kernel::{has_tcx, hooks},
    programs, udp,
    wait::{SOON, until},
};

const COUNT: u64 = 10_000;

#[test]
fn two_losses_of_a_tenth_lose_nineteen_hundredths() {
    for (first, second, sender) in [
        ("tcx", "tcx", Side::Near),
        ("clsact", "clsact", Side::Near),
        ("clsact", "clsact", Side::Far),
        ("tcx", "clsact", Side::Far),
    ] {
        if [first, second].iter().any(|hook| !hooks().contains(hook)) {
            continue;
        }
        let lab = Lab::new();
        let direction = sender.direction();
        let start = |hook: &str| {
            let line = format!("loss 10 --iface eth0 --direction {direction} --attach {hook}");
            Faultctl::start(&lab.near, &line)
        };
        let (one, two) = (start(first), start(second));
        let both = udp::flow(&lab, Family::V4, sender, COUNT);
        let one = one.end();
        let left = udp::flow(&lab, Family::V4, sender, COUNT);
        let two = two.end();

        assert_rate(both.lost(), COUNT, 0.19);
        assert_rate(left.lost(), COUNT, 0.10);
        let dropped = one.count(direction, "dropped") + two.count(direction, "dropped");
        assert_eq!(dropped, both.lost() + left.lost());
        assert_eq!(udp::flow(&lab, Family::V4, sender, 100).lost(), 0);
    }
}

#[test]
fn foreign_tcx_program_goes_on_seeing_what_passes() {
    if !has_tcx() {
        return;
    }
    for sender in Side::ALL {
        let lab = Lab::new();
        let direction = sender.direction();
        let foreign = Counting::on(&lab, sender);
        let faultctl = Faultctl::start(
            &lab.near,
            &format!("loss 50 --iface eth0 --direction {direction} --attach tcx"),
        );
        let outcome = udp::flow(&lab, Family::V6, sender, COUNT);
        assert_eq!(foreign.frames(), outcome.received(), "ours comes first");
        faultctl.end();
        udp::flow(&lab, Family::V6, sender, 100);
        assert_eq!(foreign.frames(), outcome.received() + 100);
    }
}

#[test]
fn foreign_filter_goes_on_seeing_what_passes() {
    for hook in hooks() {
        for sender in Side::ALL {
            let lab = Lab::new();
            let direction = sender.direction();
            lab.near.tc("qdisc add dev eth0 clsact");
            mirror(&lab, direction);
            let before = programs::hooks(&lab);
            let faultctl = Faultctl::start(
                &lab.near,
                &format!("loss 50 --iface eth0 --direction {direction} --attach {hook}"),
            );
            let outcome = udp::flow(&lab, Family::V4, sender, 1_000);
            assert_eq!(mirrored(&lab, direction), outcome.received());
            faultctl.end();
            udp::flow(&lab, Family::V4, sender, 100);
            assert_eq!(mirrored(&lab, direction), outcome.received() + 100);
            assert_eq!(programs::hooks(&lab), before);
        }
    }
}

#[test]
fn filter_that_came_later_keeps_the_qdisc() {
    let lab = Lab::new();
    let faultctl = Faultctl::start(&lab.near, "loss 50 --iface eth0 --attach clsact");
    mirror(&lab, "egress");
    faultctl.end();
    udp::flow(&lab, Family::V4, Side::Near, 100);
    assert_eq!(mirrored(&lab, "egress"), 100);
    assert!(!programs::hooks(&lab).contains("faultctl"));
}

#[test]
fn last_of_ours_takes_the_qdisc_along_in_either_order() {
    for first_ends_first in [true, false] {
        let lab = Lab::new();
        let before = programs::hooks(&lab);
        let start = || Faultctl::start(&lab.near, "loss 50 --iface eth0 --attach clsact");
        let (mut one, mut two) = (start(), start());
        if !first_ends_first {
            std::mem::swap(&mut one, &mut two);
        }
        one.end();
        assert!(programs::hooks(&lab).contains("clsact"));
        two.end();
        assert_eq!(programs::hooks(&lab), before);
    }
}

#[test]
fn root_qdisc_is_left_alone() {
    for hook in hooks() {
        let lab = Lab::new();
        lab.near
            .tc("qdisc add dev eth0 root handle 7: tbf rate 1gbit burst 1mb limit 10mb");
        let before = programs::hooks(&lab);
        let faultctl = Faultctl::start(
            &lab.near,
            &format!("loss 10 --iface eth0 --direction both --attach {hook}"),
        );
        let during = lab.near.tc("qdisc show dev eth0 root");
        faultctl.end();
        assert!(before.contains(during.trim()), "{during} in {before}");
        until("all as before", SOON, || {
            (programs::hooks(&lab) == before && programs::of(&lab.near).is_empty()).then_some(())
        });
    }
}

/// A filter of somebody else, that counts.
fn mirror(lab: &Lab, direction: &str) {
    lab.near.tc(&format!(
        "filter add dev eth0 {direction} protocol all prio 5 u32 match u32 0 0 \
         action mirred egress mirror dev lo"
    ));
}

/// Packets that it has seen.
fn mirrored(lab: &Lab, direction: &str) -> u64 {
    let text = lab.near.tc(&format!("-s filter show dev eth0 {direction}"));
    let words: Vec<_> = text.split_whitespace().collect();
    words
        .windows(2)
        .find(|pair| pair[1] == "pkt")
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn ingress_qdisc_is_not_taken_for_clsact() {
    let lab = Lab::new();
    lab.near.tc("qdisc add dev eth0 ingress");
    let before = programs::hooks(&lab);
    let output = run(
        &lab.near,
        &words("loss 100 --iface eth0 --attach clsact --for 10s"),
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("`ingress` qdisc"), "{stderr}");
    assert_eq!(programs::hooks(&lab), before);
}

#[test]
fn qdisc_that_took_the_place_of_ours_stays() {
    let lab = Lab::new();
    let faultctl = Faultctl::start(&lab.near, "loss 100 --iface eth0 --attach clsact");
    lab.near.tc("qdisc del dev eth0 clsact");
    lab.near.tc("qdisc add dev eth0 ingress");
    let foreign = programs::hooks(&lab);
    let ended = faultctl.ended();
    assert_eq!(ended.code, 1);
    assert_eq!(ended.stopped()["reason"], "interface gone");
    assert_eq!(programs::hooks(&lab), foreign);
}

#[test]
fn filter_that_somebody_removed_takes_the_other_direction_along() {
    let lab = Lab::new();
    let before = programs::hooks(&lab);
    let faultctl = Faultctl::start(
        &lab.near,
        "loss 100 --iface eth0 --direction both --attach clsact",
    );
    lab.near.tc("filter del dev eth0 ingress");
    assert_eq!(faultctl.ended().code, 1);
    assert_eq!(programs::hooks(&lab), before);
    assert_eq!(udp::flow(&lab, Family::V4, Side::Near, 20).lost(), 0);
}
