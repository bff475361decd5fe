//! Interfaces: their frames, what carries them, and who else looks at them.

use aya::programs::{SchedClassifier, loaded_programs};
use fault_common::{layout::Direction, packet::LinkLayer};

use super::{Finding, note, ok, whole, wrong};
use crate::{
    clsact,
    error::KernelError,
    interface::{
        self, Interface,
        ethtool::{Ethtool, Offload},
    },
    xdp,
};

/// In their namespace.
pub fn examine(names: &[String]) -> Result<Vec<Finding>, KernelError> {
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
    let mut findings = vec![ok(name, frames), card(name)?];
    findings.push(xdp(interface)?);
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

/// What carries its frames.
fn card(name: &str) -> Result<Finding, KernelError> {
    let ethtool = Ethtool::new()?;
    let driver = ethtool
        .driver(name)
        .map_or_else(|| "no driver".into(), |driver| format!("driver `{driver}`"));
    let queues = ethtool.queues(name).map_or_else(String::new, |queues| {
        format!(", {} receive and {} transmit queues", queues.0, queues.1)
    });
    let on: Vec<_> = ethtool
        .offloads(name)
        .into_iter()
        .map(Offload::name)
        .collect();
    let on = if on.is_empty() {
        "none".to_owned()
    } else {
        on.join(" ")
    };
    Ok(ok(name, format!("{driver}{queues}, offloads: {on}")))
}

/// Whether `--hook xdp` finds a place, and what it costs.
fn xdp(interface: &Interface) -> Result<Finding, KernelError> {
    let name = &interface.name;
    let programs = xdp::xdp_programs(interface.index)?;
    let Some(theirs) = programs.first() else {
        let driver = Ethtool::new()?.driver(name);
        return Ok(match driver.as_deref().and_then(cost_of_native_xdp) {
            Some(cost) => note(name, "XDP: nobody is on it", cost),
            None => ok(name, "XDP: nobody is on it"),
        });
    };
    let what = if theirs.name == xdp::DISPATCHER {
        "libxdp's dispatcher "
    } else {
        ""
    };
    Ok(note(
        name,
        format!(
            "XDP: taken by {what}`{}`, {}",
            theirs.name,
            theirs.mode.name()
        ),
        "`--hook xdp` is refused, the tc hooks have room for everybody",
    ))
}

/// What a driver gives up while a program is in it.
fn cost_of_native_xdp(driver: &str) -> Option<&'static str> {
    Some(match driver {
        "veth" => {
            "`--hook xdp` switches segmentation (TSO, UDP) off at its peer for as long as it is there"
        }
        "virtio_net" => {
            "`--hook xdp` switches the host's segments off, or runs behind the driver where it can't"
        }
        _ => return None,
    })
}

fn program_name(id: u32) -> Option<String> {
    loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)?
        .name_as_str()
        .map(str::to_owned)
}
