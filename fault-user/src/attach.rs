//! Programs onto the hooks of an interface, and off again.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::{
    Ebpf,
    programs::{self, ProgramError, SchedClassifier},
};

use crate::{
    bpf, clsact::Lock, error::KernelError, inject::AttachMode, interface::Interface, maps::Loaded,
    namespace::Namespace, signals, xdp,
};

mod filters;
mod program;

use filters::Filters;
pub use program::Program;

/// The hook of Linux 6.6, and its name.
pub const TCX: &str = "tcx";
/// The hook of kernels before that, and its name.
pub const CLSACT: &str = "clsact";

/// What keeps programs on an interface.
#[derive(Debug, Default)]
pub struct Attachment {
    links: Vec<Link>,
    filters: Option<Filters>,
}

/// Closing it, by whatever end of the process, detaches.
#[derive(Debug)]
struct Link {
    hook: &'static str,
    descriptor: OwnedFd,
}

/// Loads programs into the kernel: the verifier's work, done before anything is in force.
pub fn load(loaded: &mut Loaded, programs: &[Program]) -> Result<(), KernelError> {
    for &program in programs {
        let ebpf = &mut loaded.ebpf;
        match program {
            Program::Egress | Program::Ingress => classifier(ebpf, program)?.load(),
            Program::Xdp => find::<programs::Xdp>(ebpf, program)?.load(),
        }
        .map_err(|error| program_error("load", program, error))?;
        bpf::bind(descriptor(ebpf, program)?, loaded.owner.as_fd())
            .map_err(KernelError::system("bind a map to a program"))?;
    }
    Ok(())
}

/// Attaches the loaded programs: on tc in front of everybody else's, on XDP where nobody
/// else's is. Runs in the interface's namespace. On an error nothing stays attached.
///
/// `before` is called with whether faultctl is the one that added the clsact qdisc, as
/// far as that is known, before a program sees a packet.
pub fn attach(
    ebpf: &mut Ebpf,
    iface: &Interface,
    namespace: &Namespace,
    programs: &[Program],
    mode: AttachMode,
    mut before: impl FnMut(bool) -> Result<(), KernelError>,
) -> Result<Attachment, KernelError> {
    let (xdp, tc): (Vec<_>, Vec<_>) = programs
        .iter()
        .partition(|program| **program == Program::Xdp);
    // Whoever comes to a hook later is in front there, and says so by a later time.
    let _lock = (!tc.is_empty())
        .then(|| Lock::take(signals::pending))
        .transpose()?;
    before(false)?;
    let mut attachment = Attachment::default();
    if !xdp.is_empty() {
        attachment.links.push(attach_xdp(ebpf, iface)?);
    }
    if mode != AttachMode::Clsact {
        match attach_tcx(ebpf, iface, &tc) {
            Err(KernelError::Feature { feature: TCX, .. }) if mode == AttachMode::Auto => {}
            result => {
                attachment.links.extend(result?);
                return Ok(attachment);
            }
        }
    }
    if !tc.is_empty() {
        attachment.filters = Some(filters::attach(ebpf, iface, namespace, &tc, before)?);
    }
    Ok(attachment)
}

fn attach_tcx(
    ebpf: &Ebpf,
    iface: &Interface,
    programs: &[Program],
) -> Result<Vec<Link>, KernelError> {
    programs
        .iter()
        .map(|&program| {
            let direction = program.direction();
            let link = bpf::attach_tcx(descriptor(ebpf, program)?, iface.index, direction);
            let descriptor = link.map_err(|source| {
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
            })?;
            Ok(Link {
                hook: TCX,
                descriptor,
            })
        })
        .collect()
}

/// In the driver, or where that has no XDP, or none for frames as large as these, behind it.
fn attach_xdp(ebpf: &Ebpf, iface: &Interface) -> Result<Link, KernelError> {
    use xdp::Mode;
    let program = descriptor(ebpf, Program::Xdp)?;
    let native = bpf::attach_xdp(program, iface.index, true);
    let (mode, link) = match native {
        Err(error) if !is_final(&error) => {
            (Mode::Generic, bpf::attach_xdp(program, iface.index, false))
        }
        result => (Mode::Native, result),
    };
    let hook = mode.name();
    let descriptor = link.map_err(|source| {
        if is_taken(&source)
            && let Ok([first, ..]) = xdp::xdp_programs(iface.index).as_deref()
        {
            return KernelError::XdpTaken {
                iface: iface.name.clone(),
                program: first.clone(),
                holders: xdp::holders(first.id),
            };
        }
        KernelError::Attach {
            iface: iface.name.clone(),
            hook,
            source,
        }
    })?;
    Ok(Link { hook, descriptor })
}

/// In the same mode, or in another.
fn is_taken(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST))
}

/// Whether generic XDP would not go on either.
fn is_final(error: &std::io::Error) -> bool {
    let errno = error.raw_os_error();
    is_taken(error) || matches!(errno, Some(libc::EPERM | libc::ENODEV | libc::ENOMEM))
}

impl Attachment {
    /// The kernel's words for where it is.
    pub fn hooks(&self) -> Vec<&'static str> {
        let mut hooks: Vec<_> = self.links.iter().map(|link| link.hook).collect();
        hooks.extend(self.filters.as_ref().map(|_| CLSACT));
        hooks.dedup();
        hooks
    }

    /// Whether the programs are still on the interface: not if it is gone, or if
    /// somebody took them off.
    pub fn is_there(&self) -> bool {
        self.links
            .iter()
            .all(|link| bpf::ifindex_of(link.descriptor.as_fd()).is_ok_and(|index| index != 0))
            && self.filters.as_ref().is_none_or(Filters::are_there)
    }

    /// Takes the programs off. Where the interface or its namespace is gone, they
    /// went with it.
    pub fn detach(self) -> Result<(), KernelError> {
        drop(self.links);
        self.filters.map_or(Ok(()), Filters::remove)
    }
}

fn descriptor(ebpf: &Ebpf, program: Program) -> Result<BorrowedFd<'_>, KernelError> {
    ebpf.program(program.name())
        .ok_or(KernelError::ObjectVersion)?
        .fd()
        .map(|fd| fd.as_fd())
        .map_err(|error| program_error("find", program, error))
}

fn classifier(ebpf: &mut Ebpf, program: Program) -> Result<&mut SchedClassifier, KernelError> {
    find(ebpf, program)
}

fn find<'a, P>(ebpf: &'a mut Ebpf, program: Program) -> Result<&'a mut P, KernelError>
where
    &'a mut P: TryFrom<&'a mut programs::Program, Error = ProgramError>,
{
    ebpf.program_mut(program.name())
        .ok_or(KernelError::ObjectVersion)?
        .try_into()
        .map_err(|error| program_error("find", program, error))
}

fn program_error(what: &'static str, program: Program, source: ProgramError) -> KernelError {
    KernelError::Program {
        what,
        program: program.name(),
        source: Box::new(source),
    }
}
