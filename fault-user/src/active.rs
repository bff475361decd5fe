//! Faults in force: from a rule set to programs on interfaces, and back to nothing.

use std::{sync::Arc, time::Duration};

use fault_common::{
    layout::{ABI, Direction, Fault, Owner},
    line::Line as Told,
    packet::Reason,
    random::draw,
};

use crate::{
    attach::{self, Attachment, Program},
    clock::{boot_ns, monotonic_ns, nanos},
    control_path::{self, Connection},
    error::{Error, KernelError},
    inject::{AttachMode, Hook},
    interface::Interface,
    lease::{self, Terms},
    line::{self, Helper, Limits, Line},
    maps::{FarEnds, Lines, Loaded, Room, wait_for_readers},
    namespace::Namespace,
    object::Object,
    process, signals,
    snapshot::{LineCount, RuleCount, Snapshot},
    spec::{FaultSpec, NamedRule, compile},
    verbose::{Source, Verbose},
};

/// A fault on one interface.
pub struct Active {
    /// The interface.
    pub interface: Interface,
    /// What the kernel was told.
    pub rules: Vec<NamedRule>,
    directions: &'static [Direction],
    programs: Vec<Program>,
    loaded: Loaded,
    attachment: Option<Attachment>,
    lines: Vec<Held>,
}

/// The delay line of one direction.
struct Held {
    direction: Direction,
    /// Until it is in force, and where the programs that are attached see that.
    helper: Option<(Helper, Option<Lines>)>,
    /// While it is.
    line: Option<Line>,
    /// What it had done at its end.
    stats: line::Stats,
}

/// A fault on its interfaces, since one moment and until another.
pub struct Faults {
    /// One an interface.
    pub active: Vec<Active>,
    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub since_ns: u64,
    /// `CLOCK_BOOTTIME` in nanoseconds, if it ends by time.
    pub until_ns: Option<u64>,
    /// `CLOCK_BOOTTIME` in nanoseconds, if it ends then unless somebody confirms it.
    pub confirm_until_ns: Option<u64>,
    /// The first deadline of its rules, until somebody keeps them.
    pub deadline_ns: u64,
    /// Connections that it leaves alone.
    pub spared: Vec<Connection>,
}

/// What to put into force, and where.
pub struct Plan<'a> {
    /// The fault.
    pub spec: &'a FaultSpec,
    /// Start of its draws.
    pub seed: u64,
    /// Names of the interfaces; none for every one but loopback.
    pub interfaces: &'a [String],
    /// Where they are.
    pub namespace: &'a Namespace,
    /// How long it lasts, if by time.
    pub duration: Option<Duration>,
    /// How long it lasts unless somebody confirms it.
    pub confirm: Option<Duration>,
    /// Connections that it leaves alone.
    pub spared: &'a [Connection],
    /// How many host names there are whose addresses may change.
    pub names: usize,
    /// Which hook takes what comes in.
    pub hook: Hook,
    /// How to attach on tc.
    pub attach: AttachMode,
    /// What holds packets that wait.
    pub engine: line::Engine,
    /// How many may wait, in each direction of an interface.
    pub limits: Limits,
    /// The command line, for those who ask whose it is.
    pub command: &'a str,
}

impl Faults {
    /// Puts a fault into force on all its interfaces, or on none.
    pub fn begin(plan: &Plan<'_>, object: Object<'_>) -> Result<Self, Error> {
        let netns_inode = plan.namespace.inode()?;
        let interfaces = plan.namespace.run(|| {
            if plan.interfaces.is_empty() {
                Interface::all_but_loopback()
            } else {
                Interface::find(plan.interfaces)
            }
        })?;
        // Not from within the namespace: whoever makes a device there holds it.
        let lines = interfaces
            .iter()
            .map(|interface| helpers(plan, interface))
            .collect::<Result<Vec<_>, _>>()?;
        let places = interfaces.into_iter().zip(lines).collect();
        let mut faults = plan
            .namespace
            .run(|| begin(plan, object, netns_inode, places))?;
        // Nor from within it: a thread that is there holds it, too.
        faults.enforce(plan.limits)?;
        Ok(faults)
    }

    /// When it ends, if by time and nobody confirms it.
    pub fn unconfirmed_end_ns(&self) -> Option<u64> {
        self.until_ns.into_iter().chain(self.confirm_until_ns).min()
    }

    /// Listens to its programs.
    pub fn listen(&mut self) -> Result<Verbose, KernelError> {
        Verbose::listen(self.active.iter_mut().map(|active| Source {
            iface: &active.interface.name,
            first_rule: active.loaded.first_rule(),
            rules: active.rules.iter().map(|it| it.name.clone()).collect(),
            ebpf: &mut active.loaded.ebpf,
        }))
    }

    /// Hands the deadlines to whoever keeps them.
    pub fn terms(&mut self) -> Vec<Terms> {
        self.active
            .iter_mut()
            .filter_map(|active| {
                let first = active.loaded.first_rule();
                Some(Terms {
                    deadlines: active.loaded.deadlines.take()?,
                    rules: (first..).take(active.rules.len()).collect(),
                })
            })
            .collect()
    }

    /// Puts other far ends in force, for every packet at once on each interface. On an error
    /// an interface keeps those that it has.
    pub fn readdress(&mut self, spec: &FaultSpec) -> Result<(), Error> {
        // The rules stay, with their seeds.
        let mut set = compile(spec, 0)?;
        let far_ends = Arc::new(FarEnds::take(&mut set));
        for active in &mut self.active {
            active.loaded.readdress(&set, Arc::clone(&far_ends))?;
        }
        Ok(())
    }

    /// Lets go of interfaces that are gone, and names them.
    pub fn lost(&mut self) -> Vec<String> {
        self.active
            .iter_mut()
            .filter(|active| active.is_lost())
            .map(|active| {
                // One direction may be left.
                if let Some(held) = active.attachment.take() {
                    let _ = held.detach();
                }
                active.interface.name.clone()
            })
            .collect()
    }

    /// Whether any interface is left.
    pub fn any_left(&self) -> bool {
        self.active.iter().any(|active| active.attachment.is_some())
    }

    /// Takes everything off, and waits for the last packet to be counted.
    pub fn end(&mut self) -> Result<(), KernelError> {
        let mut result = Ok(());
        for active in &mut self.active {
            if let Some(attachment) = active.attachment.take() {
                result = result.and(attachment.detach());
            }
        }
        wait_for_readers();
        // Nothing comes to them any more.
        for held in self.active.iter_mut().flat_map(|active| &mut active.lines) {
            if let Some(line) = held.line.take() {
                match line.end() {
                    Ok(stats) => held.stats = stats,
                    Err(error) => result = result.and(Err(error)),
                }
            }
        }
        result
    }

    /// What has been done so far.
    pub fn snapshot(&self, lapsed: Duration) -> Result<Snapshot, KernelError> {
        let mut snapshot = Snapshot {
            lapsed,
            ..Snapshot::default()
        };
        for active in &self.active {
            active.count(&mut snapshot)?;
        }
        Ok(snapshot)
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// In the interfaces' namespace. What takes time comes first: when the first
/// program is attached, only attaching is left to do.
fn begin(
    plan: &Plan<'_>,
    object: Object<'_>,
    netns_inode: u64,
    places: Vec<(Interface, Vec<Held>)>,
) -> Result<Faults, Error> {
    let directions = plan.spec.selectors.directions.each();
    let programs = Program::of(plan.hook, directions);
    let mut set = compile(plan.spec, plan.seed)?;
    let far_ends = Arc::new(FarEnds::take(&mut set));
    let room = Room {
        quantiles: set.quantiles.len(),
        // One more for exceptions, which the names of `--except` may bring later.
        targets: set.targets.len() + 1,
        scope: set.scope(),
        ..far_ends.room(plan.names)
    };
    let mut active = Vec::new();
    for (n, (interface, lines)) in (0..).zip(places) {
        // What crosses two interfaces is one flow.
        set.reseed(draw(plan.seed, n), plan.seed);
        let mut loaded = Loaded::new(object, interface.link, room)?;
        attach::load(&mut loaded, &programs)?;
        for held in &lines {
            line::load(&mut loaded.ebpf, held.direction)?;
        }
        for connection in plan.spared {
            loaded.spare(&connection.key())?;
        }
        if control_path::carried_by(interface.index, plan.spared)? {
            loaded.spare_neighbours();
        }
        // Without force until all is attached.
        loaded.replace(&set, Arc::clone(&far_ends), 0)?;
        active.push(Active {
            interface,
            rules: set.rules.clone(),
            directions,
            programs: programs.clone(),
            loaded,
            attachment: None,
            lines,
        });
    }
    let since_ns = boot_ns();
    let after = |span| since_ns.saturating_add(nanos(span));
    let mut faults = Faults {
        active,
        since_ns,
        until_ns: plan.duration.map(after),
        confirm_until_ns: plan.confirm.map(after),
        deadline_ns: u64::MAX,
        spared: plan.spared.to_vec(),
    };
    for n in 0..faults.active.len() {
        faults.attach(n, plan, netns_inode)?;
    }
    Ok(faults)
}

impl Faults {
    fn attach(&mut self, n: usize, plan: &Plan<'_>, netns_inode: u64) -> Result<(), KernelError> {
        if signals::pending() {
            return Err(KernelError::Interrupted);
        }
        let (since_ns, until_ns) = (self.since_ns, self.until_ns);
        let Active {
            interface,
            programs,
            loaded,
            attachment,
            directions,
            lines,
            ..
        } = &mut self.active[n];
        let owner = Owner {
            abi: ABI,
            since_ns,
            until_ns: until_ns.unwrap_or(0),
            start_ticks: process::start_ticks(std::process::id()).unwrap_or(0),
            netns_inode,
            pid: std::process::id(),
            uid: caller(),
            ifindex: interface.index,
            added_clsact: 0,
            iface: cut(&interface.name),
            command: cut(plan.command),
        };
        let mut told = directions
            .iter()
            .map(|direction| {
                let helper = lines.iter().find(|held| held.direction == *direction);
                let helper = helper.and_then(|held| held.helper.as_ref());
                let line = helper.map(|(helper, _)| helper).map_or(
                    Told {
                        iface: interface.index,
                        ..Told::default()
                    },
                    |helper| Told {
                        in_order: plan.spec.keeps_order().into(),
                        ..helper.line(0)
                    },
                );
                Lines::of(&loaded.ebpf, *direction, line)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let tables = &mut loaded.tables;
        *attachment = Some(attach::attach(
            &mut loaded.ebpf,
            interface,
            plan.namespace,
            programs,
            plan.attach,
            |added_clsact| {
                let born_ns = monotonic_ns();
                for lines in &mut told {
                    lines.set_born(born_ns)?;
                }
                tables.set_owner(&Owner {
                    added_clsact: u32::from(added_clsact),
                    ..owner
                })
            },
        )?);
        for (direction, told) in directions.iter().zip(told) {
            let held = lines.iter_mut().find(|held| held.direction == *direction);
            if let Some((_, place)) = held.and_then(|held| held.helper.as_mut()) {
                *place = Some(told);
            }
        }
        Ok(())
    }

    /// Rules get their force, where packets are to wait when they can.
    fn enforce(&mut self, limits: Limits) -> Result<(), KernelError> {
        for active in &mut self.active {
            for held in &mut active.lines {
                if let Some((helper, Some(told))) = held.helper.take() {
                    let back = line::back(&mut active.loaded.ebpf, held.direction)?;
                    held.line = Some(helper.start(limits, told, back)?);
                }
            }
        }
        self.deadline_ns = lease::first_deadline(self.unconfirmed_end_ns());
        for active in &mut self.active {
            let first = active.loaded.first_rule();
            for id in (first..).take(active.rules.len()) {
                active.loaded.tables.set_deadline(id, self.deadline_ns)?;
            }
        }
        Ok(())
    }
}

/// Helper devices for the directions of an interface, where packets are to wait.
fn helpers(plan: &Plan<'_>, interface: &Interface) -> Result<Vec<Held>, KernelError> {
    if !plan.spec.kind.holds() {
        return Ok(Vec::new());
    }
    let directions = plan.spec.selectors.directions.each();
    directions
        .iter()
        .map(|direction| {
            let helper = Helper::open(plan.engine, plan.namespace, interface, *direction, 1)?;
            Ok(Held {
                direction: *direction,
                helper: Some((helper, None)),
                line: None,
                stats: line::Stats::default(),
            })
        })
        .collect()
}

impl Active {
    /// The hooks that its programs are on.
    pub fn hooks(&self) -> Vec<&'static str> {
        let attachment = self.attachment.as_ref();
        attachment.map(Attachment::hooks).unwrap_or_default()
    }

    /// Whether what was put there is not there any more.
    fn is_lost(&self) -> bool {
        let lines = || self.lines.iter().filter_map(|held| held.line.as_ref());
        self.attachment
            .as_ref()
            .is_some_and(|held| !held.is_there() || !lines().all(Line::is_there))
    }

    /// Whether packets wait.
    pub fn holds(&self) -> bool {
        !self.lines.is_empty()
    }

    /// What its maps cost the kernel, in bytes.
    pub fn memory(&self) -> u64 {
        self.loaded.tables.memory()
    }

    /// The directions that it looks in.
    pub fn directions(&self) -> &'static [Direction] {
        self.directions
    }

    fn count(&self, snapshot: &mut Snapshot) -> Result<(), KernelError> {
        let first = self.loaded.first_rule();
        for (id, named) in (first..).zip(&self.rules) {
            for &direction in self.directions {
                snapshot.counts.push(RuleCount {
                    rule: named.name.clone(),
                    fault: Fault::from_number(named.rule.fault).unwrap_or(Fault::Loss),
                    iface: self.interface.name.clone(),
                    direction,
                    asked: named.asked.clone(),
                    probability: named.probability,
                    counters: self.loaded.tables.counters(id, direction)?,
                    delays: self.loaded.tables.delays(id, direction)?,
                });
            }
        }
        for held in &self.lines {
            snapshot.lines.push(LineCount {
                iface: self.interface.name.clone(),
                direction: held.direction,
                stats: match &held.line {
                    Some(line) => line.stats()?,
                    None => held.stats,
                },
                missed: self.loaded.tables.missed(held.direction)?,
            });
        }
        for reason in Reason::ALL {
            let count = self.loaded.tables.reason(reason)?;
            snapshot
                .unparsed
                .push((self.interface.name.clone(), reason, count));
        }
        Ok(())
    }
}

/// The user behind it: who called sudo, if it was sudo.
pub fn caller() -> u32 {
    std::env::var("SUDO_UID")
        .ok()
        .and_then(|uid| uid.parse().ok())
        .unwrap_or_else(|| rustix::process::getuid().as_raw())
}

/// As much of a text as fits in front of a zero, at a character's end.
fn cut<const N: usize>(text: &str) -> [u8; N] {
    let mut end = text.len().min(N - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes = [0; N];
    bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters_and_ends_in_zero() {
        assert_eq!(cut::<4>("eth0"), *b"eth\0");
        assert_eq!(cut::<4>("aéé"), [b'a', 0xc3, 0xa9, 0]);
        assert_eq!(cut::<4>("abé"), [b'a', b'b', 0, 0]);
    }
}
