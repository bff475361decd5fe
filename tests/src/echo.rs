//! Echo requests: what ping(8) sends, without its retries.

use std::{
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    frame::checksum,
    namespace::Namespace,
    pace::Pace,
    udp::{Outcome, told_of_drops},
};

/// Sends `count` echo requests and counts the replies.
#[track_caller]
pub fn ping(namespace: &Namespace, to: IpAddr, count: u16) -> Outcome {
    let ipv4 = to.is_ipv4();
    let (domain, protocol, request, reply) = if ipv4 {
        (Domain::IPV4, Protocol::ICMPV4, 8, 0)
    } else {
        (Domain::IPV6, Protocol::ICMPV6, 128, 129)
    };
    namespace.run(|| {
        let mut socket = Socket::new(domain, Type::RAW, Some(protocol)).expect("a raw socket");
        setsockopt(&socket, sockopt::RcvBufForce, &(256 << 20)).expect("a large buffer");
        told_of_drops(&socket, ipv4);
        socket.set_nonblocking(true).expect("nonblocking");
        let mut pace = Pace::new();
        let mut outcome = Outcome {
            sent: count.into(),
            ..Outcome::default()
        };
        let to = SocketAddr::new(to, 0).into();
        for number in 0..count {
            match socket.send_to(&message(request, number), &to) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => outcome.refused += 1,
                Err(error) => panic!("send: {error}"),
            }
            pace.sent();
        }
        // The replies went into the queue behind the first settling packet.
        pace.settle();
        pace.settle();
        let mut buffer = [0; 2048];
        loop {
            match socket.read(&mut buffer) {
                Ok(len) => {
                    let message = if ipv4 {
                        &buffer[20..len]
                    } else {
                        &buffer[..len]
                    };
                    if message[0] == reply && message[4..6] == IDENTIFIER {
                        outcome
                            .arrived
                            .push(u16::from_be_bytes([message[6], message[7]]).into());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return outcome,
                Err(error) => panic!("receive: {error}"),
            }
        }
    })
}

const IDENTIFIER: [u8; 2] = [0xfa, 0x17];

/// RFC 792, RFC 4443; the kernel writes the checksum of `ICMPv6` itself.
fn message(kind: u8, number: u16) -> [u8; 8] {
    let [high, low] = number.to_be_bytes();
    let mut message = [kind, 0, 0, 0, IDENTIFIER[0], IDENTIFIER[1], high, low];
    let [high, low] = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&[high, low]);
    message
}
