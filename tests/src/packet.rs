//! Packet sockets: frames by hand onto a wire, and off it.

use std::io::{self, Read as _};

use nix::{
    net::if_::if_nametoindex,
    sys::socket::{setsockopt, sockopt},
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{
    lab::{Lab, Side},
    pace::Pace,
    udp::Outcome,
};

/// Sends frames, each with its number in the last eight bytes, and counts at the
/// other side those that a protocol handler for `ether_type` gets to see: behind the
/// ingress hook, the outer VLAN tag taken off.
#[track_caller]
pub fn flow(
    lab: &Lab,
    sender: Side,
    ether_type: u16,
    count: u64,
    frame: impl Fn(&[u8; 8]) -> Vec<u8> + Sync,
) -> Outcome {
    let receiver = match sender {
        Side::Near => Side::Far,
        Side::Far => Side::Near,
    };
    let mut receiving = open(lab, receiver, ether_type);
    // Protocol 0 receives nothing.
    let sending = open(lab, sender, 0);
    let mut outcome = lab.namespace(sender).run(|| {
        let mut pace = Pace::new();
        let mut outcome = Outcome {
            sent: count,
            ..Outcome::default()
        };
        for number in 0..count {
            match sending.send(&frame(&number.to_be_bytes())) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => outcome.refused += 1,
                Err(error) => panic!("send: {error}"),
            }
            pace.sent();
        }
        pace.settle();
        outcome
    });
    let mut buffer = [0; 2048];
    loop {
        match receiving.read(&mut buffer) {
            Ok(len) => outcome.arrived.push(
                buffer[..len]
                    .last_chunk()
                    .map(|number| u64::from_be_bytes(*number))
                    .expect("a numbered frame"),
            ),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return outcome,
            Err(error) => panic!("receive: {error}"),
        }
    }
}

/// A packet socket on a side's interface for frames of one `EtherType`.
#[track_caller]
pub fn open(lab: &Lab, side: Side, ether_type: u16) -> Socket {
    lab.namespace(side).run(|| {
        let protocol = ether_type.to_be();
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))
            .expect("a packet socket");
        setsockopt(&socket, sockopt::RcvBufForce, &(256 << 20)).expect("a large buffer");
        socket.set_nonblocking(true).expect("nonblocking");
        let index = if_nametoindex(lab.dev(side)).expect("the interface is there");
        let family = libc::sa_family_t::try_from(libc::AF_PACKET).expect("small");
        let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).expect("small");
        // SAFETY: sockaddr_ll is what the family AF_PACKET has, smaller than the
        // storage and aligned no stricter; its length is set.
        let ((), address) = unsafe {
            SockAddr::try_init(|storage, len| {
                let address = storage.cast::<libc::sockaddr_ll>();
                (*address).sll_family = family;
                (*address).sll_protocol = protocol;
                (*address).sll_ifindex = index.cast_signed();
                *len = length;
                Ok(())
            })
        }
        .expect("an address");
        socket.bind(&address).expect("bound to the interface");
        socket
    })
}
