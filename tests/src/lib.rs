//! What faultctl's tests and benchmarks share: the loaded programs without a network,
//! and a lab of network namespaces.
//!
//! The lab is pairs of namespaces in which every packet is accounted for, traffic whose
//! loss is counted exactly, and `faultctl` as a child process. A namespace has no name:
//! the test process holds it open, so nothing is left behind when the process ends, by
//! whatever end.

pub mod binomial;
pub mod echo;
pub mod faultctl;
pub mod foreign;
pub mod frame;
pub mod holder;
pub mod kernel;
pub mod kolmogorov;
pub mod lab;
pub mod line;
pub mod markov;
pub mod namespace;
pub mod pace;
pub mod packet;
pub mod programs;
pub mod ssh;
pub mod tcp;
pub mod tun;
pub mod udp;
pub mod verdict;
pub mod wait;

pub use faultctl::Faultctl;
pub use holder::Holder;
pub use lab::{Family, Lab, Side};
pub use namespace::Namespace;
