//! The thread beside fq: says that somebody is here, and sees whether the helper is.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    time::Timespec,
};

use super::{pair, worker::Counts};
use crate::{
    clock::{monotonic_ns, nanos},
    lease::{LEASE, RENEWAL},
    maps::Lines,
    privilege,
};

/// What the thread works with. It runs in the namespace of the pair's far end.
pub struct Keeper {
    /// Becomes readable when it is to end.
    pub stop: Arc<OwnedFd>,
    /// Where it says that the helper is gone.
    pub counts: Arc<Counts>,
    /// Where programs see that this process lives.
    pub lines: Lines,
}

impl Keeper {
    /// Runs until it is stopped or the pair is gone; then frames pass.
    pub fn run(self) {
        // It holds what it needs.
        let _ = privilege::keep(&[]);
        let span = Timespec::try_from(RENEWAL).unwrap_or_default();
        loop {
            let _ = self.lines.renew(monotonic_ns() + nanos(LEASE));
            if !pair::is_here() {
                self.counts.gone.store(true, Relaxed);
                break;
            }
            let mut descriptors = [PollFd::new(&self.stop, PollFlags::IN)];
            match poll(&mut descriptors, Some(&span)) {
                Ok(0) | Err(Errno::INTR) => {}
                _ => break,
            }
        }
        let _ = self.lines.renew(0);
    }
}
