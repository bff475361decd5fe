//! faultctl's delay line beside netem: the same words of tc-netem(8), on the same kernel, in
//! the same run, in rounds that alternate.

mod bed;
mod delay;
mod destinations;
mod jitter;
mod loss;
mod shape;
mod stream;
mod tap;
mod tcp;
mod usage;

use clap::{Args, ValueEnum};

use crate::rows::Row;
use bed::{Bed, Who};

/// faultctl's delay line beside netem
#[derive(Args)]
pub struct Options {
    /// Parts of the table; those that fit the kernel if none is named
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Measurements of each case, of which the median is told
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Echo and one-way datagrams at 1, 10, 100 and 1000 ms
    Delay,
    /// TCP at 10 and 100 ms
    Tcp,
    /// What is lost of 20 Mbit/s at 100 ms
    Loss,
    /// Distributions of a jitter
    Jitter,
    /// Reordering, copies, rate
    Shape,
    /// 1, 100 and 1000 destinations with a delay each
    Destinations,
    /// What the TAP engine can carry, and what it costs
    Tap,
}

/// Measures the parts, and hands over each part's rows as they come.
pub fn run(options: &Options, mut tell: impl FnMut(&[Row])) {
    let (holders, missing) = bed::there();
    tell(&missing);
    let parts: Vec<_> = match &options.parts[..] {
        [] => Part::value_variants()
            .iter()
            .copied()
            .filter(|part| part.fits(&holders))
            .collect(),
        some => some.to_vec(),
    };
    for part in parts {
        let rounds = options.rounds;
        tell(&match part {
            Part::Delay => delay::rows(&holders, rounds),
            Part::Tcp => tcp::rows(&holders, rounds),
            Part::Loss => loss::rows(&holders, rounds),
            Part::Jitter => jitter::rows(&holders, rounds),
            Part::Shape => shape::rows(&holders, rounds),
            Part::Destinations => destinations::rows(&holders, rounds),
            Part::Tap => tap::rows(rounds),
        });
    }
}

impl Part {
    /// What the TAP engine can carry is measured where nothing else is there to compare with,
    /// and TCP where netem is.
    fn fits(self, holders: &[Who]) -> bool {
        match self {
            Self::Tcp => holders.contains(&Who::Netem),
            Self::Tap => !holders.contains(&Who::Netem),
            _ => true,
        }
    }
}

/// The same thing measured for each of those who hold packets.
struct Cases<T> {
    of: Vec<(Bed, T)>,
    missing: Vec<Row>,
}

impl<T: Default> Cases<T> {
    /// A bed for each, which they make ready at the same time; a row for each that cannot.
    fn new(holders: &[Who], what: &str, bed: impl Fn(Who) -> Result<Bed, String>) -> Self {
        let mut cases = Self {
            of: Vec::new(),
            missing: Vec::new(),
        };
        let beds: Vec<_> = holders.iter().map(|&who| (who, bed(who))).collect();
        for (who, bed) in beds {
            let ready = bed.and_then(|mut bed| bed.ready().map(|()| bed));
            match ready {
                Ok(bed) => cases.of.push((bed, T::default())),
                Err(why) => cases.missing.push(missing(what, who, &why)),
            }
        }
        cases
    }

    /// What was measured for one of them.
    fn find(&self, who: Who) -> Option<&T> {
        let case = self.of.iter().find(|(bed, _)| bed.who == who);
        case.map(|(_, measured)| measured)
    }
}

/// A row that says why there is no measurement.
fn missing(what: &str, who: Who, why: &str) -> Row {
    let why = why.lines().find(|line| !line.trim().is_empty());
    let why = why.unwrap_or("no reason given").replace('|', "/");
    Row::missing(format!("{what}, {}", who.name()), 0, why)
}

/// Counts of a benchmark are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "they are small")]
fn float(count: usize) -> f64 {
    count as f64
}
