//! Which processes this one hangs on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
};

use super::sockets;
use crate::{error::KernelError, process};

/// SSH servers that this process hangs on.
///
/// First by parents, through shells, sudo and su. The server of tmux or screen is not
/// the child of who is attached to it, but has their terminals open: where no parent is
/// an SSH server, the search goes on at whoever holds the other end of a terminal that
/// one of the parents has open, and at their parents. That also leads through script(1)
/// and `systemd-run --pty`.
pub(super) fn ssh_servers() -> Result<Vec<u32>, KernelError> {
    let mut search = Search::default();
    search.climb(std::process::id());
    while search.servers.is_empty() {
        let before = search.seen.len();
        for pid in search.holders()? {
            search.climb(pid);
        }
        if search.seen.len() == before {
            break;
        }
    }
    Ok(search.servers)
}

/// By the names of their programs: OpenSSH (from 9.8 on, a session has a program of its
/// own) and Dropbear.
const SERVERS: [&str; 3] = ["sshd", "sshd-session", "dropbear"];

#[derive(Default)]
struct Search {
    seen: BTreeSet<u32>,
    servers: Vec<u32>,
    /// Who holds the other end of each terminal, once somebody asked.
    masters: Option<BTreeMap<u32, Vec<u32>>>,
}

impl Search {
    /// From a process to its parents, as far as an SSH server that has a connection.
    fn climb(&mut self, from: u32) {
        let mut pid = from;
        // The first process holds terminals, but works for everybody.
        while pid > 1 && self.seen.insert(pid) {
            let Some(process::Stat { name, parent, .. }) = process::stat(pid) else {
                return;
            };
            // The listening server, further up, has none.
            if SERVERS.contains(&name.as_str())
                && !sockets::connections(pid).is_ok_and(|held| held.is_empty())
            {
                self.servers.push(pid);
                return;
            }
            pid = parent;
        }
    }

    /// Who holds the other ends of the terminals that those seen so far have open.
    fn holders(&mut self) -> Result<BTreeSet<u32>, KernelError> {
        let terminals: BTreeSet<u32> = self.seen.iter().flat_map(|pid| terminals(*pid)).collect();
        if terminals.is_empty() {
            return Ok(BTreeSet::new());
        }
        let masters = match self.masters.take() {
            Some(masters) => masters,
            None => masters().map_err(KernelError::system("list the processes"))?,
        };
        let masters = self.masters.insert(masters);
        Ok(terminals
            .iter()
            .filter_map(|terminal| masters.get(terminal))
            .flatten()
            .copied()
            .collect())
    }
}

/// Major numbers of the terminals below /dev/pts (devices.txt of the kernel).
const PTS: std::ops::Range<u32> = 136..144;

/// Numbers of the terminals below /dev/pts that a process has open.
fn terminals(pid: u32) -> Vec<u32> {
    let Ok(descriptors) = process::descriptors(pid) else {
        return Vec::new();
    };
    descriptors
        .filter_map(|(_, path)| {
            let device = fs::metadata(path).ok()?.rdev();
            let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
            PTS.contains(&major)
                .then(|| (major - PTS.start) * 256 + minor)
        })
        .collect()
}

/// Who holds the other end of each terminal, among all processes that can be read.
fn masters() -> io::Result<BTreeMap<u32, Vec<u32>>> {
    let mut masters = BTreeMap::<u32, Vec<u32>>::new();
    for pid in process::all()? {
        let Ok(descriptors) = process::descriptors(pid) else {
            continue;
        };
        for (fd, path) in descriptors {
            let is_master = fs::read_link(path).is_ok_and(|target| target.ends_with("ptmx"));
            if let Some(terminal) = is_master.then(|| terminal_of(pid, fd)).flatten() {
                masters.entry(terminal).or_default().push(pid);
            }
        }
    }
    Ok(masters)
}

/// The terminal behind a descriptor of /dev/ptmx, by the line `tty-index` (Linux 4.14).
fn terminal_of(pid: u32, fd: u32) -> Option<u32> {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    info.lines()
        .find_map(|line| line.strip_prefix("tty-index:"))?
        .trim()
        .parse()
        .ok()
}
