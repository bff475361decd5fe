//! What the selectors of a fault come to, and whether any packet can match them.

use fault_common::layout::{NEAR_NETWORKS, PORT_RANGES, PortRange};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{FaultSpec, Protocol, Selectors, port};
use crate::Error;

/// Selectors without duplicates and without what cannot match.
#[derive(Debug)]
pub(super) struct Selection {
    /// Far ends that are hit, none of them inside `except`; None for any.
    pub(super) to: Option<Vec<IpNet>>,
    /// Far ends that are not.
    pub(super) except: Vec<IpNet>,
    /// Near ends; empty for any.
    pub(super) near: Vec<IpNet>,
    /// Ports of the far end; empty for any.
    pub(super) far_ports: Vec<PortRange>,
    /// Ports of the near end; empty for any.
    pub(super) near_ports: Vec<PortRange>,
    /// Whether the near ends have IPv4 among them.
    pub(super) v4: bool,
}

impl FaultSpec {
    /// Whether its selectors agree with each other and fit into a rule.
    pub fn check(&self) -> Result<(), Error> {
        Selection::new(&self.selectors).map(drop)
    }
}

impl Selection {
    pub(super) fn new(selectors: &Selectors) -> Result<Self, Error> {
        let far_ports = ports("--port", &selectors.far_ports, &selectors.protocols)?;
        let near_ports = ports("--local-port", &selectors.near_ports, &selectors.protocols)?;
        let near = near(&selectors.from)?;
        let has_family = |v4: bool| near.is_empty() || near.iter().any(|net| is_v4(net) == v4);
        let (v4, v6) = (has_family(true), has_family(false));

        let everywhere = [Ipv4Net::default().into(), Ipv6Net::default().into()];
        let asked = if selectors.to.is_empty() {
            &everywhere[..]
        } else {
            &selectors.to
        };
        let mut to: Vec<IpNet> = asked
            .iter()
            .filter(|net| if is_v4(net) { v4 } else { v6 })
            .copied()
            .collect();
        if to.is_empty() {
            return Err(Error::FamiliesDiffer);
        }
        let except = sorted(selectors.except.clone());
        let excepted = sorted(IpNet::aggregate(&except));
        to.retain(|net| !covers(&excepted, net));
        if to.is_empty() {
            return Err(Error::NothingLeft);
        }
        Ok(Self {
            to: (!selectors.to.is_empty()).then(|| sorted(to)),
            except,
            near,
            far_ports,
            near_ports,
            v4,
        })
    }
}

/// Whether a network holds all of `::ffff:0:0/96`, the mapped form of IPv4, though
/// it means IPv6: `::/0`, `::/64` and their like.
pub(super) fn spans_mapped_v4(network: &IpNet) -> bool {
    let mapped = std::net::Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();
    matches!(network, IpNet::V6(net) if net.prefix_len() < 96 && net.contains(&mapped))
}

fn is_v4(network: &IpNet) -> bool {
    matches!(network, IpNet::V4(_))
}

fn sorted(mut networks: Vec<IpNet>) -> Vec<IpNet> {
    networks.sort_unstable();
    networks.dedup();
    networks
}

/// Whether one of `disjoint`, which are sorted, holds all of a network.
fn covers(disjoint: &[IpNet], network: &IpNet) -> bool {
    let after = disjoint.partition_point(|one| one.network() <= network.network());
    after
        .checked_sub(1)
        .and_then(|before| disjoint.get(before))
        .is_some_and(|one| one.contains(network))
}

fn ports(
    option: &'static str,
    ranges: &[PortRange],
    protocols: &[Protocol],
) -> Result<Vec<PortRange>, Error> {
    if ranges.is_empty() {
        return Ok(Vec::new());
    }
    if !protocols.is_empty() && !protocols.iter().any(|protocol| protocol.has_ports()) {
        return Err(Error::NoPorts { option });
    }
    let merged = port::merge(ranges);
    if merged.len() > PORT_RANGES {
        return Err(Error::TooManyPortRanges {
            option,
            count: merged.len(),
            limit: PORT_RANGES,
        });
    }
    Ok(merged)
}

fn near(from: &[IpNet]) -> Result<Vec<IpNet>, Error> {
    let merged = IpNet::aggregate(&from.to_vec());
    let v4_all = merged.contains(&Ipv4Net::default().into());
    if v4_all && merged.contains(&Ipv6Net::default().into()) {
        return Ok(Vec::new());
    }
    // In mapped form such a network holds every IPv4 address too. That is right
    // beside `0.0.0.0/0`, and without IPv4 the tables keep IPv4 out; between the
    // two, a rule has no place for it.
    if let Some(network) = merged.iter().copied().find(spans_mapped_v4)
        && !v4_all
        && merged.iter().any(is_v4)
    {
        return Err(Error::WideNearNetwork { network });
    }
    if merged.len() > NEAR_NETWORKS {
        return Err(Error::TooManyNearNetworks {
            count: merged.len(),
            limit: NEAR_NETWORKS,
        });
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn select(to: &[&str], from: &[&str], except: &[&str]) -> Result<Selection, Error> {
        Selection::new(&Selectors {
            to: nets(to),
            from: nets(from),
            except: nets(except),
            ..Selectors::default()
        })
    }

    #[test]
    fn except_drops_what_it_covers_alone_or_together() {
        let selection = select(
            &["10.0.0.0/24", "10.0.0.7/32", "10.1.0.0/16", "10.0.0.0/8"],
            &[],
            &["10.0.0.0/25", "10.0.0.128/25"],
        );
        assert_eq!(
            selection.unwrap().to,
            Some(nets(&["10.0.0.0/8", "10.1.0.0/16"]))
        );
    }

    #[test]
    fn nothing_left_is_refused() {
        for (to, from, except) in [
            (
                &["10.0.0.7/32", "fd00::1/128"][..],
                &[][..],
                &["10.0.0.0/8", "fd00::/8"][..],
            ),
            (&[], &[], &["0.0.0.0/0", "::/0"]),
            (&[], &["10.0.0.0/8"], &["0.0.0.0/0"]),
        ] {
            assert!(matches!(select(to, from, except), Err(Error::NothingLeft)));
        }
        assert!(select(&[], &[], &["0.0.0.0/0"]).is_ok());
        assert!(select(&["10.0.0.7/32"], &[], &["::/0"]).is_ok());
    }

    #[test]
    fn ends_of_different_families_are_refused() {
        let differ = select(&["10.0.0.7/32"], &["fd00::/8"], &[]);
        assert!(matches!(differ, Err(Error::FamiliesDiffer)));
        let mixed = select(&["10.0.0.7/32", "fd00::1/128"], &["fd00::/8"], &[]).unwrap();
        assert_eq!(mixed.to, Some(nets(&["fd00::1/128"])));
        assert!(!mixed.v4);
    }

    #[test]
    fn near_networks_merge_and_are_limited() {
        assert_eq!(
            select(&[], &["10.0.0.0/9", "10.128.0.0/9"], &[])
                .unwrap()
                .near,
            nets(&["10.0.0.0/8"])
        );
        assert!(
            select(&[], &["0.0.0.0/0", "::/0"], &[])
                .unwrap()
                .near
                .is_empty()
        );
        let nine: Vec<String> = (0..9).map(|n| format!("10.{}.0.0/16", n * 2)).collect();
        let nine: Vec<&str> = nine.iter().map(String::as_str).collect();
        assert!(matches!(
            select(&[], &nine, &[]),
            Err(Error::TooManyNearNetworks { count: 9, limit: 8 })
        ));
        assert!(select(&[], &nine[1..], &[]).is_ok());
    }

    #[test]
    fn near_network_that_spans_ipv4_stands_alone_or_with_all_of_it() {
        assert!(select(&[], &["::/0"], &[]).is_ok());
        assert!(select(&[], &["::/64", "0.0.0.0/0"], &[]).is_ok());
        assert!(matches!(
            select(&[], &["::/0", "10.0.0.0/8"], &[]),
            Err(Error::WideNearNetwork { .. })
        ));
    }

    #[test]
    fn ports_need_a_protocol_that_has_them() {
        let select = |protocols: &[&str], ports: &[&str]| {
            Selection::new(&Selectors {
                protocols: protocols.iter().map(|text| text.parse().unwrap()).collect(),
                far_ports: ports
                    .iter()
                    .map(|text| port::parse_range(text).unwrap())
                    .collect(),
                ..Selectors::default()
            })
        };
        assert!(matches!(
            select(&["icmp", "47"], &["80"]),
            Err(Error::NoPorts { option: "--port" })
        ));
        assert!(select(&["icmp", "tcp"], &["80"]).is_ok());
        assert!(select(&[], &["80"]).is_ok());
        let ports: Vec<String> = (0..17).map(|n| (n * 2).to_string()).collect();
        let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
        assert!(matches!(
            select(&[], &ports),
            Err(Error::TooManyPortRanges {
                count: 17,
                limit: 16,
                ..
            })
        ));
        assert!(select(&[], &ports[1..]).is_ok());
    }
}
