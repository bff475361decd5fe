//! The object that faultctl carries inside.

#![no_std]
#![no_main]
#![expect(
    missing_docs,
    clippy::inline_always,
    clippy::needless_pass_by_value,
    reason = "the attribute that makes a program drops its documentation and decides its argument"
)]

fault_ebpf::programs!(fault_ebpf::Quiet);
