//! Percentages.

use std::{fmt, str::FromStr};

use fault_common::random::probability;

use super::ValueError;

/// A share in points, 0 to 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Percent(f64);

impl Percent {
    /// All.
    pub const ALL: Self = Self(100.0);

    /// So many points, or None outside 0 to 100.
    pub fn new(points: f64) -> Option<Self> {
        // `+ 0.0` turns a negative zero into zero.
        (0.0..=100.0)
            .contains(&points)
            .then_some(Self(points + 0.0))
    }

    /// Points, 0 to 100.
    pub fn points(self) -> f64 {
        self.0
    }

    /// As a fraction of one.
    pub fn fraction(self) -> f64 {
        self.0 / 100.0
    }

    /// In the kernel's steps of 2^-32. 0 and 100 are exact, and nothing between
    /// them becomes one of them.
    pub fn steps(self) -> u64 {
        if self.0 <= 0.0 {
            return 0;
        }
        if self.0 >= 100.0 {
            return probability::ONE;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "2^32 is exact, and the product is between 0 and 2^32"
        )]
        let steps = (self.fraction() * probability::ONE as f64).round() as u64;
        steps.clamp(1, probability::ONE - 1)
    }

    /// The shortest percentage that has so many steps.
    #[expect(clippy::cast_precision_loss, reason = "numbers up to 2^32 are exact")]
    pub fn from_steps(steps: u64) -> Self {
        let points = steps.min(probability::ONE) as f64 / probability::ONE as f64 * 100.0;
        (0..12)
            .filter_map(|decimals| Self::new(format!("{points:.decimals$}").parse().ok()?))
            .find(|percent| percent.steps() == steps)
            .unwrap_or(Self(points))
    }
}

/// Reads a share that is not empty.
pub fn parse_share(text: &str) -> Result<Percent, ValueError> {
    let share: Percent = text.parse()?;
    if share.points() > 0.0 {
        Ok(share)
    } else {
        Err(ValueError::EmptyShare)
    }
}

impl FromStr for Percent {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = text.strip_suffix('%').unwrap_or(text);
        // The standard parser also reads `inf` and `nan`.
        if !number.contains(|c: char| c.is_ascii_digit()) {
            return Err(ValueError::NotAPercentage);
        }
        let points = number.parse().map_err(|_| ValueError::NotAPercentage)?;
        Self::new(points).ok_or(ValueError::PercentOutOfRange)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_give_back_what_was_typed() {
        for text in ["0%", "0.1%", "5%", "33.3%", "99.999%", "100%"] {
            let percent: Percent = text.parse().expect("a percentage");
            assert_eq!(Percent::from_steps(percent.steps()).to_string(), text);
        }
    }

    #[test]
    fn reads_points_with_and_without_a_sign() {
        for (text, points) in [
            ("50", 50.0),
            ("50%", 50.0),
            ("0.1", 0.1),
            (".5%", 0.5),
            ("100", 100.0),
        ] {
            assert_eq!(text.parse(), Ok(Percent(points)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_percentage() {
        for text in ["", "%", "abc", "nan", "inf", "5 0", "50%%", "1,5", "0x10"] {
            assert_eq!(
                text.parse::<Percent>(),
                Err(ValueError::NotAPercentage),
                "{text}"
            );
        }
        for text in ["-1", "100.001", "101%", "1e9", "-0.001"] {
            assert_eq!(
                text.parse::<Percent>(),
                Err(ValueError::PercentOutOfRange),
                "{text}"
            );
        }
    }

    #[test]
    fn steps_are_exact_at_the_ends_and_never_reach_them_between() {
        let steps = |points| Percent(points).steps();
        assert_eq!(steps(0.0), 0);
        assert_eq!(steps(100.0), 1 << 32);
        assert_eq!(steps(50.0), 1 << 31);
        assert_eq!(steps(25.0), 1 << 30);
        assert_eq!(steps(1e-12), 1);
        assert_eq!(steps(99.999_999_999_9), (1 << 32) - 1);
    }

    #[test]
    fn prints_as_it_is_typed() {
        assert_eq!(Percent(0.1).to_string(), "0.1%");
        assert_eq!(Percent(50.0).to_string(), "50%");
        assert_eq!(
            "-0".parse::<Percent>().map(|p| p.to_string()),
            Ok("0%".into())
        );
    }
}
