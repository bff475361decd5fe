//! What chance allows where losses come in bursts.
//!
//! Losses that follow each other are not independent, so the binomial bounds of
//! [`crate::binomial`] are too narrow: by `(1 + c) / (1 - c)` in variance for two states
//! with `c = 1 - p - r`, and where bursts are long and rare the counts are not even near
//! a normal distribution. These bounds come from the chain itself, for the number of
//! packets that there are.
//!
//! The chains are written down once more, from tc-netem(8) and the paper that it names,
//! and share nothing with `fault_common::chain`.

use std::ops::RangeInclusive;

use crate::binomial::CHANCE;

/// A model of loss: each packet is in one of four states.
#[derive(Clone, Debug)]
pub struct Theory {
    /// Where the first packet is.
    first: [f64; 4],
    /// From each state to each.
    next: [[f64; 4]; 4],
    /// How likely a packet is lost in each.
    loss: [f64; 4],
}

/// Lengths of bursts that are counted: all, and longer ones.
const LENGTHS: [usize; 4] = [1, 2, 4, 8];

/// How many of some packets may be lost, and how many bursts may reach each of
/// the lengths, each but for a chance of [`CHANCE`].
#[derive(Clone, Debug)]
pub struct Bounds {
    theory: Theory,
    packets: u64,
    losses: RangeInclusive<u64>,
    bursts: [RangeInclusive<u64>; LENGTHS.len()],
}

/// What is counted among the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Loss,
    /// A run of losses has become so long.
    Run(usize),
}

impl Theory {
    /// netem's `gemodel`, which finds the good state first.
    pub fn gemodel([p, r, bad, good]: [f64; 4]) -> Self {
        let nowhere = [1.0, 0.0, 0.0, 0.0];
        Self {
            first: nowhere,
            next: [
                [1.0 - p, p, 0.0, 0.0],
                [r, 1.0 - r, 0.0, 0.0],
                nowhere,
                nowhere,
            ],
            loss: [good, bad, 0.0, 0.0],
        }
    }

    /// netem's `state`: the first packet follows one of state 1.
    pub fn states([p13, p31, p32, p23, p14]: [f64; 5]) -> Self {
        let from_good = [1.0 - p13 - p14, 0.0, p13, p14];
        Self {
            first: from_good,
            next: [
                from_good,
                [0.0, 1.0 - p23, p23, 0.0],
                [p31, p32, 1.0 - p31 - p32, 0.0],
                [1.0, 0.0, 0.0, 0.0],
            ],
            loss: [0.0, 0.0, 1.0, 1.0],
        }
    }

    /// A loss rate and a mean length of bursts; the first packet is lost as often as
    /// any other.
    pub fn burst(rate: f64, length: f64) -> Self {
        let r = 1.0 / length;
        let p = r * rate / (1.0 - rate);
        Self {
            first: [1.0 - rate, 0.0, rate, 0.0],
            ..Self::states([p, r, 0.0, 1.0, 0.0])
        }
    }

    /// A loss rate and a correlation of neighbours.
    pub fn correlated(rate: f64, correlation: f64) -> Self {
        Self::burst(rate, 1.0 / ((1.0 - correlation) * (1.0 - rate)))
    }

    /// What `packets` of them allow.
    pub fn bounds(&self, packets: u64) -> Bounds {
        Bounds {
            theory: self.clone(),
            packets,
            losses: self.interval(Event::Loss, packets),
            bursts: LENGTHS.map(|length| self.interval(Event::Run(length), packets)),
        }
    }

    /// Chernoff's bound: `P(X >= x) <= E[exp(t X)] exp(-t x)` for every `t > 0`, and
    /// the same downwards. The expectation is a product of matrices, exact for any
    /// chain and any number of packets. A `t` that is not the best gives a bound that is
    /// wider: with steps of 2, by 6 % at most where the distribution is near a normal one.
    fn interval(&self, event: Event, packets: u64) -> RangeInclusive<u64> {
        let allowed = (2.0 / CHANCE).ln();
        let tilts = || (0..27).map(|n| 4.0 * 0.5_f64.powi(n));
        let bound = |t: f64| (self.log_moment(event, t, packets) + allowed) / t;
        let high = tilts().map(bound).fold(f64::INFINITY, f64::min);
        let low = tilts().map(|t| bound(-t)).fold(0.0, f64::max);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "both are between 0 and a count"
        )]
        (low.ceil() as u64..=(high.floor() as u64).min(packets))
    }

    /// Of the number of events among `packets`: `ln E[exp(t X)]`.
    fn log_moment(&self, event: Event, t: f64, packets: u64) -> f64 {
        let mut step = self.tilted(event, t);
        let mut place = vec![0.0; step.len()];
        place[0] = 1.0;
        // Numbers are kept near one, and their scales apart.
        let (mut log, mut step_log) = (0.0, 0.0);
        let mut left = packets;
        while left > 0 {
            if left % 2 == 1 {
                place = times(&place, &step);
                log += step_log + rescale(place.iter_mut());
            }
            left /= 2;
            if left > 0 {
                step = step.iter().map(|row| times(row, &step)).collect();
                step_log = 2.0 * step_log + rescale(step.iter_mut().flatten());
            }
        }
        log + place.iter().sum::<f64>().ln()
    }

    /// The chain together with the length of the run of losses so far, up to the one
    /// that counts; transitions are weighted by `exp(t)` where the event happens. The
    /// place before the first packet comes first, and others as they are come to.
    fn tilted(&self, event: Event, t: f64) -> Vec<Vec<f64>> {
        let longest = match event {
            Event::Loss => 0,
            Event::Run(length) => length,
        };
        let mut places: Vec<Option<(usize, usize)>> = vec![None];
        let mut rows: Vec<Vec<f64>> = Vec::new();
        while let Some(place) = places.get(rows.len()) {
            let (next, run) = match place {
                None => (&self.first, 0),
                Some((state, run)) => (&self.next[*state], *run),
            };
            let longer = longest.min(run + 1);
            let counts = event == Event::Loss || (longer == longest && run < longest);
            let weight = if counts { t.exp() } else { 1.0 };
            let mut row = vec![0.0; places.len()];
            for (state, (next, loss)) in next.iter().zip(self.loss).enumerate() {
                for (run, factor) in [(0, next * (1.0 - loss)), (longer, next * loss * weight)] {
                    if factor == 0.0 {
                        continue;
                    }
                    let place = Some((state, run));
                    let known = places.iter().position(|other| *other == place);
                    let column = known.unwrap_or_else(|| {
                        places.push(place);
                        row.push(0.0);
                        places.len() - 1
                    });
                    row[column] += factor;
                }
            }
            rows.push(row);
        }
        for row in &mut rows {
            row.resize(places.len(), 0.0);
        }
        rows
    }
}

impl Bounds {
    /// Panics where the rate of loss or the lengths of bursts are not the model's: their
    /// number tells the mean, the numbers of longer ones the tail. By chance, once in
    /// five times [`CHANCE`].
    #[track_caller]
    pub fn assert_hold(&self, missing: &[u64]) {
        let Self {
            theory, packets, ..
        } = self;
        let (lost, interval) = (missing.len() as u64, &self.losses);
        assert!(
            interval.contains(&lost),
            "{lost} of {packets} lost, {interval:?} expected of {theory:?}"
        );
        let bursts = bursts(missing);
        for (length, interval) in LENGTHS.iter().zip(&self.bursts) {
            let found = bursts.iter().filter(|burst| *burst >= length).count() as u64;
            assert!(
                interval.contains(&found),
                "{found} bursts of {length} or more among {packets}, {interval:?} expected \
                 of {theory:?}"
            );
        }
    }
}

/// Lengths of the bursts that missing numbers are, in their order.
pub fn bursts(missing: &[u64]) -> Vec<usize> {
    missing
        .chunk_by(|one, next| one + 1 == *next)
        .map(<[u64]>::len)
        .collect()
}

/// A row times a matrix.
fn times(row: &[f64], matrix: &[Vec<f64>]) -> Vec<f64> {
    let mut product = vec![0.0; row.len()];
    for (factor, row) in row.iter().zip(matrix).filter(|(factor, _)| **factor != 0.0) {
        for (sum, value) in product.iter_mut().zip(row) {
            *sum += factor * value;
        }
    }
    product
}

/// Makes the largest 1 and says the logarithm of what it was.
fn rescale<'a>(values: impl Iterator<Item = &'a mut f64>) -> f64 {
    let values: Vec<_> = values.collect();
    let largest = values
        .iter()
        .fold(0.0, |most: f64, value| most.max(**value));
    for value in values {
        *value /= largest;
    }
    largest.ln()
}

#[cfg(test)]
mod tests;
