//! Values of faults that hold packets, in the units of our own verbs.

use std::time::Duration;

use super::{ValueError, duration};
use crate::netem::{Rate, unit};

/// Longer than any delay: the kernel's arithmetic on jitter takes 38 bits of nanoseconds.
const DELAY_END: Duration = Duration::from_nanos(1 << 38);

/// Reads a delay: more than nothing, less than 274 s.
pub fn parse_delay(text: &str) -> Result<Duration, ValueError> {
    let delay = parse_jitter(text)?;
    if delay.is_zero() {
        return Err(ValueError::ZeroDelay);
    }
    Ok(delay)
}

/// Reads a jitter: less than 274 s.
pub fn parse_jitter(text: &str) -> Result<Duration, ValueError> {
    match duration::parse(text) {
        Ok(delay) if delay < DELAY_END => Ok(delay),
        Ok(_) | Err(ValueError::TimeTooLong) => Err(ValueError::DelayTooLong),
        Err(error) => Err(error),
    }
}

/// Reads a speed in tc's units.
pub fn parse_rate(text: &str) -> Result<Rate, ValueError> {
    let bytes_per_sec = unit::rate(text).ok_or(ValueError::NotARate)?;
    if bytes_per_sec == 0 {
        return Err(ValueError::ZeroRate);
    }
    Ok(Rate {
        bytes_per_sec,
        ..Rate::default()
    })
}

/// Reads a size in tc's units.
pub fn parse_size(text: &str) -> Result<u32, ValueError> {
    unit::size(text).ok_or(ValueError::NotASize)
}

/// Reads bytes to add to each packet, or to take away.
pub fn parse_overhead(text: &str) -> Result<i32, ValueError> {
    text.parse()
        .ok()
        .filter(|bytes: &i32| bytes.unsigned_abs() <= 1 << 16)
        .ok_or(ValueError::NotAnOverhead)
}

/// Reads the N of `--gap N`.
pub fn parse_gap(text: &str) -> Result<u32, ValueError> {
    let gap = text.parse().ok().filter(|gap| *gap > 0);
    gap.ok_or(ValueError::NotAGap)
}

/// Reads the N of `--limit N`.
pub fn parse_limit(text: &str) -> Result<u32, ValueError> {
    let limit = text.parse().ok().filter(|limit| *limit > 0);
    limit.ok_or(ValueError::NotALimit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_is_more_than_nothing_and_less_than_an_hour() {
        assert_eq!(parse_delay("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(parse_delay("5"), Ok(Duration::from_millis(5)));
        assert_eq!(parse_delay("0"), Err(ValueError::ZeroDelay));
        assert_eq!(parse_delay("-5ms"), Err(ValueError::NegativeTime));
        assert_eq!(parse_delay("1h"), Err(ValueError::DelayTooLong));
        assert_eq!(
            parse_delay("99999999999999h"),
            Err(ValueError::DelayTooLong)
        );
        assert_eq!(parse_jitter("0ms"), Ok(Duration::ZERO));
    }

    #[test]
    fn rate_is_more_than_nothing() {
        assert_eq!(
            parse_rate("10mbit").map(|it| it.bytes_per_sec),
            Ok(1_250_000)
        );
        assert_eq!(parse_rate("0"), Err(ValueError::ZeroRate));
        assert_eq!(parse_rate("7bit"), Err(ValueError::ZeroRate));
        assert_eq!(parse_rate("fast"), Err(ValueError::NotARate));
    }

    #[test]
    fn counts_begin_at_one() {
        assert_eq!(parse_gap("0"), Err(ValueError::NotAGap));
        assert_eq!(parse_gap("5"), Ok(5));
        assert_eq!(parse_limit("-1"), Err(ValueError::NotALimit));
        assert_eq!(parse_overhead("-14"), Ok(-14));
        assert_eq!(parse_overhead("70000"), Err(ValueError::NotAnOverhead));
    }
}
