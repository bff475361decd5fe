//! What the TAP engine can carry where nothing is emulated, what it costs, and what there is
//! no more of.

use std::{
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use fault_tests::{
    Side,
    lab::{Family, ends},
    udp,
};
use nix::{sys::prctl, unistd::Pid};

use super::{
    Bed, Cases, Who,
    tcp::{CONTROL, Plan, Transfer, transfer},
    usage::{Mark, SENDER, Usage},
};
use crate::rows::{Aim, Row, Samples};

const MICROS: [u64; 3] = [100, 10_000, 100_000];
/// Packets a second, in thousands, one after the other until some are lost.
const STEPS: [u32; 7] = [50, 100, 150, 200, 250, 300, 350];
/// How long each is sent.
const STEP: Duration = Duration::from_secs(1);
/// Bytes of payload: a frame of 64 bytes with its checksum.
const BYTES: usize = 18;

#[derive(Default)]
struct Measured {
    gbits: Samples,
    last: Transfer,
    kpps: Samples,
    usage: Usage,
}

/// Throughput of one TCP flow, and packets a second without loss.
pub fn rows(rounds: usize) -> Vec<Row> {
    let mut cases: Vec<_> = MICROS
        .iter()
        .map(|&micros| {
            let words = format!("delay {micros}us limit 1000000");
            let what = format!("{} ms", millis(micros));
            let cases =
                Cases::<Measured>::new(&[Who::Tap], &what, |who| Bed::new(who, Side::Near, &words));
            (micros, cases)
        })
        .collect();
    for _ in 0..rounds {
        for (micros, cases) in &mut cases {
            let delay = Duration::from_micros(*micros);
            for (bed, measured) in &mut cases.of {
                let plan = Plan::new(1, delay);
                measured.last = transfer(
                    bed,
                    Plan {
                        // Slow start goes further where nothing is emulated.
                        warm_up: plan.warm_up + Duration::from_secs(1),
                        window: plan.window + Duration::from_secs(1),
                        ..plan
                    },
                );
                measured.gbits.add(measured.last.bits / 1e9);
                let (kpps, usage) = most(bed, delay);
                measured.kpps.add(kpps);
                measured.usage = usage;
            }
        }
    }
    let mut rows = Vec::new();
    for (micros, cases) in cases {
        rows.extend(cases.missing);
        let millis = millis(micros);
        for (bed, measured) in cases.of {
            let dropped = bed.dropped();
            let what = format!(
                "TCP ({}), one flow, egress, {millis} ms, tap ({})",
                *CONTROL, measured.last.usage
            );
            let tcp = Row::new(what, 0, measured.gbits.median(), "Gbit/s");
            let what = format!(
                "UDP, 64 bytes, egress, without loss, {millis} ms, tap ({}; {dropped} dropped \
                 beyond)",
                measured.usage
            );
            let udp = Row::new(what, 0, measured.kpps.median(), "kpps");
            rows.push(Row {
                aim: Some(Aim::Least(6.0, 10.0)),
                ..tcp
            });
            rows.push(Row {
                aim: Some(Aim::Least(150.0, 300.0)),
                ..udp
            });
        }
    }
    rows
}

fn millis(micros: u64) -> String {
    let micros = u32::try_from(micros).expect("below an hour");
    format!("{}", f64::from(micros) / 1e3)
}

/// The most thousand packets a second of which none is lost, and who used the processors then.
fn most(bed: &Bed, delay: Duration) -> (f64, Usage) {
    let mut most = (0.0, Usage::default());
    for kpps in STEPS {
        let (sent, lost, usage) = step(bed, kpps * 1_000, delay);
        if lost > 0 {
            break;
        }
        most = (sent / 1e3, usage);
        // The sender can no more.
        if sent < 0.95e3 * f64::from(kpps) {
            break;
        }
    }
    most
}

/// Sends at a rate: packets a second that were sent, and how many were lost.
fn step(bed: &Bed, rate: u32, delay: Duration) -> (f64, u32, Usage) {
    let (from, to) = ends(Family::V4, bed.sender);
    let receiving = udp::socket(bed.lab.namespace(bed.receiver()), to);
    let mark = Mark::new(bed.pid().unwrap_or_else(Pid::this));
    let (sent, seconds, usage) = bed.lab.namespace(bed.sender).run(|| {
        prctl::set_name(SENDER).expect("a name");
        let socket = UdpSocket::bind(from).expect("a socket");
        socket.connect(to).expect("a route");
        let begin = Instant::now();
        let mut sent = 0;
        while begin.elapsed() < STEP {
            let due = f64::from(rate) * begin.elapsed().as_secs_f64();
            while f64::from(sent) < due {
                // What no queue takes is lost, and seen to be.
                let _ = socket.send(&[0; BYTES]);
                sent += 1;
            }
            thread::sleep(PAUSE);
        }
        // This thread's share is read while it lives.
        (sent, begin.elapsed().as_secs_f64(), mark.until_now())
    });
    thread::sleep(delay + SETTLE);
    let arrived = udp::drain(&receiving).len();
    let lost = sent - u32::try_from(arrived).expect("as many as were sent");
    (f64::from(sent) / seconds, lost, usage)
}

/// The sender leaves its processor so often, so that its share says what sending takes.
const PAUSE: Duration = Duration::from_micros(50);
/// What is late is not lost.
const SETTLE: Duration = Duration::from_millis(100);
