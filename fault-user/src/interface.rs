//! Interfaces: which there are, and what their frames look like.

use std::collections::BTreeSet;

use fault_common::packet::LinkLayer;
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketType, netdevice::name_to_index, socket},
};

use crate::{error::KernelError, line, netlink};

pub mod ethtool;

/// An interface of the calling thread's network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index, which stays while it is renamed.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What lies in front of the network header of its frames.
    pub link: LinkLayer,
}

impl Interface {
    /// The interfaces with these names.
    pub fn find(names: &[String]) -> Result<Vec<Self>, KernelError> {
        let all = all()?;
        names
            .iter()
            .map(|name| {
                let message = all
                    .iter()
                    .find(|message| name_of(message) == Some(name))
                    .ok_or_else(|| KernelError::NoInterface {
                        name: name.clone(),
                        there: all.iter().filter_map(name_of).map(str::to_owned).collect(),
                    })?;
                Self::read(message)
            })
            .collect()
    }

    /// Every interface but loopback. One that is down, and whose frames could not be read,
    /// is left out: tunnels of the kernel are in every namespace.
    pub fn all_but_loopback() -> Result<Vec<Self>, KernelError> {
        let all = all()?;
        let interfaces: Vec<_> = all
            .iter()
            .filter(|message| {
                let header = &message.header;
                header.link_layer_type != LinkLayerType::Loopback
                    && !name_of(message).is_some_and(line::is_helper)
                    && (link_layer(header.link_layer_type).is_some()
                        || header.flags.contains(LinkFlags::Up))
            })
            .map(Self::read)
            .collect::<Result<_, _>>()?;
        if interfaces.is_empty() {
            return Err(KernelError::OnlyLoopback);
        }
        Ok(interfaces)
    }

    fn read(message: &LinkMessage) -> Result<Self, KernelError> {
        let name = name_of(message).unwrap_or_default();
        let link_type = message.header.link_layer_type;
        Ok(Self {
            index: message.header.index,
            name: name.into(),
            link: link_layer(link_type).ok_or_else(|| KernelError::LinkType {
                name: name.into(),
                link_type: format!("{link_type:?}"),
            })?,
        })
    }
}

/// The name that the interface with this index has now.
pub fn name_now(index: u32) -> Result<Option<String>, KernelError> {
    Ok(all()?
        .iter()
        .find(|message| message.header.index == index)
        .and_then(name_of)
        .map(str::to_owned))
}

/// The index of the interface with this name, if there is one. Starts no thread.
pub fn index(name: &str) -> Result<Option<u32>, KernelError> {
    let index = socket(AddressFamily::UNIX, SocketType::DGRAM, None)
        .and_then(|socket| name_to_index(socket, name));
    match index {
        // A name that is too long, or none's.
        Err(Errno::NODEV | Errno::INVAL | Errno::NAMETOOLONG) => Ok(None),
        index => index
            .map(Some)
            .map_err(KernelError::system("look up an interface")),
    }
}

/// The name that the interface with this index has now, and how many queues for what
/// leaves.
pub fn queues(index: u32) -> Result<Option<(String, u32)>, KernelError> {
    let all = all()?;
    let message = all.iter().find(|message| message.header.index == index);
    Ok(message.and_then(|message| {
        let queues = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::NumTxQueues(queues) => Some(*queues),
                _ => None,
            });
        Some((name_of(message)?.to_owned(), queues?))
    }))
}

/// An interface and those that it cannot do without: the parent of a VLAN, the members
/// of a bridge or bond, the other end of a veth pair, and what these are built on.
pub fn beneath(index: u32) -> Result<BTreeSet<u32>, KernelError> {
    let all = all()?;
    let mut found = BTreeSet::from([index]);
    let mut next = vec![index];
    while let Some(above) = next.pop() {
        for message in &all {
            let (this, attributes) = (message.header.index, &message.attributes);
            // An index of another namespace means nothing here.
            let is_foreign = attributes
                .iter()
                .any(|attribute| matches!(attribute, LinkAttribute::LinkNetNsId(_)));
            for attribute in attributes {
                let below = match attribute {
                    LinkAttribute::Controller(above_this) if *above_this == above => this,
                    LinkAttribute::Link(below) if this == above && !is_foreign => *below,
                    _ => continue,
                };
                if below != 0 && found.insert(below) {
                    next.push(below);
                }
            }
        }
    }
    Ok(found)
}

/// The names of all interfaces.
pub fn names() -> Result<Vec<String>, KernelError> {
    Ok(all()?
        .iter()
        .filter_map(name_of)
        .map(str::to_owned)
        .collect())
}

fn all() -> Result<Vec<LinkMessage>, KernelError> {
    netlink::with(|handle| async move { handle.link().get().execute().try_collect().await })
}

fn name_of(message: &LinkMessage) -> Option<&str> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.as_str()),
            _ => None,
        })
}

/// By the ARPHRD number of `linux/if_arp.h`, what an skb holds at the tc hook. Types
/// that were not looked at are refused rather than misread.
fn link_layer(link_type: LinkLayerType) -> Option<LinkLayer> {
    match link_type {
        LinkLayerType::Ether | LinkLayerType::Loopback => Some(LinkLayer::Ethernet),
        LinkLayerType::None
        | LinkLayerType::Ppp
        | LinkLayerType::Rawip
        | LinkLayerType::Tunnel
        | LinkLayerType::Tunnel6
        | LinkLayerType::Sit => Some(LinkLayer::None),
        _ => None,
    }
}
