//! Kernels for guests: Debian's packages, unpacked into target/vm/kernels, or a
//! directory that is laid out as such a package is.

use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use anyhow::{Context as _, Result};

use crate::{
    apt,
    command::{self, failure, say},
    vm,
};

/// Where a kernel comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The newest of one of Debian's series
    Debian(&'static Series),
    /// A directory with `boot/vmlinuz-*` and `lib/modules/*`
    Directory(PathBuf),
}

/// A series of kernels that Debian has a package for.
#[derive(Debug, PartialEq, Eq)]
pub struct Series {
    name: &'static str,
    /// The package that depends on the newest kernel of the series
    meta: &'static str,
}

/// What every test run uses: the oldest that Debian 12 has, without tcx, and its newest.
const SERIES: &[Series] = &[
    Series {
        name: "6.1",
        meta: "linux-image-cloud-amd64",
    },
    Series {
        name: "6.12",
        meta: "linux-image-6.12-cloud-amd64",
    },
];

impl Source {
    /// One of each series.
    pub fn every() -> Vec<Self> {
        SERIES.iter().map(Self::Debian).collect()
    }
}

/// Unpacked, both of them: 30 to 130 MB each, and its package.
const ROOM: u64 = 400 << 20;

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let series = SERIES.iter().find(|series| series.name == text);
        Ok(series.map_or_else(|| Self::Directory(text.into()), Self::Debian))
    }
}

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its `uname -r`
    pub release: String,
    /// What a boot loader loads
    pub image: PathBuf,
    /// `lib/modules/RELEASE`, with the files of `depmod`
    pub modules: PathBuf,
}

impl Kernel {
    /// Major and minor version, as `6.12`.
    pub fn version(&self) -> String {
        command::kernel_version(&self.release)
    }
}

/// Fetches it if it is not there yet.
pub fn ensure(source: &Source) -> Result<Kernel> {
    match source {
        Source::Directory(directory) => find(directory),
        Source::Debian(series) => {
            let directory = vm::directory().join("kernels").join(series.name);
            if !directory.is_dir() {
                fetch(series, &directory)?;
            }
            find(&directory)
        }
    }
}

fn fetch(series: &Series, directory: &Path) -> Result<()> {
    // Complete, or under another name.
    let partial = directory.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial)?;
    vm::require_room(&partial, ROOM)?;
    let package = newest(series)?;
    say(&format!(
        "unpacking {package} into target/vm: tests run on its kernel, Linux {}",
        series.name
    ));
    apt::unpack(&package, &partial)?;
    let modules = modules(&partial).with_context(|| format!("{package} holds no modules"))?;
    depmod(&partial, &modules)?;
    fs::rename(&partial, directory)?;
    Ok(())
}

/// The package that Debian's newest kernel of the series comes in.
fn newest(series: &Series) -> Result<String> {
    let find = || {
        let text = command::probe(Command::new("apt-cache").args(["depends", series.meta]))?;
        text.lines()
            .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
            .map(|name| format!("linux-image-{name}"))
    };
    if let Some(package) = find() {
        return Ok(package);
    }
    apt::update()?;
    find().ok_or_else(|| {
        failure(
            &format!(
                "no package `{}`, which brings Linux {}",
                series.meta, series.name
            ),
            "Debian 12 has it, with bookworm-security among its sources; elsewhere give a \
             directory with `boot/vmlinuz-*` and `lib/modules/*`: `--kernel DIR`",
        )
    })
}

/// `modprobe` in the guest reads what `depmod` writes.
fn depmod(root: &Path, modules: &Path) -> Result<()> {
    let release = modules.file_name().unwrap_or_default();
    let depmod = command::find("depmod").context("no `depmod`; Debian has it in kmod")?;
    command::run(
        Command::new(depmod).arg("-b").arg(root).arg(release),
        "see that the directory holds a kernel's modules",
    )
}

fn find(directory: &Path) -> Result<Kernel> {
    let described = directory.display();
    let hint = "`--kernel` takes 6.1, 6.12, or a directory with `boot/vmlinuz-*` and \
                `lib/modules/*`, as in Debian's packages";
    let modules = modules(directory)
        .ok_or_else(|| failure(&format!("no `lib/modules/*` in {described}"), hint))?;
    let release = modules
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let image = directory.join(format!("boot/vmlinuz-{release}"));
    if !image.is_file() {
        return Err(failure(&format!("no {}", image.display()), hint));
    }
    if !modules.join("modules.dep.bin").is_file() {
        depmod(directory, &modules)?;
    }
    Ok(Kernel {
        release,
        image,
        modules,
    })
}

/// The only directory in `lib/modules`.
fn modules(root: &Path) -> Option<PathBuf> {
    fs::read_dir(root.join("lib/modules"))
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_is_a_series_or_a_directory() {
        assert_eq!("6.1".parse(), Ok(Source::Debian(&SERIES[0])));
        assert_eq!("6.3".parse(), Ok(Source::Directory("6.3".into())));
    }

    #[test]
    fn directory_without_a_kernel_is_named() {
        let text = find(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(
            text.starts_with("no `lib/modules/*` in /nonexistent\nhint: "),
            "{text}"
        );
    }
}
