//! The life of a fault in the foreground: told, kept, watched, ended, summed up.

use std::{
    net::TcpListener,
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use caps::Capability;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    sync::mpsc::UnboundedReceiver,
    time::{MissedTickBehavior, interval},
};

use crate::{
    Error,
    active::{Active, Faults},
    attach::CLSACT,
    clock,
    confirm::Confirmation,
    error::{self, KernelError},
    follow::{self, News},
    inject::{FarEnds, Request},
    lease::Lease,
    metrics,
    namespace::Namespace,
    privilege,
    report::{Event, Reporter, Started, StartedRule, Stopped},
    signals::{self, Caught, Ended},
    snapshot::Snapshot,
    spec::FaultSpec,
    verbose::{Packet, Verbose},
    xdp,
};

/// How often the interfaces are looked after.
const LOOK: Duration = Duration::from_millis(250);
/// How often the counters are told.
const TELL: Duration = Duration::from_secs(1);

/// A fault in force, and everything that can end it.
pub struct Session {
    live: Arc<Mutex<Live>>,
    child: Option<Child>,
    confirmation: Option<Confirmation>,
    names: Option<Followed>,
    verbose: Option<Verbose>,
    signals: UnboundedReceiver<Ended>,
    reporter: Reporter,
}

/// Host names, and what they are far ends of.
struct Followed {
    news: UnboundedReceiver<News>,
    spec: FaultSpec,
    far_ends: FarEnds,
}

/// What a scrape of the metrics looks at too.
struct Live {
    faults: Faults,
    lease: Option<Lease>,
    lapsed: Duration,
}

/// Why a fault ended.
enum End {
    Time,
    Signal(Ended),
    Child(ExitStatus),
    NotConfirmed,
    InterfaceGone(String),
    OutputClosed,
}

impl End {
    fn reason(&self) -> &'static str {
        match self {
            Self::Time => "for",
            Self::Signal(_) => "signal",
            Self::Child(_) => "child",
            Self::NotConfirmed => "not confirmed",
            Self::InterfaceGone(_) => "interface gone",
            Self::OutputClosed => "output closed",
        }
    }
}

impl Session {
    /// Tells of the fault, starts the child, gives privileges up and keeps the lease.
    pub fn start(
        request: &Request,
        namespace: &Namespace,
        mut faults: Faults,
        seed: u64,
        caught: Caught,
    ) -> Result<Self, Error> {
        let mut reporter = if request.command.is_empty() {
            Reporter::new(request.json)
        } else {
            Reporter::beside_command(request.json)
        };
        // Who doesn't read this won't read the rest: the first look ends the run.
        let _ = reporter.event(&started(request, &faults, seed));
        for active in &faults.active {
            if active.hooks().contains(&xdp::Mode::Generic.name()) {
                let name = &active.interface.name;
                let note = format!("no native XDP on `{name}`: it costs as much as `--hook tc`");
                let _ = reporter.event(&Event::Note(note));
            }
        }
        // Whoever has read it may have ended the fault by now.
        let child = if signals::pending() {
            None
        } else {
            start_child(request)?
        };
        // Links end by being closed; only filters have to be taken out.
        let by_filter = faults
            .active
            .iter()
            .any(|active| active.hooks().contains(&CLSACT));
        privilege::keep(match (by_filter, namespace.is_own()) {
            (false, _) => &[],
            (true, true) => &[Capability::CAP_NET_ADMIN],
            (true, false) => &privilege::TO_COME_BACK,
        })?;
        let confirmation = faults.confirm_until_ns.map(Confirmation::ask).transpose()?;
        let names = Followed::of(request)?;
        let verbose = request.verbose.then(|| faults.listen()).transpose()?;
        let end_ns = faults.unconfirmed_end_ns();
        let lease = Lease::start(faults.terms(), faults.deadline_ns, end_ns)?;
        Ok(Self {
            live: Arc::new(Mutex::new(Live {
                faults,
                lease: Some(lease),
                lapsed: Duration::ZERO,
            })),
            child,
            confirmation,
            names,
            verbose,
            signals: caught.deliver()?,
            reporter,
        })
    }

    /// Lives to the end of the fault; of the child, if there is one.
    pub async fn run(mut self, metrics: Option<TcpListener>) -> Result<i32, Error> {
        let served = metrics.map(|listener| {
            let live = Arc::clone(&self.live);
            tokio::spawn(metrics::serve(listener, move || lock(&live).snapshot()))
        });
        let end = self.wait().await?;
        if let Some(served) = served {
            served.abort();
        }
        self.verbose = None;
        let summary = lock(&self.live).end(end.reason());
        // What went wrong, and that nobody reads any more, is said when the child is
        // done, too.
        let told = match &summary {
            Ok(summary) => self.reporter.event(&Event::Stopped(summary.clone())),
            Err(_) => Ok(()),
        };
        if let End::Signal(signal) = &end {
            self.forward(*signal);
        }
        let code = match &end {
            End::Child(status) => exit_code(*status),
            _ => self.outlive().await?,
        };
        summary?;
        match end {
            End::InterfaceGone(name) => Err(KernelError::InterfaceGone { name }.into()),
            End::OutputClosed => Err(Error::OutputClosed),
            End::NotConfirmed => Err(Error::NotConfirmed),
            _ if told.is_err() => Err(Error::OutputClosed),
            _ => Ok(code),
        }
    }

    async fn wait(&mut self) -> Result<End, Error> {
        let mut look = interval(LOOK);
        let mut tell = interval(TELL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tell.reset();
        let until_ns = lock(&self.live).faults.until_ns;
        let deadline = async move {
            match until_ns {
                None => std::future::pending().await,
                Some(until) => clock::reach(until).await,
            }
        };
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                () = &mut deadline => return Ok(End::Time),
                Some(signal) = self.signals.recv() => return Ok(End::Signal(signal)),
                status = wait_for(&mut self.child) => return Ok(End::Child(status?)),
                confirmed = answer(&mut self.confirmation) => {
                    if !confirmed {
                        return Ok(End::NotConfirmed);
                    }
                    if let Some(end) = self.confirmed() {
                        return Ok(end);
                    }
                }
                news = heard(&mut self.names) => {
                    if let Some(end) = self.readdress(&news) {
                        return Ok(end);
                    }
                }
                packet = told(&mut self.verbose) => {
                    if self.reporter.event(&Event::Packet(packet)).is_err() {
                        return Ok(End::OutputClosed);
                    }
                }
                _ = look.tick() => {
                    if let Some(end) = self.look() {
                        return Ok(end);
                    }
                }
                _ = tell.tick() => {
                    let stats = lock(&self.live).snapshot()?;
                    if self.reporter.event(&Event::Stats(stats)).is_err() {
                        return Ok(End::OutputClosed);
                    }
                }
            }
        }
    }

    /// Where a name has gone, the fault goes after it.
    fn readdress(&mut self, news: &News) -> Option<End> {
        let mut notes = vec![news.to_string()];
        if let (Ok(addresses), Some(Followed { spec, far_ends, .. })) = (&news.now, &mut self.names)
        {
            far_ends.set(&news.name, addresses);
            spec.selectors.to = far_ends.to.all();
            spec.selectors.except = far_ends.except.all();
            if let Err(error) = lock(&self.live).faults.readdress(spec) {
                notes.push(format!(
                    "the fault stays with the addresses before: {}",
                    error::chain(&error)
                ));
            }
        }
        notes
            .into_iter()
            .any(|note| self.reporter.event(&Event::Note(note)).is_err())
            .then_some(End::OutputClosed)
    }

    fn confirmed(&mut self) -> Option<End> {
        self.confirmation = None;
        {
            let live = lock(&self.live);
            if let Some(lease) = &live.lease {
                lease.set_end(live.faults.until_ns);
            }
        }
        let note = Event::Note("confirmed: the fault stays".into());
        self.reporter
            .event(&note)
            .is_err()
            .then_some(End::OutputClosed)
    }

    fn look(&mut self) -> Option<End> {
        if self.reporter.is_closed() {
            return Some(End::OutputClosed);
        }
        let (lost, any_left) = {
            let mut live = lock(&self.live);
            (live.faults.lost(), live.faults.any_left())
        };
        for name in lost {
            if !any_left {
                return Some(End::InterfaceGone(name));
            }
            let note = format!("interface `{name}` is gone, the fault goes on without it");
            if self.reporter.event(&Event::Note(note)).is_err() {
                return Some(End::OutputClosed);
            }
        }
        None
    }

    /// The fault is over, the child's work need not be: it still gets the signals.
    async fn outlive(&mut self) -> Result<i32, Error> {
        if self.child.is_none() {
            return Ok(0);
        }
        loop {
            tokio::select! {
                status = wait_for(&mut self.child) => return Ok(exit_code(status?)),
                Some(signal) = self.signals.recv() => self.forward(signal),
            }
        }
    }

    /// Passes a signal on, unless the terminal has given it to the child already.
    fn forward(&self, signal: Ended) {
        let pid = self
            .child
            .as_ref()
            .and_then(Child::id)
            .and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let (false, Some(pid), Some(number)) = (
            signal.from_terminal,
            pid,
            Signal::from_named_raw(signal.number),
        ) {
            let _ = kill_process(pid, number);
        }
    }
}

impl Followed {
    fn of(request: &Request) -> Result<Option<Self>, KernelError> {
        let names = request.far_ends.names();
        if names.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            news: follow::follow(names)?,
            spec: request.spec.clone(),
            far_ends: request.far_ends.clone(),
        }))
    }
}

impl Live {
    fn lapsed(&self) -> Duration {
        self.lease.as_ref().map_or(self.lapsed, Lease::lapsed)
    }

    fn snapshot(&self) -> Result<Snapshot, KernelError> {
        self.faults.snapshot(self.lapsed())
    }

    /// No packet is touched any more when this returns, and all are counted.
    fn end(&mut self, reason: &'static str) -> Result<Stopped, KernelError> {
        self.lapsed = self.lapsed();
        self.lease = None;
        let ran = Duration::from_nanos(clock::boot_ns() - self.faults.since_ns);
        let detached = self.faults.end();
        let snapshot = self.snapshot()?;
        // A child may go on for long; programs and maps don't.
        self.faults.active.clear();
        detached?;
        Ok(Stopped {
            reason,
            ran,
            snapshot,
        })
    }
}

fn lock(live: &Mutex<Live>) -> MutexGuard<'_, Live> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(confirmation: &mut Option<Confirmation>) -> bool {
    match confirmation {
        Some(open) => open.answer().await,
        None => std::future::pending().await,
    }
}

async fn heard(names: &mut Option<Followed>) -> News {
    if let Some(names) = names
        && let Some(news) = names.news.recv().await
    {
        return news;
    }
    std::future::pending().await
}

async fn told(verbose: &mut Option<Verbose>) -> Packet {
    if let Some(verbose) = verbose
        && let Some(packet) = verbose.next().await
    {
        return packet;
    }
    std::future::pending().await
}

async fn wait_for(child: &mut Option<Child>) -> Result<ExitStatus, Error> {
    match child {
        Some(child) => Ok(child
            .wait()
            .await
            .map_err(KernelError::system("wait for the command"))?),
        None => std::future::pending().await,
    }
}

/// As a shell has it: its own code, or 128 and the signal.
fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn start_child(request: &Request) -> Result<Option<Child>, Error> {
    let Some((program, args)) = request.command.split_first() else {
        return Ok(None);
    };
    Command::new(program)
        .args(args)
        .spawn()
        .map(Some)
        .map_err(|source| Error::Command {
            program: program.to_string_lossy().into_owned(),
            source,
        })
}

fn started(request: &Request, faults: &Faults, seed: u64) -> Event {
    let kind = &request.spec.kind;
    Event::Started(Started {
        rules: faults
            .active
            .iter()
            .flat_map(|active| {
                active.rules.iter().map(|named| StartedRule {
                    rule: named.name.clone(),
                    fault: kind.name(),
                    iface: active.interface.name.clone(),
                    directions: active.directions().iter().map(|it| it.name()).collect(),
                    asked: named.asked.clone(),
                    hook: active.hooks().join("+"),
                })
            })
            .collect(),
        pid: std::process::id(),
        memory: faults.active.iter().map(Active::memory).sum(),
        seed,
        until: faults.until_ns.map(clock::wall),
        confirm_until: faults.confirm_until_ns.map(clock::wall),
        spared: faults.spared.clone(),
        command: request
            .command
            .first()
            .map(|program| program.to_string_lossy().into_owned()),
    })
}
