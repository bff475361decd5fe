//! Kernels that lack something, as a seccomp filter plays them.

use std::{io, os::unix::process::CommandExt as _, process::Command};

use fault_tests::{
    Family, Faultctl, Lab, Side,
    faultctl::{command, output, words},
    programs, udp,
};

/// `BPF_LINK_CREATE` of `linux/bpf.h`.
const LINK_CREATE: u32 = 28;

#[test]
fn kernel_without_bpf_is_told_so() {
    let lab = Lab::new();
    let mut command = command(&lab.near, &words("loss 50 --iface eth0"));
    refuse(&mut command, None, libc::ENOSYS);
    let output = output(&mut command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.starts_with("error: this kernel has no bpf(2)\n"),
        "{stderr}"
    );
    assert!(stderr.contains("\nhint: "), "{stderr}");
}

#[test]
fn kernel_without_tcx_gets_a_filter_or_a_clear_word() {
    let lab = Lab::new();
    let before = programs::hooks(&lab);
    let mut tcx = command(&lab.near, &words("loss 50 --iface eth0 --attach tcx"));
    refuse(&mut tcx, Some(LINK_CREATE), libc::EINVAL);
    let output = output(&mut tcx);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.starts_with("error: this kernel has no tcx\n"),
        "{stderr}"
    );
    assert!(stderr.contains("\nhint: "), "{stderr}");
    assert_eq!(programs::hooks(&lab), before);

    let mut auto = command(&lab.near, &words("loss 100 --iface eth0 --json"));
    refuse(&mut auto, Some(LINK_CREATE), libc::EINVAL);
    let faultctl = Faultctl::spawn(&mut auto);
    assert_eq!(faultctl.started["rules"][0]["hook"], "clsact");
    assert_eq!(udp::flow(&lab, Family::V4, Side::Near, 20).lost(), 20);
    assert_eq!(faultctl.end().code, 0);
    assert_eq!(programs::hooks(&lab), before);
}

/// bpf(2), or one of its commands, fails in this process from here on.
fn refuse(command: &mut Command, bpf_command: Option<u32>, errno: i32) {
    const NUMBER: u32 = 0;
    const FIRST_ARGUMENT: u32 = 16;
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0);
    let unless = |value, skip| statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, skip);
    let finish = |value| statement(libc::BPF_RET | libc::BPF_K, value, 0);
    let bpf = u32::try_from(libc::SYS_bpf).expect("a system call");
    let mut program = vec![
        load(NUMBER),
        unless(bpf, if bpf_command.is_some() { 3 } else { 1 }),
    ];
    if let Some(bpf_command) = bpf_command {
        program.extend([load(FIRST_ARGUMENT), unless(bpf_command, 1)]);
    }
    program.extend([
        finish(libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()),
        finish(libc::SECCOMP_RET_ALLOW),
    ]);
    let apply = move || {
        let filter = libc::sock_fprog {
            len: u16::try_from(program.len()).map_err(io::Error::other)?,
            filter: program.as_ptr().cast_mut(),
        };
        // SAFETY: the filter and its length belong together, and live through the call.
        let result = unsafe {
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const filter,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: one system call between fork and exec, on memory that was made before.
    unsafe {
        command.pre_exec(apply);
    }
}

/// `skip` is where it goes on if the comparison fails.
fn statement(code: u32, k: u32, skip: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: u16::try_from(code).expect("a small code"),
        jt: 0,
        jf: skip,
        k,
    }
}
