//! Puts a fault into force, for its life.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use tokio::runtime::Runtime;

use crate::{
    Error,
    active::{Faults, Plan},
    error::KernelError,
    metrics,
    namespace::Namespace,
    object::Object,
    privilege,
    session::Session,
    signals::Caught,
    spec::FaultSpec,
};

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
pub fn run(request: &Request) -> Result<i32, Error> {
    let namespace = request
        .netns
        .as_deref()
        .map_or_else(Namespace::default, Namespace::named);
    privilege::require(&privilege::TO_ATTACH)?;
    if !namespace.is_own() {
        privilege::require(&[privilege::TO_LOOK_AROUND])?;
    }
    let object = Object::embedded()?;
    // Before any work in another namespace: what runtimes share is a socket pair that
    // would hold the namespace it is made in.
    let runtime = runtime()?;
    let listener = request.metrics.map(metrics::listen).transpose()?;
    let seed = request.spec.seed.unwrap_or_else(random_seed);
    let caught = Caught::new()?;
    let command = command_line();
    let faults = Faults::begin(
        &Plan {
            spec: &request.spec,
            seed,
            interfaces: &request.interfaces,
            namespace: &namespace,
            duration: request.duration,
            attach: request.attach,
            command: &command,
        },
        object,
    )?;
    runtime.block_on(async {
        Session::start(request, &namespace, faults, seed, caught)?
            .run(listener)
            .await
    })
}

/// What a fault's session runs on.
pub(crate) fn runtime() -> Result<Runtime, KernelError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(KernelError::system("create a runtime"))
}

/// The arguments as they were typed, for whoever asks whose a fault is.
pub(crate) fn command_line() -> String {
    let args: Vec<_> = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    args.join(" ")
}

/// From the standard library's hasher, which the system seeds.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0)
}
