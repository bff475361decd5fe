//! Someone else's programs on the same interface.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use nix::net::if_::if_nametoindex;

use crate::{
    kernel,
    lab::{Lab, Side},
    wait::{SOON, until},
};

/// A program that counts frames and lets the next program decide: a tcx link, gone when
/// dropped, or before Linux 6.6 a filter on clsact.
#[derive(Debug)]
pub struct Counting {
    counts: OwnedFd,
    _link: Option<OwnedFd>,
}

impl Counting {
    /// Attaches it behind what is there, at the near end, for what `sender` sends.
    #[track_caller]
    pub fn on(lab: &Lab, sender: Side) -> Self {
        Self::attach(lab, sender, None)
    }

    /// The same, counting only frames with this skb mark.
    #[track_caller]
    pub fn marked(lab: &Lab, sender: Side, mark: i32) -> Self {
        Self::attach(lab, sender, Some(mark))
    }

    #[track_caller]
    fn attach(lab: &Lab, sender: Side, mark: Option<i32>) -> Self {
        let attach_type = match sender {
            Side::Far => TCX_INGRESS,
            Side::Near => TCX_EGRESS,
        };
        let counts = bpf(
            MAP_CREATE,
            &mut MapCreate {
                map_type: ARRAY,
                key_size: 4,
                value_size: 8,
                max_entries: 1,
            },
        );
        let program = instructions(counts.as_raw_fd(), mark);
        let program = bpf(
            PROG_LOAD,
            &mut ProgLoad {
                prog_type: SCHED_CLS,
                instructions: u32::try_from(program.len()).expect("few"),
                code: program.as_ptr() as u64,
                license: c"GPL".as_ptr() as u64,
                ..ProgLoad::default()
            },
        );
        let link = if kernel::hooks().contains(&"tcx") {
            Some(lab.near.run(|| {
                let index = if_nametoindex(lab.dev(Side::Near)).expect("the interface is there");
                link(&program, index, attach_type, 0)
            }))
        } else {
            filter(lab, sender, &program);
            None
        };
        Self {
            counts,
            _link: link,
        }
    }

    /// Frames that it has seen.
    pub fn frames(&self) -> u64 {
        let (key, mut value) = (0_u32, 0_u64);
        let mut attr = MapLookup {
            map: self.counts.as_raw_fd().cast_unsigned(),
            key: (&raw const key) as u64,
            value: (&raw mut value) as u64,
            ..MapLookup::default()
        };
        let result = call(MAP_LOOKUP, &mut attr);
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        value
    }
}

/// A program on the XDP hook that lets everything pass; gone when dropped.
#[derive(Debug)]
pub struct Xdp {
    _link: OwnedFd,
}

impl Xdp {
    /// Attaches it at the near end, in the driver or behind it.
    #[track_caller]
    pub fn on(lab: &Lab, name: &str, native: bool) -> Self {
        // Whoever looks at all links of the machine holds one a moment longer.
        until("the hook is free", SOON, || {
            let dev = lab.dev(Side::Near);
            let shown = lab.near.ip(&format!("link show dev {dev}"));
            (!shown.contains("prog/xdp")).then_some(())
        });
        let program = returning(XDP, name, XDP_PASS);
        let mode = if native { DRIVER_MODE } else { SKB_MODE };
        let link = lab.near.run(|| {
            let index = if_nametoindex(lab.dev(Side::Near)).expect("the interface is there");
            link(&program, index, XDP_LINK, mode)
        });
        Self { _link: link }
    }
}

/// Programs that let everything pass, on the hooks of the loopback interface that keep
/// their programs by links.
#[track_caller]
pub fn on_loopback() -> Vec<OwnedFd> {
    const LOOPBACK: u32 = 1;
    let xdp = returning(XDP, "idle", XDP_PASS);
    let mut links = vec![link(&xdp, LOOPBACK, XDP_LINK, SKB_MODE)];
    if kernel::hooks().contains(&"tcx") {
        let tc = returning(SCHED_CLS, "idle", TCX_NEXT);
        links.extend([TCX_INGRESS, TCX_EGRESS].map(|hook| link(&tc, LOOPBACK, hook, 0)));
    }
    links
}

/// A program that returns a number.
#[track_caller]
fn returning(prog_type: u32, name: &str, number: i32) -> OwnedFd {
    let code = [instruction(0xb7, 0, 0, 0, number), EXIT];
    let mut attr = ProgLoad {
        prog_type,
        instructions: 2,
        code: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..ProgLoad::default()
    };
    attr.name[..name.len()].copy_from_slice(name.as_bytes());
    bpf(PROG_LOAD, &mut attr)
}

#[track_caller]
fn link(program: &OwnedFd, index: u32, attach_type: u32, flags: u32) -> OwnedFd {
    bpf(
        LINK_CREATE,
        &mut LinkCreate {
            program: program.as_raw_fd().cast_unsigned(),
            index,
            attach_type,
            flags,
            ..LinkCreate::default()
        },
    )
}

/// Adds a filter, by way of a path that tc(8) finds the program at.
fn filter(lab: &Lab, sender: Side, program: &OwnedFd) {
    let path = format!(
        "/sys/fs/bpf/foreign-{}-{}",
        std::process::id(),
        program.as_raw_fd()
    );
    let name = CString::new(path.as_str()).expect("no zero");
    let pinned = call(
        OBJ_PIN,
        &mut ObjPin {
            path: name.as_ptr() as u64,
            descriptor: program.as_raw_fd().cast_unsigned(),
            flags: 0,
        },
    );
    assert_eq!(pinned, 0, "{path}: {}", io::Error::last_os_error());
    let (dev, direction) = (lab.dev(Side::Near), sender.direction());
    if !lab
        .near
        .tc(&format!("qdisc show dev {dev}"))
        .contains("clsact")
    {
        lab.near.tc(&format!("qdisc add dev {dev} clsact"));
    }
    lab.near.tc(&format!(
        "filter add dev {dev} {direction} bpf direct-action object-pinned {path}"
    ));
    fs::remove_file(path).expect("to unpin it");
}

// linux/bpf.h
const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP: libc::c_int = 1;
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const LINK_CREATE: libc::c_int = 28;
const ARRAY: u32 = 2;
const SCHED_CLS: u32 = 3;
const XDP: u32 = 6;
const XDP_LINK: u32 = 37;
const XDP_PASS: i32 = 2;
const TCX_NEXT: i32 = -1;
// linux/if_link.h
const SKB_MODE: u32 = 2;
const DRIVER_MODE: u32 = 4;
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapLookup {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log: [u64; 2],
    version_and_flags: u64,
    name: [u8; 16],
}

#[repr(C)]
struct ObjPin {
    path: u64,
    descriptor: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    index: u32,
    attach_type: u32,
    flags: u32,
    relative: [u64; 2],
}

/// Adds one to the map's entry 0 if the skb has the mark, then returns `TCX_NEXT`.
fn instructions(map: i32, mark: Option<i32>) -> [u64; 14] {
    // `if r6 != mark goto end`, or an empty jump.
    let skip = match mark {
        Some(mark) => instruction(0x55, 6, 0, 10, mark),
        None => instruction(0x05, 0, 0, 0, 0),
    };
    [
        instruction(0x61, 6, 1, 8, 0), // r6 = skb->mark
        skip,
        instruction(0xb7, 1, 0, 0, 0),        // r1 = 0
        instruction(0x63, 10, 1, -4, 0),      // *(u32 *)(r10 - 4) = r1
        instruction(0xbf, 2, 10, 0, 0),       // r2 = r10
        instruction(0x07, 2, 0, 0, -4),       // r2 += -4
        instruction(0x18, 1, 1, 0, map),      // r1 = map
        instruction(0x00, 0, 0, 0, 0),        // its upper half
        instruction(0x85, 0, 0, 0, 1),        // call bpf_map_lookup_elem
        instruction(0x15, 0, 0, 2, 0),        // if r0 == 0 goto end
        instruction(0xb7, 1, 0, 0, 1),        // r1 = 1
        instruction(0xdb, 0, 1, 0, 0),        // lock *(u64 *)(r0 + 0) += r1
        instruction(0xb7, 0, 0, 0, TCX_NEXT), // end: r0 = TCX_NEXT
        EXIT,
    ]
}

const EXIT: u64 = instruction(0x95, 0, 0, 0, 0);

/// Code, destination and source registers, offset, immediate.
const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    let [low, high] = offset.to_le_bytes();
    let [a, b, c, d] = immediate.to_le_bytes();
    u64::from_le_bytes([code, from << 4 | to, low, high, a, b, c, d])
}

#[track_caller]
fn bpf<T>(command: libc::c_int, attr: &mut T) -> OwnedFd {
    let fd = call(command, attr);
    assert!(fd >= 0, "bpf {command}: {}", io::Error::last_os_error());
    let fd = i32::try_from(fd).expect("a descriptor");
    // SAFETY: the kernel has just made this descriptor for us alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn call<T>(command: libc::c_int, attr: &mut T) -> i64 {
    // SAFETY: `attr` is the prefix of bpf_attr that the command reads, with pointers
    // into live memory; the kernel takes what is beyond its size for zeros.
    unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) }
}
