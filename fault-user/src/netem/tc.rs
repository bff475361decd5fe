//! tc(8)'s commands for a netem qdisc, as they are typed.
//!
//! The order, the abbreviations and the refusals are those of iproute2 6.1. Nothing is
//! looked up: whether there is such an interface, and whether a fault is on it, is for
//! who carries the command out.

use super::{Netem, parse::abbreviates};

mod error;
mod id;

pub use error::TcError;
pub use id::{Handle, Parent};

/// A command.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of it, or a few, at a time"
)]
pub enum Command {
    /// Puts netem somewhere, or changes it.
    Set {
        /// Which of the two.
        verb: Verb,
        /// Where.
        place: Place,
        /// What it shall do.
        netem: Netem,
    },
    /// Takes netem away.
    Delete(Place),
    /// Shows what is there: all of it, or what is in this place.
    Show {
        /// The interface.
        device: Option<String>,
        /// What it hangs on.
        parent: Option<Parent>,
        /// Its handle.
        handle: Option<Handle>,
    },
}

/// What becomes of what is there, and of what is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Fails where a qdisc is.
    Add,
    /// Fails where none is.
    Change,
    /// Never fails for either.
    Replace,
}

/// Where a qdisc is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The interface.
    pub device: String,
    /// What it hangs on. To change a qdisc, its handle is enough.
    pub parent: Option<Parent>,
    /// Its handle.
    pub handle: Option<Handle>,
}

/// Reads the words after `tc`.
pub fn parse(words: &[&str]) -> Result<Command, TcError> {
    let (object, rest) = words.split_first().ok_or(TcError::NoCommand)?;
    if object.starts_with('-') {
        return Err(TcError::Option {
            option: (*object).into(),
        });
    }
    if !abbreviates(object, "qdisc") {
        return Err(TcError::not_netem(object, words));
    }
    let Some((name, rest)) = rest.split_first() else {
        return show(words, &[]);
    };
    let verb = VERBS
        .iter()
        .find(|(verb, _)| abbreviates(name, verb))
        .and_then(|(_, verb)| *verb)
        .ok_or_else(|| TcError::UnknownVerb {
            verb: (*name).into(),
        })?;
    match verb {
        AnyVerb::Set(verb) => set(words, verb, rest),
        AnyVerb::Delete => delete(words, rest),
        AnyVerb::Show => show(words, rest),
    }
}

#[derive(Clone, Copy)]
enum AnyVerb {
    Set(Verb),
    Delete,
    Show,
}

/// In tc's order: an abbreviation means the first that it begins. `link` is one of tc's
/// that nobody types, but `l` and `li` mean it.
const VERBS: [(&str, Option<AnyVerb>); 8] = [
    ("add", Some(AnyVerb::Set(Verb::Add))),
    ("change", Some(AnyVerb::Set(Verb::Change))),
    ("replace", Some(AnyVerb::Set(Verb::Replace))),
    ("link", None),
    ("delete", Some(AnyVerb::Delete)),
    ("list", Some(AnyVerb::Show)),
    ("show", Some(AnyVerb::Show)),
    ("lst", Some(AnyVerb::Show)),
];

fn set(all: &[&str], verb: Verb, rest: &[&str]) -> Result<Command, TcError> {
    let head = Head::parse(all, rest)?;
    let netem = head.netem.ok_or(TcError::NoKind)?;
    let device = head.device.ok_or(TcError::NoDevice)?;
    if head.parent.is_none() && head.handle.is_none() {
        return Err(TcError::NoParent);
    }
    Ok(Command::Set {
        verb,
        place: Place {
            device,
            parent: head.parent,
            handle: head.handle,
        },
        netem,
    })
}

fn delete(all: &[&str], rest: &[&str]) -> Result<Command, TcError> {
    let head = Head::parse(all, rest)?;
    let device = head.device.ok_or(TcError::NoDevice)?;
    if head.parent.is_none() {
        return Err(TcError::NoParent);
    }
    Ok(Command::Delete(Place {
        device,
        parent: head.parent,
        handle: head.handle,
    }))
}

fn show(all: &[&str], rest: &[&str]) -> Result<Command, TcError> {
    // The default qdiscs that it adds to the answer are not ours.
    let visible: Vec<_> = rest.iter().copied().filter(|w| *w != "invisible").collect();
    let head = Head::parse(all, &visible).map_err(|error| match error {
        TcError::NotNetem { word, .. } => TcError::ShowWord { word },
        other => other,
    })?;
    if head.netem.is_some() {
        let word = "netem".into();
        return Err(TcError::ShowWord { word });
    }
    Ok(Command::Show {
        device: head.device,
        parent: head.parent,
        handle: head.handle,
    })
}

/// What is in front of netem's words, and those.
#[derive(Default)]
struct Head {
    device: Option<String>,
    parent: Option<Parent>,
    handle: Option<Handle>,
    netem: Option<Netem>,
}

impl Head {
    fn parse(all: &[&str], rest: &[&str]) -> Result<Self, TcError> {
        let mut head = Self::default();
        let mut words = rest.iter();
        while let Some(word) = words.next() {
            let mut value = |name, expected| {
                words
                    .next()
                    .copied()
                    .ok_or(TcError::Missing { name, expected })
            };
            match *word {
                "dev" => {
                    let device = value("dev", "the name of an interface")?;
                    once("dev", &mut head.device, Some(device.into()))?;
                }
                "handle" => {
                    let handle = Handle::parse(value("handle", "a number and a colon")?)?;
                    once("handle", &mut head.handle, handle)?;
                }
                "parent" => {
                    let parent = Parent::parse(value("parent", "the id of a class")?)?;
                    once("parent", &mut head.parent, parent)?;
                }
                "root" => once("root", &mut head.parent, Some(Parent::Root))?,
                "netem" => {
                    head.netem = Some(super::parse(words.as_slice())?);
                    break;
                }
                "ingress" | "clsact" => return Err(TcError::ingress(word, all, head.device)),
                _ => return Err(TcError::unknown(word, all)),
            }
        }
        Ok(head)
    }
}

/// Sets what is not set yet. tc's `none` is nothing.
fn once<T>(name: &'static str, slot: &mut Option<T>, value: Option<T>) -> Result<(), TcError> {
    if slot.is_some() {
        return Err(TcError::Twice { name });
    }
    *slot = value;
    Ok(())
}

#[cfg(test)]
mod tests;
