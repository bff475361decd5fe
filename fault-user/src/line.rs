//! The delay line for kernels without fq: this process holds the frames.
//!
//! A program on the interface sends a frame to a TAP with the time at which it is due
//! ([`fault_common::line`]); a thread keeps it and writes it back; a program on the TAP
//! sends it on to where it was going. The interface's qdisc, offloads and MTU stay as
//! they are.
//!
//! Three things end it, and each lets packets flow: dropping [`Line`] sends on what is
//! held; the end of the process takes the TAP away, and the program sees that it is
//! gone; a process that is stopped renews nothing, and the program stops to send within
//! a lease.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::{self, JoinHandle},
    time::Duration,
};

use aya::{Ebpf, programs::SchedClassifier};
use fault_common::{layout::Direction, line};

use crate::{
    clock::{monotonic_ns, nanos},
    error::KernelError,
    interface::Interface,
    lease::LEASE,
    maps::Lines,
    namespace::Namespace,
};

mod back;
mod engine;
mod frame;
mod queue;
mod tap;

use engine::{Counts, Holder, stop_event};
pub use queue::Limits;
use tap::Tap;

/// What holds packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// The best that the kernel has.
    #[default]
    Auto,
    /// The kernel's own queue by departure time.
    Fq,
    /// This process, behind a TAP.
    Tap,
}

/// A helper device for one direction of an interface; nothing is held yet.
#[derive(Debug)]
pub struct Helper {
    tap: Tap,
    iface: Interface,
    namespace: Namespace,
}

/// A helper at work. Dropped, it sends on what it holds: take the programs off the
/// interface before.
#[derive(Debug)]
pub struct Line {
    ifindex: u32,
    namespace: Namespace,
    counts: Arc<Counts>,
    stop: Arc<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
    /// Keeps the program on the helper.
    _back: Option<OwnedFd>,
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
    /// By how much those that were given back were late on average.
    pub mean_late: Duration,
    /// And at most.
    pub most_late: Duration,
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
    /// interface's namespace. More than one queue means more than one thread.
    pub fn open(
        namespace: &Namespace,
        iface: &Interface,
        direction: Direction,
        engine: Engine,
    ) -> Result<Self, KernelError> {
        if engine == Engine::Fq {
            return Err(KernelError::Feature {
                feature: "fq",
                fix: "use `--engine tap`",
                source: "not there yet".into(),
            });
        }
        Ok(Self {
            tap: Tap::open(namespace, iface, direction, 1)?,
            iface: iface.clone(),
            namespace: namespace.clone(),
        })
    }

    /// Its index in the interface's namespace.
    pub fn ifindex(&self) -> u32 {
        self.tap.ifindex
    }

    /// Its name there.
    pub fn name(&self) -> &str {
        &self.tap.name
    }

    /// What the programs have to know of it. `born_ns` (`CLOCK_MONOTONIC`) is when the
    /// program is put on the interface.
    pub fn line(&self, born_ns: u64) -> line::Line {
        line::Line {
            until_ns: 0,
            born_ns,
            helper: self.tap.ifindex,
            iface: self.iface.index,
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
        let (name, ifindex) = (&self.tap.name, self.tap.ifindex);
        let back = self.namespace.run(|| back::attach(back, name, ifindex))?;
        // From here on, not from when a thread gets to run.
        let _ = lines.renew(monotonic_ns() + nanos(LEASE));
        let lines = Arc::new(lines);
        let stop = stop_event().map_err(KernelError::system("create an event"))?;
        let mut line = Line {
            ifindex,
            namespace: self.namespace,
            counts: Arc::default(),
            stop: Arc::new(stop),
            threads: Vec::new(),
            _back: back,
        };
        let threads = self.tap.queues.len();
        let limits = Limits {
            frames: limits.frames / threads,
            bytes: limits.bytes / threads,
        };
        for queue in self.tap.queues {
            let holder = Holder {
                tap: queue,
                stop: Arc::clone(&line.stop),
                link: self.iface.link,
                limits,
                counts: Arc::clone(&line.counts),
                lines: Arc::clone(&lines),
            };
            let thread = thread::Builder::new()
                .name("line".into())
                .spawn(move || holder.run())
                .map_err(KernelError::system("start a thread"))?;
            line.threads.push(thread);
        }
        Ok(line)
    }
}

impl Line {
    /// What became of the frames until now.
    pub fn stats(&self) -> Result<Stats, KernelError> {
        Ok(self.stats_with(self.overruns()?))
    }

    fn overruns(&self) -> Result<u64, KernelError> {
        match self.namespace.run(|| Tap::overruns(self.ifindex)) {
            Err(error) if error.is_missing_namespace() => Ok(0),
            result => result,
        }
    }

    fn stats_with(&self, overruns: u64) -> Stats {
        let counts = &self.counts;
        let sent = counts.sent.load(Relaxed);
        let lost = counts.full.load(Relaxed) + counts.refused.load(Relaxed);
        Stats {
            held: counts.held.load(Relaxed),
            sent,
            dropped: lost + overruns,
            mean_late: Duration::from_nanos(counts.late_ns.load(Relaxed) / sent.max(1)),
            most_late: Duration::from_nanos(counts.latest_ns.load(Relaxed)),
        }
    }

    /// Whether the helper is still there.
    pub fn is_there(&self) -> bool {
        !self.counts.gone.load(Relaxed)
    }

    /// Sends on what is held, and says what became of all. The helper is gone then.
    pub fn end(mut self) -> Result<Stats, KernelError> {
        // The ring's count goes with the device.
        let overruns = self.overruns()?;
        self.stop();
        Ok(self.stats_with(overruns))
    }

    fn stop(&mut self) {
        // Only a full counter refuses, and that says the same.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop();
    }
}
