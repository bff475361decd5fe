//! What is lost of a stream of datagrams that is delayed.

use std::time::Duration;

use fault_tests::Side;

use super::{
    Bed, Cases, Who, float,
    stream::{Plan, stream},
};
use crate::rows::{Aim, Row, Samples};

/// 1,250 bytes each 500 us.
const BYTES: usize = 1_250;
const EVERY: Duration = Duration::from_micros(500);
/// Of one round: 1.5 s.
const COUNT: u32 = 3_000;

#[derive(Default)]
struct Measured {
    lost: Samples,
    mbits: Samples,
}

/// At 100 ms with limits raised, and at 1000 ms with those that there are by default.
pub fn rows(holders: &[Who], rounds: usize) -> Vec<Row> {
    let what = "UDP, 20 Mbit/s, 100 ms, limit 200000";
    let bed = |who| Bed::new(who, Side::Near, "delay 100ms limit 200000");
    let cases = Cases::new(holders, what, bed);
    let mut rows = measure(cases, what, Duration::from_millis(100), rounds);
    // 2,000 packets in flight.
    let what = "UDP, 20 Mbit/s, 1000 ms, default limits";
    let bed = |who| {
        if who == Who::Netem {
            return Bed::new(who, Side::Near, "delay 1s");
        }
        let mut bed = Bed::bare(who, Side::Near);
        bed.start(&["latency", "1s", "--iface", "eth0"]);
        Ok(bed)
    };
    let cases = Cases::new(holders, what, bed);
    rows.extend(measure(cases, what, Duration::from_secs(1), 1));
    rows
}

fn measure(mut cases: Cases<Measured>, what: &str, longest: Duration, rounds: usize) -> Vec<Row> {
    let plan = Plan {
        count: COUNT,
        every: EVERY,
        bytes: BYTES,
        longest,
        copies: false,
    };
    for _ in 0..rounds {
        for (bed, measured) in &mut cases.of {
            let arrived = stream(bed, plan);
            measured
                .lost
                .add(float(COUNT as usize) - float(arrived.len()));
            let [first, last] = [arrived.first(), arrived.last()]
                .map(|it| it.map_or(0.0, |it| it.sent.as_secs_f64()));
            let sent = arrived.last().map_or(0, |it| it.number);
            let bits = float(BYTES) * 8.0 * f64::from(sent);
            measured.mbits.add(bits / (last - first) / 1e6);
        }
    }
    let mut rows = cases.missing;
    for (bed, measured) in cases.of {
        let who = bed.who;
        let what = format!(
            "{what}, lost of {COUNT}, {} (sent at {:.1} Mbit/s, {} dropped in all rounds)",
            who.name(),
            measured.mbits.median(),
            bed.dropped(),
        );
        let mut row = Row::new(what, 0, measured.lost.median(), "packets");
        row.aim = (who != Who::Netem).then_some(Aim::Value(0.0));
        rows.push(row);
    }
    rows
}
