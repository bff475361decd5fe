//! A thread that holds frames: from the TAP into the queue, and back when they are due.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use fault_common::packet::LinkLayer;
use rustix::{
    buffer::spare_capacity,
    event::{PollFd, PollFlags, poll},
    io::Errno,
    time::Timespec,
};

use super::{
    frame,
    queue::{Frame, Limits, Queue},
};
use crate::{
    clock::{monotonic_ns, nanos},
    lease::{LEASE, RENEWAL},
    maps::Lines,
};

/// The largest frame: a super-packet of 64 KiB, metadata, tags, and the TAP's header.
const LARGEST: usize = 66 << 10;
/// Frames up to here are copied to memory of their size; what is larger stays where it
/// was read.
const SMALL: usize = 4 << 10;
/// Large buffers that are kept for the next frames.
const SPARE: usize = 256;
/// Frames that are read before due ones are looked for again: some 50 us.
const BATCH: usize = 16;

/// Later than whatever is due.
const AT_ONCE: u64 = u64::MAX;

/// What one or more threads count.
#[derive(Debug, Default)]
pub struct Counts {
    /// Frames taken in.
    pub held: AtomicU64,
    /// Frames given back.
    pub sent: AtomicU64,
    /// Frames for which there was no room.
    pub full: AtomicU64,
    /// Frames that the TAP did not take back.
    pub refused: AtomicU64,
    /// By how much they were late, in sum and at most.
    pub late_ns: AtomicU64,
    /// The most.
    pub latest_ns: AtomicU64,
    /// Whether the helper is gone, with its namespace or by someone's hand.
    pub gone: AtomicBool,
}

/// What the thread works with.
pub struct Engine {
    /// One queue of the TAP.
    pub tap: OwnedFd,
    /// Becomes readable when it is to end.
    pub stop: Arc<OwnedFd>,
    /// What is in front of the packets.
    pub link: LinkLayer,
    /// What may wait.
    pub limits: Limits,
    /// What is counted.
    pub counts: Arc<Counts>,
    /// Where programs see that this thread lives.
    pub lines: Arc<Lines>,
}

/// How a look at the TAP ended.
#[derive(PartialEq, Eq)]
enum Read {
    More,
    Empty,
    Gone,
}

impl Engine {
    /// Runs until it is stopped or the TAP is gone. At a stop, what is held goes on at
    /// once, in its order.
    pub fn run(self) {
        be_exact();
        let mut queue = Queue::new(self.limits);
        let mut spare = Vec::new();
        let mut renew_ns = 0;
        loop {
            let now_ns = monotonic_ns();
            if now_ns >= renew_ns {
                let _ = self.lines.renew(now_ns + nanos(LEASE));
                renew_ns = now_ns + nanos(RENEWAL);
            }
            self.send(&mut queue, now_ns, &mut spare);
            let read = self.receive(&mut queue, &mut spare);
            if read == Read::Gone {
                self.counts.gone.store(true, Relaxed);
                return;
            }
            if read == Read::Empty {
                let until_ns = queue.next_ns().map_or(renew_ns, |due| due.min(renew_ns));
                if self.wait(until_ns) {
                    break;
                }
            }
        }
        // What comes from now on passes.
        let _ = self.lines.renew(0);
        while self.receive(&mut queue, &mut spare) == Read::More {}
        self.send(&mut queue, AT_ONCE, &mut spare);
    }

    fn send(&self, queue: &mut Queue, now_ns: u64, spare: &mut Vec<Vec<u8>>) {
        let counts = &self.counts;
        let mut now_ns = now_ns;
        let (mut sent, mut late_ns, mut latest_ns) = (0, 0, 0);
        while let Some((due_ns, frame)) = queue.pop(now_ns) {
            let written = loop {
                match rustix::io::write(&self.tap, &frame.buffer[frame.range.clone()]) {
                    Err(Errno::INTR) => {}
                    result => break result,
                }
            };
            if written.is_ok() {
                sent += 1;
                if now_ns != AT_ONCE {
                    let late = now_ns - due_ns;
                    late_ns += late;
                    latest_ns = late.max(latest_ns);
                }
            } else {
                counts.refused.fetch_add(1, Relaxed);
            }
            keep(spare, frame.buffer);
            if now_ns != AT_ONCE {
                now_ns = monotonic_ns();
            }
        }
        if sent > 0 {
            counts.sent.fetch_add(sent, Relaxed);
            counts.late_ns.fetch_add(late_ns, Relaxed);
            counts.latest_ns.fetch_max(latest_ns, Relaxed);
        }
    }

    fn receive(&self, queue: &mut Queue, spare: &mut Vec<Vec<u8>>) -> Read {
        for _ in 0..BATCH {
            let mut buffer = spare.pop().unwrap_or_else(|| Vec::with_capacity(LARGEST));
            match rustix::io::read(&self.tap, spare_capacity(&mut buffer)) {
                Ok(_) => {}
                Err(error) => {
                    keep(spare, buffer);
                    match error {
                        Errno::INTR => continue,
                        Errno::AGAIN => return Read::Empty,
                        _ => return Read::Gone,
                    }
                }
            }
            let Some((due_ns, range)) = frame::take(&mut buffer, self.link) else {
                keep(spare, buffer);
                continue;
            };
            let frame = if buffer.len() <= SMALL {
                let small = buffer[range].to_vec();
                keep(spare, buffer);
                Frame {
                    range: 0..small.len(),
                    buffer: small,
                }
            } else {
                Frame { buffer, range }
            };
            match queue.push(due_ns, frame) {
                Ok(()) => self.counts.held.fetch_add(1, Relaxed),
                Err(frame) => {
                    keep(spare, frame.buffer);
                    self.counts.full.fetch_add(1, Relaxed)
                }
            };
        }
        Read::More
    }

    /// Waits for a frame or a moment; says whether to stop.
    fn wait(&self, until_ns: u64) -> bool {
        let span = Duration::from_nanos(until_ns.saturating_sub(monotonic_ns()));
        let timeout = Timespec::try_from(span).unwrap_or_default();
        let mut descriptors = [
            PollFd::new(&self.tap, PollFlags::IN),
            PollFd::new(&self.stop, PollFlags::IN),
        ];
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => !descriptors[1].revents().is_empty(),
            Err(_) => true,
        }
    }
}

/// Without, a timer may be 50 us late, and on a busy machine the thread by many
/// milliseconds, where the kernel's own timers go before every process. The kernel leaves
/// others a twentieth of the time (`sched_rt_runtime_us`). Without the right to it, the
/// thread waits its turn.
fn be_exact() {
    let parameter = libc::sched_param { sched_priority: 1 };
    // SAFETY: takes numbers, and a parameter that lives through the call; both change
    // this thread only.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1_usize);
        libc::sched_setscheduler(0, libc::SCHED_RR, &raw const parameter);
    }
}

/// Large buffers serve again.
fn keep(spare: &mut Vec<Vec<u8>>, mut buffer: Vec<u8>) {
    if buffer.capacity() >= LARGEST && spare.len() < SPARE {
        buffer.clear();
        spare.push(buffer);
    }
}

/// An event that stops threads.
pub fn stop_event() -> io::Result<OwnedFd> {
    use rustix::event::{EventfdFlags, eventfd};
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}
