//! The value below which a share of all values lies, with 1 as the standard deviation.

use std::f64::consts::TAU;

/// Where netem cuts: no table has a value above it.
const CUT: f64 = 4.0;

/// From -1 to 1.
pub fn uniform(share: f64) -> f64 {
    2.0 * share - 1.0
}

/// The standard normal distribution, by Newton's method.
pub fn normal(share: f64) -> f64 {
    if share < 0.5 {
        return -normal(1.0 - share);
    }
    // From 0 upwards the distribution function is concave, so that the steps come from
    // below and do not overshoot.
    let mut value = 0.0;
    for _ in 0..MAX_STEPS {
        let step = (share - cumulative_normal(value)) / density(value);
        value += step;
        if step < PRECISION {
            break;
        }
    }
    value
}

/// NIST Net's: a shape of 3, whose mean is 3/2, and 4/3 for its standard deviation,
/// which is the root of 3/4.
pub fn pareto(share: f64) -> f64 {
    let value = (1.0 - share).cbrt().recip();
    ((value - 1.5) * 4.0 / 3.0).min(CUT)
}

/// A quarter of one and three quarters of the other.
pub fn pareto_normal(share: f64) -> f64 {
    0.25 * normal(share) + 0.75 * pareto(share)
}

const MAX_STEPS: usize = 100;

/// Far below a step of a table.
const PRECISION: f64 = 1e-9;

/// Of the standard normal distribution, for a value of at least 0: the density times
/// x + x^3/3 + x^5/(3*5) + ... (Abramowitz and Stegun, 26.2.11).
fn cumulative_normal(value: f64) -> f64 {
    let mut term = value;
    let mut sum = value;
    let mut odd = 3.0;
    while term > sum * f64::EPSILON {
        term *= value * value / odd;
        sum += term;
        odd += 2.0;
    }
    0.5 + density(value) * sum
}

fn density(value: f64) -> f64 {
    (-value * value / 2.0).exp() / TAU.sqrt()
}
