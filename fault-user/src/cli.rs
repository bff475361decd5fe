//! The command line: types and texts only. [`parse`] turns arguments into
//! requests.

use std::{ffi::OsString, net::SocketAddr, num::NonZeroU64, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::NonEmptyStringValueParser};
use fault_common::layout::PortRange;
use ipnet::IpNet;

use crate::container::ContainerId;
use crate::netem::Rate;
use crate::spec::{
    BurstLength, Dscp, Endpoint, FourStates, Gemodel, Percent, Protocol, SkbMark, count, duration,
    endpoint, hold, percent, port,
};

mod parse;
mod refusal;

pub use parse::{Command, Parsed, parse, wants_json};

/// Kernel-level network faults that end by construction
#[derive(Debug, Parser)]
#[command(
    name = "faultctl",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  faultctl loss 50 --iface eth0                       half of what leaves, until Ctrl-C
  faultctl loss 5 --iface eth0 --to 10.0.0.0/8 --proto tcp --port 443 --for 60s
  faultctl partition --iface eth0 --to @peers.txt --except 10.0.0.1
  faultctl loss 50 --iface eth0 -- curl http://10.0.0.7/
  faultctl status

Exit codes: 0 done, 1 something that you can fix, 2 usage, the child's own after `--`"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Lose packets
    Loss(LossArgs),
    /// Lose every packet from and to the far ends that are selected
    Partition(PartitionArgs),
    /// Take the interface down, as far as its traffic can tell
    Down(DownArgs),
    /// Mark packets: the skb mark, the DSCP, or both
    Mark(MarkArgs),
    /// Let packets wait
    #[command(visible_alias = "delay")]
    Latency(LatencyArgs),
    /// Let packets wait, but for some that go ahead
    Reorder(ReorderArgs),
    /// Send packets twice
    Duplicate(DuplicateArgs),
    /// Send packets no faster than a rate
    Rate(RateArgs),
    /// Do what netem does for these words of tc-netem(8)
    Netem(NetemArgs),
    /// Do what tc(8) does with netem: as typed, with `faultctl` in front
    Tc(TcArgs),
    /// List the faults that are active on this machine
    Status(StatusArgs),
    /// End faults, and remove what a killed process left
    Clear(ClearArgs),
    /// Inject on a private veth pair and check that this kernel does what is asked
    Selftest(SelftestArgs),
    /// Say what this kernel, these privileges and these interfaces allow
    Doctor(DoctorArgs),
    /// Started by `down` for itself
    #[command(hide = true)]
    Watchdog(WatchdogArgs),
}

/// `faultctl loss`
#[derive(Debug, Args)]
#[command(
    override_usage = "\
faultctl loss <PERCENT> --iface <NAME> [OPTIONS] [-- <COMMAND>...]
       faultctl loss --every <N> --iface <NAME> [OPTIONS] [-- <COMMAND>...]
       faultctl loss --gemodel <P,..> --iface <NAME> [OPTIONS] [-- <COMMAND>...]
       faultctl loss --state <P13,..> --iface <NAME> [OPTIONS] [-- <COMMAND>...]",
    after_help = "\
Examples:
  faultctl loss 50 --iface eth0                       half of what leaves, until Ctrl-C
  faultctl loss 0.1 --iface eth0 --direction both --for 10m
  faultctl loss 10 --correlation 75 --iface eth0 --to db.example.org --port 5432
  faultctl loss 10 --burst 5 --iface eth0             five in a row, on average
  faultctl loss --gemodel 1,10 --iface eth0           as `tc ... netem loss gemodel 1% 10%`
  faultctl loss --every 100 --iface eth0 --proto udp
  faultctl loss 50 --iface eth0 -- curl http://10.0.0.7/"
)]
pub struct LossArgs {
    /// Share of packets to lose, in points: 50, 50%, 0.1
    #[arg(
        required_unless_present_any = ["every", "gemodel", "state"],
        allow_negative_numbers = true
    )]
    pub percent: Option<Percent>,
    /// How often a packet shares the fate of the one before, in points
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    pub correlation: Option<Percent>,
    /// Lose so many packets in a row, on average
    #[arg(
        long,
        value_name = "PACKETS",
        requires = "percent",
        allow_negative_numbers = true,
        conflicts_with = "correlation"
    )]
    pub burst: Option<BurstLength>,
    /// netem's gemodel P,R,1-H,1-K in points; left out, they are 100-P, 100 and 0
    #[arg(
        long,
        value_name = "P,..",
        allow_hyphen_values = true,
        conflicts_with_all = ["percent", "correlation", "burst", "state"]
    )]
    pub gemodel: Option<Gemodel>,
    /// netem's state P13,P31,P32,P23,P14 in points; left out, they are 100-P13, 0, 100 and 0
    #[arg(
        long,
        value_name = "P13,..",
        allow_hyphen_values = true,
        conflicts_with_all = ["percent", "correlation", "burst"]
    )]
    pub state: Option<FourStates>,
    /// Lose one packet in N instead, not by chance
    #[arg(
        long,
        value_name = "N",
        value_parser = count::parse_every,
        allow_negative_numbers = true,
        conflicts_with_all = ["percent", "correlation", "burst", "gemodel", "state"]
    )]
    pub every: Option<NonZeroU64>,
    /// Which packets.
    #[command(flatten)]
    pub selectors: Selectors,
    /// How long.
    #[command(flatten)]
    pub life: Life,
}

/// `faultctl partition`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  faultctl partition --iface eth0 --to 10.0.0.7 --for 30s
  faultctl partition --iface eth0 --to @peers.txt --except 10.0.0.1
  faultctl partition --iface eth0 --to db.example.org --direction ingress

Both directions unless `--direction` says otherwise")]
pub struct PartitionArgs {
    /// Which packets.
    #[command(flatten)]
    pub selectors: Selectors,
    /// How long.
    #[command(flatten)]
    pub life: Life,
}

/// `faultctl down`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  faultctl down --iface eth0 --for 20s                nothing in, nothing out, ARP and ND included
  faultctl down --iface eth0 --except 10.0.0.1 --for 20s
  faultctl down --mode admin --iface eth0 --for 20s   really down, then put back as it was

Both directions unless `--direction` says otherwise. Modes admin and carrier take the whole link,
for the time that `--for` says; not one that carries your SSH connection, unless `--include-ssh`")]
pub struct DownArgs {
    /// How: blackhole loses every frame, admin sets the link down, carrier unplugs it
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    pub mode: DownMode,
    /// Which packets.
    #[command(flatten)]
    pub selectors: Selectors,
    /// How long.
    #[command(flatten)]
    pub life: Life,
}

/// How an interface is taken down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DownMode {
    /// Every frame is lost; routes, addresses and neighbours stay.
    #[default]
    Blackhole,
    /// The link is set down, and put back as it was.
    Admin,
    /// The link loses its carrier, where the driver can do that.
    Carrier,
}

/// `faultctl mark`
#[derive(Debug, Args)]
#[command(
    override_usage = "\
faultctl mark <VALUE[/MASK]> --iface <NAME> [OPTIONS] [-- <COMMAND>...]
       faultctl mark --dscp <DSCP> --iface <NAME> [OPTIONS] [-- <COMMAND>...]",
    after_help = "\
Examples:
  faultctl mark 0x10 --iface eth0 --to 10.0.0.0/8     for `ip rule` or `nft` to act on
  faultctl mark 0x10/0xff --iface eth0                the other bits stay
  faultctl mark --dscp ef --iface eth0 --proto udp --port 5060"
)]
pub struct MarkArgs {
    /// The skb mark, and the bits of it to replace: 0x10, 0x10/0xff
    #[arg(
        value_name = "VALUE[/MASK]",
        required_unless_present = "dscp",
        allow_negative_numbers = true
    )]
    pub mark: Option<SkbMark>,
    /// The DSCP to write into the IP header: 0 to 63, or a name such as ef, af11, cs1
    #[arg(long, allow_negative_numbers = true)]
    pub dscp: Option<Dscp>,
    /// Which packets.
    #[command(flatten)]
    pub selectors: Selectors,
    /// How long.
    #[command(flatten)]
    pub life: Life,
}

/// `faultctl latency`
#[derive(Debug, Args)]
#[command(
    override_usage = "\
faultctl latency <TIME> --iface <NAME> [OPTIONS] [-- <COMMAND>...]
       faultctl latency --profile <PROFILE> --iface <NAME> [OPTIONS] [-- <COMMAND>...]",
    after_help = "\
Examples:
  faultctl latency 1s --iface eth0                    what leaves arrives a second later
  faultctl latency 100ms --jitter 10ms --distribution normal --iface eth0
  faultctl latency 50ms --iface eth0 --to 10.0.0.0/8 --direction both --for 60s
  faultctl latency --profile cross-region --iface eth0 --to db.example.org"
)]
pub struct LatencyArgs {
    /// How long: 1s, 100ms, 250us; a bare number is milliseconds
    #[arg(
        required_unless_present = "profile",
        value_parser = hold::parse_delay,
        allow_hyphen_values = true
    )]
    pub time: Option<Duration>,
    /// How much it varies
    #[command(flatten)]
    pub jitter: JitterArgs,
    /// The round trip of a distance: same-region (75 ms) or cross-region (150 ms)
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        conflicts_with_all = ["time", "jitter", "correlation", "distribution"]
    )]
    pub profile: Option<Profile>,
    /// Which packets.
    #[command(flatten)]
    pub selectors: Selectors,
    /// How packets are held.
    #[command(flatten)]
    pub hold: Hold,
    /// How long.
    #[command(flatten)]
    pub life: Life,
}

/// How a delay varies.
#[derive(Debug, Args)]
pub struct JitterArgs {
    /// How much it varies, above and below
    #[arg(long, value_name = "TIME", value_parser = hold::parse_jitter, allow_hyphen_values = true)]
    pub jitter: Option<Duration>,
    /// How often a packet waits as long as the one before, in points
    #[arg(
        long,
        value_name = "PERCENT",
        requires = "jitter",
        allow_negative_numbers = true
    )]
    pub correlation: Option<Percent>,
    /// uniform, normal, pareto, paretonormal, or a .dist file [default: uniform]
    #[arg(long, value_name = "NAME|FILE", requires = "jitter", value_parser = NonEmptyStringValueParser::new())]
    pub distribution: Option<String>,
}

/// The distance of machines, by what a round trip takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Two zones of one region.
    SameRegion,
    /// Two regions.
    CrossRegion,
}

impl Profile {
    /// What a round trip takes.
    pub const fn round_trip(self) -> Duration {
        match self {
            Self::SameRegion => Duration::from_millis(75),
            Self::CrossRegion => Duration::from_millis(150),
        }
    }
}

/// `faultctl reorder`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  faultctl reorder 25 --iface eth0                    a quarter goes at once, the others 10 ms later
  faultctl reorder 25 --correlation 50 --delay 20ms --iface eth0
  faultctl reorder 100 --gap 5 --iface eth0           every fifth goes at once")]
pub struct ReorderArgs {
    /// Share of packets that go ahead of the others, in points
    #[arg(allow_negative_numbers = true)]
    pub percent: Percent,
    /// How often a packet shares the fate of the one before, in points
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    pub correlation: Option<Percent>,
    /// Let one packet in so many go ahead at most
    #[arg(long, value_name = "N", value_parser = hold::parse_gap, allow_negative_numbers = true, default_value = "1")]
    pub gap: u32,
    /// How long the others wait
    #[arg(long, value_name = "TIME", value_parser = hold::parse_delay, allow_hyphen_values = true, default_value = "10ms")]
    pub delay: Duration,
    /// Which packets.
    #[command(flatten)]
    pub selectors: Selectors,
    /// How packets are held.
    #[command(flatten)]
    pub hold: Hold,
    /// How long.
    #[command(flatten)]
    pub life: Life,
}

/// `faultctl duplicate`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  faultctl duplicate 1 --iface eth0
  faultctl duplicate 10 --correlation 50 --iface eth0 --proto udp --for 60s")]
pub struct DuplicateArgs {
    /// Share of packets to send twice, in points
    #[arg(allow_negative_numbers = true)]
    pub percent: Percent,
    /// How often a packet shares the fate of the one before, in points
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    pub correlation: Option<Percent>,
    /// Which packets.
    #[command(flatten)]
    pub selectors: Selectors,
    /// How long.
    #[command(flatten)]
    pub life: Life,
}

/// `faultctl rate`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  faultctl rate 10mbit --iface eth0
  faultctl rate 1mbit --burst 32kb --limit 100 --iface eth0 --to 10.0.0.7
  faultctl rate 56kbit --overhead 24 --iface eth0 --direction both")]
pub struct RateArgs {
    /// The speed: 10mbit, 1gbit, 500kbps (bytes)
    #[arg(value_parser = hold::parse_rate, allow_negative_numbers = true)]
    pub rate: Rate,
    /// Let so many bytes go at once after a pause
    #[arg(long, value_name = "SIZE", value_parser = hold::parse_size, allow_hyphen_values = true, default_value = "0")]
    pub burst: u32,
    /// Count each packet for so many bytes more
    #[arg(long, value_name = "BYTES", value_parser = hold::parse_overhead, allow_negative_numbers = true, default_value = "0")]
    pub overhead: i32,
    /// Which packets.
    #[command(flatten)]
    pub selectors: Selectors,
    /// How packets are held.
    #[command(flatten)]
    pub hold: Hold,
    /// How long.
    #[command(flatten)]
    pub life: Life,
}

/// `faultctl netem`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  faultctl netem 'delay 100ms 10ms 25%' --iface eth0
  faultctl netem 'delay 100ms loss gemodel 1% 10% duplicate 1%' --iface eth0 --to 10.0.0.7
  faultctl netem 'rate 1mbit limit 100' --iface eth0

Units and defaults are netem's: `delay 100` is 100 microseconds, and 1000 packets wait at most")]
pub struct NetemArgs {
    /// Words of tc-netem(8): limit, delay, loss, duplicate, reorder, rate, seed
    #[arg(required = true, value_name = "WORDS")]
    pub words: Vec<String>,
    /// Which packets.
    #[command(flatten)]
    pub selectors: Selectors,
    /// What holds packets that wait: auto, fq (the kernel), tap (this process)
    #[arg(
        long,
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub engine: Engine,
    /// How long.
    #[command(flatten)]
    pub life: Life,
}

/// How packets are held.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Hold {
    /// Hold so many packets at most in each direction, and lose what comes beyond
    #[arg(long, value_name = "N", value_parser = hold::parse_limit, allow_negative_numbers = true)]
    pub limit: Option<u32>,
    /// What holds packets that wait: auto, fq (the kernel), tap (this process)
    #[arg(
        long,
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub engine: Engine,
}

/// What holds packets that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// fq where the kernel has it.
    #[default]
    Auto,
    /// The kernel.
    Fq,
    /// This process.
    Tap,
}

/// Which packets a fault takes.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Selectors (without an address, port, protocol or flow: every frame)"
)]
pub struct Selectors {
    /// Interface (repeatable)
    #[arg(
        long,
        value_name = "NAME",
        required_unless_present_any = ["pid", "container"],
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub iface: Vec<String>,
    /// Far end: address, network, name or file of them (repeatable)
    #[arg(long, value_name = "ADDR|CIDR|NAME|@FILE")]
    pub to: Vec<Endpoint>,
    /// Near end: address or network (repeatable, up to 8)
    #[arg(long, value_name = "ADDR|CIDR", value_parser = endpoint::parse_network)]
    pub from: Vec<IpNet>,
    /// Far end that is never hit, whatever `--to` says (repeatable)
    #[arg(long, value_name = "ADDR|CIDR|NAME|@FILE")]
    pub except: Vec<Endpoint>,
    /// IP protocols: tcp, udp, icmp (of both families), sctp, 0-255
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub proto: Vec<Protocol>,
    /// Ports of the far end: 80,443,8000-8100
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        value_parser = port::parse_range,
        allow_negative_numbers = true
    )]
    pub port: Vec<PortRange>,
    /// Ports of the near end
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        value_parser = port::parse_range,
        allow_negative_numbers = true
    )]
    pub local_port: Vec<PortRange>,
    /// Share of flows, in points: all packets of a flow, or none
    #[arg(long, value_name = "PERCENT", value_parser = percent::parse_share, allow_negative_numbers = true)]
    pub flows: Option<Percent>,
    /// egress, ingress or both [default: egress; for partition and down: both]
    #[arg(long, value_enum, hide_possible_values = true)]
    pub direction: Option<Direction>,
    /// Where frames that come in are taken: auto (tc), tc, xdp
    #[arg(
        long,
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub hook: Hook,
    /// Network namespace: a name of `ip netns`, or a path
    #[arg(long, value_name = "NAME|PATH", value_parser = NonEmptyStringValueParser::new())]
    pub netns: Option<String>,
    /// Network namespace of this process; without `--iface`, all there but lo
    #[arg(
        long,
        value_name = "PID",
        value_parser = count::parse_pid,
        allow_negative_numbers = true,
        conflicts_with_all = ["netns", "container"]
    )]
    pub pid: Option<u32>,
    /// Network namespace of this container, by 12 digits of its id or more
    #[arg(long, value_name = "ID", conflicts_with = "netns")]
    pub container: Option<ContainerId>,
    /// Do not spare the SSH connection that you work through
    #[arg(long)]
    pub include_ssh: bool,
    /// Start of the random draws, to repeat them [default: random]
    #[arg(long, value_name = "N", value_parser = count::parse_seed, allow_negative_numbers = true)]
    pub seed: Option<u64>,
}

/// A direction, seen from the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// What leaves.
    Egress,
    /// What comes in.
    Ingress,
    /// Both.
    Both,
}

/// Where frames that come in are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Hook {
    /// tc.
    #[default]
    Auto,
    /// tc.
    Tc,
    /// XDP.
    Xdp,
}

/// How long a fault lives, and who hears of it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Life (until Ctrl-C, or as said here)")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub struct Life {
    /// End by itself after this time: 30s, 250ms, 1m30s
    #[arg(
        long = "for",
        value_name = "TIME",
        value_parser = duration::parse_life,
        allow_hyphen_values = true
    )]
    pub duration: Option<Duration>,
    /// Return at once, and leave it to a background process, for an hour unless `--for` is given
    #[arg(long, conflicts_with_all = ["command", "confirm", "verbose"])]
    pub detach: bool,
    /// With `--detach`: for no time, but until `faultctl clear`
    #[arg(long, requires = "detach", conflicts_with = "duration")]
    pub until_cleared: bool,
    /// Undo it after this time, unless a line on stdin (Enter) confirms it
    #[arg(
        long,
        value_name = "TIME",
        value_parser = duration::parse_life,
        allow_hyphen_values = true,
        conflicts_with = "command"
    )]
    pub confirm: Option<Duration>,
    /// Serve Prometheus metrics while it lives
    #[arg(long, value_name = "ADDR:PORT", value_parser = endpoint::parse_socket_address)]
    pub metrics: Option<SocketAddr>,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
    /// Tell of packets and what became of them, a hundred a second at most for each CPU
    #[arg(short, long)]
    pub verbose: bool,
    /// How to attach, for tests
    #[arg(long, value_enum, default_value_t, hide = true)]
    pub attach: Attach,
    /// After `--`: run a command, and end with it
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// How to attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Attach {
    /// The best that the kernel has.
    #[default]
    Auto,
    /// tcx links.
    Tcx,
    /// Filters on the clsact qdisc.
    Clsact,
}

/// `faultctl status`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  faultctl status
  faultctl status --json")]
pub struct StatusArgs {
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
}

/// `faultctl tc`
#[derive(Debug, Args)]
#[command(
    override_usage = "faultctl tc qdisc add|change|replace|del|show dev <NAME> root netem <WORDS>...",
    after_help = "\
Examples:
  faultctl tc qdisc add dev eth0 root netem loss 50%
  faultctl tc qdisc change dev eth0 root netem loss gemodel 1% 10%
  faultctl tc qdisc show dev eth0
  faultctl tc qdisc del dev eth0 root

It returns with the fault in force; `del` or `faultctl clear` ends it. No qdisc is touched, and only
what is faultctl's is shown"
)]
pub struct TcArgs {
    /// What comes after `tc`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "WORDS"
    )]
    pub words: Vec<OsString>,
}

/// `faultctl clear`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  faultctl clear                                      everything that is faultctl's
  faultctl clear --iface eth0")]
pub struct ClearArgs {
    /// Only on this interface (repeatable)
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub iface: Vec<String>,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
}

/// `faultctl selftest`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  faultctl selftest
  faultctl selftest --json

No interface of yours is touched; the exit code is 0 if everything held, else 1")]
pub struct SelftestArgs {
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
}

/// `faultctl watchdog`
#[derive(Debug, Args)]
pub struct WatchdogArgs {
    /// The files of the links to watch over.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

/// `faultctl doctor`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  faultctl doctor
  faultctl doctor --iface eth0
  faultctl doctor --netns blue --iface eth0 --json")]
pub struct DoctorArgs {
    /// Look at this interface too (repeatable)
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub iface: Vec<String>,
    /// Network namespace of the interfaces: a name of `ip netns`, or a path
    #[arg(long, value_name = "NAME|PATH", value_parser = NonEmptyStringValueParser::new())]
    pub netns: Option<String>,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
}
