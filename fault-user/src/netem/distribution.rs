//! Distributions of a delay, as tables of netem's form.

mod file;
mod quantile;

pub use file::DistributionError;

/// How jitter is distributed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Distribution {
    /// Anything within the jitter, above and below: what netem does without a table.
    #[default]
    Uniform,
    /// The normal distribution.
    Normal,
    /// The Pareto distribution with the shape 3, moved to a mean of 0 and cut at 4.
    Pareto,
    /// A quarter of the normal and three quarters of the Pareto distribution.
    ParetoNormal,
    /// A table of iproute2's or of the user's own.
    File {
        /// A path if it holds a `/` or ends in `.dist`, else the name of a table among
        /// those that are installed.
        name: String,
    },
}

impl Distribution {
    /// The one that tc-netem(8) gives this name, else a file.
    pub fn named(name: &str) -> Self {
        match name {
            "uniform" => Self::Uniform,
            "normal" => Self::Normal,
            "pareto" => Self::Pareto,
            "paretonormal" => Self::ParetoNormal,
            _ => Self::File { name: name.into() },
        }
    }

    /// Its table: computed, or read.
    pub fn table(&self) -> Result<Table, DistributionError> {
        Ok(match self {
            Self::Uniform => Table::sample(quantile::uniform),
            Self::Normal => Table::sample(quantile::normal),
            Self::Pareto => Table::sample(quantile::pareto),
            Self::ParetoNormal => Table::sample(quantile::pareto_normal),
            Self::File { name } => file::read(&file::find(name)?)?,
        })
    }
}

/// Values of a distribution, each as likely as the others. Multiplied with the jitter
/// and divided by [`Table::SCALE`], one of them is what a packet's delay is above the
/// mean.
///
/// The uniform distribution reaches from -1 to 1, with a standard deviation of 0.577.
/// The others aim at a mean of 0 and a standard deviation of 1. As in netem, no value is
/// below -4 or above 4, which matters to the Pareto distribution: its mean is -0.033 and
/// its standard deviation 0.82, those of `paretonormal` -0.025 and 0.835.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table(Vec<i16>);

impl Table {
    /// What stands for 1: `NETEM_DIST_SCALE`.
    pub const SCALE: i16 = 8192;

    /// How many values a table has at most: `NETEM_DIST_MAX`.
    pub const MAX_LEN: usize = 16 * 1024;

    /// How many a computed table has, which is as many as iproute2's.
    pub const LEN: u16 = 4096;

    /// The values, at least one and at most [`Table::MAX_LEN`].
    pub fn values(&self) -> &[i16] {
        &self.0
    }

    /// The middles of [`Table::LEN`] slices of the same probability.
    fn sample(quantile: impl Fn(f64) -> f64) -> Self {
        let middle = |slice| (f64::from(slice) + 0.5) / f64::from(Self::LEN);
        Self(
            (0..Self::LEN)
                .map(|slice| scaled(quantile(middle(slice))))
                .collect(),
        )
    }
}

fn scaled(value: f64) -> i16 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast takes what is beyond the ends to the ends, as netem's tables do"
    )]
    let scaled = (value * f64::from(Table::SCALE)).round() as i16;
    scaled
}

#[cfg(test)]
mod tests;
