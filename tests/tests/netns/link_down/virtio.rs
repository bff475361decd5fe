//! What guests have and this level's machine need not: a network card, and the driver
//! `dummy`.

use fault_tests::{
    Faultctl, Namespace,
    echo::ping,
    faultctl::{run, words},
    wait::{SOON, until},
};
use serde_json::Value;

use super::settled_in;
use crate::virtio::Cards;

/// What is on an interface, and its flags.
fn shown(namespace: &Namespace, dev: &str) -> [String; 5] {
    [
        "addr show",
        "-4 route show table all",
        "-6 route show table all",
        "nexthop show",
        "neigh show nud permanent",
    ]
    .map(|command| {
        let text = namespace.ip_json(command);
        let mut list: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        list.retain(|it| it.to_string().contains(dev));
        list.sort_by_key(Value::to_string);
        format!("{list:#?}")
    })
}

#[test]
fn card_that_is_set_down_comes_back_and_its_carrier_cannot_go() {
    let cards = Cards::take();
    let (near, far) = (&cards.near, &cards.far);
    near.namespace.ip(&format!(
        "nexthop add id 70 via 10.78.1.1 dev {0}
         route add 10.80.0.0/16 nhid 70
         route add 10.81.0.0/16 via 10.78.1.1 table 100 metric 7
         route add fd81::/64 via fd78:1::1 table 100
         neigh add fd78:1::50 lladdr 02:00:00:00:00:50 dev {0}",
        near.dev
    ));
    settled_in(&near.namespace);
    let passes = || {
        far.addresses
            .map(|address| ping(&near.namespace, address, 3).received())
    };
    until("the router knows the way", SOON, || {
        (passes() == [3; 2]).then_some(())
    });
    let before = shown(&near.namespace, &near.dev);

    let line = format!("down --mode carrier --iface {} --for 1s", near.dev);
    let output = run(&near.namespace, &words(&line));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("its driver does not know how"), "{stderr}");
    assert!(stderr.contains("\nhint: `--mode admin`"), "{stderr}");
    assert_eq!(shown(&near.namespace, &near.dev), before);

    let line = format!("down --mode admin --iface {} --for 1h", near.dev);
    let faultctl = Faultctl::start(&near.namespace, &line);
    let from_afar = near
        .addresses
        .map(|address| ping(&far.namespace, address, 1).received());
    assert_eq!(from_afar, [0; 2]);
    let ended = faultctl.end();
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
    assert_eq!(shown(&near.namespace, &near.dev), before);
    // The router has found nobody there meanwhile, and asks again in its own time.
    until("the router knows the way again", SOON, || {
        (passes() == [3; 2]).then_some(())
    });
}

#[test]
fn carrier_of_a_dummy_goes_and_comes_back() {
    let namespace = Namespace::new();
    namespace.ip("link add wire type dummy
         link set wire up
         addr add 10.90.0.1/24 dev wire
         addr add fd90::1/64 dev wire
         nexthop add id 90 via 10.90.0.9 dev wire
         nexthop add id 91 via fd90::9 dev wire
         route add 10.91.0.0/16 nhid 90
         route add fd91::/64 nhid 91");
    settled_in(&namespace);
    let before = shown(&namespace, "wire");
    let line = "down --mode carrier --iface wire --for 1h";
    let faultctl = Faultctl::start(&namespace, line);
    let flags = |flag: &str| namespace.ip("link show dev wire").contains(flag);
    assert!(!flags("LOWER_UP") && flags("UP"));
    until("nexthops go with the carrier", SOON, || {
        (shown(&namespace, "wire")[3] == "[]").then_some(())
    });
    let ended = faultctl.end();
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
    // Unknown until the carrier first comes back.
    let known = |shown: [String; 5]| shown.map(|text| text.replace("UNKNOWN", "UP"));
    assert_eq!(known(shown(&namespace, "wire")), known(before));
}
