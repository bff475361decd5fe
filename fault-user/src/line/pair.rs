//! The helper device: a pair of veth with fq, whose other end is out of sight.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use aya::programs::SchedClassifier;
use fault_common::{layout::Direction, line::FAR_END};
use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    LinkMessageBuilder, LinkUnspec, LinkVeth,
    packet_core::{
        DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
        NetlinkPayload,
    },
    packet_route::{
        RouteNetlinkMessage,
        link::{InfoData, InfoVeth, LinkAttribute, LinkMessage},
        tc::{TcAttribute, TcHandle, TcMessage, TcOption, TcStats2, TcStatsQueue},
    },
};
use rustix::{
    io::Errno,
    thread::{UnshareFlags, unshare_unsafe},
};

use super::{back, device, queue::Limits};
use crate::{error::KernelError, interface::Interface, namespace::Namespace, netlink};

/// The largest that a veth can have. Super-packets may be larger.
const MTU: u32 = 65_535;
/// What every veth lets pass in one.
const GSO: u32 = 65_536;
/// The memory of a full-sized frame of Ethernet, which is what `Limits::bytes` takes
/// each frame for.
const FRAME: usize = 2_304;
/// Name of the far end.
const FAR: &str = "far";
/// How long frames that are held may still take at the end.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked whether they are gone.
const LOOK: Duration = Duration::from_millis(5);

/// A pair of veth. The near end is in the interface's namespace, with fq; the far end is
/// in a namespace that only this process holds, by one descriptor. It goes with that, by
/// whatever end of the process, and takes the near end along.
#[derive(Debug)]
pub struct Pair {
    /// Index of the near end in the interface's namespace.
    pub ifindex: u32,
    /// Its name there, by which a person knows whose it is.
    pub name: String,
    private: File,
    /// What the near end itself sent before its program was there.
    early: u64,
}

/// What became of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Given back.
    pub sent: u64,
    /// Still held.
    pub waiting: u64,
    /// Refused by fq, or by the queue of the CPU behind it.
    pub dropped: u64,
}

impl Pair {
    /// Makes one for a direction of an interface, and brings it up.
    pub fn open(
        namespace: &Namespace,
        iface: &Interface,
        direction: Direction,
    ) -> Result<Self, KernelError> {
        let private = private()?;
        let there = namespace.run(device::this_namespace)?;
        let largest = namespace.run(|| device::look(iface.index))?;
        let near = LinkUnspec::new_with_name(&device::pattern(&iface.name, direction))
            .setns_by_fd(there.as_raw_fd());
        let far = LinkVeth::new(FAR, "").index(FAR_END);
        let ends = (sized(near, &largest).build(), sized(far, &largest));
        let ifindex = Namespace::held(&private).run(|| {
            let far = ends.1.set_info_data(InfoData::Veth(InfoVeth::Peer(ends.0)));
            let added =
                netlink::with(
                    |handle| async move { handle.link().add(far.build()).execute().await },
                );
            added.map_err(lacks(
                Errno::OPNOTSUPP,
                "veth devices",
                "`modprobe veth`, or a kernel with CONFIG_VETH",
            ))?;
            device::set_up(LinkUnspec::new_with_index(FAR_END))?;
            Ok::<_, KernelError>(other_end(&device::look(FAR_END)?))
        })?;
        drop(there);
        let name = namespace.run(|| {
            let near = LinkUnspec::new_with_index(ifindex);
            device::set_up(near.alias(device::alias(iface, direction)))?;
            set_fq(ifindex, &[]).map_err(lacks(
                Errno::NOENT,
                "fq packet scheduler",
                "`modprobe sch_fq`, a kernel with CONFIG_NET_SCH_FQ, or `--engine tap`",
            ))?;
            Ok::<_, KernelError>(name_of(&device::look(ifindex)?))
        })?;
        Ok(Self {
            ifindex,
            name,
            private,
            early: 0,
        })
    }

    /// Sets what may wait, and puts the program where frames pass.
    pub fn start(
        &mut self,
        namespace: &Namespace,
        limits: Limits,
        program: &mut SchedClassifier,
    ) -> Result<Vec<OwnedFd>, KernelError> {
        let mut links = Vec::new();
        namespace.run(|| {
            set_fq(self.ifindex, &sized_for(limits))?;
            for direction in Direction::ALL {
                links.extend(back::attach(program, &self.name, self.ifindex, direction)?);
            }
            self.early = device::sent(&device::look(self.ifindex)?).0;
            Ok::<_, KernelError>(())
        })?;
        let far = || back::attach(program, FAR, FAR_END, Direction::Ingress);
        links.extend(Namespace::held(&self.private).run(far)?);
        Ok(links)
    }

    /// Starts a thread that lives where the far end is, and so can see whether it is
    /// there without any privilege.
    pub fn spawn(
        &self,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle<()>, KernelError> {
        Namespace::held(&self.private).run(|| {
            thread::Builder::new()
                .name("line".into())
                .spawn(work)
                .map_err(KernelError::system("start a thread"))
        })
    }

    /// What became of frames until now; in the interface's namespace.
    pub fn tally(&self) -> Result<Tally, KernelError> {
        // In this order: what has left the queue by then is among what was sent.
        let queue = queue(self.ifindex)?;
        let (sent, dropped) = device::sent(&device::look(self.ifindex)?);
        Ok(Tally {
            sent: sent.saturating_sub(self.early),
            waiting: queue.qlen.into(),
            dropped: dropped + u64::from(queue.drops),
        })
    }

    /// Waits until what is held has gone on, but not for long; in the interface's
    /// namespace.
    pub fn settle(&self) -> Result<Tally, KernelError> {
        let since = Instant::now();
        loop {
            let tally = self.tally()?;
            if tally.waiting == 0 || since.elapsed() >= GRACE {
                return Ok(tally);
            }
            thread::sleep(LOOK);
        }
    }
}

/// Whether the far end is in the calling thread's namespace.
pub fn is_here() -> bool {
    fs::read_to_string("/proc/thread-self/net/dev").is_ok_and(|devices| devices.contains(FAR))
}

/// A network namespace that nobody else knows.
fn private() -> Result<File, KernelError> {
    let make = || {
        // SAFETY: no descriptor table is split off.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
            .map_err(io::Error::from)
            .map_err(KernelError::system("make a network namespace"))?;
        device::this_namespace()
    };
    thread::scope(|scope| scope.spawn(make).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Super-packets as large as the interface's stay whole.
fn sized<T>(end: LinkMessageBuilder<T>, iface: &LinkMessage) -> LinkMessageBuilder<T> {
    let largest = iface
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::GsoMaxSize(size) | LinkAttribute::GroMaxSize(size) => Some(*size),
            _ => None,
        });
    end.mtu(MTU)
        .append_extra_attribute(LinkAttribute::NumTxQueues(1))
        .append_extra_attribute(LinkAttribute::NumRxQueues(1))
        .append_extra_attribute(LinkAttribute::GsoMaxSize(
            largest.max().unwrap_or(GSO).max(GSO),
        ))
}

fn name_of(message: &LinkMessage) -> String {
    let name = |attribute: &LinkAttribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    };
    message.attributes.iter().find_map(name).unwrap_or_default()
}

/// The index of a veth's other end.
fn other_end(message: &LinkMessage) -> u32 {
    let link = |attribute: &LinkAttribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    };
    message.attributes.iter().find_map(link).unwrap_or(0)
}

/// What one errno means.
fn lacks(
    errno: Errno,
    feature: &'static str,
    fix: &'static str,
) -> impl FnOnce(KernelError) -> KernelError {
    move |error| match error {
        KernelError::Netlink(source) if netlink::is_errno(&source, errno) => KernelError::Feature {
            feature,
            fix,
            source: Box::new(source),
        },
        other => other,
    }
}

/// Attributes of fq, by `linux/pkt_sched.h`.
const PLIMIT: u16 = 1;
const FLOW_PLIMIT: u16 = 2;
const QUANTUM: u16 = 3;
const INITIAL_QUANTUM: u16 = 4;
const RATE_ENABLE: u16 = 5;
const ORPHAN_MASK: u16 = 10;
const HORIZON: u16 = 14;

/// The bytes that a flow may send before others: the most that the kernel takes, and much
/// more than comes within the 33 us of a flow.
const MOST: u32 = 1 << 20;

/// fq as nothing but a queue by departure time: flows send what they have, at no rate of
/// their own.
fn sized_for(limits: Limits) -> [(u16, u32); 7] {
    let frames = limits.frames.min(limits.bytes / FRAME);
    let frames = u32::try_from(frames).unwrap_or(u32::MAX);
    [
        (PLIMIT, frames),
        (FLOW_PLIMIT, frames),
        (QUANTUM, MOST),
        (INITIAL_QUANTUM, MOST),
        (RATE_ENABLE, 0),
        // All of the hash, or moments that are 33 ms apart were a flow.
        (ORPHAN_MASK, u32::MAX),
        // In microseconds: 71 minutes.
        (HORIZON, u32::MAX),
    ]
}

/// Makes fq the root qdisc of a device, or changes the one that it is.
fn set_fq(index: u32, options: &[(u16, u32)]) -> Result<(), KernelError> {
    let option = |(kind, value): &(u16, u32)| {
        TcOption::Other(DefaultNla::new(*kind, value.to_ne_bytes().to_vec()))
    };
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.parent = TcHandle::ROOT;
    message.attributes.push(TcAttribute::Kind("fq".into()));
    if !options.is_empty() {
        let options = options.iter().map(option).collect();
        message.attributes.push(TcAttribute::Options(options));
    }
    netlink::with(|mut handle| async move {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let mut answers = handle.request(request)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                return Err(rtnetlink::Error::NetlinkError(error));
            }
        }
        Ok(())
    })
}

/// What the root qdisc of a device has and has refused.
fn queue(index: u32) -> Result<TcStatsQueue, KernelError> {
    let qdiscs: Vec<TcMessage> = netlink::with(|handle| async move {
        let request = handle.qdisc().get().index(index.cast_signed());
        request.execute().try_collect().await
    })?;
    let root = qdiscs.iter().find(|message| {
        message.header.index == index.cast_signed() && message.header.parent == TcHandle::ROOT
    });
    let attributes = root.map(|message| &message.attributes);
    let stats = attributes
        .into_iter()
        .flatten()
        .find_map(|attribute| match attribute {
            TcAttribute::Stats2(stats) => stats.iter().find_map(|stats| match stats {
                TcStats2::Queue(queue) => Some(*queue),
                _ => None,
            }),
            _ => None,
        });
    Ok(stats.unwrap_or_default())
}
