//! The program on the helper.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::programs::{
    SchedClassifier,
    tc::{NlOptions, TcAttachOptions},
};
use fault_common::layout::Direction;

use crate::{
    attach::{CLSACT, TCX},
    bpf, clsact,
    error::KernelError,
};

/// Attaches it: by tcx, or below 6.6 on clsact. Both go with the device; a link also with
/// its descriptor. In the device's namespace.
pub fn attach(
    program: &mut SchedClassifier,
    name: &str,
    ifindex: u32,
    direction: Direction,
) -> Result<Option<OwnedFd>, KernelError> {
    let refused = |hook| {
        move |source| KernelError::Attach {
            iface: name.to_owned(),
            hook,
            source,
        }
    };
    let descriptor = program.fd().map_err(std::io::Error::other);
    let descriptor = descriptor.map_err(refused(TCX))?.as_fd();
    match bpf::attach_tcx(descriptor, ifindex, direction) {
        // What a kernel says of an attach type that it does not know.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
        result => return result.map(Some).map_err(refused(TCX)),
    }
    clsact::ensure(ifindex, name)?;
    let options = TcAttachOptions::Netlink(NlOptions::default());
    program
        .attach_with_options(name, clsact::attach_type(direction), options)
        .and_then(|link| program.take_link(link))
        // Dropped, it would send its removal to whatever namespace the thread is in then.
        .map(std::mem::forget)
        .map_err(std::io::Error::other)
        .map_err(refused(CLSACT))?;
    Ok(None)
}
