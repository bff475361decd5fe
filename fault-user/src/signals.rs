//! Signals: the first ends the fault, the second the process, whatever it is doing.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    flag,
    iterator::{SignalsInfo, exfiltrator::origin::WithOrigin},
    low_level::siginfo::Cause,
};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::error::KernelError;

/// Set by the handlers, which are the process's.
static PENDING: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Whether a signal that is caught has come.
pub fn pending() -> bool {
    PENDING.load(Ordering::Relaxed)
}

/// A signal that asks for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its number.
    pub number: i32,
    /// Whether the terminal sent it: then a child has got it too.
    pub from_terminal: bool,
}

/// Signals that are caught and not delivered yet.
pub struct Caught(SignalsInfo<WithOrigin>);

impl Caught {
    /// From now on, the first signal does not end the process. The second does, on the
    /// spot, with the code that a shell gives to a process that a signal ended.
    ///
    /// A process that is `detached` has no terminal, and none that hangs up ends it.
    pub fn of_session(detached: bool) -> Result<Self, KernelError> {
        let caught = || {
            let mut ends = vec![SIGINT, SIGTERM, SIGQUIT];
            if detached {
                flag::register(SIGHUP, Arc::default())?;
            } else {
                ends.push(SIGHUP);
            }
            for &signal in &ends {
                // In this order: the second signal finds the flag that the first one set.
                flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&PENDING))?;
                flag::register(signal, Arc::clone(&PENDING))?;
            }
            SignalsInfo::new(ends).map(Self)
        };
        caught().map_err(KernelError::system("catch signals"))
    }

    /// Delivers them.
    pub fn deliver(self) -> Result<UnboundedReceiver<Ended>, KernelError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let Self(mut signals) = self;
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for origin in signals.forever() {
                    let ended = Ended {
                        number: origin.signal,
                        from_terminal: matches!(origin.cause, Cause::Kernel),
                    };
                    if sender.send(ended).is_err() {
                        return;
                    }
                }
            })
            .map_err(KernelError::system("start a thread"))?;
        Ok(receiver)
    }
}
