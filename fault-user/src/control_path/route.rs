//! Which interfaces a connection needs.

use std::{collections::BTreeSet, net::IpAddr};

use futures_util::TryStreamExt as _;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::{address::AddressAttribute, route::RouteAttribute},
};

use super::Connection;
use crate::{error::KernelError, interface, netlink};

/// Indexes of the interfaces that connections need, in the calling thread's namespace.
pub(super) fn needed(connections: &[Connection]) -> Result<BTreeSet<u32>, KernelError> {
    let mut needed = BTreeSet::new();
    for connection in connections {
        let (way, owner) = (routed_by(connection)?, owner(connection.local.ip())?);
        for index in way.into_iter().chain(owner) {
            needed.extend(interface::beneath(index)?);
        }
    }
    Ok(needed)
}

/// The interface that the way to the peer leads through, if there is one.
fn routed_by(connection: &Connection) -> Result<Option<u32>, KernelError> {
    let mut message = match (connection.peer.ip(), connection.local.ip()) {
        (IpAddr::V4(peer), IpAddr::V4(local)) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .destination_prefix(peer, 32)
            .source_prefix(local, 32)
            .build(),
        (IpAddr::V6(peer), IpAddr::V6(local)) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .destination_prefix(peer, 128)
            .source_prefix(local, 128)
            .build(),
        _ => return Ok(None),
    };
    // Asking takes no protocol, scope or kind: the kernel is strict about that.
    message.header.protocol = 0.into();
    message.header.scope = 0.into();
    message.header.kind = 0.into();
    message.header.table = 0;
    let found = netlink::with(|handle| async move {
        match handle.route().get(message).execute().try_next().await {
            Err(rtnetlink::Error::NetlinkError(_)) => Ok(None),
            result => result,
        }
    })?;
    Ok(found.and_then(|route| {
        route
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            })
    }))
}

/// The interface that has an address.
fn owner(address: IpAddr) -> Result<Option<u32>, KernelError> {
    let addresses = netlink::with(|handle| async move {
        handle
            .address()
            .get()
            .execute()
            .try_collect::<Vec<_>>()
            .await
    })?;
    Ok(addresses
        .iter()
        .find(|message| {
            message.attributes.iter().any(|attribute| {
                matches!(attribute,
                    AddressAttribute::Local(ip) | AddressAttribute::Address(ip) if *ip == address)
            })
        })
        .map(|message| message.header.index))
}
