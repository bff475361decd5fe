//! Programs in force, as long as their session lives.

use std::time::Duration;

use caps::Capability;
use ipnet::IpNet;

use super::{FarEnds, Request};
use crate::{
    active::{Active, Faults},
    attach::CLSACT,
    clock,
    detach::Caller,
    error::{Error, KernelError},
    lease::Lease,
    namespace::Namespace,
    privilege,
    report::{Started, StartedRule, Stopped},
    session::{Begun, InForce},
    snapshot::Snapshot,
    spec::FaultSpec,
    xdp,
};

/// Programs on interfaces, and the lease that keeps them.
pub struct Kept {
    faults: Faults,
    followed: Option<Followed>,
    lease: Option<Lease>,
    lapsed: Duration,
}

/// What host names are far ends of. Without any, nothing is kept of what may be long lists.
struct Followed {
    spec: FaultSpec,
    far_ends: FarEnds,
}

impl Kept {
    /// Gives up what keeping them does not take, and keeps them.
    pub fn new(
        mut faults: Faults,
        request: &Request,
        namespace: &Namespace,
    ) -> Result<Self, KernelError> {
        // Links end by being closed; only filters have to be taken out.
        let by_filter = faults
            .active
            .iter()
            .any(|active| active.hooks().contains(&CLSACT));
        // What helpers lost is counted in their namespace.
        let by_line = faults.active.iter().any(Active::holds);
        privilege::keep(match (by_filter, by_line, namespace.is_own()) {
            (false, false, _) | (false, true, true) => &[],
            (true, _, true) => &[Capability::CAP_NET_ADMIN],
            (_, _, false) => &privilege::TO_COME_BACK,
        })?;
        let end_ns = faults.unconfirmed_end_ns();
        let lease = Lease::start(faults.terms(), faults.deadline_ns, end_ns)?;
        Ok(Self {
            faults,
            followed: (!request.far_ends.names().is_empty()).then(|| Followed {
                spec: request.spec.clone(),
                far_ends: request.far_ends.clone(),
            }),
            lease: Some(lease),
            lapsed: Duration::ZERO,
        })
    }

    fn lapsed(&self) -> Duration {
        self.lease.as_ref().map_or(self.lapsed, Lease::lapsed)
    }

    /// No packet is touched any more when this returns, and all are counted.
    fn stop(&mut self, reason: &'static str) -> Result<Stopped, KernelError> {
        self.lapsed = self.lapsed();
        self.lease = None;
        let ran = Duration::from_nanos(clock::boot_ns() - self.faults.since_ns);
        let detached = self.faults.end();
        let snapshot = self.snapshot()?;
        // A child may go on for long; programs and maps don't.
        self.faults.active.clear();
        detached?;
        Ok(Stopped {
            reason,
            ran,
            snapshot,
            notes: Vec::new(),
        })
    }
}

impl InForce for Kept {
    fn until_ns(&self) -> Option<u64> {
        self.faults.until_ns
    }

    fn confirm_until_ns(&self) -> Option<u64> {
        self.faults.confirm_until_ns
    }

    fn confirmed(&mut self) {
        if let Some(lease) = &self.lease {
            lease.set_end(self.faults.until_ns);
        }
    }

    fn readdress(&mut self, name: &str, addresses: &[IpNet]) -> Result<(), Error> {
        let Some(Followed { spec, far_ends }) = &mut self.followed else {
            return Ok(());
        };
        far_ends.set(name, addresses);
        spec.selectors.to = far_ends.to.all();
        spec.selectors.except = far_ends.except.all();
        self.faults.readdress(spec)
    }

    fn lost(&mut self) -> Vec<String> {
        self.faults.lost()
    }

    fn any_left(&self) -> bool {
        self.faults.any_left()
    }

    fn gone(&mut self, name: String) -> KernelError {
        KernelError::InterfaceGone { name }
    }

    fn snapshot(&self) -> Result<Snapshot, KernelError> {
        self.faults.snapshot(self.lapsed())
    }

    fn end(&mut self, reason: &'static str) -> (Result<Stopped, KernelError>, Option<KernelError>) {
        (self.stop(reason), None)
    }
}

/// What a session starts with. Inside a runtime.
pub fn begun<'a>(
    request: &'a Request,
    faults: &mut Faults,
    seed: u64,
    caller: Option<Caller>,
) -> Result<Begun<'a>, KernelError> {
    Ok(Begun {
        verbose: request.verbose.then(|| faults.listen()).transpose()?,
        started: started(request, faults, seed),
        notes: notes(request, faults),
        names: request.far_ends.names(),
        caller,
        json: request.json,
        command: &request.command,
    })
}

/// What is worth knowing of it.
fn notes(request: &Request, faults: &Faults) -> Vec<String> {
    let generic = faults
        .active
        .iter()
        .filter(|active| active.hooks().contains(&xdp::Mode::Generic.name()))
        .map(|active| {
            let name = &active.interface.name;
            format!("no native XDP on `{name}`: it costs as much as `--hook tc`")
        });
    let below_zero = request.spec.kind.delay().filter(|it| it.jitter > it.time);
    let below_zero = below_zero.map(|delay| {
        format!(
            "the jitter of {:?} is more than the delay of {:?}: what would wait for less than \
             no time goes at once",
            delay.jitter, delay.time
        )
    });
    generic.chain(below_zero).collect()
}

fn started(request: &Request, faults: &Faults, seed: u64) -> Started {
    Started {
        rules: faults
            .active
            .iter()
            .flat_map(|active| {
                active.rules.iter().map(|named| StartedRule {
                    rule: named.name.clone(),
                    fault: named.name.clone(),
                    iface: active.interface.name.clone(),
                    directions: active.directions().iter().map(|it| it.name()).collect(),
                    asked: named.asked.clone(),
                    hook: active.hooks().join("+"),
                })
            })
            .collect(),
        pid: std::process::id(),
        detached: request.detached,
        memory: faults.active.iter().map(Active::memory).sum(),
        seed: Some(seed),
        until: faults.until_ns.map(clock::wall),
        confirm_until: faults.confirm_until_ns.map(clock::wall),
        spared: faults.spared.clone(),
        command: request
            .command
            .first()
            .map(|program| program.to_string_lossy().into_owned()),
    }
}
