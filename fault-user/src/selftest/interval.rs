//! How far a count may be from its mean by chance.

/// The counts of `n` trials with probability `p` that lie within six standard
/// deviations and a half: outside by chance once in 10^10 (a normal bound; Okamoto's
/// inequality gives 2·exp(-2·6.5²·p·(1-p)) at most).
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are small, and the bounds are between 0 and n"
)]
pub(super) fn interval(n: u64, p: f64) -> (u64, u64) {
    let mean = n as f64 * p;
    let deviation = 6.5 * (mean * (1.0 - p)).sqrt();
    let low = (mean - deviation).max(0.0).ceil() as u64;
    let high = (mean + deviation).min(n as f64).floor() as u64;
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_two_thousand() {
        // sigma is sqrt(500) = 22.36.
        assert_eq!(interval(2000, 0.5), (855, 1145));
        assert_eq!(interval(2000, 0.0), (0, 0));
        assert_eq!(interval(2000, 1.0), (2000, 2000));
    }
}
