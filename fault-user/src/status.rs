//! Lists the faults that are active.

use crate::Error;

/// What to do and how to say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// JSON lines on stdout.
    pub json: bool,
}

/// Returns the exit code.
#[expect(clippy::needless_pass_by_value, reason = "it will be consumed")]
pub fn run(request: Request) -> Result<i32, Error> {
    let _ = request;
    Err(Error::NotYet("status"))
}
