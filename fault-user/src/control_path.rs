//! The SSH connection that the operator works through, for faults to spare.
//!
//! Found from what the kernel knows: which processes this one hangs on, up to an SSH
//! server, and which TCP connection that server holds. The environment is not asked,
//! because sudo strips it; nor is a port number, because SSH has no port of its own.

use std::{
    fmt, fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt as _,
};

use fault_common::{address::Address, layout};

use crate::{error::KernelError, namespace::Namespace};

mod ancestry;
mod route;
mod sockets;

/// A TCP connection, as this machine's socket table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connection {
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
}

/// The operator's SSH connections whose sockets are in a network namespace: one as a
/// rule, none on a console, several where several terminals are attached to one tmux.
pub fn find(namespace: &Namespace) -> Result<Vec<Connection>, KernelError> {
    let inode = namespace.inode()?;
    let mut connections = Vec::new();
    for server in ancestry::ssh_servers()? {
        let found = is_in(server, inode).and_then(|is_in| {
            if is_in {
                sockets::connections(server)
            } else {
                Ok(Vec::new())
            }
        });
        match found {
            Ok(found) => connections.extend(found),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(KernelError::ControlPath { pid: server });
            }
            // It has just ended: no connection is left to spare.
            Err(_) => {}
        }
    }
    Ok(connections)
}

/// Whether one of the connections ends when an interface goes down: it is routed through
/// it or through what is built on it, or has a local address that the interface has.
/// Runs in the interface's namespace.
pub fn carried_by(index: u32, connections: &[Connection]) -> Result<bool, KernelError> {
    Ok(route::needed(connections)?.contains(&index))
}

fn is_in(pid: u32, namespace_inode: u64) -> io::Result<bool> {
    let own = fs::metadata(format!("/proc/{pid}/ns/net"))?;
    Ok(own.ino() == namespace_inode)
}

impl Connection {
    /// As the maps have it.
    pub fn key(&self) -> layout::Connection {
        layout::Connection {
            far: address(self.peer.ip()),
            near: address(self.local.ip()),
            far_port: self.peer.port().into(),
            near_port: self.local.port().into(),
        }
    }
}

fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(v4) => Address::from_v4(v4.octets()),
        IpAddr::V6(v6) => Address::from_v6(v6.octets()),
    }
}

/// As people name it: by its other end.
impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SSH from {}", self.peer)
    }
}
