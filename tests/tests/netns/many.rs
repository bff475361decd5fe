//! Far ends by the million.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use fault_tests::{
    Faultctl, Lab, Side,
    faultctl::{self, output, words},
    kernel::cases,
    lab::{FROM_PORT, Family, TO_PORT},
    programs, udp,
    wait::{SOON, until},
};

const COUNT: u64 = 20;

/// A file of far ends; removed when dropped.
struct List(PathBuf);

impl List {
    fn new(text: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fault-tests-{}-{number}.many", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).expect("a temporary file");
        Self(path)
    }

    fn at(&self) -> String {
        format!("@{}", self.0.display())
    }
}

impl Drop for List {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A lab whose far end has all of 11.0.0.0/8 and `fd11::/16`.
fn lab() -> Lab {
    let lab = Lab::new();
    let far = Family::ALL.map(Family::far);
    for (network, far) in ["11.0.0.0/8", "fd11::/16"].into_iter().zip(far) {
        lab.near.ip(&format!("route add {network} via {far}"));
        lab.far.ip(&format!("route add local {network} dev lo"));
    }
    lab.far.set("ipv6/ip_nonlocal_bind", "1");
    lab
}

fn v4(host: u32) -> IpAddr {
    Ipv4Addr::from_bits(11 << 24 | host).into()
}

/// The host's number is in the upper half too.
fn v6(host: u32) -> IpAddr {
    Ipv6Addr::from_bits(v6_bits(host)).into()
}

fn v6_bits(host: u32) -> u128 {
    0xfd11_u128 << 112 | u128::from(host) << 64 | u128::from(host)
}

/// Whether packets to and from far ends are all lost, as they have to be.
#[track_caller]
fn assert_hit(lab: &Lab, selectors: &str, far_ends: &[(IpAddr, bool)]) {
    let faultctl = Faultctl::start(&lab.near, &format!("partition --iface eth0 {selectors}"));
    let mut lost = [0; 2];
    for (side, lost) in Side::ALL.into_iter().zip(&mut lost) {
        for &(far, is_hit) in far_ends {
            let family = if far.is_ipv4() {
                Family::V4
            } else {
                Family::V6
            };
            let near = SocketAddr::new(family.near(), FROM_PORT);
            let far = SocketAddr::new(far, TO_PORT);
            let (from, to) = match side {
                Side::Near => (near, far),
                Side::Far => (far, near),
            };
            let outcome = udp::between(lab, side, from, to, COUNT);
            assert_eq!(
                outcome.lost(),
                if is_hit { COUNT } else { 0 },
                "{from} to {to}"
            );
            *lost += outcome.lost();
        }
    }
    let ended = faultctl.end();
    let dropped = Side::ALL.map(|side| ended.count(side.direction(), "dropped"));
    assert_eq!(dropped, lost);
}

#[test]
fn million_hosts_take_their_own_packets_only() {
    let lab = lab();
    let each = u32::try_from(cases(500_000)).expect("a million at most");
    // Every other address, in both families.
    let mut text = String::new();
    let mut far_ends = Vec::new();
    for host in (0..each).map(|n| 2 * n) {
        writeln!(text, "{}\n{}", v4(host), v6(host)).expect("a string");
        if host % (each / 2) < 2 {
            for address in [v4, v6] {
                far_ends.extend([(address(host), true), (address(host + 1), false)]);
            }
        }
    }
    far_ends.extend([v4, v6].map(|address| (address(2 * each), false)));
    let list = List::new(&text);
    assert_hit(&lab, &format!("--to {}", list.at()), &far_ends);
}

#[test]
fn hundred_thousand_prefixes_nest_and_have_exceptions() {
    let lab = lab();
    let each = u32::try_from(cases(50_000)).expect("fifty thousand at most");
    // The upper half of the first /29s and of as many IPv6 networks, inside one prefix that
    // is hit beyond them; exceptions inside networks that are hit, and the other way round.
    let (mut to, mut except) = (String::new(), String::new());
    for n in 0..each {
        writeln!(to, "{}/30", v4(8 * n + 4)).expect("a string");
        // All lengths that hold the upper half of the address, which tells them apart.
        let length = 64 + n % 60;
        let network = Ipv6Addr::from_bits(v6_bits(n) & (u128::MAX << (128 - length)));
        writeln!(to, "{network}/{length}").expect("a string");
        if n % 2 == 0 {
            writeln!(except, "{}/31", v4(8 * n + 6)).expect("a string");
        }
    }
    // Beside the networks, all of the second half of the /8.
    let list = List::new(&format!("{to}\n11.128.0.0/9\n"));
    let except = List::new(&format!("{except}\n11.200.0.0/16\nfd11:0:0:1::/64\n"));
    let end = 8 * (each - 1);
    let far_ends = [
        (v4(3), false),
        (v4(4), true),
        (v4(6), false),
        (v4(8 + 4), true),
        (v4(8 + 6), true),
        (v4(end + 3), false),
        (v4(end + 4), true),
        (v4(200 << 16 | 5), false),
        (v4(199 << 16 | 5), true),
        (v6(0), true),
        (v6(1), false),
        (v6(each / 2), true),
        (v6(each), false),
    ];
    assert_hit(
        &lab,
        &format!("--to {} --except {}", list.at(), except.at()),
        &far_ends,
    );
}

#[test]
fn memory_of_the_maps_is_told_by_start_and_status() {
    let lab = Lab::new();
    let hosts = u32::try_from(cases(100_000)).expect("few");
    let list: String = (0..hosts).fold(String::new(), |mut text, host| {
        writeln!(text, "{}", v4(host)).expect("a string");
        text
    });
    let list = List::new(&list);
    let memory = |to: &str| {
        let line = format!("partition --iface eth0 --to {to}");
        let faultctl = Faultctl::start(&lab.near, &line);
        let told = faultctl.started["memory"].as_u64().expect("bytes");
        let status = faultctl::run(&lab.near, &["status", "--json"]);
        let pid = u64::try_from(faultctl.pid().as_raw()).expect("a process");
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        let fault = text
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .find(|fault| fault["pid"] == pid)
            .expect("its fault");
        assert_eq!(fault["memory"], told);
        faultctl.end();
        told
    };
    let (one, all) = (memory("11.0.0.1"), memory(&list.at()));
    // Key and value of each at least: what a kernel before 6.4 counts.
    assert!(all - one >= 28 * u64::from(hosts - 1), "{one}, {all}");
}

/// A control group that may have so much memory; gone when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn with_memory(bytes: u64) -> Self {
        let name = format!("fault-tests-{}", std::process::id());
        let mounts = fs::read_to_string("/proc/mounts").expect("the mounts");
        let find = |wanted: &str, option: &str| {
            mounts.lines().find_map(|line| {
                let fields: Vec<_> = line.split(' ').collect();
                let is_it = fields[2] == wanted && fields[3].split(',').any(|one| one == option);
                is_it.then(|| PathBuf::from(fields[1]))
            })
        };
        let (path, limit) = if let Some(root) = find("cgroup", "memory") {
            (root.join(name), "memory.limit_in_bytes")
        } else {
            let root = find("cgroup2", "rw").expect("cgroup2 is mounted");
            fs::write(root.join("cgroup.subtree_control"), "+memory").expect("cgroups of memory");
            (root.join(name), "memory.max")
        };
        fs::create_dir(&path).expect("root makes cgroups");
        fs::write(path.join(limit), bytes.to_string()).expect("a limit");
        Self(path)
    }

    /// A command that runs in it.
    fn command(&self, lab: &Lab, line: &str) -> Command {
        let mut command = lab.near.command("sh");
        let procs = self.0.join("cgroup.procs");
        command
            .args(["-c", "echo $$ > $0 && exec \"$@\""])
            .arg(procs)
            .arg(faultctl::binary())
            .args(words(line));
        command
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        until("the cgroup is empty", SOON, || fs::remove_dir(&self.0).ok());
    }
}

#[test]
fn list_that_the_cgroup_has_no_memory_for_leaves_nothing_behind() {
    let lab = Lab::new();
    let before = programs::hooks(&lab);
    // The kernel wants 48 MB for the table, beside what the process has.
    let list: String = (0..500_000).fold(String::new(), |mut text, host| {
        writeln!(text, "{}", v4(host)).expect("a string");
        text
    });
    let list = List::new(&list);
    let cgroup = Cgroup::with_memory(68 << 20);
    let line = format!("partition --iface eth0 --to {}", list.at());
    let ended = output(&mut cgroup.command(&lab, &line));
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.starts_with("error: no memory for the map `FAR_ENDS`\n"),
        "{stderr}"
    );
    assert!(
        stderr.contains("\nhint: raise the memory limit"),
        "{stderr}"
    );
    assert_eq!(programs::hooks(&lab), before);
    assert!(programs::of(&lab.near).is_empty());
    // A short list has room.
    let mut short = cgroup.command(&lab, "partition --json --iface eth0 --to 10.77.0.2");
    let faultctl = Faultctl::spawn(&mut short);
    assert_eq!(faultctl.end().count("egress", "dropped"), 0);
}
