//! Values with tc's units. None for what is no such value.

use std::time::Duration;

use super::number;
use crate::spec::Percent;

/// The shortest delay that tc cannot pass on: 2^32 ticks of 64 ns.
const DELAY_END: Duration = Duration::from_nanos(64 << 32);

/// tc's steps in all packets.
const STEPS: f64 = u32::MAX as f64;

const BIT_PER_SEC: [(&str, f64); 18] = [
    ("bit", 1e0),
    ("kbit", 1e3),
    ("mbit", 1e6),
    ("gbit", 1e9),
    ("tbit", 1e12),
    ("kibit", KI),
    ("mibit", KI * KI),
    ("gibit", KI * KI * KI),
    ("tibit", KI * KI * KI * KI),
    ("bps", 8e0),
    ("kbps", 8e3),
    ("mbps", 8e6),
    ("gbps", 8e9),
    ("tbps", 8e12),
    ("kibps", 8.0 * KI),
    ("mibps", 8.0 * KI * KI),
    ("gibps", 8.0 * KI * KI * KI),
    ("tibps", 8.0 * KI * KI * KI * KI),
];

const BYTES: [(&str, f64); 10] = [
    ("b", 1.0),
    ("k", KI),
    ("kb", KI),
    ("m", KI * KI),
    ("mb", KI * KI),
    ("g", KI * KI * KI),
    ("gb", KI * KI * KI),
    ("kbit", KI / 8.0),
    ("mbit", KI * KI / 8.0),
    ("gbit", KI * KI * KI / 8.0),
];

const NANOS: [(&str, f64); 12] = [
    ("s", 1e9),
    ("sec", 1e9),
    ("secs", 1e9),
    ("ms", 1e6),
    ("msec", 1e6),
    ("msecs", 1e6),
    ("us", 1e3),
    ("usec", 1e3),
    ("usecs", 1e3),
    ("ns", 1.0),
    ("nsec", 1.0),
    ("nsecs", 1.0),
];

const KI: f64 = 1024.0;

/// Points from 0 to 100, with or without `%`. Half a step of tc's and less is 0.
pub fn percent(text: &str) -> Option<Percent> {
    let (points, "" | "%") = number::leading(text)? else {
        return None;
    };
    let percent = Percent::new(points)?;
    Some(if steps(percent) == 0 {
        Percent::default()
    } else {
        percent
    })
}

/// In tc's steps.
pub fn steps(percent: Percent) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the product is between 0 and the largest u32"
    )]
    let steps = (percent.fraction() * STEPS).round_ties_even() as u32;
    steps
}

/// The points that so many of tc's steps are.
pub fn points(steps: u32) -> f64 {
    100.0 * f64::from(steps) / STEPS
}

/// A time up to 274.8 s, a bare number in microseconds.
pub fn delay(text: &str) -> Option<Duration> {
    time(text, 1e3).filter(|delay| *delay < DELAY_END)
}

/// A time, a bare number in nanoseconds.
pub fn slot(text: &str) -> Option<Duration> {
    time(text, 1.0)
}

/// Bytes per second, a bare number in bits per second.
pub fn rate(text: &str) -> Option<u64> {
    let (value, unit) = number::leading(text)?;
    let bytes_per_sec = value * scale(unit, &BIT_PER_SEC, 1.0)? / 8.0;
    // tc counts the bits in 64 bits.
    whole(bytes_per_sec, 1u64 << 61)
}

/// Bytes, up to 2^32.
pub fn size(text: &str) -> Option<u32> {
    let (value, unit) = number::leading(text)?;
    let bytes = value * scale(unit, &BYTES, 1.0)?;
    u32::try_from(whole(bytes, 1u64 << 32)?).ok()
}

fn time(text: &str, bare: f64) -> Option<Duration> {
    let (value, unit) = number::leading(text)?;
    let nanos = (value * scale(unit, &NANOS, bare)?).round();
    whole(nanos, 1u64 << 63).map(Duration::from_nanos)
}

/// What `unit` is, in any case; `bare` where there is none.
fn scale(unit: &str, units: &[(&str, f64)], bare: f64) -> Option<f64> {
    if unit.is_empty() {
        return Some(bare);
    }
    let (_, scale) = units
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    Some(*scale)
}

/// Without what is behind the point, if it is not negative and below `end`.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`end` is a power of two, and the value below it"
)]
fn whole(value: f64, end: u64) -> Option<u64> {
    (0.0..end as f64).contains(&value).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_in_any_case_and_a_bare_number_has_its_own() {
        for (text, nanos) in [
            ("1s", 1_000_000_000),
            ("1SEC", 1_000_000_000),
            ("1.5secs", 1_500_000_000),
            ("0.57ms", 570_000),
            ("250usec", 250_000),
            ("100ns", 100),
            ("7", 7_000),
            ("0.5us", 500),
        ] {
            assert_eq!(delay(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        assert_eq!(slot("7"), Some(Duration::from_nanos(7)));
        assert_eq!(slot("1.5ms"), Some(Duration::from_micros(1500)));
        assert_eq!(slot("300s"), Some(Duration::from_mins(5)));
        for text in ["", "ms", "1h", "1m", "1 s", "-1ms", "275s", "inf"] {
            assert_eq!(delay(text), None, "{text}");
        }
        assert_eq!(slot("1e30"), None);
    }

    #[test]
    fn rates_are_bits_or_bytes_in_steps_of_1000_or_1024() {
        for (text, bytes_per_sec) in [
            ("8", 1),
            ("7", 0),
            ("1kbit", 125),
            ("1mbit", 125_000),
            ("1.5Mbit", 187_500),
            ("1Gbit", 125_000_000),
            ("1tbit", 125_000_000_000),
            ("1kibit", 128),
            ("1MiBit", 131_072),
            ("1gibit", 134_217_728),
            ("1tibit", 137_438_953_472),
            ("1bps", 1),
            ("1KBps", 1_000),
            ("1mbps", 1_000_000),
            ("1gbps", 1_000_000_000),
            ("1tbps", 1_000_000_000_000),
            ("1kibps", 1_024),
            ("1mibps", 1_048_576),
            ("1gibps", 1_073_741_824),
            ("1tibps", 1_099_511_627_776),
        ] {
            assert_eq!(rate(text), Some(bytes_per_sec), "{text}");
        }
        for text in ["", "mbit", "1k", "1mb", "-1mbit", "50%", "1e30"] {
            assert_eq!(rate(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_in_steps_of_1024() {
        for (text, bytes) in [
            ("1000", 1000),
            ("1.9", 1),
            ("10b", 10),
            ("3k", 3072),
            ("3KB", 3072),
            ("1m", 1_048_576),
            ("1gb", 1_073_741_824),
            ("8kbit", 1024),
            ("8mbit", 1_048_576),
            ("8gbit", 1_073_741_824),
            ("4294967295", u32::MAX),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "k", "-1", "4g", "1t", "10 b"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn percentages_are_points_with_or_without_a_sign() {
        for (text, points) in [("1%", 1.0), ("1", 1.0), (".5%", 0.5), ("1e1", 10.0)] {
            assert_eq!(percent(text), Percent::new(points), "{text}");
        }
        for text in ["", "%", "101", "-1", "1%%", "1 %", "nan", "abc"] {
            assert_eq!(percent(text), None, "{text}");
        }
        assert_eq!(percent("1e-8%"), Some(Percent::default()));
        assert!(percent("2e-8%") > Some(Percent::default()));
    }
}
