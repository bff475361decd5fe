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
    privilege,
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

/// Frames go this much early, for it takes about as long to wake up; and those that are
/// due one after the other go together.
const LEAD_NS: u64 = 25_000;
/// While frames come and none is due soon, they may gather in the ring: to be woken for
/// each costs more than to take it. At most half of the time that they have.
const LONGEST_NAP_NS: u64 = 500_000;
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
pub struct Worker {
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

/// How a look at the TAP ended: with so many frames, and whether that was all.
enum Read {
    Some { frames: usize, all: bool },
    Gone,
}

/// What the thread has in hand.
struct Work {
    queue: Queue,
    spare: Vec<Vec<u8>>,
    /// For how long a frame that came in lately had to be held at least.
    shortest_ns: u64,
}

impl Worker {
    /// Runs until it is stopped or the TAP is gone. At a stop, what is held goes on at
    /// once, in its order.
    pub fn run(self) {
        be_exact();
        // It holds what it needs.
        let _ = privilege::keep(&[]);
        let mut work = Work {
            queue: Queue::new(self.limits),
            spare: Vec::new(),
            shortest_ns: 0,
        };
        let mut renew_ns = 0;
        let mut busy = false;
        loop {
            let now_ns = monotonic_ns();
            if now_ns >= renew_ns {
                let _ = self.lines.renew(now_ns + nanos(LEASE));
                renew_ns = now_ns + nanos(RENEWAL);
                work.shortest_ns = u64::MAX;
                // Where there is always something to do, nothing is waited for.
                if self.wait(now_ns, false) {
                    break;
                }
            }
            self.send(&mut work, now_ns, renew_ns);
            let (frames, all) = match self.receive(&mut work) {
                Read::Some { frames, all } => (frames, all),
                Read::Gone => {
                    self.counts.gone.store(true, Relaxed);
                    return;
                }
            };
            busy |= frames > 0;
            if !all {
                continue;
            }
            let due_ns = work.queue.next_ns().map(|due| due.saturating_sub(LEAD_NS));
            let until_ns = due_ns.map_or(renew_ns, |due| due.min(renew_ns));
            let nap_ns = LONGEST_NAP_NS.min(work.shortest_ns / 2);
            let naps = busy && due_ns.is_some() && nap_ns > LEAD_NS;
            let stop = if naps {
                busy = false;
                self.wait(until_ns.min(monotonic_ns() + nap_ns), false)
            } else {
                self.wait(until_ns, true)
            };
            if stop {
                break;
            }
        }
        // What comes from now on passes.
        let _ = self.lines.renew(0);
        while let Read::Some { all: false, .. } = self.receive(&mut work) {}
        self.send(&mut work, AT_ONCE, AT_ONCE);
    }

    /// Sends what is due, until a moment at which something else has to be done.
    fn send(&self, work: &mut Work, now_ns: u64, until_ns: u64) {
        let counts = &self.counts;
        let mut now_ns = now_ns;
        let (mut sent, mut late_ns, mut latest_ns) = (0, 0, 0);
        while let Some((due_ns, frame)) = work.queue.pop(now_ns.saturating_add(LEAD_NS)) {
            let written = loop {
                match rustix::io::write(&self.tap, &frame.buffer[frame.range.clone()]) {
                    Err(Errno::INTR) => {}
                    result => break result,
                }
            };
            if written.is_ok() {
                sent += 1;
                if now_ns != AT_ONCE {
                    let late = now_ns.saturating_sub(due_ns);
                    late_ns += late;
                    latest_ns = late.max(latest_ns);
                }
            } else {
                counts.refused.fetch_add(1, Relaxed);
            }
            work.keep(frame.buffer);
            if now_ns != AT_ONCE {
                now_ns = monotonic_ns();
                if now_ns >= until_ns {
                    break;
                }
            }
        }
        if sent > 0 {
            counts.sent.fetch_add(sent, Relaxed);
            counts.late_ns.fetch_add(late_ns, Relaxed);
            counts.latest_ns.fetch_max(latest_ns, Relaxed);
        }
    }

    fn receive(&self, work: &mut Work) -> Read {
        for frames in 0..BATCH {
            let mut buffer = work.spare.pop();
            let buffer = buffer.get_or_insert_with(|| Vec::with_capacity(LARGEST));
            match rustix::io::read(&self.tap, spare_capacity(buffer)) {
                Ok(_) => self.take(work, std::mem::take(buffer)),
                Err(error) => {
                    work.keep(std::mem::take(buffer));
                    match error {
                        Errno::INTR => {}
                        Errno::AGAIN => return Read::Some { frames, all: true },
                        _ => return Read::Gone,
                    }
                }
            }
        }
        Read::Some {
            frames: BATCH,
            all: false,
        }
    }

    fn take(&self, work: &mut Work, mut buffer: Vec<u8>) {
        let Some((due_ns, range)) = frame::take(&mut buffer, self.link) else {
            work.keep(buffer);
            return;
        };
        work.shortest_ns = work.shortest_ns.min(due_ns.saturating_sub(monotonic_ns()));
        let frame = if buffer.len() <= SMALL {
            let small = buffer[range].to_vec();
            work.keep(buffer);
            Frame {
                range: 0..small.len(),
                buffer: small,
            }
        } else {
            Frame { buffer, range }
        };
        match work.queue.push(due_ns, frame) {
            Ok(()) => self.counts.held.fetch_add(1, Relaxed),
            Err(frame) => {
                work.keep(frame.buffer);
                self.counts.full.fetch_add(1, Relaxed)
            }
        };
    }

    /// Waits for a moment, or a frame; says whether to stop.
    fn wait(&self, until_ns: u64, or_frame: bool) -> bool {
        let span = Duration::from_nanos(until_ns.saturating_sub(monotonic_ns()));
        let timeout = Timespec::try_from(span).unwrap_or_default();
        let mut descriptors = [
            PollFd::new(&self.stop, PollFlags::IN),
            PollFd::new(&self.tap, PollFlags::IN),
        ];
        let count = if or_frame { 2 } else { 1 };
        match poll(&mut descriptors[..count], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => !descriptors[0].revents().is_empty(),
            Err(_) => true,
        }
    }
}

impl Work {
    /// Large buffers serve again.
    fn keep(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() >= LARGEST && self.spare.len() < SPARE {
            buffer.clear();
            self.spare.push(buffer);
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

/// An event that stops threads.
pub fn stop_event() -> io::Result<OwnedFd> {
    use rustix::event::{EventfdFlags, eventfd};
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}
