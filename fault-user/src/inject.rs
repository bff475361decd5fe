//! Puts a fault into force, for its life.

use std::{ffi::OsString, net::SocketAddr, time::Duration};

use ipnet::IpNet;
use tokio::runtime::Runtime;

use crate::{
    Error,
    active::{Faults, Plan},
    control_path,
    detach::{self, Caller},
    error::KernelError,
    follow::Names,
    line::{Engine, Limits},
    metrics,
    namespace::{Namespace, Place},
    object::Object,
    privilege,
    session::Session,
    signals::Caught,
    spec::{Directions, FaultSpec, endpoint::Resolved},
};

mod kept;

use kept::Kept;

/// A fault, where it goes and how long it lives.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub struct Request {
    /// The fault.
    pub spec: FaultSpec,
    /// Where the far ends of the fault come from, for those that are host names.
    pub far_ends: FarEnds,
    /// Names of the interfaces, without duplicates, in the order given; none for every
    /// one but loopback.
    pub interfaces: Vec<String>,
    /// The network namespace of the interfaces.
    pub place: Place,
    /// Whether the operator's own SSH connection is hit like any other.
    pub include_ssh: bool,
    /// When it ends by itself.
    pub duration: Option<Duration>,
    /// Whether a background process holds it, and the command returns.
    pub detached: bool,
    /// When it ends unless a line on stdin confirms it.
    pub confirm: Option<Duration>,
    /// Where to serve metrics.
    pub metrics: Option<SocketAddr>,
    /// JSON lines on stdout.
    pub json: bool,
    /// Which hook takes what comes in.
    pub hook: Hook,
    /// How to attach on tc.
    pub attach: AttachMode,
    /// What holds packets that wait.
    pub engine: Engine,
    /// How many may wait, in each direction of an interface.
    pub limits: Limits,
    /// Whether to tell of packets one by one.
    pub verbose: bool,
    /// How it was asked for, where that is not the command line.
    pub record: Option<String>,
    /// The child command and its arguments; empty for none.
    pub command: Vec<OsString>,
}

/// What `--to` and `--except` named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FarEnds {
    /// Those that are hit.
    pub to: Resolved,
    /// Those that are not.
    pub except: Resolved,
}

impl FarEnds {
    /// The host names among them.
    pub fn names(&self) -> Names {
        let names = self.to.names.iter().chain(&self.except.names);
        names
            .map(|(name, addresses)| (name.clone(), addresses.clone()))
            .collect()
    }

    /// Gives a name other addresses.
    pub fn set(&mut self, name: &str, addresses: &[IpNet]) {
        for ends in [&mut self.to, &mut self.except] {
            if let Some(known) = ends.names.get_mut(name) {
                *known = addresses.to_vec();
            }
        }
    }
}

/// Where frames that come in are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hook {
    /// On tc, as those that leave.
    #[default]
    Tc,
    /// On XDP: before there is an skb, where the driver can.
    Xdp,
}

impl Hook {
    /// Refuses a fault that it can't do.
    pub fn check(self, spec: &FaultSpec) -> Result<(), Error> {
        match self {
            Self::Xdp if !spec.kind.only_loses() => Err(Error::XdpVerb {
                verb: spec.kind.name(),
            }),
            Self::Xdp if spec.selectors.directions == Directions::Egress => Err(Error::XdpEgress),
            _ => Ok(()),
        }
    }
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

/// Runs the fault to its end, or leaves it to a holder, and returns the exit code.
pub fn run(request: &Request) -> Result<i32, Error> {
    if request.detached {
        Ok(detach::run(request.json, |caller| {
            hold(request, Some(caller))
        })?)
    } else {
        hold(request, None)
    }
}

fn hold(request: &Request, caller: Option<Caller>) -> Result<i32, Error> {
    privilege::require(&privilege::TO_ATTACH)?;
    if request.place != Place::Own {
        privilege::require(&[privilege::TO_LOOK_AROUND])?;
    }
    let namespace = Namespace::of(&request.place)?;
    let object = if request.verbose {
        Object::verbose()?
    } else {
        Object::embedded()?
    };
    // Before any work in another namespace: what runtimes share is a socket pair that
    // would hold the namespace it is made in.
    let runtime = runtime()?;
    let listener = request.metrics.map(metrics::listen).transpose()?;
    let seed = request.spec.seed.unwrap_or_else(random_seed);
    let spared = if request.include_ssh {
        Vec::new()
    } else {
        control_path::find(&namespace)?
    };
    let caught = Caught::of_session(caller.is_some())?;
    let command = request.record.clone().unwrap_or_else(command_line);
    let mut faults = Faults::begin(
        &Plan {
            spec: &request.spec,
            seed,
            interfaces: &request.interfaces,
            namespace: &namespace,
            duration: request.duration,
            confirm: request.confirm,
            spared: &spared,
            names: request.far_ends.names().len(),
            hook: request.hook,
            attach: request.attach,
            engine: request.engine,
            limits: request.limits,
            command: &command,
        },
        object,
    )?;
    runtime.block_on(async {
        let begun = kept::begun(request, &mut faults, seed, caller)?;
        Session::start(begun, caught, || {
            Ok(Box::new(Kept::new(faults, request, &namespace)?))
        })?
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
