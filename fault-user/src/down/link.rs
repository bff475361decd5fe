//! Links: how they are, and setting them up, down and without carrier.

use std::{collections::BTreeSet, io};

use super::{
    message::{self, Message},
    socket::Socket,
};
use crate::error::KernelError;

/// A link of the calling thread's network namespace.
#[expect(clippy::struct_excessive_bools, reason = "flags of the kernel's")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index, which stays while it is renamed.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its link-layer address; empty for a link without one.
    pub address: Vec<u8>,
    /// What makes it: `veth`, `tun`; empty for hardware.
    pub kind: String,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it is up and has a carrier.
    pub carrier: bool,
    /// Whether the kernel has come to use it, which it does some time after the carrier.
    pub running: bool,
    /// Whether it is a loopback.
    pub loopback: bool,
    /// Whether it knows no address resolution.
    pub no_arp: bool,
    /// Index of the link that it lies on, in this namespace.
    below: Option<u32>,
    /// Index of its bridge, bond or VRF.
    master: Option<u32>,
}

impl Link {
    /// All of them.
    pub fn all(socket: &mut Socket) -> Result<Vec<Self>, KernelError> {
        let messages = socket.dump(&Message::new(libc::RTM_GETLINK))?;
        Ok(messages.iter().map(Self::of).collect())
    }

    fn of(message: &Message) -> Self {
        let flags = message.header_number(FLAGS).cast_signed();
        let kind = message
            .attribute(libc::IFLA_LINKINFO)
            .and_then(|info| message::attributes(info).ok())
            .and_then(|info| message::attribute(&info, INFO_KIND).map(<[u8]>::to_vec))
            .unwrap_or_default();
        Self {
            index: message.header_number(INDEX),
            name: message.text(libc::IFLA_IFNAME).unwrap_or_default(),
            address: message
                .attribute(libc::IFLA_ADDRESS)
                .unwrap_or_default()
                .to_vec(),
            kind: String::from_utf8_lossy(&kind)
                .trim_end_matches('\0')
                .to_owned(),
            up: flags & libc::IFF_UP != 0,
            carrier: flags & libc::IFF_LOWER_UP != 0,
            running: flags & libc::IFF_RUNNING != 0,
            loopback: flags & libc::IFF_LOOPBACK != 0,
            no_arp: flags & libc::IFF_NOARP != 0,
            // With another namespace's number, the index is of a link there.
            below: message
                .number(libc::IFLA_LINK)
                .filter(|_| message.attribute(libc::IFLA_LINK_NETNSID).is_none()),
            master: message.number(libc::IFLA_MASTER),
        }
    }

    /// Sets it up or down.
    pub fn set_up(&self, socket: &mut Socket, up: bool) -> io::Result<()> {
        let mut message = self.change();
        let flag = libc::IFF_UP.cast_unsigned();
        message.set_header_number(FLAGS, if up { flag } else { 0 });
        message.set_header_number(CHANGE, flag);
        socket.request(&message, 0)
    }

    /// Takes its carrier away, or gives it back. Few drivers know how.
    pub fn set_carrier(&self, socket: &mut Socket, carrier: bool) -> io::Result<()> {
        let mut message = self.change();
        message.set(libc::IFLA_CARRIER, vec![carrier.into()]);
        socket.request(&message, 0)
    }

    fn change(&self) -> Message {
        let mut message = Message::new(libc::RTM_SETLINK);
        message.set_header_number(INDEX, self.index);
        message
    }
}

/// The links that feel it when this one goes down: itself, those on top of it, and
/// those that it is a part of.
pub fn affected(links: &[Link], target: u32) -> BTreeSet<u32> {
    let mut affected = BTreeSet::from([target]);
    loop {
        let before = affected.len();
        for link in links {
            if link.below.is_some_and(|below| affected.contains(&below)) {
                affected.insert(link.index);
            }
            if let (true, Some(master)) = (affected.contains(&link.index), link.master) {
                affected.insert(master);
            }
        }
        if affected.len() == before {
            return affected;
        }
    }
}

/// `ifinfomsg` of `linux/rtnetlink.h`.
const INDEX: usize = 4;
const FLAGS: usize = 8;
const CHANGE: usize = 12;
/// `IFLA_INFO_KIND`.
const INFO_KIND: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, below: Option<u32>, master: Option<u32>) -> Link {
        Link {
            below,
            master,
            ..Link::of(&{
                let mut message = Message::new(libc::RTM_NEWLINK);
                message.set_header_number(INDEX, index);
                message
            })
        }
    }

    #[test]
    fn what_lies_on_a_link_or_above_it_is_affected() {
        let links = [
            link(9, Some(4), None),
            link(4, Some(2), Some(7)),
            link(2, None, None),
            link(3, None, Some(7)),
            link(7, None, None),
            link(8, Some(3), None),
        ];
        assert_eq!(affected(&links, 2), BTreeSet::from([2, 4, 7, 9]));
        assert_eq!(affected(&links, 3), BTreeSet::from([3, 7, 8]));
    }
}
