//! Rows of the table, and what they aim at.

use std::fmt::Write as _;

/// What a measurement came to.
pub struct Row {
    /// What was measured.
    pub what: String,
    /// How many destinations there were; 0 where it does not matter.
    pub entries: u32,
    /// What came out, or why nothing did.
    pub value: Result<Value, String>,
    /// Less what the measurement itself costs.
    pub own: Option<f64>,
    /// Beside its peer in the same run: the peer, and how many times that it is.
    pub peer: Option<(String, f64)>,
    /// What it is to come to.
    pub aim: Option<Aim>,
}

/// A median and its unit.
#[derive(Clone, Copy)]
pub struct Value(pub f64, pub &'static str);

/// What a row is to come to.
#[derive(Clone, Copy)]
pub enum Aim {
    /// So many times its peer, at most.
    Ratio(f64),
    /// So much, at most.
    Value(f64),
    /// The same of what is its own, but only told: it is the memory's.
    Hope(f64),
    /// So many times its peer, at most, but only told.
    HopeRatio(f64),
    /// So many times its peer, at least.
    LeastRatio(f64),
    /// So much, at least, and what is hoped for.
    Least(f64, f64),
    /// From so much to so much.
    Between(f64, f64),
}

/// Measurements of one thing.
#[derive(Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// One more.
    pub fn add(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// The one in the middle.
    pub fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// The one that so many of a hundred are below.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = sorted.len() * percent / 100;
        sorted.get(at).copied().unwrap_or(f64::NAN)
    }

    /// All of them.
    pub fn all(&self) -> &[f64] {
        &self.0
    }
}

impl Row {
    /// One with nothing beside it.
    pub fn new(what: impl Into<String>, entries: u32, value: f64, unit: &'static str) -> Self {
        Self {
            what: what.into(),
            entries,
            value: Ok(Value(value, unit)),
            own: None,
            peer: None,
            aim: None,
        }
    }

    /// One that could not be measured.
    pub fn missing(what: impl Into<String>, entries: u32, why: impl Into<String>) -> Self {
        Self {
            value: Err(why.into()),
            ..Self::new(what, entries, f64::NAN, "")
        }
    }

    /// The same beside a peer.
    pub fn beside(self, peer: &str, value: f64) -> Self {
        let own = self.value.as_ref().map_or(f64::NAN, |own| own.0);
        Self {
            peer: Some((peer.into(), own / value)),
            ..self
        }
    }

    /// Whether it is as it has to be.
    pub fn is_good(&self) -> bool {
        match (self.aim, &self.peer, &self.value) {
            (Some(Aim::Ratio(most)), Some((_, ratio)), _) => *ratio <= most,
            (Some(Aim::LeastRatio(least)), Some((_, ratio)), _) => *ratio >= least,
            (Some(Aim::Value(most)), _, Ok(value)) => value.0 <= most,
            (Some(Aim::Least(least, _)), _, Ok(value)) => value.0 >= least,
            (Some(Aim::Between(low, high)), _, Ok(value)) => (low..=high).contains(&value.0),
            _ => true,
        }
    }

    /// A row of a Markdown table.
    pub fn markdown(&self) -> String {
        let entries = match self.entries {
            0 => String::new(),
            n => n.to_string(),
        };
        let mut text = format!("| {} | {entries} | ", self.what);
        let (unit, digits) = match &self.value {
            Err(why) => return text + why + " | | | |",
            Ok(Value(value, unit)) => {
                let digits = match *unit {
                    "ns" | "packets" => 0,
                    "%" => 2,
                    _ => usize::from(*value < 100.0),
                };
                let _ = write!(text, "{value:.digits$} {unit} | ");
                (*unit, digits)
            }
        };
        if let Some(own) = self.own {
            let _ = write!(text, "{own:.digits$} {unit}");
        }
        text += " | ";
        if let Some((peer, ratio)) = &self.peer {
            let _ = write!(text, "{ratio:.2} x {peer}");
        }
        text += " | ";
        if let Some(aim) = self.aim {
            let most = match aim {
                Aim::Ratio(most) => format!("{most:.1} x"),
                Aim::Value(most) if unit == "%" => format!("{most:.2} {unit}"),
                Aim::Value(most) => format!("{most:.0} {unit}"),
                Aim::Hope(most) => format!("{most:.0} {unit} of its own"),
                Aim::HopeRatio(most) => format!("{most:.1} x, hoped"),
                Aim::LeastRatio(least) => format!("at least {least:.1} x"),
                Aim::Least(least, hoped) => format!("at least {least:.0} {unit}, hoped {hoped:.0}"),
                Aim::Between(low, high) if unit == "%" => {
                    format!("{low:.2} to {high:.2} {unit}")
                }
                Aim::Between(low, high) => format!("{low:.0} to {high:.0} {unit}"),
            };
            let _ = write!(
                text,
                "{most}{}",
                if self.is_good() { "" } else { ", MISSED" }
            );
        }
        text + " |"
    }
}

/// The head of the table.
pub const HEAD: &str = "\
| what | destinations | median | of its own | beside | aim |
|---|---:|---:|---:|---:|---:|";
