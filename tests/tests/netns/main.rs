//! Level "netns": `faultctl` on a veth pair between namespaces, as root.
//!
//! `FAULTCTL_BIN` names the binary; else it is the one beside this test.

mod lab;
