//! faultctl as a library: what the binary, the tests and other tools call.
//!
//! [`cli`] turns arguments into requests, [`spec`] says what a fault is and
//! compiles it for the kernel, and each verb has a module with a `Request` and a
//! `run`. Only [`report`] prints; only a second signal exits, and the holder that
//! [`detach`] leaves, when it is done.

pub mod active;
pub mod attach;
mod bpf;
pub mod clear;
pub mod cli;
pub mod clock;
mod clsact;
mod confirm;
pub mod container;
pub mod control_path;
pub mod detach;
pub mod doctor;
pub mod down;
pub mod error;
pub mod follow;
pub mod inject;
pub mod interface;
pub mod inventory;
pub mod lease;
pub mod line;
pub mod maps;
pub mod metrics;
pub mod namespace;
pub mod netem;
mod netlink;
pub mod object;
pub mod privilege;
pub mod process;
pub mod report;
mod run_directory;
pub mod selftest;
mod session;
mod signals;
pub mod snapshot;
pub mod spec;
pub mod status;
pub mod tc;
pub mod verbose;
pub mod xdp;

pub use error::Error;
