//! A real SSH server in a namespace, and sessions on it from another.

use std::{
    env,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use nix::unistd::Pid;
use serde_json::Value;

use crate::{
    faultctl::output,
    namespace::Namespace,
    wait::{SOON, until},
};

/// The port of the server: any but 22, by which nobody is to know it.
pub const PORT: u16 = 2200;
/// A user who may become root by sudo.
pub const USER: &str = "operator";
const USER_ID: u32 = 54_321;

/// A server on all addresses of a namespace; ends when dropped, with all sessions.
///
/// It sees a list of users of its own, with root and [`USER`], a /run of its own, and only
/// its own processes.
#[derive(Debug)]
pub struct Server {
    child: Child,
    directory: PathBuf,
}

/// A shell at the server's end.
#[derive(Debug)]
pub struct Session {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Server {
    /// Starts it; returns when it listens.
    #[track_caller]
    pub fn start(namespace: &Namespace) -> Self {
        let directory = directory();
        let path = |name: &str| directory.join(name);
        let show = |name: &str| path(name).display().to_string();
        for key in ["host", "user"] {
            let made = output(
                Command::new("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", ""])
                    .arg("-f")
                    .arg(path(key)),
            );
            assert!(made.status.success(), "{made:?}");
        }
        let files = [
            (
                "config",
                format!(
                    "Port {PORT}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
                     PidFile none\nPermitRootLogin yes\nPasswordAuthentication no\n",
                    show("host"),
                    show("user.pub")
                ),
            ),
            (
                "passwd",
                format!(
                    "root:x:0:0::/:/bin/sh\nsshd:x:54320:65534::/:/bin/false\n\
                     {USER}:x:{USER_ID}:{USER_ID}::/:/bin/sh\n"
                ),
            ),
            ("shadow", format!("root:*:1::::::\n{USER}:*:1::::::\n")),
            (
                "sudoers",
                format!("Defaults !use_pty\n{USER} ALL=(ALL) NOPASSWD: ALL\n"),
            ),
        ];
        let mut script = String::from("mount -t tmpfs none /run && mkdir -m 755 /run/sshd && ");
        for (name, text) in files {
            fs::write(path(name), text).expect("a temporary file");
            if name != "config" {
                write!(script, "mount --bind {} /etc/{name} && ", show(name)).expect("a string");
            }
        }
        for private in ["shadow", "sudoers"] {
            let permissions = fs::Permissions::from_mode(0o440);
            fs::set_permissions(path(private), permissions).expect("our file");
        }
        let (sshd, config) = (sshd(), show("config"));
        write!(
            script,
            "mount -t proc none /proc && exec {} -D -e -f {config}",
            sshd.display()
        )
        .expect("a string");
        let child = namespace
            .command("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child"])
            .args(["sh", "-c", &script])
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let mut server = Self { child, directory };
        let listens = format!(":{PORT:04X} ");
        until("sshd listens", SOON, || {
            if let Ok(Some(status)) = server.child.try_wait() {
                let said = server.child.stderr.take().map(std::io::read_to_string);
                panic!("sshd: {status}: {said:?}");
            }
            let has_both = ["tcp", "tcp6"].map(|table| namespace.proc(table).contains(&listens));
            (has_both == [true; 2]).then_some(())
        });
        server
    }

    /// A directory that both ends see.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// ssh(1) as a user, from a namespace to an address of the server.
    pub fn ssh(&self, from: &Namespace, user: &str, to: IpAddr) -> Command {
        let mut command = from.command("ssh");
        command.args(["-F", "none", "-p", &PORT.to_string(), "-l", user, "-i"]);
        command.arg(self.directory.join("user"));
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
        ] {
            command.args(["-o", option]);
        }
        command.arg(to.to_string());
        command
    }

    /// A shell without a terminal.
    #[track_caller]
    pub fn session(&self, from: &Namespace, user: &str, to: IpAddr) -> Session {
        Session::start(self.ssh(from, user, to).arg("exec sh"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Session {
    /// Starts an SSH client whose far end is a shell.
    #[track_caller]
    pub fn start(ssh: &mut Command) -> Self {
        let mut child = ssh
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ssh runs");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            stdin,
            lines,
        }
    }

    /// Types a line.
    #[track_caller]
    pub fn type_line(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("ssh reads");
    }

    /// Whether the shell says a word back within a time.
    #[track_caller]
    pub fn answers(&mut self, word: &str, within: Duration) -> bool {
        self.type_line(&format!("echo {word}"));
        self.says(word, within)
    }

    /// Whether a line with a word comes within a time.
    pub fn says(&mut self, word: &str, within: Duration) -> bool {
        self.hears(within, |line| line == word)
    }

    /// Waits for faultctl, started with `--json` by a line that was typed, and returns its
    /// next event of a kind.
    #[track_caller]
    pub fn event(&mut self, kind: &str) -> Value {
        let mut event = Value::Null;
        let heard = self.hears(SOON, |line| {
            event = serde_json::from_str(line).unwrap_or_default();
            event["event"] == kind
        });
        assert!(heard, "no event `{kind}`");
        event
    }

    fn hears(&mut self, within: Duration, mut is_it: impl FnMut(&str) -> bool) -> bool {
        let start = Instant::now();
        while let Ok(line) = self
            .lines
            .recv_timeout(within.saturating_sub(start.elapsed()))
        {
            if is_it(&line) {
                return true;
            }
        }
        false
    }

    /// The client's process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a new TCP connection between namespaces comes about within a time.
#[track_caller]
pub fn connects(from: &Namespace, to: &Namespace, address: IpAddr, within: Duration) -> bool {
    let listener = to.run(|| TcpListener::bind((address, 0))).expect("a port");
    let address = listener.local_addr().expect("bound");
    from.run(|| TcpStream::connect_timeout(&address, within))
        .is_ok()
}

fn sshd() -> PathBuf {
    env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .chain(["/usr/sbin".into()])
        .map(|directory| directory.join("sshd"))
        .find(|path| path.is_file())
        .expect("`cargo xtask setup --for test` brings sshd")
}

/// One of its own, that the user may enter.
fn directory() -> PathBuf {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let directory =
        env::temp_dir().join(format!("fault-tests-ssh-{}-{number}", std::process::id()));
    fs::create_dir(&directory).expect("a temporary directory");
    chown(&directory, Some(USER_ID), Some(USER_ID)).expect("to give it away");
    directory
}
