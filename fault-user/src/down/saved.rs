//! What a link carries before it is taken down: enough to put it back, by anybody, in
//! any process.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
    time::Duration,
};

use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use serde_json::{Value, json};

use super::{
    LinkMode,
    link::{Link, affected},
    message::Message,
    object::{self, Class, Maker},
    socket::Socket,
};
use crate::{clock, error::KernelError, namespace::Namespace, process};

/// A process, by its number and start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// Its number.
    pub pid: u32,
    /// When it started, in ticks since boot.
    pub start_ticks: u64,
}

/// A link, and everything on it that its going down takes away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// How it is taken away.
    pub mode: LinkMode,
    /// The process that takes it away.
    pub controller: Who,
    /// The process that puts it back if that one cannot.
    pub watchdog: Who,
    /// The user behind it.
    pub uid: u32,
    /// How it was asked for.
    pub command: String,
    /// When it was saved, `CLOCK_BOOTTIME` in nanoseconds.
    pub since_ns: u64,
    /// When it is to be put back.
    pub until_ns: u64,
    /// When, unless somebody confirms the fault.
    pub confirm_until_ns: Option<u64>,
    /// The boot that this belongs to.
    pub boot_id: String,
    /// Inode of the network namespace.
    pub netns: u64,
    /// Its cookie, which no other namespace ever gets.
    pub netns_cookie: u64,
    /// A way there, unless it is the caller's own.
    pub netns_path: Option<PathBuf>,
    /// The link itself, then those that feel it when it goes.
    pub links: Vec<SavedLink>,
    /// Interfaces on which the kernel acts on router advertisements.
    pub accepts_ra: BTreeSet<u32>,
    /// Addresses, nexthops, neighbours and routes, as the kernel told them.
    pub objects: Vec<Message>,
}

/// A link as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedLink {
    /// Its index.
    pub index: u32,
    /// Its name then.
    pub name: String,
    /// Its link-layer address.
    pub address: Vec<u8>,
    /// What makes it.
    pub kind: String,
    /// Whether it was set up.
    pub up: bool,
    /// Whether it had a carrier, and the kernel used it.
    pub running: bool,
}

/// Objects of links that are affected.
pub fn objects(
    socket: &mut Socket,
    links: &[Link],
    on: &BTreeSet<u32>,
) -> Result<Vec<Message>, KernelError> {
    let mut found = Vec::new();
    let mut nexthops = BTreeSet::new();
    for class in Class::ALL {
        let mut all = Vec::new();
        for request in class.requests() {
            match socket.dump(&request) {
                Ok(messages) => all.extend(messages),
                // A kernel without IPv6.
                Err(KernelError::System { source, .. })
                    if source.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        all.retain(|message| Class::of(message) == Some(class));
        if class == Class::Neighbour {
            all.retain(|message| {
                let no_arp = links
                    .iter()
                    .any(|link| link.no_arp && object::interfaces(message).contains(&link.index));
                object::is_set(message, no_arp)
            });
        }
        // Groups may come in front of their members.
        loop {
            let (here, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|message| {
                object::interfaces(message)
                    .iter()
                    .any(|index| on.contains(index))
                    || object::nexthops(message)
                        .iter()
                        .any(|id| nexthops.contains(id))
            });
            all = rest;
            let done = here.is_empty() || class != Class::Nexthop;
            if class == Class::Nexthop {
                nexthops.extend(here.iter().filter_map(object::nexthop_id));
            }
            found.extend(here);
            if done {
                break;
            }
        }
    }
    Ok(found)
}

impl Saved {
    /// Reads what is on a link now. Runs in its namespace.
    pub fn take(
        socket: &mut Socket,
        links: &[Link],
        target: &Link,
        fault: &Fault<'_>,
    ) -> Result<Self, KernelError> {
        let affected = affected(links, target.index);
        let others = links
            .iter()
            .filter(|link| link.index != target.index && affected.contains(&link.index));
        let links_saved: Vec<SavedLink> = std::iter::once(target)
            .chain(others)
            .map(SavedLink::of)
            .collect();
        let accepts_ra = links_saved
            .iter()
            .filter(|link| accepts_ra(&link.name))
            .map(|link| link.index)
            .collect();
        let mut objects = objects(socket, links, &affected)?;
        objects.retain(|message| object::maker(message, &accepts_ra) != Maker::Implied);
        let since_ns = clock::boot_ns();
        Ok(Self {
            mode: fault.mode,
            controller: Who::this(),
            watchdog: fault.watchdog,
            uid: fault.uid,
            command: fault.command.to_owned(),
            since_ns,
            until_ns: fault.until_ns,
            confirm_until_ns: fault.confirm_until_ns,
            boot_id: boot_id()?,
            netns: fault.netns,
            netns_cookie: socket.netns_cookie()?,
            netns_path: fault.namespace.path().map(Into::into),
            links: links_saved,
            accepts_ra,
            objects,
        })
    }

    /// The link that is taken away.
    pub fn target(&self) -> &SavedLink {
        // There is one by construction, in `take` as in `decode`.
        &self.links[0]
    }

    /// The link that is taken away, as it is now, if it is there.
    pub fn target_now(&self, socket: &mut Socket) -> Result<Link, KernelError> {
        let target = self.target();
        let links = if socket.netns_cookie()? == self.netns_cookie {
            Link::all(socket)?
        } else {
            Vec::new()
        };
        match links.iter().find(|link| link.index == target.index) {
            Some(link) if target.is(link) => Ok(link.clone()),
            Some(other) => Err(KernelError::OtherLink {
                name: other.name.clone(),
                saved: target.name.clone(),
            }),
            None => Err(KernelError::LinkGone {
                name: target.name.clone(),
            }),
        }
    }

    /// How long ago it was saved.
    pub fn gone(&self) -> Duration {
        Duration::from_nanos(clock::boot_ns().saturating_sub(self.since_ns))
    }

    /// Its namespace, if it is still there and anything leads to it.
    pub fn namespace(&self) -> Option<Namespace> {
        let is_it =
            |namespace: &Namespace| namespace.inode().is_ok_and(|inode| inode == self.netns);
        self.netns_path
            .as_deref()
            .map(Namespace::named)
            .filter(is_it)
            .or_else(|| Namespace::with_inode(self.netns))
    }

    /// As bytes: a line of JSON, then the objects in the kernel's own form.
    pub fn encode(&self) -> Vec<u8> {
        let head = json!({
            "format": FORMAT,
            "mode": self.mode.name(),
            "controller": self.controller.to_json(),
            "watchdog": self.watchdog.to_json(),
            "uid": self.uid,
            "command": self.command,
            "since_ns": self.since_ns,
            "until_ns": self.until_ns,
            "confirm_until_ns": self.confirm_until_ns,
            "boot_id": self.boot_id,
            "netns": self.netns,
            "netns_cookie": self.netns_cookie,
            "netns_path": self.netns_path,
            "links": self.links.iter().map(SavedLink::to_json).collect::<Value>(),
            "accepts_ra": self.accepts_ra,
        });
        let mut bytes = head.to_string().into_bytes();
        bytes.push(b'\n');
        for object in &self.objects {
            bytes.extend(object.clone().encode(0, 0));
        }
        bytes
    }

    /// From bytes; `None` if they are of another version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let line = bytes.iter().position(|byte| *byte == b'\n')?;
        let head: BTreeMap<String, Value> = serde_json::from_slice(&bytes[..line]).ok()?;
        if head.get("format")? != FORMAT {
            return None;
        }
        let number = |key: &str| head.get(key)?.as_u64();
        let text = |key: &str| head.get(key)?.as_str().map(str::to_owned);
        let links: Option<Vec<_>> = head
            .get("links")?
            .as_array()?
            .iter()
            .map(SavedLink::from_json)
            .collect();
        let accepts_ra = head.get("accepts_ra")?.as_array()?.iter();
        let mut objects = Vec::new();
        let mut rest = &bytes[line + 1..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<Message>::deserialize(rest).ok()?;
            rest = rest.get(message.header.length as usize..)?;
            let NetlinkPayload::InnerMessage(object) = message.payload else {
                return None;
            };
            objects.push(object);
        }
        Some(Self {
            mode: LinkMode::named(&text("mode")?)?,
            controller: Who::from_json(head.get("controller")?)?,
            watchdog: Who::from_json(head.get("watchdog")?)?,
            uid: number("uid")?.try_into().ok()?,
            command: text("command")?,
            since_ns: number("since_ns")?,
            until_ns: number("until_ns")?,
            confirm_until_ns: number("confirm_until_ns"),
            boot_id: text("boot_id")?,
            netns: number("netns")?,
            netns_cookie: number("netns_cookie")?,
            netns_path: text("netns_path").map(Into::into),
            links: links.filter(|links| !links.is_empty())?,
            accepts_ra: accepts_ra
                .map(|index| index.as_u64()?.try_into().ok())
                .collect::<Option<_>>()?,
            objects,
        })
    }
}

/// The fault that something is saved for.
pub struct Fault<'a> {
    /// How the link is taken away.
    pub mode: LinkMode,
    /// Who puts it back if this process cannot.
    pub watchdog: Who,
    /// The user behind it.
    pub uid: u32,
    /// How it was asked for.
    pub command: &'a str,
    /// When it ends.
    pub until_ns: u64,
    /// When it ends unless somebody confirms it.
    pub confirm_until_ns: Option<u64>,
    /// Where the link is.
    pub namespace: &'a Namespace,
    /// The namespace's inode.
    pub netns: u64,
}

const FORMAT: u64 = 1;

impl Who {
    /// This process.
    pub fn this() -> Self {
        Self::of(std::process::id())
    }

    /// The process that has this number now.
    pub fn of(pid: u32) -> Self {
        Self {
            pid,
            start_ticks: process::start_ticks(pid).unwrap_or(0),
        }
    }

    /// It, if it lives.
    pub fn find(self) -> Option<process::Process> {
        process::Process::find(self.pid, self.start_ticks)
    }

    fn to_json(self) -> Value {
        json!({"pid": self.pid, "start_ticks": self.start_ticks})
    }

    fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            pid: value["pid"].as_u64()?.try_into().ok()?,
            start_ticks: value["start_ticks"].as_u64()?,
        })
    }
}

impl SavedLink {
    /// As it is now.
    pub fn of(link: &Link) -> Self {
        Self {
            index: link.index,
            name: link.name.clone(),
            address: link.address.clone(),
            kind: link.kind.clone(),
            up: link.up,
            running: link.carrier && link.running,
        }
    }

    /// Whether this is the same link. The name does not count.
    pub fn is(&self, link: &Link) -> bool {
        link.index == self.index && link.address == self.address && link.kind == self.kind
    }

    /// The same link as it is now.
    pub fn now<'a>(&self, links: &'a [Link]) -> Option<&'a Link> {
        links.iter().find(|link| self.is(link))
    }

    fn to_json(&self) -> Value {
        json!({
            "index": self.index,
            "name": self.name,
            "address": self.address,
            "kind": self.kind,
            "up": self.up,
            "running": self.running,
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            index: value["index"].as_u64()?.try_into().ok()?,
            name: value["name"].as_str()?.to_owned(),
            address: value["address"]
                .as_array()?
                .iter()
                .map(|byte| byte.as_u64()?.try_into().ok())
                .collect::<Option<_>>()?,
            kind: value["kind"].as_str()?.to_owned(),
            up: value["up"].as_bool()?,
            running: value["running"].as_bool()?,
        })
    }
}

/// The number of this boot.
pub fn boot_id() -> Result<String, KernelError> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .map_err(KernelError::system::<io::Error>("read the boot id"))
}

/// Whether the kernel makes addresses and routes from router advertisements on this
/// interface: `accept_ra` of the kernel's ip-sysctl document. Runs in its namespace.
fn accepts_ra(iface: &str) -> bool {
    let read = |key: &str| {
        fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{iface}/{key}"))
            .ok()
            .and_then(|text| text.trim().parse::<i32>().ok())
    };
    match read("accept_ra") {
        Some(1) => read("forwarding") == Some(0),
        Some(mode) => mode > 1,
        None => false,
    }
}
