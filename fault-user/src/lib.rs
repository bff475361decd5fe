//! faultctl as a library: what the binary, the tests and other tools call.
//!
//! [`cli`] turns arguments into requests, [`spec`] says what a fault is and
//! compiles it for the kernel, and each verb has a module with a `Request` and a
//! `run`. Nothing here prints or exits: that is the binary's.

pub mod clear;
pub mod cli;
pub mod doctor;
pub mod error;
pub mod inject;
pub mod selftest;
pub mod spec;
pub mod status;

pub use error::Error;
