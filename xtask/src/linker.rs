//! bpf-linker: the one on PATH if it is new enough, else our own in target/tools.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{apt, cargo, command, toolchain};

/// LLVM's version in the bpf-linker we take; rustc's must not be newer.
pub const LLVM: u32 = 22;

const VERSION: &str = "0.13.0";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// Finds bpf-linker, or builds it.
pub fn ensure() -> Result<PathBuf> {
    if let Some(path) = found() {
        return Ok(path);
    }
    if !apt::is_debian() {
        return Err(command::failure(
            &format!("no bpf-linker {VERSION} or newer"),
            &format!("cargo binstall bpf-linker@{VERSION}"),
        ));
    }
    command::say(&format!(
        "no bpf-linker {VERSION} or newer: it links the BPF programs"
    ));
    apt::ensure(apt::LINKER)?;
    cargo::install(
        "bpf-linker",
        VERSION,
        &["--no-default-features", "--features", "llvm-22"],
        &[("LLVM_PREFIX", LLVM_PREFIX)],
    )
}

fn found() -> Option<PathBuf> {
    let path = command::find("bpf-linker")?;
    let text = command::probe(Command::new(&path).arg("--version"))?;
    is_new_enough(&text).then_some(path)
}

fn is_new_enough(text: &str) -> bool {
    let number = text.split_whitespace().nth(1).and_then(toolchain::version);
    number.is_some() && number >= toolchain::version(VERSION)
}

#[cfg(test)]
mod tests {
    use super::is_new_enough;

    #[test]
    fn older_linker_is_not_taken() {
        assert!(is_new_enough("bpf-linker 0.13.0\n"));
        assert!(is_new_enough("bpf-linker 0.14.1"));
        assert!(is_new_enough("bpf-linker 1.0.0"));
        assert!(!is_new_enough("bpf-linker 0.10.3"));
        assert!(!is_new_enough("bpf-linker"));
        assert!(!is_new_enough(""));
    }
}
