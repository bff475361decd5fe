//! Where the state of links is kept: for root alone, and nothing of others is trusted.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
};

use fault_tests::{
    Faultctl, Lab,
    faultctl::{binary, output},
};
use nix::{sys::stat::Mode, unistd::mkfifo};

use super::{assert_passes, is_down, line, plain, saved};

/// What a faultctl sees as `/run`; gone when dropped.
struct Run(PathBuf);

impl Run {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fault-tests-run-{}-{number}", std::process::id());
        let directory = env::temp_dir().join(name);
        fs::create_dir(&directory).expect("a temporary directory");
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn directory(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).expect("a directory of ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        path
    }

    /// faultctl there, for any other user's reading and writing unless it sees to that.
    fn command(&self, lab: &Lab, line: &str) -> Command {
        let script = format!(
            "umask 0; mount --bind {} /run && exec {} {line}",
            self.0.display(),
            binary().display()
        );
        let mut command = lab.near.command("unshare");
        command.args(["--mount", "sh", "-c", &script]);
        command
    }

    fn run(&self, lab: &Lab, line: &str) -> Output {
        output(&mut self.command(lab, line))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path) -> u32 {
    let metadata = fs::symlink_metadata(path).expect("it is there");
    metadata.permissions().mode() & 0o777
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

#[track_caller]
fn assert_refused(output: &Output, path: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{path}: {stderr}");
    let start = format!("error: `{path}` is a link, or others than this user may write it");
    assert!(stderr.starts_with(&start), "{path}: {stderr}");
    assert!(stderr.contains("\nhint: "), "{stderr}");
}

/// Nobody's.
const OTHER: u32 = 54_322;

/// Puts something where it should not be.
type Prepare = fn(&Run);

#[test]
fn state_is_for_root_alone_and_goes_with_the_fault() {
    let lab = plain("pr");
    let run = Run::new();
    let faultctl = Faultctl::spawn(&mut run.command(&lab, &line(&lab, "--json --for 1h")));
    let state = saved(&lab);
    let name = state.file_name().expect("a name").to_string_lossy();
    assert_eq!(mode(&run.path("faultctl")), 0o700);
    assert_eq!(mode(&run.path("faultctl/down")), 0o700);
    assert_eq!(names(&run.path("faultctl/down")), [&*name]);
    assert_eq!(mode(&run.path("faultctl/down").join(&*name)), 0o600);
    assert_eq!(faultctl.end().code, 0);
    assert_eq!(names(&run.path("faultctl")), ["down"]);
    assert_eq!(names(&run.path("faultctl/down")), [""; 0]);
    assert_passes(&lab);
}

#[test]
fn directory_that_others_may_write_is_refused() {
    let lab = plain("pd");
    let top: [Prepare; 3] = [
        |run| symlink(run.directory("theirs", 0o700), run.path("faultctl")).expect("a link"),
        |run| chown(run.directory("faultctl", 0o700), Some(OTHER), None).expect("to give it"),
        |run| drop(run.directory("faultctl", 0o777)),
    ];
    let below: [Prepare; 3] = [
        |run| {
            run.directory("faultctl", 0o700);
            let theirs = run.directory("theirs", 0o700);
            symlink(theirs, run.path("faultctl/down")).expect("a link");
        },
        |run| {
            run.directory("faultctl", 0o700);
            let down = run.directory("faultctl/down", 0o700);
            chown(down, Some(OTHER), None).expect("to give it");
        },
        |run| {
            run.directory("faultctl", 0o700);
            run.directory("faultctl/down", 0o770);
        },
    ];
    for (prepares, path) in [(top, "/run/faultctl"), (below, "/run/faultctl/down")] {
        for prepare in prepares {
            let run = Run::new();
            prepare(&run);
            assert_refused(&run.run(&lab, &line(&lab, "--for 1s")), path);
            assert!(!is_down(&lab));
            let theirs = run.path("theirs");
            assert!(!theirs.exists() || names(&theirs).is_empty());
            if path == "/run/faultctl" {
                let line = format!("loss 50 --attach clsact --iface {}", lab.iface);
                assert_refused(&run.run(&lab, &line), path);
            } else {
                assert_refused(&run.run(&lab, "status"), path);
            }
        }
    }
    assert_passes(&lab);
}

#[test]
fn files_of_others_are_neither_followed_nor_removed() {
    let lab = plain("pf");
    let run = Run::new();
    run.directory("faultctl", 0o700);
    let down = run.directory("faultctl/down", 0o700);
    let victim = run.path("victim");
    fs::write(&victim, "theirs").expect("a file");
    symlink(&victim, down.join("1-1")).expect("a link");
    mkfifo(&down.join("2-2"), Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe");
    for name in ["3-3", "4-4"] {
        fs::write(down.join(name), "theirs").expect("a file");
    }
    chown(down.join("3-3"), Some(OTHER), None).expect("to give it");
    let all = fs::Permissions::from_mode(0o666);
    fs::set_permissions(down.join("4-4"), all).expect("it is ours");
    let status = run.run(&lab, "status --json");
    assert!(status.status.success(), "{status:?}");
    let clear = run.run(&lab, &format!("clear --iface {}", lab.iface));
    assert!(clear.status.success(), "{clear:?}");

    // In the very place of the link's state.
    let state = saved(&lab);
    let name = state.file_name().expect("a name").to_string_lossy();
    symlink(&victim, down.join(&*name)).expect("a link");
    let refused = run.run(&lab, &line(&lab, "--for 1s"));
    assert_refused(&refused, &format!("/run/faultctl/down/{name}"));
    assert!(!is_down(&lab));
    assert_eq!(names(&down).len(), 5);
    assert_eq!(fs::read_to_string(&victim).expect("a file"), "theirs");

    // And the lock, which `clear` has made.
    fs::remove_file(run.path("faultctl/lock")).expect("a file");
    symlink(&victim, run.path("faultctl/lock")).expect("a link");
    let line = format!("loss 50 --attach clsact --iface {}", lab.iface);
    assert_refused(&run.run(&lab, &line), "/run/faultctl/lock");
    assert_passes(&lab);
}
