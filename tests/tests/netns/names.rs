//! Host names whose addresses change while a fault lives.

use std::{fs, path::PathBuf};

use fault_tests::{
    Family, Faultctl, Lab, Side,
    faultctl::{binary, run, words},
    kernel::hooks,
    lab::{FROM_PORT, TO_PORT},
    udp,
};
use serde_json::Value;

const COUNT: u64 = 20;

/// A list of hosts that only what is started with it sees.
struct Hosts(PathBuf);

impl Hosts {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir();
        let path = directory.join(format!("fault-tests-{name}-{}", std::process::id()));
        fs::write(&path, "").expect("a temporary file");
        Self(path)
    }

    /// Gives the name `db.test` these addresses.
    fn set(&self, addresses: &[std::net::IpAddr]) {
        let lines = addresses
            .iter()
            .map(|address| format!("{address} db.test\n"));
        // Into the same file: another one would not be seen.
        fs::write(&self.0, lines.collect::<String>()).expect("our file");
    }

    fn start(&self, lab: &Lab, line: &str) -> Faultctl {
        // No server of names, either: what is not in the list is not known.
        let script = format!(
            "mount --bind {hosts} /etc/hosts && mount --bind /dev/null /etc/resolv.conf && \
             exec {binary} {line} --json",
            hosts = self.0.display(),
            binary = binary().display(),
        );
        let mut command = lab.near.command("unshare");
        Faultctl::spawn(command.args(["--mount", "sh", "-c", &script]))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether datagrams to an address are lost: all or none.
#[track_caller]
fn lost(lab: &Lab, near: std::net::IpAddr, far: std::net::IpAddr) -> bool {
    let (from, to) = ((near, FROM_PORT).into(), (far, TO_PORT).into());
    match udp::between(lab, Side::Near, from, to, COUNT).lost() {
        0 => false,
        COUNT => true,
        some => panic!("{some} of {COUNT} lost"),
    }
}

fn text(note: &Value) -> &str {
    note["message"].as_str().unwrap_or_default()
}

/// Waits for the note that the name has these addresses now. While its file is written, a
/// look may find none or a part of them.
#[track_caller]
fn moved(faultctl: &Faultctl, to: &[std::net::IpAddr]) {
    let list: Vec<_> = to.iter().map(ToString::to_string).collect();
    let now = format!("`db.test` is now {}, was ", list.join(", "));
    while !text(&faultctl.event("note")).starts_with(&now) {}
}

#[test]
fn fault_follows_a_name_and_goes_on_counting() {
    for hook in hooks() {
        let lab = Lab::new();
        let hosts = Hosts::new(hook);
        hosts.set(&Family::ALL.map(Family::far));
        let line = format!("partition --iface eth0 --attach {hook} --to db.test");
        let faultctl = hosts.start(&lab, &line);
        let each = |expected: [bool; 2]| {
            for family in Family::ALL {
                let ends = [family.far(), family.far_other()];
                assert_eq!(ends.map(|far| lost(&lab, family.near(), far)), expected);
            }
        };
        each([true, false]);
        hosts.set(&Family::ALL.map(Family::far_other));
        moved(&faultctl, &Family::ALL.map(Family::far_other));
        each([false, true]);
        // To more than there were, and back.
        let all = Family::ALL.map(|family| [family.far(), family.far_other()]);
        hosts.set(&all.concat());
        moved(&faultctl, &all.concat());
        each([true, true]);
        let status = run(&lab.near, &words("status --json"));
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        let ours = status
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a JSON line"))
            .find(|fault| fault["pid"] == faultctl.pid().as_raw())
            .expect("it is in force");
        assert_eq!(ours["in_force"], true);
        let lost = 2 * COUNT + 2 * COUNT + 4 * COUNT;
        assert_eq!(
            fault_tests::faultctl::count(&ours, "egress", "dropped"),
            lost
        );
        assert_eq!(faultctl.end().count("egress", "dropped"), lost);
    }
}

#[test]
fn exceptions_follow_their_names() {
    let lab = Lab::new();
    let hosts = Hosts::new("except");
    let [near, far, other] = [Family::V4.near(), Family::V4.far(), Family::V4.far_other()];
    hosts.set(&[far]);
    let faultctl = hosts.start(
        &lab,
        "partition --iface eth0 --to 10.77.0.0/24 --except db.test",
    );
    assert_eq!([far, other].map(|end| lost(&lab, near, end)), [false, true]);
    hosts.set(&[other]);
    moved(&faultctl, &[other]);
    assert_eq!([far, other].map(|end| lost(&lab, near, end)), [true, false]);
    faultctl.end();
}

#[test]
fn name_that_stops_resolving_keeps_its_last_addresses_and_that_is_said_once() {
    let lab = Lab::new();
    let hosts = Hosts::new("gone");
    let [near, far, other] = [Family::V6.near(), Family::V6.far(), Family::V6.far_other()];
    hosts.set(&[far]);
    let faultctl = hosts.start(&lab, "partition --iface eth0 --to db.test --for 20s");
    hosts.set(&[]);
    let note = faultctl.event("note");
    assert!(
        text(&note).starts_with("host name `db.test` has no address"),
        "{note}"
    );
    assert!(text(&note).ends_with("its last addresses stay"), "{note}");
    assert_eq!([far, other].map(|end| lost(&lab, near, end)), [true, false]);
    // At least two more looks are made before the end.
    let ended = faultctl.ended();
    let notes = ended.events.iter().filter(|event| event["event"] == "note");
    assert_eq!(notes.count(), 0, "{ended:?}");
}
