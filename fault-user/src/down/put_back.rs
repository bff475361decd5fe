//! Putting a link back, from whichever process is left.

use std::time::Duration;

use rustix::process::Signal;

use super::{
    restore::{self, PATIENCE},
    saved::Saved,
    state::State,
};
use crate::error::KernelError;

/// What is left of a fault, for those who look at it from outside.
#[derive(Debug, Default)]
pub struct Left {
    /// Its name now, if it is there.
    pub name: Option<String>,
    /// Whether the link is away.
    pub away: bool,
    /// What is not as it was.
    pub missing: Vec<String>,
}

/// Looks at a link that was taken away.
pub fn left(saved: &Saved) -> Result<Left, KernelError> {
    let looked = match saved.namespace() {
        Some(namespace) => namespace.run(|| restore::look(saved)),
        None => Ok(Left::default()),
    };
    match looked {
        Err(KernelError::LinkGone { .. } | KernelError::OtherLink { .. }) => Ok(Left::default()),
        Err(error) if error.is_missing_namespace() => Ok(Left::default()),
        looked => looked,
    }
}

/// How long putting back may take, with a second attempt.
pub const LONGEST: Duration = PATIENCE.saturating_mul(2);

/// Ends the processes of a fault, and waits until one of them has put the link back.
pub fn end(state: &State) -> Result<(), KernelError> {
    const SHORT: Duration = Duration::from_secs(2);
    let saved = &state.saved;
    if let Some(process) = saved.controller.find() {
        process.signal(Signal::TERM)?;
        // A stopped process has to run to end.
        process.signal(Signal::CONT)?;
        if !process.wait(LONGEST)? {
            process.signal(Signal::KILL)?;
            process.wait(SHORT)?;
        }
    }
    // By now it is dismissed, at work, or does not get to run.
    if let Some(process) = saved.watchdog.find() {
        process.signal(Signal::CONT)?;
        if !process.wait(LONGEST)? {
            process.signal(Signal::KILL)?;
            process.wait(SHORT)?;
        }
    }
    Ok(())
}

/// What came of putting links back.
#[derive(Debug, Default)]
pub struct PutBack {
    /// Links with which there was nothing left to do, because somebody else had done it.
    pub by_another: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// What was refused.
    pub failed: Vec<String>,
}

/// Puts links back, one after the other, and says what came of it; the error is of a link
/// with which that could not even begin. A file stays if something was refused, for
/// `clear` to try again; after the `last` attempt it does not. Waits for one who is at it,
/// but no longer than `at_most`.
pub fn put_back(states: &[State], last: bool, at_most: Duration) -> (PutBack, Option<KernelError>) {
    let mut all = PutBack::default();
    let mut error = None;
    let mut again = Vec::new();
    for state in states {
        // What leads through two of them is refused until both are back.
        let more_to_come = states.len() > 1;
        match put_back_one(state, last && !more_to_come, at_most) {
            Ok(back) if back.failed.is_empty() || !more_to_come => all.add(back),
            Err(only) if !more_to_come => error = Some(only),
            _ => again.push(state),
        }
    }
    for state in again {
        match put_back_one(state, last, at_most) {
            Ok(back) => all.add(back),
            Err(other) => error = Some(other),
        }
    }
    (all, error)
}

impl PutBack {
    fn add(&mut self, other: Self) {
        self.by_another.extend(other.by_another);
        self.notes.extend(other.notes);
        self.failed.extend(other.failed);
    }
}

/// One link, unless somebody else has done it.
fn put_back_one(state: &State, last: bool, at_most: Duration) -> Result<PutBack, KernelError> {
    let name = &state.saved.target().name;
    let mut back = PutBack::default();
    let Some(claim) = state.claim(at_most)? else {
        back.by_another.push(name.clone());
        return Ok(back);
    };
    let restored = match state.saved.namespace() {
        Some(namespace) => namespace.run(|| restore::restore(&state.saved, PATIENCE)),
        None => Err(KernelError::LinkGone { name: name.clone() }),
    };
    match restored {
        Ok(missing) => {
            back.failed = missing.failed;
            back.notes.extend(missing.kernel.into_iter().map(|what| {
                format!("only the kernel can make it again, and has not so far: {what}")
            }));
        }
        // There is nothing to put anything on.
        Err(error @ (KernelError::LinkGone { .. } | KernelError::OtherLink { .. })) => {
            back.notes.push(error.to_string());
        }
        Err(error) if error.is_missing_namespace() => back.notes.push(error.to_string()),
        Err(error) => return Err(error),
    }
    if back.failed.is_empty() || last {
        claim.done()?;
    }
    Ok(back)
}
