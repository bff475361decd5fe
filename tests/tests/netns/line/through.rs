//! Packets of others, which the machine passes on.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use fault_tests::{
    Family, Namespace, Side,
    kernel::engines,
    lab::TO_PORT,
    line::Line,
    tcp, udp,
    wait::{SOON, until},
};

use super::{EARLY, MILLISECOND};

/// How the machine in the middle passes them on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Bridge,
    Router,
}

/// A namespace with `near0` and `far0`, each to a neighbour of its own. Faults go on
/// `far0`: what the near neighbour sends to the far one is its egress.
struct Middle {
    namespace: Namespace,
    near: Neighbour,
    far: Neighbour,
}

struct Neighbour {
    namespace: Namespace,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl Middle {
    fn new(by: By) -> Self {
        let namespace = Namespace::new();
        // A bridge has both in one network.
        let far_network = if by == By::Bridge { 1 } else { 2 };
        let near = Neighbour::new(&namespace, by, "near0", 1, 1);
        let far = Neighbour::new(&namespace, by, "far0", far_network, 2);
        match by {
            By::Bridge => {
                namespace.ip("link add br0 type bridge
                     link set br0 up
                     link set near0 master br0
                     link set far0 master br0");
            }
            By::Router => {
                namespace.set("ipv4/ip_forward", "1");
                namespace.set("ipv6/conf/all/forwarding", "1");
            }
        }
        let middle = Self {
            namespace,
            near,
            far,
        };
        for family in Family::ALL {
            until("neighbours hear of each other", SOON, || {
                let (near, far) = (&middle.near, &middle.far);
                let echo = near
                    .namespace
                    .command("ping")
                    .args(["-c1", "-W1", "-q"])
                    .arg(far.address(family).to_string())
                    .output();
                echo.expect("ping runs").status.success().then_some(())
            });
        }
        middle
    }

    /// Who sends and who receives.
    fn ends(&self, sender: Side) -> [&Neighbour; 2] {
        match sender {
            Side::Near => [&self.near, &self.far],
            Side::Far => [&self.far, &self.near],
        }
    }

    /// How long datagrams take until all are there.
    #[track_caller]
    fn datagrams(&self, sender: Side, family: Family, count: u64) -> Duration {
        let [from, to] = self.ends(sender);
        let address = |end: &Neighbour| SocketAddr::new(end.address(family), TO_PORT);
        let receiving = udp::socket(&to.namespace, address(to));
        let start = Instant::now();
        udp::send(&from.namespace, address(from), address(to), count);
        let mut arrived = 0;
        until("datagrams arrive", SOON, || {
            arrived += udp::drain(&receiving).len() as u64;
            (arrived == count).then_some(())
        });
        start.elapsed()
    }

    /// How long bytes take.
    #[track_caller]
    fn bytes(&self, sender: Side, family: Family, len: u64) -> Duration {
        let [from, to] = self.ends(sender);
        let address = SocketAddr::new(to.address(family), TO_PORT);
        let start = Instant::now();
        tcp::carry(&from.namespace, &to.namespace, address, len);
        start.elapsed()
    }
}

impl Neighbour {
    fn new(middle: &Namespace, by: By, name: &str, network: u8, host: u8) -> Self {
        let neighbour = Self {
            namespace: Namespace::new(),
            v4: Ipv4Addr::new(10, 79, network, host),
            v6: Ipv6Addr::new(0xfd79, network.into(), 0, 0, 0, 0, 0, host.into()),
        };
        let (namespace, path) = (&neighbour.namespace, neighbour.namespace.path());
        middle.ip(&format!(
            "link add {name} type veth peer name eth0 netns {}\nlink set {name} up",
            path.display()
        ));
        namespace.ip(&format!(
            "link set eth0 up
             addr add {}/24 dev eth0
             addr add {}/64 dev eth0 nodad",
            neighbour.v4, neighbour.v6
        ));
        if by == By::Router {
            let (v4, v6) = (
                format!("10.79.{network}.254"),
                format!("fd79:{network}::254"),
            );
            middle.ip(&format!(
                "addr add {v4}/24 dev {name}\naddr add {v6}/64 dev {name} nodad"
            ));
            namespace.ip(&format!(
                "route add default via {v4}\nroute add default via {v6} dev eth0"
            ));
        }
        neighbour
    }

    fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }
}

#[test]
fn packets_that_are_bridged_or_routed_wait_in_their_direction() {
    const COUNT: u64 = 100;
    for by in [By::Bridge, By::Router] {
        let middle = Middle::new(by);
        for engine in engines() {
            for sender in Side::ALL {
                let way = sender.direction();
                let line = format!(
                    "latency 200ms --proto udp --iface far0 --engine {engine} --direction {way}"
                );
                let line = Line::start(&middle.namespace, &line);
                for family in Family::ALL {
                    let took = middle.datagrams(sender, family, COUNT);
                    assert!(
                        took + EARLY >= 200 * MILLISECOND,
                        "{by:?} {line:?}: {took:?}"
                    );
                    let other = if sender == Side::Near {
                        Side::Far
                    } else {
                        Side::Near
                    };
                    middle.datagrams(other, family, COUNT);
                }
                let said = line.end().remove(0);
                assert_eq!(
                    (said.held, said.sent),
                    (2 * COUNT, 2 * COUNT),
                    "{by:?} {said:?}"
                );
            }
        }
    }
}

/// A frame that comes from a namespace on the same machine still has its socket there.
#[test]
fn tcp_of_a_neighbour_is_not_held_back_by_what_is_held() {
    const LEN: u64 = 4_000_000;
    for by in [By::Bridge, By::Router] {
        let middle = Middle::new(by);
        for engine in engines() {
            for sender in Side::ALL {
                let plain = middle.bytes(sender, Family::V4, LEN);
                let way = sender.direction();
                let line = format!("latency 10ms --iface far0 --engine {engine} --direction {way}");
                let line = Line::start(&middle.namespace, &line);
                let held = middle.bytes(sender, Family::V4, LEN);
                assert_eq!(line.end()[0].dropped, 0);
                // Held frames that counted as unsent would leave TCP a few KB for each of
                // the 10 ms: hundreds of them.
                assert!(
                    held < 10 * plain + 2_000 * MILLISECOND,
                    "{by:?} {engine} {way}: {held:?} {plain:?}"
                );
            }
        }
    }
}
