//! Which compiler has `core` for BPF: a rustup toolchain that builds it from
//! `rust-src`, or Debian's `rustc-web` with a prebuilt one.

use std::{
    convert::Infallible, ffi::OsString, fmt, fs, path::Path, process::Command, str::FromStr,
};

use anyhow::Result;

use crate::{apt, cargo, command, linker};

/// The target of the BPF side: the machines we run on are little endian.
pub const TARGET: &str = "bpfel-unknown-none";

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO_CLIPPY: &str = "/usr/bin/cargo-clippy";

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever is found, rustup's nightly first
    Any,
    /// This rustup toolchain
    Rustup(String),
    /// Debian's packages
    Debian,
}

impl FromStr for Wanted {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(match name {
            "debian" => Self::Debian,
            name => Self::Rustup(name.to_owned()),
        })
    }
}

/// A compiler that can build the BPF side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// A rustup toolchain, by name
    Rustup(String),
    /// Debian's `rustc-web`
    Debian,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rustup(name) => write!(f, "rustup's `{name}`"),
            Self::Debian => write!(f, "Debian's rustc"),
        }
    }
}

impl Toolchain {
    /// `cargo build` or `cargo clippy` for the BPF target.
    pub fn cargo(&self, task: Task) -> Command {
        let mut command = match self {
            Self::Rustup(name) => {
                let mut command = rustup_run(name, "cargo");
                command.arg(task.name()).args(["-Z", "build-std=core"]);
                command.env_remove("RUSTC");
                command
            }
            Self::Debian => {
                let mut command = match task {
                    Task::Build => cargo::cargo("build"),
                    Task::Clippy => {
                        // It finds its own driver beside itself, and cargo by this variable.
                        let mut command = Command::new(DEBIAN_CARGO_CLIPPY);
                        command.arg("clippy").env("CARGO", cargo::program());
                        command
                    }
                };
                command.env("RUSTC", DEBIAN_RUSTC);
                command.env("RUSTC_BOOTSTRAP", "1");
                command
            }
        };
        command.args(["--locked", "--target", TARGET]);
        command
    }

    fn has_clippy(&self) -> bool {
        match self {
            Self::Rustup(name) => {
                command::probe(rustup_run(name, "cargo").args(["clippy", "--version"])).is_some()
            }
            Self::Debian => Path::new(DEBIAN_CARGO_CLIPPY).is_file(),
        }
    }
}

/// What to do with the toolchain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Compile
    Build,
    /// Lint
    Clippy,
}

impl Task {
    fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Clippy => "clippy",
        }
    }
}

/// Finds a toolchain for `task`, and installs Debian's where there is none.
pub fn ensure(wanted: &Wanted, task: Task) -> Result<Toolchain> {
    let mut reasons = Vec::new();
    for candidate in candidates(wanted) {
        match usable(&candidate, task) {
            Ok(()) => return Ok(candidate),
            Err(reason) => reasons.push(reason),
        }
    }
    let debian_wanted = !matches!(wanted, Wanted::Rustup(_));
    if debian_wanted && apt::is_debian() {
        for reason in &reasons {
            command::say(reason);
        }
        let mut packages = apt::BPF_RUST.to_vec();
        if task == Task::Clippy {
            packages.extend_from_slice(apt::BPF_CLIPPY);
        }
        // All of them: one that is there may be too old.
        apt::install(&packages)?;
        match usable(&Toolchain::Debian, task) {
            Ok(()) => return Ok(Toolchain::Debian),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(command::failure(
        &format!("no compiler for BPF\n  {}", reasons.join("\n  ")),
        &format!(
            "rustup toolchain install nightly --component rust-src,clippy\n\
             hint: (one with LLVM {} at most: `--toolchain nightly-2026-05-20`)",
            linker::LLVM
        ),
    ))
}

fn candidates(wanted: &Wanted) -> Vec<Toolchain> {
    match wanted {
        Wanted::Any => vec![Toolchain::Rustup("nightly".to_owned()), Toolchain::Debian],
        Wanted::Rustup(name) => vec![Toolchain::Rustup(name.clone())],
        Wanted::Debian => vec![Toolchain::Debian],
    }
}

fn usable(toolchain: &Toolchain, task: Task) -> Result<(), String> {
    judge(find(toolchain)).map_err(|reason| format!("{toolchain}: {reason}"))?;
    if task == Task::Clippy && !toolchain.has_clippy() {
        return Err(format!("{toolchain}: no clippy"));
    }
    Ok(())
}

/// What was found out about a toolchain.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    rust: (u32, u32),
    llvm: u32,
    has_core: bool,
}

fn find(toolchain: &Toolchain) -> Option<Found> {
    let rustc = || match toolchain {
        Toolchain::Rustup(name) => rustup_run(name, "rustc"),
        Toolchain::Debian => Command::new(DEBIAN_RUSTC),
    };
    let (rust, llvm) = versions(&command::probe(rustc().arg("-vV"))?)?;
    let sysroot = command::probe(rustc().args(["--print", "sysroot"]))?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib");
    let has_core = match toolchain {
        Toolchain::Rustup(_) => library.join("src/rust/library/core").is_dir(),
        Toolchain::Debian => {
            fs::read_dir(library.join(TARGET).join("lib")).is_ok_and(|files| files.count() > 0)
        }
    };
    Some(Found {
        rust,
        llvm,
        has_core,
    })
}

fn judge(found: Option<Found>) -> Result<(), String> {
    let Some(found) = found else {
        return Err("not installed".to_owned());
    };
    let minimum = version(env!("CARGO_PKG_RUST_VERSION")).unwrap_or_default();
    if found.rust < minimum {
        return Err(format!(
            "Rust {}.{} is older than {}.{}",
            found.rust.0, found.rust.1, minimum.0, minimum.1
        ));
    }
    if !found.has_core {
        return Err("no `core` for BPF".to_owned());
    }
    if found.llvm > linker::LLVM {
        return Err(format!(
            "LLVM {} is newer than bpf-linker's {}",
            found.llvm,
            linker::LLVM
        ));
    }
    Ok(())
}

/// Rust's and LLVM's versions in what `rustc -vV` prints.
fn versions(text: &str) -> Option<((u32, u32), u32)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let rust = version(field("release: ")?)?;
    let llvm = version(field("LLVM version: ")?)?.0;
    Some((rust, llvm))
}

/// Major and minor number of a version.
pub fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(|number| {
        let digits = number.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse().ok())
    });
    Some((numbers.next()??, numbers.next()??))
}

fn rustup_run(toolchain: &str, program: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args([
        OsString::from("run"),
        toolchain.into(),
        OsString::from(program),
    ]);
    // A probe must not download a toolchain.
    command.env("RUSTUP_AUTO_INSTALL", "0");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHTLY: &str = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\n\
        host: x86_64-unknown-linux-gnu\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";

    #[test]
    fn versions_are_read_from_the_verbose_output() {
        assert_eq!(versions(NIGHTLY), Some(((1, 97), 22)));
        assert_eq!(versions("rustc 1.97.0"), None);
        assert_eq!(versions("release: x\nLLVM version: y"), None);
    }

    #[test]
    fn version_ignores_what_follows_its_two_numbers() {
        assert_eq!(version("0.13.0"), Some((0, 13)));
        assert_eq!(version("1.97-nightly"), Some((1, 97)));
        assert_eq!(version("1"), None);
        assert_eq!(version(""), None);
    }

    #[test]
    fn judged_by_age_core_and_llvm() {
        let good = || Found {
            rust: (1, 95),
            llvm: linker::LLVM,
            has_core: true,
        };
        assert_eq!(judge(Some(good())), Ok(()));
        assert!(judge(None).is_err());
        for bad in [
            Found {
                rust: (1, 85),
                ..good()
            },
            Found {
                llvm: linker::LLVM + 1,
                ..good()
            },
            Found {
                has_core: false,
                ..good()
            },
        ] {
            assert!(judge(Some(bad)).is_err());
        }
    }

    #[test]
    fn nightly_comes_before_debian() {
        assert_eq!(
            candidates(&Wanted::Any),
            [Toolchain::Rustup("nightly".to_owned()), Toolchain::Debian]
        );
        assert_eq!("debian".parse(), Ok(Wanted::Debian));
        assert_eq!(candidates(&Wanted::Debian), [Toolchain::Debian]);
        assert_eq!("n".parse(), Ok(Wanted::Rustup("n".to_owned())));
    }
}
