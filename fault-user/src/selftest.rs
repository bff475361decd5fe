//! Injects faults on a veth pair of its own, in network namespaces of its own, and
//! compares what arrives with what was asked: on this very kernel, without touching
//! a real interface.

mod interval;
mod wire;

use std::time::{Duration, Instant};

use fault_common::{layout::Direction, random::draw};

use self::{
    interval::interval,
    wire::{Family, Wire},
};
use crate::{
    Error,
    active::{Faults, Plan},
    attach,
    error::KernelError,
    inject::{AttachMode, Hook},
    lease::{LEASE, Lease},
    line,
    object::Object,
    privilege,
    report::{Event, Reporter},
    spec::{Directions, FaultKind, FaultSpec, Loss, Percent, Selectors, Waits},
    xdp,
};

/// How to tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// JSON lines on stdout.
    pub json: bool,
}

/// A check, and how it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was done.
    pub name: String,
    /// What should arrive.
    pub expected: String,
    /// What arrived.
    pub observed: String,
    /// Whether it did.
    pub passed: bool,
}

/// Datagrams a check sends.
const DATAGRAMS: u64 = 2000;
/// As faults go without being told otherwise.
const DEFAULT: (Hook, AttachMode) = (Hook::Tc, AttachMode::Auto);

/// Prints each check; the exit code is 1 if one fails.
pub fn run(request: &Request) -> Result<i32, Error> {
    privilege::require(&privilege::TO_ATTACH)?;
    privilege::require(&[privilege::TO_LOOK_AROUND])?;
    let object = Object::embedded()?;
    let mut reporter = Reporter::new(request.json);
    let mut failed = false;
    let mut tell = |check: Check| {
        failed |= !check.passed;
        reporter
            .event(&Event::Check(check))
            .map_err(|_| Error::OutputClosed)
    };
    checks(object, &mut tell)?;
    Ok(i32::from(failed))
}

fn checks(
    object: Object<'_>,
    tell: &mut dyn FnMut(Check) -> Result<(), Error>,
) -> Result<(), Error> {
    let wire = Wire::new()?;
    for family in Family::ALL {
        tell(all("no fault", &wire, family)?)?;
    }
    for (hook, mode, name) in [
        (Hook::Tc, AttachMode::Tcx, attach::TCX),
        (Hook::Tc, AttachMode::Clsact, attach::CLSACT),
        (Hook::Xdp, AttachMode::Auto, xdp::Mode::Native.name()),
    ] {
        for direction in Direction::ALL {
            if hook == Hook::Xdp && direction == Direction::Egress {
                continue;
            }
            for family in Family::ALL {
                let spec = loss(50.0, direction);
                let faults = match begin(&spec, &wire, (hook, mode), object) {
                    Err(error) if mode == AttachMode::Tcx && lacks_tcx(&error) => continue,
                    result => result?,
                };
                let name = format!("loss 50% {} {name}, {family:?}", direction.name());
                tell(half(name, &wire, family, direction, faults)?)?;
            }
        }
    }
    let spec = FaultSpec {
        kind: FaultKind::Partition,
        selectors: Selectors {
            directions: Directions::Both,
            ..Selectors::default()
        },
        waits: Waits::default(),
        seed: None,
    };
    let faults = begin(&spec, &wire, DEFAULT, object)?;
    for family in Family::ALL {
        let arrived = wire.send(family, Direction::Egress, DATAGRAMS, &dropped(&faults))?;
        tell(Check {
            name: format!("partition, {family:?}"),
            expected: "0 arrive".into(),
            observed: format!("{arrived} arrive"),
            passed: arrived == 0,
        })?;
    }
    drop(faults);
    tell(lease(&wire, object)?)?;
    for family in Family::ALL {
        tell(all("after the end", &wire, family)?)?;
    }
    Ok(())
}

fn loss(points: f64, direction: Direction) -> FaultSpec {
    FaultSpec {
        kind: FaultKind::Loss(Loss::Random {
            percent: Percent::new(points).unwrap_or(Percent::ALL),
            correlation: Percent::default(),
        }),
        selectors: Selectors {
            directions: match direction {
                Direction::Egress => Directions::Egress,
                Direction::Ingress => Directions::Ingress,
            },
            ..Selectors::default()
        },
        waits: Waits::default(),
        seed: None,
    }
}

fn begin(
    spec: &FaultSpec,
    wire: &Wire,
    (hook, attach): (Hook, AttachMode),
    object: Object<'_>,
) -> Result<Faults, Error> {
    let plan = Plan {
        spec,
        spared: &[],
        names: 0,
        seed: draw(u64::from(std::process::id()), crate::clock::boot_ns()),
        interfaces: &[Wire::INTERFACE.into()],
        namespace: wire.near(),
        duration: None,
        confirm: None,
        hook,
        attach,
        engine: line::Engine::Auto,
        limits: line::Limits::default(),
        command: "selftest",
    };
    Faults::begin(&plan, object)
}

fn lacks_tcx(error: &Error) -> bool {
    matches!(
        error,
        Error::Kernel(KernelError::Feature {
            feature: attach::TCX,
            ..
        })
    )
}

fn all(name: &str, wire: &Wire, family: Family) -> Result<Check, Error> {
    let arrived = wire.send(family, Direction::Egress, DATAGRAMS, &|| Ok(0))?;
    Ok(Check {
        name: format!("{name}, {family:?}"),
        expected: format!("{DATAGRAMS} arrive"),
        observed: format!("{arrived} arrive"),
        passed: arrived == DATAGRAMS,
    })
}

/// Counts what the fault says that it lost. More than was sent is as good as all.
fn dropped(faults: &Faults) -> impl Fn() -> Result<u64, KernelError> {
    || {
        let snapshot = faults.snapshot(Duration::ZERO)?;
        let counts = snapshot.counts.iter();
        Ok(counts.map(|count| count.counters.dropped_packets).sum())
    }
}

/// Half arrives, and the counters know which.
fn half(
    name: String,
    wire: &Wire,
    family: Family,
    direction: Direction,
    mut faults: Faults,
) -> Result<Check, Error> {
    let _lease = Lease::start(faults.terms(), faults.deadline_ns, None)?;
    let dropped = dropped(&faults);
    let arrived = wire.send(family, direction, DATAGRAMS, &dropped)?;
    let dropped = dropped()?;
    let (low, high) = interval(DATAGRAMS, 0.5);
    Ok(Check {
        name,
        expected: format!("{low} to {high} of {DATAGRAMS} arrive, the others counted"),
        observed: format!("{arrived} arrive, {dropped} counted"),
        passed: (low..=high).contains(&arrived) && arrived + dropped == DATAGRAMS,
    })
}

/// A controller that doesn't renew its lease loses its fault.
fn lease(wire: &Wire, object: Object<'_>) -> Result<Check, Error> {
    let spec = loss(100.0, Direction::Egress);
    let faults = begin(&spec, wire, DEFAULT, object)?;
    let begun = Instant::now();
    let mut arrived = 0;
    while arrived == 0 && begun.elapsed() < LEASE * 2 {
        arrived = wire.send(Family::V4, Direction::Egress, 1, &dropped(&faults))?;
    }
    drop(faults);
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Check {
        name: "a fault that nobody keeps".into(),
        expected: format!("ends within {} s", LEASE.as_secs()),
        observed: format!("ended after {seconds:.1} s"),
        // The clock of this check starts a little after that of the lease.
        passed: arrived > 0 && seconds <= LEASE.as_secs_f64() + 0.5,
    })
}
