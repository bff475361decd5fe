//! Everything that can go wrong, with what to type next.

use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

use ipnet::IpNet;

use crate::{
    netem::{
        DistributionError, NetemError,
        tc::{Parent, TcError},
    },
    spec::{BurstLength, Percent, ValueError},
};

mod kernel;

pub use kernel::KernelError;

/// What went wrong. The text is lower case, without a full stop, objects in
/// backticks; causes are in the source chain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line could not be read.
    #[error("{message}")]
    Usage {
        /// What is wrong with it.
        message: String,
        /// What to type instead.
        hint: Option<String>,
        /// Why a value was refused.
        #[source]
        source: Option<ValueError>,
    },

    /// Ports were named, and only protocols that have none.
    #[error("`{option}` selects ports, but none of the protocols in `--proto` has ports")]
    NoPorts {
        /// `--port` or `--local-port`.
        option: &'static str,
    },
    /// More port ranges than a rule holds.
    #[error("{count} separate port ranges in `{option}`, and a rule holds {limit}")]
    TooManyPortRanges {
        /// `--port` or `--local-port`.
        option: &'static str,
        /// How many there are after merging.
        count: usize,
        /// How many fit.
        limit: usize,
    },
    /// More near-end networks than a rule holds.
    #[error("{count} separate networks in `--from`, and a rule holds {limit}")]
    TooManyNearNetworks {
        /// How many there are after merging.
        count: usize,
        /// How many fit.
        limit: usize,
    },
    /// An IPv6 network that also spans the mapped form of all IPv4 addresses,
    /// beside single IPv4 networks.
    #[error("`--from {network}` cannot be combined with IPv4 networks in `--from`")]
    WideNearNetwork {
        /// The IPv6 network.
        network: IpNet,
    },
    /// One end is IPv4 only, the other IPv6 only.
    #[error("no packet can match: `--from` and `--to` have no address family in common")]
    FamiliesDiffer,
    /// `--except` leaves nothing.
    #[error("no packet can match: `--except` covers everything that is selected")]
    NothingLeft,
    /// Far ends from two places.
    #[error("`{option}` and `@FILE` in place of a time both say who waits")]
    DelayFile {
        /// The option.
        option: &'static str,
    },
    /// XDP for what leaves.
    #[error("`--hook xdp` takes what comes in, and `--direction` says egress only")]
    XdpEgress,
    /// XDP for what is not lost.
    #[error("`--hook xdp` can only lose packets, and this is `{verb}`")]
    XdpVerb {
        /// The verb.
        verb: &'static str,
    },
    /// Words that are not netem's.
    #[error(transparent)]
    Netem(#[from] NetemError),
    /// The table of a distribution cannot be had.
    #[error(transparent)]
    Distribution(#[from] DistributionError),

    /// Bursts that would have to overlap to lose so much.
    #[error("`--burst {length}` cannot lose {percent}, but {most} at most")]
    BurstTooShort {
        /// The mean length of a burst.
        length: BurstLength,
        /// The loss rate.
        percent: Percent,
        /// The highest rate of this length.
        most: Percent,
        /// The shortest mean length of this rate, if there is one.
        shortest: Option<BurstLength>,
    },

    /// Words after `tc` that are not netem's.
    #[error(transparent)]
    Tc(#[from] TcError),
    /// A word of netem that nothing is done for.
    #[error("`{word}` is a word of netem that faultctl does not carry out")]
    NetemWord {
        /// The word.
        word: &'static str,
    },
    /// A class of a qdisc that is not ours.
    #[error("`{parent}` is a class, and faultctl has none")]
    NetemClass {
        /// Its name.
        parent: Parent,
    },
    /// More words than are kept.
    #[error("the command is longer than the {most} bytes that are kept of it")]
    NetemTooLong {
        /// How many they are.
        most: usize,
    },

    /// A file of addresses could not be read.
    #[error("cannot read `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of addresses without any.
    #[error("no address in `{}`", path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },
    /// A line in a file of far ends that is none.
    #[error("line {line} of `{}`: `{text}` is refused", path.display())]
    FileLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        text: String,
        /// Why it is refused.
        source: ValueError,
    },
    /// A name in a file of addresses that does not resolve.
    #[error("line {line} of `{}`", path.display())]
    FileName {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Always [`Error::HostName`].
        source: Box<Error>,
    },
    /// A host name that the system's resolver has no address for.
    #[error("host name `{name}` has no address")]
    HostName {
        /// The name.
        name: String,
        /// What the resolver said, if anything.
        source: Option<io::Error>,
    },

    /// The kernel refused, or something is missing on this machine.
    #[error(transparent)]
    Kernel(#[from] KernelError),

    /// The command after `--` did not start.
    #[error("cannot run `{program}`")]
    Command {
        /// The command.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The address for metrics cannot be used.
    #[error("cannot serve metrics on `{address}`")]
    Metrics {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No line came in the time of `--confirm`.
    #[error("nobody confirmed the fault, so it was undone")]
    NotConfirmed,
    /// Whoever read the output went away.
    #[error("nobody reads the output any more, so the fault was ended")]
    OutputClosed,
}

/// An error and its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

impl Error {
    /// A line of a file, refused.
    pub(crate) fn file_line(path: &Path, line: usize, text: &str, source: ValueError) -> Self {
        Self::FileLine {
            path: path.into(),
            line,
            text: text.into(),
            source,
        }
    }

    /// What the user can type or do next.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Usage { hint, source, .. } => {
                return source.as_ref().and_then(ValueError::hint).or(hint.clone());
            }
            Self::NoPorts { option } => {
                format!("leave out `{option}`, or name one of `tcp`, `udp`, `sctp` in `--proto`")
            }
            Self::TooManyPortRanges { .. } => {
                "join ports into ranges, as in `8000-8100`, or split them over two commands".into()
            }
            Self::TooManyNearNetworks { .. } => {
                "use a shorter prefix, or split them over two commands".into()
            }
            Self::WideNearNetwork { .. } => {
                "use one command per address family, or a longer prefix such as `2000::/3`".into()
            }
            Self::FamiliesDiffer => {
                "both ends of a packet are IPv4, or both are IPv6; name both ends in one family"
                    .into()
            }
            Self::NothingLeft => "`--except` always wins over `--to`; narrow it".into(),
            Self::DelayFile { option } => {
                format!("leave out `{option}`: far ends in no line of the file do not wait")
            }
            Self::XdpEgress => {
                "add `--direction ingress`, or `both` to take egress on tc; or leave out `--hook`"
                    .into()
            }
            Self::XdpVerb { .. } => "leave out `--hook xdp`: an XDP program sees no skb".into(),
            Self::Netem(error) => error.hint(),
            Self::Distribution(error) => error.hint(),
            Self::BurstTooShort {
                shortest: Some(shortest),
                ..
            } => format!(
                "one packet at least passes between two bursts: lose less, or give \
                 `--burst {shortest}` or more"
            ),
            Self::BurstTooShort { shortest: None, .. } => {
                "one packet at least passes between two bursts: lose less, or leave out `--burst`"
                    .into()
            }
            Self::Tc(error) => error.hint(),
            Self::NetemWord { word } => format!("leave out `{word}`, or use tc itself"),
            Self::NetemClass { .. } => "write `root`; selectors take some packets only, as in \
                 `faultctl loss 50 --iface eth0 --to 10.0.0.7`"
                .into(),
            Self::NetemTooLong { .. } => {
                "write numbers with fewer digits, and leave out what is netem's default".into()
            }
            Self::File { .. } => "`@FILE` names a text file, one address a line".into(),
            Self::EmptyFile { .. } => {
                "write one address, network or host name a line; `#` starts a comment".into()
            }
            Self::FileLine { source, .. } => return source.hint(),
            Self::FileName { source, .. } => return source.hint(),
            Self::HostName { name, .. } => {
                format!("check it with `getent ahosts {name}`, or give the address")
            }
            Self::Kernel(error) => return error.hint(),
            Self::Metrics { .. } => "choose another port, or see who has it with `ss -ltnp`".into(),
            Self::NotConfirmed => {
                "press Enter before the time is over; without a terminal, write a line to stdin"
                    .into()
            }
            Self::Command { .. } | Self::OutputClosed => return None,
        };
        Some(hint)
    }

    /// The exit code: 1 where the user can fix something in the world, 2 where
    /// the command line is wrong.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Usage { .. }
            | Self::NoPorts { .. }
            | Self::TooManyPortRanges { .. }
            | Self::TooManyNearNetworks { .. }
            | Self::WideNearNetwork { .. }
            | Self::FamiliesDiffer
            | Self::NothingLeft
            | Self::DelayFile { .. }
            | Self::XdpEgress
            | Self::XdpVerb { .. }
            | Self::Netem(_)
            | Self::NetemWord { .. }
            | Self::BurstTooShort { .. }
            | Self::Tc(_)
            | Self::NetemClass { .. }
            | Self::NetemTooLong { .. } => 2,
            Self::File { .. }
            | Self::EmptyFile { .. }
            | Self::FileLine { .. }
            | Self::FileName { .. }
            | Self::Distribution(_)
            | Self::HostName { .. }
            | Self::Kernel(_)
            | Self::Command { .. }
            | Self::Metrics { .. }
            | Self::NotConfirmed
            | Self::OutputClosed => 1,
        }
    }
}
