//! The life of a fault in the foreground: told, kept, watched, ended, summed up.

use std::{
    ffi::OsString,
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
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    Error,
    active::Faults,
    clock,
    error::KernelError,
    inject::Request,
    lease::Lease,
    metrics,
    namespace::Namespace,
    privilege,
    report::{Event, Reporter, Started, StartedRule, Stopped},
    signals::{self, Caught, Ended},
    snapshot::Snapshot,
};

/// How often the interfaces are looked after.
const LOOK: Duration = Duration::from_millis(250);
/// How often the counters are told.
const TELL: Duration = Duration::from_secs(1);

/// A fault in force, as its session sees it.
pub trait InForce: Send {
    /// When it ends, `CLOCK_BOOTTIME` in nanoseconds, if by time.
    fn until_ns(&self) -> Option<u64>;
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
    /// JSON lines on stdout.
    pub json: bool,
    /// The child command and its arguments; empty for none.
    pub command: &'a [OsString],
}

/// A fault in force, and everything that can end it.
pub struct Session {
    live: Arc<Mutex<Box<dyn InForce>>>,
    child: Option<Child>,
    signals: UnboundedReceiver<Ended>,
    reporter: Reporter,
}

/// Programs on interfaces, and the lease that keeps them.
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
    InterfaceGone(KernelError),
    OutputClosed,
}

impl End {
    fn reason(&self) -> &'static str {
        match self {
            Self::Time => "for",
            Self::Signal(_) => "signal",
            Self::Child(_) => "child",
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
        let begun = Begun {
            started: started(request, &faults, seed),
            json: request.json,
            command: &request.command,
        };
        Self::start_with(&begun, caught, || {
            // Links end by being closed; only filters have to be taken out.
            let by_filter = faults
                .active
                .iter()
                .any(|active| active.hook() == Some("clsact"));
            privilege::keep(match (by_filter, namespace.is_own()) {
                (false, _) => &[],
                (true, true) => &[Capability::CAP_NET_ADMIN],
                (true, false) => &privilege::TO_COME_BACK,
            })?;
            let lease = Lease::start(faults.terms(), faults.deadline_ns, faults.until_ns)?;
            Ok(Box::new(Live {
                faults,
                lease: Some(lease),
                lapsed: Duration::ZERO,
            }))
        })
    }

    /// Tells of a fault, starts the child, and then gives privileges up by `settle`.
    pub fn start_with(
        begun: &Begun<'_>,
        caught: Caught,
        settle: impl FnOnce() -> Result<Box<dyn InForce>, KernelError>,
    ) -> Result<Self, Error> {
        let mut reporter = if begun.command.is_empty() {
            Reporter::new(begun.json)
        } else {
            Reporter::beside_command(begun.json)
        };
        // Who doesn't read this won't read the rest: the first look ends the run.
        let _ = reporter.event(&Event::Started(begun.started.clone()));
        // Whoever has read it may have ended the fault by now.
        let child = if signals::pending() {
            None
        } else {
            start_child(begun.command)?
        };
        Ok(Self {
            live: Arc::new(Mutex::new(settle()?)),
            child,
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
        let (summary, wrong) = lock(&self.live).end(end.reason());
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
            End::InterfaceGone(error) => Err(error.into()),
            End::OutputClosed => Err(Error::OutputClosed),
            _ if told.is_err() => Err(Error::OutputClosed),
            _ => wrong.map_or(Ok(code), |error| Err(error.into())),
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
            // The boot clock goes on while the machine sleeps, the runtime's doesn't.
            match until_ns {
                None => std::future::pending().await,
                Some(until) => {
                    while clock::boot_ns() < until {
                        let left = Duration::from_nanos(until - clock::boot_ns().min(until));
                        sleep(left.min(TELL)).await;
                    }
                }
            }
        };
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                () = &mut deadline => return Ok(End::Time),
                Some(signal) = self.signals.recv() => return Ok(End::Signal(signal)),
                status = wait_for(&mut self.child) => return Ok(End::Child(status?)),
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

impl Live {
    fn lapsed(&self) -> Duration {
        self.lease.as_ref().map_or(self.lapsed, Lease::lapsed)
    }

    /// No packet is touched any more when this returns, and all are counted.
    fn stop(&mut self, reason: &'static str) -> Result<Stopped, KernelError> {
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
            notes: Vec::new(),
        })
    }
}

impl InForce for Live {
    fn until_ns(&self) -> Option<u64> {
        self.faults.until_ns
    }

    fn lost(&mut self) -> Vec<String> {
        self.faults.lost()
    }

    fn any_left(&self) -> bool {
        self.faults.any_left()
    }

    fn gone(&mut self, name: String) -> KernelError {
        KernelError::InterfaceGone { name }
    }

    fn snapshot(&self) -> Result<Snapshot, KernelError> {
        self.faults.snapshot(self.lapsed())
    }

    fn end(&mut self, reason: &'static str) -> (Result<Stopped, KernelError>, Option<KernelError>) {
        (self.stop(reason), None)
    }
}

fn lock(live: &Mutex<Box<dyn InForce>>) -> MutexGuard<'_, Box<dyn InForce>> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
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

fn start_child(command: &[OsString]) -> Result<Option<Child>, Error> {
    let Some((program, args)) = command.split_first() else {
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

fn started(request: &Request, faults: &Faults, seed: u64) -> Started {
    let kind = &request.spec.kind;
    Started {
        rules: faults
            .active
            .iter()
            .flat_map(|active| {
                active.rules.rules.iter().map(|named| StartedRule {
                    rule: named.name.clone(),
                    fault: kind.name(),
                    iface: active.interface.name.clone(),
                    directions: active.directions().iter().map(|it| it.name()).collect(),
                    asked: named.asked.clone(),
                    hook: active.hook().unwrap_or_default(),
                })
            })
            .collect(),
        pid: std::process::id(),
        seed: Some(seed),
        until: faults.until_ns.map(clock::wall),
        command: request
            .command
            .first()
            .map(|program| program.to_string_lossy().into_owned()),
    }
}
