//! The delay line by itself, for tests and measurements: every frame of an interface is
//! held for the same time. Says `ready`, and what became of the frames when its stdin
//! ends.

use std::{
    env, fs,
    io::{Read as _, Write as _, stdin, stdout},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::PerCpuArray,
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        tc::{NlOptions, TcAttachOptions, TcError, qdisc_add_clsact},
    },
};
use clap::{Parser, ValueEnum};
use fault_common::{layout::Direction, line};
use fault_user::{
    clock::monotonic_ns,
    interface::{self, Interface},
    line::{Engine, Helper, Limits, Line},
    maps::Lines,
    namespace::Namespace,
};

/// Holds every frame for the same time
#[derive(Parser)]
struct Options {
    #[arg(long)]
    iface: String,
    /// Of the interface; the process's own without it
    #[arg(long)]
    netns: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Way::Both)]
    direction: Way,
    /// No helper for 0
    #[arg(long, default_value_t = 0)]
    delay_us: u64,
    /// How many of 2^32 frames are lost
    #[arg(long, default_value_t = 0)]
    loss: u32,
    /// The frames that may be held
    #[arg(long, default_value_t = 500_000)]
    frames: usize,
    /// The memory that they may take
    #[arg(long, default_value_t = 1 << 30)]
    bytes: usize,
    /// Threads a direction
    #[arg(long, default_value_t = 1)]
    queues: usize,
    /// Who holds the frames
    #[arg(long, value_enum, default_value_t = By::Auto)]
    engine: By,
    /// By clsact instead of tcx
    #[arg(long)]
    clsact: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Way {
    Egress,
    Ingress,
    Both,
}

#[derive(Clone, Copy, ValueEnum)]
enum By {
    Auto,
    Fq,
    Tap,
}

impl From<By> for Engine {
    fn from(by: By) -> Self {
        match by {
            By::Auto => Self::Auto,
            By::Fq => Self::Fq,
            By::Tap => Self::Tap,
        }
    }
}

impl Way {
    fn directions(self) -> Vec<Direction> {
        match self {
            Self::Egress => vec![Direction::Egress],
            Self::Ingress => vec![Direction::Ingress],
            Self::Both => Direction::ALL.to_vec(),
        }
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    // With its first runtime, tokio opens sockets for signals; in another namespace they
    // would hold that.
    interface::names()?;
    let path = env::var_os("FAULTCTL_LINE_OBJECT").context("FAULTCTL_LINE_OBJECT is not set")?;
    let object = fs::read(path)?;
    let namespace = match &options.netns {
        Some(path) => Namespace::named(path),
        None => Namespace::default(),
    };
    let iface = namespace
        .run(|| Interface::find(std::slice::from_ref(&options.iface)))?
        .remove(0);
    let mut ebpf = EbpfLoader::new()
        .override_global("DELAY_NS", &(options.delay_us * 1000), true)
        .override_global("LOSS", &options.loss, true)
        .load(&object)?;
    // Before the programs: who comes later to the hook is born later.
    let born_ns = monotonic_ns();
    let mut lines = Vec::new();
    for direction in options.direction.directions() {
        lines.push((
            direction,
            start(&options, &namespace, &iface, &mut ebpf, direction, born_ns)?,
        ));
        let (name, hook) = match direction {
            Direction::Egress => ("line_egress", TcAttachType::Egress),
            Direction::Ingress => ("line_ingress", TcAttachType::Ingress),
        };
        let program = load(&mut ebpf, name)?;
        namespace.run(|| attach(program, &iface.name, hook, options.clsact))?;
    }
    let mut stdout = stdout();
    writeln!(stdout, "ready")?;
    stdout.flush()?;
    stdin().read_to_end(&mut Vec::new())?;

    let map = ebpf.map("DECIDED").context("no such map")?;
    let decided: PerCpuArray<_, u64> = map.try_into()?;
    for (direction, line) in lines {
        let stats = line.map(Line::end).transpose()?.unwrap_or_default();
        let decided: u64 = decided.get(&(direction as u32), 0)?.iter().sum();
        let said = serde_json::json!({
            "direction": direction.name(),
            "decided": decided,
            "held": stats.held,
            "sent": stats.sent,
            "dropped": stats.dropped,
            "mean_late_us": stats.mean_late.map(micros),
            "most_late_us": stats.most_late.map(micros),
        });
        writeln!(stdout, "{said}")?;
    }
    Ok(())
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

fn start(
    options: &Options,
    namespace: &Namespace,
    iface: &Interface,
    ebpf: &mut Ebpf,
    direction: Direction,
    born_ns: u64,
) -> Result<Option<Line>> {
    if options.delay_us == 0 {
        let line = line::Line {
            born_ns,
            ..line::Line::default()
        };
        Lines::of(ebpf, direction, line)?;
        return Ok(None);
    }
    let helper = Helper::open(
        options.engine.into(),
        namespace,
        iface,
        direction,
        options.queues,
    )?;
    let lines = Lines::of(ebpf, direction, helper.line(born_ns))?;
    let back = match direction {
        Direction::Egress => "line_back_out",
        Direction::Ingress => "line_back_in",
    };
    let limits = Limits {
        frames: options.frames,
        bytes: options.bytes,
    };
    Ok(Some(helper.start(limits, lines, load(ebpf, back)?)?))
}

fn load<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    let program: &mut SchedClassifier = ebpf
        .program_mut(name)
        .context("no such program")?
        .try_into()?;
    program.load()?;
    Ok(program)
}

/// In front of those that are there.
fn attach(
    program: &mut SchedClassifier,
    iface: &str,
    hook: TcAttachType,
    clsact: bool,
) -> Result<(), fault_user::error::KernelError> {
    use fault_user::error::KernelError;
    let error = |source| KernelError::Program {
        what: "attach",
        program: "line",
        source: Box::new(source),
    };
    let options = if clsact {
        match qdisc_add_clsact(iface) {
            Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
            result => result.map_err(|source| KernelError::Clsact {
                iface: iface.to_owned(),
                source: Box::new(source),
            })?,
        }
        // The kernel then takes the priority in front of the first.
        TcAttachOptions::Netlink(NlOptions::default())
    } else {
        TcAttachOptions::TcxOrder(LinkOrder::first())
    };
    program
        .attach_with_options(iface, hook, options)
        .map(drop)
        .map_err(error)
}
