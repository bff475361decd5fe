//! skb marks and DSCPs.

use std::{fmt, str::FromStr};

use super::{ValueError, count::parse_u64};

/// Bits of the skb mark to set, and which to leave alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkbMark {
    /// The bits; none outside the mask.
    pub value: u32,
    /// The bits that are replaced.
    pub mask: u32,
}

/// A differentiated services code point (RFC 2474), 0 to 63.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dscp(u8);

impl Dscp {
    /// The code point, or None above 63.
    pub fn new(value: u8) -> Option<Self> {
        (value < 64).then_some(Self(value))
    }

    /// The code point.
    pub fn value(self) -> u8 {
        self.0
    }
}

impl FromStr for SkbMark {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let bits = |text| {
            parse_u64(text)
                .and_then(|bits| u32::try_from(bits).ok())
                .ok_or(ValueError::NotAMark)
        };
        let (value, mask) = match text.split_once('/') {
            Some((value, mask)) => (bits(value)?, bits(mask)?),
            None => (bits(text)?, u32::MAX),
        };
        if value & !mask != 0 {
            let inside = value & mask;
            return Err(ValueError::MarkOutsideMask { inside, mask });
        }
        Ok(Self { value, mask })
    }
}

impl fmt::Display for SkbMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.value)?;
        if self.mask != u32::MAX {
            write!(f, "/{:#x}", self.mask)?;
        }
        Ok(())
    }
}

/// A number, or a name: class selectors `cs0` to `cs7` (RFC 2474), assured
/// forwarding `af11` to `af43` (RFC 2597), `ef` (RFC 3246), `va` (RFC 5865) and
/// `le` (RFC 8622).
impl FromStr for Dscp {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let name = text.to_ascii_lowercase();
        let value = match name.as_bytes() {
            b"ef" => 46,
            b"va" => 44,
            b"le" => 1,
            [b'c', b's', class @ b'0'..=b'7'] => (class - b'0') * 8,
            [b'a', b'f', class @ b'1'..=b'4', precedence @ b'1'..=b'3'] => {
                (class - b'0') * 8 + (precedence - b'0') * 2
            }
            _ => parse_u64(&name)
                .and_then(|value| u8::try_from(value).ok())
                .ok_or(ValueError::NotADscp)?,
        };
        Self::new(value).ok_or(ValueError::NotADscp)
    }
}

impl fmt::Display for Dscp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dscp_names_are_those_of_the_rfcs() {
        for (name, value) in [
            ("cs0", 0),
            ("le", 1),
            ("cs1", 8),
            ("af11", 10),
            ("af12", 12),
            ("af13", 14),
            ("cs2", 16),
            ("af21", 18),
            ("af23", 22),
            ("af31", 26),
            ("af33", 30),
            ("af41", 34),
            ("af43", 38),
            ("va", 44),
            ("EF", 46),
            ("cs7", 56),
            ("0", 0),
            ("63", 63),
            ("0x2e", 46),
        ] {
            assert_eq!(name.parse(), Ok(Dscp(value)), "{name}");
        }
        for text in ["", "64", "-1", "cs8", "af14", "af51", "af1", "be", "256"] {
            assert_eq!(text.parse::<Dscp>(), Err(ValueError::NotADscp), "{text}");
        }
    }

    #[test]
    fn a_mark_keeps_to_its_mask() {
        let read = |text: &str| text.parse::<SkbMark>();
        assert_eq!(
            read("0x10"),
            Ok(SkbMark {
                value: 16,
                mask: u32::MAX
            })
        );
        assert_eq!(
            read("16/0xff"),
            Ok(SkbMark {
                value: 16,
                mask: 255
            })
        );
        assert_eq!(
            read("0x110/0xff"),
            Err(ValueError::MarkOutsideMask {
                inside: 0x10,
                mask: 0xff
            })
        );
        for text in ["", "/", "1/", "x", "-1", "4294967296", "1/2/3"] {
            assert_eq!(read(text), Err(ValueError::NotAMark), "{text}");
        }
    }

    #[test]
    fn a_mark_prints_in_hexadecimal() {
        assert_eq!(
            SkbMark {
                value: 16,
                mask: u32::MAX
            }
            .to_string(),
            "0x10"
        );
        assert_eq!(
            SkbMark {
                value: 16,
                mask: 255
            }
            .to_string(),
            "0x10/0xff"
        );
    }
}
