//! `faultctl tc qdisc add dev eth0 root netem loss 50%`: netem as it is typed for tc(8), done
//! by a holder. No qdisc is touched.
//!
//! What netem was told is the command that the holder's programs carry, with a handle in it:
//! `show`, `change` and `del` read it there.

use crate::{
    Error, clear,
    error::KernelError,
    inject::{self, AttachMode, FarEnds, Hook},
    interface,
    line::{Engine, Limits},
    namespace,
    netem::{
        Netem,
        tc::{Command, Handle, Parent, Place, Verb},
    },
    privilege,
    report::Reporter,
    spec::{FaultKind, FaultSpec, Selectors, Waits},
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
        let command = crate::netem::tc::parse(&all)?;
        let parent = match &command {
            Command::Set { place, netem, .. } => {
                FaultKind::of_netem(netem)?;
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

fn injected(device: &str, netem: &Netem, record: String) -> Result<inject::Request, Error> {
    Ok(inject::Request {
        spec: FaultSpec {
            kind: FaultKind::of_netem(netem)?,
            selectors: Selectors::default(),
            waits: Waits::default(),
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
        engine: Engine::Auto,
        limits: Limits::of(netem.limit),
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
