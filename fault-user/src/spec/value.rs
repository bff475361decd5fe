//! Why a value is refused.

use std::net::IpAddr;

use ipnet::IpNet;

/// Why a value is refused. Who reports it names the option and the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a number of percent.
    #[error("not a percentage")]
    NotAPercentage,
    /// Outside 0 to 100.
    #[error("a percentage is between 0 and 100")]
    PercentOutOfRange,
    /// Nothing.
    #[error("a share of nothing")]
    EmptyShare,
    /// Not a count of at least one.
    #[error("not a whole number of at least 1")]
    NotACount,
    /// More percentages than a model has.
    #[error("more percentages than `{names}`")]
    TooMany {
        /// What the model has.
        names: &'static str,
    },
    /// Two ways out of a state, together above one.
    #[error("`{}` and `{}` are more than 100 together", names[0], names[1])]
    AboveCertainty {
        /// Their names.
        names: [&'static str; 2],
    },
    /// No length of a burst.
    #[error("not a number of packets from 1 to 1000000")]
    NotABurst,
    /// Not a seed.
    #[error("not a whole number below 2^64")]
    NotASeed,
    /// Not a time.
    #[error("not a time")]
    NotATime,
    /// A time before now.
    #[error("a time cannot be negative")]
    NegativeTime,
    /// No time at all.
    #[error("a fault cannot last for no time")]
    ZeroTime,
    /// More than a year.
    #[error("a fault cannot last for more than 365 days")]
    TimeTooLong,
    /// A delay that is none.
    #[error("a delay of nothing")]
    ZeroDelay,
    /// A delay beyond what the kernel side can count.
    #[error("a delay is below 274 s")]
    DelayTooLong,
    /// Not a speed.
    #[error("not a rate")]
    NotARate,
    /// A speed at which nothing goes.
    #[error("a rate of nothing")]
    ZeroRate,
    /// Not a size.
    #[error("not a size")]
    NotASize,
    /// Not bytes to add to a packet.
    #[error("not a number of bytes from -65536 to 65536")]
    NotAnOverhead,
    /// Not a distance between packets.
    #[error("not a number of packets of at least 1")]
    NotAGap,
    /// Not a number of packets to hold.
    #[error("not a number of packets of at least 1")]
    NotALimit,
    /// Neither a port nor a range of ports.
    #[error("not a port or a range of ports")]
    NotAPort,
    /// A range that ends before it starts.
    #[error("the range ends before it starts")]
    ReversedRange {
        /// Its start.
        first: u16,
        /// Its end.
        last: u16,
    },
    /// No IP protocol.
    #[error("not an IP protocol")]
    NotAProtocol,
    /// No DSCP.
    #[error("not a DSCP")]
    NotADscp,
    /// No skb mark.
    #[error("not a mark")]
    NotAMark,
    /// A mark that its own mask cuts.
    #[error("the value has bits outside the mask")]
    MarkOutsideMask {
        /// The bits that the mask leaves.
        inside: u32,
        /// The mask.
        mask: u32,
    },
    /// No address.
    #[error("not an IP address")]
    NotAnAddress,
    /// Neither address nor name.
    #[error("not an address, network or host name")]
    NotAnEndpoint,
    /// An address with a zone.
    #[error("an address with a zone")]
    Zone {
        /// The address without it.
        address: String,
    },
    /// A prefix that is too long for the address.
    #[error("a prefix of `{address}` has a length from 0 to {max}")]
    PrefixLength {
        /// The address.
        address: IpAddr,
        /// The longest prefix.
        max: u8,
    },
    /// An address with bits set beyond the prefix.
    #[error("the address has bits set beyond the prefix")]
    HostBits {
        /// The network that it is in.
        network: IpNet,
        /// The address.
        address: IpAddr,
    },
    /// `@` without a file.
    #[error("no file name after `@`")]
    NoFileName,
    /// A file that names another.
    #[error("a file cannot name another file")]
    NestedFile,
    /// Not what a file of delays has in a line.
    #[error("not a far end and a time")]
    NotAFarEndAndATime,
    /// A far end that is there already, with another time.
    #[error("line {line} has another time for it")]
    AnotherTime {
        /// The line before, from 1.
        line: usize,
    },
    /// Bytes that are no text.
    #[error("not UTF-8 text")]
    NotText,
    /// No number of a process.
    #[error("not the number of a process")]
    NotAPid,
    /// No id of a container.
    #[error("not the id of a container")]
    NotAContainerId,
    /// Not an address with a port.
    #[error("not an address with a port")]
    NotASocketAddress,
}

impl ValueError {
    /// What to type instead.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::EmptyShare => "give more than 0, as in `10%`",
            Self::NotAPercentage | Self::PercentOutOfRange => {
                "percent are points from 0 to 100, as in `50`, `50%` or `0.1`"
            }
            Self::NotACount => "`--every 10` loses one packet in ten",
            Self::TooMany { names } => {
                return Some(format!("give `{names}`, or the first of them"));
            }
            Self::AboveCertainty { .. } => {
                "both lead out of one state, and only one is taken at a time; lower them"
            }
            Self::NotABurst => "`--burst 5` loses five packets in a row, on average",
            Self::NotASeed => "give a decimal number, or a hexadecimal one after `0x`",
            Self::NotATime | Self::NegativeTime | Self::ZeroTime | Self::TimeTooLong => {
                "give a number with a unit (us, ms, s, m, h), as in `30s`, `250ms` or `1m30s`; \
                 a bare number is milliseconds"
            }
            Self::ZeroDelay | Self::DelayTooLong => {
                "give a time such as `100ms` or `1s`; a bare number is milliseconds"
            }
            Self::NotARate => {
                "give a number with a unit: `10mbit` is bits, `10mbps` bytes a second"
            }
            Self::ZeroRate => "to lose everything, use `partition`",
            Self::NotASize => "give bytes, or a number with a unit, as in `32kb`",
            Self::NotAnOverhead => "`--overhead 24` adds 24 bytes to each packet",
            Self::NotAGap => "`--gap 5` sends one packet in five ahead",
            Self::NotALimit => {
                "`--limit 1000` holds a thousand packets, and loses what comes beyond"
            }
            Self::NotAPort => "ports are 0 to 65535, as in `80,443,8000-8100`",
            Self::ReversedRange { first, last } => {
                return Some(format!("write it as `{last}-{first}`"));
            }
            Self::NotAProtocol => "name `tcp`, `udp`, `icmp`, `sctp` or a number from 0 to 255",
            Self::NotADscp => {
                "give a number from 0 to 63 or a name: `cs0` to `cs7`, `af11` to `af43`, `ef`, \
                 `va`, `le`"
            }
            Self::NotAMark => {
                "give VALUE or VALUE/MASK, each 32 bits, decimal or hexadecimal, as in \
                 `0x10/0xff`"
            }
            Self::MarkOutsideMask { inside, mask } => {
                return Some(format!("write `{inside:#x}/{mask:#x}`, or widen the mask"));
            }
            Self::NotAnAddress => {
                "give an address or a network, as in `10.0.0.7`, `10.0.0.0/8` or `fd00::/8`"
            }
            Self::NotAnEndpoint => {
                "give an address, a network, a host name, or `@FILE` with one of them a line"
            }
            Self::Zone { address } => {
                return Some(format!(
                    "write `{address}`; `--iface` already says where it is"
                ));
            }
            Self::PrefixLength { address, max } => {
                return Some(format!(
                    "the host alone is `{address}` or `{address}/{max}`"
                ));
            }
            Self::HostBits { network, address } => {
                return Some(format!(
                    "the network is `{network}`, the host alone `{address}`"
                ));
            }
            Self::NoFileName => "write the path right after it, as in `@hosts.txt`",
            Self::NestedFile => "give `@FILE` on the command line once for each file",
            Self::NotAFarEndAndATime => {
                "write an address or a network and a time, as in `10.0.0.7 100ms`"
            }
            Self::AnotherTime { .. } => "keep one of the two lines",
            Self::NotText => "write one address, network or host name a line",
            Self::NotAPid => "give a number, as `ps` prints it",
            Self::NotAContainerId => {
                "give 12 to 64 hexadecimal digits, as `docker ps` or `crictl ps` prints them"
            }
            Self::NotASocketAddress => "give both, as in `127.0.0.1:9909` or `[::1]:9909`",
        };
        Some(hint.into())
    }
}
