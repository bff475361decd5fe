//! Format, lints on both targets, dependencies and spelling.

use std::process::Command;

use anyhow::Result;

use crate::{
    cargo::{self, cargo},
    command::{self, say},
    ebpf,
    toolchain::Wanted,
};

/// A tool from Cargo's registry at a version of ours: another might judge otherwise.
struct Tool {
    package: &'static str,
    binary: &'static str,
    version: &'static str,
    /// Unoptimized: compiling them takes 100 s then, not 265, and a run below 1 s
    install: &'static [&'static str],
}

const DENY: Tool = Tool {
    package: "cargo-deny",
    binary: "cargo-deny",
    version: "0.20.2",
    install: &["--debug"],
};

const TYPOS: Tool = Tool {
    package: "typos-cli",
    binary: "typos",
    version: "1.52.0",
    install: &["--debug", "--no-default-features", "--features", "dict"],
};

/// All checks; the first that fails ends it.
pub fn lint(wanted: &Wanted) -> Result<()> {
    say("format");
    command::run(cargo("fmt").args(["--all", "--check"]), "cargo fmt --all")?;
    say("lints of the host side");
    command::run(
        cargo("clippy")
            // `--test *` for those that a plain `cargo test` leaves out.
            .args(["--locked", "--all-targets", "--test", "*"])
            .args(["--", "--deny", "warnings"]),
        "mend what clippy says above",
    )?;
    say("lints of the BPF side");
    ebpf::lint(wanted)?;
    ensure_tools()?;
    say("dependencies: licences, bans, sources");
    // No advisories: their database is another download, and changes under a commit.
    command::run(
        tool(&DENY)
            .args(["--locked", "check", "--hide-inclusion-graph"])
            .args(["licenses", "bans", "sources"]),
        "the rules are in deny.toml",
    )?;
    say("spelling");
    command::run(
        &mut tool(&TYPOS),
        "mend it, or name the word in _typos.toml",
    )
}

/// Compiles the tools that are missing or of another version.
pub fn ensure_tools() -> Result<()> {
    for wanted in [&DENY, &TYPOS] {
        let text = command::probe(tool(wanted).arg("--version"));
        let there = text.is_some_and(|text| is_version(&text, wanted.version));
        if !there {
            let environment = [("CARGO_PROFILE_DEV_DEBUG", "0")];
            cargo::install(wanted.package, wanted.version, wanted.install, &environment)?;
        }
    }
    Ok(())
}

fn tool(tool: &Tool) -> Command {
    let path = command::find(tool.binary).unwrap_or_else(|| tool.binary.into());
    let mut command = Command::new(path);
    command.current_dir(command::root());
    command
}

fn is_version(text: &str, wanted: &str) -> bool {
    let found = text.split_whitespace().nth(1);
    found == Some(wanted)
}
