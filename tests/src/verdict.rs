//! A loaded program without a network: `BPF_PROG_TEST_RUN`.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use fault_common::{layout::Direction, packet::LinkLayer};
use fault_user::{
    attach,
    maps::{FarEnds, Loaded, Room},
    object::Object,
    spec::RuleSet,
};

/// faultctl's programs for both directions, with their tables.
pub struct Programs {
    /// The tables.
    pub loaded: Loaded,
}

/// What a program did with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it is lost.
    pub dropped: bool,
    /// Its skb mark.
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
    /// Loads them, with room for so many far ends and no rules.
    pub fn load(link: LinkLayer, entries: usize) -> Result<Self> {
        let room = Room {
            entries,
            prefixes: entries,
        };
        let mut loaded = Loaded::new(Object::embedded()?, link, room)?;
        attach::load(&mut loaded, &Direction::ALL)?;
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

    /// The program for a direction.
    pub fn program(&mut self, direction: Direction) -> Result<&mut SchedClassifier> {
        self.loaded
            .ebpf
            .program_mut(attach::program_name(direction))
            .context("no such program")?
            .try_into()
            .context("no classifier")
    }

    /// Runs a frame that carries `segments` packets through a program.
    pub fn run(
        &mut self,
        direction: Direction,
        frame: &[u8],
        mark: u32,
        segments: u32,
    ) -> Result<Outcome> {
        run(self.program(direction)?, direction, frame, mark, segments)
    }
}

fn split(set: &RuleSet) -> (RuleSet, Arc<FarEnds>) {
    let mut set = set.clone();
    let far_ends = Arc::new(FarEnds::take(&mut set));
    (set, far_ends)
}

/// Runs a frame that carries `segments` packets through a program.
pub fn run(
    program: &SchedClassifier,
    direction: Direction,
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
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut data),
        ctx_in: Some(&context.0),
        ctx_out: Some(&mut after.0),
        ..TestRunOptions::default()
    })?;
    data.truncate(result.data_size_out as usize);
    let dropped = match (direction, result.return_value.cast_signed()) {
        (_, TC_ACT_UNSPEC) => false,
        (Direction::Egress, TC_ACT_REDIRECT) | (Direction::Ingress, TC_ACT_SHOT) => true,
        (_, other) => anyhow::bail!("unexpected verdict {other}"),
    };
    Ok(Outcome {
        dropped,
        mark: after.get(MARK),
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
