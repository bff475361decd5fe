use fault_common::{
    decide::matches,
    layout::{Direction, Fault},
    packet::Flow,
};
use proptest::prelude::*;

use super::*;

use crate::spec::{Directions, Selectors, Waits, port::parse_range};

fn spec(kind: FaultKind, selectors: Selectors) -> FaultSpec {
    FaultSpec {
        kind,
        selectors,
        waits: Waits::default(),
        seed: None,
    }
}

fn hit_with(rules: &[u32]) -> Target {
    Target {
        rules: rules.to_vec(),
        wait_ns: 0,
    }
}

fn to(list: &[&str]) -> Selectors {
    Selectors {
        to: nets(list),
        ..Selectors::default()
    }
}

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

fn compiled(kind: FaultKind, selectors: Selectors) -> RuleSet {
    compile(&spec(kind, selectors), 7).unwrap()
}

fn percent(text: &str) -> Percent {
    text.parse().unwrap()
}

fn random(points: &str, correlation: &str) -> FaultKind {
    FaultKind::Loss(Loss::Random {
        percent: percent(points),
        correlation: percent(correlation),
    })
}

impl RuleSet {
    /// What the kernel's tables answer.
    fn look_up(&self, address: IpAddr) -> Option<u32> {
        let (address, _) = mapped(&address.into());
        let host = self.hosts.iter().find(|(host, _)| *host == address);
        let prefix = self
            .prefixes
            .iter()
            .filter(|(bits, length, _)| Network::new(*bits, *length).contains(address))
            .max_by_key(|(_, length, _)| *length);
        host.map(|(_, target)| *target)
            .or(prefix.map(|(_, _, target)| *target))
            .or(self.default_target)
    }

    /// Whether some rule takes a packet between two addresses.
    fn takes(&self, far: IpAddr, near: IpAddr) -> bool {
        let flow = Flow {
            far: mapped(&far.into()).0,
            near: mapped(&near.into()).0,
            protocol: 6,
            far_port: 80,
            near_port: 40_000,
            network_offset: 14,
            flags: Flow::PORTS
                | if far.is_ipv4() {
                    Flow::IPV4
                } else {
                    Flow::IPV6
                },
        };
        let target = self
            .look_up(far)
            .map(|target| &self.targets[target as usize].rules);
        target.into_iter().flatten().any(|rule| {
            let rule = &self.rules[*rule as usize].rule;
            matches(rule, &flow, Direction::Egress)
        })
    }
}

#[test]
fn loss_without_selectors_takes_every_frame() {
    let set = compiled(random("50", "0"), Selectors::default());
    let [named] = &set.rules[..] else {
        panic!("one rule")
    };
    assert_eq!(named.name, "loss");
    assert_eq!(named.asked, "50%");
    assert_eq!(named.probability, Some(0.5));
    assert_eq!(named.rule.fault, Fault::Loss as u32);
    assert_eq!(named.rule.model, Model::Random as u32);
    assert_eq!(named.rule.probability, 1 << 31);
    assert_eq!(named.rule.chain, Chain::default());
    assert_eq!(named.rule.flags, Rule::EVERY_FRAME);
    assert_eq!(named.rule.directions, Direction::Egress.bit());
    assert_eq!(named.rule.dscp, Rule::NO_DSCP);
    assert_eq!(set.targets, [hit_with(&[0])]);
    assert_eq!(set.default_target, Some(0));
    assert!(set.hosts.is_empty() && set.prefixes.is_empty());
    assert!(matches(&named.rule, &Flow::default(), Direction::Egress));
}

#[test]
fn any_address_port_protocol_or_flow_keeps_to_ip_packets() {
    let one = || nets(&["10.0.0.0/8"]);
    for selectors in [
        Selectors {
            to: one(),
            ..Selectors::default()
        },
        Selectors {
            from: one(),
            ..Selectors::default()
        },
        Selectors {
            from: nets(&["0.0.0.0/0", "::/0"]),
            ..Selectors::default()
        },
        Selectors {
            except: one(),
            ..Selectors::default()
        },
        Selectors {
            protocols: vec!["tcp".parse().unwrap()],
            ..Selectors::default()
        },
        Selectors {
            far_ports: vec![parse_range("80").unwrap()],
            ..Selectors::default()
        },
        Selectors {
            near_ports: vec![parse_range("80").unwrap()],
            ..Selectors::default()
        },
        Selectors {
            flows: Some(percent("10%")),
            ..Selectors::default()
        },
    ] {
        let set = compiled(FaultKind::Down, selectors);
        assert_eq!(set.rules[0].rule.flags, 0);
    }
    let ingress = Selectors {
        directions: Directions::Ingress,
        ..Selectors::default()
    };
    let set = compiled(FaultKind::Down, ingress);
    assert_eq!(set.rules[0].rule.flags, Rule::EVERY_FRAME);
    assert_eq!(set.rules[0].rule.directions, Direction::Ingress.bit());
}

#[test]
fn each_kind_asks_for_what_it_says() {
    let mark = |skb: Option<&str>, dscp: Option<&str>| {
        FaultKind::Mark(Mark {
            skb: skb.map(|text| text.parse().unwrap()),
            dscp: dscp.map(|text| text.parse().unwrap()),
        })
    };
    let netem = |words: &str| {
        let words: Vec<_> = words.split(' ').collect();
        let kind = FaultKind::of_netem(&netem::parse(&words).unwrap()).unwrap();
        kind.parts()[0].clone()
    };
    let every = FaultKind::Loss(Loss::Every(10.try_into().unwrap()));
    for (kind, name, asked, probability) in [
        (
            random("10", "75%"),
            "loss",
            "10% correlation 75%",
            Some(0.1),
        ),
        (every.clone(), "loss", "1 in 10", Some(0.1)),
        (FaultKind::Partition, "partition", "all", Some(1.0)),
        (FaultKind::Down, "down", "all", Some(1.0)),
        (mark(Some("0x10/0xff"), None), "mark", "0x10/0xff", None),
        (mark(None, Some("ef")), "mark", "dscp 46", None),
        (mark(Some("1"), Some("af11")), "mark", "0x1 dscp 10", None),
        (
            netem("delay 100ms 10ms 25% distribution normal"),
            "latency",
            "100ms ±10ms normal correlation 25%",
            None,
        ),
        (
            netem("delay 10ms reorder 25% 50% gap 5"),
            "reorder",
            "25% correlation 50% gap 5, others 10ms",
            None,
        ),
        (netem("duplicate 1%"), "duplicate", "1%", None),
        (
            netem("rate 10mbit -14 53"),
            "rate",
            "10mbit overhead -14b cells 53b",
            None,
        ),
    ] {
        let set = compiled(kind.clone(), Selectors::default());
        let named = &set.rules[0];
        assert_eq!((named.name.as_str(), named.asked.as_str()), (name, asked));
        assert_eq!(named.probability, probability);
        let fault = Fault::from_number(named.rule.fault);
        assert_eq!(fault.map(Fault::name), Some(kind.name()));
        assert_eq!(FaultKind::of(&named.rule), Some(kind));
    }
    let rule = |kind| compiled(kind, Selectors::default()).rules[0].rule;
    assert_eq!(rule(every.clone()).model, Model::Every as u32);
    assert_eq!(rule(every).every, 10);
    assert_eq!(rule(FaultKind::Down).probability, 1 << 32);
    assert_eq!(rule(FaultKind::Partition).model, Model::Random as u32);
    let marked = rule(mark(Some("0x10/0xff"), Some("ef")));
    assert_eq!(marked.model, Model::Mark as u32);
    assert_eq!(
        (marked.mark, marked.mark_mask, marked.dscp),
        (0x10, 0xff, 46)
    );
    assert_eq!(rule(mark(None, Some("ef"))).mark_mask, 0);
    assert_eq!(rule(mark(Some("1"), None)).dscp, Rule::NO_DSCP);
}

#[test]
fn models_of_bursts_reach_the_rule_and_are_read_back() {
    let burst = |points, length: &str| {
        let burst = Burst::new(percent(points), length.parse().unwrap());
        Loss::Burst(burst.unwrap())
    };
    for (loss, model, asked, probability) in [
        (burst("20", "5"), Model::Burst, "20% burst 5", 0.2),
        (
            Loss::Gemodel("1,10,80,0.1".parse().unwrap()),
            Model::Gemodel,
            "7.364% gemodel 1,10,80,0.1",
            0.81 / 11.0,
        ),
        (
            Loss::State("1,10,5,50,1".parse().unwrap()),
            Model::State,
            "9.821% state 1,10,5,50,1",
            0.55 / 5.6,
        ),
        (
            Loss::Random {
                percent: percent("10"),
                correlation: percent("75"),
            },
            Model::Correlated,
            "10% correlation 75%",
            0.1,
        ),
    ] {
        let kind = FaultKind::Loss(loss);
        let set = compiled(kind.clone(), Selectors::default());
        let named = &set.rules[0];
        assert_eq!(named.rule.model, model as u32);
        assert!(named.rule.has_chain());
        assert_eq!(named.asked, asked);
        assert!((named.probability.unwrap() - probability).abs() < 1e-12);
        assert_eq!(FaultKind::of(&named.rule), Some(kind));
    }
    let rule = compiled(
        FaultKind::Loss(Loss::Random {
            percent: percent("10"),
            correlation: percent("75"),
        }),
        Selectors::default(),
    )
    .rules[0]
        .rule;
    // A loss follows a loss in 75 % and a quarter of 10 %, a packet that passed in a
    // quarter of 10 %.
    let share = |from| percent_of(rule.chain.transition(from, BURST_LOSS));
    assert_eq!(
        [START, GOOD, BURST_LOSS].map(share),
        ["10%", "2.5%", "77.5%"]
    );
}

fn percent_of(steps: u64) -> String {
    Percent::from_steps(steps).to_string()
}

#[test]
fn filters_reach_the_rule() {
    let set = compiled(
        FaultKind::Partition,
        Selectors {
            from: nets(&["10.0.0.0/8", "fd00::/8"]),
            protocols: ["icmp", "tcp", "255"]
                .map(|text| text.parse().unwrap())
                .into(),
            far_ports: ["443", "80-90", "85-100"]
                .map(|text| parse_range(text).unwrap())
                .into(),
            near_ports: vec![parse_range("1").unwrap()],
            directions: Directions::Both,
            ..Selectors::default()
        },
    );
    let rule = &set.rules[0].rule;
    assert_eq!(rule.directions, 3);
    assert_eq!(rule.protocols, [1 << 1 | 1 << 6 | 1 << 58, 0, 0, 1 << 63]);
    assert_eq!(rule.far_ports.len, 2);
    assert_eq!(
        (
            rule.far_ports.ranges[0].first,
            rule.far_ports.ranges[0].last
        ),
        (80, 100)
    );
    assert_eq!(rule.near_ports.len, 1);
    assert_eq!(rule.near_len, 2);
}

#[test]
fn hosts_and_prefixes_go_to_their_tables() {
    let set = compiled(
        FaultKind::Partition,
        to(&[
            "10.0.0.7/32",
            "10.0.0.7/32",
            "fd00::1/128",
            "10.0.0.0/8",
            "fd00::/8",
            "0.0.0.0/0",
        ]),
    );
    assert_eq!(set.hosts.len(), 2);
    let mut lengths: Vec<u32> = set.prefixes.iter().map(|(_, length, _)| *length).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [8, 96, 104]);
    assert_eq!(set.default_target, None);
    assert_eq!(set.targets, [hit_with(&[0])]);
}

#[test]
fn all_of_ipv6_leaves_ipv4_alone() {
    let (v4, v6) = ("10.0.0.7".parse().unwrap(), "2001:db8::1".parse().unwrap());
    for wide in ["::/0", "::/64", "::fffe:0:0/95"] {
        let set = compiled(FaultKind::Down, to(&[wide]));
        assert!(!set.takes(v4, v4), "{wide}");
    }
    let set = compiled(FaultKind::Down, to(&["::/0", "0.0.0.0/0"]));
    assert!(set.takes(v4, v4) && set.takes(v6, v6));
    let from = Selectors {
        from: nets(&["::/0"]),
        ..Selectors::default()
    };
    let set = compiled(FaultKind::Down, from);
    assert!(!set.takes(v4, v4) && set.takes(v6, v6));
    let except = Selectors {
        except: nets(&["::/0"]),
        ..Selectors::default()
    };
    let set = compiled(FaultKind::Down, except);
    assert!(set.takes(v4, v4) && !set.takes(v6, v6));
}

#[test]
fn seeds_repeat_and_differ() {
    let seed = |seed| {
        compile(&spec(FaultKind::Down, Selectors::default()), seed)
            .unwrap()
            .rules[0]
            .rule
            .seed
    };
    assert_eq!(seed(1), seed(1));
    assert_ne!(seed(1), seed(2));
}

#[test]
fn compile_refuses_what_check_refuses() {
    let spec = spec(
        FaultKind::Down,
        Selectors {
            to: nets(&["10.0.0.7/32"]),
            except: nets(&["10.0.0.0/8"]),
            ..Selectors::default()
        },
    );
    assert!(matches!(spec.check(), Err(Error::NothingLeft)));
    assert!(matches!(compile(&spec, 0), Err(Error::NothingLeft)));
}

/// Addresses that are close to each other, so that networks overlap.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0..4u32, any::<bool>()).prop_map(|(low, far)| {
            let base = if far { 0xc0a8_0000 } else { 0x0a00_0000 };
            IpAddr::V4((base + low).into())
        }),
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        (0..4u128, 0..4usize).prop_map(|(low, base)| {
            let bases = [0, 0xffff << 64, 0xfffe << 32, 0x2001_0db8 << 96];
            IpAddr::V6((bases[base] + low).into())
        }),
    ]
}

fn network() -> impl Strategy<Value = IpNet> {
    (
        address(),
        prop_oneof![0..=128u8, 0..=3u8, 94..=97u8, 125..=128u8],
    )
        .prop_map(|(address, length)| {
            let max = if address.is_ipv4() { 32 } else { 128 };
            let length = if length > max {
                max - (128 - length) % 4
            } else {
                length
            };
            IpNet::new(address, length).unwrap().trunc()
        })
}

/// What the selectors mean, read one by one.
fn meant(selectors: &Selectors, far: IpAddr, near: IpAddr) -> bool {
    let holds = |networks: &[IpNet], address: &IpAddr| {
        networks.iter().any(|network| network.contains(address))
    };
    !holds(&selectors.except, &far)
        && (selectors.to.is_empty() || holds(&selectors.to, &far))
        && (selectors.from.is_empty() || holds(&selectors.from, &near))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_model_of_bursts_is_read_back(
        points in 0.0..=100.0_f64,
        other in 0.0..=100.0_f64,
        length in prop_oneof![1.0..100.0_f64, 1.0..=1e6_f64],
    ) {
        let percent = Percent::new(points).unwrap();
        let other = Percent::new(other).unwrap();
        let mut models = vec![
            Loss::Random { percent, correlation: other },
            Loss::Gemodel(Gemodel { p: percent, r: other, bad: other, good: percent }),
        ];
        let half = Percent::new(points / 2.0).unwrap();
        models.extend(
            FourStates::new([half, other, Percent::default(), other, half]).map(Loss::State),
        );
        // At the bound, too.
        let most = Percent::new(100.0 * length / (length + 1.0)).unwrap();
        let length: BurstLength = length.to_string().parse().unwrap();
        for percent in [percent, most] {
            models.extend(Burst::new(percent, length).map(Loss::Burst));
        }
        let rule = |loss| compiled(FaultKind::Loss(loss), Selectors::default()).rules[0].rule;
        for loss in models {
            let there = rule(loss);
            let Some(back) = Loss::of(&there) else {
                return Err(TestCaseError::fail(format!("{loss:?}")));
            };
            let chains = [there.chain, rule(back).chain];
            for (from, to) in [START, GOOD, BAD, BURST_LOSS]
                .into_iter()
                .flat_map(|from| [GOOD, BAD, BURST_LOSS, ISOLATED_LOSS].map(|to| (from, to)))
            {
                // What comes of two numbers that were rounded before may differ: by a
                // step, and Gilbert's p by more where bursts lie close.
                let [one, other] = chains.map(|chain| chain.transition(from, to));
                let close = from == GOOD && matches!(loss, Loss::Burst(_));
                prop_assert!(close || one.abs_diff(other) <= 2, "{:?}, {:?}", loss, back);
            }
        }
    }

    #[test]
    fn tables_answer_as_the_selectors_mean(
        to in prop::collection::vec(network(), 0..6),
        from in prop::collection::vec(network(), 0..3),
        except in prop::collection::vec(network(), 0..4),
        more in prop::collection::vec((address(), address()), 20),
    ) {
        let selectors = Selectors { to, from, except, ..Selectors::default() };
        let listed = [&selectors.to, &selectors.from, &selectors.except]
            .into_iter()
            .flatten()
            .flat_map(|network| [network.network(), network.broadcast()])
            .collect::<Vec<_>>();
        let addresses: Vec<IpAddr> =
            listed.into_iter().chain(more.iter().flat_map(|(a, b)| [*a, *b])).collect();
        let set = compile(&spec(FaultKind::Partition, selectors.clone()), 0);
        for far in &addresses {
            for near in &addresses {
                // Both ends of a packet are of one family, and none carries a
                // mapped address.
                if far.is_ipv4() != near.is_ipv4() || is_mapped(far) || is_mapped(near) {
                    continue;
                }
                let meant = meant(&selectors, *far, *near);
                match &set {
                    Ok(set) => prop_assert_eq!(
                        set.takes(*far, *near), meant, "{} {} {:?}", far, near, set
                    ),
                    Err(Error::WideNearNetwork { .. }) => {}
                    Err(_) => prop_assert!(!meant, "{} {}", far, near),
                }
            }
        }
    }

    #[test]
    fn tables_name_each_network_once(
        to in prop::collection::vec(network(), 0..8),
        except in prop::collection::vec(network(), 0..8),
    ) {
        let selectors = Selectors { to, except, ..Selectors::default() };
        if let Ok(set) = compile(&spec(FaultKind::Partition, selectors), 0) {
            let mut hosts: Vec<_> = set.hosts.iter().map(|(host, _)| *host).collect();
            let mut prefixes: Vec<_> =
                set.prefixes.iter().map(|(bits, length, _)| (*bits, *length)).collect();
            let counts = (hosts.len(), prefixes.len());
            hosts.sort_unstable();
            hosts.dedup();
            prefixes.sort_unstable();
            prefixes.dedup();
            prop_assert_eq!((hosts.len(), prefixes.len()), counts);
        }
    }
}

fn is_mapped(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}
