//! Netem as it is typed for tc(8), with `faultctl` in front.

use std::{os::unix::process::CommandExt as _, process::Output};

use fault_tests::{
    Family, Lab, Namespace, Side,
    faultctl::{command, run, words},
    programs, udp,
    wait::{SOON, until},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// A lab whose holders are killed when it is dropped.
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

    /// `faultctl tc`; `DEV` stands for the interface.
    #[track_caller]
    fn tc(&self, line: &str) -> Output {
        let line = format!("tc {}", line.replace("DEV", &self.lab.iface));
        run(&self.lab.near, &words(&line))
    }

    #[track_caller]
    fn done(&self, line: &str) -> String {
        let output = self.tc(line);
        assert!(output.status.success(), "{line}: {output:?}");
        assert_eq!(output.stderr, b"", "{line}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Fails with exit code 1, and says so.
    #[track_caller]
    fn refused(&self, line: &str, message: &str) {
        let output = self.tc(line);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let message = message.replace("DEV", &self.lab.iface);
        assert_eq!(output.status.code(), Some(1), "{line}: {stderr}");
        assert!(
            stderr.starts_with(&format!("error: {message}\nhint: ")),
            "{line}: {stderr}"
        );
    }

    #[track_caller]
    fn shown(&self) -> String {
        self.done("qdisc show dev DEV")
    }

    /// The line of a root qdisc.
    fn line(&self, handle: &str, netem: &str) -> String {
        let refcnt = queues(&self.lab.near, &self.lab.iface) + 1;
        format!("qdisc netem {handle} root refcnt {refcnt} {netem}\n")
    }

    fn lost(&self) -> u64 {
        udp::flow(&self.lab, Family::V4, Side::Near, 20).lost()
    }

    #[track_caller]
    fn holders(&self) -> Vec<u32> {
        programs::of(&self.lab.near)
            .into_iter()
            .map(|(_, pid)| pid)
            .collect()
    }

    #[track_caller]
    fn assert_gone(&self) {
        assert_eq!(self.lost(), 0);
        assert_eq!(programs::hooks(&self.lab), self.before);
        assert_eq!(self.shown(), "");
        until("no program is left", SOON, || {
            self.holders().is_empty().then_some(())
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for pid in self.holders() {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
    }
}

fn queues(namespace: &Namespace, dev: &str) -> u64 {
    let text = namespace.ip_json(&format!("-details link show dev {dev}"));
    let links: Value = serde_json::from_str(&text).expect("JSON");
    links[0]["num_tx_queues"].as_u64().expect("a number")
}

#[test]
fn netem_is_in_force_when_the_command_returns_until_it_is_deleted() {
    let place = Place::new("ta");
    place.done("qdisc add dev DEV root netem loss 100%");
    assert_eq!(place.lost(), 20);
    assert_eq!(place.shown(), place.line("8001:", "limit 1000 loss 100%"));
    place.done("qdisc del dev DEV root");
    place.assert_gone();
}

#[test]
fn what_tc_takes_runs_and_is_shown_as_tc_shows_it() {
    let place = Place::new("tb");
    // Where the kernel has netem, what tc itself shows of it on this interface.
    let theirs = |line: &str| {
        let tc = |line: &str| {
            let line = line.replace("DEV", &place.lab.iface);
            let output = place.lab.near.command("tc").args(words(&line)).output();
            output.expect("tc runs")
        };
        let added = tc(line);
        let stderr = String::from_utf8_lossy(&added.stderr);
        if stderr.contains("qdisc kind is unknown") {
            return None;
        }
        assert!(added.status.success(), "{line}: {stderr}");
        let shown = tc("qdisc show dev DEV");
        assert!(tc("qdisc del dev DEV root").status.success());
        Some(String::from_utf8(shown.stdout).expect("text"))
    };
    for (words, shown) in [
        ("loss 0.1%", "limit 1000 loss 0.1%"),
        ("loss 0.3% 25%", "limit 1000 loss 0.3% 25%"),
        ("loss random 10", "limit 1000 loss 10%"),
        (
            "loss state 1% 10%",
            "limit 1000 loss state p13 1% p31 10% p32 0% p23 100% p14 0%",
        ),
        (
            "loss state 60% 90% 20% 95% 50%",
            "limit 1000 loss state p13 60% p31 90% p32 20% p23 95% p14 50%",
        ),
        (
            "loss gemodel 1%",
            "limit 1000 loss gemodel p 1% r 99% 1-h 100% 1-k 0%",
        ),
        (
            "loss gemodel 1% 10% 70% 0.1%",
            "limit 1000 loss gemodel p 1% r 10% 1-h 70% 1-k 0.1%",
        ),
        ("limit 5 loss 10%", "limit 5 loss 10%"),
        ("", "limit 1000"),
    ] {
        let add = format!("qdisc add dev DEV root handle 1: netem {words}");
        place.done(add.trim());
        let ours = place.shown();
        place.done("qdisc del dev DEV root");
        assert_eq!(ours, place.line("1:", shown), "{words}");
        if let Some(theirs) = theirs(add.trim()) {
            // tc's line has a space at its end.
            assert_eq!(ours.trim_end(), theirs.trim_end(), "{words}");
        }
    }
    place.assert_gone();
}

#[test]
fn what_is_there_is_not_added_and_what_is_not_is_not_changed() {
    let place = Place::new("tc");
    let none = "no netem of faultctl is on `DEV`";
    place.refused("qdisc change dev DEV root netem loss 1%", none);
    place.refused("qdisc del dev DEV root", none);
    place.refused(
        "qdisc replace dev DEV handle 1: netem loss 1%",
        "no netem `1:` of faultctl is on `DEV`",
    );
    place.refused(
        "qdisc add dev nothing root netem loss 1%",
        "no interface `nothing`",
    );
    place.refused("qdisc show dev nothing", "no interface `nothing`");
    place.assert_gone();

    place.done("qdisc add dev DEV root handle 1: netem loss 50%");
    let there = "`DEV` has netem 1: limit 1000 loss 50% by faultctl already";
    place.refused("qdisc add dev DEV root netem loss 1%", there);
    let other = "no netem `2:` of faultctl is on `DEV`";
    place.refused("qdisc change dev DEV root handle 2: netem loss 1%", other);
    place.refused("qdisc del dev DEV root handle 2:", other);
    assert_eq!(place.shown(), place.line("1:", "limit 1000 loss 50%"));
    assert_eq!(place.holders().len(), 1);
}

#[test]
fn change_puts_the_new_one_in_force_and_ends_the_old_one() {
    let place = Place::new("td");
    place.done("qdisc add dev DEV root handle 5: netem loss 0%");
    let old = place.holders();
    assert_eq!(place.lost(), 0);
    for (line, handle, lost) in [
        ("qdisc change dev DEV root netem loss 100%", "5:", 20),
        ("qdisc change dev DEV handle 5: netem loss 0%", "5:", 0),
        ("qdisc replace dev DEV root netem loss 100%", "5:", 20),
        (
            "qdisc replace dev DEV root handle 6: netem loss 0%",
            "6:",
            0,
        ),
    ] {
        place.done(line);
        assert_eq!(place.lost(), lost, "{line}");
        let words = if lost == 0 { "" } else { " loss 100%" };
        let shown = place.line(handle, &format!("limit 1000{words}"));
        assert_eq!(place.shown(), shown, "{line}");
        until("one holder is left", SOON, || {
            let holders = place.holders();
            (holders.len() == 1 && holders != old).then_some(())
        });
    }
    place.done("qdisc del dev DEV root handle 6:");
    place.done("qdisc replace dev DEV root netem loss 100%");
    assert_eq!(place.lost(), 20);
}

#[test]
fn show_has_what_is_here_and_lives() {
    let place = Place::new("te");
    place
        .lab
        .near
        .ip("link add other type veth peer name other1\nlink set other up");
    place.done("qdisc add dev DEV root netem loss 1%");
    place.done("qdisc add dev other root handle 2: netem loss 2%");
    let all = place.done("qdisc show");
    let devs: Vec<_> = all
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .collect();
    assert_eq!(devs.len(), 2, "{all}");
    assert!(
        devs.contains(&"other") && devs.contains(&&*place.lab.iface),
        "{all}"
    );
    assert_eq!(place.done("qdisc show dev DEV handle 2:"), "");
    let other = place.done("qdisc show dev other root");
    assert!(other.starts_with("qdisc netem 2: root refcnt "), "{other}");
    let elsewhere = run(&place.lab.far, &["tc", "qdisc"]);
    assert_eq!(
        (elsewhere.status.code(), &*elsewhere.stdout),
        (Some(0), &b""[..])
    );

    // Older kernels rename no interface that is up.
    let rename = "link set other down\nlink set other name another\nlink set another up";
    place.lab.near.ip(rename);
    assert_eq!(place.done("qdisc show dev another"), other);
    place.done("qdisc change dev another root netem loss 3%");
    let changed = place.done("qdisc show dev another");
    assert_eq!(changed, other.replace("2%", "3%"));

    let killed = place.holders();
    for pid in &killed {
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).expect("it runs");
    }
    until("nothing is shown", SOON, || {
        place.done("qdisc show").is_empty().then_some(())
    });
}

#[test]
fn status_and_clear_know_it() {
    let place = Place::new("tf");
    place.done("qdisc add dev DEV root netem loss 100%");
    let status = run(&place.lab.near, &["status"]);
    let text = String::from_utf8_lossy(&status.stdout);
    let dev = &place.lab.iface;
    let asked =
        format!("`{dev}`: faultctl tc qdisc add dev {dev} root handle 8001: netem loss 100%");
    assert!(text.contains(&asked), "{text}");
    let clear = format!("clear --iface {dev}");
    assert!(run(&place.lab.near, &words(&clear)).status.success());
    place.assert_gone();
}

#[test]
fn holder_of_an_interface_that_is_gone_ends() {
    let place = Place::new("tg");
    place
        .lab
        .near
        .ip("link add other type veth peer name other1\nlink set other up");
    place.done("qdisc add dev other root netem loss 1%");
    place.lab.near.ip("link del other");
    until("its holder has ended", SOON, || {
        place.holders().is_empty().then_some(())
    });
}

#[test]
fn qdiscs_of_the_interface_stay() {
    let place = Place::new("th");
    place.lab.near.tc(&format!(
        "qdisc add dev {} root handle 7: pfifo limit 77",
        place.lab.iface
    ));
    let before = programs::hooks(&place.lab);
    place.done("qdisc add dev DEV root netem loss 100%");
    let during = place
        .lab
        .near
        .tc(&format!("qdisc show dev {}", place.lab.iface));
    assert!(during.contains("pfifo 7: root"), "{during}");
    assert_eq!(place.lost(), 20);
    place.done("qdisc del dev DEV root");
    assert_eq!(programs::hooks(&place.lab), before);
}

#[test]
fn nobody_may_who_may_not_look() {
    const NOBODY: u32 = 65_534;
    let place = Place::new("ti");
    for line in ["tc qdisc show", "tc qdisc add dev lo root netem loss 1%"] {
        let mut command = command(&place.lab.near, &words(line));
        // SAFETY: one system call between fork and exec.
        unsafe {
            command.pre_exec(|| match libc::setuid(NOBODY) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let output = fault_tests::faultctl::output(&mut command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}: {stderr}");
        assert!(stderr.contains("CAP_SYS_ADMIN"), "{stderr}");
    }
}
