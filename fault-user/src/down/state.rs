//! The saved state on disk, so that it survives every process: a file a link below
//! `/run/faultctl/down`, for root only.
//!
//! A file is made whole or not at all. Whoever puts a link back holds the lock on its
//! file, empties it when that is done, and removes it: an empty file means that there is
//! nothing left to do, also to those who have it open.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with},
    io::Errno,
};

use super::saved::{Saved, boot_id};
use crate::{
    error::KernelError,
    process,
    run_directory::{self, failed},
};

mod elsewhere;

/// A file with the state of a link.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    file: File,
    /// What is in it.
    pub saved: Saved,
}

/// What a file turned out to be.
#[derive(Debug)]
pub enum Entry {
    /// A state.
    State(Box<State>),
    /// Of another version of faultctl.
    OtherVersion,
}

/// The file for a link, by its namespace's inode and its index there.
pub fn path(netns: u64, ifindex: u32) -> PathBuf {
    directory().join(format!("{netns}-{ifindex}"))
}

/// All that is saved on this machine since it was booted, the oldest first: what lies on
/// another link is saved after it. Of other mount namespaces, what living processes keep.
pub fn all() -> Result<Vec<Entry>, KernelError> {
    let mut all = here()?;
    for state in elsewhere::all()? {
        let is_same = |other: &Entry| matches!(other, Entry::State(it) if it.saved == state.saved);
        // Mount namespaces may have the directory in common, and so may two processes.
        if !all.iter().any(is_same) {
            all.push(Entry::State(Box::new(state)));
        }
    }
    all.sort_by_key(|entry| match entry {
        Entry::State(state) => state.saved.since_ns,
        Entry::OtherVersion => 0,
    });
    Ok(all)
}

fn here() -> Result<Vec<Entry>, KernelError> {
    let directory = directory();
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed(&directory))?,
    };
    run_directory::check(&directory)?;
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed(&directory))?.path();
        // Begun, and not whole yet: named after who writes it.
        if let Some(writer) = path.extension() {
            let writer = writer.to_str().and_then(|pid| pid.parse().ok());
            if writer.and_then(process::start_ticks).is_none() {
                let _ = fs::remove_file(&path);
            }
            continue;
        }
        match read(&path) {
            Ok(entry) => all.extend(entry),
            // Not a link's that anybody took away.
            Err(KernelError::NotPrivate { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Reads one; `None` where there is nothing to put back.
pub fn read(path: &Path) -> Result<Option<Entry>, KernelError> {
    let opened = run_directory::open(path, OpenOptions::new().read(true).write(true));
    let mut file = match opened {
        Err(KernelError::State { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed(path))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let Some(saved) = Saved::decode(&bytes) else {
        return Ok(Some(Entry::OtherVersion));
    };
    // A link of an earlier boot is not what was saved, whatever its number.
    if saved.boot_id != boot_id()? {
        let _ = fs::remove_file(path);
        return Ok(None);
    }
    Ok(Some(Entry::State(Box::new(State {
        path: path.to_owned(),
        file,
        saved,
    }))))
}

impl State {
    /// Writes it, unless there is one for the link already, which is returned.
    pub fn write(saved: Saved) -> Result<Result<Self, Entry>, KernelError> {
        run_directory::make(&directory())?;
        let path = path(saved.netns, saved.target().index);
        let begun = path.with_extension(std::process::id().to_string());
        // Of a process that had this one's number.
        let _ = fs::remove_file(&begun);
        let file = run_directory::open(
            &begun,
            OpenOptions::new().read(true).write(true).create_new(true),
        )
        .and_then(|mut file| {
            file.write_all(&saved.encode()).map_err(failed(&begun))?;
            Ok(file)
        });
        let placed = file.and_then(|file| {
            loop {
                match renameat_with(CWD, &begun, CWD, &path, RenameFlags::NOREPLACE) {
                    Ok(()) => return Ok(Ok(file)),
                    Err(Errno::EXIST) => match read(&path)? {
                        Some(entry) => return Ok(Err(entry)),
                        // Emptied, and its owner did not come to remove it.
                        None => match fs::remove_file(&path) {
                            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                                return Err(failed(&path)(error));
                            }
                            _ => {}
                        },
                    },
                    Err(error) => return Err(failed(&path)(error.into())),
                }
            }
        });
        if !matches!(placed, Ok(Ok(_))) {
            let _ = fs::remove_file(&begun);
        }
        Ok(placed?.map(|file| Self { path, file, saved }))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the right to put the link back, for as long as the claim lives; `None` if
    /// somebody else has done it. Waits for one who is at it, but no longer than that may
    /// take: what a stopped process has begun can be done again beside it.
    pub fn claim(&self, at_most: Duration) -> Result<Option<Claim<'_>>, KernelError> {
        const AGAIN: Duration = Duration::from_millis(20);
        let since = Instant::now();
        loop {
            match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if since.elapsed() < at_most => thread::sleep(AGAIN),
                Ok(()) | Err(Errno::WOULDBLOCK) => break,
                Err(error) => return Err(failed(&self.path)(error.into())),
            }
        }
        let len = self.file.metadata().map_err(failed(&self.path))?.len();
        Ok((len > 0).then_some(Claim(self)))
    }
}

/// The right to put a link back.
#[derive(Debug)]
pub struct Claim<'a>(&'a State);

impl Claim<'_> {
    /// There is nothing left to do.
    pub fn done(self) -> Result<(), KernelError> {
        let State { path, file, .. } = self.0;
        // Another has done it beside this process: by now the path may be the next fault's.
        if file.metadata().map_err(failed(path))?.len() == 0 {
            return Ok(());
        }
        // In this order: an empty file is free for the next fault to take its place.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(path)(error));
            }
            _ => {}
        }
        file.set_len(0).map_err(failed(path))
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let _ = flock(&self.0.file, FlockOperation::Unlock);
    }
}

fn directory() -> PathBuf {
    Path::new(run_directory::PATH).join("down")
}
