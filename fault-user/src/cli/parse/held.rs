//! Packets that wait, come twice or go ahead.

use super::{
    super::{
        Direction, DuplicateArgs, Hold, JitterArgs, LatencyArgs, NetemArgs, Profile, RateArgs,
        ReorderArgs,
    },
    Command, inject, inject_held,
};
use crate::{
    Error,
    netem::{self, Chance, Delay, Distribution},
    spec::FaultKind,
};

/// Packets that a link of some speed queues, unless told otherwise: as many as netem. More
/// only make the delay longer.
const QUEUE: u32 = 1000;

impl LatencyArgs {
    pub(super) fn command(self) -> Result<Command, Error> {
        let ways = if self.selectors.direction == Some(Direction::Both) {
            2
        } else {
            1
        };
        let one_way = self.profile.map(Profile::round_trip).map(|all| all / ways);
        let JitterArgs {
            jitter,
            correlation,
            distribution,
        } = self.jitter;
        let delay = Delay {
            time: self.time.or(one_way).unwrap_or_default(),
            jitter: jitter.unwrap_or_default(),
            correlation: correlation.unwrap_or_default(),
            distribution: distribution
                .map_or_else(Distribution::default, |name| Distribution::named(&name)),
        };
        inject_held(
            FaultKind::Latency(delay),
            self.selectors,
            self.life,
            self.hold,
        )
    }
}

impl ReorderArgs {
    pub(super) fn command(self) -> Result<Command, Error> {
        let kind = FaultKind::Reorder {
            delay: Delay {
                time: self.delay,
                ..Delay::default()
            },
            reorder: netem::Reorder {
                chance: Chance {
                    percent: self.percent,
                    correlation: self.correlation.unwrap_or_default(),
                },
                gap: self.gap,
            },
        };
        inject_held(kind, self.selectors, self.life, self.hold)
    }
}

impl DuplicateArgs {
    pub(super) fn command(self) -> Result<Command, Error> {
        let chance = Chance {
            percent: self.percent,
            correlation: self.correlation.unwrap_or_default(),
        };
        inject(FaultKind::Duplicate(chance), self.selectors, self.life)
    }
}

impl RateArgs {
    pub(super) fn command(self) -> Result<Command, Error> {
        let kind = FaultKind::Rate {
            rate: netem::Rate {
                packet_overhead: self.overhead,
                ..self.rate
            },
            burst: self.burst,
        };
        let hold = Hold {
            limit: self.hold.limit.or(Some(QUEUE)),
            ..self.hold
        };
        inject_held(kind, self.selectors, self.life, hold)
    }
}

impl NetemArgs {
    pub(super) fn command(mut self) -> Result<Command, Error> {
        let words: Vec<_> = self
            .words
            .iter()
            .flat_map(|it| it.split_whitespace())
            .collect();
        let netem = netem::parse(&words)?;
        self.selectors.seed = self.selectors.seed.or(netem.seed);
        let hold = Hold {
            limit: Some(netem.limit),
            engine: self.engine,
        };
        inject_held(
            FaultKind::of_netem(&netem)?,
            self.selectors,
            self.life,
            hold,
        )
    }
}
