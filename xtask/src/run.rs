//! Running what was built, as root.

use std::{ffi::OsString, process::Command};

use anyhow::Result;

use crate::{cargo, command, ebpf, toolchain::Wanted};

/// faultctl with its BPF object.
pub fn faultctl(arguments: &[OsString], wanted: &Wanted) -> Result<()> {
    ebpf::build(wanted)?;
    let binary = cargo::binary("faultctl", "release")?;
    let mut command = command::as_root(&binary, &[])?;
    command.args(arguments);
    match command::exec(command)? {}
}

/// What the tests' and benchmarks' binaries are told.
pub fn environment() -> Vec<(&'static str, OsString)> {
    vec![
        ("PATH", command::search_path()),
        ("FAULTCTL_BENCH_OBJECT", ebpf::object("bench").into()),
    ]
}

/// One of the binaries beside the tests, as root.
pub fn of_tests(name: &str, wanted: &Wanted) -> Result<Command> {
    ebpf::build(wanted)?;
    let binary = cargo::binary(name, "release")?;
    let mut command = command::as_root(&binary, &environment())?;
    command.current_dir(command::root());
    Ok(command)
}
