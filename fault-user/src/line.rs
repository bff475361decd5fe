//! The delay line: frames leave the interface for a helper device, are held there, and
//! come back to go on.
//!
//! A program on the interface sends a frame to the helper with the time at which it is due
//! ([`fault_common::line`]); a program on the helper sends it on to where it was going. The
//! interface's qdisc, offloads and MTU stay as they are. There are two engines:
//!
//! - **fq**: the helper is a pair of veth, and the kernel's packet scheduler fq on it holds
//!   the frames. The pair's other end is in a network namespace that only this process
//!   holds.
//! - **TAP**, for kernels without fq: a thread of this process holds them.
//!
//! Three things end it, and each lets packets flow: dropping [`Line`] sends on what is
//! held (TAP) or waits until it has gone on, for two seconds at most (fq); the end of the
//! process takes the helper away, and the program sees that it is gone; a process that is
//! stopped renews nothing, and the program stops to send within a lease.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::{self, JoinHandle},
    time::Duration,
};

use aya::{Ebpf, programs::SchedClassifier};
use fault_common::{layout::Direction, line, packet::LinkLayer};

use crate::{
    clock::{monotonic_ns, nanos},
    error::KernelError,
    interface::Interface,
    lease::LEASE,
    maps::Lines,
    namespace::Namespace,
};

mod back;
mod device;
mod frame;
mod keeper;
mod pair;
mod queue;
mod tap;
mod worker;

use keeper::Keeper;
use pair::{Pair, Tally};
pub use queue::Limits;
use tap::Tap;
use worker::{Counts, Worker, stop_event};

/// Who holds the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// fq where the kernel has it and this process may use it, else the TAP.
    #[default]
    Auto,
    /// The kernel's packet scheduler fq: Linux 5.15, `CONFIG_NET_SCH_FQ`, veth, and
    /// `CAP_SYS_ADMIN` for a namespace of its own.
    Fq,
    /// A thread of this process: `CONFIG_TUN`.
    Tap,
}

/// A helper device for one direction of an interface; nothing is held yet.
#[derive(Debug)]
pub struct Helper {
    device: Device,
    iface: Interface,
    namespace: Namespace,
}

#[derive(Debug)]
enum Device {
    Tap(Tap),
    Fq(Pair),
}

/// A helper at work. Dropped, it sees to what it holds: take the programs off the
/// interface before.
#[derive(Debug)]
pub struct Line {
    ifindex: u32,
    namespace: Namespace,
    counts: Arc<Counts>,
    /// Where fq holds the frames.
    pair: Option<Pair>,
    stop: Arc<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
    /// Keep the program on the helper.
    attached: Vec<OwnedFd>,
}

/// What became of frames; a super-packet is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Taken in to be held.
    pub held: u64,
    /// Given back.
    pub sent: u64,
    /// Lost because too much was held, or because too much came at once.
    pub dropped: u64,
    /// By how much those that were given back were late on average. fq doesn't say.
    pub mean_late: Option<Duration>,
    /// And at most.
    pub most_late: Option<Duration>,
}

/// Whether an interface of this name is one of ours.
pub fn is_helper(name: &str) -> bool {
    name.starts_with("fc-")
}

/// Loads the program for the helper of a direction.
pub fn load(ebpf: &mut Ebpf, direction: Direction) -> Result<(), KernelError> {
    back(ebpf, direction)?
        .load()
        .map_err(|source| KernelError::Program {
            what: "load",
            program: name(direction),
            source: Box::new(source),
        })
}

/// The program for the helper of a direction.
pub fn back(ebpf: &mut Ebpf, direction: Direction) -> Result<&mut SchedClassifier, KernelError> {
    let program = ebpf.program_mut(name(direction));
    let program = program.ok_or(KernelError::ObjectVersion)?;
    program.try_into().map_err(|source| KernelError::Program {
        what: "find",
        program: name(direction),
        source: Box::new(source),
    })
}

fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "faultctl_back_out",
        Direction::Ingress => "faultctl_back_in",
    }
}

impl Helper {
    /// Makes the device `fc-IFACE-out0` or `fc-IFACE-in0`, or the next number, in the
    /// interface's namespace. More than one queue means more than one thread of a TAP.
    pub fn open(
        engine: Engine,
        namespace: &Namespace,
        iface: &Interface,
        direction: Direction,
        queues: usize,
    ) -> Result<Self, KernelError> {
        let tap = || Tap::open(namespace, iface, direction, queues).map(Device::Tap);
        let fq = || Pair::open(namespace, iface, direction).map(Device::Fq);
        let device = match engine {
            Engine::Tap => tap(),
            Engine::Fq => fq(),
            Engine::Auto => match fq() {
                Err(error) if is_lacking(&error) => tap(),
                result => result,
            },
        }?;
        Ok(Self {
            device,
            iface: iface.clone(),
            namespace: namespace.clone(),
        })
    }

    /// The engine that was chosen: never [`Engine::Auto`].
    pub fn engine(&self) -> Engine {
        match &self.device {
            Device::Tap(_) => Engine::Tap,
            Device::Fq(_) => Engine::Fq,
        }
    }

    /// Its index in the interface's namespace.
    pub fn ifindex(&self) -> u32 {
        match &self.device {
            Device::Tap(tap) => tap.ifindex,
            Device::Fq(pair) => pair.ifindex,
        }
    }

    /// Its name there.
    pub fn name(&self) -> &str {
        match &self.device {
            Device::Tap(tap) => &tap.name,
            Device::Fq(pair) => &pair.name,
        }
    }

    /// What the programs have to know of it. `born_ns` (`CLOCK_MONOTONIC`) is when the
    /// program is put on the interface.
    pub fn line(&self, born_ns: u64) -> line::Line {
        line::Line {
            until_ns: 0,
            born_ns,
            helper: self.ifindex(),
            iface: self.iface.index,
            engine: match &self.device {
                Device::Tap(_) => line::Line::TAP,
                Device::Fq(_) => line::Line::FQ,
            },
            no_link_layer: (self.iface.link == LinkLayer::None).into(),
            in_order: 0,
            pad: 0,
        }
    }

    /// Begins to hold and give back. `back` is the loaded program that sends on what
    /// comes out of the helper, `lines` where the programs see that somebody is here.
    pub fn start(
        self,
        limits: Limits,
        lines: Lines,
        back: &mut SchedClassifier,
    ) -> Result<Line, KernelError> {
        let ifindex = self.ifindex();
        let stop = stop_event().map_err(KernelError::system("create an event"))?;
        let mut line = Line {
            ifindex,
            namespace: self.namespace,
            counts: Arc::default(),
            pair: None,
            stop: Arc::new(stop),
            threads: Vec::new(),
            attached: Vec::new(),
        };
        match self.device {
            Device::Fq(mut pair) => {
                let attached = pair.start(&line.namespace, limits, back)?;
                line.attached.extend(attached);
                line.keep(pair, lines)?;
            }
            Device::Tap(tap) => {
                let attach = || back::attach(back, &tap.name, ifindex, Direction::Ingress);
                line.attached.extend(line.namespace.run(attach)?);
                line.work(tap, self.iface.link, limits, lines)?;
            }
        }
        Ok(line)
    }
}

/// Whether the kernel has no such thing, or no right to it is given.
fn is_lacking(error: &KernelError) -> bool {
    match error {
        KernelError::Feature { .. } => true,
        KernelError::System { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
        _ => false,
    }
}

impl Line {
    /// What became of the frames until now.
    pub fn stats(&self) -> Result<Stats, KernelError> {
        match &self.pair {
            Some(pair) => Ok(Stats::of(self.ask(|| pair.tally())?)),
            None => Ok(self.stats_with(self.overruns()?)),
        }
    }

    /// Whether the helper is still there.
    pub fn is_there(&self) -> bool {
        !self.counts.gone.load(Relaxed)
    }

    /// Sees to what is held, and says what became of all. A TAP's frames go on at once;
    /// those in fq when they are due, or they are lost if that is in over two seconds. The
    /// helper is gone then, or about to.
    pub fn end(mut self) -> Result<Stats, KernelError> {
        // The ring's count goes with the device.
        let overruns = match &self.pair {
            Some(_) => 0,
            None => self.overruns()?,
        };
        self.stop();
        match self.pair.take() {
            Some(pair) => {
                let mut tally = self.ask(|| pair.settle())?;
                tally.dropped += tally.waiting;
                Ok(Stats::of(tally))
            }
            None => Ok(self.stats_with(overruns)),
        }
    }

    /// The threads of a TAP.
    fn work(
        &mut self,
        tap: Tap,
        link: LinkLayer,
        limits: Limits,
        lines: Lines,
    ) -> Result<(), KernelError> {
        // From here on, not from when a thread gets to run.
        let _ = lines.renew(monotonic_ns() + nanos(LEASE));
        let lines = Arc::new(lines);
        let threads = tap.queues.len();
        let limits = Limits {
            frames: limits.frames / threads,
            bytes: limits.bytes / threads,
        };
        for queue in tap.queues {
            let worker = Worker {
                tap: queue,
                stop: Arc::clone(&self.stop),
                link,
                limits,
                counts: Arc::clone(&self.counts),
                lines: Arc::clone(&lines),
            };
            let thread = thread::Builder::new()
                .name("line".into())
                .spawn(move || worker.run())
                .map_err(KernelError::system("start a thread"))?;
            self.threads.push(thread);
        }
        Ok(())
    }

    /// The thread beside fq.
    fn keep(&mut self, pair: Pair, lines: Lines) -> Result<(), KernelError> {
        let _ = lines.renew(monotonic_ns() + nanos(LEASE));
        let keeper = Keeper {
            stop: Arc::clone(&self.stop),
            counts: Arc::clone(&self.counts),
            lines,
        };
        self.threads.push(pair.spawn(move || keeper.run())?);
        self.pair = Some(pair);
        Ok(())
    }

    fn overruns(&self) -> Result<u64, KernelError> {
        self.ask(|| Ok(device::sent(&device::look(self.ifindex)?).1))
    }

    /// Asks in the interface's namespace. A helper that is gone has nothing to say.
    fn ask<T: Default + Send>(
        &self,
        question: impl FnOnce() -> Result<T, KernelError> + Send,
    ) -> Result<T, KernelError> {
        match self.namespace.run(question) {
            Err(error) if error.is_missing_namespace() || device::is_missing(&error) => {
                Ok(T::default())
            }
            result => result,
        }
    }

    fn stats_with(&self, overruns: u64) -> Stats {
        let counts = &self.counts;
        let sent = counts.sent.load(Relaxed);
        let lost = counts.full.load(Relaxed) + counts.refused.load(Relaxed);
        let mean_late = Duration::from_nanos(counts.late_ns.load(Relaxed) / sent.max(1));
        let most_late = Duration::from_nanos(counts.latest_ns.load(Relaxed));
        Stats {
            held: counts.held.load(Relaxed),
            sent,
            dropped: lost + overruns,
            mean_late: Some(mean_late),
            most_late: Some(most_late),
        }
    }

    fn stop(&mut self) {
        // Only a full counter refuses, and that says the same.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Stats {
    fn of(tally: Tally) -> Self {
        Self {
            held: tally.sent + tally.waiting,
            sent: tally.sent,
            dropped: tally.dropped,
            ..Self::default()
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop();
        if let Some(pair) = &self.pair {
            let _ = self.ask(|| pair.settle());
        }
    }
}
