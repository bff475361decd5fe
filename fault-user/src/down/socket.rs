//! An rtnetlink socket for messages that are kept as they are. It belongs to the network
//! namespace of the thread that opens it, and is closed after each piece of work.

use std::{io, os::fd::AsRawFd as _, time::Duration};

use rtnetlink::{
    packet_core::{
        ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage,
        NetlinkPayload,
    },
    sys::{Socket as Netlink, SocketAddr, protocols::NETLINK_ROUTE},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::message::{self, Message};
use crate::error::KernelError;

/// A socket for requests, one at a time.
#[derive(Debug)]
pub struct Socket {
    netlink: Netlink,
    sequence: u32,
}

/// A socket that hears of changes to links, addresses, routes and nexthops.
#[derive(Debug)]
pub struct Changes(Netlink);

impl Socket {
    /// Opens one.
    pub fn open() -> Result<Self, KernelError> {
        let open = || {
            let mut netlink = Netlink::new(NETLINK_ROUTE)?;
            netlink.bind_auto()?;
            netlink.connect(&SocketAddr::new(0, 0))?;
            // The kernel says what it does not like, and repeats only the header.
            netlink.set_ext_ack(true)?;
            netlink.set_cap_ack(true)?;
            Ok(Self {
                netlink,
                sequence: 0,
            })
        };
        open().map_err(KernelError::system::<io::Error>("open rtnetlink"))
    }

    /// The number of its network namespace, which no other gets until the next boot. An
    /// inode's number is given to another namespace soon.
    pub fn netns_cookie(&self) -> Result<u64, KernelError> {
        let mut cookie = 0_u64;
        let mut len = libc::socklen_t::try_from(size_of_val(&cookie)).unwrap_or(0);
        // SAFETY: the kernel writes no more than `len` bytes, which `cookie` has.
        let result = unsafe {
            libc::getsockopt(
                self.netlink.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut len,
            )
        };
        match result {
            0 => Ok(cookie),
            _ => Err(KernelError::system("read the namespace's cookie")(
                io::Error::last_os_error(),
            )),
        }
    }

    /// All objects of a type. `request` is the message that asks for them.
    pub fn dump(&mut self, request: &Message) -> Result<Vec<Message>, KernelError> {
        // The kernel says when the list changed while it was read.
        const ATTEMPTS: usize = 10;
        for _ in 0..ATTEMPTS {
            let (messages, whole) = self
                .exchange(request, NLM_F_DUMP)
                .map_err(KernelError::system("read rtnetlink"))?;
            if whole {
                return Ok(messages);
            }
        }
        Err(KernelError::system("read rtnetlink")(io::Error::other(
            "the lists change all the time",
        )))
    }

    /// Has something done.
    pub fn request(&mut self, message: &Message, flags: u16) -> io::Result<()> {
        self.exchange(message, NLM_F_ACK | flags).map(drop)
    }

    /// The answers, and whether they are of one moment.
    fn exchange(&mut self, message: &Message, flags: u16) -> io::Result<(Vec<Message>, bool)> {
        self.sequence += 1;
        let bytes = message.clone().encode(NLM_F_REQUEST | flags, self.sequence);
        self.netlink.send(&bytes, 0)?;
        let (mut messages, mut whole) = (Vec::new(), true);
        loop {
            let (received, _) = self.netlink.recv_from_full()?;
            let mut rest = &received[..];
            while !rest.is_empty() {
                let message = NetlinkMessage::<Message>::deserialize(rest)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                let len = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(len..).unwrap_or_default();
                // An answer to a request that was given up.
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => messages.push(message),
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code));
                    }
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(explain(&error));
                    }
                    NetlinkPayload::Done(_) | NetlinkPayload::Error(_) => {
                        return Ok((messages, whole));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// With the kernel's own words, where it has any.
fn explain(error: &ErrorMessage) -> io::Error {
    /// `NLMSGERR_ATTR_MSG` of `linux/netlink.h`, behind the header of the request.
    const MESSAGE: u16 = 1;
    let plain = error.to_io();
    let words = error
        .header
        .get(16..)
        .and_then(|behind| message::attributes(behind).ok())
        .and_then(|behind| {
            let words = message::attribute(&behind, MESSAGE)?.to_vec();
            String::from_utf8(words).ok()
        });
    match words {
        // By these numbers callers tell what to do.
        Some(_) if matches!(plain.raw_os_error(), Some(libc::EEXIST | libc::EOPNOTSUPP)) => plain,
        Some(words) => io::Error::new(plain.kind(), words.trim_end_matches('\0').to_owned()),
        None => plain,
    }
}

impl Changes {
    /// From now on.
    pub fn hear() -> Result<Self, KernelError> {
        /// `RTNLGRP_LINK`, addresses and routes of both families, nexthops, of
        /// `linux/rtnetlink.h`.
        const GROUPS: [u32; 6] = [1, 5, 7, 9, 11, 32];
        let hear = || {
            let mut netlink = Netlink::new(NETLINK_ROUTE)?;
            netlink.bind_auto()?;
            for group in GROUPS {
                netlink.add_membership(group)?;
            }
            netlink.set_non_blocking(true)?;
            Ok(Self(netlink))
        };
        hear().map_err(KernelError::system::<io::Error>("open rtnetlink"))
    }

    /// Waits for a change, so long and no longer.
    pub fn wait(&self, at_most: Duration) -> Result<(), KernelError> {
        let timeout = Timespec::try_from(at_most).unwrap_or(Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        });
        let mut descriptors = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(KernelError::system("wait for rtnetlink")(error)),
        }
        // What has changed is read afresh, not from here. Messages that did not fit are
        // an error, and as good as heard.
        let mut buffer = Vec::with_capacity(1 << 16);
        loop {
            buffer.clear();
            match self.0.recv(&mut buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(KernelError::system("wait for rtnetlink")(error)),
            }
        }
    }
}
