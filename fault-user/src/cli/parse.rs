//! From arguments to requests.

use std::{ffi::OsString, path::PathBuf};

use clap::Parser as _;

use super::{
    Attach, ClearArgs, Cli, Direction, DoctorArgs, DownArgs, DownMode, Life, LossArgs, MarkArgs,
    PartitionArgs, Selectors, SelftestArgs, StatusArgs, Verb, refusal,
};
use crate::{
    Error, clear, doctor,
    inject::{self, AttachMode},
    selftest,
    spec::{self, Directions, FaultKind, FaultSpec, Loss, Mark},
    status,
};

/// What the arguments ask for.
#[derive(Debug)]
pub enum Parsed {
    /// Work.
    Command(Command),
    /// A text for stdout: help or version.
    Text(String),
}

/// A verb with all it needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `loss`, `partition`, `down`, `mark`
    Inject(Box<inject::Request>),
    /// `status`
    Status(status::Request),
    /// `clear`
    Clear(clear::Request),
    /// `selftest`
    Selftest(selftest::Request),
    /// `doctor`
    Doctor(doctor::Request),
}

/// Reads arguments, the program's name first. Reads the files that they name,
/// resolves host names, and refuses what can match no packet.
pub fn parse(args: &[OsString]) -> Result<Parsed, Error> {
    match Cli::try_parse_from(args) {
        Ok(cli) => cli.verb.command().map(Parsed::Command),
        Err(error) if error.use_stderr() => Err(refusal::explain(&error, args)),
        Err(help) => Ok(Parsed::Text(help.render().to_string())),
    }
}

/// Whether errors are to be told in JSON too, also where the arguments cannot be
/// read.
pub fn wants_json(args: &[OsString]) -> bool {
    args.iter()
        .take_while(|arg| *arg != "--")
        .any(|arg| arg == "--json")
}

impl Verb {
    fn command(self) -> Result<Command, Error> {
        Ok(match self {
            Self::Loss(LossArgs {
                percent,
                correlation,
                every,
                selectors,
                life,
            }) => {
                let loss = match every {
                    Some(every) => Loss::Every(every),
                    None => Loss::Random {
                        // Without `--every`, clap has asked for it.
                        percent: percent.unwrap_or_default(),
                        correlation: correlation.unwrap_or_default(),
                    },
                };
                inject(FaultKind::Loss(loss), selectors, life)?
            }
            Self::Partition(PartitionArgs { selectors, life }) => {
                inject(FaultKind::Partition, selectors, life)?
            }
            Self::Down(DownArgs {
                mode: DownMode::Blackhole,
                selectors,
                life,
            }) => inject(FaultKind::Down, selectors, life)?,
            Self::Mark(MarkArgs {
                mark: skb,
                dscp,
                selectors,
                life,
            }) => inject(FaultKind::Mark(Mark { skb, dscp }), selectors, life)?,
            Self::Status(StatusArgs { json }) => Command::Status(status::Request { json }),
            Self::Clear(ClearArgs { iface, json }) => Command::Clear(clear::Request {
                interfaces: unique(iface),
                json,
            }),
            Self::Selftest(SelftestArgs { json }) => Command::Selftest(selftest::Request { json }),
            Self::Doctor(DoctorArgs { iface, netns, json }) => Command::Doctor(doctor::Request {
                interfaces: unique(iface),
                netns: netns.map(netns_path),
                json,
            }),
        })
    }
}

fn inject(kind: FaultKind, selectors: Selectors, life: Life) -> Result<Command, Error> {
    let directions = match selectors.direction {
        Some(Direction::Egress) => Directions::Egress,
        Some(Direction::Ingress) => Directions::Ingress,
        Some(Direction::Both) => Directions::Both,
        None => kind.default_directions(),
    };
    let spec = FaultSpec {
        kind,
        selectors: spec::Selectors {
            to: spec::endpoint::resolve(&selectors.to)?,
            from: selectors.from,
            except: spec::endpoint::resolve(&selectors.except)?,
            protocols: selectors.proto,
            far_ports: selectors.port,
            near_ports: selectors.local_port,
            directions,
        },
        seed: selectors.seed,
    };
    spec.check()?;
    Ok(Command::Inject(Box::new(inject::Request {
        spec,
        interfaces: unique(selectors.iface),
        netns: selectors.netns.map(netns_path),
        duration: life.duration,
        metrics: life.metrics,
        json: life.json,
        attach: match life.attach {
            Attach::Auto => AttachMode::Auto,
            Attach::Tcx => AttachMode::Tcx,
            Attach::Clsact => AttachMode::Clsact,
        },
        command: life.command,
    })))
}

fn unique(names: Vec<String>) -> Vec<String> {
    let mut unique: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}

/// ip-netns(8) keeps its names in /run/netns; what has a slash is a path.
fn netns_path(name: String) -> PathBuf {
    if name.contains('/') {
        name.into()
    } else {
        PathBuf::from("/run/netns").join(name)
    }
}
