//! Rule sets and frames that meet each other often, from a seed.

#![expect(
    clippy::cast_possible_truncation,
    reason = "small numbers, and fields cut out of larger ones"
)]

use fault_common::{
    address::{Address, Network},
    chain::Chain,
    layout::{
        Connection, Delay, Fault, Model as Kind, NEAR_NETWORKS, PORT_RANGES, PortRange, Ports,
        RULES_PER_TARGET, Rule, SPARED,
    },
    packet::LinkLayer,
    random::{draw, probability},
};
use fault_user::spec::{NamedRule, RuleSet, compile::Target};

/// Random choices from a seed.
pub struct Dice {
    seed: u64,
    thrown: u64,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { seed, thrown: 0 }
    }

    pub fn number(&mut self) -> u64 {
        self.thrown += 1;
        draw(self.seed, self.thrown)
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.number() % n as u64).expect("below a usize")
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn byte(&mut self) -> u8 {
        self.number().to_le_bytes()[0]
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.byte()).collect()
    }

    /// One of few addresses, so that rules and frames meet; sometimes any.
    fn v4(&mut self) -> [u8; 4] {
        match self.below(8) {
            0 => [self.byte(), self.byte(), self.byte(), self.byte()],
            _ => [
                10,
                self.of(&[0, 1, 77]),
                self.of(&[0, 128, 255]),
                self.of(&[1, 2]),
            ],
        }
    }

    fn v6(&mut self) -> [u8; 16] {
        let mut address = [0; 16];
        address[..2].copy_from_slice(&self.of(&[[0xfd, 0x77], [0x20, 0x01], [0, 0]]));
        address[7] = self.of(&[0, 1, 0x80]);
        // `::ffff:…` in the header of a real IPv6 packet.
        if self.one_in(10) {
            address[10..12].fill(0xff);
        }
        address[15] = self.of(&[1, 2]);
        address
    }

    fn address(&mut self) -> Address {
        if self.one_in(2) {
            Address::from_v4(self.v4())
        } else {
            Address::from_v6(self.v6())
        }
    }

    fn port(&mut self) -> u16 {
        self.of(&[0, 53, 80, 443, 8080, 65535])
    }

    fn protocol(&mut self) -> u8 {
        match self.below(8) {
            0 => self.byte(),
            _ => self.of(&[1, 6, 17, 33, 58, 132, 136, 59, 47]),
        }
    }
}

/// A rule set in which every kind of entry and filter turns up.
pub fn rule_set(dice: &mut Dice) -> RuleSet {
    let rules: Vec<_> = (0..=dice.below(6)).map(|_| rule(dice)).collect();
    let count = u32::try_from(rules.len()).expect("few rules");
    let targets: Vec<_> = (0..=dice.below(6))
        .map(|_| {
            let len = dice.below(RULES_PER_TARGET + 1);
            let rules = (0..len).map(|_| dice.below(count as usize) as u32);
            Target {
                rules: rules.collect(),
                wait_ns: dice.of(&[0, 0, 1, 1_000_000, 1 << 38]),
            }
        })
        .collect();
    let any = |dice: &mut Dice| dice.below(targets.len()) as u32;
    let mut hosts: Vec<(Address, u32)> = Vec::new();
    let mut prefixes: Vec<(Address, u32, u32)> = Vec::new();
    for _ in 0..dice.below(8) {
        let address = dice.address();
        if hosts.iter().all(|(other, _)| *other != address) {
            hosts.push((address, any(dice)));
        }
    }
    for _ in 0..dice.below(8) {
        let len = dice.of(&[0, 7, 8, 16, 64, 96, 100, 104, 112, 120, 127, 128]);
        let address = dice.address();
        let same = |other: &(Address, u32, u32)| {
            other.1 == len && Network::new(other.0, len).contains(address)
        };
        if !prefixes.iter().any(same) {
            prefixes.push((address, len, any(dice)));
        }
    }
    RuleSet {
        default_target: (!dice.one_in(3)).then(|| any(dice)),
        rules,
        targets,
        hosts,
        prefixes,
        quantiles: QUANTILES.to_vec(),
    }
}

/// The table of a distribution: not its order, its values count.
const QUANTILES: [i16; 5] = [0, -8192, 8192, i16::MAX, i16::MIN];

fn rule(dice: &mut Dice) -> NamedRule {
    let kind = dice.of(&[
        Kind::Random,
        Kind::Random,
        Kind::Every,
        Kind::Mark,
        Kind::Correlated,
        Kind::Burst,
        Kind::Gemodel,
        Kind::State,
        Kind::Duplicate,
        Kind::Delay,
        Kind::Delay,
    ]);
    let any = u64::from(u32::MAX);
    let mut rule = Rule {
        fault: Fault::Loss as u32,
        model: kind as u32,
        directions: dice.of(&[1, 2, 3, 3]),
        flags: dice.of(&[0, 0, Rule::EVERY_FRAME]),
        probability: dice.of(&[0, probability::ONE, probability::ONE / 2, 1 << 20]),
        chain: chain(dice),
        delay: delay(dice),
        every: 1 + dice.below(5) as u64,
        seed: dice.number(),
        flows: dice.of(&[0, 0, probability::ONE / 2, probability::ONE - 1]),
        flow_seed: dice.number(),
        mark: (dice.number() & any) as u32,
        mark_mask: dice.of(&[0, 0xff, u32::MAX]),
        dscp: dice.of(&[Rule::NO_DSCP, 0, 46, 63]),
        ..Rule::default()
    };
    if dice.one_in(3) {
        for _ in 0..=dice.below(3) {
            let protocol = usize::from(dice.protocol());
            rule.protocols[protocol / 64] |= 1 << (protocol % 64);
        }
    }
    if dice.one_in(4) {
        rule.far_ports = ports(dice);
    }
    if dice.one_in(4) {
        rule.near_ports = ports(dice);
    }
    if dice.one_in(4) {
        rule.near_len = 1 + dice.below(NEAR_NETWORKS) as u32;
        for n in 0..rule.near_len as usize {
            let len = dice.of(&[0, 96, 104, 112, 127, 128]);
            rule.near[n] = Network::new(dice.address(), len);
        }
    }
    NamedRule {
        name: "generated".into(),
        asked: String::new(),
        probability: None,
        rule,
    }
}

fn delay(dice: &mut Dice) -> Delay {
    Delay {
        mean_ns: dice.of(&[0, 1, 1_000_000, 1 << 37]),
        jitter_ns: dice.of(&[0, 1000, 2_000_000, (1 << 38) - 1]),
        correlation: dice.of(&[0, probability::ONE / 2, probability::ONE]),
        table_len: dice.below(QUANTILES.len() + 1) as u32,
        gap: dice.of(&[0, 1, 3]),
        ..Delay::default()
    }
}

fn chain(dice: &mut Dice) -> Chain {
    let one = probability::ONE;
    let mut share = || dice.of(&[0, one, one / 2, one / 8, 1 << 20]);
    let [p, r, bad, good, other] = [share(), share(), share(), share(), share()];
    match dice.below(3) {
        0 => Chain::gilbert(bad, p, r),
        1 => Chain::gilbert_elliott(p, r, bad, good),
        _ => Chain::four_states(p / 2, r / 2, bad / 2, good, other / 2),
    }
}

fn ports(dice: &mut Dice) -> Ports {
    let mut ports = Ports {
        len: 1 + dice.below(PORT_RANGES) as u32,
        ..Ports::default()
    };
    for n in 0..ports.len as usize {
        let (a, b) = (dice.port(), dice.port());
        ports.ranges[n] = PortRange {
            first: a.min(b),
            last: a.max(b),
        };
    }
    ports
}

/// Connections for rules to leave alone.
pub fn connections(dice: &mut Dice) -> Vec<Connection> {
    (0..SPARED)
        .map(|n| {
            let (far, near) = if n.is_multiple_of(2) {
                (Address::from_v4(dice.v4()), Address::from_v4(dice.v4()))
            } else {
                (Address::from_v6(dice.v6()), Address::from_v6(dice.v6()))
            };
            Connection {
                far,
                near,
                far_port: dice.port().into(),
                near_port: dice.port().into(),
            }
        })
        .collect()
}

/// A frame of which most are well formed, and some are cut or overwritten; one in four
/// is of one of the connections, or nearly.
pub fn frame(dice: &mut Dice, link: LinkLayer, connections: &[Connection]) -> Vec<u8> {
    let ends = if dice.one_in(4) {
        Ends::nearly(dice, connections)
    } else {
        Ends::any(dice)
    };
    let (ether_type, packet) = match ends.addresses {
        Addresses::V4(addresses) => (0x0800_u16, ipv4(dice, &ends, addresses)),
        Addresses::V6(addresses) => (0x86dd, ipv6(dice, &ends, addresses)),
    };
    let mut frame = Vec::new();
    if link == LinkLayer::Ethernet {
        frame.extend(dice.bytes(12));
        // The kernel hands multicast and foreign frames on just the same.
        for _ in 0..dice.of(&[0, 0, 0, 1, 2, 3]) {
            frame.extend(dice.of(&[0x8100_u16, 0x88a8, 0x9100]).to_be_bytes());
            frame.extend(dice.bytes(2));
        }
        let ether_type = if dice.one_in(20) { 0x0806 } else { ether_type };
        frame.extend(ether_type.to_be_bytes());
    }
    frame.extend(packet);
    if dice.one_in(10) {
        frame.truncate(dice.below(frame.len() + 1));
    }
    if dice.one_in(10) && !frame.is_empty() {
        let place = dice.below(frame.len());
        frame[place] = dice.byte();
    }
    frame
}

/// Who sends what to whom.
struct Ends {
    /// Source and destination.
    addresses: Addresses,
    protocol: u8,
    /// Of both, or what stands in their place.
    ports: [u8; 4],
}

enum Addresses {
    V4([[u8; 4]; 2]),
    V6([[u8; 16]; 2]),
}

impl Ends {
    fn any(dice: &mut Dice) -> Self {
        Self {
            addresses: if dice.one_in(2) {
                Addresses::V4([dice.v4(), dice.v4()])
            } else {
                Addresses::V6([dice.v6(), dice.v6()])
            },
            protocol: dice.protocol(),
            ports: if dice.one_in(4) {
                let kind = dice.of(&[133, 135, 136, 137, 138, 128]);
                [kind, dice.byte(), dice.byte(), dice.byte()]
            } else {
                ports_of(dice.port(), dice.port())
            },
        }
    }

    fn nearly(dice: &mut Dice, connections: &[Connection]) -> Self {
        let connection = dice.of(connections);
        let seen = if dice.one_in(2) {
            connection
        } else {
            connection.reversed()
        };
        let [source, destination] = [seen.near, seen.far].map(Address::octets);
        let port = |dice: &mut Dice, port: u32| {
            if dice.one_in(8) {
                dice.port()
            } else {
                port as u16
            }
        };
        Self {
            addresses: if source[..12] == Address::from_v4([0; 4]).octets()[..12] {
                let last = |address: [u8; 16]| *address.last_chunk().expect("four bytes");
                Addresses::V4([source, destination].map(last))
            } else {
                Addresses::V6([source, destination])
            },
            protocol: if dice.one_in(8) { dice.protocol() } else { 6 },
            ports: ports_of(port(dice, seen.near_port), port(dice, seen.far_port)),
        }
    }
}

fn ports_of(source: u16, destination: u16) -> [u8; 4] {
    (u32::from(source) << 16 | u32::from(destination)).to_be_bytes()
}

fn ipv4(dice: &mut Dice, ends: &Ends, [source, destination]: [[u8; 4]; 2]) -> Vec<u8> {
    let options = 4 * dice.of(&[0, 0, 0, 1, 10]);
    let fragment: u16 = dice.of(&[0, 0, 0x4000, 0x2000, 0x2001, 0x1fff]);
    let mut packet = vec![0x40 | (5 + options / 4) as u8, dice.byte()];
    packet.extend(dice.bytes(4));
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, ends.protocol, 0, 0]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend(dice.bytes(options));
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(upper(dice, ends));
    packet
}

fn ipv6(dice: &mut Dice, ends: &Ends, [source, destination]: [[u8; 16]; 2]) -> Vec<u8> {
    let mut extensions = Vec::new();
    let mut kinds = Vec::new();
    for _ in 0..dice.of(&[0, 0, 0, 1, 2, 7, 8, 9]) {
        let kind = dice.of(&[0_u8, 43, 44, 51, 60, 135, 139, 140]);
        let units = dice.of(&[0_u8, 0, 1, 2]);
        let mut header = vec![0; 8];
        match kind {
            44 => header[2..4].copy_from_slice(&dice.of(&[0_u16, 1, 8, 0xfff8]).to_be_bytes()),
            51 => {
                header = vec![0; 8 + 4 * usize::from(units)];
                header[1] = units;
            }
            _ => {
                header = vec![0; 8 + 8 * usize::from(units)];
                header[1] = units;
            }
        }
        kinds.push(kind);
        extensions.push(header);
    }
    kinds.push(ends.protocol);
    for (header, next) in extensions.iter_mut().zip(&kinds[1..]) {
        header[0] = *next;
    }
    let mut packet = vec![0x60 | dice.byte() & 0x0f, dice.byte(), 0, 0, 0, 0];
    packet.extend([kinds[0], dice.of(&[64, 255])]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend(extensions.concat());
    packet.extend(upper(dice, ends));
    packet
}

/// Ports, or what stands in their place, and some bytes.
fn upper(dice: &mut Dice, ends: &Ends) -> Vec<u8> {
    let mut bytes = ends.ports.to_vec();
    let rest = dice.below(32);
    bytes.extend(dice.bytes(rest));
    bytes
}

/// RFC 1071
pub fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
