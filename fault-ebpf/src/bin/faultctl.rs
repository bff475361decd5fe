//! The object that faultctl carries inside.

#![no_std]
#![no_main]
#![expect(
    missing_docs,
    reason = "the attribute that makes a program drops its documentation"
)]

fault_ebpf::programs!(fault_ebpf::Quiet);
