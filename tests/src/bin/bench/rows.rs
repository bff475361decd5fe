//! Rows of the table, and what they aim at.

/// What a measurement came to.
pub struct Row {
    /// What was measured.
    pub what: String,
    /// How many entries the tables had; 0 where it does not matter.
    pub entries: u32,
    /// Median.
    pub nanos: f64,
    /// Less what the measurement itself costs.
    pub own: Option<f64>,
    /// Beside its peer in the same run.
    pub peer: Option<f64>,
    /// What it is to come to.
    pub aim: Option<Aim>,
}

/// What a row is to come to.
#[derive(Clone, Copy)]
pub enum Aim {
    /// So many times its peer, at most.
    Ratio(f64),
    /// So many nanoseconds of its own, at most. Told, not asked for: it is the memory's.
    Nanos(f64),
}

/// Times of one thing.
#[derive(Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// One more.
    pub fn add(&mut self, nanos: f64) {
        self.0.push(nanos);
    }

    /// The one in the middle.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl Row {
    /// Whether it is as it should be, where that is asked for.
    pub fn is_good(&self) -> bool {
        match (self.aim, self.peer) {
            (Some(Aim::Ratio(most)), Some(ratio)) => ratio <= most,
            _ => true,
        }
    }
}
