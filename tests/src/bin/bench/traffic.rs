//! What a packet costs in real traffic over a veth pair, sending included, beside what else
//! can lose packets by destination or by chance.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use fault_tests::{
    Faultctl, Lab, Side,
    lab::{Family, ends},
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::{
    load::{self, List, destination},
    rows::{Row, Samples},
};

/// Packets of one measurement.
const PACKETS: u32 = 20_000;
/// The last filter with a number below tc's limit of 4095 in one table.
const FILTERS: u32 = 4_000;

/// A veth pair with something on it, and what is sent over it.
struct Case {
    what: &'static str,
    entries: u32,
    lab: Lab,
    /// Ends with the case.
    faultctl: Option<Faultctl>,
    sender: Side,
    to: IpAddr,
    nanos: Samples,
}

/// All of them.
pub fn rows(rounds: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    rows.extend(by_destination(rounds)?);
    rows.extend(ingress(rounds));
    Ok(rows)
}

/// Egress, with a list of destinations of which the one in the middle is sent to.
fn by_destination(rounds: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut cases = vec![Case::egress("a packet, no filter", 0)];
    for entries in [1_000, 10_000] {
        let list = List::of(entries)?;
        let mut ours = Case::egress("a packet, faultctl egress", entries);
        let (faultctl, ms) = load::start(&ours.lab, &list);
        ours.faultctl = Some(faultctl);
        rows.push(Row::new("load, faultctl", entries, ms, "ms"));
        cases.push(ours);
        let tc = Case::egress("a packet, tc u32 egress", entries);
        match filters(&tc.lab, entries) {
            Ok(tc_ms) => {
                rows.push(
                    Row::new("load, tc -batch u32", entries, tc_ms, "ms").beside("faultctl", ms),
                );
                cases.push(tc);
            }
            Err(error) => rows.push(Row::missing(tc.what, entries, format!("{error:#}"))),
        }
    }
    measure(&mut cases, rounds);
    let nanos = |what: &str, entries| {
        let case = cases
            .iter()
            .find(|case| case.what == what && case.entries == entries);
        case.map_or(f64::NAN, |case| case.nanos.median())
    };
    for case in &cases {
        let row = case.row();
        rows.push(match case.what {
            "a packet, no filter" => row,
            "a packet, tc u32 egress" => {
                row.beside("faultctl", nanos("a packet, faultctl egress", case.entries))
            }
            _ => row.beside("no filter", nanos("a packet, no filter", 0)),
        });
    }
    Ok(rows)
}

/// Half of what comes in is lost.
fn ingress(rounds: usize) -> Vec<Row> {
    let ways: [(&'static str, &[&str]); 5] = [
        ("a packet in, no loss", &[]),
        ("a packet in, faultctl 50% (tc)", &["faultctl", "tc"]),
        ("a packet in, faultctl 50% (XDP)", &["faultctl", "xdp"]),
        (
            "a packet in, iptables statistic 50%",
            &["iptables -A INPUT -m statistic --mode random --probability 0.5 -j DROP"],
        ),
        (
            "a packet in, nft numgen 50%",
            &[
                "nft add table ip bench",
                "nft add chain ip bench in { type filter hook input priority 0 ; }",
                "nft add rule ip bench in numgen random mod 2 0 drop",
            ],
        ),
    ];
    let mut cases = Vec::new();
    let mut rows = Vec::new();
    for (what, lines) in ways {
        let mut case = Case::new(what, 0, Side::Far, Family::V4.near());
        if let ["faultctl", hook] = lines {
            let line = format!("loss 50 --iface eth0 --direction ingress --hook {hook}");
            case.faultctl = Some(Faultctl::start(&case.lab.near, &line));
        } else if let Err(error) = lines.iter().try_for_each(|line| run(&case.lab, line)) {
            rows.push(Row::missing(what, 0, format!("{error:#}")));
            continue;
        }
        cases.push(case);
    }
    measure(&mut cases, rounds);
    let ours = cases[1].nanos.median();
    for (n, case) in cases.iter().enumerate() {
        rows.push(match n {
            0 => case.row(),
            1 => case.row().beside("no loss", cases[0].nanos.median()),
            _ => case.row().beside("faultctl (tc)", ours),
        });
    }
    rows
}

impl Case {
    fn new(what: &'static str, entries: u32, sender: Side, to: IpAddr) -> Self {
        Self {
            what,
            entries,
            lab: Lab::new(),
            faultctl: None,
            sender,
            to,
            nanos: Samples::default(),
        }
    }

    fn egress(what: &'static str, entries: u32) -> Self {
        let to = destination(entries / 2);
        let case = Self::new(what, entries, Side::Near, to.into());
        let far = Family::V4.far();
        case.lab
            .near
            .ip(&format!("route add 10.80.0.0/12 via {far}"));
        case
    }

    fn row(&self) -> Row {
        Row::new(self.what, self.entries, self.nanos.median(), "ns")
    }
}

/// Rounds alternate over the cases, so that a busy moment does not hit one alone.
fn measure(cases: &mut [Case], rounds: usize) {
    for _ in 0..2 * rounds {
        for case in &mut *cases {
            let nanos = flood(case);
            case.nanos.add(nanos);
        }
    }
}

/// Sends as fast as it goes, on one CPU, where the other end receives too; nanoseconds a
/// packet.
fn flood(case: &Case) -> f64 {
    let (from, _) = ends(Family::V4, case.sender);
    let to = SocketAddr::new(case.to, 9);
    // Whoever is sent to has a socket, or is somewhere else: no answers on the way.
    let receiver = match case.sender {
        Side::Near => &case.lab.far,
        Side::Far => &case.lab.near,
    };
    let _socket = receiver.run(|| UdpSocket::bind(("0.0.0.0", 9)).expect("a socket"));
    case.lab.namespace(case.sender).run(|| {
        let mut cpus = CpuSet::new();
        cpus.set(0).expect("the first CPU");
        sched_setaffinity(Pid::from_raw(0), &cpus).expect("to stay on a CPU");
        let socket = UdpSocket::bind(from).expect("a socket");
        socket.connect(to).expect("a route");
        let start = Instant::now();
        for _ in 0..PACKETS {
            // A drop that it is told of is a packet that was handled.
            let _ = socket.send(&[0; 22]);
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(PACKETS)
    })
}

/// A filter of tc for each destination, in so many milliseconds.
fn filters(lab: &Lab, entries: u32) -> Result<f64> {
    let mut lines = String::from("qdisc add dev eth0 clsact\n");
    for n in 0..entries {
        writeln!(
            lines,
            "filter add dev eth0 egress protocol ip prio {} u32 match ip dst {}/32 flowid 1:1",
            1 + n / FILTERS,
            destination(n)
        )?;
    }
    let path = std::env::temp_dir().join(format!("fault-bench-{}.tc", std::process::id()));
    fs::write(&path, lines)?;
    let start = Instant::now();
    let result = run(lab, &format!("tc -batch {}", path.display()));
    let span = start.elapsed();
    fs::remove_file(&path)?;
    result.map(|()| span.as_secs_f64() * 1e3)
}

/// Runs a command in the near namespace.
fn run(lab: &Lab, line: &str) -> Result<()> {
    let (program, args) = line.split_once(' ').unwrap_or((line, ""));
    let mut command: Command = lab.near.command(program);
    let output = command
        .args(args.split(' '))
        .output()
        .with_context(|| format!("no `{program}`: `cargo xtask setup --for bench` installs it"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or_default();
    ensure!(output.status.success(), "`{program}`: {said}");
    Ok(())
}
