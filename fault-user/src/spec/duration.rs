//! Times.

use std::time::Duration;

use super::ValueError;

/// The longest life of a fault.
pub const MAX: Duration = Duration::from_hours(365 * 24);

/// Reads a time: numbers with tc's units (`s`, `ms`, `us`) or `m` and `h`, added
/// up (`1m30s`). A bare number is milliseconds.
pub fn parse(text: &str) -> Result<Duration, ValueError> {
    if let Some(positive) = text.strip_prefix('-') {
        return Err(match parse(positive) {
            Ok(_) => ValueError::NegativeTime,
            Err(other) => other,
        });
    }
    if text.is_empty() {
        return Err(ValueError::NotATime);
    }
    if let Some(millis) = number(text) {
        return scale(millis, 1e-3);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or(ValueError::NotATime)?;
        let (value, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let value = number(value).ok_or(ValueError::NotATime)?;
        let part = scale(value, seconds_in(unit).ok_or(ValueError::NotATime)?)?;
        total = total.checked_add(part).ok_or(ValueError::TimeTooLong)?;
        rest = tail;
    }
    Ok(total)
}

/// Reads the life of a fault: more than nothing, and at most [`MAX`].
pub fn parse_life(text: &str) -> Result<Duration, ValueError> {
    let life = parse(text)?;
    if life.is_zero() {
        return Err(ValueError::ZeroTime);
    }
    if life > MAX {
        return Err(ValueError::TimeTooLong);
    }
    Ok(life)
}

fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if plain { text.parse().ok() } else { None }
}

fn scale(value: f64, unit: f64) -> Result<Duration, ValueError> {
    Duration::try_from_secs_f64(value * unit).map_err(|_| ValueError::TimeTooLong)
}

fn seconds_in(unit: &str) -> Option<f64> {
    Some(match unit {
        "us" | "usec" | "usecs" => 1e-6,
        "ms" | "msec" | "msecs" => 1e-3,
        "s" | "sec" | "secs" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_tc_units_and_sums() {
        for (text, nanos) in [
            ("1s", 1_000_000_000),
            ("100ms", 100_000_000),
            ("250us", 250_000),
            ("250usecs", 250_000),
            ("1.5s", 1_500_000_000),
            ("1m30s", 90_000_000_000),
            ("2h", 7_200_000_000_000),
            ("1h0.5s", 3_600_500_000_000),
            ("40", 40_000_000),
            ("0.25", 250_000),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "", "s", "1x", "1 s", "1s2", "1..5s", "1e3s", "-", ".", "inf", "1s-2s",
        ] {
            assert_eq!(parse(text), Err(ValueError::NotATime), "{text}");
        }
        assert_eq!(parse("-1s"), Err(ValueError::NegativeTime));
        assert_eq!(
            parse("99999999999999999999999h"),
            Err(ValueError::TimeTooLong)
        );
    }

    #[test]
    fn a_life_is_more_than_nothing_and_less_than_a_year() {
        assert_eq!(parse_life("0s"), Err(ValueError::ZeroTime));
        assert_eq!(parse_life("0.0001us"), Err(ValueError::ZeroTime));
        assert_eq!(parse_life("8760h"), Ok(MAX));
        assert_eq!(parse_life("8760h1us"), Err(ValueError::TimeTooLong));
    }
}
