//! Puts a link back as it was saved: whatever was there and is not there now.
//!
//! What is there already is left as it is, so that it does no harm to do it twice.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io,
    time::{Duration, Instant},
};

use super::{
    LinkMode, is_away,
    link::Link,
    message::Message,
    object::{self, Class, Maker},
    put_back::Left,
    saved::{Saved, objects},
    socket::{Changes, Socket},
};
use crate::error::{KernelError, chain};

/// How long the kernel may take to make again what only it can: a carrier, the check for
/// duplicate addresses, an answer from a router.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// What is not as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// What was refused, and why.
    pub failed: Vec<String>,
    /// What only the kernel can make, and has not made.
    pub kernel: Vec<String>,
}

/// Puts it back. Runs in the link's namespace.
pub fn restore(saved: &Saved, patience: Duration) -> Result<Missing, KernelError> {
    match attempt(saved, patience) {
        Ok(missing) if missing.failed.is_empty() => Ok(missing),
        // It may have gone in the middle of it.
        refused => saved.target_now(&mut Socket::open()?).and(refused),
    }
}

fn attempt(saved: &Saved, patience: Duration) -> Result<Missing, KernelError> {
    // Before the first change, so that none is missed.
    let changes = Changes::hear()?;
    let mut socket = Socket::open()?;
    let target = saved.target_now(&mut socket)?;
    let set = match saved.mode {
        LinkMode::Admin if target.up => Ok(()),
        LinkMode::Admin => target.set_up(&mut socket, true),
        LinkMode::Carrier if target.carrier => Ok(()),
        LinkMode::Carrier => target.set_carrier(&mut socket, true),
    };
    set.map_err(|source| KernelError::PutBack {
        name: target.name.clone(),
        source,
    })?;
    let mut replay = Replay {
        saved,
        socket,
        settled: HashSet::new(),
        refused: BTreeMap::new(),
    };
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let pass = replay.pass(left.is_zero())?;
        if pass.progress && !left.is_zero() {
            continue;
        }
        if left.is_zero() || pass.pending.is_empty() {
            return Ok(Missing {
                failed: replay
                    .refused
                    .into_values()
                    .map(|(what, error)| format!("{what}: {}", chain(&error)))
                    .collect(),
                kernel: pass.pending,
            });
        }
        // Bounded: a message that was lost is no change that was not made.
        changes.wait(left.min(Duration::from_millis(500)))?;
    }
}

/// What of a saved state is not there now. Runs in the link's namespace.
pub fn look(saved: &Saved) -> Result<Left, KernelError> {
    let mut socket = Socket::open()?;
    let target = saved.target_now(&mut socket)?;
    let now = Now::read(saved, &mut socket)?;
    let mut missing: Vec<_> = now.links_pending(saved);
    missing.extend(
        now.lost(saved)
            .filter(|message| object::maker(message, &saved.accepts_ra) != Maker::Random)
            .map(|message| now.describe(message)),
    );
    Ok(Left {
        away: is_away(saved.mode, &target),
        name: Some(target.name),
        missing,
    })
}

/// Messages that were sent, and what came of them.
struct Replay<'a> {
    saved: &'a Saved,
    socket: Socket,
    /// What was made or was there: what goes afterwards is somebody else's doing.
    settled: HashSet<Vec<u8>>,
    refused: BTreeMap<Vec<u8>, (String, io::Error)>,
}

struct Pass {
    /// Whether anything was made, on which more may build.
    progress: bool,
    /// What is waited for.
    pending: Vec<String>,
}

impl Replay<'_> {
    fn pass(&mut self, last: bool) -> Result<Pass, KernelError> {
        let mut progress = self.links()?;
        let now = Now::read(self.saved, &mut self.socket)?;
        let mut pending = now.links_pending(self.saved);
        pending.extend(now.tentative());
        let (by_kernel, by_user): (Vec<_>, Vec<_>) = now
            .lost(self.saved)
            .filter(|message| !self.settled.contains(&object::identity(message)))
            .map(|message| (object::maker(message, &self.saved.accepts_ra), message))
            .filter(|(maker, _)| *maker != Maker::Random)
            .partition(|(maker, _)| *maker == Maker::Kernel);
        pending.extend(
            by_kernel
                .iter()
                // What had run out by now is not missed.
                .filter(|(_, message)| object::again(message, self.saved.gone()).is_some())
                .map(|(_, message)| now.describe(message)),
        );
        // IPv6 lists the newest address first.
        let (v6, rest): (Vec<_>, Vec<_>) = by_user.into_iter().partition(|(_, message)| {
            Class::of(message) == Some(Class::Address) && message.header[0] == object::V6
        });
        for (maker, message) in v6.into_iter().rev().chain(rest) {
            if maker == Maker::KernelOrUser && !pending.is_empty() && !last {
                continue;
            }
            progress |= self.put_back(message, &now);
        }
        Ok(Pass { progress, pending })
    }

    fn put_back(&mut self, message: &Message, now: &Now) -> bool {
        let identity = object::identity(message);
        let Some(again) = object::again(message, self.saved.gone()) else {
            self.settled.insert(identity);
            return false;
        };
        let flags = Class::of(message).map_or(0, |class| class.flags(message));
        match self.socket.request(&again, flags) {
            Ok(()) => {
                self.refused.remove(&identity);
                self.settled.insert(identity)
            }
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                self.refused.remove(&identity);
                self.settled.insert(identity);
                false
            }
            Err(error) => {
                let what = now.describe(message);
                self.refused.insert(identity, (what, error));
                false
            }
        }
    }

    /// Links on top may have been set down along with this one, or all of them up.
    fn links(&mut self) -> Result<bool, KernelError> {
        let links = Link::all(&mut self.socket)?;
        let mut changed = false;
        for saved in &self.saved.links[1..] {
            if let Some(link) = saved.now(&links)
                && link.up != saved.up
            {
                changed |= link.set_up(&mut self.socket, saved.up).is_ok();
            }
        }
        Ok(changed)
    }
}

/// How it is now.
struct Now {
    links: Vec<Link>,
    there: HashSet<Vec<u8>>,
    objects: Vec<Message>,
    tentative_before: HashSet<Vec<u8>>,
}

impl Now {
    fn read(saved: &Saved, socket: &mut Socket) -> Result<Self, KernelError> {
        let links = Link::all(socket)?;
        let on: BTreeSet<u32> = saved.links.iter().map(|link| link.index).collect();
        let objects = objects(socket, &links, &on)?;
        let tentative = saved.objects.iter().filter(|it| object::is_tentative(it));
        Ok(Self {
            there: objects.iter().map(object::identity).collect(),
            tentative_before: tentative.map(object::identity).collect(),
            links,
            objects,
        })
    }

    /// What was there and is not, on links that are.
    fn lost<'a>(&'a self, saved: &'a Saved) -> impl Iterator<Item = &'a Message> {
        let links: BTreeSet<u32> = saved
            .links
            .iter()
            .filter(|link| link.now(&self.links).is_none())
            .map(|link| link.index)
            .collect();
        saved.objects.iter().filter(move |message| {
            let on_a_link_that_is_gone = object::interfaces(message)
                .iter()
                .any(|index| links.contains(index));
            !on_a_link_that_is_gone && !self.there.contains(&object::identity(message))
        })
    }

    /// Carriers that were there and are not.
    fn links_pending(&self, saved: &Saved) -> Vec<String> {
        let lost = saved.links.iter().filter(|link| {
            let now = link.now(&self.links);
            link.running && now.is_some_and(|now| !(now.carrier && now.running))
        });
        lost.map(|link| format!("carrier of `{}`", link.name))
            .collect()
    }

    /// Addresses that cannot be used yet and could before.
    fn tentative(&self) -> Vec<String> {
        self.objects
            .iter()
            .filter(|it| object::is_tentative(it))
            .filter(|it| !self.tentative_before.contains(&object::identity(it)))
            .map(|it| format!("{}, still checked for duplicates", self.describe(it)))
            .collect()
    }

    fn describe(&self, message: &Message) -> String {
        let names: Vec<String> = object::interfaces(message)
            .iter()
            .filter_map(|index| self.links.iter().find(|link| link.index == *index))
            .map(|link| format!("`{}`", link.name))
            .collect();
        match names.len() {
            0 => object::describe(message),
            _ => format!("{} on {}", object::describe(message), names.join(" and ")),
        }
    }
}
