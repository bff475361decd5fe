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
mod link_down;
mod loss;
mod mark;
mod metrics;
mod privileges;
mod selectors;

/// How a test attaches: both are available from Linux 6.6 on, clsact before too.
const HOOKS: [&str; 2] = ["tcx", "clsact"];
