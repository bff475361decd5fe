//! States that are kept in another mount namespace, found by the processes that keep them.
//!
//! Such a file is only trusted from a process that could put the link back itself: what is
//! in it gives nobody more than he has.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::PathBuf};

use caps::{CapSet, Capability};
use rustix::process::geteuid;

use super::{Entry, State, directory, read};
use crate::{down::saved::Saved, error::KernelError, privilege, process};

/// What processes of other mount namespaces keep, once for each of them; nothing of those
/// that are dead.
pub(super) fn all() -> Result<Vec<State>, KernelError> {
    let listed = process::all().map_err(KernelError::system("list the processes"))?;
    let mut all = Vec::new();
    for pid in listed {
        if is_shared(pid, "mnt") || !is_privileged(pid) {
            continue;
        }
        for path in files(pid).unwrap_or_default() {
            // What cannot be read has ended meanwhile, or is not to be trusted.
            if let Ok(Some(Entry::State(state))) = read(&path)
                && is_kept(&state.saved, pid)
            {
                all.push(*state);
            }
        }
    }
    Ok(all)
}

/// The files that are whole, by the way through a process.
fn files(pid: u32) -> io::Result<Vec<PathBuf>> {
    let directory = format!("/proc/{pid}/root{}", directory().display());
    let entries = fs::read_dir(directory)?;
    Ok(entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_none())
        .collect())
}

/// Whether a process is of this user, and may set links in its namespace.
fn is_privileged(pid: u32) -> bool {
    let is_ours = fs::metadata(format!("/proc/{pid}"))
        .is_ok_and(|metadata| metadata.uid() == geteuid().as_raw());
    is_ours && is_shared(pid, "user") && has(pid, Capability::CAP_NET_ADMIN)
}

/// Whether it keeps this, and could put it back.
fn is_kept(saved: &Saved, pid: u32) -> bool {
    let is_inside = inode(pid, "net") == Some(saved.netns);
    let keeper = [saved.controller, saved.watchdog]
        .into_iter()
        .find(|keeper| keeper.pid == pid);
    keeper.is_some_and(|keeper| keeper.find().is_some())
        && (is_inside || has(pid, privilege::TO_LOOK_AROUND))
}

fn has(pid: u32, capability: Capability) -> bool {
    caps::has_cap(Some(pid.cast_signed()), CapSet::Permitted, capability).unwrap_or(false)
}

/// Whether a process is in this one's namespace of a kind, as far as can be seen.
fn is_shared(pid: u32, kind: &str) -> bool {
    inode(pid, kind) == inode(std::process::id(), kind)
}

fn inode(pid: u32, kind: &str) -> Option<u64> {
    let metadata = fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok()?;
    Some(metadata.ino())
}
