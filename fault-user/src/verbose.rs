//! Packets that rules decided about, one by one, as the programs tell of them through aya-log.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use aya::Ebpf;
use aya_log::EbpfLogger;
use fault_common::{
    decide::Decision,
    layout::Direction,
    packet::{Flow, protocol},
};
use log::{Log, Metadata, Record};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::JoinSet,
};

use crate::error::KernelError;

/// A packet, and what a rule decided about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where it was seen.
    pub iface: String,
    /// The rule.
    pub rule: String,
    /// What it decided.
    pub decision: Decision,
    /// Which way the packet goes.
    pub direction: Direction,
    /// What it is.
    pub what: What,
    /// Bytes of the frame.
    pub bytes: u32,
    /// How many the rule decided about before, in this direction.
    pub sequence: u64,
}

/// What a packet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An IP packet.
    Ip {
        /// The remote end.
        far: End,
        /// The local end.
        near: End,
        /// Its protocol, if the headers could be followed.
        protocol: Option<u8>,
    },
    /// ARP.
    Arp,
    /// Something else.
    Other,
}

/// An end of a packet: the port is known for some protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: Option<u16>,
}

/// Packets as they are told, until it is dropped.
pub struct Verbose {
    packets: UnboundedReceiver<Packet>,
    _readers: JoinSet<()>,
}

/// What is loaded for an interface, and what its rules are called.
pub struct Source<'a> {
    /// The object.
    pub ebpf: &'a mut Ebpf,
    /// The interface.
    pub iface: &'a str,
    /// The number of the first rule.
    pub first_rule: u32,
    /// Names of the rules, from the first.
    pub rules: Vec<String>,
}

impl Verbose {
    /// Listens to objects. Inside a runtime.
    pub fn listen<'a>(sources: impl IntoIterator<Item = Source<'a>>) -> Result<Self, KernelError> {
        let (sender, packets) = mpsc::unbounded_channel();
        let mut readers = JoinSet::new();
        for source in sources {
            let hearer = Hearer {
                iface: source.iface.to_owned(),
                first_rule: source.first_rule,
                rules: source.rules,
                sender: sender.clone(),
            };
            let logger = EbpfLogger::init_with_logger(source.ebpf, hearer)
                .map_err(|_| KernelError::ObjectVersion)?;
            // SAFETY: the descriptor is that of the logger's ring buffer, for its whole life.
            let logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
            let mut logger = logger.map_err(KernelError::system("wait for packets"))?;
            readers.spawn(async move {
                while let Ok(mut ready) = logger.readable_mut().await {
                    ready.get_inner_mut().flush();
                    ready.clear_ready();
                }
            });
        }
        Ok(Self {
            packets,
            _readers: readers,
        })
    }

    /// The next packet.
    pub async fn next(&mut self) -> Option<Packet> {
        self.packets.recv().await
    }
}

/// Takes the words of the programs.
struct Hearer {
    iface: String,
    first_rule: u32,
    rules: Vec<String>,
    sender: UnboundedSender<Packet>,
}

impl Log for Hearer {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(packet) = self.packet(&record.args().to_string()) {
            // Nobody listens any more when the fault ends.
            let _ = self.sender.send(packet);
        }
    }

    fn flush(&self) {}
}

impl Hearer {
    /// In the order of fault-ebpf's `verbose`.
    fn packet(&self, line: &str) -> Option<Packet> {
        let mut words = line.split(' ');
        let rule: u32 = next(&mut words)?;
        let decision = match next(&mut words)? {
            0 => Decision::Pass,
            1 => Decision::Drop,
            2 => Decision::Mark,
            3 => Decision::Delay,
            4 => Decision::Duplicate,
            _ => return None,
        };
        let direction = *Direction::ALL.get(next::<usize>(&mut words)?)?;
        let flags: u32 = next(&mut words)?;
        let has_ports = flags & Flow::PORTS != 0;
        let mut end = || {
            let address: Ipv6Addr = next(&mut words)?;
            let port = next(&mut words)?;
            Some(End {
                address: address.to_canonical(),
                port: has_ports.then_some(port),
            })
        };
        let (far, near) = (end()?, end()?);
        let protocol: u32 = next(&mut words)?;
        let what = if flags & (Flow::IPV4 | Flow::IPV6) != 0 {
            What::Ip {
                far,
                near,
                protocol: protocol.try_into().ok(),
            }
        } else if flags & Flow::ARP != 0 {
            What::Arp
        } else {
            What::Other
        };
        let name = rule.checked_sub(self.first_rule)?;
        Some(Packet {
            iface: self.iface.clone(),
            rule: self.rules.get(usize::try_from(name).ok()?)?.clone(),
            decision,
            direction,
            what,
            bytes: next(&mut words)?,
            sequence: next(&mut words)?,
        })
    }
}

fn next<'a, T: FromStr>(words: &mut impl Iterator<Item = &'a str>) -> Option<T> {
    words.next()?.parse().ok()
}

impl Packet {
    /// What became of it.
    pub fn outcome(&self) -> &'static str {
        match self.decision {
            Decision::Pass => "passed",
            Decision::Drop => "dropped",
            Decision::Mark => "marked",
            Decision::Delay => "delayed",
            Decision::Duplicate => "duplicated",
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            iface,
            rule,
            bytes,
            sequence,
            ..
        } = self;
        let (outcome, direction) = (self.outcome(), self.direction.name());
        write!(f, "{rule} on `{iface}` {direction} {outcome} ")?;
        match self.what {
            What::Ip {
                far,
                near,
                protocol,
            } => {
                let (from, to) = match self.direction {
                    Direction::Egress => (near, far),
                    Direction::Ingress => (far, near),
                };
                match protocol {
                    Some(protocol::ICMP) => write!(f, "icmp"),
                    Some(protocol::ICMPV6) => write!(f, "icmpv6"),
                    Some(protocol::TCP) => write!(f, "tcp"),
                    Some(protocol::UDP) => write!(f, "udp"),
                    Some(protocol::SCTP) => write!(f, "sctp"),
                    Some(other) => write!(f, "protocol {other}"),
                    None => write!(f, "IP"),
                }?;
                write!(f, " {from} > {to}")?;
            }
            What::Arp => write!(f, "ARP")?,
            What::Other => write!(f, "a frame that is not IP")?,
        }
        write!(f, ", {bytes} bytes, number {sequence}")
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}", std::net::SocketAddr::new(self.address, port)),
            None => write!(f, "{}", self.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_a_packet_with_its_ends_in_the_order_of_its_way() {
        let hearer = Hearer {
            iface: "eth0".into(),
            first_rule: 32,
            rules: vec!["loss".into()],
            sender: mpsc::unbounded_channel().0,
        };
        for (line, text) in [
            (
                "32 1 0 5 ::ffff:10.0.0.2 443 ::ffff:10.0.0.1 5000 6 1514 7",
                "loss on `eth0` egress dropped tcp 10.0.0.1:5000 > 10.0.0.2:443, 1514 bytes, number 7",
            ),
            (
                "32 0 1 2 fd77::2 0 fd77::1 0 58 118 0",
                "loss on `eth0` ingress passed icmpv6 fd77::2 > fd77::1, 118 bytes, number 0",
            ),
            (
                "32 1 0 16 :: 0 :: 0 256 42 1",
                "loss on `eth0` egress dropped ARP, 42 bytes, number 1",
            ),
        ] {
            let packet = hearer.packet(line).expect("eleven words");
            assert_eq!(packet.to_string(), text);
        }
        for line in [
            "",
            "31 1 0 5",
            "33 1 0 5 :: 0 :: 0 6 1 1",
            "32 9 0 5 :: 0 :: 0 6 1 1",
        ] {
            assert_eq!(hearer.packet(line), None);
        }
    }
}
