//! Puts a fault into force, for its life.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use crate::{Error, spec::FaultSpec};

/// A fault, where it goes and how long it lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The fault.
    pub spec: FaultSpec,
    /// Names of the interfaces, without duplicates, in the order given.
    pub interfaces: Vec<String>,
    /// The network namespace of the interfaces, or the caller's own.
    pub netns: Option<PathBuf>,
    /// When it ends by itself.
    pub duration: Option<Duration>,
    /// Where to serve metrics.
    pub metrics: Option<SocketAddr>,
    /// JSON lines on stdout.
    pub json: bool,
    /// How to attach.
    pub attach: AttachMode,
    /// The child command and its arguments; empty for none.
    pub command: Vec<OsString>,
}

/// How programs are attached to the tc hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// tcx where the kernel has it (from Linux 6.6), else clsact.
    #[default]
    Auto,
    /// tcx links.
    Tcx,
    /// Filters on the clsact qdisc.
    Clsact,
}

/// Runs the fault to its end and returns the exit code.
#[expect(clippy::needless_pass_by_value, reason = "it will be consumed")]
pub fn run(request: Request) -> Result<i32, Error> {
    let _ = request;
    Err(Error::NotYet("inject"))
}
