//! What `doctor` finds on interfaces.

use fault_tests::{
    Lab, Namespace, Side,
    faultctl::run,
    foreign::{Counting, Xdp},
    kernel::hooks,
    tun::Tun,
};
use serde_json::Value;

/// What is said about an interface, each with its level.
pub fn about(namespace: &Namespace, iface: &str) -> Vec<(String, String)> {
    let output = run(namespace, &["doctor", "--iface", iface, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a JSON line"))
        .filter(|finding| finding["about"] == iface)
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
            (text("level"), text("found"))
        })
        .collect()
}

#[track_caller]
pub fn assert_found(findings: &[(String, String)], level: &str, parts: &[&str]) {
    assert!(
        findings.iter().any(|(their_level, found)| {
            their_level == level && parts.iter().all(|part| found.contains(part))
        }),
        "{level} {parts:?}: {findings:#?}"
    );
}

#[test]
fn interfaces_are_told_by_driver_queues_and_offloads() {
    let lab = Lab::new();
    lab.near.ip("link add br0 type bridge");
    let tun = Tun::new(&lab.near, "tun0");
    for (iface, driver, frames) in [
        (
            "eth0",
            "driver `veth`, 1 receive and 1 transmit queues",
            "Ethernet",
        ),
        ("br0", "driver `bridge`", "Ethernet"),
        ("tun0", "driver `tun`", "without a link-layer header"),
        ("lo", "no driver", "Ethernet"),
    ] {
        let found = about(&lab.near, iface);
        assert_found(&found, "ok", &[driver, "offloads: "]);
        assert_found(&found, "ok", &[frames]);
    }
    // On a veth pair, what is switched off at one end is seen there.
    assert_found(&about(&lab.near, "eth0"), "ok", &["offloads: tso gso"]);
    let iface = &lab.iface;
    let status = lab
        .near
        .command("ethtool")
        .args(["-K", iface, "tso", "off"])
        .output();
    assert!(status.expect("ethtool runs").status.success());
    let found = about(&lab.near, iface);
    assert_found(&found, "ok", &["offloads: gso"]);
    drop(tun);
}

#[test]
fn programs_of_others_are_named() {
    let lab = Lab::new();
    let found = about(&lab.near, "eth0");
    assert_found(&found, "note", &["XDP: nobody"]);
    assert!(!found.iter().any(|(_, found)| found.contains("runs")));

    let egress = Counting::on(&lab, Side::Near);
    let xdp = Xdp::on(&lab, "their_filter", true);
    let found = about(&lab.near, "eth0");
    // Theirs has no name.
    let hook = if hooks().contains(&"tcx") {
        "tcx"
    } else {
        "filter"
    };
    assert_found(&found, "note", &["egress runs", hook]);
    assert_found(&found, "note", &["XDP: taken by `their_filter`, xdp"]);
    drop((egress, xdp));

    let dispatcher = Xdp::on(&lab, "xdp_dispatcher", false);
    let found = about(&lab.near, "eth0");
    let text = "XDP: taken by libxdp's dispatcher `xdp_dispatcher`, xdpgeneric";
    assert_found(&found, "note", &[text]);
    drop(dispatcher);
}

#[test]
fn machine_is_told_by_what_counts() {
    let namespace = Namespace::new();
    let output = run(&namespace, &["doctor", "--json"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let findings: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect();
    for (about, found) in [
        ("kernel", "."),
        ("BPF object", "built in"),
        ("verifier", "takes the programs"),
        ("BPF JIT", "on"),
        ("memory", "maps are charged to the memory cgroup"),
        ("lockdown", ""),
    ] {
        assert!(
            findings.iter().any(|finding| finding["about"] == about
                && finding["level"] == "ok"
                && finding["found"]
                    .as_str()
                    .is_some_and(|it| it.contains(found))),
            "{about}: {text}"
        );
    }
}
