//! Takes the BPF object that `cargo xtask build-ebpf` made, or an empty one that
//! is refused at load, so that a plain `cargo build` needs no BPF toolchain.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=FAULTCTL_OBJECT");
    let object = env::var_os("FAULTCTL_OBJECT")
        .map_or_else(|| PathBuf::from("../target/bpf/faultctl.o"), PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    let bytes = match fs::read(&object) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("faultctl.o"), bytes)
}
