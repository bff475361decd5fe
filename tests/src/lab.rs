//! Two namespaces and a veth pair between them.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::{
    namespace::Namespace,
    wait::{SOON, until},
};

/// A veth pair: the near end, where faults go, and the far end.
///
/// Neighbours are permanent and both ends are silent, so that whoever counts packets
/// counts those of the test only.
#[derive(Debug)]
pub struct Lab {
    /// Where faults go.
    pub near: Namespace,
    /// The other end.
    pub far: Namespace,
    /// The interface at the near end, `eth0` unless said otherwise.
    pub iface: String,
}

/// The interface at the far end.
pub const FAR_IFACE: &str = "eth1";
/// Link-layer address of the near end.
pub const NEAR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Link-layer address of the far end.
pub const FAR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Both ends have two addresses of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// 10.77.0.0/24
    V4,
    /// `fd77::/64`
    V6,
}

/// An end of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where faults go.
    Near,
    /// The other one.
    Far,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// First address of the near end, the source of what it sends.
    pub fn near(self) -> IpAddr {
        self.address(1)
    }

    /// Second address of the near end.
    pub fn near_other(self) -> IpAddr {
        self.address(0x11)
    }

    /// First address of the far end.
    pub fn far(self) -> IpAddr {
        self.address(2)
    }

    /// Second address of the far end.
    pub fn far_other(self) -> IpAddr {
        self.address(3)
    }

    /// Length of a prefix that is one address.
    pub fn host_len(self) -> u32 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    fn address(self, host: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, 77, 0, host).into(),
            Self::V6 => Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, host.into()).into(),
        }
    }
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Near, Self::Far];

    /// What `--direction` calls the way of a packet that this side sends.
    pub fn direction(self) -> &'static str {
        match self {
            Self::Near => "egress",
            Self::Far => "ingress",
        }
    }
}

impl Lab {
    /// A silent pair with permanent neighbours.
    pub fn new() -> Self {
        Self::with_iface("eth0")
    }

    /// The same, with another name for the interface at the near end.
    pub fn with_iface(iface: &str) -> Self {
        Self::build(iface, true)
    }

    /// A pair that resolves addresses by ARP and ND.
    pub fn resolving() -> Self {
        Self::build("eth0", false)
    }

    fn build(iface: &str, silent: bool) -> Self {
        let lab = Self {
            near: Namespace::new(),
            far: Namespace::new(),
            iface: iface.to_owned(),
        };
        let peer = lab.far.path();
        lab.near.ip(&format!(
            "link add {iface} address 02:00:00:00:00:01 type veth \
             peer name {FAR_IFACE} address 02:00:00:00:00:02 netns {}",
            peer.display()
        ));
        for side in Side::ALL {
            let (namespace, dev) = (lab.namespace(side), lab.dev(side));
            for (key, value) in [
                ("addr_gen_mode", "1"),
                ("router_solicitations", "0"),
                ("accept_ra", "0"),
                ("accept_dad", "0"),
                ("mldv2_unsolicited_report_interval", "1"),
            ] {
                namespace.set(&format!("ipv6/conf/{dev}/{key}"), value);
            }
            // An interface without ARP joins, and so reports, no solicited-node group.
            let arp = if silent { "off" } else { "on" };
            let mut lines = format!("link set {dev} arp {arp} up\n");
            // The first address is the source: IPv4 takes the first one, IPv6 none that
            // is deprecated.
            for (host, lifetime) in hosts(side).into_iter().zip(["", "preferred_lft 0"]) {
                let (v4, v6) = (Family::V4.address(host), Family::V6.address(host));
                writeln!(lines, "addr add {v4}/24 dev {dev}").expect("a string");
                writeln!(lines, "addr add {v6}/64 dev {dev} {lifetime}").expect("a string");
            }
            namespace.ip(&lines);
        }
        for side in Side::ALL {
            let namespace = lab.namespace(side);
            until("addresses are ready", SOON, || {
                let tentative = |line: &str| {
                    line.split_whitespace()
                        .nth(4)
                        .and_then(|flags| u32::from_str_radix(flags, 16).ok())
                        .is_none_or(|flags| flags & libc::IFA_F_TENTATIVE != 0)
                };
                (!namespace.proc("if_inet6").lines().any(tentative)).then_some(())
            });
        }
        if silent {
            lab.neighbours();
        }
        lab
    }

    /// Makes each end a permanent neighbour of the other, once more after a link was down.
    pub fn neighbours(&self) {
        for (side, other) in [(Side::Near, Side::Far), (Side::Far, Side::Near)] {
            let dev = self.dev(side);
            let mac = self.mac(other).map(|byte| format!("{byte:02x}")).join(":");
            let mut lines = String::new();
            for host in hosts(other) {
                for family in Family::ALL {
                    let address = family.address(host);
                    writeln!(lines, "neigh replace {address} lladdr {mac} dev {dev}")
                        .expect("a string");
                }
            }
            self.namespace(side).ip(&lines);
        }
    }

    /// The namespace of a side.
    pub fn namespace(&self, side: Side) -> &Namespace {
        match side {
            Side::Near => &self.near,
            Side::Far => &self.far,
        }
    }

    /// The interface of a side.
    pub fn dev(&self, side: Side) -> &str {
        match side {
            Side::Near => &self.iface,
            Side::Far => FAR_IFACE,
        }
    }

    /// The link-layer address of a side.
    pub fn mac(&self, side: Side) -> [u8; 6] {
        match side {
            Side::Near => NEAR_MAC,
            Side::Far => FAR_MAC,
        }
    }

    /// Packets that an interface has received and sent, by its own count.
    pub fn device_packets(&self, side: Side) -> (u64, u64) {
        let text = self.namespace(side).proc("dev");
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(self.dev(side))?.strip_prefix(':'))
            .expect("the interface is there");
        let number = |position| {
            line.split_whitespace()
                .nth(position)
                .and_then(|number| number.parse().ok())
                .expect("a number")
        };
        (number(1), number(9))
    }
}

fn hosts(side: Side) -> [u8; 2] {
    match side {
        Side::Near => [1, 0x11],
        Side::Far => [2, 3],
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

/// Port that tests send from.
pub const FROM_PORT: u16 = 40_000;
/// Port that tests send to.
pub const TO_PORT: u16 = 50_000;

/// Source and destination of what a side sends to the other's first address.
pub fn ends(family: Family, sender: Side) -> (SocketAddr, SocketAddr) {
    let (from, to) = match sender {
        Side::Near => (family.near(), family.far()),
        Side::Far => (family.far(), family.near()),
    };
    (
        SocketAddr::new(from, FROM_PORT),
        SocketAddr::new(to, TO_PORT),
    )
}
