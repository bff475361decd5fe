//! Says what this kernel, these privileges and these interfaces allow.

use std::path::PathBuf;

use crate::Error;

/// What to do and how to say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Interfaces to look at.
    pub interfaces: Vec<String>,
    /// The network namespace of the interfaces, or the caller's own.
    pub netns: Option<PathBuf>,
    /// JSON lines on stdout.
    pub json: bool,
}

/// Returns the exit code.
#[expect(clippy::needless_pass_by_value, reason = "it will be consumed")]
pub fn run(request: Request) -> Result<i32, Error> {
    let _ = request;
    Err(Error::NotYet("doctor"))
}
