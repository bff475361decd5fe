//! Cargo: building, and which executables came out.

use std::{
    env,
    ffi::OsString,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::command;

/// The cargo that runs us.
pub fn program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// `cargo SUBCOMMAND` at the repository's root.
pub fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(program());
    command.arg(subcommand).current_dir(command::root());
    command
}

/// An executable that cargo built.
#[derive(Debug, PartialEq, Eq)]
pub struct Executable {
    /// Name of the target
    pub name: String,
    /// What it is
    pub kind: Kind,
    /// Directory of the package
    pub package: PathBuf,
    /// Where it lies
    pub path: PathBuf,
}

/// What an executable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A binary, which `cargo test` builds too where integration tests may call it
    Binary,
    /// The tests of a library or binary
    UnitTest,
    /// A test of tests/
    IntegrationTest,
}

/// Builds and returns the executables.
pub fn executables(command: &mut Command) -> Result<Vec<Executable>> {
    let hint = "the compiler's messages are above";
    command
        .args(["--locked", "--message-format=json-render-diagnostics"])
        .stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| command::not_started(command, &error, hint))?;
    let mut found = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.context("cargo's messages end early")?;
            found.extend(executable(&line));
        }
    }
    let status = child.wait()?;
    if !status.success() {
        let what = format!("`{}` failed: {status}", command::describe(command));
        return Err(command::failure(&what, hint));
    }
    Ok(found)
}

/// Builds one binary and returns its path. No package is named, so that dependencies
/// have the features that they have in a plain `cargo build`, and are not built twice.
pub fn binary(name: &str, profile: &str) -> Result<PathBuf> {
    let arguments = ["--bin", name, "--profile", profile];
    executables(cargo("build").args(arguments))?
        .into_iter()
        .find(|built| built.name == name)
        .map(|built| built.path)
        .with_context(|| format!("cargo built no `{name}`"))
}

/// Installs a tool of ours to target/tools, and returns its path.
pub fn install(
    tool: &str,
    version: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Result<PathBuf> {
    let tools = command::tools();
    command::say(&format!("compiling {tool} {version} to target/tools"));
    let mut command = cargo("install");
    command
        .args([tool, "--version", version, "--locked", "--quiet", "--root"])
        .arg(&tools)
        .args(arguments)
        .envs(environment.iter().copied());
    command::run(
        &mut command,
        "see that Cargo's registry can be reached, and run the same command again",
    )?;
    let binary = tool.trim_end_matches("-cli");
    Ok(tools.join("bin").join(binary))
}

fn executable(line: &str) -> Option<Executable> {
    let message: Value = serde_json::from_str(line).ok()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let path = text(&message["executable"])?;
    let kinds = message["target"]["kind"].as_array()?;
    Some(Executable {
        name: text(&message["target"]["name"])?,
        kind: if message["profile"]["test"] != true {
            Kind::Binary
        } else if kinds.iter().any(|kind| kind == "test") {
            Kind::IntegrationTest
        } else {
            Kind::UnitTest
        },
        package: Path::new(message["manifest_path"].as_str()?)
            .parent()?
            .to_path_buf(),
        path: path.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executable_is_read_from_cargos_message() {
        for (kind, is_test, expected) in [
            ("test", true, Kind::IntegrationTest),
            ("lib", true, Kind::UnitTest),
            ("bin", true, Kind::UnitTest),
            ("bin", false, Kind::Binary),
        ] {
            let line = format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/tests/Cargo.toml",
                "target":{{"kind":["{kind}"],"name":"cli"}},"profile":{{"test":{is_test}}},
                "executable":"/w/target/debug/deps/cli-1"}}"#
            );
            assert_eq!(
                executable(&line),
                Some(Executable {
                    name: "cli".to_owned(),
                    kind: expected,
                    package: "/w/tests".into(),
                    path: "/w/target/debug/deps/cli-1".into(),
                })
            );
        }
    }

    #[test]
    fn other_messages_are_passed_over() {
        for line in [
            r#"{"reason":"compiler-artifact","executable":null,"target":{"kind":["lib"]}}"#,
            r#"{"reason":"build-finished","success":true}"#,
            "not json",
        ] {
            assert_eq!(executable(line), None);
        }
    }
}
