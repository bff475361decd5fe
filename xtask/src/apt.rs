//! Debian packages: what is needed, how to tell that it is there, and why.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::command::{self, say};

/// A package that somebody needs.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    name: &'static str,
    /// A program on PATH or an absolute path: there if the package is
    probe: &'static str,
    why: &'static str,
}

const fn package(name: &'static str, probe: &'static str, why: &'static str) -> Package {
    Package { name, probe, why }
}

/// For compiling bpf-linker.
pub const LINKER: &[Package] = &[
    package("g++", "g++", "bpf-linker links LLVM's C++"),
    package(
        "llvm-22-dev",
        "/usr/lib/llvm-22/bin/llvm-config",
        "bpf-linker is built on it",
    ),
    package(
        "zlib1g-dev",
        "/usr/include/zlib.h",
        "bpf-linker links LLVM's zlib",
    ),
    package(
        "libzstd-dev",
        "/usr/include/zstd.h",
        "bpf-linker links LLVM's zstd",
    ),
];

/// Debian's Rust with a prebuilt `core` for BPF.
pub const BPF_RUST: &[Package] = &[
    package(
        "rustc-web",
        "/usr/bin/rustc",
        "it compiles the BPF programs",
    ),
    package(
        "libstd-rust-web-dev-bpf",
        "/usr/lib/rustlib/bpfel-unknown-none",
        "the BPF programs' `core`",
    ),
];

/// Clippy of Debian's Rust.
pub const BPF_CLIPPY: &[Package] = &[package(
    "rust-web-clippy",
    "/usr/bin/cargo-clippy",
    "lints of the BPF programs, by the compiler that builds them",
)];

/// What the test levels call.
pub const TESTS: &[Package] = &[
    package("iproute2", "tc", "tests make namespaces and interfaces"),
    package("iputils-ping", "ping", "tests ping through faults"),
    package("tcpdump", "tcpdump", "tests look at packets on the wire"),
    package("iperf3", "iperf3", "tests send TCP and UDP through faults"),
    package("ethtool", "ethtool", "tests switch offloads"),
    package(
        "libcap2-bin",
        "capsh",
        "tests run faultctl without privileges",
    ),
    package(
        "openssh-client",
        "ssh",
        "tests log in, and inject from there",
    ),
    package("sudo", "sudo", "tests inject through it"),
    package("tmux", "tmux", "tests inject from inside it"),
];

/// What the benchmark measures faultctl beside.
pub const BENCH: &[Package] = &[
    package(
        "iproute2",
        "tc",
        "its u32 filters select by destination, and netem delays",
    ),
    package("iptables", "iptables", "its statistic match loses packets"),
    package("nftables", "nft", "its numgen loses packets"),
];

/// What guests need on this side, and what they have of this machine.
pub const GUESTS: &[Package] = &[
    package(
        "qemu-system-x86",
        "qemu-system-x86_64",
        "tests run on other kernels in it",
    ),
    package("kmod", "depmod", "guests load their modules with it"),
    package("busybox-static", "busybox", "the guests' small programs"),
    package("curl", "curl", "guests have it"),
];

/// `promtool`: its package would start Prometheus.
pub const PROMTOOL: Package = package(
    "prometheus",
    "promtool",
    "tests check the metrics' names with it",
);

/// `sshd`: its package would start it, and make a user for it.
pub const SSHD: Package = package(
    "openssh-server",
    "sshd",
    "tests log in to it, in namespaces of their own",
);

/// What `sshd` is linked with beyond a plain Debian.
pub const SSHD_LIBRARIES: &[Package] = &[package(
    "libwrap0",
    "/usr/share/doc/libwrap0",
    "sshd is linked with it",
)];

/// Whether this is Debian itself; derivatives lack the packages.
pub fn is_debian() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| names_debian(&text))
}

/// Installs those of `packages` that are missing.
pub fn ensure(packages: &[Package]) -> Result<()> {
    let missing: Vec<_> = packages
        .iter()
        .filter(|package| !package.is_there())
        .copied()
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_debian() {
        let names: Vec<_> = missing
            .iter()
            .map(|package| format!("`{}` ({})", package.probe, package.why))
            .collect();
        return Err(command::failure(
            &format!("missing: {}", names.join(", ")),
            "install them with this system's package manager",
        ));
    }
    install(&missing)
}

/// Installs packages, whether they are there or not; an old one is replaced.
pub fn install(packages: &[Package]) -> Result<()> {
    for package in packages.iter().filter(|package| !package.is_there()) {
        say(&format!("installing {}: {}", package.name, package.why));
    }
    // Nothing that is there is removed for ours: such a conflict is the user's to solve.
    let install = || {
        let mut command = apt_get()?;
        command.args(["install", "-y", "-qq"]);
        command.args(["--no-install-recommends", "--no-remove"]);
        command.args(packages.iter().map(|package| package.name));
        command::run(
            &mut command,
            "run it by hand to see what stands in the way, then try again",
        )
    };
    with_lists(install)
}

/// Puts one program of a package into target/tools without installing the package,
/// which would start a service.
///
/// `libraries` are what it needs, and are installed.
pub fn extract(package: &Package, libraries: &[Package]) -> Result<()> {
    if package.is_there() {
        return Ok(());
    }
    let Package { name, probe, why } = package;
    if !is_debian() {
        return Err(command::failure(
            &format!("no `{probe}` ({why})"),
            &format!("install {name} with this system's package manager"),
        ));
    }
    ensure(libraries)?;
    say(&format!(
        "unpacking {name} for `{probe}` into target/tools: {why}"
    ));
    let tools = command::tools();
    let unpacked = tools.join(name);
    let _ = fs::remove_dir_all(&unpacked);
    fs::create_dir_all(&unpacked)?;
    fs::create_dir_all(tools.join("bin"))?;
    unpack(name, &unpacked)?;
    let program = ["usr/bin", "usr/sbin"]
        .map(|directory| unpacked.join(directory).join(probe))
        .into_iter()
        .find(|path| path.is_file());
    let program = program.with_context(|| format!("no `{probe}` in {name}"))?;
    fs::rename(program, tools.join("bin").join(probe))?;
    fs::remove_dir_all(unpacked)?;
    Ok(())
}

/// Downloads a package and unpacks it into a directory, which holds nothing else yet.
pub fn unpack(name: &str, directory: &Path) -> Result<()> {
    with_lists(|| {
        command::run(
            Command::new("apt-get")
                .args(["download", "-qq", "-o", "APT::Sandbox::User=root", name])
                .current_dir(directory),
            "see that Debian's mirror can be reached",
        )
    })?;
    for entry in fs::read_dir(directory)? {
        let package = entry?.path();
        command::run(
            Command::new("dpkg-deb")
                .arg("--extract")
                .args([&package, directory]),
            "see that there is room on the disk",
        )?;
        fs::remove_file(package)?;
    }
    Ok(())
}

/// Brings the package lists up to date.
pub fn update() -> Result<()> {
    command::run(
        apt_get()?.args(["update", "-qq"]),
        "see that Debian's mirror can be reached",
    )
}

impl Package {
    fn is_there(&self) -> bool {
        let probe = Path::new(self.probe);
        if probe.is_absolute() {
            probe.exists()
        } else {
            command::find(self.probe).is_some()
        }
    }
}

/// Does `attempt`, with fresh package lists if there are none or it fails.
fn with_lists(attempt: impl Fn() -> Result<()>) -> Result<()> {
    if has_lists() && attempt().is_ok() {
        return Ok(());
    }
    say("the package lists are missing or stale: apt-get update");
    update()?;
    attempt()
}

fn has_lists() -> bool {
    fs::read_dir("/var/lib/apt/lists").is_ok_and(|files| {
        files
            .flatten()
            .any(|file| file.file_name().to_string_lossy().contains("_Packages"))
    })
}

fn apt_get() -> Result<Command> {
    command::as_root(
        Path::new("apt-get"),
        &[("DEBIAN_FRONTEND", "noninteractive".into())],
    )
}

fn names_debian(os_release: &str) -> bool {
    os_release
        .lines()
        .any(|line| line == "ID=debian" || line == "ID=\"debian\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_itself_is_debian() {
        assert!(names_debian("NAME=x\nID=debian\n"));
        assert!(!names_debian("ID=ubuntu\nID_LIKE=debian\n"));
    }

    #[test]
    fn package_is_told_by_a_program_or_a_path() {
        assert!(package("", "sh", "").is_there());
        assert!(package("", "/usr", "").is_there());
        assert!(!package("", "no-such-program", "").is_there());
        assert!(!package("", "/no/such/path", "").is_there());
    }
}
