//! Programs onto the tc hooks of an interface, and off again.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::{
    Ebpf,
    programs::{
        ProgramError, SchedClassifier,
        tc::{NlOptions, TcAttachOptions},
    },
};
use fault_common::layout::Direction;

use crate::{
    bpf,
    clsact::{self, Filter, Lock, attach_type},
    error::KernelError,
    inject::AttachMode,
    interface::{self, Interface},
    inventory,
    maps::Loaded,
    namespace::Namespace,
    privilege, signals,
};

/// The hook of Linux 6.6, and its name.
pub const TCX: &str = "tcx";

/// Name of the program for a direction.
pub fn program_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "faultctl_egress",
        Direction::Ingress => "faultctl_ingress",
    }
}

/// What keeps programs on an interface.
#[derive(Debug)]
pub enum Attachment {
    /// Links: closing them, by whatever end of the process, detaches.
    Tcx(Vec<OwnedFd>),
    /// Filters, which stay until they are taken out.
    Clsact {
        /// Where they sit.
        namespace: Namespace,
        /// The interface's index.
        ifindex: u32,
        /// The filters.
        filters: Vec<Filter>,
        /// Whether faultctl added the qdisc.
        added: bool,
    },
}

/// Loads the programs into the kernel: the verifier's work, done before anything is
/// in force.
pub fn load(loaded: &mut Loaded, directions: &[Direction]) -> Result<(), KernelError> {
    for &direction in directions {
        let error = |error| program_error("load", direction, error);
        let program = program(&mut loaded.ebpf, direction)?;
        program.load().map_err(error)?;
        bpf::bind(program.fd().map_err(error)?.as_fd(), loaded.owner.as_fd())
            .map_err(KernelError::system("bind a map to a program"))?;
    }
    Ok(())
}

/// Attaches the loaded programs, in front of everybody else's. Runs in the
/// interface's namespace. On an error nothing stays attached.
///
/// `before` is called when it is known whether faultctl is the one that added the
/// clsact qdisc, just before the first program sees a packet.
pub fn attach(
    ebpf: &mut Ebpf,
    iface: &Interface,
    namespace: &Namespace,
    directions: &[Direction],
    mode: AttachMode,
    mut before: impl FnMut(bool) -> Result<(), KernelError>,
) -> Result<Attachment, KernelError> {
    match mode {
        AttachMode::Tcx => attach_tcx(ebpf, iface, directions, || before(false)),
        AttachMode::Clsact => attach_clsact(ebpf, iface, namespace, directions, before),
        AttachMode::Auto => match attach_tcx(ebpf, iface, directions, || before(false)) {
            Err(KernelError::Feature { feature: TCX, .. }) => {
                attach_clsact(ebpf, iface, namespace, directions, before)
            }
            result => result,
        },
    }
}

fn attach_tcx(
    ebpf: &mut Ebpf,
    iface: &Interface,
    directions: &[Direction],
    before: impl FnOnce() -> Result<(), KernelError>,
) -> Result<Attachment, KernelError> {
    before()?;
    let links = directions
        .iter()
        .map(|&direction| {
            let program = program(ebpf, direction)?;
            let fd = program
                .fd()
                .map_err(|error| program_error("attach", direction, error))?;
            bpf::attach_tcx(fd.as_fd(), iface.index, direction).map_err(|source| {
                // What a kernel says of an attach type that it does not know.
                if source.raw_os_error() == Some(libc::EINVAL) {
                    return KernelError::Feature {
                        feature: TCX,
                        fix: "use Linux 6.6 or newer, or leave out `--attach tcx`",
                        source: Box::new(source),
                    };
                }
                KernelError::Attach {
                    iface: iface.name.clone(),
                    hook: TCX,
                    source,
                }
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(Attachment::Tcx(links))
}

fn attach_clsact(
    ebpf: &mut Ebpf,
    iface: &Interface,
    namespace: &Namespace,
    directions: &[Direction],
    before: impl FnOnce(bool) -> Result<(), KernelError>,
) -> Result<Attachment, KernelError> {
    let _lock = Lock::take(signals::pending)?;
    // Without the right to look, what others left stays for those who may.
    let ours = if privilege::missing(&[privilege::TO_LOOK_AROUND])?.is_empty() {
        inventory::scan()?
    } else {
        Vec::new()
    };
    clsact::remove_leftovers(iface.index, |program| inventory::leftover(&ours, program))?;
    let added_now = clsact::ensure(iface.index, &iface.name)?;
    let there = clsact::filters(iface.index)?;
    // The last faultctl to leave removes a qdisc that any faultctl added.
    let added = added_now
        || there.iter().any(|filter| {
            filter
                .program
                .is_some_and(|program| inventory::added_clsact(&ours, program))
        });
    let mut attachment = Partial(Some((namespace.clone(), iface.index, Vec::new(), added)));
    before(added)?;
    for &direction in directions {
        let first = there
            .iter()
            .filter(|filter| filter.direction == direction)
            .map(|filter| filter.priority)
            .min();
        let priority = match first {
            None => 0xc000,
            Some(first) if first > 1 => first - 1,
            Some(_) => {
                return Err(KernelError::NoPriority {
                    iface: iface.name.clone(),
                });
            }
        };
        let program = program(ebpf, direction)?;
        let error = |error| program_error("attach", direction, error);
        let id = program.info().map_err(error)?.id();
        let link = program
            .attach_with_options(
                &iface.name,
                attach_type(direction),
                TcAttachOptions::Netlink(NlOptions {
                    priority,
                    ..NlOptions::default()
                }),
            )
            .and_then(|link| program.take_link(link))
            .map_err(error)?;
        let handle = link.handle().map_err(error)?;
        // Dropped, it would send its removal to whatever namespace the thread is in then.
        std::mem::forget(link);
        attachment.push(Filter {
            direction,
            priority,
            handle: handle.into(),
            program: Some(id),
        });
    }
    Ok(attachment.complete())
}

/// Filters that are taken out again unless all of them come to be.
struct Partial(Option<(Namespace, u32, Vec<Filter>, bool)>);

impl Partial {
    fn push(&mut self, filter: Filter) {
        if let Some((_, _, filters, _)) = &mut self.0 {
            filters.push(filter);
        }
    }

    fn complete(mut self) -> Attachment {
        let (namespace, ifindex, filters, added) = self.0.take().unwrap_or_default();
        Attachment::Clsact {
            namespace,
            ifindex,
            filters,
            added,
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some((_, ifindex, filters, added)) = self.0.take() {
            let _ = remove(ifindex, &filters, added);
        }
    }
}

/// Takes filters out; in the interface's namespace, with the lock held. One that
/// somebody removed, and whose place another may have taken, is left alone.
fn remove(ifindex: u32, filters: &[Filter], added: bool) -> Result<(), KernelError> {
    let Some(name) = interface::name_now(ifindex)? else {
        return Ok(());
    };
    let there = clsact::filters(ifindex)?;
    let ours: Vec<_> = filters
        .iter()
        .filter(|filter| there.contains(filter))
        .collect();
    for filter in &ours {
        filter.remove(&name)?;
    }
    // Without any of ours there, the qdisc may be somebody else's too.
    if added && (filters.is_empty() || !ours.is_empty()) {
        clsact::remove_if_empty(ifindex)?;
    }
    Ok(())
}

impl Attachment {
    /// The kernel's word for it.
    pub fn hook(&self) -> &'static str {
        match self {
            Self::Tcx(_) => TCX,
            Self::Clsact { .. } => "clsact",
        }
    }

    /// Whether the programs are still on the interface: not if it is gone, or if
    /// somebody took them off.
    pub fn is_there(&self) -> bool {
        match self {
            Self::Tcx(links) => links
                .iter()
                .all(|link| bpf::tcx_ifindex(link.as_fd()).is_ok_and(|index| index != 0)),
            Self::Clsact {
                namespace,
                ifindex,
                filters,
                ..
            } => namespace.run(|| clsact::filters(*ifindex)).map_or_else(
                |error| !error.is_missing_namespace(),
                |there| filters.iter().all(|filter| there.contains(filter)),
            ),
        }
    }

    /// Takes the programs off. Where the interface or its namespace is gone, they
    /// went with it.
    pub fn detach(self) -> Result<(), KernelError> {
        match self {
            Self::Tcx(links) => drop(links),
            Self::Clsact {
                namespace,
                ifindex,
                filters,
                added,
            } => {
                // A signal has come already, as a rule; a second one ends the process.
                let _lock = Lock::take(|| false)?;
                match namespace.run(|| remove(ifindex, &filters, added)) {
                    Err(error) if error.is_missing_namespace() => {}
                    result => result?,
                }
            }
        }
        Ok(())
    }
}

fn program(ebpf: &mut Ebpf, direction: Direction) -> Result<&mut SchedClassifier, KernelError> {
    ebpf.program_mut(program_name(direction))
        .ok_or(KernelError::ObjectVersion)?
        .try_into()
        .map_err(|error| program_error("find", direction, error))
}

fn program_error(what: &'static str, direction: Direction, source: ProgramError) -> KernelError {
    KernelError::Program {
        what,
        program: program_name(direction),
        source: Box::new(source),
    }
}
