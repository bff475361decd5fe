//! Compiling the BPF programs: an object for each binary, in target/bpf.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    command, linker,
    toolchain::{self, TARGET, Task, Wanted},
};

const PACKAGE: &str = "fault-ebpf";
const OBJECTS: [&str; 3] = ["faultctl", "verbose", "bench"];

/// Sets up what is missing and compiles.
pub fn build(wanted: &Wanted) -> Result<()> {
    let mut command = cargo(wanted, Task::Build)?;
    command.args(["--bins", "--profile", "bpf"]);
    command::run(&mut command, "the compiler's messages are above")?;
    for name in OBJECTS {
        let built = build_dir().join(TARGET).join("bpf").join(name);
        publish(&built, &object(name))?;
    }
    Ok(())
}

/// Lints what `build` compiles.
pub fn lint(wanted: &Wanted) -> Result<()> {
    let mut command = cargo(wanted, Task::Clippy)?;
    command.args(["--lib", "--bins", "--profile", "bpf"]);
    command.args(["--", "--deny", "warnings"]);
    command::run(&mut command, "mend what clippy says above")
}

/// Where an object lies.
pub fn object(name: &str) -> PathBuf {
    command::root().join(format!("target/bpf/{name}.o"))
}

fn cargo(wanted: &Wanted, task: Task) -> Result<Command> {
    let toolchain = toolchain::ensure(wanted, task)?;
    let linker = linker::ensure()?;
    let mut command = toolchain.cargo(task);
    command
        .current_dir(command::root())
        .args(["--package", PACKAGE, "--target-dir"])
        .arg(build_dir())
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags().join("\x1f"));
    Ok(command)
}

/// v3: 32-bit instructions, and atomics that return the old value; kernels since 5.12.
/// Everything is inlined: before Linux 6.4 a program with functions of its own is verified
/// without forgetting any number, which takes several times as long.
fn rustflags() -> [String; 5] {
    [
        format!("--cfg=bpf_target_arch=\"{ARCH}\""),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        "-Clink-arg=--llvm-args=-inline-threshold=10000".to_owned(),
        "-Ctarget-cpu=v3".to_owned(),
    ]
}

fn build_dir() -> PathBuf {
    command::root().join("target/bpf-build")
}

/// Puts a new object in place at once, and leaves an equal one and its time alone, for
/// nothing is to be rebuilt then.
fn publish(built: &Path, object: &Path) -> Result<()> {
    let bytes = fs::read(built).with_context(|| format!("cannot read `{}`", built.display()))?;
    if fs::read(object).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(directory) = object.parent() {
        fs::create_dir_all(directory)?;
    }
    let new = object.with_extension("new");
    fs::write(&new, &bytes)
        .and_then(|()| fs::rename(&new, object))
        .with_context(|| format!("cannot write `{}`", object.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_object_keeps_its_time() {
        let directory = command::root().join("target/xtask-publish-test");
        fs::create_dir_all(&directory).unwrap();
        let (built, object) = (directory.join("built"), directory.join("object.o"));
        let stamp = || fs::metadata(&object).unwrap().modified().unwrap();

        fs::write(&built, "one").unwrap();
        publish(&built, &object).unwrap();
        let first = stamp();
        publish(&built, &object).unwrap();
        assert_eq!(stamp(), first);

        fs::write(&built, "two").unwrap();
        publish(&built, &object).unwrap();
        assert_eq!(fs::read(&object).unwrap(), b"two");
        fs::remove_dir_all(directory).unwrap();
    }
}
