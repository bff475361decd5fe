//! Faults that stay when their command returns.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, pipe},
    net::{TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::{
            fs::OpenOptionsExt as _,
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use fault_tests::{
    Family, Holder, Lab, Namespace, Side,
    faultctl::{binary, command, output, run, words},
    kernel::{has_tcx, hooks},
    lab::{FROM_PORT, TO_PORT},
    programs, udp,
    wait::{SOON, until},
};
use nix::{
    fcntl::OFlag,
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::signal::Signal,
    unistd::setsid,
};
use serde_json::Value;

/// A lab with an interface of a name that no other test has, as it was.
struct Place {
    lab: Lab,
    before: String,
}

impl Place {
    fn new(name: &str) -> Self {
        let lab = Lab::with_iface(&format!("{name}{}", std::process::id()));
        Self {
            before: programs::hooks(&lab),
            lab,
        }
    }

    fn line(&self, fault: &str, hook: &str) -> String {
        format!("{fault} --iface {} --attach {hook}", self.lab.iface)
    }

    fn begin(&self, fault: &str, hook: &str) -> Holder {
        Holder::begin(&self.lab.near, &self.line(fault, hook))
    }

    fn lost(&self) -> u64 {
        udp::flow(&self.lab, Family::V4, Side::Near, 20).lost()
    }

    #[track_caller]
    fn assert_gone(&self) {
        assert_eq!(self.lost(), 0);
        assert_eq!(programs::hooks(&self.lab), self.before);
        until("no program is left", SOON, || {
            programs::of(&self.lab.near).is_empty().then_some(())
        });
    }

    /// A shell in a mount namespace of its own, in which nothing is in `/run`.
    fn elsewhere(&self, script: &str) -> Command {
        let script = format!("mount -t tmpfs none /run && {script}");
        let mut command = self.lab.near.command("unshare");
        command.args(["--mount", "sh", "-c", &script]);
        command.stdin(Stdio::null());
        command
    }
}

#[test]
fn fault_is_in_force_when_the_command_returns() {
    for hook in hooks() {
        for fault in ["loss 100", "partition", "down"] {
            let place = Place::new("df");
            let holder = place.begin(fault, hook);
            assert_eq!(place.lost(), 20, "{fault}");
            assert_eq!(holder.started["detached"], true);
            holder.end();
            place.assert_gone();
        }
    }
}

#[test]
fn it_stays_for_an_hour_unless_something_else_is_said() {
    let place = Place::new("dh");
    for (more, ends, seconds) in [
        ("", true, 3600),
        ("--for 90s", true, 90),
        ("--until-cleared", false, 0),
    ] {
        let holder = place.begin(&format!("loss 100 {more}"), hooks()[0]);
        assert_eq!(holder.started["until"].is_string(), ends, "{more}");
        let owners = programs::with_owners(&place.lab.near);
        let [(_, owner)] = &owners[..] else {
            panic!("one program: {owners:?}");
        };
        let expected = if ends {
            owner.since_ns + seconds * 1_000_000_000
        } else {
            0
        };
        assert_eq!(owner.until_ns, expected, "{more}");
        holder.end();
        place.assert_gone();
    }
}

#[test]
fn people_are_told_how_to_end_it() {
    let place = Place::new("dt");
    let line = place.line("loss 100 --detach --until-cleared", "auto");
    let output = run(&place.lab.near, &words(&line));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("until cleared"), "{output:?}");
    let clear = format!("clear --iface {}", place.lab.iface);
    assert!(
        text.contains(&format!("`faultctl {clear}` ends it")),
        "{text}"
    );
    assert_eq!(place.lost(), 20);
    let cleared = run(&place.lab.near, &words(&clear));
    assert!(cleared.status.success(), "{cleared:?}");
    place.assert_gone();
}

#[test]
fn nothing_of_the_caller_is_kept() {
    for hook in hooks() {
        let place = Place::new("dn");
        let script = format!(
            "exec 7</dev/zero 9>/dev/full; cd /tmp; {} {}",
            binary().display(),
            place.line("loss 100 --json --detach", hook)
        );
        let mut shell = place.lab.near.command("sh");
        // The pipe to `cat` has an end when the holder has let go of it.
        shell.args(["-c", &format!("({script}) 2>&1 | cat")]);
        let holder = Holder::of(shell.stdin(Stdio::null()));
        for fd in fs::read_dir(format!("/proc/{}/fd", holder.pid())).expect("it runs") {
            let fd = fd.expect("a descriptor");
            // What it only looks something up with may be closed again.
            let Ok(target) = fs::read_link(fd.path()) else {
                continue;
            };
            let number = fd.file_name();
            let number = number.to_str().expect("a number");
            if ["0", "1", "2"].contains(&number) {
                assert_eq!(target.to_str(), Some("/dev/null"), "{number}");
            } else {
                // Those of the kernel's that it has made itself.
                let target = target.to_str().expect("text");
                let of_the_kernel = ["anon_inode:", "socket:", "pipe:"];
                assert!(
                    of_the_kernel.iter().any(|kind| target.starts_with(kind)),
                    "{number}: {target}"
                );
            }
        }
        let stat = holder.proc("stat");
        let (_, fields) = stat.rsplit_once(") ").expect("its name");
        let fields: Vec<_> = fields.split(' ').collect();
        let pid = holder.pid().to_string();
        assert_eq!(fields[3], pid, "its session: {stat}");
        assert_eq!(fields[4], "0", "its terminal: {stat}");
        let directory = fs::read_link(format!("/proc/{pid}/cwd")).expect("it runs");
        assert_eq!(directory.to_str(), Some("/"));
        holder.end();
    }
}

#[test]
fn holder_has_only_the_capabilities_that_its_end_takes() {
    const NET_ADMIN: u64 = 1 << 12;
    for (hook, kept) in [("tcx", 0), ("clsact", NET_ADMIN)] {
        if !hooks().contains(&hook) {
            continue;
        }
        let place = Place::new("dc");
        let holder = place.begin("loss 100", hook);
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let status = holder.proc("status");
            let value = status
                .lines()
                .find_map(|line| line.strip_prefix(set)?.strip_prefix(":\t"))
                .and_then(|value| u64::from_str_radix(value, 16).ok())
                .expect("a capability set");
            assert_eq!(value & !kept, 0, "{set} {value:x} of {status}");
        }
        holder.end();
        place.assert_gone();
    }
}

#[test]
fn status_and_clear_find_it_from_another_mount_namespace() {
    for hook in hooks() {
        let place = Place::new("dm");
        let holder = place.begin("loss 100", hook);
        let faultctl = binary();
        let faultctl = faultctl.display();
        let script = format!("exec {faultctl} status --json");
        let seen = output(&mut place.elsewhere(&script));
        let pid = format!("\"pid\":{},", holder.pid());
        let text = String::from_utf8_lossy(&seen.stdout);
        assert!(text.contains(&pid), "{seen:?}");
        let script = format!("exec {faultctl} clear --iface {}", place.lab.iface);
        let cleared = output(&mut place.elsewhere(&script));
        assert!(cleared.status.success(), "{cleared:?}");
        holder.ended();
        place.assert_gone();
    }
}

#[test]
fn time_ends_it() {
    for hook in hooks() {
        let place = Place::new("de");
        let start = Instant::now();
        let holder = place.begin("loss 100 --for 1500ms", hook);
        holder.ended();
        assert!(start.elapsed() >= Duration::from_millis(1_500));
        place.assert_gone();
    }
}

#[test]
fn error_is_the_same_as_without() {
    let lab = Lab::new();
    let taken = lab.near.run(|| TcpListener::bind("127.0.0.1:9909"));
    let _taken = taken.expect("a port");
    for line in [
        "loss 50 --iface nothing",
        "loss 50 --iface eth0 --netns nothing",
        "loss 50 --iface eth0 --metrics 127.0.0.1:9909",
        "loss 50 --iface eth0 --pid 4194304",
        "down --mode admin --iface nothing --for 1h",
        "down --mode carrier --iface eth0 --for 1h",
    ] {
        let without = run(&lab.near, &words(line));
        let with = run(&lab.near, &words(&format!("{line} --detach")));
        assert_eq!(with, without, "{line}");
        assert_eq!(with.status.code(), Some(1), "{line}: {with:?}");
        assert!(!with.stderr.is_empty(), "{line}");
        let json = run(&lab.near, &words(&format!("{line} --detach --json")));
        let event: Value = serde_json::from_slice(&json.stdout).expect("one line");
        assert_eq!(
            (&json.stderr, &event["event"]),
            (&with.stderr, &"error".into())
        );
    }
    assert!(programs::of(&lab.near).is_empty());
}

#[test]
fn fault_that_nobody_is_told_of_does_not_begin() {
    let place = Place::new("du");
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    let mut child = command(
        &place.lab.near,
        &words(&place.line("loss 100 --detach", "auto")),
    )
    .stdout(writer)
    .stderr(Stdio::piped())
    .spawn()
    .expect("faultctl runs");
    let status = until("it ends", SOON, || child.try_wait().expect("our child"));
    let stderr = std::io::read_to_string(child.stderr.take().expect("piped")).expect("text");
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("error: nobody reads"), "{stderr}");
    place.assert_gone();
}

#[test]
fn command_that_is_killed_takes_its_holder_along_before_the_fault_is_in_force() {
    let lab = Lab::new();
    // The lock's file in a mount namespace of its own, so that no other test waits.
    let script = format!(
        "mount -t tmpfs none /run && mkdir /run/faultctl && \
         exec flock --no-fork /run/faultctl/lock {} loss 50 --iface eth0 --attach clsact --detach",
        binary().display()
    );
    let mut child = lab
        .near
        .command("unshare")
        .args(["--mount", "sh", "-c", &script])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("unshare runs");
    let holder = until("the holder waits for the lock", SOON, || {
        let pid = child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let holder = children.split_whitespace().next()?.to_owned();
        fs::read_dir(format!("/proc/{holder}/fd"))
            .ok()?
            .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
            .any(|path| path.ends_with("faultctl/lock"))
            .then_some(holder)
    });
    let event =
        serde_json::json!({"event": "started", "pid": holder.parse::<u32>().expect("a pid")});
    let holder = Holder::named_by(event);
    child.kill().expect("it waits");
    child.wait().expect("our child");
    holder.ended();
    until("no program is left", SOON, || {
        programs::of(&lab.near).is_empty().then_some(())
    });
}

#[test]
fn two_on_one_interface_do_not_know_of_each_other() {
    for hook in hooks() {
        let place = Place::new("d2");
        let lost = |to| {
            let from = (Family::V4.near(), FROM_PORT).into();
            udp::between(&place.lab, Side::Near, from, (to, TO_PORT).into(), 20).lost()
        };
        let (one, other) = (Family::V4.far(), Family::V4.far_other());
        let first = place.begin(&format!("loss 100 --to {one}"), hook);
        let second = place.begin(&format!("loss 100 --to {other}"), hook);
        assert_eq!((lost(one), lost(other)), (20, 20));
        first.end();
        assert_eq!((lost(one), lost(other)), (0, 20));
        second.end();
        assert_eq!((lost(one), lost(other)), (0, 0));
        place.assert_gone();
    }
}

#[test]
fn killed_holder_leaves_nothing_on_tcx() {
    if !has_tcx() {
        return;
    }
    let place = Place::new("dk");
    let holder = place.begin("loss 100 --until-cleared", "tcx");
    assert_eq!(place.lost(), 20);
    holder.signal(Signal::SIGKILL);
    holder.ended();
    place.assert_gone();
}

#[test]
fn killed_holder_leaves_a_filter_without_force_that_clear_removes() {
    let place = Place::new("dl");
    let holder = place.begin("loss 100 --until-cleared", "clsact");
    holder.signal(Signal::SIGKILL);
    holder.ended();
    until("the lease is over", SOON, || {
        (place.lost() == 0).then_some(())
    });
    let clear = format!("clear --iface {}", place.lab.iface);
    let cleared = run(&place.lab.near, &words(&clear));
    assert!(cleared.status.success(), "{cleared:?}");
    place.assert_gone();
}

#[test]
fn terminal_that_hangs_up_does_not_end_it() {
    let place = Place::new("dp");
    // No process of another test gets it.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).expect("a terminal");
    grantpt(&master)
        .and_then(|()| unlockpt(&master))
        .expect("it is ours");
    let path = ptsname_r(&master).expect("its name");
    let slave = || {
        let mut options = File::options();
        options.read(true).write(true).custom_flags(libc::O_NOCTTY);
        options.open(&path).expect("its other end")
    };
    let script = format!(
        "{} {}; echo returned; read -r line",
        binary().display(),
        place.line("loss 100 --json --detach", "auto")
    );
    let mut shell = place.lab.near.command("sh");
    shell.args(["-c", &script]);
    shell.stdin(slave()).stdout(slave()).stderr(slave());
    // SAFETY: only system calls between fork and exec.
    unsafe {
        shell.pre_exec(|| {
            setsid()?;
            match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let mut shell = shell.spawn().expect("sh runs");
    let terminal = BufReader::new(File::from(OwnedFd::from(master)));
    let told: Vec<_> = terminal.lines().take(2).map_while(Result::ok).collect();
    let [started, returned] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(returned.trim(), "returned");
    let holder = Holder::named_by(serde_json::from_str(started).expect("a JSON line"));
    // By the signal, or because there is nothing to read any more.
    until("the shell ends", SOON, || {
        shell.try_wait().expect("our child")
    });
    holder.signal(Signal::SIGHUP);
    assert_eq!(place.lost(), 20);
    assert!(holder.is_running());
    holder.end();
    place.assert_gone();
}

#[test]
fn holder_serves_metrics() {
    let place = Place::new("dq");
    let holder = place.begin("loss 100 --metrics 127.0.0.1:9909", hooks()[0]);
    let serves = |namespace: &Namespace| namespace.run(|| TcpStream::connect("127.0.0.1:9909"));
    serves(&place.lab.near).expect("it listens when the command has returned");
    holder.end();
    serves(&place.lab.near).expect_err("nobody listens");
}
