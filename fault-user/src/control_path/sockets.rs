//! Which TCP connection an SSH server holds.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use super::Connection;
use crate::process;

/// The TCP connections of an SSH server's session that lead to its client: one, as a rule.
///
/// The session holds what it forwards, too. What it opened itself (`ssh -L`, `-D`) has
/// a local port on which nobody listens; what it accepted for its client (`ssh -R`, X11)
/// has one on which it listens itself. Where nobody listens any more at the client's
/// port, what was opened cannot be told from the client, and all of it is taken.
pub(super) fn connections(pid: u32) -> io::Result<Vec<Connection>> {
    let mut held = BTreeSet::new();
    for (_, path) in process::descriptors(pid)? {
        match fs::read_link(path) {
            Ok(target) => held.extend(socket_inode(&target)),
            // It was closed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if held.is_empty() {
        return Ok(Vec::new());
    }
    let (mut established, mut heard, mut own) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for table in ["tcp", "tcp6"] {
        // A kernel without IPv6 has no table for it.
        let Ok(file) = File::open(format!("/proc/{pid}/net/{table}")) else {
            continue;
        };
        for line in BufReader::new(file).lines() {
            let Some(socket) = Socket::read(&line?) else {
                continue;
            };
            let (is_held, port) = (held.contains(&socket.inode), socket.ends.local.port());
            match socket.state {
                State::Established if is_held => established.push(socket.ends),
                State::Listen if is_held => drop(own.insert(port)),
                State::Listen => drop(heard.insert(port)),
                State::Established => {}
            }
        }
    }
    established.retain(|ends| !own.contains(&ends.local.port()));
    let accepted: Vec<_> = established
        .iter()
        .filter(|ends| heard.contains(&ends.local.port()))
        .copied()
        .collect();
    Ok(if accepted.is_empty() {
        established
    } else {
        accepted
    })
}

/// The number in `socket:[4711]`.
fn socket_inode(target: &Path) -> Option<u64> {
    let inode = target.to_str()?.strip_prefix("socket:[")?;
    inode.strip_suffix(']')?.parse().ok()
}

/// A line of `/proc/net/tcp` or `tcp6`, proc(5).
struct Socket {
    ends: Connection,
    state: State,
    inode: u64,
}

enum State {
    Established,
    Listen,
}

impl Socket {
    /// One in a state that matters.
    fn read(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let (local, peer) = (fields.nth(1)?, fields.next()?);
        let state = match fields.next()? {
            "01" => State::Established,
            "0A" => State::Listen,
            _ => return None,
        };
        Some(Self {
            ends: Connection {
                local: socket_address(local)?,
                peer: socket_address(peer)?,
            },
            state,
            inode: fields.nth(5)?.parse().ok()?,
        })
    }
}

/// The words of an address as numbers of this machine, then the port. An IPv4 connection
/// of an IPv6 socket is one of IPv4.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let word = |n: usize| {
        let word = words.get(8 * n..8 * n + 8)?;
        u32::from_str_radix(word, 16).ok().map(u32::to_ne_bytes)
    };
    let ip: IpAddr = if words.len() == 8 {
        Ipv4Addr::from(word(0)?).into()
    } else {
        let mut octets = [0; 16];
        for (n, chunk) in octets.chunks_mut(4).enumerate() {
            chunk.copy_from_slice(&word(n)?);
        }
        Ipv6Addr::from(octets).to_canonical()
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a little-endian machine prints them.
    #[cfg(target_endian = "little")]
    #[test]
    fn lines_of_the_table_are_read() {
        let line = "   1: 0700000A:0016 020200C0:C813 01 00000000:00000000 02:000A8E3D 00000000 \
                    \u{20}    0        0 4711 2 0000000000000000 20 4 31 10 -1";
        let socket = Socket::read(line).expect("established");
        assert_eq!(socket.inode, 4711);
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        assert_eq!(socket.ends.local, address("10.0.0.7:22"));
        assert_eq!(socket.ends.peer, address("192.0.2.2:51219"));
        let v6 = line
            .replace("0700000A", "000077FD000000000000000001000000")
            .replace("020200C0", "0000000000000000FFFF0000020200C0");
        let socket = Socket::read(&v6).expect("established");
        assert_eq!(socket.ends.local, address("[fd77::1]:22"));
        assert_eq!(socket.ends.peer, address("192.0.2.2:51219"));
        assert!(Socket::read(&line.replace(" 01 ", " 06 ")).is_none());
        let header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt";
        assert!(Socket::read(header).is_none());
    }
}
