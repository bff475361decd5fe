//! `down --mode admin|carrier`: the link itself is taken away, and put back with all
//! that the kernel forgets meanwhile. No BPF program takes part.
//!
//! What is there is saved first, on disk and in a watchdog, a process that shares nothing
//! with this one. Whoever of them is left puts the link back.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use caps::Capability;
use fault_common::layout::{Counters, Direction, Fault};
use rustix::process::Signal;

use crate::{
    Error, active,
    clock::{self, boot_ns, nanos},
    error::KernelError,
    inject::{command_line, runtime},
    metrics,
    namespace::Namespace,
    privilege,
    report::{Started, StartedRule, Stopped},
    session::{self, InForce, Session},
    signals::{self, Caught},
    snapshot::{RuleCount, Snapshot},
};

mod link;
mod message;
mod object;
mod restore;
mod saved;
mod socket;
mod state;
pub mod watchdog;

use link::Link;
pub use restore::PATIENCE;
pub use saved::Saved;
use socket::Socket;
pub use state::{Entry, State, all as entries};
use watchdog::Watchdog;

/// Which links are taken away, how and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// How.
    pub mode: LinkMode,
    /// Names of the interfaces, without duplicates, in the order given.
    pub interfaces: Vec<String>,
    /// The network namespace of the interfaces, or the caller's own.
    pub netns: Option<PathBuf>,
    /// When it ends by itself. There is no other end for one who is cut off.
    pub duration: Duration,
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

/// Takes the links away for their time and returns the exit code.
pub fn run(request: &Request) -> Result<i32, Error> {
    let namespace = request
        .netns
        .as_deref()
        .map_or_else(Namespace::default, Namespace::named);
    privilege::require(&[Capability::CAP_NET_ADMIN])?;
    if !namespace.is_own() {
        privilege::require(&[privilege::TO_LOOK_AROUND])?;
    }
    let runtime = runtime()?;
    let listener = request.metrics.map(metrics::listen).transpose()?;
    let caught = Caught::new()?;
    let downs = Downs::begin(request, namespace)?;
    runtime.block_on(async {
        let kept: &[Capability] = if downs.namespace.is_own() {
            &[Capability::CAP_NET_ADMIN]
        } else {
            &privilege::TO_COME_BACK
        };
        let begun = session::Begun {
            started: downs.started(request),
            json: request.json,
            command: &request.command,
        };
        Session::start_with(&begun, caught, || {
            privilege::keep(kept)?;
            Ok(Box::new(downs))
        })?
        .run(listener)
        .await
    })
}

/// Links that are taken away, since one moment and until another.
struct Downs {
    mode: LinkMode,
    namespace: Namespace,
    states: Vec<State>,
    /// Those that came back, or are gone.
    lost: Vec<String>,
    watchdog: Watchdog,
    since_ns: u64,
    until_ns: u64,
}

impl Downs {
    /// Takes all links away, or none.
    fn begin(request: &Request, namespace: Namespace) -> Result<Self, KernelError> {
        let netns = namespace.inode()?;
        let targets = namespace.run(|| {
            let targets = find(&request.interfaces)?;
            check(request.mode, &targets, netns)?;
            Ok::<_, KernelError>(targets)
        })?;
        let paths = targets
            .iter()
            .map(|target| state::path(netns, target.index));
        let watchdog = Watchdog::start(paths)?;
        let since_ns = boot_ns();
        let mut downs = Self {
            mode: request.mode,
            namespace,
            states: Vec::new(),
            lost: Vec::new(),
            watchdog,
            since_ns,
            until_ns: since_ns.saturating_add(nanos(request.duration)),
        };
        downs.save(&targets, netns)?;
        downs.watchdog.arm()?;
        downs.take_away()?;
        Ok(downs)
    }

    fn save(&mut self, targets: &[Link], netns: u64) -> Result<(), KernelError> {
        let command = command_line();
        let fault = saved::Fault {
            mode: self.mode,
            watchdog: self.watchdog.who(),
            uid: active::caller(),
            command: &command,
            until_ns: self.until_ns,
            namespace: &self.namespace,
            netns,
        };
        for target in targets {
            let saved = self.namespace.run(|| {
                let mut socket = Socket::open()?;
                let links = Link::all(&mut socket)?;
                Saved::take(&mut socket, &links, target, &fault)
            })?;
            self.states.push(place(&saved)?);
        }
        Ok(())
    }

    fn take_away(&self) -> Result<(), KernelError> {
        self.namespace.run(|| {
            let mut socket = Socket::open()?;
            let links = Link::all(&mut socket)?;
            for state in &self.states {
                if signals::pending() {
                    return Err(KernelError::Interrupted);
                }
                let target = state.saved.target();
                let link = target.now(&links).ok_or_else(|| KernelError::LinkGone {
                    name: target.name.clone(),
                })?;
                match self.mode {
                    LinkMode::Admin => link.set_up(&mut socket, false),
                    LinkMode::Carrier => link.set_carrier(&mut socket, false),
                }
                .map_err(|source| refused(self.mode, link, source))?;
            }
            Ok(())
        })
    }

    /// Puts everything back, and says what is not as it was.
    fn give_back(&mut self) -> (Vec<String>, Option<KernelError>) {
        self.watchdog.ending();
        let (mut notes, mut failed, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for state in std::mem::take(&mut self.states) {
            match put_back(&state, false) {
                Ok(back) => {
                    notes.extend(back.notes);
                    failed.extend(back.failed);
                }
                Err(error) => errors.push(error),
            }
        }
        self.watchdog.dismiss();
        let error = errors
            .pop()
            .or_else(|| (!failed.is_empty()).then_some(KernelError::NotPutBack { what: failed }));
        (notes, error)
    }

    fn started(&self, request: &Request) -> Started {
        Started {
            rules: self
                .states
                .iter()
                .map(|state| StartedRule {
                    rule: Fault::Down.name().into(),
                    fault: Fault::Down.name(),
                    iface: state.saved.target().name.clone(),
                    directions: Direction::ALL.map(Direction::name).to_vec(),
                    asked: self.mode.name().into(),
                    hook: HOOK,
                })
                .collect(),
            pid: std::process::id(),
            seed: None,
            until: Some(clock::wall(self.until_ns)),
            command: request
                .command
                .first()
                .map(|program| program.to_string_lossy().into_owned()),
        }
    }

    fn look(&mut self) -> Result<Vec<String>, KernelError> {
        let links = match self.namespace.run(|| Link::all(&mut Socket::open()?)) {
            Err(error) if error.is_missing_namespace() => Vec::new(),
            links => links?,
        };
        let lost: Vec<String> = self
            .states
            .iter()
            .map(|state| state.saved.target())
            .filter(|target| !self.lost.contains(&target.name))
            .filter(|target| {
                !target
                    .now(&links)
                    .is_some_and(|now| is_away(self.mode, now))
            })
            .map(|target| target.name.clone())
            .collect();
        self.lost.extend(lost.iter().cloned());
        Ok(lost)
    }
}

impl Drop for Downs {
    /// However its life ends short of the process's.
    fn drop(&mut self) {
        if !self.states.is_empty() {
            self.give_back();
        }
    }
}

impl InForce for Downs {
    fn until_ns(&self) -> Option<u64> {
        Some(self.until_ns)
    }

    fn lost(&mut self) -> Vec<String> {
        if !self.watchdog.is_alive() {
            let all = self
                .states
                .iter()
                .map(|state| state.saved.target().name.clone());
            self.lost = all.collect();
            return self.lost.clone();
        }
        // What cannot be seen is not gone.
        self.look().unwrap_or_default()
    }

    fn any_left(&self) -> bool {
        self.lost.len() < self.states.len()
    }

    fn gone(&mut self, name: String) -> KernelError {
        if self.watchdog.is_alive() {
            KernelError::LinkBack { name }
        } else {
            KernelError::Watchdog
        }
    }

    fn snapshot(&self) -> Result<Snapshot, KernelError> {
        Ok(Snapshot {
            counts: self
                .states
                .iter()
                .filter(|state| !self.lost.contains(&state.saved.target().name))
                .flat_map(|state| counts(&state.saved))
                .collect(),
            ..Snapshot::default()
        })
    }

    fn end(&mut self, reason: &'static str) -> (Result<Stopped, KernelError>, Option<KernelError>) {
        let ran = Duration::from_nanos(boot_ns() - self.since_ns);
        self.lost.clear();
        let snapshot = self.snapshot();
        let (notes, error) = self.give_back();
        let stopped = snapshot.map(|snapshot| Stopped {
            reason,
            ran,
            snapshot,
            notes,
        });
        (stopped, error)
    }
}

/// What the rules of a BPF program are attached to, for a fault without one.
pub const HOOK: &str = "link";

/// Rules of a saved link: the kernel does not count what a link that is down loses.
pub fn counts(saved: &Saved) -> impl Iterator<Item = RuleCount> {
    Direction::ALL.into_iter().map(|direction| RuleCount {
        rule: Fault::Down.name().into(),
        fault: Fault::Down,
        iface: saved.target().name.clone(),
        direction,
        asked: saved.mode.name().into(),
        probability: None,
        counters: Counters::default(),
    })
}

/// What is left of a fault, for those who look at it from outside.
#[derive(Debug, Default)]
pub struct Left {
    /// Whether the link is away.
    pub away: bool,
    /// What is not as it was.
    pub missing: Vec<String>,
}

/// Looks at a link that was taken away.
pub fn left(saved: &Saved) -> Result<Left, KernelError> {
    let looked = match saved.namespace() {
        Some(namespace) => namespace.run(|| restore::look(saved)),
        None => Ok(Left::default()),
    };
    match looked {
        Err(KernelError::LinkGone { .. } | KernelError::OtherLink { .. }) => Ok(Left::default()),
        Err(error) if error.is_missing_namespace() => Ok(Left::default()),
        looked => looked,
    }
}

/// Ends the processes of a fault, waits until one of them has put the link back, and does
/// it itself if none did.
pub fn end(state: &State) -> Result<PutBack, KernelError> {
    /// More than putting back may take.
    const LONGEST: Duration = PATIENCE.saturating_add(Duration::from_secs(2));
    const SHORT: Duration = Duration::from_secs(2);
    let saved = &state.saved;
    if let Some(process) = saved.controller.find() {
        process.signal(Signal::TERM)?;
        // A stopped process has to run to end.
        process.signal(Signal::CONT)?;
        if !process.wait(LONGEST)? {
            process.signal(Signal::KILL)?;
            process.wait(SHORT)?;
        }
    }
    // By now it is dismissed, at work, or does not get to run.
    if let Some(process) = saved.watchdog.find() {
        process.signal(Signal::CONT)?;
        if !process.wait(LONGEST)? {
            process.signal(Signal::KILL)?;
            process.wait(SHORT)?;
        }
    }
    put_back(state, true)
}

/// What came of putting a link back.
#[derive(Debug, Default)]
pub struct PutBack {
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// What was refused.
    pub failed: Vec<String>,
}

/// Puts a link back, unless somebody else has done it. The file stays if something was
/// refused, for `clear` to try again; after the `last` attempt it does not.
pub fn put_back(state: &State, last: bool) -> Result<PutBack, KernelError> {
    let name = &state.saved.target().name;
    let mut back = PutBack::default();
    let Some(claim) = state.claim(PATIENCE * 2)? else {
        return Ok(back);
    };
    let restored = match state.saved.namespace() {
        Some(namespace) => namespace.run(|| restore::restore(&state.saved, PATIENCE)),
        None => Err(KernelError::LinkGone { name: name.clone() }),
    };
    match restored {
        Ok(missing) => {
            back.failed = missing.failed;
            back.notes.extend(missing.kernel.into_iter().map(|what| {
                format!("only the kernel can make it again, and has not so far: {what}")
            }));
        }
        // There is nothing to put anything on.
        Err(error @ (KernelError::LinkGone { .. } | KernelError::OtherLink { .. })) => {
            back.notes.push(error.to_string());
        }
        Err(error) if error.is_missing_namespace() => back.notes.push(error.to_string()),
        Err(error) => return Err(error),
    }
    if back.failed.is_empty() || last {
        claim.done()?;
    }
    Ok(back)
}

/// Writes the state, unless the link is taken already.
fn place(saved: &Saved) -> Result<State, KernelError> {
    loop {
        match State::write(saved.clone())? {
            Ok(state) => return Ok(state),
            Err(other) => {
                let target = saved.target();
                vacate(other, &target.name, &target.address, &target.kind)?;
            }
        }
    }
}

/// Removes what is saved in a link's place, if it is of another link: in another
/// namespace, which had this one's number before. Otherwise the link is taken.
fn vacate(entry: Entry, name: &str, address: &[u8], kind: &str) -> Result<(), KernelError> {
    let Entry::State(other) = entry else {
        return Err(KernelError::OtherVersion { name: name.into() });
    };
    let theirs = other.saved.target();
    let alive = [other.saved.controller, other.saved.watchdog]
        .iter()
        .any(|who| who.find().is_some());
    if alive || (theirs.address == address && theirs.kind == kind) {
        return Err(KernelError::Taken {
            name: name.into(),
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

/// The kernel's answer to taking a link away.
fn refused(mode: LinkMode, link: &Link, source: std::io::Error) -> KernelError {
    let name = link.name.clone();
    match mode {
        LinkMode::Carrier if source.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            KernelError::NoCarrierSwitch {
                name,
                kind: link.kind.clone(),
            }
        }
        _ => KernelError::TakeAway { name, source },
    }
}

/// Whether a link is as the fault wants it.
pub fn is_away(mode: LinkMode, link: &Link) -> bool {
    match mode {
        LinkMode::Admin => !link.up,
        LinkMode::Carrier => !link.carrier,
    }
}

/// Refuses what must not be taken away. The place for whatever has to be known of an
/// interface before: nothing has been touched here, and `targets` are in the calling
/// thread's namespace.
fn check(mode: LinkMode, targets: &[Link], netns: u64) -> Result<(), KernelError> {
    for target in targets {
        if let Some(entry) = state::read(&state::path(netns, target.index))? {
            vacate(entry, &target.name, &target.address, &target.kind)?;
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

fn find(names: &[String]) -> Result<Vec<Link>, KernelError> {
    let links = Link::all(&mut Socket::open()?)?;
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
