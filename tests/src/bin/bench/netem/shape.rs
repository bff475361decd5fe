//! Packets that go ahead, come twice or are slowed down.
//!
//! What is asked, faultctl has to meet as well as netem does in the same run, or within what
//! chance allows ([`interval`]: a failure in a billion runs).

use std::{fmt::Write as _, time::Duration};

use fault_tests::{Side, binomial::interval};

use super::{
    Bed, Cases, Who, float,
    stream::{Arrival, Plan, stream},
};
use crate::rows::{Aim, Row, Samples};

/// All three.
pub fn rows(holders: &[Who], rounds: usize) -> Vec<Row> {
    let mut rows = reorder(holders, rounds);
    rows.extend(duplicate(holders, rounds));
    rows.extend(rate(holders, rounds));
    rows
}

/// Who goes ahead overtakes those of ten packets before that are held.
const AHEAD: f64 = 0.25;
const IN_FLIGHT: u32 = 10;
const EVERY: Duration = Duration::from_millis(2);
/// Ten times that and a half, so that the tenth packet before is held for sure, and the eleventh
/// is not.
const HELD: Duration = Duration::from_millis(21);

#[derive(Default)]
struct Order {
    packets: u64,
    ahead: u64,
    displacements: Vec<f64>,
}

fn reorder(holders: &[Who], rounds: usize) -> Vec<Row> {
    let what = "reorder 25%";
    let words = "delay 21ms reorder 25% limit 200000";
    let plan = Plan {
        count: 1_000,
        every: EVERY,
        bytes: 64,
        longest: HELD,
        copies: false,
    };
    let mut cases = Cases::<Order>::new(holders, what, |who| Bed::new(who, Side::Near, words));
    for _ in 0..rounds {
        for (bed, order) in &mut cases.of {
            let arrived = stream(bed, plan);
            let half = HELD.as_secs_f64() * 1e6 / 2.0;
            order.packets += arrived.len() as u64;
            order.ahead += arrived.iter().filter(|it| it.micros() < half).count() as u64;
            order.displacements.extend(displacements(&arrived));
        }
    }
    let share = |order: &Order| 100.0 * ratio(order.ahead, order.packets);
    let distance = |order: &Order| 100.0 * distance(&order.displacements);
    let netem = cases.find(Who::Netem).map(|it| (share(it), distance(it)));
    let mut rows = Vec::new();
    for (bed, order) in &cases.of {
        let name = bed.who.name();
        let packets = order.packets;
        let what_share = format!("{what}, went ahead, {name} ({packets} packets)");
        let mut row = Row::new(what_share, 0, share(order), "%");
        row.aim = aim(
            bed.who,
            100.0 * AHEAD,
            netem.map(|it| it.0),
            chance(packets, AHEAD),
        );
        rows.push(row);
        let shares = shares(&order.displacements);
        let what = format!("{what}, RFC 5236 density, distance from theory, {name} ({shares})");
        let mut row = Row::new(what, 0, distance(order), "%");
        let bound = chance(packets, 0.5).max(netem.map_or(0.0, |it| it.1));
        row.aim = (bed.who != Who::Netem).then_some(Aim::Value(bound));
        rows.push(row);
    }
    rows.extend(cases.missing);
    rows
}

/// RFC 5236: by how many places each packet came late; those that are lost have no place.
fn displacements(arrived: &[Arrival]) -> Vec<f64> {
    let mut sorted: Vec<_> = arrived.iter().map(|it| it.number).collect();
    sorted.sort_unstable();
    let place = |number| sorted.partition_point(|it| *it < number);
    let places = arrived.iter().enumerate();
    places
        .map(|(at, it)| float(at) - float(place(it.number)))
        .collect()
}

/// The largest distance between the distribution of displacements and theory's, where
/// [`IN_FLIGHT`] packets are: who goes ahead overtakes those of them that are held, and who is
/// held is overtaken by those that go ahead.
fn distance(displacements: &[f64]) -> f64 {
    let n = i32::try_from(IN_FLIGHT).expect("small");
    let mut theory = 0.0;
    (-n..=n).fold(0.0, |most: f64, d| {
        if d <= 0 {
            theory += AHEAD * binomial(n, -d, 1.0 - AHEAD);
        }
        if d >= 0 {
            theory += (1.0 - AHEAD) * binomial(n, d, AHEAD);
        }
        let measured = displacements.iter().filter(|it| **it <= f64::from(d));
        let measured = float(measured.count()) / float(displacements.len());
        most.max((measured - theory).abs())
    })
}

/// The chance of `hits` in `trials`.
fn binomial(trials: i32, hits: i32, p: f64) -> f64 {
    let ways = (0..hits).fold(1.0, |ways, k| {
        ways * f64::from(trials - k) / f64::from(k + 1)
    });
    ways * p.powi(hits) * (1.0 - p).powi(trials - hits)
}

/// The density by a few classes of displacements, in percent.
fn shares(displacements: &[f64]) -> String {
    const CLASSES: [(&str, f64, f64); 6] = [
        ("-9 or less", f64::MIN, -9.0),
        ("-8 to -5", -8.0, -5.0),
        ("-4 to 0", -4.0, 0.0),
        ("1 to 2", 1.0, 2.0),
        ("3 to 4", 3.0, 4.0),
        ("5 or more", 5.0, f64::MAX),
    ];
    let mut text = String::new();
    for (name, low, high) in CLASSES {
        let hits = displacements.iter().filter(|it| (low..=high).contains(*it));
        let share = 100.0 * float(hits.count()) / float(displacements.len());
        let comma = if text.is_empty() { "" } else { ", " };
        write!(text, "{comma}{name}: {share:.1}").expect("a string");
    }
    text
}

fn duplicate(holders: &[Who], rounds: usize) -> Vec<Row> {
    const COPIED: f64 = 0.1;
    let what = "duplicate 10%, copies";
    let words = "delay 10ms duplicate 10% limit 200000";
    let plan = Plan {
        count: 2_000,
        every: Duration::from_micros(500),
        bytes: 64,
        longest: Duration::from_millis(10),
        copies: true,
    };
    let mut cases = Cases::<(u64, u64)>::new(holders, what, |who| Bed::new(who, Side::Near, words));
    for _ in 0..rounds {
        for (bed, (sent, copies)) in &mut cases.of {
            *sent += u64::from(plan.count);
            *copies += (stream(bed, plan).len() as u64).saturating_sub(plan.count.into());
        }
    }
    let share = |(sent, copies): &(u64, u64)| 100.0 * ratio(*copies, *sent);
    let netem = cases.find(Who::Netem).map(share);
    let rows = cases.of.iter().map(|(bed, counts)| {
        let what = format!("{what}, {} ({} packets)", bed.who.name(), counts.0);
        let mut row = Row::new(what, 0, share(counts), "%");
        row.aim = aim(bed.who, 100.0 * COPIED, netem, chance(counts.0, COPIED));
        row
    });
    rows.chain(cases.missing).collect()
}

fn rate(holders: &[Who], rounds: usize) -> Vec<Row> {
    /// Bytes a second of 10mbit.
    const ASKED: f64 = 1_250_000.0;
    /// Payload, UDP, IPv4 and Ethernet, which netem counts too.
    const FRAME: usize = 1_250 + 8 + 20 + 14;
    /// What a receiver that is scheduled late at the end may see, in percent.
    const LATE: f64 = 1.0;
    let what = "rate 10mbit, UDP at twice of it, arrived of what was asked";
    let words = "rate 10mbit limit 200000";
    let plan = Plan {
        count: 1_000,
        every: Duration::from_micros(500),
        bytes: 1_250,
        longest: Duration::from_secs(3),
        copies: false,
    };
    let mut cases = Cases::<Samples>::new(holders, what, |who| Bed::new(who, Side::Near, words));
    for _ in 0..rounds {
        for (bed, shares) in &mut cases.of {
            let arrived = stream(bed, plan);
            if let [first, .., last] = &arrived[..] {
                let seconds = last.at.saturating_sub(first.at).as_secs_f64();
                let bytes = float((arrived.len() - 1) * FRAME);
                shares.add(100.0 * bytes / seconds / ASKED);
            }
        }
    }
    let netem = cases.find(Who::Netem).map(Samples::median);
    let rows = cases.of.iter().map(|(bed, shares)| {
        let what = format!("{what}, {}", bed.who.name());
        let mut row = Row::new(what, 0, shares.median(), "%");
        row.aim = aim(bed.who, 100.0, netem, LATE);
        row
    });
    rows.chain(cases.missing).collect()
}

/// As near to what was asked as netem is, or as chance may have it; all in percent.
fn aim(who: Who, asked: f64, netem: Option<f64>, chance: f64) -> Option<Aim> {
    let bound = netem.map_or(chance, |netem| (netem - asked).abs().max(chance));
    (who != Who::Netem).then_some(Aim::Between(asked - bound, asked + bound))
}

/// How far chance may lead from a share, in percent.
fn chance(trials: u64, p: f64) -> f64 {
    100.0 * (ratio(*interval(trials, p).end(), trials) - p)
}

fn ratio(part: u64, of: u64) -> f64 {
    let float = |count| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    float(part) / float(of)
}
