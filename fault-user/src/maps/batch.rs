//! Many entries of a table at once: `BPF_MAP_UPDATE_BATCH` and `BPF_MAP_DELETE_BATCH`
//! (Linux 5.6).

use std::{io, os::fd::BorrowedFd};

use bytemuck::Pod;

use crate::bpf;

/// Entries a system call: what is copied for it stays small, and is small beside the call.
const BATCH: usize = 4096;

/// Writes entries. On an error, those before it are in the table.
pub(super) fn insert<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    entries: impl Iterator<Item = (K, V)>,
) -> io::Result<()> {
    let (mut keys, mut values) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    let mut entries = entries.fuse();
    loop {
        keys.clear();
        values.clear();
        for (key, value) in entries.by_ref().take(BATCH) {
            keys.push(key);
            values.push(value);
        }
        if keys.is_empty() {
            return Ok(());
        }
        bpf::update_batch(map, &keys, &values)?;
    }
}

/// Takes entries out; those that are not there are no error.
pub(super) fn remove<K: Pod>(map: BorrowedFd<'_>, keys: impl Iterator<Item = K>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut keys = keys.fuse();
    loop {
        batch.clear();
        batch.extend(keys.by_ref().take(BATCH));
        let mut rest = &batch[..];
        if rest.is_empty() {
            return;
        }
        while !rest.is_empty() {
            // Stops at a key that is not there: on behind it.
            let removed = bpf::delete_batch(map, rest);
            rest = rest.get(removed + 1..).unwrap_or_default();
        }
    }
}
