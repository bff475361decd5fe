//! Several links that have to do with each other, taken away together.

use fault_tests::{
    Faultctl, Namespace,
    faultctl::{run, words},
    wait::{SOON, until},
};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Dressed, assert_passes, saved, send, watchdog};

/// Whether an interface of the near end is set up.
fn is_up(dressed: &Dressed, dev: &str) -> bool {
    let text = dressed.lab.near.ip_json(&format!("link show dev {dev}"));
    let links: Value = serde_json::from_str(&text).expect("JSON");
    links[0]["flags"].to_string().contains("\"UP\"")
}

#[test]
fn links_come_back_with_what_leads_through_several_whatever_their_order() {
    let dressed = Dressed::new("sk");
    let [upper, other, _, dev] = dressed.names();
    for order in [[&upper, &other], [&other, &upper]] {
        let [first, second] = order;
        // The one below is named last, by the line's end.
        let line =
            format!("down --mode admin --iface {first} --iface {second} --iface {dev} --for 1h");
        let faultctl = Faultctl::start(&dressed.lab.near, &line);
        let all = [&upper, &other, &dev];
        assert_eq!(all.map(|dev| is_up(&dressed, dev)), [false; 3]);
        let ended = faultctl.end();
        assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
        assert_eq!(ended.stopped()["notes"], Value::Array(Vec::new()));
        dressed.assert_back();
    }
}

#[test]
fn clear_puts_them_back_too() {
    let dressed = Dressed::new("sl");
    let lab = &dressed.lab;
    let [upper, other, _, dev] = dressed.names();
    let links = format!("--iface {upper} --iface {other} --iface {dev}");
    let line = format!("down --mode admin {links} --for 1h");
    let faultctl = Faultctl::start(&lab.near, &line);
    let watchdog = watchdog(lab, &faultctl);
    send(watchdog, Signal::SIGSTOP);
    faultctl.signal(Signal::SIGKILL);
    send(watchdog, Signal::SIGKILL);
    faultctl.ended();
    let output = run(&lab.near, &words(&format!("clear {links}")));
    assert!(output.status.success(), "{output:?}");
    dressed.assert_back();
}

#[test]
fn process_without_an_interface_means_all_but_loopback_and_may_end() {
    let outside = Namespace::new();
    let dressed = Dressed::new("sp");
    let idle = |namespace: &Namespace| {
        let child = namespace.command("sleep").arg("1000").spawn();
        child.expect("sleep runs")
    };
    let (mut named, mut neighbour) = (idle(&dressed.lab.near), idle(&dressed.lab.near));
    until("it is there", SOON, || {
        let path = format!("/proc/{}/ns/net", named.id());
        let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).ok()?);
        (inode == dressed.lab.near.inode()).then_some(())
    });
    let line = format!("down --mode admin --pid {} --for 1h", named.id());
    let faultctl = Faultctl::start(&outside, &line);
    let rules = faultctl.started["rules"].as_array().expect("rules");
    let mut taken: Vec<_> = rules.iter().filter_map(|it| it["iface"].as_str()).collect();
    taken.sort_unstable();
    let mut all = dressed.names();
    all.sort_unstable();
    assert_eq!(taken, all);
    assert!(all.iter().all(|dev| !is_up(&dressed, dev)) && is_up(&dressed, "lo"));
    // The way by its number is gone; another process leads there.
    named.kill().expect("it runs");
    named.wait().expect("our child");
    let state = saved(&dressed.lab);
    assert!(state.exists());
    faultctl.signal(Signal::SIGKILL);
    until("all are put back", SOON, || {
        (!state.exists() && all.iter().all(|dev| is_up(&dressed, dev))).then_some(())
    });
    faultctl.ended();
    dressed.assert_back();
    assert_passes(&dressed.lab);
    neighbour.kill().expect("it runs");
    neighbour.wait().expect("our child");
}
