//! What goes wrong between faultctl and the kernel.

use std::{io, path::PathBuf};

use aya::{EbpfError, maps::MapError, programs::ProgramError};

use crate::{
    attach::Program,
    container::ContainerId,
    control_path::Connection,
    netem::tc::Handle,
    xdp::{self, XdpProgram},
};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What the kernel refused, or what is missing on this machine.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The binary was built without its BPF object.
    #[error("this faultctl was built without its BPF object")]
    NoObject,
    /// The object's layouts are not the ones of this binary.
    #[error("the BPF object belongs to another version than this binary")]
    ObjectVersion,
    /// Capabilities that the process lacks.
    #[error("missing capabilities: {}", missing.join(", "))]
    Capabilities {
        /// Their names, as capabilities(7) has them.
        missing: Vec<String>,
    },
    /// The kernel is too old, or was built without something.
    #[error("this kernel has no {feature}")]
    Feature {
        /// What it lacks.
        feature: &'static str,
        /// Where it would come from.
        fix: &'static str,
        /// What the kernel said.
        source: Cause,
    },
    /// A program could not be put on a hook.
    #[error("cannot attach to `{iface}` by {hook}")]
    Attach {
        /// The interface.
        iface: String,
        /// The hook.
        hook: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The one XDP program that an interface can have is somebody else's.
    #[error("the XDP hook of `{iface}` is taken by {}", taken_by(program, holders))]
    XdpTaken {
        /// The interface.
        iface: String,
        /// Their program.
        program: XdpProgram,
        /// The processes that hold it: pid and name.
        holders: Vec<(u32, String)>,
    },
    /// No such interface.
    #[error("no interface `{name}`")]
    NoInterface {
        /// What was asked for.
        name: String,
        /// Those that are there.
        there: Vec<String>,
    },
    /// A namespace without an interface to inject on.
    #[error("no interface but `lo` is there")]
    OnlyLoopback,
    /// No such process.
    #[error("no process {pid}")]
    NoProcess {
        /// What was asked for.
        pid: u32,
    },
    /// No such container.
    #[error("no container `{id}` with a process on this machine")]
    NoContainer {
        /// What was asked for.
        id: ContainerId,
    },
    /// An id that begins those of several containers.
    #[error("`{id}` begins the ids of {} containers", matching.len())]
    SeveralContainers {
        /// What was asked for.
        id: ContainerId,
        /// Their ids.
        matching: Vec<String>,
    },
    /// An interface whose frames faultctl cannot read.
    #[error("`{name}` has the link type {link_type}, whose frames faultctl does not read")]
    LinkType {
        /// The interface.
        name: String,
        /// Its ARPHRD name or number.
        link_type: String,
    },
    /// Netem is there already.
    #[error("`{device}` has {there} by faultctl already")]
    NetemExists {
        /// The interface.
        device: String,
        /// Handle and words.
        there: String,
    },
    /// No netem to change or to take away.
    #[error("no netem{} of faultctl is on `{device}`", named(*handle))]
    NoNetem {
        /// The interface.
        device: String,
        /// The one that was meant, if one was.
        handle: Option<Handle>,
    },
    /// The interface went away meanwhile, or the programs on it or its helper did.
    #[error("interface `{name}` is gone, or somebody removed the program on it or its helper")]
    InterfaceGone {
        /// Its name when the fault began.
        name: String,
    },
    /// A link that is away already.
    #[error("`{name}` is {what} already")]
    LinkDown {
        /// The interface.
        name: String,
        /// `down`, or `without a carrier`.
        what: &'static str,
    },
    /// A link that the operator works through.
    #[error(
        "`{name}` carries the connection that you work through, {connection}, and `--mode {mode}` \
         cuts it off"
    )]
    CarriesSsh {
        /// The interface.
        name: String,
        /// How it was to be taken away.
        mode: &'static str,
        /// The connection.
        connection: Connection,
    },
    /// The driver has no carrier to take away.
    #[error(
        "the carrier of `{name}`{} cannot be taken away: its driver does not know how",
        of_kind(kind)
    )]
    NoCarrierSwitch {
        /// The interface.
        name: String,
        /// What makes it; empty for hardware.
        kind: String,
    },
    /// A link could not be taken away.
    #[error("cannot take `{name}` away")]
    TakeAway {
        /// The interface.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Another fault has taken the link away.
    #[error("`{name}` is taken away by faultctl pid {pid} already: faultctl {command}")]
    Taken {
        /// The interface.
        name: String,
        /// That process.
        pid: u32,
        /// How it was asked for.
        command: String,
        /// Whether that process or its watchdog lives.
        alive: bool,
    },
    /// What is saved of a link belongs to another version of faultctl.
    #[error("`{name}` is taken away by another version of faultctl")]
    OtherVersion {
        /// The interface.
        name: String,
    },
    /// The interface went away, or somebody put it back.
    #[error("interface `{name}` is gone, or somebody put its link back")]
    LinkBack {
        /// Its name when the fault began.
        name: String,
    },
    /// The interface went away while its link was away.
    #[error("interface `{name}` is gone, with all that was on it")]
    LinkGone {
        /// Its name when the fault began.
        name: String,
    },
    /// Another interface has its number now.
    #[error("`{name}` is not the interface `{saved}` that was saved, and was left alone")]
    OtherLink {
        /// Its name.
        name: String,
        /// Name of the one that was saved.
        saved: String,
    },
    /// The link could not be put back.
    #[error("cannot put `{name}` back")]
    PutBack {
        /// The interface.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Something on the link could not be put back.
    #[error("not put back: {}", what.join("; "))]
    NotPutBack {
        /// What, and why.
        what: Vec<String>,
    },
    /// The same after the last attempt.
    #[error("not put back, and not tried again: {}", what.join("; "))]
    GivenUp {
        /// What, and why.
        what: Vec<String>,
    },
    /// There is no watchdog, and without one no link is taken away.
    #[error("the watchdog is gone, so the link was put back")]
    Watchdog,
    /// Somebody else could write what faultctl keeps.
    #[error(
        "`{}` is a link, or others than this user may write it: nothing there is trusted",
        path.display()
    )]
    NotPrivate {
        /// The file or directory.
        path: PathBuf,
    },
    /// What faultctl keeps could not be read or written.
    #[error("cannot use `{}`", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A network namespace that can't be entered.
    #[error("cannot enter the network namespace `{}`", path.display())]
    Namespace {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An SSH server whose connection cannot be seen.
    #[error("cannot see which connection of the SSH server with pid {pid} is yours")]
    ControlPath {
        /// The server.
        pid: u32,
    },
    /// More than the maps hold.
    #[error("too many {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
    },
    /// A map refused.
    #[error("map `{map}`{}", full(source))]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        source: MapError,
    },
    /// A map that does not fit into the kernel's memory, or into what the cgroup may have.
    #[error("no memory for the map `{map}`")]
    Memory {
        /// Its name.
        map: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The object could not be loaded.
    #[error("cannot load the BPF object")]
    Load(#[source] Box<EbpfError>),
    /// A program did not pass the verifier, or could not be attached.
    #[error("cannot {what} the BPF program `{program}`")]
    Program {
        /// `load` or `attach`.
        what: &'static str,
        /// Its name.
        program: &'static str,
        /// Why.
        source: Box<ProgramError>,
    },
    /// The clsact qdisc could not be added.
    #[error("cannot add the clsact qdisc to `{iface}`")]
    Clsact {
        /// The interface.
        iface: String,
        /// Why.
        source: Cause,
    },
    /// No priority in front of somebody else's filter.
    #[error("a filter of somebody else has priority 1 on `{iface}`, and would hide packets")]
    NoPriority {
        /// The interface.
        iface: String,
    },
    /// Another process has the lock, and keeps it.
    #[error("another process holds `/run/faultctl/lock`")]
    Locked,
    /// A signal came before there was anything to end.
    #[error("interrupted before the fault began")]
    Interrupted,
    /// A holder can only be left behind by a process with one thread.
    #[error("this process has other threads, and cannot leave a fault to a holder")]
    Threads,
    /// The holder was killed before the fault was in force.
    #[error("the background process was killed before the fault was in force")]
    Holder,
    /// A filter could not be taken out.
    #[error("cannot remove a filter")]
    Detach(#[source] Box<ProgramError>),
    /// rtnetlink refused.
    #[error("rtnetlink refused")]
    Netlink(#[source] rtnetlink::Error),
    /// Programs and maps in the kernel could not be listed.
    #[error("cannot read the BPF programs of this machine")]
    Inventory(#[source] Cause),
    /// A system call failed.
    #[error("cannot {what}")]
    System {
        /// What it was for.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn named(handle: Option<Handle>) -> String {
    handle.map_or_else(String::new, |handle| format!(" `{handle}`"))
}

fn of_kind(kind: &str) -> String {
    if kind.is_empty() {
        String::new()
    } else {
        format!(" ({kind})")
    }
}

fn taken_by(program: &XdpProgram, holders: &[(u32, String)]) -> String {
    let what = if program.name == xdp::DISPATCHER {
        "libxdp's dispatcher"
    } else {
        "a program"
    };
    let holders: Vec<_> = holders
        .iter()
        .map(|(pid, name)| format!("`{name}` with pid {pid}"))
        .collect();
    let held = if holders.is_empty() {
        String::new()
    } else {
        format!(" of {}", holders.join(", "))
    };
    let XdpProgram { id, name, mode } = program;
    format!("{what}{held}: `{name}`, id {id}, by {}", mode.name())
}

fn full(error: &MapError) -> &'static str {
    if is_full(error) { " is full" } else { "" }
}

fn is_full(error: &MapError) -> bool {
    let errno = match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        MapError::IoError(error) => error.raw_os_error(),
        _ => None,
    };
    matches!(errno, Some(libc::E2BIG | libc::ENOSPC))
}

impl KernelError {
    /// Whether a network namespace has gone, with all that was in it.
    pub fn is_missing_namespace(&self) -> bool {
        matches!(self, Self::Namespace { source, .. }
            if source.kind() == io::ErrorKind::NotFound)
    }

    /// For `map_err`: the object does not load. Where the system call itself is not
    /// there, that is said rather than what failed first.
    pub fn load(source: EbpfError) -> Self {
        let source = match source {
            EbpfError::MapError(MapError::CreateError { name, io_error })
                if matches!(io_error.raw_os_error(), Some(libc::ENOMEM | libc::E2BIG)) =>
            {
                return Self::Memory {
                    map: name,
                    source: io_error,
                };
            }
            other => other,
        };
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&source);
        while let Some(error) = cause {
            let errno = error.downcast_ref::<io::Error>();
            if errno.is_some_and(|error| error.raw_os_error() == Some(libc::ENOSYS)) {
                return Self::Feature {
                    feature: "bpf(2)",
                    fix: "use a kernel with CONFIG_BPF_SYSCALL",
                    source: Box::new(source),
                };
            }
            cause = error.source();
        }
        Self::Load(Box::new(source))
    }

    /// For `map_err`: a map by its name.
    pub fn map(map: &'static str) -> impl Fn(MapError) -> Self {
        move |source| Self::Map { map, source }
    }

    /// The same for what aya does not do.
    pub fn map_io(map: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::map(map)(MapError::IoError(source))
    }

    /// For `map_err`: a system call by what it was for.
    pub fn system<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> Self {
        move |source| Self::System {
            what,
            source: source.into(),
        }
    }

    /// For `map_err`: listing what the kernel holds.
    pub fn inventory(source: impl Into<Cause>) -> Self {
        Self::Inventory(source.into())
    }

    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoObject => {
                "`cargo xtask build-ebpf && cargo build --release -p fault-user`".into()
            }
            Self::ObjectVersion => "build both again: `cargo xtask build-ebpf`".into(),
            Self::Capabilities { .. } => "run it with `sudo`".into(),
            Self::Feature { fix, .. } => (*fix).into(),
            Self::NoInterface { there, .. } => {
                let there: Vec<_> = there.iter().map(|name| format!("`{name}`")).collect();
                format!("interfaces here: {}", there.join(", "))
            }
            Self::XdpTaken { program, .. } if program.name == Program::Xdp.name() => {
                "`faultctl status` shows that fault".into()
            }
            Self::XdpTaken { .. } => {
                "leave out `--hook xdp`: the tc hooks have room for everybody".into()
            }
            Self::NetemExists { device, .. } => format!(
                "`faultctl tc qdisc change` changes it, \
                 `faultctl tc qdisc del dev {device} root` ends it"
            ),
            Self::NoNetem { device, .. } => format!(
                "`faultctl tc qdisc show dev {device}` shows what there is, \
                 `faultctl tc qdisc add` begins one"
            ),
            Self::OnlyLoopback => "name it: `--iface lo`".into(),
            Self::NoProcess { .. } => "`ps -e` lists them".into(),
            Self::NoContainer { .. } => {
                "`docker ps`, `podman ps` or `crictl ps` lists those that run, with their ids"
                    .into()
            }
            Self::SeveralContainers { matching, .. } => {
                format!("give more of it: `{}`", matching.join("`, `"))
            }
            Self::LinkType { .. } => {
                "take the interface below or above it that carries Ethernet or IP".into()
            }
            Self::LinkDown { name, .. } => format!("`ip link show dev {name}` shows it"),
            Self::NotPrivate { path } => {
                let path = path.display();
                format!("`ls -ld {path}` shows it; faultctl makes it again if it is not there")
            }
            Self::State { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run it with `sudo`: what faultctl keeps there is for root alone".into()
            }
            Self::CarriesSsh { .. } => {
                "`--include-ssh` takes it away all the same; `--mode blackhole` spares the \
                 connection"
                    .into()
            }
            Self::NoCarrierSwitch { .. } => {
                "`--mode admin` sets the link down; on a veth, setting the peer down takes the \
                 carrier away"
                    .into()
            }
            Self::Taken {
                name, alive: true, ..
            } => format!("wait for its end, or `faultctl clear --iface {name}`"),
            Self::Taken { name, .. } => {
                format!("that process is gone: `faultctl clear --iface {name}` puts the link back")
            }
            Self::OtherVersion { name } => {
                format!("`faultctl clear --iface {name}` of that version puts it back")
            }
            Self::PutBack { .. } | Self::NotPutBack { .. } => {
                "`faultctl status` names what is missing, `faultctl clear` tries again".into()
            }
            Self::GivenUp { .. } => "put it back by ip(8)".into(),
            Self::Namespace { .. } => "`ip netns list` shows the names".into(),
            Self::ControlPath { .. } => {
                "run it with `sudo`, or give `--include-ssh` to spare nothing".into()
            }
            Self::TooMany { .. } => "split it over two commands".into(),
            Self::Map { source, .. } if is_full(source) => {
                "use shorter prefixes, or split the list over two commands".into()
            }
            Self::Memory { .. } => "raise the memory limit of its cgroup (`memory.max`), or name \
                networks in place of their hosts"
                .into(),
            Self::Clsact { iface, .. } => format!(
                "`tc qdisc show dev {iface}` shows whether an `ingress` qdisc is in its place"
            ),
            Self::Locked => "`fuser -v /run/faultctl/lock` shows it".into(),
            Self::NoPriority { iface } => {
                format!("`tc filter show dev {iface} egress` (and `ingress`) shows it")
            }
            Self::Load(_) | Self::Program { .. } | Self::Attach { .. } | Self::Inventory(_) => {
                "`faultctl doctor` tells what this kernel lacks".into()
            }
            _ => return None,
        })
    }
}
