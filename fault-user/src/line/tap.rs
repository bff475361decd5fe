//! The helper device: a TAP whose other end is this process.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
};

use fault_common::layout::Direction;
use rtnetlink::LinkUnspec;
use rustix::io::Errno;

use super::device::{self, index_of, pattern};
use crate::{error::KernelError, interface::Interface, namespace::Namespace, netlink};

/// Frames that the kernel keeps for the process while it is busy or does not get to run.
const RING: u32 = 16_384;

/// A TAP. It goes with its last descriptor, by whatever end of the process.
///
/// A descriptor holds the network namespace in which it was opened, which is the
/// process's own. The device itself is moved to the interface's namespace, and goes
/// with that; then reading fails with `EBADFD`.
#[derive(Debug)]
pub struct Tap {
    /// Its index in the interface's namespace.
    pub ifindex: u32,
    /// Its name, by which a person knows whose it is.
    pub name: String,
    /// One descriptor each.
    pub queues: Vec<OwnedFd>,
}

impl Tap {
    /// Makes one for a direction of an interface, in its namespace, and brings it up.
    pub fn open(
        namespace: &Namespace,
        iface: &Interface,
        direction: Direction,
        queues: usize,
    ) -> Result<Self, KernelError> {
        let mut name = pattern(&iface.name, direction);
        let mut open = Vec::new();
        for _ in 0..queues {
            let (queue, given) = queue(&name, queues > 1)?;
            name = given;
            open.push(queue);
        }
        if !namespace.is_own() {
            name = migrate(&name, namespace, &pattern(&iface.name, direction), &open[0])?;
        }
        let ifindex = namespace.run(|| {
            let index = index_of(&name)?;
            let message = LinkUnspec::new_with_index(index).txqueuelen(RING);
            device::set_up(message.alias(device::alias(iface, direction)))?;
            Ok::<_, KernelError>(index)
        })?;
        Ok(Self {
            ifindex,
            name,
            queues: open,
        })
    }
}

/// A queue of the device with this name, in the namespace of this process; the first
/// one makes the device. Returns the name that it came to.
fn queue(name: &str, several: bool) -> Result<(OwnedFd, String), KernelError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .map_err(missing)?;
    let mut request = request(name);
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if several {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    request.ifr_ifru.ifru_flags = flags.try_into().unwrap_or_default();
    ioctl(&file, libc::TUNSETIFF, (&raw mut request).cast())
        .map_err(KernelError::system("create a TAP device"))?;
    let mut size = super::frame::VNET_HDR;
    ioctl(&file, libc::TUNSETVNETHDRSZ, (&raw mut size).cast())
        .map_err(KernelError::system("set up a TAP device"))?;
    offload(&file).map_err(KernelError::system("set the offloads of a TAP device"))?;
    Ok((file.into(), text(&request)))
}

/// No tun device: no driver, or no right to it.
fn missing(source: io::Error) -> KernelError {
    match source.kind() {
        io::ErrorKind::NotFound => KernelError::Feature {
            feature: "TAP devices",
            fix: "`modprobe tun`, or a kernel with CONFIG_TUN",
            source: Box::new(source),
        },
        _ => KernelError::System {
            what: "open `/dev/net/tun`",
            source,
        },
    }
}

/// Super-packets and unfinished checksums come as they are; UDP's from Linux 6.2 on,
/// before which the kernel cuts those up.
fn offload(file: &File) -> io::Result<()> {
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let udp = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    let set = |offloads: u32| {
        let argument = std::ptr::without_provenance_mut(offloads as usize);
        ioctl(file, libc::TUNSETOFFLOAD, argument)
    };
    set(tcp | udp).or_else(|_| set(tcp))
}

/// Moves the device to the interface's namespace, where its number may be another.
fn migrate(
    name: &str,
    namespace: &Namespace,
    pattern: &str,
    queue: &OwnedFd,
) -> Result<String, KernelError> {
    let index = index_of(name)?;
    let target = namespace.run(device::this_namespace)?;
    let to_there = || LinkUnspec::new_with_index(index).setns_by_fd(target.as_raw_fd());
    netlink::with(|handle| async move {
        match handle.link().set(to_there().build()).execute().await {
            // Its name is taken there.
            Err(error) if netlink::is_errno(&error, Errno::EXIST) => {
                let renamed = to_there().name(pattern).build();
                handle.link().set(renamed).execute().await
            }
            result => result,
        }
    })?;
    let mut request = request("");
    ioctl(queue, libc::TUNGETIFF, (&raw mut request).cast())
        .map_err(KernelError::system("look at a TAP device"))?;
    Ok(text(&request))
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: all zero is a value of it, by its C definition.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request
}

fn text(request: &libc::ifreq) -> String {
    let bytes = request.ifr_name.map(i8::cast_unsigned);
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

fn ioctl(
    descriptor: &impl std::os::fd::AsFd,
    number: libc::Ioctl,
    argument: *mut libc::c_void,
) -> io::Result<()> {
    let descriptor: BorrowedFd<'_> = descriptor.as_fd();
    // SAFETY: each caller gives what the number takes: an `ifreq`, an `int`, or bits.
    match unsafe { libc::ioctl(descriptor.as_raw_fd(), number, argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
