//! Loss in bursts, in the words of tc-netem(8).

use std::{fmt, str::FromStr};

use fault_common::random::probability;

use super::{Percent, ValueError};
use crate::Error;

/// The Gilbert-Elliott model and its special cases: netem's `loss gemodel`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gemodel {
    /// From the good state to the bad one.
    pub p: Percent,
    /// From the bad state to the good one.
    pub r: Percent,
    /// Loss in the bad state: 1-h.
    pub bad: Percent,
    /// Loss in the good state: 1-k.
    pub good: Percent,
}

impl Gemodel {
    /// The share of packets that are lost in the long run.
    pub fn rate(&self) -> f64 {
        let [p, r, bad, good] = [self.p, self.r, self.bad, self.good].map(Percent::fraction);
        // It starts in the good state, and stays there.
        if p == 0.0 {
            return good;
        }
        (p * bad + r * good) / (p + r)
    }
}

impl FromStr for Gemodel {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let [p, r, bad, good] = list(text, "P,R,1-H,1-K")?;
        let p = p.unwrap_or_default();
        Ok(Self {
            p,
            r: r.unwrap_or_else(|| rest(p)),
            bad: bad.unwrap_or(Percent::ALL),
            good: good.unwrap_or_default(),
        })
    }
}

impl fmt::Display for Gemodel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, &[self.p, self.r, self.bad, self.good])
    }
}

/// The model of four states: netem's `loss state`. State 1 is good reception, 2 good
/// reception within a burst, 3 loss within a burst, 4 an isolated loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FourStates {
    p13: Percent,
    p31: Percent,
    p32: Percent,
    p23: Percent,
    p14: Percent,
}

impl FourStates {
    /// The five of them, where no state is left with more than certainty.
    pub fn new([p13, p31, p32, p23, p14]: [Percent; 5]) -> Result<Self, ValueError> {
        for (one, other, names) in [(p13, p14, ["P13", "P14"]), (p31, p32, ["P31", "P32"])] {
            if one.steps() + other.steps() > probability::ONE {
                return Err(ValueError::AboveCertainty { names });
            }
        }
        Ok(Self {
            p13,
            p31,
            p32,
            p23,
            p14,
        })
    }

    /// p13, p31, p32, p23 and p14.
    pub fn transitions(&self) -> [Percent; 5] {
        [self.p13, self.p31, self.p32, self.p23, self.p14]
    }

    /// The share of packets that are lost in the long run.
    pub fn rate(&self) -> f64 {
        let [p13, p31, p32, p23, p14] = self.transitions().map(Percent::fraction);
        // What leads into a state and out of it are the same; the weight of state 1 is
        // `good`.
        let (good, bad, burst) = if p13 == 0.0 {
            (1.0, 0.0, 0.0)
        } else if p32 == 0.0 {
            (p31, 0.0, p13)
        } else {
            (p23 * p31, p13 * p32, p13 * p23)
        };
        let isolated = good * p14;
        (burst + isolated) / (good + bad + burst + isolated)
    }
}

impl FromStr for FourStates {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let [p13, p31, p32, p23, p14] = list(text, "P13,P31,P32,P23,P14")?;
        let p13 = p13.unwrap_or_default();
        Self::new([
            p13,
            p31.unwrap_or_else(|| rest(p13)),
            p32.unwrap_or_default(),
            p23.unwrap_or(Percent::ALL),
            p14.unwrap_or_default(),
        ])
    }
}

impl fmt::Display for FourStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, &self.transitions())
    }
}

/// A loss rate, and how long the bursts are that make it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    pub(super) percent: Percent,
    pub(super) length: BurstLength,
}

impl Burst {
    /// Where enough packets can pass between the bursts: one at least, so that a mean
    /// length of `n` loses `n / (n + 1)` at most.
    pub fn new(percent: Percent, length: BurstLength) -> Result<Self, Error> {
        let shortest = percent.points() / (100.0 - percent.points());
        // A part in 10^9 is lost in the arithmetic.
        if length.0 < shortest * (1.0 - 1e-9) {
            return Err(Error::BurstTooShort {
                length,
                percent,
                most: length.most(),
                shortest: BurstLength::new(shortest.ceil()),
            });
        }
        Ok(Self { percent, length })
    }

    /// The loss rate.
    pub fn percent(&self) -> Percent {
        self.percent
    }

    /// The mean length of a burst.
    pub fn length(&self) -> BurstLength {
        self.length
    }

    /// Gilbert's p, from a packet that passed to one that is lost, and r, the way back.
    pub fn transitions(&self) -> (Percent, Percent) {
        let r = self.length.end();
        let points = r.points() * self.percent.points() / (100.0 - self.percent.points());
        // Above 100 by no more than `new` allows.
        (Percent::new(points).unwrap_or(Percent::ALL), r)
    }
}

/// How many packets are lost in a row, on average.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct BurstLength(f64);

impl BurstLength {
    const LONGEST: f64 = 1e6;

    fn new(packets: f64) -> Option<Self> {
        (1.0..=Self::LONGEST)
            .contains(&packets)
            .then_some(Self(packets))
    }

    /// The shortest number whose bursts end with a probability of so many steps.
    pub fn from_end(steps: u64) -> Option<Self> {
        let packets = 100.0 / Percent::from_steps(steps).points();
        (0..17)
            .filter_map(|digits| format!("{packets:.digits$e}").parse().ok())
            .find(|length: &Self| length.end().steps() == steps)
    }

    /// What bursts with one packet between them lose, cut to four decimals.
    fn most(self) -> Percent {
        let points = 100.0 * self.0 / (self.0 + 1.0);
        Percent::new((points * 1e4).floor() / 1e4).unwrap_or(Percent::ALL)
    }

    /// How likely a packet is the first after a burst, if the one before was in it.
    fn end(self) -> Percent {
        Percent::new(100.0 / self.0).unwrap_or(Percent::ALL)
    }
}

impl FromStr for BurstLength {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let packets = text.parse().ok();
        packets.and_then(Self::new).ok_or(ValueError::NotABurst)
    }
}

impl fmt::Display for BurstLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One to `N` percentages; `names` says which.
fn list<const N: usize>(
    text: &str,
    names: &'static str,
) -> Result<[Option<Percent>; N], ValueError> {
    let mut values = [None; N];
    for (n, word) in text.split(',').enumerate() {
        let value = word.parse()?;
        *values.get_mut(n).ok_or(ValueError::TooMany { names })? = Some(value);
    }
    Ok(values)
}

/// What is left to certainty.
fn rest(percent: Percent) -> Percent {
    Percent::from_steps(probability::ONE - percent.steps())
}

fn write_list(f: &mut fmt::Formatter<'_>, list: &[Percent]) -> fmt::Result {
    for (n, percent) in list.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        write!(f, "{comma}{}", percent.points())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(points: f64) -> Percent {
        Percent::new(points).unwrap()
    }

    #[test]
    fn what_is_left_out_is_as_in_netem() {
        for (text, full) in [
            ("1", "1,99,100,0"),
            ("33.3%", "33.3,66.7,100,0"),
            ("1,10", "1,10,100,0"),
            ("1,10,70", "1,10,70,0"),
            ("1%,10%,70%,0.1%", "1,10,70,0.1"),
        ] {
            let model: Gemodel = text.parse().unwrap();
            assert_eq!(model.to_string(), full);
        }
        for (text, full) in [
            ("1", "1,99,0,100,0"),
            ("1,10", "1,10,0,100,0"),
            ("1,10,5", "1,10,5,100,0"),
            ("1,10,5,50", "1,10,5,50,0"),
            ("1,10,5,50,0.1", "1,10,5,50,0.1"),
        ] {
            let model: FourStates = text.parse().unwrap();
            assert_eq!(model.to_string(), full);
        }
    }

    #[test]
    fn what_is_no_model_is_refused() {
        let many = |names| Err(ValueError::TooMany { names });
        assert_eq!("1,2,3,4,5".parse::<Gemodel>(), many("P,R,1-H,1-K"));
        let states = |text: &str| text.parse::<FourStates>();
        assert_eq!(
            states("1,2,3,4,5,6").map(drop),
            Err(ValueError::TooMany {
                names: "P13,P31,P32,P23,P14"
            })
        );
        for text in ["", ",", "1,", "1,,2", "a"] {
            assert_eq!(states(text), Err(ValueError::NotAPercentage), "{text}");
        }
        assert_eq!(states("1,101"), Err(ValueError::PercentOutOfRange));
        let names = |one, other| {
            Err(ValueError::AboveCertainty {
                names: [one, other],
            })
        };
        assert_eq!(states("60,10,0,100,41"), names("P13", "P14"));
        assert_eq!(states("1,60,41"), names("P31", "P32"));
        assert!(states("60,60,40,100,40").is_ok());
    }

    #[test]
    fn rates_are_those_of_the_long_run() {
        let near = |rate: f64, expected: f64| {
            assert!((rate - expected).abs() < 1e-12, "{rate}, not {expected}");
        };
        for (text, rate) in [
            ("5", 0.05),
            ("1,10", 1.0 / 11.0),
            ("1,10,70", 0.7 / 11.0),
            ("1,10,70,0.1", (0.7 + 0.01) / 11.0),
            ("0,0,100,3", 0.03),
            ("0,50,100,3", 0.03),
            ("1,0", 1.0),
            ("100,100", 0.5),
        ] {
            near(text.parse::<Gemodel>().unwrap().rate(), rate);
        }
        for (text, rate) in [
            ("5", 0.05),
            ("1,10", 1.0 / 11.0),
            // Weights 10, 0 and 1, and 1 of every 100 of state 1 once more.
            ("1,10,0,50,1", 1.1 / 11.1),
            // Weights of the states 1 to 4: 5, 0.05, 0.5, 0.05.
            ("1,10,5,50,1", 0.55 / 5.6),
            ("0,10,5,50,1", 1.0 / 101.0),
            ("0,0,0,0,0", 0.0),
            // Never back to state 1; never out of state 3; never out of state 2.
            ("1,0,10,40", 0.8),
            ("1,0", 1.0),
            ("1,10,10,0", 0.0),
            // State 2 is not to be had, whatever leads out of it.
            ("1,10,0,0", 1.0 / 11.0),
        ] {
            near(text.parse::<FourStates>().unwrap().rate(), rate);
        }
    }

    #[test]
    fn burst_and_rate_make_gilberts_two_probabilities() {
        for (points, length, p, r) in [
            (10.0, "5", 20.0 / 9.0, 20.0),
            (50.0, "1", 100.0, 100.0),
            (80.0, "4", 100.0, 25.0),
            (99.9, "999", 100.0, 100.0 / 999.0),
            (0.0, "7.5", 0.0, 100.0 / 7.5),
        ] {
            let burst = Burst::new(percent(points), length.parse().unwrap()).unwrap();
            let (is_p, is_r) = burst.transitions();
            assert!((is_p.points() - p).abs() < 1e-9, "{is_p} for {points}");
            assert!((is_r.points() - r).abs() < 1e-9, "{is_r} for {points}");
        }
    }

    #[test]
    fn bursts_that_would_overlap_are_refused_with_what_can_be_had() {
        for (points, length, most, shortest) in [
            (80.0, "3.999", "79.9959%", Some("4")),
            (75.5, "1", "50%", Some("4")),
            (100.0, "1000000", "99.9999%", None),
        ] {
            let burst = Burst::new(percent(points), length.parse().unwrap());
            let Err(Error::BurstTooShort {
                most: is_most,
                shortest: is_shortest,
                ..
            }) = burst
            else {
                panic!("{burst:?}")
            };
            assert_eq!(is_most.to_string(), most);
            assert_eq!(is_shortest, shortest.map(|text| text.parse().unwrap()));
            // And they can be had.
            assert!(Burst::new(is_most, length.parse().unwrap()).is_ok());
            if let Some(shortest) = is_shortest {
                assert!(Burst::new(percent(points), shortest).is_ok());
            }
        }
    }

    #[test]
    fn burst_has_a_length() {
        for text in ["0.9", "0", "-1", "nan", "inf", "x", "", "1000001"] {
            assert_eq!(text.parse::<BurstLength>(), Err(ValueError::NotABurst));
        }
    }

    #[test]
    fn burst_is_read_back_from_how_it_ends() {
        for text in ["1", "2", "5", "7.5", "12", "3.14159", "1000", "1000000"] {
            let length: BurstLength = text.parse().unwrap();
            let back = BurstLength::from_end(length.end().steps()).unwrap();
            assert_eq!(back.to_string(), text);
        }
    }
}
