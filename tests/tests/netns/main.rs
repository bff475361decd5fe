//! Level "netns": `faultctl` on a veth pair between namespaces, as root.
//!
//! `FAULTCTL_BIN` names the binary; else it is the one beside this test.

mod composition;
mod down;
mod features;
mod frames;
mod interface;
mod killed;
mod lab;
mod life;
mod loss;
mod mark;
mod metrics;
mod privileges;
mod selectors;
mod virtio;
