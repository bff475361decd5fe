//! The netem that holders keep, read from their programs.

use std::fmt;

use fault_common::layout::Owner;

use crate::{
    Error,
    error::KernelError,
    interface,
    inventory::{self, Fault},
    namespace::Namespace,
    netem::{
        Netem,
        tc::{self, Command, Handle, Parent, Place, Verb},
    },
};

/// A netem that a living holder keeps.
pub struct Held {
    /// The fault that it is.
    pub fault: Fault,
    /// The handle that it goes by.
    pub handle: Handle,
    netem: Netem,
}

impl Held {
    fn of(fault: Fault) -> Option<Self> {
        let command = fault.command();
        let (handle, netem) = read(command.strip_prefix("tc ")?)?;
        fault.process().is_some().then_some(Self {
            fault,
            handle,
            netem,
        })
    }

    /// Its process: number and start.
    pub fn keeper(&self) -> (u32, u64) {
        (self.fault.owner.pid, self.fault.owner.start_ticks)
    }

    /// Whether it is meant by a place on its interface.
    pub fn is_at(&self, at: &Place) -> bool {
        at.handle.is_none_or(|handle| handle == self.handle)
    }

    /// The line that tc(8) shows of a qdisc like it, if its interface is there; with the
    /// name of that, where none was asked for.
    pub fn line(&self, with_name: bool) -> Result<Option<String>, KernelError> {
        let link = interface::queues(self.fault.owner.ifindex)?;
        Ok(link.map(|(name, queues)| {
            let Self { handle, netem, .. } = self;
            let device = if with_name {
                format!("dev {name} ")
            } else {
                String::new()
            };
            // A root qdisc is held by the interface and by each of its queues.
            let refcnt = queues + 1;
            format!("qdisc netem {handle} {device}root refcnt {refcnt} {netem}")
        }))
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handle, netem, .. } = self;
        write!(f, "netem {handle} {netem}")
    }
}

/// Those of this network namespace, by interface, the latest first.
pub fn all() -> Result<Vec<Held>, KernelError> {
    let own = Namespace::default().inode()?;
    let mut all: Vec<_> = inventory::scan()?
        .into_iter()
        .filter_map(|found| found.fault)
        .filter(|fault| fault.owner.netns_inode == own)
        .filter_map(Held::of)
        .collect();
    all.sort_by_key(|held| {
        let Owner {
            ifindex, since_ns, ..
        } = held.fault.owner;
        (ifindex, std::cmp::Reverse(since_ns))
    });
    Ok(all)
}

/// Those on an interface.
pub fn on(index: u32) -> Result<Vec<Held>, KernelError> {
    let mut on = all()?;
    on.retain(|held| held.fault.owner.ifindex == index);
    Ok(on)
}

/// The command that is kept of netem on an interface: the words that it was asked for with,
/// whatever the verb was, and its handle. Refuses one that could not be read again.
pub fn record(
    words: &[String],
    device: &str,
    handle: Handle,
    netem: &Netem,
) -> Result<String, Error> {
    const ROOM: usize = size_of::<[u8; 256]>() - 1;
    let expected = (handle, netem.clone());
    // An interface may be called so, too.
    (0..words.len())
        .filter(|at| words[*at] == "netem")
        .map(|at| {
            let words = words[at..].join(" ");
            format!("qdisc add dev {device} root handle {handle} {words}")
        })
        .find(|record| read(record).as_ref() == Some(&expected))
        .map(|record| format!("tc {record}"))
        .filter(|record| record.len() <= ROOM)
        .ok_or(Error::NetemTooLong { most: ROOM })
}

/// The other way round.
fn read(record: &str) -> Option<(Handle, Netem)> {
    let words: Vec<_> = record.split(' ').collect();
    match tc::parse(&words) {
        Ok(Command::Set {
            verb: Verb::Add,
            place:
                Place {
                    parent: Some(Parent::Root),
                    handle: Some(handle),
                    ..
                },
            netem,
        }) => Some((handle, netem)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(line: &str) -> Result<String, Error> {
        let words: Vec<_> = line.split(' ').map(String::from).collect();
        let all: Vec<_> = words.iter().map(String::as_str).collect();
        match tc::parse(&all) {
            Ok(Command::Set { place, netem, .. }) => {
                record(&words, &place.device, Handle::FIRST, &netem)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn record_has_the_words_and_a_handle() {
        for (line, expected) in [
            (
                "qdisc add dev eth0 root netem loss 5%",
                "tc qdisc add dev eth0 root handle 8001: netem loss 5%",
            ),
            (
                "q chan dev netem root netem loss gemodel 1% 10%",
                "tc qdisc add dev netem root handle 8001: netem loss gemodel 1% 10%",
            ),
        ] {
            assert_eq!(recorded(line).ok().as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let with = |zeros| {
            let line = format!("qdisc add dev eth0 root netem loss 5.{:0>zeros$}%", "");
            recorded(&line).map(|record| record.len())
        };
        let short = with(1).expect("a short one fits");
        assert_eq!(with(1 + 255 - short).ok(), Some(255));
        assert!(matches!(
            with(1 + 256 - short),
            Err(Error::NetemTooLong { most: 255 })
        ));
    }
}
