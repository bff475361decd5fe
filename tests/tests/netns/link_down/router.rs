//! What only the kernel can make again: addresses and routes from a router.

use std::{
    net::{Ipv6Addr, SocketAddrV6},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use fault_tests::{
    Faultctl, Lab, Namespace,
    lab::FAR_IFACE,
    wait::{SOON, until},
};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use super::{line, plain, saved};

/// Advertises `fd42::/64` and itself, until it is dropped.
struct Router {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Router {
    fn start(far: &Namespace) -> Self {
        far.ip(&format!("addr add fe80::1/64 dev {FAR_IFACE} nodad"));
        let stop = Arc::new(AtomicBool::new(false));
        let socket = far.run(|| {
            let socket =
                Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).expect("a raw socket");
            socket.set_multicast_hops_v6(255).expect("hops");
            socket
        });
        let index = far.run(|| nix::net::if_::if_nametoindex(FAR_IFACE).expect("it is there"));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
                let to = SocketAddrV6::new(all_nodes, 0, 0, index).into();
                while !stop.load(Ordering::Relaxed) {
                    // While the other end is down, nobody hears it.
                    let _ = socket.send_to(&advertisement(), &to);
                    thread::sleep(Duration::from_millis(200));
                }
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it sends");
        }
    }
}

/// RFC 4861, sections 4.2 and 4.6.2; the kernel writes the checksum.
fn advertisement() -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, 64, 0];
    // A default router for half an hour.
    message.extend(1800_u16.to_be_bytes());
    message.extend([0; 8]);
    // A prefix, on link and for addresses, valid for an hour and preferred for half of it.
    message.extend([3, 4, 64, 0xc0]);
    message.extend(3600_u32.to_be_bytes());
    message.extend(1800_u32.to_be_bytes());
    message.extend([0; 4]);
    message.extend(Ipv6Addr::new(0xfd42, 0, 0, 0, 0, 0, 0, 0).octets());
    message
}

/// A host that listens to its router.
fn host(name: &str) -> Lab {
    let lab = plain(name);
    for (key, value) in [
        ("accept_ra", "1"),
        ("autoconf", "1"),
        ("addr_gen_mode", "0"),
        // A link without neighbour discovery is not asked either.
        ("use_tempaddr", "0"),
    ] {
        lab.near
            .set(&format!("ipv6/conf/{}/{key}", lab.iface), value);
    }
    lab
}

/// Addresses and routes by the kernel's hand, without lifetimes.
fn by_router(lab: &Lab) -> Vec<String> {
    let dev = &lab.iface;
    let addresses = lab
        .near
        .ip_json(&format!("-6 addr show dev {dev} scope global dynamic"));
    let addresses: Value = serde_json::from_str(&addresses).expect("JSON");
    let routes = lab
        .near
        .ip_json(&format!("-6 route show dev {dev} proto ra"));
    let routes: Value = serde_json::from_str(&routes).expect("JSON");
    let mut all = Vec::new();
    let addresses = addresses[0]["addr_info"].as_array().into_iter().flatten();
    // ip(8) leaves an empty object for each that is not asked for.
    for info in addresses.filter(|info| info["local"].is_string()) {
        all.push(format!("{} {}", info["local"], info["mngtmpaddr"]));
    }
    for route in routes.as_array().into_iter().flatten() {
        all.push(format!(
            "{} {} {}",
            route["dst"], route["gateway"], route["metric"]
        ));
    }
    all
}

/// Waits for what the router gives, and says what that is.
#[track_caller]
fn heard(lab: &Lab) -> Vec<String> {
    until("the router is heard", SOON, || {
        // Of an advertisement, the kernel makes the address last.
        let is_there = by_router(lab).iter().any(|it| it.starts_with("\"fd42:"));
        is_there.then_some(())
    });
    by_router(lab)
}

#[test]
fn what_a_router_gave_comes_back_from_it() {
    let lab = host("ra");
    let _router = Router::start(&lab.far);
    let before = heard(&lab);
    let ended = Faultctl::start(&lab.near, &line(&lab, "--for 1s")).ended();
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
    assert_eq!(by_router(&lab), before);
    assert_eq!(ended.stopped()["notes"], Value::Array(Vec::new()));
}

#[test]
fn what_a_router_does_not_give_again_is_named() {
    let lab = host("rx");
    let router = Router::start(&lab.far);
    heard(&lab);
    drop(router);
    // More than the kernel may take to make it again.
    let faultctl = Faultctl::start(&lab.near, &line(&lab, "--for 100ms"));
    let ended = faultctl.ended();
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
    let notes = ended.stopped()["notes"].to_string();
    for what in ["address fd42::", "via fe80::1"] {
        assert!(notes.contains(what), "{what}: {notes}");
    }
    assert!(!saved(&lab).exists());
    assert!(by_router(&lab).is_empty(), "nobody else makes it up");
}
