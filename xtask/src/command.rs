//! Running other programs: every failure names the command and what to do.

use std::{
    convert::Infallible,
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Error, Result, anyhow};

/// Says what is going on, apart from the data on stdout.
pub fn say(line: &str) {
    eprintln!("xtask: {line}");
}

/// An error with a line that tells what to do.
pub fn failure(what: &str, hint: &str) -> Error {
    anyhow!("{what}\nhint: {hint}")
}

/// Runs to the end; a failure carries `hint`.
pub fn run(command: &mut Command, hint: &str) -> Result<()> {
    let status = command
        .status()
        .map_err(|error| not_started(command, &error, hint))?;
    if status.success() {
        return Ok(());
    }
    Err(failure(
        &format!("`{}` failed: {status}", describe(command)),
        hint,
    ))
}

/// What a command writes to stdout, or nothing where it is absent or fails.
pub fn probe(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Becomes the command, so that signals reach it.
pub fn exec(mut command: Command) -> Result<Infallible> {
    let error = command.exec();
    Err(not_started(
        &command,
        &error,
        "see whether the file is there and may be executed",
    ))
}

/// The failure of a command that could not be started.
pub fn not_started(command: &Command, error: &std::io::Error, hint: &str) -> Error {
    failure(
        &format!("cannot start `{}`: {error}", describe(command)),
        hint,
    )
}

/// The command with its arguments, as one would type it.
pub fn describe(command: &Command) -> String {
    let program = match command.get_program() {
        program if env::var_os("CARGO").is_some_and(|cargo| cargo == program) => {
            OsStr::new("cargo")
        }
        program => program,
    };
    let words = [program].into_iter().chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

/// A command that runs as root with these variables: itself, or through sudo, which
/// keeps no environment.
pub fn as_root(program: &Path, environment: &[(&str, OsString)]) -> Result<Command> {
    if is_root() {
        let mut command = Command::new(program);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        return Ok(command);
    }
    let Some(sudo) = find("sudo") else {
        return Err(failure(
            &format!("`{}` needs root, and there is no sudo", program.display()),
            "run this as root, or install sudo",
        ));
    };
    let mut command = Command::new(sudo);
    command.arg("env");
    for (name, value) in environment {
        let mut assignment = OsString::from(name);
        assignment.push("=");
        assignment.push(value);
        command.arg(assignment);
    }
    command.arg(program);
    Ok(command)
}

/// Whether this process is root: its own entry in /proc belongs to whom it runs as.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Major and minor version in a kernel's release: `6.12` of `6.12.9-cloud-amd64`.
pub fn kernel_version(release: &str) -> String {
    let numbers: Vec<_> = release.split(['.', '-', '+']).take(2).collect();
    numbers.join(".")
}

/// The version of the kernel that runs.
pub fn own_kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    kernel_version(release.trim())
}

/// Where a program lies.
pub fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&search_path())
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// PATH with our own tools first and with root's directories, where `tc` may lie.
pub fn search_path() -> OsString {
    let before = [tools().join("bin")];
    let after = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = before
        .into_iter()
        .chain(env::split_paths(&path))
        .chain(after);
    env::join_paths(directories).unwrap_or(path)
}

/// The repository's root.
pub fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map_or(package.clone(), Path::to_path_buf)
}

/// Where the tools go that only this repository uses.
pub fn tools() -> PathBuf {
    root().join("target/tools")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_names_the_command_and_the_way_out() {
        let error = run(Command::new("false").arg("--now"), "try `true`").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("`false --now` failed: "), "{text}");
        assert!(text.ends_with("\nhint: try `true`"), "{text}");
    }

    #[test]
    fn absent_program_is_named() {
        let error = run(&mut Command::new("/nonexistent/tool"), "install it").unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("cannot start `/nonexistent/tool`: "),
            "{text}"
        );
    }

    #[test]
    fn version_is_what_a_release_begins_with() {
        for (release, version) in [
            ("6.12.117+deb12-cloud-amd64", "6.12"),
            ("6.1.0-56-cloud-amd64", "6.1"),
            ("6.18", "6.18"),
        ] {
            assert_eq!(kernel_version(release), version);
        }
    }

    #[test]
    fn root_directory_holds_the_workspace() {
        assert!(root().join("xtask/Cargo.toml").is_file());
    }
}
