//! `down`: nothing in, nothing out.

use fault_tests::{Family, Faultctl, Lab, Side, echo::ping, foreign::Counting, kernel::hooks, udp};

#[test]
fn nothing_comes_in_or_goes_out_address_resolution_included() {
    for hook in hooks() {
        let lab = Lab::resolving();
        let seen = Side::ALL.map(|side| Counting::on(&lab, side));
        let faultctl = Faultctl::start(&lab.near, &format!("down --iface eth0 --attach {hook}"));
        let before = seen.each_ref().map(Counting::frames);
        let (_, sent) = lab.device_packets(Side::Near);
        for family in Family::ALL {
            // Neither end knows the other's link-layer address: these become ARP and ND.
            udp::send(&lab.near, to(family.near()), to(family.far()), 10);
            udp::send(&lab.far, to(family.far()), to(family.near()), 10);
        }
        assert_eq!(lab.device_packets(Side::Near).1, sent, "frames left");
        if hook == hooks()[0] {
            // Behind ours; tcx is in front of any clsact.
            let now = seen.each_ref().map(Counting::frames);
            assert_eq!(now, before, "frames came through");
        }
        assert!(!lab.near.proc("arp").contains("02:00:00:00:00:02"));
        let ended = faultctl.end();
        for direction in ["egress", "ingress"] {
            let dropped = ended.count(direction, "dropped");
            assert!(dropped >= 2, "ARP and ND: {dropped} {direction}");
            assert_eq!(dropped, ended.count(direction, "matched"));
        }

        for family in Family::ALL {
            lab.near.ip("neigh flush dev eth0");
            assert_eq!(ping(&lab.near, family.far(), 1).received(), 1);
        }
    }
}

#[test]
fn with_a_selector_address_resolution_passes() {
    for hook in hooks() {
        let lab = Lab::resolving();
        for family in Family::ALL {
            let faultctl = Faultctl::start(
                &lab.near,
                &format!("down --iface eth0 --attach {hook} --to {}", family.far()),
            );
            assert_eq!(ping(&lab.near, family.far(), 5).received(), 0);
            let ended = faultctl.end();
            let neighbours = lab.near.ip("neigh show dev eth0");
            let resolved = neighbours
                .lines()
                .any(|line| line.starts_with(&family.far().to_string()) && line.contains("lladdr"));
            assert!(resolved, "{neighbours}");
            assert_eq!(ended.count("egress", "dropped"), 5);
        }
    }
}

#[test]
fn one_direction_is_enough() {
    let lab = Lab::new();
    for sender in Side::ALL {
        let direction = sender.direction();
        let faultctl = Faultctl::start(
            &lab.near,
            &format!("down --iface eth0 --direction {direction}"),
        );
        let lost = Side::ALL.map(|sender| udp::flow(&lab, Family::V6, sender, 50).lost());
        faultctl.end();
        let expected = Side::ALL.map(|side| if side == sender { 50 } else { 0 });
        assert_eq!(lost, expected, "{direction}");
    }
}

fn to(address: std::net::IpAddr) -> std::net::SocketAddr {
    (address, 50_000).into()
}
