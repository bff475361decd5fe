//! What netem's words mean as faults.

use super::{FaultKind, FourStates, Gemodel, Loss};
use crate::{
    error::Error,
    netem::{self, Chance, Netem},
};

impl FaultKind {
    /// The faults of netem's words, in the order in which netem does them but for one thing:
    /// netem may lose a packet after it has decided to send it twice, which leaves one;
    /// here it is lost first, which leaves none.
    pub fn of_netem(netem: &Netem) -> Result<Self, Error> {
        for (word, asked) in [
            ("corrupt", !netem.corrupt.is_never()),
            (
                "slot",
                netem.slot.as_ref().is_some_and(|slot| !slot.is_none()),
            ),
            ("ecn", netem.ecn),
        ] {
            if asked {
                return Err(Error::NetemWord { word });
            }
        }
        let mut parts = Vec::new();
        if !netem.loss.is_none() {
            parts.push(Self::Loss(loss(&netem.loss)?));
        }
        if !netem.duplicate.is_never() {
            parts.push(Self::Duplicate(netem.duplicate));
        }
        let delay = netem.delay.clone();
        match netem.reorder {
            Some(reorder) => parts.push(Self::Reorder { delay, reorder }),
            None if delay != netem::Delay::default() => parts.push(Self::Latency(delay)),
            None => {}
        }
        if let Some(rate) = netem.rate.filter(|rate| rate.bytes_per_sec > 0) {
            parts.push(Self::Rate { rate, burst: 0 });
        }
        if parts.is_empty() {
            // As netem, which is there all the same.
            parts.push(Self::Latency(netem::Delay::default()));
        }
        Ok(Self::Netem(parts))
    }
}

fn loss(loss: &netem::Loss) -> Result<Loss, Error> {
    Ok(match *loss {
        netem::Loss::Random(Chance {
            percent,
            correlation,
        }) => Loss::Random {
            percent,
            correlation,
        },
        netem::Loss::State {
            p13,
            p31,
            p32,
            p23,
            p14,
        } => {
            let states = FourStates::new([p13, p31, p32, p23, p14]);
            Loss::State(states.map_err(Error::NetemStates)?)
        }
        netem::Loss::Gemodel { p, r, bad, good } => Loss::Gemodel(Gemodel { p, r, bad, good }),
    })
}
