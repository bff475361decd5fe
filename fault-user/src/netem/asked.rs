//! The words of a fault, as short as a person would type them.

use std::fmt::Write as _;

use super::{Chance, Delay, Distribution, Rate};

impl Delay {
    /// As in `100ms ±10ms normal correlation 25%`.
    pub fn asked(&self) -> String {
        let mut text = format!("{:?}", self.time);
        if self.jitter.is_zero() {
            return text;
        }
        let _ = write!(text, " ±{:?}", self.jitter);
        match &self.distribution {
            Distribution::Uniform => {}
            Distribution::Normal => text += " normal",
            Distribution::Pareto => text += " pareto",
            Distribution::ParetoNormal => text += " paretonormal",
            Distribution::File { name } => {
                text += " ";
                text += name;
            }
        }
        if self.correlation.points() > 0.0 {
            let _ = write!(text, " correlation {}", self.correlation);
        }
        text
    }
}

impl Chance {
    /// As in `10% correlation 25%`.
    pub fn asked(&self) -> String {
        if self.correlation.points() > 0.0 {
            format!("{} correlation {}", self.percent, self.correlation)
        } else {
            self.percent.to_string()
        }
    }
}

impl Rate {
    /// As in `10mbit overhead 4b`.
    pub fn asked(&self) -> String {
        let mut value = self.bytes_per_sec.saturating_mul(8);
        let mut unit = "bit";
        for larger in ["kbit", "mbit", "gbit", "tbit"] {
            if !value.is_multiple_of(1000) {
                break;
            }
            value /= 1000;
            unit = larger;
        }
        let mut text = format!("{value}{unit}");
        if self.packet_overhead != 0 {
            let _ = write!(text, " overhead {}b", self.packet_overhead);
        }
        if self.cell_size != 0 {
            let _ = write!(text, " cells {}b", self.cell_size);
        }
        text
    }
}
