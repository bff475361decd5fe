//! Why words are not netem's.

use std::fmt;

/// Why words are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetemError {
    /// A word that netem does not have.
    #[error("`{word}` is no word of netem")]
    UnknownWord {
        /// The word.
        word: String,
    },
    /// The end, in the middle of something.
    #[error("`{after}` ends without {expected}")]
    Missing {
        /// What is incomplete.
        after: &'static str,
        /// What is missing.
        expected: Expected,
    },
    /// A value that is none.
    #[error("`{word}` after `{after}` is not {expected}")]
    Value {
        /// What it belongs to.
        after: &'static str,
        /// The value.
        word: String,
        /// What it should be.
        expected: Expected,
    },
    /// A share of the link's speed.
    #[error("`rate {word}` is a share of the link's speed, which may be anything")]
    RatePercent {
        /// The share.
        word: String,
    },
    /// A second loss.
    #[error("`loss` is there twice")]
    LossTwice,
    /// Reordering where all packets are as fast.
    #[error("`reorder` without `delay`: there is nothing to overtake")]
    ReorderWithoutDelay,
    /// A distance without what it is the distance of.
    #[error("`gap` without `reorder`")]
    GapWithoutReorder,
    /// Marks instead of losses that nobody asked for.
    #[error("`ecn` without `loss`: it marks the packets that would be lost")]
    EcnWithoutLoss,
    /// The distribution of nothing.
    #[error("`distribution` without a delay and its jitter")]
    DistributionWithoutJitter,
    /// A range that ends before it begins.
    #[error("`slot {min} {max}` ends before it begins")]
    SlotReversed {
        /// The shorter time, as typed.
        min: String,
        /// The longer time, as typed.
        max: String,
    },
}

/// What belongs somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A percentage.
    Percent,
    /// A delay or its jitter.
    Delay,
    /// The time of a slot.
    SlotTime,
    /// The jitter of slots.
    SlotJitter,
    /// A time, or the word before a distribution.
    SlotPace,
    /// The name of a distribution.
    Distribution,
    /// A percentage, or the name of a model.
    LossModel,
    /// A number that may have a unit of size.
    Size,
    /// The speed of a link.
    Rate,
    /// A whole number of 32 bits.
    Unsigned,
    /// A whole number of 32 bits with a sign.
    Signed,
    /// A whole number of 64 bits.
    Seed,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Percent => "a percentage from 0 to 100",
            Self::Delay => "a time from 0 to 274 s",
            Self::SlotTime => "a time",
            Self::SlotJitter => "a time above 0",
            Self::SlotPace => "a time or `distribution`",
            Self::Distribution => "the name of a distribution",
            Self::LossModel => "a percentage, `random`, `state` or `gemodel`",
            Self::Size => "a size below 2^32",
            Self::Rate => "a rate",
            Self::Unsigned => "a whole number from 0 to 4294967295",
            Self::Signed => "a whole number from -2147483648 to 2147483647",
            Self::Seed => "a whole number below 2^64",
        })
    }
}

impl NetemError {
    /// What to type instead.
    pub fn hint(&self) -> String {
        match self {
            Self::UnknownWord { word } => unknown(word),
            Self::Value {
                word,
                expected: Expected::LossModel,
                ..
            } if word.starts_with('.') => format!("write the digit in front: `0{word}`"),
            Self::Missing { expected, .. } | Self::Value { expected, .. } => {
                expected.example().into()
            }
            Self::RatePercent { .. } => "give the rate itself, as in `rate 50mbit`; \
                 `ethtool DEVICE` shows the link's speed"
                .into(),
            Self::LossTwice => "one `loss` takes one model, as in `loss gemodel 1% 10%`".into(),
            Self::ReorderWithoutDelay => "add a delay, as in `delay 10ms reorder 25%`".into(),
            Self::GapWithoutReorder => "add a share, as in `delay 10ms reorder 100% gap 5`".into(),
            Self::EcnWithoutLoss => "add a loss, as in `loss 5% ecn`".into(),
            Self::DistributionWithoutJitter => {
                "give both, as in `delay 100ms 20ms distribution normal`".into()
            }
            Self::SlotReversed { min, max } => format!("write `slot {max} {min}`"),
        }
    }
}

impl Expected {
    fn example(self) -> &'static str {
        match self {
            Self::Percent => "percent are points, as in `1%`, `1` or `0.1%`",
            Self::Delay => {
                "times have a unit (s, ms, us, ns), as in `100ms`; a bare number is microseconds"
            }
            Self::SlotTime | Self::SlotJitter => {
                "times have a unit (s, ms, us, ns), as in `800us`; a bare number is nanoseconds"
            }
            Self::SlotPace => "as in `slot 800us 1ms` or `slot distribution normal 1ms 100us`",
            Self::Distribution => {
                "name `uniform`, `normal`, `pareto`, `paretonormal`, or the path of a table"
            }
            Self::LossModel => "as in `loss 1%`, `loss gemodel 1% 10%` or `loss state 1%`",
            Self::Size => "as in `1000` or `64k`",
            Self::Rate => {
                "rates are in bits (bit, kbit, mbit, gbit) or bytes (bps, kbps, mbps, gbps) \
                 per second, as in `10mbit`"
            }
            Self::Unsigned => "decimal, or hexadecimal after `0x`, as in `5`",
            Self::Signed => "decimal, or hexadecimal after `0x`, as in `20` or `-14`",
            Self::Seed => "give a decimal number, as in `seed 42`",
        }
    }
}

fn unknown(word: &str) -> String {
    if word.starts_with('.') {
        return format!("write the digit in front: `0{word}`");
    }
    let is_unit = ["%", "ms", "us", "ns", "kbit", "mbit", "gbit"].contains(&word);
    if is_unit || word.starts_with(|c: char| c.is_ascii_digit()) {
        return "what is before it takes no more values; a number and its unit are one word, \
                as in `100ms`"
            .into();
    }
    "netem's words are `limit`, `delay`, `distribution`, `loss`, `ecn`, `duplicate`, \
     `corrupt`, `reorder`, `gap`, `rate`, `slot` and `seed`"
        .into()
}

#[cfg(test)]
mod tests {
    use crate::netem::parse;

    #[test]
    fn messages_name_the_word_and_the_hint_says_what_to_type() {
        for (words, message, hint) in [
            (
                "delay",
                "`delay` ends without a time from 0 to 274 s",
                "times have a unit (s, ms, us, ns), as in `100ms`; a bare number is microseconds",
            ),
            (
                "delay 1h",
                "`1h` after `delay` is not a time from 0 to 274 s",
                "times have a unit (s, ms, us, ns), as in `100ms`; a bare number is microseconds",
            ),
            (
                "delay 100 ms",
                "`ms` is no word of netem",
                "what is before it takes no more values; a number and its unit are one word, \
                 as in `100ms`",
            ),
            (
                "jitter 10ms",
                "`jitter` is no word of netem",
                "netem's words are `limit`, `delay`, `distribution`, `loss`, `ecn`, \
                 `duplicate`, `corrupt`, `reorder`, `gap`, `rate`, `slot` and `seed`",
            ),
            (
                "delay 10ms .5ms",
                "`.5ms` is no word of netem",
                "write the digit in front: `0.5ms`",
            ),
            (
                "loss 1% 25% 30%",
                "`30%` is no word of netem",
                "what is before it takes no more values; a number and its unit are one word, \
                 as in `100ms`",
            ),
            (
                "loss .5%",
                "`.5%` after `loss` is not a percentage, `random`, `state` or `gemodel`",
                "write the digit in front: `0.5%`",
            ),
            (
                "loss rand 1%",
                "`rand` after `loss` is not a percentage, `random`, `state` or `gemodel`",
                "as in `loss 1%`, `loss gemodel 1% 10%` or `loss state 1%`",
            ),
            (
                "loss gemodel 1% 101%",
                "`101%` after `loss gemodel` is not a percentage from 0 to 100",
                "percent are points, as in `1%`, `1` or `0.1%`",
            ),
            (
                "loss 1% loss 2%",
                "`loss` is there twice",
                "one `loss` takes one model, as in `loss gemodel 1% 10%`",
            ),
            (
                "reorder 25%",
                "`reorder` without `delay`: there is nothing to overtake",
                "add a delay, as in `delay 10ms reorder 25%`",
            ),
            (
                "delay 10ms gap 5",
                "`gap` without `reorder`",
                "add a share, as in `delay 10ms reorder 100% gap 5`",
            ),
            (
                "ecn",
                "`ecn` without `loss`: it marks the packets that would be lost",
                "add a loss, as in `loss 5% ecn`",
            ),
            (
                "delay 10ms distribution normal",
                "`distribution` without a delay and its jitter",
                "give both, as in `delay 100ms 20ms distribution normal`",
            ),
            (
                "rate 50%",
                "`rate 50%` is a share of the link's speed, which may be anything",
                "give the rate itself, as in `rate 50mbit`; `ethtool DEVICE` shows the link's \
                 speed",
            ),
            (
                "slot 2ms 1ms",
                "`slot 2ms 1ms` ends before it begins",
                "write `slot 1ms 2ms`",
            ),
            (
                "slot 1ms packets",
                "`packets` ends without a whole number from 0 to 4294967295",
                "decimal, or hexadecimal after `0x`, as in `5`",
            ),
        ] {
            let typed: Vec<_> = words.split_whitespace().collect();
            let error = parse(&typed).expect_err("a refusal");
            assert_eq!(error.to_string(), message, "{words}");
            assert_eq!(error.hint(), hint, "{words}");
        }
    }
}
