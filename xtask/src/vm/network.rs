//! The guest's network: two virtio devices with two queues each, joined by a router in
//! a network namespace that only this QEMU is in.

use std::{
    fs,
    io::Write as _,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::command;

/// Ends on our side, and their addresses: the guest's routers.
const TAPS: [(&str, &str, &str); 2] = [
    ("near", "10.78.1.1/24", "fd78:1::1/64"),
    ("far", "10.78.2.1/24", "fd78:2::1/64"),
];

/// Lines of sh(1) in the guest that give its two devices addresses, the second one in a
/// namespace `far`.
pub const INSIDE: &str = "\
ip addr add 10.78.1.2/24 dev eth0
ip addr add fd78:1::2/64 dev eth0 nodad
ip link set eth0 up
ip route add default via 10.78.1.1
ip route add default via fd78:1::1
ip netns add far
ip link set eth1 netns far
ip -n far link set lo up
ip -n far addr add 10.78.2.2/24 dev eth1
ip -n far addr add fd78:2::2/64 dev eth1 nodad
ip -n far link set eth1 up
ip -n far route add default via 10.78.2.1
ip -n far route add default via fd78:2::1
";

/// QEMU's arguments.
pub fn devices() -> Vec<String> {
    let mut arguments = Vec::new();
    for (number, (name, ..)) in (1..).zip(TAPS) {
        arguments.extend([
            "-netdev".to_owned(),
            format!("tap,id={name},ifname={name},script=no,downscript=no,queues=2"),
            "-device".to_owned(),
            format!("virtio-net-pci,netdev={name},mq=on,vectors=6,mac=02:00:00:00:78:{number:02x}"),
        ]);
    }
    arguments
}

/// Gives our ends their addresses once QEMU has made them.
pub fn join(qemu: &mut Child) -> Result<()> {
    let start = Instant::now();
    while !is_apart(qemu)? || !there_are_taps(qemu) {
        if let Some(status) = qemu.try_wait()? {
            bail!("QEMU ended at once, with {status}; what it said is above");
        }
        ensure!(
            start.elapsed() < Duration::from_mins(1),
            "QEMU makes no network devices"
        );
        sleep(Duration::from_millis(20));
    }
    let mut lines = String::new();
    for (name, v4, v6) in TAPS {
        for line in [
            format!("addr add {v4} dev {name}\n"),
            format!("addr add {v6} dev {name} nodad\n"),
            // What comes while QEMU gets no processor waits, rather than being lost.
            format!("link set {name} txqueuelen 10000 up\n"),
        ] {
            lines += &line;
        }
    }
    let mut ip = inside(qemu)
        .args(["ip", "-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()?;
    ip.stdin
        .take()
        .context("a pipe")?
        .write_all(lines.as_bytes())?;
    ensure!(ip.wait()?.success(), "the guest's network is not set up");
    command::run(
        inside(qemu)
            .args(["busybox", "sysctl", "-q", "-w"])
            .args(["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]),
        "the message is above",
    )
}

/// Whether it has left our network already: nothing may be done to ours.
fn is_apart(qemu: &Child) -> Result<bool> {
    let own = fs::read_link("/proc/self/ns/net")?;
    Ok(fs::read_link(format!("/proc/{}/ns/net", qemu.id())).is_ok_and(|its| its != own))
}

fn there_are_taps(qemu: &Child) -> bool {
    let links = command::probe(inside(qemu).args(["ip", "-oneline", "link"])).unwrap_or_default();
    TAPS.iter()
        .all(|(name, ..)| links.contains(&format!(" {name}: ")))
}

/// A command in QEMU's network.
fn inside(qemu: &Child) -> Command {
    let mut command = Command::new("nsenter");
    if !command::is_root() {
        command.args(["--user", "--preserve-credentials"]);
    }
    command
        .args(["--net", "--target", &qemu.id().to_string()])
        .env("PATH", command::search_path());
    command
}
