//! Loss on the XDP hook: in the driver, or behind it.

use fault_tests::{
    Family, Faultctl, Lab, Side,
    binomial::assert_rate,
    echo::ping,
    faultctl::{run, words},
    foreign::Xdp,
    programs, tcp, udp,
    wait::{SOON, until},
};
use nix::sys::signal::Signal;

const COUNT: u64 = 10_000;

#[test]
fn loss_in_the_driver_is_within_chance_and_exactly_as_counted() {
    let lab = Lab::new();
    for (family, percent) in [(Family::V4, 50), (Family::V6, 1)] {
        let faultctl = Faultctl::start(
            &lab.near,
            &format!("loss {percent} --iface eth0 --direction ingress --hook xdp"),
        );
        assert_eq!(faultctl.started["rules"][0]["hook"], "xdp");
        let links = lab.near.ip("link show dev eth0");
        assert!(links.contains("prog/xdp id"), "{links}");
        let outcome = udp::flow(&lab, family, Side::Far, COUNT);
        let back = udp::flow(&lab, family, Side::Near, 1_000);
        let ended = faultctl.end();

        assert_rate(outcome.lost(), COUNT, f64::from(percent) / 100.0);
        assert_eq!(ended.count("ingress", "dropped"), outcome.lost());
        assert_eq!(ended.count("ingress", "matched"), COUNT);
        assert_eq!(back.lost(), 0, "the other direction");
        assert_eq!(udp::flow(&lab, family, Side::Far, 1_000).lost(), 0);
    }
}

#[test]
fn both_directions_are_xdp_and_tc() {
    let lab = Lab::new();
    let faultctl = Faultctl::start(
        &lab.near,
        &format!(
            "partition --iface eth0 --to {} --hook xdp",
            Family::V6.far()
        ),
    );
    let hook = faultctl.started["rules"][0]["hook"].as_str();
    assert!(matches!(hook, Some("xdp+tcx" | "xdp+clsact")), "{hook:?}");
    for family in Family::ALL {
        let lost = Side::ALL.map(|sender| udp::flow(&lab, family, sender, 100).lost());
        let expected = if family == Family::V6 { 100 } else { 0 };
        assert_eq!(lost, [expected; 2]);
    }
    let ended = faultctl.end();
    assert_eq!(ended.count("ingress", "dropped"), 100);
    assert_eq!(ended.count("egress", "dropped"), 100);
}

#[test]
fn address_resolution_is_lost_too_where_the_interface_is_down() {
    let lab = Lab::resolving();
    let faultctl = Faultctl::start(
        &lab.near,
        "down --iface eth0 --hook xdp --direction ingress",
    );
    for family in Family::ALL {
        assert_eq!(ping(&lab.far, family.near(), 3).arrived.len(), 0);
    }
    let ended = faultctl.end();
    // Nothing but ARP and neighbour discovery could come.
    assert!(ended.count("ingress", "dropped") >= 2, "{ended:?}");
    for family in Family::ALL {
        until("addresses resolve again", SOON, || {
            (!ping(&lab.far, family.near(), 1).arrived.is_empty()).then_some(())
        });
    }
}

#[test]
fn frames_of_several_buffers_are_read_and_counted_whole() {
    const BYTES: usize = 3_000_000;
    const LARGE: usize = 8_000;
    let lab = Lab::new();
    for (side, namespace) in [(Side::Near, &lab.near), (Side::Far, &lab.far)] {
        namespace.ip(&format!("link set {} mtu 9000", lab.dev(side)));
    }
    for family in Family::ALL {
        let (from, to) = ((family.far(), 700).into(), (family.near(), 700).into());
        let line = "loss 50 --iface eth0 --direction ingress --hook xdp --proto udp --port 700";
        let faultctl = Faultctl::start(&lab.near, line);
        assert_eq!(faultctl.started["rules"][0]["hook"], "xdp");
        let receiving = udp::socket(&lab.near, to);
        lab.far.run(|| {
            let sending = std::net::UdpSocket::bind::<std::net::SocketAddr>(from);
            let sending = sending.expect("a sender");
            for _ in 0..400 {
                sending.send_to(&[0xfa; LARGE], to).expect("to send");
            }
        });
        // What it does not take passes whole.
        tcp::send(&lab, family, Side::Far, BYTES);
        let received = udp::drain(&receiving);
        let ended = faultctl.end();

        assert!(
            received.iter().all(|it| it.len() == 2_048),
            "cut to the buffer"
        );
        let lost = 400 - received.len() as u64;
        assert_rate(lost, 400, 0.5);
        assert_eq!(ended.count("ingress", "dropped"), lost);
        assert_eq!(ended.count("ingress", "matched"), 400);
        let headers = if family == Family::V4 {
            14 + 20
        } else {
            14 + 40
        } + 8;
        let bytes = 400 * (headers + LARGE) as u64;
        assert_eq!(ended.count("ingress", "bytes"), bytes);
    }
}

#[test]
fn interface_without_xdp_of_its_own_gets_the_generic_one_and_a_word() {
    let lab = Lab::new();
    for (address, other) in [("127.0.0.5", "127.0.0.6"), ("::1", "127.0.0.1")] {
        let line = format!("partition --iface lo --direction ingress --hook xdp --to {address}");
        let faultctl = Faultctl::start(&lab.near, &line);
        assert_eq!(faultctl.started["rules"][0]["hook"], "xdpgeneric");
        let note = faultctl.event("note");
        let note = note["message"].as_str().expect("a text");
        assert!(note.starts_with("no native XDP on `lo`"), "{note}");
        let count = |to: &str| {
            let to = to.parse().expect("an address");
            ping(&lab.near, to, 100).arrived.len()
        };
        assert_eq!((count(address), count(other)), (0, 100));
        assert_eq!(faultctl.end().count("ingress", "dropped"), 100);
        assert_eq!(count(address), 100);
    }
}

#[test]
fn hook_that_is_taken_is_left_to_its_owner() {
    let lab = Lab::new();
    let refused = |line: &str| {
        let output = run(&lab.near, &words(line));
        assert_eq!(output.status.code(), Some(1));
        assert!(programs::of(&lab.near).is_empty());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let line = "partition --iface eth0 --hook xdp";
    for native in [true, false] {
        let theirs = Xdp::on(&lab, "their_filter", native);
        let before = lab.near.ip("link show dev eth0");
        let error = refused(line);
        let mode = if native { "xdp" } else { "xdpgeneric" };
        let us = format!("` with pid {}", std::process::id());
        for part in [
            "`eth0` is taken by a program",
            "`their_filter`",
            &us,
            mode,
            "leave out",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert_eq!(lab.near.ip("link show dev eth0"), before);
        drop(theirs);
    }
    let dispatcher = Xdp::on(&lab, "xdp_dispatcher", true);
    let error = refused(line);
    assert!(error.contains("libxdp's dispatcher"), "{error}");
    drop(dispatcher);
    let first = Faultctl::start(&lab.near, line);
    let output = run(&lab.near, &words(line));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("`faultctl_xdp`"), "{error}");
    assert!(error.contains("`faultctl status`"), "{error}");
    assert_eq!(udp::flow(&lab, Family::V4, Side::Far, 100).lost(), 100);
    drop(first);
}

#[test]
fn no_end_leaves_a_program_in_the_driver() {
    let lab = Lab::new();
    let gone = || {
        until("the program is gone", SOON, || {
            let links = lab.near.ip("link show dev eth0");
            (!links.contains("xdp") && programs::of(&lab.near).is_empty()).then_some(())
        });
        assert_eq!(udp::flow(&lab, Family::V4, Side::Far, 100).lost(), 0);
    };
    // Before tcx the filter on egress would stay, without force.
    let line = "partition --iface eth0 --hook xdp --direction ingress";
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let faultctl = Faultctl::start(&lab.near, line);
        assert_eq!(udp::flow(&lab, Family::V4, Side::Far, 100).lost(), 100);
        faultctl.signal(signal);
        gone();
    }
    // Stopped, it can't renew its deadline; the programs are still there.
    let faultctl = Faultctl::start(&lab.near, line);
    faultctl.stop_still();
    until("the deadline is over", SOON, || {
        (udp::flow(&lab, Family::V4, Side::Far, 20).lost() == 0).then_some(())
    });
    faultctl.signal(Signal::SIGCONT);
    let status = run(&lab.near, &["status", "--json"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    let pid = format!("\"pid\":{}", faultctl.pid());
    assert!(status.lines().any(|line| line.contains(&pid)), "{status}");
    faultctl.signal(Signal::SIGKILL);
    gone();
}

#[test]
fn clear_ends_it() {
    let lab = Lab::with_iface("xdpclear0");
    let faultctl = Faultctl::start(&lab.near, "partition --iface xdpclear0 --hook xdp");
    let cleared = run(&lab.near, &["clear", "--iface", "xdpclear0", "--json"]);
    assert!(cleared.status.success(), "{cleared:?}");
    assert_eq!(faultctl.ended().code, 0);
    assert!(programs::of(&lab.near).is_empty());
    assert_eq!(udp::flow(&lab, Family::V6, Side::Far, 100).lost(), 0);
}
