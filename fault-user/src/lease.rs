//! Keeps rules in force, a few seconds at a time.
//!
//! The program in the kernel compares each rule's deadline with the clock. As long
//! as this thread lives and runs, it moves the deadlines on; when the process is
//! killed, stopped or hung, they pass and the fault is over.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    clock::{boot_ns, nanos},
    error::KernelError,
    maps::Deadlines,
    signals,
};

/// How long a fault outlives a process that can no longer keep it.
pub const LEASE: Duration = Duration::from_secs(3);
/// How often it is renewed: seven times a lease.
pub const RENEWAL: Duration = Duration::from_millis(400);

/// The first deadline of a fault that ends at `end_ns`, if by time.
pub fn first_deadline(end_ns: Option<u64>) -> u64 {
    deadline(boot_ns(), end_ns)
}

fn deadline(now: u64, end_ns: Option<u64>) -> u64 {
    let lease = now + nanos(LEASE);
    end_ns.map_or(lease, |end| lease.min(end))
}

/// Rules in force, until it is dropped.
pub struct Lease {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    stop: bool,
    lapsed: Duration,
    /// When the rules end, if by time.
    end_ns: Option<u64>,
}

/// The deadlines of one object and the rules that they belong to.
pub struct Terms {
    /// Where they are.
    pub deadlines: Deadlines,
    /// The rules.
    pub rules: Vec<u32>,
}

impl Lease {
    /// Starts to renew, at once. `deadline_ns` is what the rules have now.
    pub fn start(
        mut terms: Vec<Terms>,
        deadline_ns: u64,
        end_ns: Option<u64>,
    ) -> Result<Self, KernelError> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                stop: false,
                lapsed: Duration::ZERO,
                end_ns,
            }),
            wake: Condvar::new(),
        });
        let thread = thread::Builder::new()
            .name("lease".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || keep(&shared, &mut terms, deadline_ns)
            })
            .map_err(KernelError::system("start a thread"))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Moves the end of the rules.
    pub fn set_end(&self, end_ns: Option<u64>) {
        self.shared.lock().end_ns = end_ns;
    }

    /// How long the rules had no force, because this process did not get to run.
    pub fn lapsed(&self) -> Duration {
        self.shared.lock().lapsed
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep(shared: &Shared, terms: &mut [Terms], deadline_ns: u64) {
    let mut last = deadline_ns;
    let mut state = shared.lock();
    // A signal ends the force of the rules even while the main thread is stuck, as in
    // a write that nobody reads.
    while !state.stop && !signals::pending() {
        let (now, end_ns) = (boot_ns(), state.end_ns);
        if now > last && end_ns.is_none_or(|end| last < end) {
            let until = end_ns.map_or(now, |end| now.min(end));
            state.lapsed += Duration::from_nanos(until - last);
        }
        last = deadline(now, end_ns);
        set(terms, last);
        state = shared
            .wake
            .wait_timeout_while(state, RENEWAL, |state| !state.stop)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
    set(terms, 0);
}

/// A map that can't be written keeps its old deadline, which passes.
fn set(terms: &mut [Terms], deadline_ns: u64) {
    for Terms { deadlines, rules } in terms {
        for rule in rules {
            let _ = deadlines.set(*rule, deadline_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_comes_at_least_six_times_a_lease() {
        assert!(RENEWAL * 6 <= LEASE);
    }

    #[test]
    fn deadline_never_passes_the_end() {
        assert_eq!(deadline(10, Some(11)), 11);
        assert_eq!(deadline(10, None), 10 + 3_000_000_000);
        assert_eq!(deadline(10, Some(u64::MAX)), 10 + 3_000_000_000);
    }
}
