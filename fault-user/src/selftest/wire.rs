//! Two network namespaces and the veth pair between them. They have no names, and
//! go when the process goes.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use fault_common::layout::Direction;
use rtnetlink::{
    LinkUnspec, LinkVeth,
    packet_route::address::{AddressAttribute, AddressFlags},
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::{error::KernelError, interface::Interface, namespace::Namespace, netlink};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Addresses for documentation (RFC 5737, RFC 3849).
    fn address(self, end: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(192, 0, 2, end).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, end.into()).into(),
        }
    }

    fn prefix_len(self) -> u8 {
        match self {
            Self::V4 => 24,
            Self::V6 => 64,
        }
    }
}

/// Both ends.
pub(super) struct Wire {
    near: Namespace,
    /// Sockets of the near and the far end, by family.
    sockets: Vec<(Family, UdpSocket, UdpSocket)>,
    _held: [File; 2],
}

impl Wire {
    /// The interface at the near end.
    pub(super) const INTERFACE: &str = "selftest0";
    const PEER: &str = "selftest1";

    pub(super) fn new() -> Result<Self, KernelError> {
        let held = [namespace()?, namespace()?];
        let [near, far] = [&held[0], &held[1]].map(Namespace::held);
        let descriptor = held[1].as_raw_fd();
        near.run(|| {
            netlink::with(|handle| async move {
                let pair = LinkVeth::new(Self::INTERFACE, Self::PEER).build();
                handle.link().add(pair).execute().await?;
                let peer = LinkUnspec::new_with_name(Self::PEER).setns_by_fd(descriptor);
                handle.link().set(peer.build()).execute().await
            })
        })?;
        near.run(|| configure(Self::INTERFACE, 1))?;
        far.run(|| configure(Self::PEER, 2))?;
        let mut sockets = Vec::new();
        for family in Family::ALL {
            let near = near.run(|| socket(family, 1))?;
            let far = far.run(|| socket(family, 2))?;
            connect(&near, &far)?;
            sockets.push((family, near, far));
        }
        Ok(Self {
            near,
            sockets,
            _held: held,
        })
    }

    /// The namespace of the near end.
    pub(super) fn near(&self) -> &Namespace {
        &self.near
    }

    /// Sends datagrams and says how many arrive. `lost` counts those that are known
    /// to be lost.
    ///
    /// Sends in batches; between them waits until each datagram is accounted for, so
    /// that no queue on the way runs over, or until it must be called lost.
    pub(super) fn send(
        &self,
        family: Family,
        direction: Direction,
        count: u64,
        lost: &dyn Fn() -> Result<u64, KernelError>,
    ) -> Result<u64, KernelError> {
        const BATCH: u64 = 50;
        const LOST: Duration = Duration::from_millis(200);
        let (_, near, far) = self
            .sockets
            .iter()
            .find(|(other, ..)| *other == family)
            .ok_or_else(|| KernelError::system("find a socket")(io::Error::other("no family")))?;
        let (from, to) = match direction {
            Direction::Egress => (near, far),
            Direction::Ingress => (far, near),
        };
        let (mut sent, mut arrived) = (0, 0);
        while sent < count {
            for _ in 0..BATCH.min(count - sent) {
                from.send(b"faultctl selftest")
                    .map_err(KernelError::system("send a datagram"))?;
                sent += 1;
            }
            let since = Instant::now();
            loop {
                arrived += drain(to)?;
                if arrived + lost()? >= sent || since.elapsed() > LOST {
                    break;
                }
                thread::yield_now();
            }
        }
        Ok(arrived)
    }
}

fn drain(socket: &UdpSocket) -> Result<u64, KernelError> {
    let mut count = 0;
    loop {
        match socket.recv(&mut [0; 64]) {
            Ok(_) => count += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(count),
            Err(error) => return Err(KernelError::system("receive a datagram")(error)),
        }
    }
}

/// A new namespace, held by a descriptor.
fn namespace() -> Result<File, KernelError> {
    thread::scope(|scope| {
        scope
            .spawn(|| {
                // SAFETY: only the network namespace, and the thread ends right after:
                // nothing else of the process is torn apart.
                unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
                File::open("/proc/thread-self/ns/net")
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
    .map_err(KernelError::system("make a network namespace"))
}

fn configure(iface: &str, end: u8) -> Result<(), KernelError> {
    let index = Interface::find(&[iface.into()])?[0].index;
    netlink::with(|handle| async move {
        let up = LinkUnspec::new_with_index(index).up().build();
        handle.link().set(up).execute().await?;
        for family in Family::ALL {
            let mut request = handle
                .address()
                .add(index, family.address(end), family.prefix_len());
            // Nobody else has it: no need to wait for duplicate address detection.
            request
                .message_mut()
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
            request.execute().await?;
        }
        Ok(())
    })
}

fn socket(family: Family, end: u8) -> Result<UdpSocket, KernelError> {
    UdpSocket::bind((family.address(end), 0))
        .and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
        .map_err(KernelError::system("bind a socket"))
}

fn connect(near: &UdpSocket, far: &UdpSocket) -> Result<(), KernelError> {
    far.local_addr()
        .and_then(|address| near.connect(address))
        .and_then(|()| near.local_addr())
        .and_then(|address| far.connect(address))
        .map_err(KernelError::system("connect a socket"))
}
