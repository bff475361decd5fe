//! What a guest's initramfs holds.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{directory, initramfs::Initramfs, kernel::Kernel, network, require_room, run::Run};
use crate::{cargo, command, ebpf};

/// Cases of the heavy tests, which the host runs in full.
const CASES: &str = "10000";
/// One initramfs, and what the guest says.
const ROOM: u64 = 600 << 20;

/// Programs of this machine that guests have, beside busybox's.
const PROGRAMS: &[&str] = &[
    "bash", "busybox", "capsh", "curl", "ethtool", "flock", "ip", "iperf3", "kmod", "ping",
    "promtool", "ss", "tc", "tcpdump", "unshare",
];
/// Where busybox gives way to the real one.
const BUSYBOX: &[&str] = &[
    "cat", "chmod", "cp", "cut", "date", "dd", "df", "dmesg", "echo", "env", "false", "find",
    "free", "grep", "head", "hostname", "id", "kill", "less", "ln", "ls", "mkdir", "mount", "mv",
    "nc", "nohup", "ps", "pwd", "rm", "sed", "seq", "setsid", "sleep", "sort", "stty", "sysctl",
    "tail", "tee", "test", "timeout", "top", "touch", "tr", "true", "umount", "uname", "vi",
    "watch", "wc", "wget", "which", "xargs",
];
/// Where tc finds tables of distributions, as `tc -V` of Debian and of others has it.
const TABLES: &[&str] = &[
    "/usr/lib/tc",
    "/usr/lib64/tc",
    "/usr/lib/x86_64-linux-gnu/tc",
];
/// Modules that tests and users ask for.
const MODULES: &[&str] = &["crypto", "drivers/net", "drivers/virtio", "lib", "net"];

const MOTD: &str = "\
`eth0` is 10.78.1.2 and fd78:1::2. The far end, 10.78.2.2 and fd78:2::2, is the namespace
`far`, behind a router. Try:
  faultctl loss 50 --iface eth0 -- ping -c 20 10.78.2.2
Leave with Ctrl-D.
";

/// Writes the guest's initramfs.
pub fn write(
    kernel: &Kernel,
    run: &Run,
    command: &[String],
    terminal: Option<[u16; 2]>,
    test: Option<&Path>,
) -> Result<()> {
    require_room(&directory(), ROOM)?;
    let mut files = Initramfs::create(&run.initramfs())?;
    for directory in [
        "/dev",
        "/proc",
        "/sys",
        "/run",
        "/tmp",
        "/root",
        "/var/empty",
    ] {
        files.directory(directory)?;
    }
    files.executable("/bin/guest", &stripped("guest")?)?;
    for name in ["faultctl", "verifier"] {
        files.executable(&format!("/bin/{name}"), &stripped(name)?)?;
    }
    for program in PROGRAMS {
        files.program(program)?;
    }
    for tables in TABLES.iter().map(Path::new).filter(|at| at.is_dir()) {
        files.tree(tables, tables)?;
    }
    for name in BUSYBOX {
        files.link(&format!("/bin/{name}"), Path::new("busybox"))?;
    }
    // Debian's busybox has a shell, which takes its own `ip` before the real one.
    files.link("/bin/sh", Path::new("bash"))?;
    for name in ["modprobe", "lsmod", "insmod", "rmmod"] {
        files.link(&format!("/sbin/{name}"), Path::new("/bin/kmod"))?;
    }
    if let Some(test) = test {
        files.executable("/bin/tests", &strip(test)?)?;
        let bench = fs::read(ebpf::object("bench"))?;
        files.file("/lib/bench.o", &bench, 0o644)?;
    }
    let modules = Path::new("/lib/modules").join(&kernel.release);
    for part in MODULES {
        let from = kernel.modules.join("kernel").join(part);
        files.tree(&modules.join("kernel").join(part), &from)?;
    }
    for entry in fs::read_dir(&kernel.modules)? {
        let path = entry?.path();
        if path.is_file() {
            let name = path.file_name().unwrap_or_default();
            let at = modules.join(name);
            files.file(&at.to_string_lossy(), &fs::read(&path)?, 0o644)?;
        }
    }
    for (path, content) in [
        (
            "/etc/passwd",
            "root:x:0:0::/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n",
        ),
        ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
        ("/etc/nsswitch.conf", "hosts: files\n"),
        ("/etc/resolv.conf", ""),
        // A name has more than one address, in both families.
        ("/etc/host.conf", "multi on\n"),
        ("/etc/network", network::INSIDE),
        ("/etc/motd", MOTD),
    ] {
        files.file(path, content.as_bytes(), 0o644)?;
    }
    let prompt = format!("PS1='guest with Linux {} \\w # '\n", kernel.version());
    files.file("/root/.bashrc", prompt.as_bytes(), 0o644)?;
    let commands = if command.is_empty() {
        vec![]
    } else {
        vec![command]
    };
    let job = json!({
        "commands": commands,
        "terminal": terminal,
        "environment": {
            "PATH": "/bin:/sbin",
            "HOME": "/root",
            "TERM": env::var("TERM").unwrap_or_else(|_| "dumb".to_owned()),
            "RUST_BACKTRACE": "1",
            "FAULTCTL_BIN": "/bin/faultctl",
            "FAULTCTL_BENCH_OBJECT": "/lib/bench.o",
            "FAULTCTL_TEST_CASES": CASES,
            "FAULTCTL_TEST_NICS": "eth0 eth1",
        },
    });
    files.file("/guest.json", job.to_string().as_bytes(), 0o644)?;
    files.finish()
}

/// One of our binaries, without what only a debugger reads.
fn stripped(name: &str) -> Result<PathBuf> {
    strip(&cargo::binary(name, "release")?)
}

fn strip(binary: &Path) -> Result<PathBuf> {
    let stripped = directory()
        .join("stripped")
        .join(binary.file_name().context("a file")?);
    fs::create_dir_all(directory().join("stripped"))?;
    command::run(
        Command::new("strip")
            .args(["--strip-debug", "-o"])
            .args([&stripped, binary]),
        "binutils has strip, as every machine that links programs",
    )?;
    Ok(stripped)
}
