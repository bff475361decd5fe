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
