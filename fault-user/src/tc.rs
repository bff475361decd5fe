//! `faultctl tc qdisc add dev eth0 root netem loss 50%`: netem as it is typed for tc(8), done
//! by a holder. No qdisc is touched.
//!
//! What netem was told is the command that the holder's programs carry, with a handle in it:
//! `show`, `change` and `del` read it there.

use crate::{
    Error, clear,
    error::KernelError,
    inject::{self, AttachMode, FarEnds, Hook},
    interface, namespace,
    netem::{
        self, Netem,
        tc::{Command, Handle, Parent, Place, Verb},
    },
    privilege,
    report::Reporter,
    spec::{FaultKind, FaultSpec, FourStates, Gemodel, Loss, Percent, Selectors},
};

mod held;

use held::{Held, record};

/// A command of tc that faultctl carries out.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    words: Vec<String>,
    command: Command,
}

impl Request {
    /// Reads the words after `tc`. Refuses what is not netem, and what faultctl does not do.
    pub fn parse(words: Vec<String>) -> Result<Self, Error> {
        let all: Vec<_> = words.iter().map(String::as_str).collect();
        let command = netem::tc::parse(&all)?;
        let parent = match &command {
            Command::Set { place, netem, .. } => {
                kind(netem)?;
                place.parent
            }
            Command::Delete(place) => place.parent,
            Command::Show { .. } => None,
        };
        match parent {
            Some(parent @ Parent::Class { .. }) => Err(Error::NetemClass { parent }),
            Some(Parent::Root) | None => Ok(Self { words, command }),
        }
    }
}

/// Does it, and returns the exit code. Setting returns with the new netem in force.
pub fn run(request: &Request) -> Result<i32, Error> {
    privilege::require(&[privilege::TO_LOOK_AROUND])?;
    match &request.command {
        Command::Set { verb, place, netem } => set(&request.words, *verb, place, netem),
        Command::Delete(place) => delete(place),
        Command::Show { device, handle, .. } => show(device.as_deref(), *handle),
    }
}

/// What is there is ended when the new one is in force. In between, both are.
fn set(words: &[String], verb: Verb, at: &Place, netem: &Netem) -> Result<i32, Error> {
    let index = index(&at.device)?;
    let before = held::on(index)?;
    if let (Verb::Add, Some(there)) = (verb, before.first()) {
        return Err(KernelError::NetemExists {
            device: at.device.clone(),
            there: there.to_string(),
        }
        .into());
    }
    // Without a parent, tc too looks for the handle.
    let must_be_there = verb == Verb::Change || at.parent.is_none();
    if must_be_there && !before.iter().any(|held| held.is_at(at)) {
        return Err(none(at).into());
    }
    let handle = at.handle.or(before.first().map(|held| held.handle));
    let record = record(words, &at.device, handle.unwrap_or(Handle::FIRST), netem)?;
    let ends: Vec<_> = before.iter().map(Held::keeper).collect();
    // The holder gets nothing that is open.
    drop(before);
    let code = inject::run(&injected(&at.device, netem, record)?)?;
    if code == 0 && !ends.is_empty() {
        for mut held in held::on(index)? {
            if ends.contains(&held.keeper()) {
                clear::end(&mut held.fault)?;
            }
        }
    }
    Ok(code)
}

fn delete(at: &Place) -> Result<i32, Error> {
    let mut there = held::on(index(&at.device)?)?;
    there.retain(|held| held.is_at(at));
    if there.is_empty() {
        return Err(none(at).into());
    }
    for mut held in there {
        clear::end(&mut held.fault)?;
    }
    Ok(0)
}

fn show(device: Option<&str>, handle: Option<Handle>) -> Result<i32, Error> {
    let mut there = match device {
        Some(device) => held::on(index(device)?)?,
        None => held::all()?,
    };
    there.retain(|held| handle.is_none_or(|handle| handle == held.handle));
    let mut reporter = Reporter::new(false);
    for held in there {
        if let Some(line) = held.line(device.is_none())? {
            reporter.qdisc(&line).map_err(|_| Error::OutputClosed)?;
        }
    }
    Ok(0)
}

fn none(at: &Place) -> KernelError {
    KernelError::NoNetem {
        device: at.device.clone(),
        handle: at.handle,
    }
}

/// What faultctl does for netem.
fn kind(netem: &Netem) -> Result<FaultKind, Error> {
    let Netem {
        // Nothing is held.
        limit: _,
        delay,
        loss,
        ecn,
        duplicate,
        corrupt,
        reorder,
        rate,
        slot,
        seed: _,
    } = netem;
    let without = Netem::default();
    for (word, given) in [
        ("delay", *delay != without.delay),
        ("ecn", *ecn),
        ("duplicate", !duplicate.is_never()),
        ("corrupt", !corrupt.is_never()),
        ("reorder", reorder.is_some()),
        ("rate", rate.is_some()),
        ("slot", slot.is_some()),
    ] {
        if given {
            return Err(Error::NetemWord { word });
        }
    }
    Ok(FaultKind::Loss(match *loss {
        netem::Loss::Random(chance) => Loss::Random {
            percent: chance.percent,
            correlation: chance.correlation,
        },
        netem::Loss::Gemodel { p, r, bad, good } => Loss::Gemodel(Gemodel { p, r, bad, good }),
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
    }))
}

fn injected(device: &str, netem: &Netem, record: String) -> Result<inject::Request, Error> {
    Ok(inject::Request {
        spec: FaultSpec {
            kind: kind(netem)?,
            selectors: Selectors::default(),
            seed: netem.seed,
        },
        far_ends: FarEnds::default(),
        interfaces: vec![device.into()],
        place: namespace::Place::Own,
        include_ssh: false,
        duration: None,
        detached: true,
        confirm: None,
        metrics: None,
        json: false,
        hook: Hook::Tc,
        attach: AttachMode::Auto,
        verbose: false,
        record: Some(record),
        command: Vec::new(),
    })
}

/// Of an interface that is here.
fn index(device: &str) -> Result<u32, KernelError> {
    interface::index(device)?.map_or_else(
        || {
            Err(KernelError::NoInterface {
                name: device.into(),
                there: interface::names()?,
            })
        },
        Ok,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(words: &str) -> Result<FaultKind, Error> {
        let words: Vec<_> = words.split(' ').collect();
        kind(&netem::parse(&words).expect("netem's words"))
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
            assert_eq!(kind_of(words).ok(), Some(FaultKind::Loss(ours)), "{words}");
        }
    }

    #[test]
    fn what_would_not_be_done_is_refused() {
        for words in [
            "delay 1ms",
            "loss 1% ecn",
            "duplicate 1%",
            "corrupt 1%",
            "delay 1ms reorder 5%",
            "rate 1mbit",
            "slot 1ms",
        ] {
            assert!(
                matches!(kind_of(words), Err(Error::NetemWord { .. })),
                "{words}"
            );
        }
        assert!(kind_of("limit 5 loss 1% seed 7").is_ok());
    }
}
