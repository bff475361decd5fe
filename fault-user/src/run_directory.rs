//! The directory `/run/faultctl`, and what is in it: for this user alone.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::process::geteuid;

use crate::error::KernelError;

/// Where it is.
pub const PATH: &str = "/run/faultctl";

/// Makes a directory that is it or lies in it, if it is not there. Refuses one in which
/// anybody else could put something.
pub fn make(path: &Path) -> Result<(), KernelError> {
    for directory in from_the_top(path) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed(directory))?;
        check_one(directory)?;
    }
    Ok(())
}

/// Refuses a directory in which anybody else could put something.
pub fn check(path: &Path) -> Result<(), KernelError> {
    from_the_top(path).into_iter().try_for_each(check_one)
}

/// Opens a file there, never through a symbolic link; what somebody else has put there is
/// refused.
pub fn open(path: &Path, options: &mut OpenOptions) -> Result<File, KernelError> {
    let opened = options
        .mode(0o600)
        // A pipe does not keep anybody waiting.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(not_private(path)),
        opened => opened.map_err(failed(path))?,
    };
    let metadata = file.metadata().map_err(failed(path))?;
    if metadata.is_file() && is_private(&metadata) {
        Ok(file)
    } else {
        Err(not_private(path))
    }
}

/// What a system call said of a path.
pub fn failed(path: &Path) -> impl Fn(io::Error) -> KernelError {
    let path = path.to_owned();
    move |source| KernelError::State {
        path: path.clone(),
        source,
    }
}

fn from_the_top(path: &Path) -> Vec<&Path> {
    let mut all: Vec<_> = path
        .ancestors()
        .filter(|directory| directory.starts_with(PATH))
        .collect();
    all.reverse();
    all
}

fn check_one(directory: &Path) -> Result<(), KernelError> {
    let metadata = fs::symlink_metadata(directory).map_err(failed(directory))?;
    if metadata.is_dir() && is_private(&metadata) {
        Ok(())
    } else {
        Err(not_private(directory))
    }
}

/// Whether it belongs to this user, and no other may write it.
fn is_private(metadata: &fs::Metadata) -> bool {
    const OTHERS_WRITE: u32 = 0o022;
    metadata.uid() == geteuid().as_raw() && metadata.mode() & OTHERS_WRITE == 0
}

fn not_private(path: &Path) -> KernelError {
    KernelError::NotPrivate {
        path: path.to_owned(),
    }
}
