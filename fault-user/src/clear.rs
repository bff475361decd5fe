//! Ends the faults of every faultctl process.

use crate::Error;

/// What to do and how to say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Only on these interfaces; empty for all.
    pub interfaces: Vec<String>,
    /// JSON lines on stdout.
    pub json: bool,
}

/// Returns the exit code.
#[expect(clippy::needless_pass_by_value, reason = "it will be consumed")]
pub fn run(request: Request) -> Result<i32, Error> {
    let _ = request;
    Err(Error::NotYet("clear"))
}
