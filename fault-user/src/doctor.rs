//! Says what this kernel, these privileges and these interfaces allow, and how to
//! mend what they don't.

use std::{fs, path::PathBuf};

use aya::programs::{SchedClassifier, TcAttachType, loaded_programs};
use aya::util::KernelVersion;
use fault_common::{layout::Direction, packet::LinkLayer};

use crate::{
    Error, attach, clsact,
    error::{KernelError, chain},
    interface::{self, Interface},
    inventory,
    maps::{Loaded, Room},
    namespace::Namespace,
    object::Object,
    privilege,
    report::{Event, Reporter},
};

/// What to look at, and how to tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Interfaces to look at; empty for all.
    pub interfaces: Vec<String>,
    /// Their network namespace, or the caller's own.
    pub netns: Option<PathBuf>,
    /// JSON lines on stdout.
    pub json: bool,
}

/// Something found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub about: String,
    /// How much it matters.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub fix: Option<String>,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// faultctl can't work.
    Error,
}

impl Level {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Error => "error",
        }
    }
}

/// Prints each finding; the exit code is 1 if faultctl can't work.
pub fn run(request: &Request) -> Result<i32, Error> {
    let mut reporter = Reporter::new(request.json);
    let mut code = 0;
    for finding in examine(request)? {
        if finding.level == Level::Error {
            code = 1;
        }
        reporter
            .event(&Event::Finding(finding))
            .map_err(|_| Error::OutputClosed)?;
    }
    Ok(code)
}

/// Looks at everything.
pub fn examine(request: &Request) -> Result<Vec<Finding>, Error> {
    let mut findings = vec![kernel(), object()];
    findings.extend(capabilities()?);
    findings.push(load());
    findings.push(tcx());
    findings.push(jit());
    findings.extend(leftovers());
    let namespace = request
        .netns
        .as_deref()
        .map_or_else(Namespace::default, Namespace::named);
    findings.extend(namespace.run(|| interfaces(&request.interfaces))?);
    Ok(findings)
}

fn ok(about: &str, found: impl Into<String>) -> Finding {
    Finding {
        about: about.into(),
        level: Level::Ok,
        found: found.into(),
        fix: None,
    }
}

fn note(about: &str, found: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding {
        about: about.into(),
        level: Level::Note,
        found: found.into(),
        fix: Some(fix.into()),
    }
}

fn wrong(about: &str, found: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding {
        level: Level::Error,
        ..note(about, found, fix)
    }
}

/// Without the verifier's log, which has many lines.
fn whole(error: &dyn std::error::Error) -> String {
    let text = chain(error);
    text.lines().next().unwrap_or_default().to_owned()
}

/// The oldest kernel that faultctl is tested on.
const OLDEST: (u8, u8) = (6, 1);

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let (major, minor) = OLDEST;
    let old =
        KernelVersion::current().is_ok_and(|current| current < KernelVersion::new(major, minor, 0));
    if old {
        note(
            "kernel",
            format!("{release} is older than any that faultctl is tested on"),
            format!("use Linux {major}.{minor} or newer"),
        )
    } else {
        ok("kernel", release)
    }
}

fn object() -> Finding {
    match Object::embedded() {
        Ok(_) => ok("BPF object", "built in"),
        Err(error) => wrong(
            "BPF object",
            whole(&error),
            error.hint().unwrap_or_default(),
        ),
    }
}

fn capabilities() -> Result<Vec<Finding>, Error> {
    const SUDO: &str = "run it with `sudo`";
    let mut findings = Vec::new();
    for (needed, purpose, level) in [
        (&privilege::TO_ATTACH[..], "to inject faults", Level::Error),
        (
            &[privilege::TO_LOOK_AROUND][..],
            "for `status`, `clear`, `selftest` and `--netns`",
            Level::Note,
        ),
    ] {
        let missing = privilege::missing(needed)?;
        findings.push(if missing.is_empty() {
            ok("capabilities", format!("all that it takes {purpose}"))
        } else {
            let missing = format!("missing {purpose}: {}", missing.join(", "));
            Finding {
                level,
                ..note("capabilities", missing, SUDO)
            }
        });
    }
    Ok(findings)
}

/// The verifier's word on our programs.
fn load() -> Finding {
    let loaded = Object::embedded()
        .and_then(|object| Loaded::new(object, LinkLayer::Ethernet, Room::default()))
        .and_then(|mut loaded| {
            attach::load(&mut loaded, &attach::Program::ALL)?;
            Ok(loaded)
        });
    match loaded {
        Ok(_) => ok("verifier", "takes the programs"),
        Err(error) => wrong(
            "verifier",
            whole(&error),
            "see docs/kernels.md for what the programs need of a kernel",
        ),
    }
}

fn tcx() -> Finding {
    match SchedClassifier::query_tcx("lo", TcAttachType::Egress) {
        Ok(_) => ok(
            "tcx",
            "there: a fault ends with its process, however it ends",
        ),
        Err(_) => note(
            "tcx",
            "not there (or not to be asked about); clsact filters are used",
            "after a SIGKILL the fault ends with its lease, and `faultctl clear` removes the filter",
        ),
    }
}

fn jit() -> Finding {
    match fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").as_deref() {
        Ok("0\n") => note(
            "BPF JIT",
            "off: programs are interpreted, and packets cost more",
            "sysctl net.core.bpf_jit_enable=1",
        ),
        Ok(_) => ok("BPF JIT", "on"),
        Err(_) => ok("BPF JIT", "unknown: no /proc/sys/net/core/bpf_jit_enable"),
    }
}

fn leftovers() -> Option<Finding> {
    let dead = inventory::scan().ok()?.into_iter().filter(|found| {
        found
            .fault
            .as_ref()
            .is_some_and(|fault| fault.process().is_none())
    });
    let count = dead.count();
    (count > 0).then(|| {
        note(
            "leftovers",
            format!("{count} filters of faultctl processes that were killed, without force"),
            "faultctl clear",
        )
    })
}

/// In their namespace.
fn interfaces(names: &[String]) -> Result<Vec<Finding>, KernelError> {
    let names = if names.is_empty() {
        interface::names()?
    } else {
        names.to_vec()
    };
    let mut findings = Vec::new();
    for name in names {
        match Interface::find(std::slice::from_ref(&name)) {
            Ok(found) => findings.extend(interface(&found[0])?),
            Err(error) => findings.push(wrong(
                &name,
                whole(&error),
                error.hint().unwrap_or_default(),
            )),
        }
    }
    Ok(findings)
}

fn interface(interface: &Interface) -> Result<Vec<Finding>, KernelError> {
    let name = &interface.name;
    let frames = match interface.link {
        LinkLayer::Ethernet => "Ethernet frames",
        LinkLayer::None => "IP packets without a link-layer header",
    };
    let mut findings = vec![ok(name, frames)];
    for direction in Direction::ALL {
        let mut others = Vec::new();
        if let Ok((_, programs)) = SchedClassifier::query_tcx(name, clsact::attach_type(direction))
        {
            others.extend(
                programs
                    .iter()
                    .map(|program| format!("tcx `{}`", program.name_as_str().unwrap_or("?"))),
            );
        }
        for filter in clsact::filters(interface.index)? {
            if filter.direction == direction {
                others.push(format!(
                    "filter `{}` (priority {})",
                    filter
                        .program
                        .and_then(program_name)
                        .unwrap_or_else(|| "not BPF".into()),
                    filter.priority
                ));
            }
        }
        if !others.is_empty() {
            findings.push(note(
                name,
                format!("{} runs {}", direction.name(), others.join(", ")),
                "faultctl attaches in front of them, and lets them see what it passes",
            ));
        }
    }
    Ok(findings)
}

fn program_name(id: u32) -> Option<String> {
    loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)?
        .name_as_str()
        .map(str::to_owned)
}
