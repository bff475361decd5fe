//! Why a command of tc is not carried out.

use super::super::NetemError;
use super::abbreviates;

/// Why words are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TcError {
    /// Nothing.
    #[error("`tc` ends without a command")]
    NoCommand,
    /// An option of tc itself.
    #[error("`{option}` is an option of tc, and faultctl reads only its commands")]
    Option {
        /// The option.
        option: String,
    },
    /// Neither of the commands for qdiscs.
    #[error("`{verb}` is no command for a netem qdisc")]
    UnknownVerb {
        /// What is in its place.
        verb: String,
    },
    /// Something else of tc's.
    #[error("`{word}` is not netem, and faultctl takes nothing else from tc")]
    NotNetem {
        /// The first word of it.
        word: String,
        /// The command, as typed, with tc in front.
        command: String,
    },
    /// What comes in.
    #[error("`{word}` is no place for netem: tc delays only what leaves")]
    Ingress {
        /// `ingress` or `clsact`.
        word: String,
        /// The command, as typed, with tc in front.
        command: String,
        /// The interface, if it was named before.
        device: Option<String>,
    },
    /// A word that tc takes only in full.
    #[error("`{word}` is not `{name}`: tc takes that word in full only")]
    Abbreviation {
        /// The abbreviation.
        word: String,
        /// The word.
        name: &'static str,
    },
    /// A word without its value.
    #[error("`{name}` ends without {expected}")]
    Missing {
        /// The word.
        name: &'static str,
        /// What is missing.
        expected: &'static str,
    },
    /// A word that can be there once.
    #[error("`{name}` is there twice, or beside another of its kind")]
    Twice {
        /// The word.
        name: &'static str,
    },
    /// No handle.
    #[error("`{word}` after `handle` is not the handle of a qdisc")]
    Handle {
        /// What it is.
        word: String,
    },
    /// No class.
    #[error("`{word}` after `parent` is not the id of a class")]
    Parent {
        /// What it is.
        word: String,
    },
    /// No interface.
    #[error("no interface is named")]
    NoDevice,
    /// No place.
    #[error("neither `root` nor `parent` says where the qdisc is")]
    NoParent,
    /// Nothing to put there.
    #[error("no qdisc is named")]
    NoKind,
    /// A word that `show` does not have.
    #[error("`show` does not take `{word}`")]
    ShowWord {
        /// The word.
        word: String,
    },
    /// Netem's own words.
    #[error(transparent)]
    Netem(#[from] NetemError),
}

/// What tc takes in full only.
const FULL: [&str; 5] = ["dev", "root", "parent", "handle", "netem"];

impl TcError {
    /// What to type instead.
    pub fn hint(&self) -> String {
        match self {
            Self::NoCommand | Self::NoKind | Self::NoDevice => {
                "as in `faultctl tc qdisc add dev eth0 root netem loss 50%`".into()
            }
            Self::Option { option } if abbreviates(option, "-netns") => {
                "`ip netns exec NAME faultctl tc` does it in another namespace".into()
            }
            Self::Option { option } => {
                format!("leave out `{option}`; `faultctl status` shows counters")
            }
            Self::UnknownVerb { .. } => {
                "the commands are `add`, `change`, `replace`, `del` and `show`".into()
            }
            Self::NotNetem { command, .. } => {
                format!("type it without `faultctl` in front: `{command}`")
            }
            Self::Ingress {
                command, device, ..
            } => {
                let device = device.as_deref().unwrap_or("NAME");
                format!(
                    "`faultctl netem 'delay 100ms' --iface {device} --direction ingress` takes \
                     what comes in; the qdisc itself is `{command}`"
                )
            }
            Self::Abbreviation { name, .. } => format!("write `{name}`"),
            Self::Missing { name: "dev", .. } => "`ip link` shows their names".into(),
            Self::Missing { name: "handle", .. } | Self::Handle { .. } => {
                "a handle is a number in hexadecimal and a colon, from `1:` to `ffff:`".into()
            }
            Self::Missing { .. } | Self::Parent { .. } => {
                "a class is two numbers in hexadecimal with a colon between them, as in `1:3`"
                    .into()
            }
            Self::Twice { name } => format!("leave out one `{name}`"),
            Self::NoParent => "write `root` after the name of the interface".into(),
            Self::ShowWord { .. } => "as in `faultctl tc qdisc show dev eth0`".into(),
            Self::Netem(NetemError::UnknownWord { word }) if FULL.contains(&word.as_str()) => {
                format!("write `{word}` before `netem`")
            }
            Self::Netem(error) => error.hint(),
        }
    }

    /// For a word that begins something else than netem.
    pub(super) fn not_netem(word: &str, all: &[&str]) -> Self {
        Self::NotNetem {
            word: word.into(),
            command: command(all),
        }
    }

    /// For a word in front of netem's that is not known there.
    pub(super) fn unknown(word: &str, all: &[&str]) -> Self {
        match FULL.iter().find(|name| abbreviates(word, name)) {
            Some(name) => Self::Abbreviation {
                word: word.into(),
                name,
            },
            None => Self::not_netem(word, all),
        }
    }

    /// For the hook of what comes in.
    pub(super) fn ingress(word: &str, all: &[&str], device: Option<String>) -> Self {
        Self::Ingress {
            word: word.into(),
            command: command(all),
            device,
        }
    }
}

fn command(words: &[&str]) -> String {
    format!("tc {}", words.join(" "))
}
