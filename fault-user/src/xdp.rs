//! What is on the XDP hook of an interface.

use std::fs;

use aya::programs::loaded_programs;
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::{LinkAttribute, LinkXdp};

use crate::{error::KernelError, netlink};

/// A program on an interface's XDP hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpProgram {
    /// The kernel's id of it.
    pub id: u32,
    /// Its name, which may be empty.
    pub name: String,
    /// Where it runs.
    pub mode: Mode,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// Behind the driver, once there is an skb.
    Generic,
    /// On the card.
    Offloaded,
}

/// Name of the program by which libxdp runs several in a row.
pub const DISPATCHER: &str = "xdp_dispatcher";

impl Mode {
    /// ip(8)'s word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "xdp",
            Self::Generic => "xdpgeneric",
            Self::Offloaded => "xdpoffload",
        }
    }
}

/// The XDP programs of an interface in the calling thread's namespace.
pub fn xdp_programs(ifindex: u32) -> Result<Vec<XdpProgram>, KernelError> {
    let links: Vec<_> = netlink::with(|handle| async move {
        let link = handle.link().get().match_index(ifindex).execute();
        link.try_collect().await
    })?;
    Ok(links
        .iter()
        .flat_map(|link| &link.attributes)
        .filter_map(|attribute| match attribute {
            LinkAttribute::Xdp(xdp) => Some(xdp),
            _ => None,
        })
        .flatten()
        .filter_map(|xdp| match *xdp {
            LinkXdp::DrvProgId(id) => Some((id, Mode::Native)),
            LinkXdp::SkbProgId(id) => Some((id, Mode::Generic)),
            LinkXdp::HwProgId(id) => Some((id, Mode::Offloaded)),
            _ => None,
        })
        .map(|(id, mode)| XdpProgram {
            id,
            name: name_of(id).unwrap_or_default(),
            mode,
        })
        .collect())
}

fn name_of(id: u32) -> Option<String> {
    loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)
        .and_then(|program| program.name_as_str().map(str::to_owned))
}

/// The processes that hold a program, itself or by a link, as far as they are to be
/// seen: pid and name.
pub fn holders(program: u32) -> Vec<(u32, String)> {
    let line = format!("prog_id:\t{program}");
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|process| {
            let process = process.ok()?;
            let pid = process.file_name().to_str()?.parse().ok()?;
            let held = fs::read_dir(process.path().join("fdinfo"))
                .ok()?
                .filter_map(|descriptor| fs::read_to_string(descriptor.ok()?.path()).ok())
                .any(|info| info.lines().any(|other| other == line));
            let name = fs::read_to_string(process.path().join("comm")).ok()?;
            held.then(|| (pid, name.trim_end().to_owned()))
        })
        .collect()
}
