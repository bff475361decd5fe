//! Many destinations, each with a delay of its own, beside a class tree of tc with a netem for
//! each.

use std::{
    fmt::Write as _,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use fault_tests::{Side, lab::Family};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use super::{
    Bed, Cases, Who,
    bed::tc,
    missing,
    stream::{self, Plan},
};
use crate::{
    load::{List, destination},
    rows::{Aim, Row, Samples},
};

const COUNTS: [u32; 3] = [1, 100, 1_000];
/// Packets of a measurement.
const PACKETS: u32 = 10_000;
/// What a packet to the last of many may cost, beside the only one.
const FLAT: f64 = 1.2;

#[derive(Default)]
struct Measured {
    set_up: f64,
    nanos: Samples,
    error: Samples,
}

/// What is told, where it is, and its unit.
type Told = (&'static str, fn(&Measured) -> f64, &'static str);
const VALUES: [Told; 3] = [
    ("set-up", |it| it.set_up, "ms"),
    ("a packet to the last", |it| it.nanos.median(), "ns"),
    (
        "error of the last's delay, median",
        |it| it.error.median(),
        "us",
    ),
];

/// Set-up, what a packet to the last destination costs, and by how much its delay is off.
pub fn rows(holders: &[Who], rounds: usize) -> Vec<Row> {
    let mut all = Vec::new();
    let mut rows = Vec::new();
    for count in COUNTS {
        let mut cases = Cases::<Measured> {
            of: Vec::new(),
            missing: Vec::new(),
        };
        for &who in holders {
            match set_up(who, count) {
                Ok((bed, set_up)) => {
                    let measured = Measured {
                        set_up,
                        ..Measured::default()
                    };
                    cases.of.push((bed, measured));
                }
                Err(why) => {
                    let row = missing("a delay for each destination", who, &why);
                    cases.missing.push(Row {
                        entries: count,
                        ..row
                    });
                }
            }
        }
        all.push((count, cases));
    }
    for _ in 0..rounds {
        for (count, cases) in &mut all {
            for (bed, measured) in &mut cases.of {
                flood(bed, *count, measured);
                probe(bed, *count, measured);
            }
        }
    }
    for (what, value, unit) in VALUES {
        for &who in holders {
            let of = |cases: &Cases<Measured>, who| cases.find(who).map(value);
            let one = of(&all[0].1, who);
            for (count, cases) in &all {
                let Some(own) = of(cases, who) else { continue };
                let what = format!("a delay for each destination, {what}, {}", who.name());
                let row = Row::new(what, *count, own, unit);
                let ours = of(cases, Who::Fq).filter(|_| who == Who::Netem);
                rows.push(match (ours, one) {
                    (Some(ours), _) => row.beside("fq", ours),
                    (None, Some(one)) if *count > 1 && unit == "ns" => Row {
                        aim: Some(Aim::Ratio(FLAT)).filter(|_| who != Who::Netem),
                        ..row.beside("one", one)
                    },
                    _ => row,
                });
            }
        }
    }
    rows.extend(all.into_iter().flat_map(|(_, cases)| cases.missing));
    rows
}

/// The n-th destination's.
fn delay(n: u32) -> Duration {
    Duration::from_micros((10_000 + 10 * n).into())
}

/// Who holds packets by destination, and how many milliseconds that took.
fn set_up(who: Who, count: u32) -> Result<(Bed, f64), String> {
    let mut bed = Bed::bare(who, Side::Near);
    let (last, far) = (destination(count - 1), Family::V4.far());
    bed.lab
        .near
        .ip(&format!("route add 10.80.0.0/12 via {far}"));
    bed.lab.far.ip(&format!("addr add {last}/32 dev eth1"));
    let text = if who == Who::Netem {
        classes(count)
    } else {
        list(count)
    };
    let file = List::write("delays", &text).map_err(|error| format!("{error:#}"))?;
    let begin = Instant::now();
    if who == Who::Netem {
        tc(&bed.lab.near, &format!("-batch {}", file.path().display()))?;
    } else {
        let from = format!("@{}", file.path().display());
        bed.start(&["latency", &from, "--iface", "eth0", "--limit", "200000"]);
        bed.ready()?;
    }
    Ok((bed, begin.elapsed().as_secs_f64() * 1e3))
}

/// faultctl's: an address and a time in each line.
fn list(count: u32) -> String {
    (0..count).fold(String::new(), |mut text, n| {
        let (to, micros) = (destination(n), delay(n).as_micros());
        writeln!(text, "{to} {micros}us").expect("a string");
        text
    })
}

/// tc's: a class, a netem and a filter for each.
fn classes(count: u32) -> String {
    let mut text = "qdisc add dev eth0 root handle 1: htb\n".to_owned();
    for n in 0..count {
        let (to, micros, class) = (destination(n), delay(n).as_micros(), n + 1);
        let handle = n + 2;
        for line in [
            format!(
                "class add dev eth0 parent 1: classid 1:{class:x} htb rate 100gbit quantum 60000"
            ),
            format!(
                "qdisc add dev eth0 parent 1:{class:x} handle {handle:x}: netem delay {micros}us limit 200000"
            ),
            format!(
                "filter add dev eth0 parent 1: protocol ip prio 1 u32 match ip dst {to}/32 flowid 1:{class:x}"
            ),
        ] {
            text += &line;
            text.push('\n');
        }
    }
    text
}

/// Sends to the last destination as fast as it goes, on one CPU.
fn flood(bed: &Bed, count: u32, measured: &mut Measured) {
    let to = SocketAddr::new(destination(count - 1).into(), 9);
    // Who is sent to has a socket: no answers on the way.
    let _socket = bed
        .lab
        .far
        .run(|| UdpSocket::bind(("0.0.0.0", 9)).expect("a socket"));
    let seconds = bed.lab.near.run(|| {
        let mut cpus = CpuSet::new();
        cpus.set(0).expect("the first CPU");
        sched_setaffinity(Pid::from_raw(0), &cpus).expect("to stay on a CPU");
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect(to).expect("a route");
        let begin = Instant::now();
        for _ in 0..PACKETS {
            let _ = socket.send(&[0; 22]);
        }
        begin.elapsed().as_secs_f64()
    });
    measured.nanos.add(seconds * 1e9 / f64::from(PACKETS));
    // Until what was sent is there, the next measurement would share the way with it.
    std::thread::sleep(delay(count));
}

/// Whether it is the last destination's delay that packets to it get.
fn probe(bed: &Bed, count: u32, measured: &mut Measured) {
    let plan = Plan {
        count: 30,
        every: Duration::from_millis(3),
        bytes: 64,
        longest: delay(count),
        copies: false,
    };
    let to = SocketAddr::new(destination(count - 1).into(), 50_000);
    for arrival in stream::to(bed, to, plan) {
        let asked = delay(count - 1).as_secs_f64() * 1e6;
        measured.error.add(arrival.micros() - asked);
    }
}
