//! What a driver tells of its interface: the requests of `linux/ethtool.h`.

use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::error::KernelError;

/// A socket for requests about the interfaces of the namespace that it was made in.
pub struct Ethtool(OwnedFd);

/// What the stack or the card does in place of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// TCP segments, cut by the card.
    Tso,
    /// Segments of any protocol, cut behind the hooks.
    Gso,
    /// Segments put together in front of the hooks.
    Gro,
    /// The same by the card, in a way that cannot be undone.
    Lro,
    /// Checksums of what leaves.
    TxChecksum,
    /// Checksums of what arrives.
    RxChecksum,
}

impl Offload {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Tso,
        Self::Gso,
        Self::Gro,
        Self::Lro,
        Self::TxChecksum,
        Self::RxChecksum,
    ];

    /// As `ethtool -K` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tso => "tso",
            Self::Gso => "gso",
            Self::Gro => "gro",
            Self::Lro => "lro",
            Self::TxChecksum => "tx",
            Self::RxChecksum => "rx",
        }
    }

    /// The request, and the bits of its answer that mean it.
    const fn request(self) -> (u32, u32) {
        const FLAG_LRO: u32 = 1 << 15;
        match self {
            Self::RxChecksum => (0x14, u32::MAX),
            Self::TxChecksum => (0x16, u32::MAX),
            Self::Tso => (0x1e, u32::MAX),
            Self::Gso => (0x23, u32::MAX),
            Self::Lro => (0x25, FLAG_LRO),
            Self::Gro => (0x2b, u32::MAX),
        }
    }
}

/// `ETHTOOL_GDRVINFO`
const GET_DRIVER: u32 = 0x03;
/// `ETHTOOL_GCHANNELS`
const GET_CHANNELS: u32 = 0x3c;

/// `struct ethtool_drvinfo`
#[repr(C)]
struct Driver {
    command: u32,
    name: [u8; 32],
    rest: [u8; 160],
}

/// `struct ethtool_value`
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ethtool_channels`
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    /// At most: receive, transmit, other, combined.
    most: [u32; 4],
    /// Now.
    count: [u32; 4],
}

impl Ethtool {
    /// For the interfaces of the calling thread's namespace.
    pub fn new() -> Result<Self, KernelError> {
        let flags = SocketFlags::CLOEXEC;
        socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)
            .map(Self)
            .map_err(KernelError::system("create a socket"))
    }

    /// The driver's name.
    pub fn driver(&self, iface: &str) -> Option<String> {
        let mut driver = Driver {
            command: GET_DRIVER,
            name: [0; 32],
            rest: [0; 160],
        };
        self.ask(iface, &mut driver)?;
        let end = driver.name.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&driver.name[..end]).into_owned())
    }

    /// Queues in use: receive and transmit.
    pub fn queues(&self, iface: &str) -> Option<(u32, u32)> {
        let mut channels = Channels {
            command: GET_CHANNELS,
            ..Channels::default()
        };
        self.ask(iface, &mut channels)?;
        let [receive, transmit, _, combined] = channels.count;
        Some((receive + combined, transmit + combined))
    }

    /// The offloads that are on.
    pub fn offloads(&self, iface: &str) -> Vec<Offload> {
        let is_on = |offload: &Offload| {
            let (command, bits) = offload.request();
            let mut value = Value { command, data: 0 };
            self.ask(iface, &mut value).is_some() && value.data & bits != 0
        };
        Offload::ALL.into_iter().filter(is_on).collect()
    }

    /// `None` where the driver does not answer.
    fn ask<T>(&self, iface: &str, request: &mut T) -> Option<()> {
        // SAFETY: all zero is a value of it, by its C definition.
        let mut header: libc::ifreq = unsafe { std::mem::zeroed() };
        // The last byte stays 0.
        let room = header.ifr_name.len() - 1;
        for (to, from) in header.ifr_name[..room].iter_mut().zip(iface.bytes()) {
            *to = from.cast_signed();
        }
        header.ifr_ifru.ifru_data = std::ptr::from_mut(request).cast();
        // SAFETY: the kernel reads the command from `request` and writes the structure of
        // that command, which `T` is, and which lives through the call.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SIOCETHTOOL, &raw mut header) };
        (result == 0).then_some(())
    }
}
