//! A loaded program without a network: `BPF_PROG_TEST_RUN`.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use aya::programs::{self, SchedClassifier, TestRun as _, TestRunOptions};
use fault_common::packet::LinkLayer;
use fault_user::{
    attach::{self, Program},
    maps::{FarEnds, Loaded, Room},
    object::Object,
    spec::RuleSet,
};

/// faultctl's programs, with their tables.
pub struct Programs {
    /// The tables.
    pub loaded: Loaded,
}

/// What a program did with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it is lost.
    pub dropped: bool,
    /// Its skb mark; without an skb, the one before.
    pub mark: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// Whether the kernel takes a frame for a test run: not if it is shorter than 15
/// bytes, nor, on newer kernels, if it says IP and ends inside that header. (Behind a
/// VLAN tag it may.)
pub fn runs(frame: &[u8]) -> bool {
    let header = match frame.get(12..14) {
        Some([0x08, 0x00]) => 20,
        Some([0x86, 0xdd]) => 40,
        _ => 1,
    };
    frame.len() >= 14 + header
}

impl Programs {
    /// Loads them, with room for far ends and no rules.
    pub fn load(link: LinkLayer, room: Room) -> Result<Self> {
        Self::of(Object::embedded()?, link, room)
    }

    /// Loads those of an object.
    pub fn of(object: Object<'_>, link: LinkLayer, room: Room) -> Result<Self> {
        let mut loaded = Loaded::new(object, link, room)?;
        attach::load(&mut loaded, &Program::ALL)?;
        Ok(Self { loaded })
    }

    /// Puts a rule set in force, for long enough.
    pub fn replace(&mut self, set: &RuleSet) -> Result<()> {
        let (set, far_ends) = split(set);
        Ok(self.loaded.replace(&set, far_ends, u64::MAX)?)
    }

    /// Puts the far ends of a rule set in force for the rules that are there.
    pub fn readdress(&mut self, set: &RuleSet) -> Result<()> {
        let (set, far_ends) = split(set);
        Ok(self.loaded.readdress(&set, far_ends)?)
    }

    /// Runs a frame through a program. On tc it carries `segments` packets.
    pub fn run(&self, program: Program, frame: &[u8], mark: u32, segments: u32) -> Result<Outcome> {
        let loaded = self.loaded.ebpf.program(program.name());
        let loaded = loaded.context("no such program")?;
        match program {
            Program::Egress | Program::Ingress => {
                run(loaded.try_into()?, program, frame, mark, segments)
            }
            Program::Xdp => run_xdp(loaded.try_into()?, frame, mark),
        }
    }
}

fn split(set: &RuleSet) -> (RuleSet, Arc<FarEnds>) {
    let mut set = set.clone();
    let far_ends = Arc::new(FarEnds::take(&mut set));
    (set, far_ends)
}

/// Runs a frame that carries `segments` packets through a program on tc.
pub fn run(
    loaded: &SchedClassifier,
    program: Program,
    frame: &[u8],
    mark: u32,
    segments: u32,
) -> Result<Outcome> {
    let mut context = Context::default();
    context.set(MARK, mark);
    if segments > 1 {
        context.set(GSO_SEGS, segments);
        context.set(GSO_SIZE, 1);
    }
    let mut after = Context::default();
    let mut data = vec![0; frame.len() + 256];
    let result = loaded.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut data),
        ctx_in: Some(&context.0),
        ctx_out: Some(&mut after.0),
        ..TestRunOptions::default()
    })?;
    data.truncate(result.data_size_out as usize);
    let dropped = match (program, result.return_value.cast_signed()) {
        (_, TC_ACT_UNSPEC) => false,
        (Program::Egress, TC_ACT_REDIRECT) | (Program::Ingress, TC_ACT_SHOT) => true,
        (_, other) => anyhow::bail!("unexpected verdict {other}"),
    };
    Ok(Outcome {
        dropped,
        mark: after.get(MARK),
        frame: data,
    })
}

fn run_xdp(loaded: &programs::Xdp, frame: &[u8], mark: u32) -> Result<Outcome> {
    let mut data = vec![0; frame.len()];
    let result = loaded.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut data),
        ..TestRunOptions::default()
    })?;
    data.truncate(result.data_size_out as usize);
    let dropped = match result.return_value {
        XDP_PASS => false,
        XDP_DROP => true,
        other => anyhow::bail!("unexpected verdict {other}"),
    };
    Ok(Outcome {
        dropped,
        mark,
        frame: data,
    })
}

/// The mean time that one run takes, over so many.
pub fn time(program: &SchedClassifier, frame: &[u8], runs: u32) -> Result<Duration> {
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        repeat: runs,
        ..TestRunOptions::default()
    })?;
    Ok(result.duration)
}

/// `linux/pkt_cls.h`
const TC_ACT_UNSPEC: i32 = -1;
/// `linux/pkt_cls.h`
const TC_ACT_SHOT: i32 = 2;
/// `linux/pkt_cls.h`
const TC_ACT_REDIRECT: i32 = 7;

/// `linux/bpf.h`
const XDP_DROP: u32 = 1;
/// `linux/bpf.h`
const XDP_PASS: u32 = 2;

/// `struct __sk_buff` (linux/bpf.h), which only grows at its end.
struct Context([u8; 192]);

/// Offsets in it.
const MARK: usize = 8;
const GSO_SEGS: usize = 164;
const GSO_SIZE: usize = 176;

impl Default for Context {
    fn default() -> Self {
        Self([0; 192])
    }
}

impl Context {
    fn set(&mut self, offset: usize, value: u32) {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn get(&self, offset: usize) -> u32 {
        let bytes = self.0[offset..].first_chunk().expect("a field");
        u32::from_ne_bytes(*bytes)
    }
}
