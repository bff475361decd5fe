//! Work inside a network namespace, without keeping a hold on it.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{container::ContainerId, error::KernelError, process};

/// How a user says which network namespace is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// The one of this process.
    #[default]
    Own,
    /// By a path.
    Path(PathBuf),
    /// The one of a process.
    Process(u32),
    /// The one of a container.
    Container(ContainerId),
}

/// A network namespace by its path, or this process's own. Opened for each piece
/// of work and closed again: an open handle would keep a deleted namespace alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    path: Option<PathBuf>,
    /// Its inode, where the path may come to lead elsewhere.
    pinned: Option<u64>,
}

impl Namespace {
    /// The namespace of a place.
    pub fn of(place: &Place) -> Result<Self, KernelError> {
        match place {
            Place::Own => Ok(Self::default()),
            Place::Path(path) => Ok(Self::named(path)),
            Place::Process(pid) => Self::of_process(*pid),
            Place::Container(id) => {
                let gone = |_| KernelError::NoContainer { id: id.clone() };
                Self::of_process(id.process()?).map_err(gone)
            }
        }
    }

    /// The namespace that a process is in now. It stays meant when the process ends, as
    /// long as a name or another process leads there.
    fn of_process(pid: u32) -> Result<Self, KernelError> {
        if process::stat(pid).is_none() {
            return Err(KernelError::NoProcess { pid });
        }
        let mut namespace = Self::at(format!("/proc/{pid}/ns/net").into());
        namespace.pinned = Some(namespace.inode()?);
        Ok(namespace)
    }

    const fn at(path: PathBuf) -> Self {
        Self {
            path: Some(path),
            pinned: None,
        }
    }

    /// The namespace that `--netns` names: a path, or a name as ip-netns(8) knows it.
    pub fn named(name: &Path) -> Self {
        let path = if name.components().count() > 1 {
            name.to_owned()
        } else {
            Path::new("/run/netns").join(name)
        };
        Self::at(path)
    }

    /// One that this process holds by a descriptor, for as long as it does.
    pub fn held(descriptor: &File) -> Self {
        // By the process's number: the way must be the same from every thread.
        let (pid, fd) = (std::process::id(), descriptor.as_raw_fd());
        Self::at(format!("/proc/{pid}/fd/{fd}").into())
    }

    /// Whether it is the one that this process lives in.
    pub fn is_own(&self) -> bool {
        self.path.is_none()
    }

    /// What the user calls it.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Its inode, the number that `lsns` and `/proc/PID/ns/net` show.
    pub fn inode(&self) -> Result<u64, KernelError> {
        let path = self.path.as_deref().unwrap_or(Path::new(OWN));
        fs::metadata(path)
            .map(|metadata| metadata.ino())
            .map_err(|source| self.missing(source))
    }

    /// Runs `work` inside, on a thread of its own.
    pub fn run<T, E>(&self, work: impl FnOnce() -> Result<T, E> + Send) -> Result<T, E>
    where
        T: Send,
        E: From<KernelError> + Send,
    {
        let Some(path) = &self.path else {
            return work();
        };
        let handle = self.open(path).map_err(|source| self.missing(source))?;
        thread::scope(|scope| {
            scope
                .spawn(move || {
                    move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))
                        .map_err(|errno| self.missing(errno.into()))?;
                    drop(handle);
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let file = File::open(path);
        let Some(pinned) = self.pinned else {
            return file;
        };
        match file {
            Ok(file) if file.metadata()?.ino() == pinned => Ok(file),
            // The process has ended, or another has its number.
            _ => {
                let other = Self::with_inode(pinned).ok_or(io::ErrorKind::NotFound)?;
                File::open(other.path.as_deref().unwrap_or(Path::new(OWN)))
            }
        }
    }

    fn missing(&self, source: io::Error) -> KernelError {
        KernelError::Namespace {
            path: self.path.clone().unwrap_or_else(|| OWN.into()),
            source,
        }
    }

    /// The namespace with this inode, if a name or a process of this machine leads to it.
    pub fn with_inode(inode: u64) -> Option<Self> {
        if Self::default().inode().is_ok_and(|own| own == inode) {
            return Some(Self::default());
        }
        let named = entries("/run/netns");
        let of_processes = entries("/proc").map(|process| process.join("ns/net"));
        named
            .chain(of_processes)
            .find(|path| fs::metadata(path).is_ok_and(|metadata| metadata.ino() == inode))
            .map(Self::at)
    }
}

const OWN: &str = "/proc/thread-self/ns/net";

fn entries(dir: &str) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
}
