//! What happens to interfaces and namespaces while their link is away.

use std::fs;

use fault_tests::{
    Faultctl, Namespace,
    faultctl::{run, words},
    wait::{SOON, until},
};

use serde_json::Value;

use super::{Dressed, assert_passes, is_down, line, plain, saved};

#[test]
fn renamed_link_comes_back_under_its_new_name() {
    let mut lab = plain("rn");
    let faultctl = Faultctl::start(&lab.near, &line(&lab, "--for 1h"));
    lab.near.ip(&format!("link set {} name renamed", lab.iface));
    "renamed".clone_into(&mut lab.iface);
    let ended = faultctl.end();
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
    assert!(!saved(&lab).exists());
    assert_passes(&lab);
}

#[test]
fn clear_knows_a_renamed_link_by_either_name() {
    for by_new_name in [false, true] {
        let mut lab = plain("rc");
        let faultctl = Faultctl::start(&lab.near, &line(&lab, "--for 1h"));
        let names = [lab.iface.clone(), format!("new{}", lab.iface)];
        let [old, new] = &names;
        lab.near.ip(&format!("link set {old} name {new}"));
        lab.iface.clone_from(new);
        let clear = format!("clear --iface {}", names[usize::from(by_new_name)]);
        let output = run(&lab.near, &words(&clear));
        assert!(output.status.success(), "{output:?}");
        assert!(!saved(&lab).exists());
        assert_passes(&lab);
        faultctl.ended();
    }
}

#[test]
fn what_a_bridge_loses_with_its_port_comes_back() {
    let lab = plain("br");
    let dev = &lab.iface;
    lab.near.ip(&format!(
        "link add bridge0 address 02:00:00:00:00:77 type bridge
         link set {dev} master bridge0
         link set bridge0 up
         addr add 10.62.0.1/24 dev bridge0
         addr add fd62::1/64 dev bridge0 nodad"
    ));
    // A bridge has its carrier from its ports.
    until("the bridge has a carrier", SOON, || {
        let text = lab.near.ip("link show dev bridge0");
        text.contains("LOWER_UP").then_some(())
    });
    lab.near.ip("nexthop add id 76 via 10.62.0.9 dev bridge0
         route add 10.63.0.0/16 nhid 76
         neigh add 10.62.0.50 lladdr 02:00:00:00:00:50 dev bridge0");
    let shown = || {
        [
            "nexthop show",
            "-4 route show dev bridge0",
            "neigh show nud permanent",
        ]
        .map(|command| {
            let text = lab.near.ip_json(command);
            let mut list: Vec<Value> = serde_json::from_str(&text).expect("JSON");
            // The order of neighbours is the one of a hash.
            list.sort_by_key(Value::to_string);
            list
        })
    };
    let before = shown();
    let faultctl = Faultctl::start(&lab.near, &line(&lab, "--for 5s"));
    until("nexthops go with the carrier", SOON, || {
        shown()[0].is_empty().then_some(())
    });
    let ended = faultctl.ended();
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
    assert_eq!(shown(), before);
    let ports = lab.near.ip_json("link show master bridge0");
    assert!(ports.contains(dev), "{ports}");
}

#[test]
fn deleted_link_ends_the_fault() {
    let lab = plain("dl");
    let file = saved(&lab);
    let faultctl = Faultctl::start(&lab.near, &line(&lab, "--for 1h"));
    assert!(file.exists());
    lab.near.ip(&format!("link del {}", lab.iface));
    let ended = faultctl.ended();
    assert_eq!(ended.code, 1, "{ended:?}");
    assert_eq!(ended.stopped()["reason"], "interface gone");
    assert!(ended.stderr.contains(&lab.iface), "{ended:?}");
    assert!(!file.exists());
}

#[test]
fn another_link_in_its_place_is_left_alone() {
    let mut lab = plain("an");
    let file = saved(&lab);
    let (_, index) = file
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.split_once('-'))
        .expect("a number");
    let faultctl = Faultctl::start(&lab.near, &line(&lab, "--for 1h"));
    // Before it looks again.
    faultctl.stop_still();
    lab.near.ip(&format!(
        "link del {0}
         link add {0} index {index} address 02:00:00:00:00:66 type veth peer name other1",
        lab.iface
    ));
    faultctl.signal(nix::sys::signal::Signal::SIGCONT);
    let ended = faultctl.ended();
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(is_down(&lab));
    assert!(
        !lab.near.ip("addr").contains("fd77::1/64"),
        "it has no address"
    );
    assert!(!file.exists());
    lab.iface.clear();
}

#[test]
fn somebody_who_sets_the_link_up_ends_the_fault() {
    let dressed = Dressed::new("su");
    let faultctl = dressed.start("--for 1h");
    dressed
        .lab
        .near
        .ip(&format!("link set {} up", dressed.lab.iface));
    let ended = faultctl.ended();
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.stderr.contains("somebody put its link back"),
        "{ended:?}"
    );
    dressed.assert_back();
}

#[test]
fn link_in_another_namespace_comes_back() {
    let outside = Namespace::new();
    let dressed = Dressed::new("ns");
    let more = format!("--for 5s --netns {}", dressed.lab.near.path().display());
    let faultctl = Faultctl::start(&outside, &line(&dressed.lab, &more));
    assert!(is_down(&dressed.lab));
    let ended = faultctl.ended();
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
    dressed.assert_back();
}

#[test]
fn watchdog_finds_the_way_back_into_another_namespace() {
    let outside = Namespace::new();
    let dressed = Dressed::new("nk");
    let more = format!("--for 1h --netns {}", dressed.lab.near.path().display());
    let faultctl = Faultctl::start(&outside, &line(&dressed.lab, &more));
    faultctl.signal(nix::sys::signal::Signal::SIGKILL);
    super::until_up(&dressed.lab, SOON);
    dressed.assert_back();
}

#[test]
fn fault_ends_with_its_namespace_and_keeps_no_hold_on_it() {
    let outside = Namespace::new();
    let lab = plain("nd");
    let file = saved(&lab);
    let more = format!("--for 1h --netns {}", lab.near.path().display());
    let faultctl = Faultctl::start(&outside, &line(&lab, &more));
    assert!(file.exists());
    // Nobody but this test holds it, so this is its end.
    drop(lab);
    let ended = faultctl.ended();
    assert_eq!(ended.code, 1, "{ended:?}");
    assert_eq!(ended.stopped()["reason"], "interface gone");
    assert!(!file.exists());
}

#[test]
fn what_is_saved_from_another_boot_is_nothing() {
    let lab = plain("ob");
    let file = saved(&lab);
    let faultctl = Faultctl::start(&lab.near, &line(&lab, "--for 1h"));
    let text = fs::read(&file).expect("it is saved");
    assert_eq!(faultctl.end().code, 0);
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("an id");
    let old = String::from_utf8_lossy(
        &text[..=text.iter().position(|byte| *byte == b'\n').expect("a line")],
    )
    .replace(boot.trim(), "00000000-0000-0000-0000-000000000000");
    fs::write(&file, old).expect("to write");
    assert!(run(&lab.near, &words("status")).status.success());
    assert!(!file.exists());
    assert_passes(&lab);
}
