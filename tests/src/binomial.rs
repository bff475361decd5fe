//! What chance allows.

use std::ops::RangeInclusive;

/// How often a test may fail by chance alone.
pub const CHANCE: f64 = 1e-9;

/// Outcomes of `trials` independent draws of probability `p` that a correct program
/// stays within except with probability [`CHANCE`].
///
/// By Chernoff's bound, `P(X >= k) <= exp(-n KL(k/n, p))` (Hoeffding 1963, theorem 1):
/// a little wider than the exact interval, and never too narrow.
pub fn interval(trials: u64, p: f64) -> RangeInclusive<u64> {
    let limit = (2.0 / CHANCE).ln();
    let allowed = |hits: u64| float(trials) * divergence(float(hits) / float(trials), p) <= limit;
    let middle = (0..=trials)
        .min_by(|a, b| distance(*a, trials, p).total_cmp(&distance(*b, trials, p)))
        .unwrap_or(0);
    let low = (0..=middle).find(|hits| allowed(*hits)).unwrap_or(middle);
    let high = (middle..=trials)
        .rev()
        .find(|hits| allowed(*hits))
        .unwrap_or(middle);
    low..=high
}

/// Panics where `hits` of `trials` are not what probability `p` gives.
#[track_caller]
pub fn assert_rate(hits: u64, trials: u64, p: f64) {
    let interval = interval(trials, p);
    assert!(
        interval.contains(&hits),
        "{hits} of {trials} is not {p}: {interval:?} expected"
    );
}

fn distance(hits: u64, trials: u64, p: f64) -> f64 {
    (float(hits) - float(trials) * p).abs()
}

/// Of Bernoulli distributions, in nats.
fn divergence(q: f64, p: f64) -> f64 {
    let term = |q: f64, p: f64| if q == 0.0 { 0.0 } else { q * (q / p).ln() };
    term(q, p) + term(1.0 - q, 1.0 - p)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a test are far below 2^52"
)]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_holds_the_mean_and_is_about_six_sigma_wide() {
        let interval = interval(10_000, 0.5);
        assert!(interval.contains(&5_000));
        // Sigma is 50; the bound is 6.5 of them.
        assert!((4_650..4_700).contains(interval.start()), "{interval:?}");
        assert!((5_300..5_350).contains(interval.end()), "{interval:?}");
    }

    #[test]
    fn certain_outcomes_leave_no_room() {
        assert_eq!(interval(100, 0.0), 0..=0);
        assert_eq!(interval(100, 1.0), 100..=100);
    }
}
