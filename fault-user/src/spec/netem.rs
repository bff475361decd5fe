//! What netem's words mean as faults.

use super::{FaultKind, FourStates, Gemodel, Loss, Percent};
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
            // Of two ways out of a state, the second gets what the first leaves.
            let beside = |one: Percent, first: Percent| {
                let left = Percent::new(100.0 - first.points()).unwrap_or_default();
                if one.points() > left.points() {
                    left
                } else {
                    one
                }
            };
            let states = [beside(p13, p14), beside(p31, p32), p32, p23, p14];
            let states = FourStates::new(states).map_err(|source| Error::Usage {
                message: "`loss state` has no such probabilities".into(),
                hint: None,
                source: Some(source),
            })?;
            Loss::State(states)
        }
        netem::Loss::Gemodel { p, r, bad, good } => Loss::Gemodel(Gemodel { p, r, bad, good }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(words: &str) -> Result<FaultKind, Error> {
        let words: Vec<_> = words.split(' ').collect();
        FaultKind::of_netem(&netem::parse(&words).expect("netem's words"))
    }

    #[test]
    fn losses_are_those_of_our_own_verb() {
        for (words, ours) in [
            (
                "loss 10% 25%",
                Loss::Random {
                    percent: "10".parse().expect("a percentage"),
                    correlation: "25".parse().expect("a percentage"),
                },
            ),
            (
                "loss gemodel 1% 10% 70% 0.1%",
                Loss::Gemodel("1,10,70,0.1".parse().expect("a model")),
            ),
            (
                "loss state 1% 10% 20% 95% 5%",
                Loss::State("1,10,20,95,5".parse().expect("a model")),
            ),
            // What is left beside the other way out.
            (
                "loss state 60% 90% 20% 95% 50%",
                Loss::State("50,80,20,95,50".parse().expect("a model")),
            ),
        ] {
            let parts = FaultKind::Netem(vec![FaultKind::Loss(ours)]);
            assert_eq!(kind_of(words).ok(), Some(parts), "{words}");
        }
    }

    #[test]
    fn what_would_not_be_done_is_refused() {
        for words in ["loss 1% ecn", "corrupt 1%", "slot 1ms"] {
            assert!(
                matches!(kind_of(words), Err(Error::NetemWord { .. })),
                "{words}"
            );
        }
        assert!(kind_of("limit 5 loss 1% seed 7").is_ok());
    }

    #[test]
    fn parts_come_in_netems_order() {
        let words = "rate 1mbit reorder 25% delay 10ms duplicate 1% loss 5%";
        let kind = kind_of(words).expect("faults");
        let names: Vec<_> = kind.parts().iter().map(FaultKind::name).collect();
        assert_eq!(names, ["loss", "duplicate", "reorder", "rate"]);
        let nothing = kind_of("limit 7").expect("a fault");
        assert_eq!(nothing.asked(), "latency 0ns");
    }
}
