//! What helper devices of both engines have in common.

use std::fs::File;

use fault_common::layout::Direction;
use futures_util::TryStreamExt as _;
use rtnetlink::{
    LinkMessageBuilder, LinkUnspec,
    packet_route::link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage, Stats64,
    },
};
use rustix::io::Errno;

use crate::{error::KernelError, interface::Interface, netlink};

/// `fc-eth0-out0`: what the kernel takes for "the first number that is free". Names
/// have 15 bytes, and a number may have two digits.
pub fn pattern(iface: &str, direction: Direction) -> String {
    let mut end = iface.len().min(6);
    while !iface.is_char_boundary(end) {
        end -= 1;
    }
    // A name may hold what would be taken for the number.
    let iface = iface[..end].replace('%', "_");
    match direction {
        Direction::Egress => format!("fc-{iface}-out%d"),
        Direction::Ingress => format!("fc-{iface}-in%d"),
    }
}

/// What a person reads beside the name.
pub fn alias(iface: &Interface, direction: Direction) -> String {
    format!(
        "faultctl pid {}: holds {} of {}",
        std::process::id(),
        direction.name(),
        iface.name
    )
}

/// The network namespace of the calling thread, held.
pub fn this_namespace() -> Result<File, KernelError> {
    File::open("/proc/thread-self/ns/net")
        .map_err(KernelError::system("open the network namespace"))
}

/// Up, and silent; in its namespace. `message` says which device, and what else it gets.
pub fn set_up(message: LinkMessageBuilder<LinkUnspec>) -> Result<(), KernelError> {
    let message = message
        // No link-local address, hence no router solicitations and no MLD.
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
            vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)],
        )]))
        .arp(false)
        .multicast(false)
        .build();
    let up = LinkUnspec::new_with_index(message.header.index)
        .up()
        .build();
    netlink::with(|handle| async move {
        // A kernel without IPv6 has nothing to be told.
        let mut silent = message.clone();
        if handle.link().set(message).execute().await.is_err() {
            silent
                .attributes
                .retain(|attribute| !matches!(attribute, LinkAttribute::AfSpecUnspec(_)));
            handle.link().set(silent).execute().await?;
        }
        handle.link().set(up).execute().await
    })
}

/// The index of a name, 0 for none; in its namespace.
pub fn index_of(name: &str) -> Result<u32, KernelError> {
    Ok(Interface::find(&[name.to_owned()])?
        .first()
        .map_or(0, |interface| interface.index))
}

/// What the kernel says of a device; in its namespace.
pub fn look(index: u32) -> Result<LinkMessage, KernelError> {
    netlink::with(|handle| async move {
        let request = handle.link().get().match_index(index);
        Ok(request.execute().try_next().await?.unwrap_or_default())
    })
}

/// Whether it is about a device that is not there.
pub fn is_missing(error: &KernelError) -> bool {
    matches!(error, KernelError::Netlink(source) if netlink::is_errno(source, Errno::NODEV))
}

/// What a device has counted: sent, and dropped instead of that.
pub fn sent(message: &LinkMessage) -> (u64, u64) {
    let counted = |attribute: &LinkAttribute| match attribute {
        LinkAttribute::Stats64(Stats64 {
            tx_packets,
            tx_dropped,
            ..
        }) => Some((*tx_packets, *tx_dropped)),
        _ => None,
    };
    message
        .attributes
        .iter()
        .find_map(counted)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_says_whose_it_is_and_leaves_room_for_two_digits() {
        assert_eq!(pattern("eth0", Direction::Egress), "fc-eth0-out%d");
        assert_eq!(pattern("enp0s31f6", Direction::Ingress), "fc-enp0s3-in%d");
        for iface in ["a-name-of-15-by", "größere-namen", "%d%d%d", ""] {
            for direction in Direction::ALL {
                let pattern = pattern(iface, direction);
                assert!(pattern.len() <= 15, "{pattern}");
                assert_eq!(pattern.matches('%').count(), 1, "{pattern}");
            }
        }
    }
}
