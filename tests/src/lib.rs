//! What faultctl's tests and benchmarks share.

pub mod verdict;
