//! bpf(2), as far as aya does not reach: links by the index of their interface, whether
//! that is still there, detaching those of another process, and a map that a program is
//! to hold.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use aya::programs::loaded_links;
use aya_obj::generated::{
    BPF_F_BEFORE, XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE, bpf_attach_type, bpf_attr, bpf_cmd,
    bpf_link_info, bpf_link_type,
};
use bytemuck::Pod;
use fault_common::layout::Direction;

use crate::error::KernelError;

/// Makes a program hold a map that it does not use, so that whoever finds the
/// program finds the map (Linux 5.10).
pub fn bind(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: all zero is a value of the union, by its C definition.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.prog_bind_map.prog_fd = program.as_raw_fd().cast_unsigned();
    attr.prog_bind_map.map_fd = map.as_raw_fd().cast_unsigned();
    bpf(bpf_cmd::BPF_PROG_BIND_MAP, &mut attr).map(drop)
}

/// Attaches a program in front of all others, by tcx (Linux 6.6). The link lives as
/// long as its descriptor.
pub fn attach_tcx(
    program: BorrowedFd<'_>,
    ifindex: u32,
    direction: Direction,
) -> io::Result<OwnedFd> {
    let attach_type = match direction {
        Direction::Egress => bpf_attach_type::BPF_TCX_EGRESS,
        Direction::Ingress => bpf_attach_type::BPF_TCX_INGRESS,
    };
    // Before nothing in particular: at the head.
    link(program, ifindex, attach_type, BPF_F_BEFORE)
}

/// Attaches a program to the XDP hook: in the driver, or behind it. The link lives as
/// long as its descriptor (Linux 5.9).
pub fn attach_xdp(program: BorrowedFd<'_>, ifindex: u32, native: bool) -> io::Result<OwnedFd> {
    let mode = if native {
        XDP_FLAGS_DRV_MODE
    } else {
        XDP_FLAGS_SKB_MODE
    };
    link(program, ifindex, bpf_attach_type::BPF_XDP, mode)
}

fn link(
    program: BorrowedFd<'_>,
    ifindex: u32,
    attach_type: bpf_attach_type,
    flags: u32,
) -> io::Result<OwnedFd> {
    // SAFETY: all zero is a value of the union, by its C definition.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
    attr.link_create.__bindgen_anon_2.target_ifindex = ifindex;
    attr.link_create.attach_type = attach_type as u32;
    attr.link_create.flags = flags;
    let fd = bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)?;
    // SAFETY: the kernel returned a descriptor that is ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The index of the interface that a tcx or XDP link is attached to; 0 once that is gone.
pub fn ifindex_of(link: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: all zero is a value of both, by their C definitions.
    let (mut attr, mut info): (bpf_attr, bpf_link_info) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    attr.info.bpf_fd = link.as_raw_fd().cast_unsigned();
    attr.info.info = (&raw mut info).addr() as u64;
    attr.info.info_len = u32::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    let is_xdp = info.type_ == bpf_link_type::BPF_LINK_TYPE_XDP as u32;
    // SAFETY: the kernel filled the member of the link's type.
    Ok(unsafe {
        if is_xdp {
            info.__bindgen_anon_1.xdp.ifindex
        } else {
            info.__bindgen_anon_1.tcx.ifindex
        }
    })
}

/// Detaches the links of a program, whoever holds them. Their holder sees them
/// attached to interface 0.
pub fn detach_from(program: u32) -> Result<(), KernelError> {
    for link in loaded_links() {
        // A link that went meanwhile needs no detaching.
        let Ok(link) = link else { continue };
        if link.program_id() == program {
            detach(link.id()).map_err(KernelError::system("detach a link"))?;
        }
    }
    Ok(())
}

fn detach(id: u32) -> io::Result<()> {
    // SAFETY: as above.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.__bindgen_anon_6.__bindgen_anon_1.link_id = id;
    let fd = match bpf(bpf_cmd::BPF_LINK_GET_FD_BY_ID, &mut attr) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    // SAFETY: the kernel returned a descriptor that is ours.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: as above.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.link_detach.link_fd = fd.as_raw_fd().cast_unsigned();
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// Writes entries of a map, in place of those with the same keys (Linux 5.6). On an error,
/// those before it are written.
pub fn update_batch<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> io::Result<()> {
    assert_eq!(keys.len(), values.len(), "a value for each key");
    let mut attr = batch(map, keys);
    attr.batch.values = values.as_ptr().addr() as u64;
    bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attr).map(drop)
}

/// Takes entries out of a map up to the first that is not there (Linux 5.6), and gives
/// their number.
pub fn delete_batch<K: Pod>(map: BorrowedFd<'_>, keys: &[K]) -> usize {
    let mut attr = batch(map, keys);
    match bpf(bpf_cmd::BPF_MAP_DELETE_BATCH, &mut attr) {
        Ok(_) => keys.len(),
        // SAFETY: `batch` wrote this member, and the kernel its count.
        Err(_) => unsafe { attr.batch.count as usize }.min(keys.len()),
    }
}

fn batch<K: Pod>(map: BorrowedFd<'_>, keys: &[K]) -> bpf_attr {
    // SAFETY: all zero is a value of the union, by its C definition.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.batch.map_fd = map.as_raw_fd().cast_unsigned();
    attr.batch.keys = keys.as_ptr().addr() as u64;
    attr.batch.count = u32::try_from(keys.len()).expect("as many as somebody has in memory");
    attr
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: `attr` is as large as said, and what it points to lives through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::try_from(result).expect("bpf(2) returns 0 or a descriptor"))
}
