//! Bulk transfers.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    thread,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};

use crate::{
    lab::{Family, Lab, Side, ends},
    namespace::Namespace,
    wait::{SOON, until},
};

/// Sends `bytes` from one side to the other by TCP (reno), each segment a packet of its
/// own, and returns how many were sent again.
#[track_caller]
pub fn retransmits(lab: &Lab, family: Family, sender: Side, bytes: usize) -> u64 {
    let dev = lab.dev(sender);
    lab.namespace(sender)
        .ip(&format!("link set {dev} gso_max_segs 1"));
    send(lab, family, sender, bytes)
}

/// The same, with super-packets as the device has them.
#[track_caller]
pub fn send(lab: &Lab, family: Family, sender: Side, bytes: usize) -> u64 {
    let (_, to) = ends(family, sender);
    let receiver = match sender {
        Side::Near => &lab.far,
        Side::Far => &lab.near,
    };
    let listener = until("a listener", SOON, || {
        receiver.run(|| TcpListener::bind(to)).ok()
    });
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut all = Vec::new();
            stream.read_to_end(&mut all).expect("to read to the end");
            all.len()
        });
        let retransmits = transfer(lab.namespace(sender), to, bytes);
        assert_eq!(reader.join().expect("a reader"), bytes);
        retransmits
    })
}

/// Sends `len` bytes that differ everywhere from one namespace to an address in another,
/// by TCP as it is set up there, and fails unless the same arrive.
#[track_caller]
pub fn carry(from: &Namespace, into: &Namespace, to: SocketAddr, len: u64) {
    let listener = until("a listener", SOON, || {
        into.run(|| TcpListener::bind(to)).ok()
    });
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = from.run(|| TcpStream::connect(to)).expect("to connect");
            let mut buffer = [0; CHUNK];
            for at in (0..len).step_by(CHUNK) {
                let part = chunk(&mut buffer, at, len);
                stream.write_all(part).expect("to write");
            }
        });
        let (mut stream, _) = listener.accept().expect("a connection");
        let (mut buffer, mut expected) = ([0; CHUNK], [0; CHUNK]);
        for at in (0..len).step_by(CHUNK) {
            let expected = chunk(&mut expected, at, len);
            let part = &mut buffer[..expected.len()];
            stream.read_exact(part).expect("to read");
            // Not by assert_eq: nobody wants to see them.
            assert!(part == expected, "other bytes from {at} on");
        }
        assert_eq!(stream.read(&mut [0]).expect("to read"), 0, "no more");
    });
}

const CHUNK: usize = 1 << 14;

/// What is at a place of the bytes that [`carry`] sends: 8 of each number.
fn chunk(buffer: &mut [u8; CHUNK], at: u64, len: u64) -> &[u8] {
    for (number, word) in (at..).step_by(8).zip(buffer.chunks_exact_mut(8)) {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word.copy_from_slice(&mixed.to_le_bytes());
    }
    let left = usize::try_from(len - at).unwrap_or(CHUNK);
    &buffer[..left.min(CHUNK)]
}

fn transfer(namespace: &Namespace, to: SocketAddr, bytes: usize) -> u64 {
    let mut stream = namespace
        .run(|| TcpStream::connect(to))
        .expect("to connect");
    let reno = "reno".to_owned().into();
    setsockopt(&stream, sockopt::TcpCongestion, &reno).expect("reno is always there");
    stream
        .set_read_timeout(Some(Duration::from_mins(2)))
        .expect("a timeout");
    stream.write_all(&vec![0xfa; bytes]).expect("to write");
    stream.shutdown(Shutdown::Write).expect("to end");
    // The other end closes when it has got everything.
    assert_eq!(stream.read(&mut [0]).expect("to hear the end"), 0);
    total_retransmits(&stream)
}

/// How many segments it has sent again: `tcpi_total_retrans` of tcp(7).
pub fn total_retransmits(stream: &TcpStream) -> u64 {
    /// Bytes in front of it, by linux/tcp.h: 8 of one byte, 23 of four.
    const OFFSET: usize = 8 + 23 * 4;
    let mut info = [0_u8; OFFSET + 4];
    let mut len = libc::socklen_t::try_from(info.len()).expect("small");
    // SAFETY: the kernel writes at most `len` bytes into the buffer of that size.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    let last = info.last_chunk().expect("at least four bytes");
    u32::from_ne_bytes(*last).into()
}
