//! Distributions of a jitter, beside theory and beside netem's samples.

use std::time::Duration;

use fault_tests::{
    Side,
    kolmogorov::{against_theory, between, critical_between, critical_theory},
};
use fault_user::netem::distribution::{Distribution, Table};

use super::{
    Bed, Cases, Who, float,
    stream::{Plan, stream},
};
use crate::rows::{Aim, Row, Samples};

/// The mean and the jitter, in milliseconds: what an emulated machine adds is small beside it.
const MEAN: f64 = 500.0;
const JITTER: f64 = 100.0;
const EVERY: Duration = Duration::from_millis(1);
/// Samples for each of the rounds, all of them in a row.
const COUNT: u32 = 700;
/// What a delay without jitter is measured with.
const FEW: u32 = 200;

/// By netem's names; netem takes what has none for uniform.
const SHAPES: [&str; 4] = ["uniform", "normal", "pareto", "paretonormal"];

/// Distances of the shapes; each less what the same delay is late on average without jitter.
/// A set of samples that is beyond the critical value, as one in a hundred is by chance, is
/// taken once more, with all it is compared with.
pub fn rows(holders: &[Who], rounds: usize) -> Vec<Row> {
    let mut late = Cases::<Samples>::new(holders, "jitter", |who| {
        Bed::new(who, Side::Near, &format!("delay {MEAN}ms limit 200000"))
    });
    for (bed, samples) in &mut late.of {
        take(bed, FEW, samples);
    }
    let mut rows = Vec::new();
    for shape in SHAPES {
        let words = match shape {
            "uniform" => String::new(),
            name => format!(" distribution {name}"),
        };
        let words = format!("delay {MEAN}ms {JITTER}ms{words} limit 200000");
        let what = format!("jitter, {shape}");
        let mut cases =
            Cases::<Samples>::new(holders, &what, |who| Bed::new(who, Side::Near, &words));
        let count = COUNT * u32::try_from(rounds).unwrap_or(u32::MAX);
        let mut found = Vec::new();
        for set in ["", ", second set"] {
            for (bed, samples) in &mut cases.of {
                *samples = Samples::default();
                take(bed, count, samples);
            }
            found = compare(&cases, &late, shape, set);
            if found.iter().all(Row::is_good) {
                break;
            }
        }
        rows.extend(found);
        rows.extend(cases.missing);
    }
    rows
}

/// Adds delays in milliseconds.
fn take(bed: &Bed, count: u32, samples: &mut Samples) {
    let plan = Plan {
        count,
        every: EVERY,
        bytes: 64,
        // No table has a value above 4.
        longest: Duration::from_secs_f64((MEAN + 4.0 * JITTER) / 1e3),
        copies: false,
    };
    for arrival in stream(bed, plan) {
        samples.add(arrival.micros() / 1e3);
    }
}

fn compare(cases: &Cases<Samples>, late: &Cases<Samples>, shape: &str, set: &str) -> Vec<Row> {
    let table = Distribution::named(shape).table();
    let theory = table.map(|table| Theory::new(&table));
    let theory = theory.expect("it is computed");
    let mut rows = Vec::new();
    let own = |who, samples: &Samples| -> Vec<f64> {
        let late = late.find(who).map_or(MEAN, Samples::median) - MEAN;
        samples.all().iter().map(|sample| sample - late).collect()
    };
    let netem = cases.of.iter().find(|(bed, _)| bed.who == Who::Netem);
    let netem = netem.map(|(_, samples)| own(Who::Netem, samples));
    for (bed, samples) in &cases.of {
        let name = bed.who.name();
        let samples = own(bed.who, samples);
        let n = samples.len();
        let what = format!("jitter, {shape}, distance from theory, {name} ({n} samples{set})");
        let mut row = row(what, against_theory(&samples, |value| theory.below(value)));
        let critical = 100.0 * critical_theory(n);
        row.aim = (bed.who != Who::Netem).then_some(Aim::Value(critical));
        rows.push(row);
        if let Some(netem) = netem.as_ref().filter(|_| bed.who != Who::Netem) {
            let what = format!("jitter, {shape}, distance from netem's, {name}{set}");
            let critical = 100.0 * critical_between(n, netem.len());
            rows.push(Row {
                aim: Some(Aim::Value(critical)),
                ..self::row(what, between(&samples, netem))
            });
        }
    }
    rows
}

fn row(what: String, distance: f64) -> Row {
    Row::new(what, 0, 100.0 * distance, "%")
}

/// Delays of a table's values, sorted.
struct Theory(Vec<f64>);

impl Theory {
    fn new(table: &Table) -> Self {
        let delay = |value: &i16| MEAN + JITTER * f64::from(*value) / f64::from(Table::SCALE);
        let mut delays: Vec<_> = table.values().iter().map(delay).collect();
        delays.sort_by(f64::total_cmp);
        Self(delays)
    }

    /// The share of delays up to one.
    fn below(&self, delay: f64) -> f64 {
        float(self.0.partition_point(|it| *it <= delay)) / float(self.0.len())
    }
}
