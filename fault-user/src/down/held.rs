//! Links that are taken away, for as long as their fault lives.

use std::time::Duration;

use fault_common::layout::{Direction, Fault};
use ipnet::IpNet;

use super::{
    HOOK, LinkMode, Request, check, find, is_away,
    link::Link,
    put_back::{LONGEST, put_back},
    saved::{self, Saved},
    socket::Socket,
    state::{self, State},
    vacate,
    watchdog::Watchdog,
};
use crate::{
    active,
    clock::{self, boot_ns, nanos},
    control_path::Connection,
    error::{Error, KernelError},
    inject::command_line,
    namespace::Namespace,
    report::{Started, StartedRule, Stopped},
    session::InForce,
    signals,
    snapshot::{LinkAway, Snapshot},
};

/// Links that are taken away, since one moment and until another.
pub struct Held {
    mode: LinkMode,
    /// Where they are.
    pub namespace: Namespace,
    states: Vec<State>,
    /// Those that came back, or are gone.
    lost: Vec<String>,
    watchdog: Watchdog,
    since_ns: u64,
    until_ns: u64,
    /// When it ends, until somebody confirms it.
    confirm_until_ns: Option<u64>,
}

impl Held {
    /// Takes all links away, or none; none that carries a spared connection.
    pub fn begin(
        request: &Request,
        namespace: Namespace,
        spared: &[Connection],
    ) -> Result<Self, KernelError> {
        let netns = namespace.inode()?;
        let targets = namespace.run(|| {
            let targets = find(request.mode, &request.interfaces)?;
            check(request.mode, &targets, netns, spared)?;
            Ok::<_, KernelError>(targets)
        })?;
        let paths = targets
            .iter()
            .map(|target| state::path(netns, target.index));
        let watchdog = Watchdog::start(paths)?;
        let since_ns = boot_ns();
        let after = |time| since_ns.saturating_add(nanos(time));
        let mut held = Self {
            mode: request.mode,
            namespace,
            states: Vec::new(),
            lost: Vec::new(),
            watchdog,
            since_ns,
            until_ns: after(request.duration),
            confirm_until_ns: request.confirm.map(after),
        };
        held.save(&targets, netns)?;
        held.watchdog.arm()?;
        held.take_away()?;
        Ok(held)
    }

    fn save(&mut self, targets: &[Link], netns: u64) -> Result<(), KernelError> {
        let command = command_line();
        let fault = saved::Fault {
            mode: self.mode,
            watchdog: self.watchdog.who(),
            uid: active::caller(),
            command: &command,
            until_ns: self.until_ns,
            confirm_until_ns: self.confirm_until_ns,
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
        let (back, error) = put_back(&std::mem::take(&mut self.states), false, LONGEST);
        self.watchdog.dismiss();
        let by_another = back
            .by_another
            .iter()
            .map(|name| format!("`{name}` was put back by the watchdog or by `clear`"));
        let notes = by_another.chain(back.notes).collect();
        let what = back.failed;
        let refused = (!what.is_empty()).then_some(KernelError::NotPutBack { what });
        (notes, error.or(refused))
    }

    /// What is told first.
    pub fn started(&self, request: &Request) -> Started {
        Started {
            rules: self
                .states
                .iter()
                .map(|state| StartedRule {
                    rule: Fault::Down.name().into(),
                    fault: Fault::Down.name().into(),
                    iface: state.saved.target().name.clone(),
                    directions: Direction::ALL.map(Direction::name).to_vec(),
                    asked: self.mode.name().into(),
                    hook: HOOK.into(),
                })
                .collect(),
            pid: std::process::id(),
            detached: request.detached,
            memory: 0,
            seed: None,
            until: Some(clock::wall(self.until_ns)),
            confirm_until: self.confirm_until_ns.map(clock::wall),
            spared: Vec::new(),
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

impl Drop for Held {
    /// However its life ends short of the process's.
    fn drop(&mut self) {
        if !self.states.is_empty() {
            self.give_back();
        }
    }
}

impl InForce for Held {
    fn until_ns(&self) -> Option<u64> {
        Some(self.until_ns)
    }

    fn confirm_until_ns(&self) -> Option<u64> {
        self.confirm_until_ns
    }

    fn confirmed(&mut self) {
        self.confirm_until_ns = None;
        self.watchdog.confirmed();
    }

    /// It takes links, whatever is at the far end.
    fn readdress(&mut self, _: &str, _: &[IpNet]) -> Result<(), Error> {
        Ok(())
    }

    fn lost(&mut self) -> Vec<String> {
        // Its time is over, and whoever did not wait for this process was right.
        let end_ns = self.confirm_until_ns.unwrap_or(u64::MAX).min(self.until_ns);
        if boot_ns() >= end_ns {
            return Vec::new();
        }
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
            links: self
                .states
                .iter()
                .map(|state| state.saved.target().name.clone())
                .filter(|iface| !self.lost.contains(iface))
                .map(|iface| LinkAway {
                    iface,
                    mode: self.mode,
                })
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

/// Writes the state, unless the link is taken already.
fn place(saved: &Saved) -> Result<State, KernelError> {
    loop {
        match State::write(saved.clone())? {
            Ok(state) => return Ok(state),
            Err(other) => {
                vacate(other, saved.target(), saved.netns_cookie)?;
            }
        }
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
