//! `down --mode carrier`: on a tun interface, whose driver can do it, and on a veth,
//! whose driver cannot.

use std::net::UdpSocket;

use fault_tests::{
    Faultctl,
    faultctl::{run, words},
    tun::Tun,
    wait::{SOON, until},
};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{assert_passes, plain, settled, watchdog};

/// A tun interface with what the loss of its carrier takes away.
struct Wire {
    lab: fault_tests::Lab,
    tun: Tun,
}

impl Wire {
    fn new(name: &str) -> Self {
        let mut lab = plain(&format!("v{name}"));
        lab.iface = format!("{name}{}", std::process::id());
        let tun = Tun::new(&lab.near, &lab.iface);
        let dev = &lab.iface;
        lab.near.ip(&format!(
            "link set {dev} up
             addr add 10.90.0.1/24 dev {dev}
             addr add fd90::1/64 dev {dev} nodad
             nexthop add id 90 via 10.90.0.9 dev {dev}
             nexthop add id 91 via fd90::9 dev {dev}
             route add 10.91.0.0/16 nhid 90
             route add 10.92.0.0/16 via 10.90.0.9
             route add fd91::/64 nhid 91"
        ));
        settled(&lab);
        Self { lab, tun }
    }

    fn start(&self, more: &str) -> Faultctl {
        let line = format!("down --mode carrier --iface {} {more}", self.lab.iface);
        Faultctl::start(&self.lab.near, &line)
    }

    fn shown(&self) -> [String; 4] {
        [
            "addr show",
            "-4 route show table all",
            "-6 route show table all",
            "nexthop show",
        ]
        .map(|command| {
            let text = self.lab.near.ip_json(command);
            let mut list: Vec<Value> = serde_json::from_str(&text).expect("JSON");
            list.retain(|it| it.to_string().contains(&self.lab.iface) || it["id"].is_number());
            for object in &mut list {
                // Unknown until the carrier of a tun interface first comes back.
                object["operstate"].take();
            }
            list.sort_by_key(Value::to_string);
            format!("{list:#?}")
        })
    }

    /// Whether packets of both families reach the wire.
    fn passes(&mut self) -> [bool; 2] {
        ["10.90.0.7:9", "[fd90::7]:9"].map(|to| {
            self.tun.drain();
            self.lab.near.run(|| {
                let any = if to.starts_with('[') {
                    "[::]:0"
                } else {
                    "0.0.0.0:0"
                };
                let socket = UdpSocket::bind(any).expect("a socket");
                // A link without a carrier may refuse.
                let _ = socket.send_to(b"through", to);
            });
            let sent = self.tun.drain();
            sent.iter().any(|packet| packet.ends_with(b"through"))
        })
    }
}

#[test]
fn carrier_goes_and_comes_back_with_what_it_took_away() {
    let mut wire = Wire::new("ca");
    let before = wire.shown();
    assert_eq!(wire.passes(), [true; 2]);
    let faultctl = wire.start("--for 1h");
    assert_eq!(faultctl.started["rules"][0]["asked"], "carrier");
    let link = super::link(&wire.lab);
    assert!(
        !link.contains("LOWER_UP") && link.contains("\"UP\""),
        "{link}"
    );
    until("the kernel lets go of the link", SOON, || {
        (wire.passes() == [false; 2]).then_some(())
    });
    until("nexthops go with the carrier", SOON, || {
        (!wire.shown()[3].contains("90")).then_some(())
    });
    let ended = faultctl.end();
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
    // At once: the end waits for the kernel to use the link again.
    assert_eq!(wire.passes(), [true; 2]);
    assert_eq!(wire.shown(), before);
}

#[test]
fn watchdog_gives_the_carrier_back() {
    let mut wire = Wire::new("cw");
    let before = wire.shown();
    let faultctl = wire.start("--for 1h");
    faultctl.signal(Signal::SIGKILL);
    until("it is as it was", SOON, || {
        (wire.shown() == before).then_some(())
    });
    until("packets pass", SOON, || {
        (wire.passes() == [true; 2]).then_some(())
    });
}

#[test]
fn clear_gives_the_carrier_back() {
    let wire = Wire::new("cc");
    let before = wire.shown();
    let faultctl = wire.start("--for 1h");
    let watchdog = watchdog(&wire.lab, &faultctl);
    super::send(watchdog, Signal::SIGSTOP);
    faultctl.signal(Signal::SIGKILL);
    super::send(watchdog, Signal::SIGKILL);
    faultctl.ended();
    let line = format!("clear --iface {}", wire.lab.iface);
    let output = run(&wire.lab.near, &words(&line));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(wire.shown(), before);
}

#[test]
fn driver_without_it_is_refused_and_nothing_is_changed() {
    let wire = Wire::new("cv");
    let before = wire.shown();
    // The one that can goes first, and gets its carrier back.
    let veth = wire.lab.near.ip_json("link show type veth");
    let veth: Value = serde_json::from_str(&veth).expect("JSON");
    let veth = veth[0]["ifname"].as_str().expect("a name");
    for first in ["", &format!("--iface {} ", wire.lab.iface)] {
        let line = format!("down --mode carrier {first}--iface {veth} --for 1s");
        let output = run(&wire.lab.near, &words(&line));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(&format!("`{veth}` (veth)")), "{stderr}");
        assert!(stderr.contains("\nhint: `--mode admin`"), "{stderr}");
    }
    assert_eq!(wire.shown(), before);
}

#[test]
fn carrier_that_cannot_come_back_is_said() {
    let wire = Wire::new("cn");
    let faultctl = wire.start("--for 1h");
    drop(wire.tun);
    // The interface goes with whoever held it.
    let ended = faultctl.ended();
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains(&wire.lab.iface), "{ended:?}");
}

#[test]
fn metrics_say_that_it_is_active() {
    use std::io::{Read as _, Write as _};
    let lab = plain("cm");
    let line = format!(
        "down --mode admin --iface {} --for 1h --metrics 127.0.0.1:9909",
        lab.iface
    );
    let faultctl = Faultctl::start(&lab.near, &line);
    let text = lab.near.run(|| {
        let mut stream = std::net::TcpStream::connect("127.0.0.1:9909").expect("it listens");
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("to write");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("to read");
        text
    });
    assert!(
        text.contains("faultctl_fault_active{kind=\"down\",rule=\"down\"} 1"),
        "{text}"
    );
    assert_eq!(faultctl.end().code, 0);
    assert_passes(&lab);
}
