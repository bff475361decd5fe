//! Whole numbers.

use std::num::NonZeroU64;

use super::ValueError;

/// Reads the N of `--every N`.
pub fn parse_every(text: &str) -> Result<NonZeroU64, ValueError> {
    text.parse().map_err(|_| ValueError::NotACount)
}

/// Reads a seed, decimal or hexadecimal.
pub fn parse_seed(text: &str) -> Result<u64, ValueError> {
    parse_u64(text).ok_or(ValueError::NotASeed)
}

/// Reads the number of a process.
pub fn parse_pid(text: &str) -> Result<u32, ValueError> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|pid| is_plain && (1..=i32::MAX.cast_unsigned()).contains(pid))
        .ok_or(ValueError::NotAPid)
}

/// A decimal number, or a hexadecimal one after `0x`.
pub(super) fn parse_u64(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // The standard parser also takes a sign.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_decimal_and_hexadecimal() {
        assert_eq!(parse_u64("10"), Some(10));
        assert_eq!(parse_u64("0x1F"), Some(31));
        assert_eq!(parse_u64("18446744073709551615"), Some(u64::MAX));
        for text in ["", "0x", "+1", "0x+1", "-1", "1f", "18446744073709551616"] {
            assert_eq!(parse_u64(text), None, "{text}");
        }
    }

    #[test]
    fn processes_are_numbered_from_one() {
        assert_eq!(parse_pid("4711"), Ok(4711));
        for text in ["", "0", "-1", "+1", "0x10", "self", "2147483648"] {
            assert_eq!(parse_pid(text), Err(ValueError::NotAPid), "{text}");
        }
    }

    #[test]
    fn every_needs_at_least_one() {
        assert_eq!(parse_every("0"), Err(ValueError::NotACount));
        assert_eq!(parse_every("3").map(NonZeroU64::get), Ok(3));
    }
}
