//! The clsact qdisc and its filters, for kernels without tcx (before 6.6).
//!
//! Filters outlive the process that added them: what a killed faultctl leaves
//! has no force after its lease, and is taken out by `clear` or by the next
//! faultctl that comes to the interface.

use std::{
    fs::{File, OpenOptions},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use aya::programs::{
    links::Link as _,
    tc::{SchedClassifierLink, TcAttachType, TcError, TcHandle, qdisc_add_clsact},
};
use fault_common::layout::Direction;
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcMessage, TcOption};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::{error::KernelError, interface, netlink, run_directory};

/// A filter on an interface's clsact qdisc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Where it sits.
    pub direction: Direction,
    /// Its priority; lower runs earlier.
    pub priority: u16,
    /// Its handle within the priority.
    pub handle: u32,
    /// The BPF program in it, if it is one.
    pub program: Option<u32>,
}

/// Held while clsact qdiscs and filters of ours come and go, by all processes.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for it, until `give_up` says otherwise.
    pub fn take(give_up: impl Fn() -> bool) -> Result<Self, KernelError> {
        let directory = Path::new(run_directory::PATH);
        run_directory::make(directory)?;
        let file = run_directory::open(
            &directory.join("lock"),
            OpenOptions::new().write(true).create(true).truncate(false),
        )?;
        Self::wait(file, give_up)
    }

    /// The holder is done in milliseconds, unless it was stopped in the middle. A wait
    /// inside flock(2) would not end for a signal, which has a handler.
    fn wait(file: File, give_up: impl Fn() -> bool) -> Result<Self, KernelError> {
        const PATIENCE: Duration = Duration::from_secs(10);
        const AGAIN: Duration = Duration::from_millis(10);
        let since = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(Errno::WOULDBLOCK) if give_up() => {
                    return Err(KernelError::Interrupted);
                }
                Err(Errno::WOULDBLOCK) if since.elapsed() < PATIENCE => thread::sleep(AGAIN),
                Err(Errno::WOULDBLOCK) => return Err(KernelError::Locked),
                Err(error) => return Err(KernelError::system("lock `/run/faultctl/lock`")(error)),
            }
        }
    }
}

/// The filters of an interface, both directions.
pub fn filters(ifindex: u32) -> Result<Vec<Filter>, KernelError> {
    let mut all = Vec::new();
    for direction in Direction::ALL {
        let messages: Result<Vec<TcMessage>, KernelError> = netlink::with(|handle| async move {
            let mut filters = handle.traffic_filter(ifindex.cast_signed());
            let request = match direction {
                Direction::Egress => filters.get().egress(),
                Direction::Ingress => filters.get().ingress(),
            };
            request.execute().try_collect().await
        });
        match messages {
            Ok(messages) => all.extend(messages.iter().filter_map(|m| Filter::of(m, direction))),
            // No clsact qdisc there.
            Err(KernelError::Netlink(error)) if netlink::is_errno(&error, Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

impl Filter {
    /// `None` for a priority's own entry, which has no filter in it.
    fn of(message: &TcMessage, direction: Direction) -> Option<Self> {
        let handle = u32::from(message.header.handle);
        (handle != 0).then(|| Self {
            direction,
            priority: (message.header.info >> 16) as u16,
            handle,
            program: message
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    TcAttribute::Options(options) => {
                        options.iter().find_map(|option| match option {
                            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(*id),
                            _ => None,
                        })
                    }
                    _ => None,
                }),
        })
    }

    /// Takes it out of an interface of this namespace.
    pub fn remove(&self, iface: &str) -> Result<(), KernelError> {
        SchedClassifierLink::attached(
            iface,
            attach_type(self.direction),
            self.priority,
            TcHandle::from(self.handle),
            None,
        )
        .map_err(KernelError::system("find the interface"))?
        .detach()
        .map_err(|error| KernelError::Detach(Box::new(error)))
    }
}

/// aya's word for a direction.
pub fn attach_type(direction: Direction) -> TcAttachType {
    match direction {
        Direction::Egress => TcAttachType::Egress,
        Direction::Ingress => TcAttachType::Ingress,
    }
}

/// Makes sure that the qdisc is there; says whether it was added now. An `ingress`
/// qdisc has the same place, but no egress.
pub fn ensure(ifindex: u32, iface: &str) -> Result<bool, KernelError> {
    match qdisc_add_clsact(iface) {
        Ok(()) => Ok(true),
        Err(TcError::NetlinkError(error))
            if error.raw_os_error() == Some(libc::EEXIST)
                && kind(ifindex)?.as_deref() == Some(KIND) =>
        {
            Ok(false)
        }
        Err(error) => Err(KernelError::Clsact {
            iface: iface.to_owned(),
            source: Box::new(error),
        }),
    }
}

/// The kind of the qdisc in clsact's place.
fn kind(ifindex: u32) -> Result<Option<String>, KernelError> {
    let qdiscs: Vec<TcMessage> = netlink::with(|handle| async move {
        let request = handle.qdisc().get().index(ifindex.cast_signed());
        request.execute().try_collect().await
    })?;
    let here = |message: &&TcMessage| {
        message.header.index == ifindex.cast_signed() && u32::from(message.header.parent) == CLSACT
    };
    let attributes = qdiscs.iter().find(here).map(|message| &message.attributes);
    Ok(attributes
        .into_iter()
        .flatten()
        .find_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind.clone()),
            _ => None,
        }))
}

/// Removes the qdisc if no filter is left on it. The lock must be held; a filter that
/// somebody else adds between the look and the removal goes with it, as the kernel
/// has no removal that looks first.
pub fn remove_if_empty(ifindex: u32) -> Result<(), KernelError> {
    if !filters(ifindex)?.is_empty() {
        return Ok(());
    }
    netlink::with(|handle| async move {
        let mut request = handle.qdisc().del(ifindex.cast_signed());
        let message = request.message_mut();
        message.header.parent = CLSACT.into();
        message.header.handle = 0xffff_0000.into();
        // The kernel then refuses if another kind is there by now.
        message.attributes.push(TcAttribute::Kind(KIND.into()));
        request.execute().await
    })
}

const KIND: &str = "clsact";
/// `TC_H_CLSACT` of `linux/pkt_sched.h`.
const CLSACT: u32 = 0xffff_fff1;

/// Takes out what dead processes left on the interface `iface`, and the qdisc with
/// it if it was ours and nobody else's filter is there. `dead` tells of a program
/// whether its process is gone, and whether faultctl added the qdisc. The lock must
/// be held. Returns how many filters were taken out.
pub fn remove_leftovers(
    ifindex: u32,
    dead: impl Fn(u32) -> Option<crate::inventory::Leftover>,
) -> Result<usize, KernelError> {
    let leftovers: Vec<_> = filters(ifindex)?
        .into_iter()
        .filter_map(|filter| Some((filter, dead(filter.program?)?)))
        .collect();
    if leftovers.is_empty() {
        return Ok(0);
    }
    let Some(iface) = interface::name_now(ifindex)? else {
        return Ok(0);
    };
    for (filter, _) in &leftovers {
        filter.remove(&iface)?;
    }
    if leftovers.iter().any(|(_, leftover)| leftover.added_clsact) {
        remove_if_empty(ifindex)?;
    }
    Ok(leftovers.len())
}
