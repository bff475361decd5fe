//! What a link carries: addresses, routes, neighbours, nexthops. Which of them are one
//! and the same, who made them, and how they are put back.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use rtnetlink::packet_core::{
    NLA_TYPE_MASK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE,
};

use super::message::{self, Attribute, Message};

mod words;

pub use words::describe;

/// Kinds of objects, in the order in which they are put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// `ip address`
    Address,
    /// `ip nexthop`
    Nexthop,
    /// `ip neighbour`, permanent entries and proxies
    Neighbour,
    /// `ip route`
    Route,
}

impl Class {
    /// All, in that order.
    pub const ALL: [Self; 4] = [Self::Address, Self::Nexthop, Self::Neighbour, Self::Route];

    /// The kind of an object that the kernel sent.
    pub fn of(message: &Message) -> Option<Self> {
        Some(match message.kind {
            libc::RTM_NEWADDR => Self::Address,
            RTM_NEWNEXTHOP => Self::Nexthop,
            libc::RTM_NEWNEIGH => Self::Neighbour,
            libc::RTM_NEWROUTE => Self::Route,
            _ => return None,
        })
    }

    /// Messages that ask for all of them.
    pub fn requests(self) -> Vec<Message> {
        let family = |kind: u16, family: libc::c_int| {
            let mut message = Message::new(kind);
            message.header[FAMILY] = family.to_le_bytes()[0];
            message
        };
        let both = |kind| vec![family(kind, libc::AF_INET), family(kind, libc::AF_INET6)];
        match self {
            Self::Address => both(libc::RTM_GETADDR),
            Self::Route => both(libc::RTM_GETROUTE),
            Self::Nexthop => vec![Message::new(RTM_GETNEXTHOP)],
            Self::Neighbour => {
                let mut all = both(libc::RTM_GETNEIGH);
                for mut proxies in both(libc::RTM_GETNEIGH) {
                    proxies.header[NEIGH_FLAGS] = libc::NTF_PROXY;
                    all.push(proxies);
                }
                all
            }
        }
    }

    /// Flags of the request that puts one back.
    pub fn flags(self, message: &Message) -> u16 {
        match self {
            // Behind those with the same destination and metric, as `ip route append`.
            Self::Route => NLM_F_CREATE | NLM_F_APPEND,
            // What resolved meanwhile gives way.
            Self::Neighbour => NLM_F_CREATE | NLM_F_REPLACE,
            // A group that lost some of its members is still there.
            Self::Nexthop if message.attribute(NHA_GROUP).is_some() => NLM_F_CREATE | NLM_F_REPLACE,
            Self::Address | Self::Nexthop => NLM_F_CREATE | NLM_F_EXCL,
        }
    }
}

/// Who makes an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// The user, or a program: it is put back.
    User,
    /// The kernel, as a rule; but whoever says so is believed. It is put back when the
    /// kernel has done all else.
    KernelOrUser,
    /// Only the kernel can: it is waited for.
    Kernel,
    /// The kernel, each time another one.
    Random,
    /// The kernel, along with something else that is on these lists.
    Implied,
}

/// Who makes an object. `accepts_ra` are the interfaces on which the kernel acts on
/// router advertisements: on others, a program does.
pub fn maker(message: &Message, accepts_ra: &BTreeSet<u32>) -> Maker {
    match Class::of(message) {
        Some(Class::Address) => match message.number(IFA_PROTO) {
            _ if address_flags(message) & libc::IFA_F_TEMPORARY != 0
                && message.header[FAMILY] == V6 =>
            {
                Maker::Random
            }
            None | Some(0 | IFAPROT_FIRST_OF_USER..) => Maker::User,
            Some(_) => Maker::Kernel,
        },
        Some(Class::Route) => {
            let of_kernel_ra = || interfaces(message).iter().any(|it| accepts_ra.contains(it));
            match message.header[ROUTE_PROTOCOL] {
                _ if message.header_number(ROUTE_FLAGS) & libc::RTM_F_CLONED != 0 => Maker::Implied,
                libc::RTPROT_REDIRECT => Maker::Implied,
                libc::RTPROT_KERNEL if message.header[ROUTE_TYPE] != libc::RTN_UNICAST => {
                    Maker::Implied
                }
                libc::RTPROT_KERNEL if expires(message).is_some() => Maker::Kernel,
                libc::RTPROT_KERNEL => Maker::KernelOrUser,
                RTPROT_RA if of_kernel_ra() => Maker::Kernel,
                _ => Maker::User,
            }
        }
        _ => Maker::User,
    }
}

/// Whether somebody set a neighbour, so that it has to be put back. Others the kernel
/// finds by asking. Without address resolution on a link, the kernel makes entries of
/// the state `noarp` by itself.
pub fn is_set(neighbour: &Message, link_no_arp: bool) -> bool {
    let state = neighbour.header[NEIGH_STATE];
    let flags = neighbour.header[NEIGH_FLAGS];
    let more = neighbour.number(NDA_FLAGS_EXT).unwrap_or(0);
    let to_many = address(neighbour.attribute(libc::NDA_DST)).is_some_and(|to| {
        to.is_multicast()
            || matches!(to, IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[3] == 255)
    });
    flags & libc::NTF_PROXY != 0
        || u16::from(state) & libc::NUD_PERMANENT != 0
        || flags & NTF_EXT_LEARNED != 0
        || more & NTF_EXT_MANAGED != 0
        || (u16::from(state) & libc::NUD_NOARP != 0 && !link_no_arp && !to_many)
}

/// The interfaces that an object is on or leads through. Routes by nexthop objects are
/// found by [`nexthops`].
pub fn interfaces(message: &Message) -> Vec<u32> {
    match Class::of(message) {
        Some(Class::Address | Class::Neighbour) => vec![message.header_number(INDEX)],
        Some(Class::Nexthop) => message.number(NHA_OIF).into_iter().collect(),
        Some(Class::Route) => message
            .number(libc::RTA_OIF)
            .into_iter()
            .chain(
                legs(message.attribute(libc::RTA_MULTIPATH).unwrap_or_default())
                    .filter_map(|leg| message::number(leg.get(4..8)?)),
            )
            .collect(),
        None => Vec::new(),
    }
}

/// The nexthop objects that a group or a route leads through.
pub fn nexthops(message: &Message) -> Vec<u32> {
    match Class::of(message) {
        Some(Class::Nexthop) => message
            .attribute(NHA_GROUP)
            .unwrap_or_default()
            .chunks_exact(8)
            .filter_map(|member| message::number(&member[..4]))
            .collect(),
        Some(Class::Route) => message.number(RTA_NH_ID).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// The number of a nexthop object.
pub fn nexthop_id(message: &Message) -> Option<u32> {
    message.number(NHA_ID)
}

/// Whether an address cannot be used yet: nobody has answered for it so far, but somebody
/// may.
pub fn is_tentative(message: &Message) -> bool {
    Class::of(message) == Some(Class::Address)
        && message.header[FAMILY] == V6
        && address_flags(message) & libc::IFA_F_TENTATIVE != 0
        && address_flags(message) & libc::IFA_F_DADFAILED == 0
}

/// Bytes that two objects share if they are the same one.
pub fn identity(message: &Message) -> Vec<u8> {
    let mut same = message.clone();
    match Class::of(message) {
        Some(Class::Address) => {
            // Flags and scope.
            same.header[2..4].fill(0);
            same.attributes.retain(|attribute| {
                matches!(
                    attribute.kind & NLA_TYPE_MASK,
                    libc::IFA_ADDRESS | libc::IFA_LOCAL
                )
            });
        }
        Some(Class::Neighbour) => {
            same.header[NEIGH_FLAGS] &= libc::NTF_PROXY;
            // Others come and go by themselves.
            let set = (libc::NUD_PERMANENT | libc::NUD_NOARP).to_le_bytes()[0];
            let proxy = same.header[NEIGH_FLAGS] != 0;
            same.header[NEIGH_STATE] &= if proxy { 0 } else { set };
            same.attributes.retain(|attribute| {
                matches!(
                    attribute.kind & NLA_TYPE_MASK,
                    libc::NDA_DST | libc::NDA_LLADDR | libc::NDA_VLAN
                )
            });
        }
        _ => same = settled(same),
    }
    same.attributes.sort();
    same.encode(0, 0)
}

/// The message that makes it again, when that much time has gone; `None` if it has run
/// out by then.
pub fn again(message: &Message, gone: Duration) -> Option<Message> {
    let mut again = settled(message.clone());
    match Class::of(message)? {
        Class::Address => {
            // What the kernel found out, not what somebody set.
            const STATE: u32 =
                libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED | libc::IFA_F_OPTIMISTIC;
            let flags = address_flags(message) & !STATE;
            again.header[2] = flags.to_le_bytes()[0];
            again.set(libc::IFA_FLAGS, flags.to_ne_bytes().to_vec());
            let mut lifetimes = message.attribute(libc::IFA_CACHEINFO)?.to_vec();
            let valid = aged(message::number(lifetimes.get(4..8)?)?, gone);
            let preferred = aged(message::number(lifetimes.get(..4)?)?, gone);
            lifetimes[4..8].copy_from_slice(&valid.to_ne_bytes());
            lifetimes[..4].copy_from_slice(&preferred.to_ne_bytes());
            again.set(libc::IFA_CACHEINFO, lifetimes);
            (valid > 0).then_some(again)
        }
        Class::Route => {
            if let Some(left) = expires(message) {
                // To the nearest second: one fault after another takes nothing off.
                let left = left.saturating_sub(gone) + Duration::from_millis(500);
                let left = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
                if left == 0 {
                    return None;
                }
                again.set(RTA_EXPIRES, left.to_ne_bytes().to_vec());
            }
            Some(again)
        }
        Class::Neighbour | Class::Nexthop => Some(again),
    }
}

/// Routes and nexthops without what the kernel says of their state.
fn settled(mut message: Message) -> Message {
    /// `RTNH_F_ONLINK` and `RTNH_F_PERVASIVE`: the others are states.
    const SET: u32 = 4 | 2;
    match Class::of(&message) {
        Some(Class::Route) => {
            let flags = message.header_number(ROUTE_FLAGS) & SET;
            message.set_header_number(ROUTE_FLAGS, flags);
            message.remove(&[libc::RTA_CACHEINFO]);
            // The kernel tells these along with the nexthop object, and takes them only
            // without.
            if message.attribute(RTA_NH_ID).is_some() {
                message.remove(&[
                    libc::RTA_OIF,
                    libc::RTA_GATEWAY,
                    libc::RTA_MULTIPATH,
                    libc::RTA_FLOW,
                    RTA_VIA,
                    RTA_ENCAP,
                    RTA_ENCAP_TYPE,
                ]);
            }
            for attribute in &mut message.attributes {
                if attribute.kind & NLA_TYPE_MASK == libc::RTA_MULTIPATH {
                    each_leg(&mut attribute.value, |leg| leg[2] &= SET.to_le_bytes()[0]);
                }
            }
        }
        Some(Class::Nexthop) => {
            let flags = message.header_number(NEXTHOP_FLAGS) & SET;
            message.set_header_number(NEXTHOP_FLAGS, flags);
            message.header[NEXTHOP_SCOPE] = 0;
            message.remove(&[NHA_OP_FLAGS, NHA_GROUP_STATS, NHA_HW_STATS_USED]);
            for attribute in &mut message.attributes {
                if attribute.kind & NLA_TYPE_MASK == NHA_RES_GROUP
                    && let Ok(mut inner) = message::attributes(&attribute.value)
                {
                    inner.retain(|it| it.kind & NLA_TYPE_MASK != NHA_RES_GROUP_UNBALANCED_TIME);
                    attribute.value = bytes(&inner);
                }
            }
        }
        Some(Class::Neighbour) => message.remove(&[libc::NDA_CACHEINFO, libc::NDA_PROBES]),
        _ => {}
    }
    message
}

fn bytes(attributes: &[Attribute]) -> Vec<u8> {
    use rtnetlink::packet_core::Emitable as _;
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

/// The nexthops inside `RTA_MULTIPATH`: `rtnexthop` of `linux/rtnetlink.h`.
fn legs(mut multipath: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes([
            *multipath.first()?,
            *multipath.get(1)?,
        ]));
        let leg = multipath.get(..len).filter(|leg| leg.len() >= 8)?;
        multipath = multipath.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(leg)
    })
}

fn each_leg(multipath: &mut [u8], change: impl Fn(&mut [u8])) {
    let lens: Vec<usize> = legs(multipath).map(<[u8]>::len).collect();
    let mut at = 0;
    for len in lens {
        change(&mut multipath[at..at + len]);
        at += len.next_multiple_of(4);
    }
}

/// What is left of a time in seconds, where the largest number is forever. The kernel
/// tells it rounded up, so what has gone is rounded up too.
fn aged(seconds: u32, gone: Duration) -> u32 {
    if seconds == u32::MAX {
        return seconds;
    }
    let gone = gone.as_secs() + u64::from(gone.subsec_nanos() > 0);
    seconds.saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX))
}

/// What is left of a route, if it runs out: `rta_cacheinfo.rta_expires`, in ticks of a
/// hundredth of a second for user space on every architecture that faultctl runs on.
fn expires(route: &Message) -> Option<Duration> {
    let ticks = message::number(route.attribute(libc::RTA_CACHEINFO)?.get(8..12)?)?;
    // Below zero it has run out.
    let ticks = u64::try_from(ticks.cast_signed()).ok()?;
    (ticks > 0).then(|| Duration::from_millis(ticks * 10))
}

fn address_flags(message: &Message) -> u32 {
    message
        .number(libc::IFA_FLAGS)
        .unwrap_or(message.header[2].into())
}

fn address(value: Option<&[u8]>) -> Option<IpAddr> {
    let value = value?;
    if let Ok(v4) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(value)
        .ok()
        .map(|v6| Ipv6Addr::from(v6).into())
}

/// `AF_INET6`.
pub const V6: u8 = 10;
/// First byte of every header.
const FAMILY: usize = 0;
/// `ifaddrmsg` and `ndmsg`.
const INDEX: usize = 4;
const NEIGH_STATE: usize = 8;
const NEIGH_FLAGS: usize = 10;
/// `rtmsg`.
const ROUTE_TABLE: usize = 4;
const ROUTE_PROTOCOL: usize = 5;
const ROUTE_TYPE: usize = 7;
const ROUTE_FLAGS: usize = 8;
/// `nhmsg`.
const NEXTHOP_SCOPE: usize = 1;
const NEXTHOP_FLAGS: usize = 4;

/// `linux/if_addr.h`: 1 to 3 are the kernel's own.
const IFA_PROTO: u16 = 11;
const IFAPROT_FIRST_OF_USER: u32 = 4;
/// `linux/neighbour.h`.
const NTF_EXT_LEARNED: u8 = 0x10;
const NDA_FLAGS_EXT: u16 = 15;
const NTF_EXT_MANAGED: u32 = 1;
/// `linux/rtnetlink.h`.
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_GETNEXTHOP: u16 = 106;
const RTPROT_RA: u8 = 9;
const RTA_VIA: u16 = 18;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const RTA_EXPIRES: u16 = 23;
const RTA_NH_ID: u16 = 30;
/// `linux/nexthop.h`.
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_OIF: u16 = 5;
const NHA_RES_GROUP: u16 = 12;
const NHA_OP_FLAGS: u16 = 14;
const NHA_GROUP_STATS: u16 = 15;
const NHA_HW_STATS_USED: u16 = 17;
const NHA_RES_GROUP_UNBALANCED_TIME: u16 = 4;

#[cfg(test)]
mod tests;
