//! Numbered datagrams.

use std::{
    collections::BTreeSet,
    io,
    net::{SocketAddr, UdpSocket},
};

use nix::sys::socket::{setsockopt, sockopt};

use crate::{
    lab::{Family, Lab, Side, ends},
    namespace::Namespace,
    pace::Pace,
    wait::{SOON, until},
};

/// What became of numbered packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How many were sent.
    pub sent: u64,
    /// How many the kernel told the sender it had dropped.
    pub refused: u64,
    /// Numbers that arrived, in the order of arrival.
    pub arrived: Vec<u64>,
}

impl Outcome {
    /// How many different ones arrived.
    pub fn received(&self) -> u64 {
        self.arrived.iter().collect::<BTreeSet<_>>().len() as u64
    }

    /// How many arrived more than once.
    pub fn duplicates(&self) -> u64 {
        self.arrived.len() as u64 - self.received()
    }

    /// How many did not arrive.
    pub fn lost(&self) -> u64 {
        self.sent - self.received()
    }

    /// Numbers that did not arrive.
    pub fn missing(&self) -> Vec<u64> {
        let arrived: BTreeSet<_> = self.arrived.iter().copied().collect();
        (0..self.sent)
            .filter(|number| !arrived.contains(number))
            .collect()
    }
}

/// Sends `count` datagrams from one side's first address to the other's.
#[track_caller]
pub fn flow(lab: &Lab, family: Family, sender: Side, count: u64) -> Outcome {
    let (from, to) = ends(family, sender);
    between(lab, sender, from, to, count)
}

/// Sends `count` datagrams between two socket addresses.
#[track_caller]
pub fn between(lab: &Lab, sender: Side, from: SocketAddr, to: SocketAddr, count: u64) -> Outcome {
    let receiver = match sender {
        Side::Near => &lab.far,
        Side::Far => &lab.near,
    };
    let receiving = socket(receiver, to);
    let mut outcome = send(lab.namespace(sender), from, to, count);
    outcome.arrived = drain(&receiving)
        .into_iter()
        .map(|datagram| number(&datagram))
        .collect();
    outcome
}

/// A socket that holds all a test sends.
#[track_caller]
pub fn socket(namespace: &Namespace, address: SocketAddr) -> UdpSocket {
    let socket = namespace.run(|| bind(address));
    setsockopt(&socket, sockopt::RcvBufForce, &(256 << 20)).expect("a large buffer");
    socket.set_nonblocking(true).expect("nonblocking");
    socket
}

/// What has arrived.
#[track_caller]
pub fn drain(socket: &UdpSocket) -> Vec<Vec<u8>> {
    let mut buffer = [0; 2048];
    let mut datagrams = Vec::new();
    loop {
        match socket.recv(&mut buffer) {
            Ok(len) => datagrams.push(buffer[..len].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return datagrams,
            Err(error) => panic!("receive: {error}"),
        }
    }
}

/// Sends and waits until they have arrived or been lost.
#[track_caller]
pub fn send(namespace: &Namespace, from: SocketAddr, to: SocketAddr, count: u64) -> Outcome {
    namespace.run(|| {
        let socket = bind(from);
        told_of_drops(&socket, to.is_ipv4());
        let mut pace = Pace::new();
        let mut outcome = Outcome {
            sent: count,
            ..Outcome::default()
        };
        for number in 0..count {
            match socket.send_to(&number.to_be_bytes(), to) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => outcome.refused += 1,
                Err(error) => panic!("send to {to}: {error}"),
            }
            pace.sent();
        }
        pace.settle();
        outcome
    })
}

/// A child that another test has just forked holds a copy of this process's sockets
/// until it executes its program, so an address may be in use a little longer.
fn bind(address: SocketAddr) -> UdpSocket {
    until(&format!("bind {address}"), SOON, || {
        UdpSocket::bind(address).ok()
    })
}

/// Without this option the kernel keeps drops on this machine from the sender.
pub(crate) fn told_of_drops(socket: &impl std::os::fd::AsFd, ipv4: bool) {
    if ipv4 {
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)
    } else {
        setsockopt(socket, sockopt::Ipv6RecvErr, &true)
    }
    .expect("to hear of errors");
}

fn number(datagram: &[u8]) -> u64 {
    u64::from_be_bytes(datagram.try_into().expect("a numbered datagram"))
}
