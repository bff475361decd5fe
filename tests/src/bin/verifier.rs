//! The verifier's work on each program, as a line of JSON: `cargo xtask verifier` runs
//! this as root on each kernel and compares with what is stored.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, Result};
use fault_common::{
    layout::{Model, Scope},
    packet::LinkLayer,
};
use fault_user::{
    attach::{self, Program},
    maps::{Loaded, Room},
    object::Object,
};
use serde::Serialize;

#[derive(Serialize)]
struct Cost {
    /// Instructions walked; the kernel's limit is a million.
    verified_insns: u32,
    /// Size after the verifier, in bytes.
    xlated_bytes: u32,
    /// Time that loading took, in milliseconds.
    load_ms: f64,
}

fn main() -> Result<()> {
    let costs = measure()?;
    println!("{}", serde_json::to_string(&costs)?);
    Ok(())
}

fn measure() -> Result<BTreeMap<String, Cost>> {
    let mut costs = BTreeMap::new();
    let objects = [Object::embedded()?, Object::verbose()?];
    let loss = Scope {
        models: 1 << Model::Random as u32,
        rules: 1,
    };
    for (link, name, object, scope, suffix) in [
        (LinkLayer::Ethernet, "ethernet", objects[0], Scope::ALL, ""),
        (LinkLayer::Ethernet, "ethernet", objects[0], loss, "/loss"),
        (LinkLayer::None, "ip", objects[0], Scope::ALL, ""),
        (
            LinkLayer::Ethernet,
            "ethernet",
            objects[1],
            Scope::ALL,
            "/verbose",
        ),
    ] {
        let room = Room {
            scope,
            ..Room::default()
        };
        for program in Program::ALL {
            let mut loaded = Loaded::new(object, link, room)?;
            let start = Instant::now();
            attach::load(&mut loaded, &[program])?;
            let span = start.elapsed();
            let loaded = loaded.ebpf.program(program.name());
            let info = loaded.context("no such program")?.info()?;
            let cost = Cost {
                verified_insns: info.verified_instruction_count().context("Linux 5.16")?,
                xlated_bytes: info.size_translated().context("no size")?,
                load_ms: span.as_secs_f64() * 1000.0,
            };
            costs.insert(format!("{}/{name}{suffix}", program.name()), cost);
        }
    }
    Ok(costs)
}
