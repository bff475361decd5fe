//! The grammar.

use super::{
    Chance, Delay, Distribution, Expected, Loss, Netem, NetemError, Pace, Rate, Reorder, Slot,
    number, unit,
};
use crate::spec::Percent;

/// Reads the words after `netem`.
pub fn parse(words: &[&str]) -> Result<Netem, NetemError> {
    let mut words = Words { rest: words };
    let mut netem = Netem::default();
    let mut reorder = Chance::default();
    let mut gap = 0;
    let mut distribution = None;
    while let Some(word) = words.next() {
        match keyword(word)? {
            Keyword::Limit => netem.limit = words.value("limit", Expected::Size, unit::size)?,
            Keyword::Delay => delay(&mut words, &mut netem.delay)?,
            Keyword::Distribution => {
                let name = words.word("distribution", Expected::Distribution)?;
                distribution = Some(Distribution::named(name));
            }
            Keyword::Loss => netem.loss = loss(&mut words, netem.loss)?,
            Keyword::Ecn => netem.ecn = true,
            Keyword::Reorder => chance(&mut words, "reorder", &mut reorder)?,
            Keyword::Gap => gap = words.value("gap", Expected::Unsigned, unsigned)?,
            Keyword::Corrupt => chance(&mut words, "corrupt", &mut netem.corrupt)?,
            Keyword::Duplicate => chance(&mut words, "duplicate", &mut netem.duplicate)?,
            Keyword::Rate => rate(&mut words, netem.rate.get_or_insert_default())?,
            Keyword::Slot => slot(&mut words, netem.slot.get_or_insert_default())?,
            Keyword::Seed => {
                netem.seed = Some(words.value("seed", Expected::Seed, |word| word.parse().ok())?);
            }
        }
    }

    netem.reorder = reordering(reorder, gap, &netem.delay)?;
    if netem.ecn && netem.loss.is_none() {
        return Err(NetemError::EcnWithoutLoss);
    }
    if let Some(distribution) = distribution {
        if netem.delay.time.is_zero() || netem.delay.jitter.is_zero() {
            return Err(NetemError::DistributionWithoutJitter);
        }
        netem.delay.distribution = distribution;
    }
    netem.rate = netem.rate.filter(|rate| rate.bytes_per_sec > 0);
    netem.slot = netem.slot.filter(|slot| !slot.is_none());
    Ok(netem)
}

#[derive(Clone, Copy)]
enum Keyword {
    Limit,
    Delay,
    Distribution,
    Loss,
    Ecn,
    Reorder,
    Gap,
    Corrupt,
    Duplicate,
    Rate,
    Slot,
    Seed,
}

/// In tc's order: an abbreviation means the first that it begins.
const KEYWORDS: [(&str, Keyword); 14] = [
    ("limit", Keyword::Limit),
    ("latency", Keyword::Delay),
    ("delay", Keyword::Delay),
    ("loss", Keyword::Loss),
    ("drop", Keyword::Loss),
    ("ecn", Keyword::Ecn),
    ("reorder", Keyword::Reorder),
    ("corrupt", Keyword::Corrupt),
    ("gap", Keyword::Gap),
    ("duplicate", Keyword::Duplicate),
    ("distribution", Keyword::Distribution),
    ("rate", Keyword::Rate),
    ("slot", Keyword::Slot),
    ("seed", Keyword::Seed),
];

fn keyword(word: &str) -> Result<Keyword, NetemError> {
    KEYWORDS
        .iter()
        .find(|(name, _)| abbreviates(word, name))
        .map(|(_, keyword)| *keyword)
        .ok_or_else(|| NetemError::UnknownWord { word: word.into() })
}

/// Whether tc takes a word for `name`.
pub(super) fn abbreviates(word: &str, name: &str) -> bool {
    !word.is_empty() && name.starts_with(word)
}

fn delay(words: &mut Words<'_>, delay: &mut Delay) -> Result<(), NetemError> {
    delay.time = words.value("delay", Expected::Delay, unit::delay)?;
    if let Some(jitter) = words.number("delay", Expected::Delay, unit::delay)? {
        delay.jitter = jitter;
        if let Some(correlation) = words.percent("delay")? {
            delay.correlation = correlation;
        }
    }
    Ok(())
}

fn chance(
    words: &mut Words<'_>,
    after: &'static str,
    chance: &mut Chance,
) -> Result<(), NetemError> {
    chance.percent = words.value(after, Expected::Percent, unit::percent)?;
    if let Some(correlation) = words.percent(after)? {
        chance.correlation = correlation;
    }
    Ok(())
}

fn loss(words: &mut Words<'_>, before: Loss) -> Result<Loss, NetemError> {
    let Loss::Random(mut random) = before else {
        return Err(NetemError::LossTwice);
    };
    if !random.is_never() {
        return Err(NetemError::LossTwice);
    }
    match words.peek() {
        Some("state") => {
            words.next();
            return state(words);
        }
        Some("gemodel") => {
            words.next();
            return gemodel(words);
        }
        Some("random") => {
            words.next();
        }
        Some(word) if is_number(word) => {}
        _ => {
            let word = words.word("loss", Expected::LossModel)?;
            return Err(value_error("loss", word, Expected::LossModel));
        }
    }
    chance(words, "loss", &mut random)?;
    Ok(Loss::Random(random))
}

fn state(words: &mut Words<'_>) -> Result<Loss, NetemError> {
    const AFTER: &str = "loss state";
    let p13 = words.value(AFTER, Expected::Percent, unit::percent)?;
    let [p31, p32, p23, p14] = words.percents(AFTER)?;
    Ok(Loss::State {
        p13,
        p31: p31.unwrap_or_else(|| rest(p13)),
        p32: p32.unwrap_or_default(),
        p23: p23.unwrap_or(Percent::ALL),
        p14: p14.unwrap_or_default(),
    })
}

fn gemodel(words: &mut Words<'_>) -> Result<Loss, NetemError> {
    const AFTER: &str = "loss gemodel";
    let p = words.value(AFTER, Expected::Percent, unit::percent)?;
    let [r, bad, good] = words.percents(AFTER)?;
    Ok(Loss::Gemodel {
        p,
        r: r.unwrap_or_else(|| rest(p)),
        bad: bad.unwrap_or(Percent::ALL),
        good: good.unwrap_or_default(),
    })
}

/// What is left to certainty.
fn rest(percent: Percent) -> Percent {
    Percent::new(100.0 - percent.points()).unwrap_or_default()
}

fn reordering(chance: Chance, gap: u32, delay: &Delay) -> Result<Option<Reorder>, NetemError> {
    if chance.is_never() {
        return match gap {
            0 => Ok(None),
            _ => Err(NetemError::GapWithoutReorder),
        };
    }
    if delay.time.is_zero() {
        return Err(NetemError::ReorderWithoutDelay);
    }
    let gap = gap.max(1);
    Ok(Some(Reorder { chance, gap }))
}

fn rate(words: &mut Words<'_>, rate: &mut Rate) -> Result<(), NetemError> {
    if let Some(word) = words.peek().filter(|word| word.contains('%')) {
        return Err(NetemError::RatePercent { word: word.into() });
    }
    rate.bytes_per_sec = words.value("rate", Expected::Rate, unit::rate)?;
    if let Some(bytes) = words.signed("rate")? {
        rate.packet_overhead = bytes;
    }
    if let Some(bytes) = words.number("rate", Expected::Unsigned, unsigned)? {
        rate.cell_size = bytes;
    }
    if let Some(bytes) = words.signed("rate")? {
        rate.cell_overhead = bytes;
    }
    Ok(())
}

fn slot(words: &mut Words<'_>, slot: &mut Slot) -> Result<(), NetemError> {
    match words.peek() {
        Some("distribution") => {
            words.next();
            slot.pace = distributed(words)?;
        }
        Some(word) if is_number(word) => {
            let between = between(words)?;
            // A distribution stays, whatever comes after it.
            if matches!(slot.pace, Pace::Between { .. }) {
                slot.pace = between;
            }
        }
        _ => {
            let word = words.word("slot", Expected::SlotPace)?;
            return Err(value_error("slot", word, Expected::SlotPace));
        }
    }
    if words.take("packets") {
        slot.packets = words.value("packets", Expected::Unsigned, unsigned)?;
    }
    if words.take("bytes") {
        slot.bytes = words.value("bytes", Expected::Size, unit::size)?;
    }
    Ok(())
}

fn between(words: &mut Words<'_>) -> Result<Pace, NetemError> {
    let shorter = words.peek();
    let min = words.value("slot", Expected::SlotTime, unit::slot)?;
    let longer = words.peek();
    let max = words.number("slot", Expected::SlotTime, unit::slot)?;
    let max = max.unwrap_or(min);
    if max < min {
        return Err(NetemError::SlotReversed {
            min: shorter.unwrap_or_default().into(),
            max: longer.unwrap_or_default().into(),
        });
    }
    Ok(Pace::Between { min, max })
}

fn distributed(words: &mut Words<'_>) -> Result<Pace, NetemError> {
    const AFTER: &str = "slot distribution";
    let name = words.word(AFTER, Expected::Distribution)?;
    let delay = words.value(AFTER, Expected::SlotTime, unit::slot)?;
    let jitter = words.value(AFTER, Expected::SlotJitter, |word| {
        unit::slot(word).filter(|jitter| !jitter.is_zero())
    })?;
    Ok(Pace::Distributed {
        distribution: Distribution::named(name),
        delay,
        jitter,
    })
}

fn unsigned(word: &str) -> Option<u32> {
    number::integer(word)?.try_into().ok()
}

fn signed(word: &str) -> Option<i32> {
    number::integer(word)?.try_into().ok()
}

/// Whether tc takes a word for the next value rather than for the next word.
fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
}

fn value_error(after: &'static str, word: &str, expected: Expected) -> NetemError {
    NetemError::Value {
        after,
        word: word.into(),
        expected,
    }
}

/// The words that are left.
struct Words<'a> {
    rest: &'a [&'a str],
}

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.rest.first().copied()
    }

    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// Whether the next is this one, which is then gone.
    fn take(&mut self, name: &str) -> bool {
        let is_next = self.peek().is_some_and(|word| abbreviates(word, name));
        if is_next {
            self.next();
        }
        is_next
    }

    fn word(&mut self, after: &'static str, expected: Expected) -> Result<&'a str, NetemError> {
        self.next().ok_or(NetemError::Missing { after, expected })
    }

    fn value<T>(
        &mut self,
        after: &'static str,
        expected: Expected,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, NetemError> {
        let word = self.word(after, expected)?;
        read(word).ok_or_else(|| value_error(after, word, expected))
    }

    /// A value that may be left out.
    fn number<T>(
        &mut self,
        after: &'static str,
        expected: Expected,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, NetemError> {
        match self.peek() {
            Some(word) if is_number(word) => self.value(after, expected, read).map(Some),
            _ => Ok(None),
        }
    }

    fn signed(&mut self, after: &'static str) -> Result<Option<i32>, NetemError> {
        match self.peek() {
            Some(word) if is_number(word) || word.starts_with('-') => {
                self.value(after, Expected::Signed, signed).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn percent(&mut self, after: &'static str) -> Result<Option<Percent>, NetemError> {
        self.number(after, Expected::Percent, unit::percent)
    }

    /// As many as there are, up to `N`.
    fn percents<const N: usize>(
        &mut self,
        after: &'static str,
    ) -> Result<[Option<Percent>; N], NetemError> {
        let mut values = [None; N];
        for value in &mut values {
            *value = self.percent(after)?;
        }
        Ok(values)
    }
}
