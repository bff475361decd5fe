//! The life of a fault in the foreground: told, kept, watched, ended, summed up.

use std::{
    ffi::OsString,
    net::TcpListener,
    process::ExitStatus,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{MissedTickBehavior, interval},
};

use crate::{
    Error, clock,
    confirm::Confirmation,
    detach::Caller,
    error::{self, KernelError},
    follow::{self, Names, News},
    metrics,
    report::{Event, Reporter, Started, Stopped},
    signals::{self, Caught, Ended},
    snapshot::Snapshot,
    verbose::{Packet, Verbose},
};

mod child;

use child::{Child, exit_code};

/// How often the interfaces are looked after.
const LOOK: Duration = Duration::from_millis(250);
/// How often the counters are told.
const TELL: Duration = Duration::from_secs(1);

/// A fault in force, as its session sees it.
pub trait InForce: Send {
    /// When it ends, `CLOCK_BOOTTIME` in nanoseconds, if by time.
    fn until_ns(&self) -> Option<u64>;
    /// When it ends unless somebody confirms it.
    fn confirm_until_ns(&self) -> Option<u64>;
    /// Somebody has: it stays to its own end.
    fn confirmed(&mut self);
    /// Goes after a host name to its other addresses.
    fn readdress(&mut self, name: &str, addresses: &[IpNet]) -> Result<(), Error>;
    /// Interfaces that it has lost since the last look.
    fn lost(&mut self) -> Vec<String>;
    /// Whether it has any interface left.
    fn any_left(&self) -> bool;
    /// Why it cannot go on without this interface.
    fn gone(&mut self, name: String) -> KernelError;
    /// What it has done.
    fn snapshot(&self) -> Result<Snapshot, KernelError>;
    /// Ends it, for this reason. The second is what did not go well, when the fault is
    /// over all the same.
    fn end(&mut self, reason: &'static str) -> (Result<Stopped, KernelError>, Option<KernelError>);
}

/// What a session starts with.
pub struct Begun<'a> {
    /// What is told first.
    pub started: Started,
    /// And then.
    pub notes: Vec<String>,
    /// Host names whose addresses the fault follows.
    pub names: Names,
    /// The command that waits for it to be in force, if it is detached.
    pub caller: Option<Caller>,
    /// Packets to tell of.
    pub verbose: Option<Verbose>,
    /// JSON lines on stdout.
    pub json: bool,
    /// The child command and its arguments; empty for none.
    pub command: &'a [OsString],
}

/// A fault in force, and everything that can end it.
pub struct Session {
    live: Arc<Mutex<Box<dyn InForce>>>,
    child: Option<Child>,
    confirmation: Option<Confirmation>,
    news: Option<UnboundedReceiver<News>>,
    verbose: Option<Verbose>,
    signals: UnboundedReceiver<Ended>,
    reporter: Reporter,
    /// Whether it has been said that a delay line is full.
    told_full: bool,
}

/// Why a fault ended.
enum End {
    Time,
    Signal(Ended),
    Child(ExitStatus),
    NotConfirmed,
    InterfaceGone(KernelError),
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
    /// Tells of a fault, starts the child, and then gives privileges up by `settle`.
    pub fn start(
        begun: Begun<'_>,
        caught: Caught,
        settle: impl FnOnce() -> Result<Box<dyn InForce>, KernelError>,
    ) -> Result<Self, Error> {
        let mut reporter = if begun.command.is_empty() {
            Reporter::new(begun.json)
        } else {
            Reporter::beside_command(begun.json)
        };
        // Who doesn't read this won't read the rest: the first look ends the run.
        let told = reporter.event(&Event::Started(begun.started));
        for note in begun.notes {
            let _ = reporter.event(&Event::Note(note));
        }
        // Whoever has read it may have ended the fault by now.
        let child = if signals::pending() {
            None
        } else {
            Child::start(begun.command)?
        };
        let live = settle()?;
        let confirmation = live.confirm_until_ns().map(Confirmation::ask).transpose()?;
        let news = (!begun.names.is_empty())
            .then(|| follow::follow(begun.names))
            .transpose()?;
        let signals = caught.deliver()?;
        if let Some(caller) = begun.caller {
            // Later there is nobody to tell it.
            told.map_err(|_| Error::OutputClosed)?;
            caller.in_force()?;
            reporter = Reporter::new(begun.json);
        }
        Ok(Self {
            live: Arc::new(Mutex::new(live)),
            child,
            confirmation,
            news,
            verbose: begun.verbose,
            signals,
            reporter,
            told_full: false,
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
        let (summary, wrong) = lock(&self.live).end(end.reason());
        // What went wrong, and that nobody reads any more, is said when the child is
        // done, too.
        let told = match &summary {
            Ok(summary) => self.reporter.event(&Event::Stopped(summary.clone())),
            Err(_) => Ok(()),
        };
        if let (End::Signal(signal), Some(child)) = (&end, &self.child) {
            child.forward(*signal);
        }
        let code = match &end {
            End::Child(status) => exit_code(*status),
            _ => self.outlive().await?,
        };
        summary?;
        match (end, wrong) {
            // What the user has to put right comes before why the fault ended.
            (_, Some(error)) | (End::InterfaceGone(error), None) => Err(error.into()),
            (End::OutputClosed, _) => Err(Error::OutputClosed),
            (End::NotConfirmed, _) => Err(Error::NotConfirmed),
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
        let until_ns = lock(&self.live).until_ns();
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
                news = heard(&mut self.news) => {
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
                    let note = self.full(&stats).map(Event::Note);
                    let mut events = note.into_iter().chain([Event::Stats(stats)]);
                    if events.any(|event| self.reporter.event(&event).is_err()) {
                        return Ok(End::OutputClosed);
                    }
                }
            }
        }
    }

    /// Where a name has gone, the fault goes after it.
    fn readdress(&mut self, news: &News) -> Option<End> {
        let mut notes = vec![news.to_string()];
        if let Ok(addresses) = &news.now
            && let Err(error) = lock(&self.live).readdress(&news.name, addresses)
        {
            notes.push(format!(
                "the fault stays with the addresses before: {}",
                error::chain(&error)
            ));
        }
        notes
            .into_iter()
            .any(|note| self.reporter.event(&Event::Note(note)).is_err())
            .then_some(End::OutputClosed)
    }

    fn confirmed(&mut self) -> Option<End> {
        self.confirmation = None;
        lock(&self.live).confirmed();
        let note = Event::Note("confirmed: the fault stays".into());
        self.reporter
            .event(&note)
            .is_err()
            .then_some(End::OutputClosed)
    }

    /// Says once that too many packets wait; how many were lost is in the summary.
    fn full(&mut self, stats: &Snapshot) -> Option<String> {
        let line = stats.lines.iter().find(|line| line.stats.dropped > 0)?;
        (!std::mem::replace(&mut self.told_full, true)).then(|| {
            format!(
                "so many packets wait on `{}` {} that others are lost; see `--limit`",
                line.iface,
                line.direction.name()
            )
        })
    }

    fn look(&mut self) -> Option<End> {
        if self.reporter.is_closed() {
            return Some(End::OutputClosed);
        }
        let (lost, any_left) = {
            let mut live = lock(&self.live);
            (live.lost(), live.any_left())
        };
        for name in lost {
            if !any_left {
                return Some(End::InterfaceGone(lock(&self.live).gone(name)));
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
        let Some(child) = &mut self.child else {
            return Ok(0);
        };
        loop {
            tokio::select! {
                status = child.wait() => return Ok(exit_code(status?)),
                Some(signal) = self.signals.recv() => child.forward(signal),
            }
        }
    }
}

fn lock(live: &Mutex<Box<dyn InForce>>) -> MutexGuard<'_, Box<dyn InForce>> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(confirmation: &mut Option<Confirmation>) -> bool {
    match confirmation {
        Some(open) => open.answer().await,
        None => std::future::pending().await,
    }
}

async fn heard(news: &mut Option<UnboundedReceiver<News>>) -> News {
    if let Some(receiver) = news
        && let Some(news) = receiver.recv().await
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
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}
