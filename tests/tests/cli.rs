//! Level "cli": what the command line answers, as snapshots. Nothing here needs
//! privileges or a kernel feature.
//!
//! `TRYCMD=overwrite cargo test -p fault-tests --test cli` writes them anew.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

#[test]
fn answers_are_as_written() {
    trycmd::TestCases::new()
        .register_bin("faultctl", faultctl())
        .env("COLUMNS", "100")
        .env("NO_COLOR", "1")
        .case("tests/cli/*.trycmd");
}

#[test]
fn closed_stdout_is_no_panic() {
    for (args, code) in [
        (&["--help"][..], 0),
        (&["loss", "101", "--iface", "eth0", "--json"], 2),
    ] {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let output = Command::new(faultctl())
            .args(args)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .and_then(Child::wait_with_output)
            .expect("faultctl runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

/// The binary in `FAULTCTL_BIN`, else the one beside this test, built first: cargo
/// does not build another package's binary for a test.
fn faultctl() -> PathBuf {
    if let Some(binary) = env::var_os("FAULTCTL_BIN") {
        return binary.into();
    }
    let test = env::current_exe().expect("a running test has a path");
    let profile_dir = test
        .ancestors()
        .nth(2)
        .expect("a test lies in `deps` of the profile's directory");
    build(profile_dir);
    profile_dir.join("faultctl")
}

fn build(profile_dir: &Path) {
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let target_dir = profile_dir.parent().unwrap_or(profile_dir);
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--package",
            "fault-user",
            "--bin",
            "faultctl",
        ])
        .args(["--profile", profile, "--target-dir"])
        .arg(target_dir)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "faultctl does not build");
}
