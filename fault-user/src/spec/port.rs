//! Ports.

use fault_common::layout::PortRange;

use super::ValueError;

/// Reads a port (`80`) or a range of ports (`8000-8100`).
pub fn parse_range(text: &str) -> Result<PortRange, ValueError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if last < first {
        return Err(ValueError::ReversedRange { first, last });
    }
    Ok(PortRange { first, last })
}

/// The same ports in the fewest ranges, in order.
pub fn merge(ranges: &[PortRange]) -> Vec<PortRange> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| (range.first, range.last));
    let mut merged: Vec<PortRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match merged.last_mut() {
            Some(before) if range.first <= before.last.saturating_add(1) => {
                before.last = before.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

fn port(text: &str) -> Result<u16, ValueError> {
    // The standard parser also takes a sign.
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(ValueError::NotAPort);
    }
    text.parse().map_err(|_| ValueError::NotAPort)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u16, last: u16) -> PortRange {
        PortRange { first, last }
    }

    #[test]
    fn reads_ports_and_ranges() {
        assert_eq!(parse_range("80"), Ok(range(80, 80)));
        assert_eq!(parse_range("8000-8100"), Ok(range(8000, 8100)));
        assert_eq!(parse_range("0-65535"), Ok(range(0, 65535)));
        assert_eq!(
            parse_range("90-80"),
            Err(ValueError::ReversedRange {
                first: 90,
                last: 80
            })
        );
        for text in [
            "", "-", "80-", "-80", "65536", "http", "+80", "1-2-3", "80 ",
        ] {
            assert_eq!(parse_range(text), Err(ValueError::NotAPort), "{text}");
        }
    }

    #[test]
    fn merges_what_overlaps_or_touches() {
        assert_eq!(
            merge(&[
                range(443, 443),
                range(80, 90),
                range(85, 100),
                range(101, 101),
                range(65535, 65535),
                range(65000, 65535)
            ]),
            [range(80, 101), range(443, 443), range(65000, 65535)]
        );
    }
}
