//! Kolmogorov-Smirnov distances: of samples against a theory, and of two sets of samples.
#![expect(
    clippy::cast_precision_loss,
    reason = "sets of samples are far below 2^52"
)]

/// The largest distance between the samples' distribution and `theory`, a cumulative
/// distribution function (0 to 1). `samples` may be in any order, in any unit that `theory` takes.
pub fn against_theory(samples: &[f64], theory: impl Fn(f64) -> f64) -> f64 {
    let sorted = sorted(samples);
    let count = sorted.len() as f64;
    sorted
        .iter()
        .enumerate()
        .fold(0.0, |most, (index, &value)| {
            let expected = theory(value);
            let below = expected - index as f64 / count;
            let above = (index + 1) as f64 / count - expected;
            most.max(below).max(above)
        })
}

/// The largest distance between the distributions of two sets of samples of the same unit.
pub fn between(one: &[f64], other: &[f64]) -> f64 {
    let (one, other) = (sorted(one), sorted(other));
    let share = |of: &[f64], value| of.partition_point(|&x| x <= value) as f64 / of.len() as f64;
    one.iter().chain(&other).fold(0.0, |most: f64, &value| {
        most.max((share(&one, value) - share(&other, value)).abs())
    })
}

/// The distance that `count` independent samples of the very theory exceed in 1 % of runs
/// (asymptotic: `sqrt(-ln(0.01 / 2) / 2)` = 1.628 over the root of `count`).
pub fn critical_theory(count: usize) -> f64 {
    (-(0.005_f64).ln() / 2.0).sqrt() / (count as f64).sqrt()
}

/// The same for two independent sets of `one` and `other` samples of one distribution.
pub fn critical_between(one: usize, other: usize) -> f64 {
    let (one, other) = (one as f64, other as f64);
    (-(0.005_f64).ln() / 2.0).sqrt() * ((one + other) / (one * other)).sqrt()
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_worked_out_by_hand() {
        assert!((against_theory(&[0.75, 0.25], |x| x) - 0.25).abs() < 1e-12);
        assert!((against_theory(&[0.9], |x| x) - 0.9).abs() < 1e-12);
        assert!((between(&[1.0, 2.0], &[2.0, 3.0]) - 0.5).abs() < 1e-12);
        assert!((between(&[1.0], &[2.0]) - 1.0).abs() < 1e-12);
        assert!((critical_theory(10_000) - 0.016_276).abs() < 1e-6);
        assert!((critical_between(10_000, 10_000) - 0.023_018).abs() < 1e-6);
    }
}
