//! `down --mode admin|carrier`: the link itself is taken away, and put back with all
//! that the kernel forgets meanwhile. No BPF program takes part.
//!
//! What is there is saved first, on disk and in a watchdog, a process that shares nothing
//! with this one. Whoever of them is left puts the link back.

use std::{cmp::Reverse, ffi::OsString, net::SocketAddr, time::Duration};

use caps::Capability;

use crate::{
    Error,
    control_path::{self, Connection},
    detach::{self, Caller},
    error::KernelError,
    follow::Names,
    inject::runtime,
    metrics,
    namespace::{Namespace, Place},
    privilege,
    session::{Begun, Session},
    signals::Caught,
};

mod held;
mod link;
mod message;
mod object;
mod put_back;
mod restore;
mod saved;
mod socket;
mod state;
pub mod watchdog;

use held::Held;
use link::{Link, affected};
pub use put_back::{LONGEST, end, left, put_back};
pub use saved::Saved;
use saved::SavedLink;
use socket::Socket;
pub use state::{Entry, State, all as entries};

/// Which links are taken away, how and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// How.
    pub mode: LinkMode,
    /// Names of the interfaces, without duplicates; none for every one but loopback.
    pub interfaces: Vec<String>,
    /// The network namespace of the interfaces.
    pub place: Place,
    /// Whether a link that carries the operator's own SSH connection is taken away too.
    pub include_ssh: bool,
    /// When it ends by itself. There is no other end for one who is cut off.
    pub duration: Duration,
    /// Whether a background process holds it, and the command returns.
    pub detached: bool,
    /// When it ends unless a line on stdin confirms it.
    pub confirm: Option<Duration>,
    /// Where to serve metrics.
    pub metrics: Option<SocketAddr>,
    /// JSON lines on stdout.
    pub json: bool,
    /// The child command and its arguments; empty for none.
    pub command: Vec<OsString>,
}

/// How a link is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkMode {
    /// It is set down.
    Admin,
    /// It loses its carrier, where the driver can do that.
    Carrier,
}

impl LinkMode {
    const ALL: [Self; 2] = [Self::Admin, Self::Carrier];

    /// As `--mode` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Carrier => "carrier",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// Takes the links away for their time, or leaves that to a holder, and returns the exit code.
pub fn run(request: &Request) -> Result<i32, Error> {
    if request.detached {
        Ok(detach::run(request.json, |caller| {
            hold(request, Some(caller))
        })?)
    } else {
        hold(request, None)
    }
}

fn hold(request: &Request, caller: Option<Caller>) -> Result<i32, Error> {
    privilege::require(&[Capability::CAP_NET_ADMIN])?;
    if request.place != Place::Own {
        privilege::require(&[privilege::TO_LOOK_AROUND])?;
    }
    let namespace = Namespace::of(&request.place)?;
    let runtime = runtime()?;
    let listener = request.metrics.map(metrics::listen).transpose()?;
    let spared = if request.include_ssh {
        Vec::new()
    } else {
        control_path::find(&namespace)?
    };
    let caught = Caught::of_session(caller.is_some())?;
    let held = Held::begin(request, namespace, &spared)?;
    runtime.block_on(async {
        let kept: &[Capability] = if held.namespace.is_own() {
            &[Capability::CAP_NET_ADMIN]
        } else {
            &privilege::TO_COME_BACK
        };
        let begun = Begun {
            started: held.started(request),
            notes: Vec::new(),
            names: Names::new(),
            caller,
            verbose: None,
            json: request.json,
            command: &request.command,
        };
        Session::start(begun, caught, || {
            privilege::keep(kept)?;
            Ok(Box::new(held))
        })?
        .run(listener)
        .await
    })
}

/// What a fault without a program is on, where others say `tcx`.
pub const HOOK: &str = "link";

/// Whether a link is as the fault wants it.
pub fn is_away(mode: LinkMode, link: &Link) -> bool {
    match mode {
        LinkMode::Admin => !link.up,
        LinkMode::Carrier => !link.carrier,
    }
}

/// Refuses what must not be taken away, before anything is touched: a link that carries
/// a spared connection, that another fault has, or that is away. `targets` are in the
/// calling thread's namespace.
fn check(
    mode: LinkMode,
    targets: &[Link],
    netns: u64,
    spared: &[Connection],
) -> Result<(), KernelError> {
    let cookie = Socket::open()?.netns_cookie()?;
    for target in targets {
        for connection in spared {
            if control_path::carried_by(target.index, &[*connection])? {
                return Err(KernelError::CarriesSsh {
                    name: target.name.clone(),
                    mode: mode.name(),
                    connection: *connection,
                });
            }
        }
        if let Some(entry) = state::read(&state::path(netns, target.index))? {
            vacate(entry, &SavedLink::of(target), cookie)?;
        }
        if is_away(mode, target) {
            return Err(KernelError::LinkDown {
                name: target.name.clone(),
                what: if target.up {
                    "without a carrier"
                } else {
                    "down"
                },
            });
        }
    }
    Ok(())
}

/// The links with these names; without names, all that are there to be taken away. What
/// lies on another one comes behind it, so that it comes back when that is there.
fn find(mode: LinkMode, names: &[String]) -> Result<Vec<Link>, KernelError> {
    let links = Link::all(&mut Socket::open()?)?;
    let mut found = if names.is_empty() {
        let all = links
            .iter()
            .filter(|link| !link.loopback && !is_away(mode, link));
        all.cloned().collect()
    } else {
        named(names, &links)?
    };
    if found.is_empty() {
        return Err(KernelError::OnlyLoopback);
    }
    // Whatever feels it when a link goes feels it when the one below goes, too.
    found.sort_by_key(|link| Reverse(affected(&links, link.index).len()));
    Ok(found)
}

fn named(names: &[String], links: &[Link]) -> Result<Vec<Link>, KernelError> {
    names
        .iter()
        .map(|name| {
            links
                .iter()
                .find(|link| link.name == *name)
                .cloned()
                .ok_or_else(|| KernelError::NoInterface {
                    name: name.clone(),
                    there: links.iter().map(|link| link.name.clone()).collect(),
                })
        })
        .collect()
}

/// Removes what is saved in a link's place, if it is of another link: in another
/// namespace, which had this one's number before. Otherwise the link is taken.
fn vacate(entry: Entry, target: &SavedLink, netns_cookie: u64) -> Result<(), KernelError> {
    let name = target.name.clone();
    let Entry::State(other) = entry else {
        return Err(KernelError::OtherVersion { name });
    };
    let theirs = other.saved.target();
    let is_same = other.saved.netns_cookie == netns_cookie
        && (theirs.index, &theirs.address, &theirs.kind)
            == (target.index, &target.address, &target.kind);
    let alive = [other.saved.controller, other.saved.watchdog]
        .iter()
        .any(|who| who.find().is_some());
    if alive || is_same {
        return Err(KernelError::Taken {
            name,
            pid: other.saved.controller.pid,
            command: other.saved.command.clone(),
            alive,
        });
    }
    match other.claim(Duration::ZERO)? {
        Some(claim) => claim.done(),
        None => Ok(()),
    }
}
