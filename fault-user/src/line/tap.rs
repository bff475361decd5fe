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
use futures_util::TryStreamExt as _;
use rtnetlink::{
    LinkUnspec,
    packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage},
};
use rustix::io::Errno;

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
        let alias = format!(
            "faultctl pid {}: holds {} of {}",
            std::process::id(),
            direction.name(),
            iface.name
        );
        let ifindex = namespace.run(|| set_up(&name, alias))?;
        Ok(Self {
            ifindex,
            name,
            queues: open,
        })
    }

    /// Frames that found its ring full; in its namespace.
    pub fn overruns(ifindex: u32) -> Result<u64, KernelError> {
        let message = netlink::with(|handle| async move {
            let request = handle.link().get().match_index(ifindex);
            request.execute().try_next().await
        })?;
        Ok(message.as_ref().map_or(0, dropped))
    }
}

fn dropped(message: &LinkMessage) -> u64 {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(stats.tx_dropped),
            _ => None,
        })
        .unwrap_or(0)
}

/// `fc-eth0-out0`: what the kernel takes for "the first number that is free". Names
/// have 15 bytes, and a number may have two digits.
fn pattern(iface: &str, direction: Direction) -> String {
    let mut end = iface.len().min(6);
    while !iface.is_char_boundary(end) {
        end -= 1;
    }
    // A name may hold what would be taken for the number.
    let iface = iface[..end].replace('%', "_");
    match direction {
        Direction::Egress => format!("fc-{iface}-out%d"),
        Direction::Ingress => format!("fc-{iface}-in%d"),
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
    let target = namespace.run(|| {
        File::open("/proc/thread-self/ns/net")
            .map_err(KernelError::system("open the network namespace"))
    })?;
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

/// Up, silent, and with a long ring; in its namespace.
fn set_up(name: &str, alias: String) -> Result<u32, KernelError> {
    let index = index_of(name)?;
    let message = LinkUnspec::new_with_index(index)
        .txqueuelen(RING)
        .alias(alias)
        // No link-local address, hence no router solicitations and no MLD.
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
            vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)],
        )]))
        .arp(false)
        .multicast(false)
        .build();
    let up = LinkUnspec::new_with_index(index).up().build();
    netlink::with(|handle| async move {
        // A kernel without IPv6 has nothing to be told.
        let mut silent = message.clone();
        if handle.link().set(message).execute().await.is_err() {
            silent
                .attributes
                .retain(|attribute| !matches!(attribute, LinkAttribute::AfSpecUnspec(_)));
            handle.link().set(silent).execute().await?;
        }
        handle.link().set(up).execute().await
    })?;
    Ok(index)
}

fn index_of(name: &str) -> Result<u32, KernelError> {
    Ok(Interface::find(&[name.to_owned()])?
        .first()
        .map_or(0, |interface| interface.index))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_says_whose_it_is_and_leaves_room_for_two_digits() {
        assert_eq!(pattern("eth0", Direction::Egress), "fc-eth0-out%d");
        assert_eq!(pattern("enp0s31f6", Direction::Ingress), "fc-enp0s3-in%d");
        for iface in ["a-name-of-15-by", "größere-namen", "%d%d%d", ""] {
            for direction in Direction::ALL {
                let pattern = pattern(iface, direction);
                assert!(pattern.len() <= 15, "{pattern}");
                assert_eq!(pattern.matches('%').count(), 1, "{pattern}");
            }
        }
    }
}
