//! Numbers as C reads them.

/// A decimal number at the start, and what follows it: strtod(3) without `inf`,
/// `nan` and fractions in hexadecimal.
pub fn leading(text: &str) -> Option<(f64, &str)> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    if let Some(hex) = unsigned.strip_prefix("0x") {
        let (digits, rest) = split(hex, |c| c.is_ascii_hexdigit());
        let value = u32::from_str_radix(digits, 16).ok()?;
        return Some((sign * f64::from(value), rest));
    }
    let (whole, rest) = split(unsigned, |c| c.is_ascii_digit());
    let fraction = rest
        .strip_prefix('.')
        .map_or(0, |rest| 1 + split(rest, |c| c.is_ascii_digit()).0.len());
    let mantissa = whole.len() + fraction;
    let (number, rest) = unsigned.split_at(mantissa + exponent(&unsigned[mantissa..]));
    Some((sign * number.parse::<f64>().ok()?, rest))
}

/// A whole number: strtol(3) with base 0, so hexadecimal after `0x` and octal after
/// `0`.
pub fn integer(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (digits, radix) = match unsigned.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None if unsigned.len() > 1 && unsigned.starts_with('0') => (&unsigned[1..], 8),
        None => (unsigned, 10),
    };
    // The standard parser takes another sign.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i64::from_str_radix(digits, radix).ok()?;
    Some(if text.starts_with('-') { -value } else { value })
}

/// The length of `e` with a number, if it is there.
fn exponent(text: &str) -> usize {
    let Some(power) = text.strip_prefix(['e', 'E']) else {
        return 0;
    };
    let unsigned = power.strip_prefix(['+', '-']).unwrap_or(power);
    match split(unsigned, |c| c.is_ascii_digit()).0.len() {
        0 => 0,
        digits => text.len() - unsigned.len() + digits,
    }
}

fn split(text: &str, is_part: fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_number_that_a_unit_follows() {
        for (text, value, rest) in [
            ("100ms", 100.0, "ms"),
            ("1.5s", 1.5, "s"),
            (".5%", 0.5, "%"),
            ("5.", 5.0, ""),
            ("1e3us", 1000.0, "us"),
            ("1E-3", 0.001, ""),
            ("1e", 1.0, "e"),
            ("-2", -2.0, ""),
            ("+2", 2.0, ""),
            ("0x10", 16.0, ""),
        ] {
            assert_eq!(leading(text), Some((value, rest)), "{text}");
        }
        for text in [
            "", "%", "ms", ".", "-", "inf", "nan", "e3", "0x", "--1", "é",
        ] {
            assert_eq!(leading(text), None, "{text}");
        }
    }

    #[test]
    fn reads_whole_numbers_of_three_bases() {
        for (text, value) in [
            ("0", 0),
            ("48", 48),
            ("-14", -14),
            ("+3", 3),
            ("0x10", 16),
            ("-0x10", -16),
            ("010", 8),
        ] {
            assert_eq!(integer(text), Some(value), "{text}");
        }
        for text in [
            "",
            "5b",
            "1.5",
            "08",
            "--1",
            "0x-1",
            "0-1",
            "99999999999999999999",
        ] {
            assert_eq!(integer(text), None, "{text}");
        }
    }
}
