//! An interface without an Ethernet header.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::AsRawFd as _,
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::namespace::Namespace;

/// A tun interface; the test holds the other end of its wire.
#[derive(Debug)]
pub struct Tun {
    wire: File,
}

impl Tun {
    /// Makes one.
    #[track_caller]
    pub fn new(namespace: &Namespace, name: &str) -> Self {
        let wire = namespace.run(|| {
            let wire = File::options()
                .read(true)
                .write(true)
                .open("/dev/net/tun")
                .expect("/dev/net/tun");
            // SAFETY: all-zero bytes are a value of ifreq.
            let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
            for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
                *to = from.cast_signed();
            }
            request.ifr_ifru.ifru_flags =
                i16::try_from(libc::IFF_TUN | libc::IFF_NO_PI).expect("small flags");
            // SAFETY: TUNSETIFF reads and writes an ifreq, alive for the call.
            let result =
                unsafe { libc::ioctl(wire.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
            assert_eq!(result, 0, "{}", io::Error::last_os_error());
            wire
        });
        fcntl(&wire, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("nonblocking");
        Self { wire }
    }

    /// IP packets that the interface has sent.
    pub fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut buffer = [0; 2048];
        let mut packets = Vec::new();
        loop {
            match self.wire.read(&mut buffer) {
                Ok(len) => packets.push(buffer[..len].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return packets,
                Err(error) => panic!("read: {error}"),
            }
        }
    }

    /// Lets the interface receive an IP packet.
    pub fn deliver(&mut self, packet: &[u8]) {
        self.wire.write_all(packet).expect("to write");
    }
}
