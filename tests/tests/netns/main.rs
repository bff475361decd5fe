//! Level "netns": `faultctl` on a veth pair between namespaces, as root.
//!
//! `FAULTCTL_BIN` names the binary; else it is the one beside this test.

mod bursts;
mod composition;
mod confirm;
mod destinations;
mod detach;
mod doctor;
mod down;
mod features;
mod flows;
mod frames;
mod interface;
mod killed;
mod lab;
mod life;
mod line;
mod link_down;
mod loss;
mod many;
mod mark;
mod metrics;
mod names;
mod place;
mod privileges;
mod selectors;
mod ssh;
mod tc;
mod verbose;
mod virtio;
mod waits;
mod xdp;
