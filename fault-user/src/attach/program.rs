//! The programs of the object.

use aya_obj::generated::bpf_prog_type;
use fault_common::layout::Direction;

use crate::inject::Hook;

/// A program of faultctl, for one hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// What leaves, on tc.
    Egress,
    /// What comes in, on tc.
    Ingress,
    /// What comes in, on XDP.
    Xdp,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Egress, Self::Ingress, Self::Xdp];
    /// Those for the tc hooks.
    pub const TC: [Self; 2] = [Self::Egress, Self::Ingress];

    /// The ones that look in these directions. XDP has no egress.
    pub fn of(hook: Hook, directions: &[Direction]) -> Vec<Self> {
        directions
            .iter()
            .map(|direction| match (direction, hook) {
                (Direction::Egress, _) => Self::Egress,
                (Direction::Ingress, Hook::Tc) => Self::Ingress,
                (Direction::Ingress, Hook::Xdp) => Self::Xdp,
            })
            .collect()
    }

    /// Its name in the object.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Egress => "faultctl_egress",
            Self::Ingress => "faultctl_ingress",
            Self::Xdp => "faultctl_xdp",
        }
    }

    /// Its name in the kernel, which keeps 15 bytes.
    pub fn short_name(self) -> &'static str {
        let name = self.name();
        &name[..name.len().min(15)]
    }

    /// Which way it looks.
    pub const fn direction(self) -> Direction {
        match self {
            Self::Egress => Direction::Egress,
            Self::Ingress | Self::Xdp => Direction::Ingress,
        }
    }

    /// The kernel's type of it.
    pub const fn kind(self) -> bpf_prog_type {
        match self {
            Self::Egress | Self::Ingress => bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS,
            Self::Xdp => bpf_prog_type::BPF_PROG_TYPE_XDP,
        }
    }
}
