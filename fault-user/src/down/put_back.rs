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

/// Ends the processes of a fault, waits until one of them has put the link back, and does
/// it itself if none did.
pub fn end(state: &State) -> Result<PutBack, KernelError> {
    /// More than putting back may take.
    const LONGEST: Duration = PATIENCE.saturating_add(Duration::from_secs(2));
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
    put_back(state, true)
}

/// What came of putting a link back.
#[derive(Debug, Default)]
pub struct PutBack {
    /// Whether there was nothing left to do, because somebody else had done it.
    pub by_another: bool,
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// What was refused.
    pub failed: Vec<String>,
}

/// Puts a link back, unless somebody else has done it. The file stays if something was
/// refused, for `clear` to try again; after the `last` attempt it does not.
pub fn put_back(state: &State, last: bool) -> Result<PutBack, KernelError> {
    let name = &state.saved.target().name;
    let mut back = PutBack::default();
    let Some(claim) = state.claim(PATIENCE * 2)? else {
        back.by_another = true;
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
