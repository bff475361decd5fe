//! The guest's files: programs of this machine with the libraries that they need, the
//! kernel's modules, and what the guest is to do.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use cpio::newc::{Builder, ModeFileType, trailer};

use crate::command::{self, failure};

/// An archive that the kernel unpacks into its root (newc, see
/// Documentation/driver-api/early-userspace/buffer-format.rst).
pub struct Initramfs {
    archive: BufWriter<File>,
    there: BTreeSet<PathBuf>,
    inode: u32,
}

impl Initramfs {
    /// An empty one.
    pub fn create(path: &Path) -> Result<Self> {
        let archive = File::create(path).with_context(|| path.display().to_string())?;
        Ok(Self {
            archive: BufWriter::new(archive),
            there: BTreeSet::new(),
            inode: 0,
        })
    }

    /// A file with this content.
    pub fn file(&mut self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        self.entry(Path::new(path), ModeFileType::Regular, mode, content)
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &Path) -> Result<()> {
        let target = target.as_os_str().as_bytes();
        self.entry(Path::new(path), ModeFileType::Symlink, 0o777, target)
    }

    /// An empty directory.
    pub fn directory(&mut self, path: &str) -> Result<()> {
        self.entry(Path::new(path), ModeFileType::Directory, 0o755, &[])
    }

    /// A program of this machine, found on PATH, under its own name in /bin.
    pub fn program(&mut self, name: &str) -> Result<()> {
        let path = command::find(name).ok_or_else(|| {
            failure(
                &format!("no `{name}`, which guests have"),
                "`cargo xtask setup --for test` installs it on Debian",
            )
        })?;
        self.executable(&format!("/bin/{name}"), &path)
    }

    /// An executable of this machine and the libraries that it needs.
    pub fn executable(&mut self, path: &str, from: &Path) -> Result<()> {
        for library in libraries(from) {
            if !self.there.contains(&library) {
                let content = fs::read(&library)?;
                self.entry(&library, ModeFileType::Regular, 0o755, &content)?;
            }
        }
        let content = fs::read(from).with_context(|| from.display().to_string())?;
        self.file(path, &content, 0o755)
    }

    /// A directory of this machine with everything in it.
    pub fn tree(&mut self, path: &Path, from: &Path) -> Result<()> {
        let entries = fs::read_dir(from).with_context(|| from.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            let (path, from) = (path.join(entry.file_name()), entry.path());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.tree(&path, &from)?;
            } else if kind.is_file() {
                self.entry(&path, ModeFileType::Regular, 0o644, &fs::read(&from)?)?;
            }
        }
        Ok(())
    }

    /// Writes it to the end.
    pub fn finish(self) -> Result<()> {
        trailer(self.archive)?.flush()?;
        Ok(())
    }

    fn entry(&mut self, path: &Path, kind: ModeFileType, mode: u32, content: &[u8]) -> Result<()> {
        // The kernel makes no directory by itself.
        let parent = path.parent().filter(|parent| *parent != Path::new("/"));
        if let Some(parent) = parent
            && !self.there.contains(parent)
        {
            self.entry(parent, ModeFileType::Directory, 0o755, &[])?;
        }
        if !self.there.insert(path.to_owned()) {
            return Ok(());
        }
        self.inode += 1;
        let name = path.strip_prefix("/").unwrap_or(path).to_string_lossy();
        let size = u32::try_from(content.len())
            .with_context(|| format!("{} is too large", path.display()))?;
        let mut writer = Builder::new(&name)
            .ino(self.inode)
            .mode(mode)
            .set_mode_file_type(kind)
            .write(&mut self.archive, size);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }
}

/// As the dynamic loader finds them; none for a static program.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let text = command::probe(Command::new("ldd").arg(program)).unwrap_or_default();
    text.lines().filter_map(library).collect()
}

/// The path in a line of ldd(1): `libc.so.6 => /lib/x/libc.so.6 (0x1)`, or the loader's
/// own `/lib64/ld-linux-x86-64.so.2 (0x1)`.
fn library(line: &str) -> Option<PathBuf> {
    let path = line.split_whitespace().find(|word| word.starts_with('/'))?;
    Some(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_is_the_path_that_the_loader_found() {
        for (line, path) in [
            (
                "\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)",
                Some("/lib/x/libc.so.6"),
            ),
            (
                "\t/lib64/ld-linux-x86-64.so.2 (0x00007f)",
                Some("/lib64/ld-linux-x86-64.so.2"),
            ),
            ("\tlinux-vdso.so.1 (0x00007f)", None),
            ("\tstatically linked", None),
        ] {
            assert_eq!(library(line), path.map(PathBuf::from));
        }
    }

    #[test]
    fn archive_holds_each_directory_before_its_files_and_once() {
        let path = std::env::temp_dir().join(format!("faultctl-cpio-{}", std::process::id()));
        let mut initramfs = Initramfs::create(&path).unwrap();
        initramfs.file("/a/b/c", b"content", 0o600).unwrap();
        initramfs.link("/a/d", Path::new("b/c")).unwrap();
        initramfs.file("/a/b/c", b"other", 0o600).unwrap();
        initramfs.finish().unwrap();
        let mut archive = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let mut names = Vec::new();
        loop {
            let reader = cpio::newc::Reader::new(archive).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            names.push(reader.entry().name().to_owned());
            archive = reader.finish().unwrap();
        }
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/d"]);
    }
}
