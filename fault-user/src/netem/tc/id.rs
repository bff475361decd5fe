//! The names of qdiscs and classes: two numbers in hexadecimal.

use std::fmt;

use super::TcError;

/// The name of a qdisc, as in `1:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle(u16);

/// What a qdisc hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The interface itself.
    Root,
    /// A class of another qdisc, as in `1:3`.
    Class {
        /// The number of the qdisc.
        major: u16,
        /// The number of the class in it.
        minor: u16,
    },
}

impl Handle {
    /// The first that the kernel gives to a qdisc without one.
    pub const FIRST: Self = Self(0x8001);

    /// Reads one; None for `none` and for 0, which leave the choice to the kernel.
    pub fn parse(text: &str) -> Result<Option<Self>, TcError> {
        if text == "none" {
            return Ok(None);
        }
        // tc doesn't look at what is behind the colon.
        let (major, _) = text.split_once(':').unwrap_or((text, ""));
        match number(major) {
            Some(0) => Ok(None),
            Some(major) => Ok(Some(Self(major))),
            None => Err(TcError::Handle { word: text.into() }),
        }
    }
}

impl Parent {
    /// Reads one; None for `none`.
    pub fn parse(text: &str) -> Result<Option<Self>, TcError> {
        match text {
            "root" => return Ok(Some(Self::Root)),
            "none" => return Ok(None),
            _ => {}
        }
        let id = match text.split_once(':') {
            Some((major, minor)) => either(major).zip(either(minor)),
            None => number(text).map(|minor| (0, minor)),
        };
        match id {
            Some((0, 0)) => Ok(None),
            Some((major, minor)) => Ok(Some(Self::Class { major, minor })),
            None => Err(TcError::Parent { word: text.into() }),
        }
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:", self.0)
    }
}

/// As in `root` and in `parent 1:3`.
impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Class { major: 0, minor } => write!(f, "parent :{minor:x}"),
            Self::Class { major, minor: 0 } => write!(f, "parent {major:x}:"),
            Self::Class { major, minor } => write!(f, "parent {major:x}:{minor:x}"),
        }
    }
}

fn number(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    // The standard parser takes a sign.
    let is_plain = digits.starts_with(|c: char| c.is_ascii_hexdigit());
    let number = u16::from_str_radix(digits, 16).ok()?;
    is_plain.then_some(number)
}

/// On either side of a colon, nothing is 0.
fn either(text: &str) -> Option<u16> {
    if text.is_empty() {
        Some(0)
    } else {
        number(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(text: &str) -> Option<String> {
        let handle = Handle::parse(text).ok()?;
        Some(handle.map_or("none".into(), |handle| handle.to_string()))
    }

    fn parent(text: &str) -> Option<String> {
        let parent = Parent::parse(text).ok()?;
        Some(parent.map_or("none".into(), |parent| parent.to_string()))
    }

    #[test]
    fn handles_are_hexadecimal_and_end_in_a_colon_or_not() {
        for (text, shown) in [
            ("1:", "1:"),
            ("1", "1:"),
            ("1:5", "1:"),
            ("a:", "a:"),
            ("0x1f:", "1f:"),
            ("ffff:", "ffff:"),
            ("none", "none"),
            ("0:", "none"),
        ] {
            assert_eq!(handle(text).as_deref(), Some(shown), "{text}");
        }
        for text in ["", ":", "x", "10000:", "-1:", "+1:", "1.5:", "root"] {
            assert_eq!(handle(text), None, "{text}");
        }
    }

    #[test]
    fn parents_are_the_root_or_a_class() {
        for (text, shown) in [
            ("root", "root"),
            ("none", "none"),
            ("1:3", "parent 1:3"),
            ("1:", "parent 1:"),
            (":3", "parent :3"),
            ("3", "parent :3"),
            ("a:1f", "parent a:1f"),
        ] {
            assert_eq!(parent(text).as_deref(), Some(shown), "{text}");
        }
        for text in ["", "x", "1:x", "x:1", "1:2:3", "10000:1", "1:10000", "1:-1"] {
            assert_eq!(parent(text), None, "{text}");
        }
    }
}
