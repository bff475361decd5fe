//! `down --mode admin`: the link is set down, and everything on it comes back.

use std::{
    collections::BTreeMap,
    net::UdpSocket,
    path::PathBuf,
    time::{Duration, Instant},
};

use fault_tests::{
    Family, Faultctl, Lab, Namespace,
    echo::ping,
    faultctl::{run, words},
    wait::{SOON, until},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

mod carrier;
mod confirm;
mod detach;
mod life;
mod private;
mod router;
mod ssh;
mod stack;
mod virtio;
mod world;

/// What a loaded machine and the check for duplicate addresses may take.
const SLACK: u64 = 10;

/// A link with something of everything on it, of a name that no other test has.
struct Dressed {
    lab: Lab,
    before: Shown,
}

impl Dressed {
    fn new(name: &str) -> Self {
        let lab = plain(name);
        dress(&lab);
        let before = Shown::of(&lab);
        Self { lab, before }
    }

    fn start(&self, more: &str) -> Faultctl {
        let faultctl = Faultctl::start(&self.lab.near, &line(&self.lab, more));
        assert!(is_down(&self.lab));
        faultctl
    }

    /// The macvlan on the link, a veth pair beside it, and the link: what `clear` is told
    /// must be nobody else's.
    fn names(&self) -> [String; 4] {
        let dev = &self.lab.iface;
        [
            format!("u{dev}"),
            format!("o{dev}"),
            format!("o{dev}1"),
            dev.clone(),
        ]
    }

    /// Everything is as it was, and packets pass.
    #[track_caller]
    fn assert_back(&self) {
        self.before.assert_same(&Shown::of(&self.lab));
        assert_passes(&self.lab);
        assert!(!saved(&self.lab).exists());
    }
}

/// A link with two addresses of each family.
fn plain(name: &str) -> Lab {
    Lab::with_iface(&format!("{name}{}", std::process::id()))
}

fn line(lab: &Lab, more: &str) -> String {
    format!("down --mode admin --iface {} {more}", lab.iface)
}

fn dress(lab: &Lab) {
    let dev = &lab.iface;
    for (key, value) in [("accept_dad", "1"), ("addr_gen_mode", "0")] {
        lab.near.set(&format!("ipv6/conf/{dev}/{key}"), value);
    }
    let lines = format!(
        "link add other type veth peer name other1
         link set other1 up
         link set other up
         link add link {dev} name upper address 02:00:00:00:00:77 type macvlan mode bridge
         link set upper up
         addr add 10.60.0.1/24 dev other
         addr add fd60::1/64 dev other nodad
         addr add 10.61.0.1/24 dev upper
         addr add 10.50.0.1/24 brd 10.50.0.255 dev {dev} label {dev}:a metric 50
         addr add 10.51.0.1 peer 10.51.0.2/32 dev {dev}
         addr add 10.52.0.1/24 dev {dev} noprefixroute scope link valid_lft 900 preferred_lft 500
         addr add fd50::1/64 dev {dev} metric 50
         addr add fd51::1/64 dev {dev} nodad noprefixroute
         addr add fd52::1/64 dev {dev} valid_lft 900 preferred_lft 500
         addr add fd53::1 peer fd53::2/128 dev {dev}
         addr add fe80::99/64 dev {dev}
         nexthop add id 70 via 10.77.0.9 dev {dev}
         nexthop add id 71 via fd77::9 dev {dev}
         nexthop add id 72 via 10.60.0.9 dev other
         nexthop add id 73 group 70,3/72,2
         nexthop add id 74 via 10.61.0.9 dev upper
         route add default via 10.77.0.9
         route add 10.80.0.0/16 via 10.77.0.9 table 100 metric 7 mtu 1300 src 10.77.0.17
         route add 10.81.0.0/16 table 100 nexthop via 10.77.0.8 weight 3 nexthop via 10.77.0.9 dev {dev}
         route add 10.82.0.0/16 table 1000 nexthop via 10.77.0.8 weight 3 nexthop via 10.60.0.9 weight 2
         route add 10.83.0.0/16 via 10.99.0.1 dev {dev} onlink proto bird
         route add 10.84.0.0/16 nhid 73
         route add 10.85.0.0/16 nhid 74
         route add 10.86.0.0/16 via 10.77.0.8 metric 9
         route append 10.86.0.0/16 via 10.77.0.9 metric 9
         route add 10.87.0.0/16 via inet6 fd77::9 dev {dev}
         route add local 10.88.0.0/24 dev {dev} table 100
         route add 10.89.0.0/16 dev {dev} tos 0x10 scope link
         route add default via fd77::9 metric 5
         route add fd80::/64 via fd77::9 table 100 mtu 1300 src fd77::1
         route add fd81::/64 table 100 nexthop via fd77::8 weight 3 nexthop via fd77::9 dev {dev}
         route add fd82::/64 table 1000 nexthop via fd77::8 nexthop via fd60::9
         route add fd83::/64 via fe80::1 dev {dev} pref high
         route add fd84::/64 nhid 71
         route add fd85::/64 via fd77::9 expires 700
         route add fd86::/64 from fd77::/64 via fd77::9
         neigh add 10.77.0.50 lladdr 02:00:00:00:00:50 dev {dev}
         neigh add fd77::50 lladdr 02:00:00:00:00:50 dev {dev}
         neigh add 10.77.0.51 lladdr 02:00:00:00:00:51 dev {dev} extern_learn
         neigh add proxy 10.77.0.60 dev {dev}
         neigh add proxy fd77::60 dev {dev}
         rule add iif {dev} table 100 priority 500
         rule add oif {dev} table 1000 priority 501
         maddr add 33:33:00:00:00:77 dev {dev}
         maddr add 01:00:5e:00:00:77 dev {dev}
        "
    );
    let lines = lines.replace("upper", &format!("u{dev}"));
    lab.near.ip(&lines.replace("other", &format!("o{dev}")));
    // A batch of ip(8) knows IPv6 only where an address says so.
    lab.near
        .ip_json(&format!("-6 rule add iif {dev} table 100 priority 500"));
    for command in [
        "qdisc add dev DEV root handle 1: htb default 10",
        "class add dev DEV parent 1: classid 1:10 htb rate 900mbit",
        "qdisc add dev DEV parent 1:10 handle 10: tbf rate 800mbit burst 1mb latency 50ms",
        "qdisc add dev DEV clsact",
    ] {
        lab.near.tc(&command.replace("DEV", dev));
    }
    settled(lab);
}

/// Waits for the check for duplicate addresses.
fn settled(lab: &Lab) {
    settled_in(&lab.near);
}

fn settled_in(namespace: &Namespace) {
    until("addresses are ready", SOON, || {
        namespace
            .ip("addr show tentative")
            .trim()
            .is_empty()
            .then_some(())
    });
}

/// What ip(8) and tc(8) show.
#[derive(Debug)]
struct Shown {
    /// By command, without lifetimes.
    lists: BTreeMap<String, Vec<String>>,
    /// Seconds left, by command, object and which.
    lifetimes: BTreeMap<String, u64>,
    /// When the first command was run, and when the last.
    during: [Instant; 2],
}

impl Shown {
    fn of(lab: &Lab) -> Self {
        let dev = &lab.iface;
        let mut shown = Self {
            lists: BTreeMap::new(),
            lifetimes: BTreeMap::new(),
            during: [Instant::now(); 2],
        };
        for command in [
            "-d addr show",
            "-4 route show table all",
            "-6 route show table all",
            "-4 rule show",
            "-6 rule show",
            "neigh show nud permanent",
            "neigh show nud stale",
            "neigh show proxy",
            "nexthop show",
            "maddr show",
        ] {
            shown.add(command, &lab.near.ip_json(command));
        }
        for command in ["qdisc show", "class show"] {
            // No JSON: tc(8) does not write it for each kind.
            let text = lab.near.tc(&format!("{command} dev {dev}"));
            let lines = text.lines().map(str::to_owned).collect();
            shown.lists.insert(command.to_owned(), lines);
        }
        shown.during[1] = Instant::now();
        shown
    }

    fn add(&mut self, command: &str, text: &str) {
        let parsed: Value =
            serde_json::from_str(text).unwrap_or_else(|_| panic!("{command}: {text}"));
        let mut list = Vec::new();
        for mut entry in parsed.as_array().expect("a list").clone() {
            // One object each, with the link that it is on.
            let Some(inside) = ["addr_info", "maddr"]
                .into_iter()
                .find(|key| entry[*key].is_array())
            else {
                list.push(self.take_lifetimes(command, &mut entry));
                continue;
            };
            let objects = entry[inside].take();
            for mut object in objects.as_array().expect("a list").clone() {
                object["ifname"] = entry["ifname"].clone();
                list.push(self.take_lifetimes(command, &mut object));
            }
        }
        // Of routes to one destination with one metric, the order counts.
        list.sort_by_key(|text| {
            let value: Value = serde_json::from_str(text).expect("it was one");
            ["table", "dst", "metric", "family"].map(|key| value[key].to_string())
        });
        if !command.contains("route") {
            list.sort();
        }
        self.lists.insert(command.to_owned(), list);
    }

    fn take_lifetimes(&mut self, command: &str, object: &mut Value) -> String {
        let mut left = Vec::new();
        if let Some(fields) = object.as_object_mut() {
            for key in ["valid_life_time", "preferred_life_time", "expires"] {
                if let Some(seconds) = fields.remove(key).and_then(|value| value.as_u64()) {
                    left.push((key, seconds));
                }
            }
            for volatile in ["used", "confirmed", "updated", "probes", "refcnt", "users"] {
                fields.remove(volatile);
            }
        }
        let text = object.to_string();
        for (key, seconds) in left {
            self.lifetimes
                .insert(format!("{command} {text} {key}"), seconds);
        }
        text
    }

    #[track_caller]
    fn assert_same(&self, after: &Self) {
        for (command, list) in &self.lists {
            let now = &after.lists[command];
            let missing: Vec<_> = list.iter().filter(|it| !now.contains(it)).collect();
            let more: Vec<_> = now.iter().filter(|it| !list.contains(it)).collect();
            assert!(
                missing.is_empty() && more.is_empty(),
                "{command}\nmissing: {missing:#?}\nmore: {more:#?}"
            );
            // The kernel puts its own link-local routes behind those of other links.
            let ordered = |list: &[String]| -> Vec<String> {
                let by_user = |it: &&String| !it.contains("\"protocol\":\"kernel\"");
                list.iter().filter(by_user).cloned().collect()
            };
            assert_eq!(ordered(list), ordered(now), "{command}: order");
        }
        let gone = |from: usize, to: usize| {
            let time = after.during[to].duration_since(self.during[from]);
            time.as_secs()
        };
        // The kernel tells seconds, and so does ip(8).
        let (least, most) = (gone(1, 0), gone(0, 1) + 1);
        let keys = |shown: &Self| shown.lifetimes.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(self), keys(after));
        for (what, before) in &self.lifetimes {
            let now = after.lifetimes[what];
            // Forever stays; else the time gone is taken off, rounded by each fault of a
            // test, of which there are four at most, and by what tells it before and after.
            const ROUNDED: u64 = 6;
            let expected = match *before {
                forever if forever == u64::from(u32::MAX) => forever..=forever,
                0 => 0..=0,
                before => before - most - ROUNDED..=before - least + ROUNDED,
            };
            assert!(
                expected.contains(&now),
                "{what}: {before} {least} {most} {now}"
            );
        }
    }
}

#[track_caller]
fn assert_passes(lab: &Lab) {
    for family in Family::ALL {
        assert_eq!(ping(&lab.near, family.far(), 3).received(), 3, "{family:?}");
        assert_eq!(ping(&lab.far, family.near(), 3).received(), 3, "{family:?}");
    }
}

/// What an application sees of a link that is down.
#[track_caller]
fn assert_cut_off(lab: &Lab) {
    for family in Family::ALL {
        let error = lab.near.run(|| {
            let any = match family {
                Family::V4 => "0.0.0.0:0",
                Family::V6 => "[::]:0",
            };
            let socket = UdpSocket::bind(any).expect("a socket");
            socket.connect((family.far(), 50_000))
        });
        let errno = error.expect_err("no route").raw_os_error();
        assert_eq!(errno, Some(libc::ENETUNREACH), "{family:?}");
        assert_eq!(ping(&lab.far, family.near(), 3).received(), 0, "{family:?}");
    }
}

fn is_down(lab: &Lab) -> bool {
    !link(lab).contains("UP")
}

/// Its flags.
fn link(lab: &Lab) -> String {
    let text = lab.near.ip_json(&format!("link show dev {}", lab.iface));
    let links: Value = serde_json::from_str(&text).expect("JSON");
    links[0]["flags"].to_string()
}

/// Where its state is while it is taken away.
fn saved(lab: &Lab) -> PathBuf {
    let text = lab.near.ip_json(&format!("link show dev {}", lab.iface));
    let links: Value = serde_json::from_str(&text).expect("JSON");
    let name = format!("{}-{}", lab.near.inode(), links[0]["ifindex"]);
    PathBuf::from("/run/faultctl/down").join(name)
}

/// What `status` says of a process.
#[track_caller]
fn status(lab: &Lab, pid: Pid) -> Option<Value> {
    let output = run(&lab.near, &["status", "--json"]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a JSON line"))
        .find(|fault| fault["pid"] == pid.as_raw())
}

fn watchdog(lab: &Lab, faultctl: &Faultctl) -> Pid {
    let status = status(lab, faultctl.pid()).expect("it is there");
    let pid = status["link"]["watchdog"].as_i64().expect("a pid");
    Pid::from_raw(i32::try_from(pid).expect("a pid"))
}

#[test]
fn everything_on_the_link_comes_back_as_it_was() {
    let dressed = Dressed::new("ad");
    assert_passes(&dressed.lab);
    let faultctl = dressed.start("--for 6s");
    let rule = &faultctl.started["rules"][0];
    for (key, value) in [("fault", "down"), ("asked", "admin"), ("hook", "link")] {
        assert_eq!(rule[key], value);
    }
    assert!(faultctl.started["until"].is_string());
    assert_cut_off(&dressed.lab);
    let ended = faultctl.ended();
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
    assert_eq!(ended.stopped()["reason"], "for");
    assert_eq!(ended.stopped()["notes"], Value::Array(Vec::new()));
    dressed.assert_back();
}

#[test]
fn addresses_that_the_kernel_keeps_stay_and_the_others_come_back() {
    let dressed = Dressed::new("kp");
    let key = format!("ipv6/conf/{}/keep_addr_on_down", dressed.lab.iface);
    dressed.lab.near.set(&key, "1");
    let ended = dressed.start("--for 4s").ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    dressed.assert_back();
}

#[test]
fn what_runs_out_meanwhile_does_not_come_back() {
    let lab = plain("ro");
    let dev = &lab.iface;
    lab.near.ip(&format!(
        "addr add fd52::1/64 dev {dev} nodad valid_lft 2 preferred_lft 1
         route add fd85::/64 via fd77::2 dev {dev} expires 2"
    ));
    let ended = Faultctl::start(&lab.near, &line(&lab, "--for 3s")).ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!lab.near.ip("addr").contains("fd52::1"));
    assert!(!lab.near.ip_json("-6 route show").contains("fd85::"));
    assert_passes(&lab);
}

#[test]
fn what_cannot_be_put_back_is_named() {
    let lab = plain("np");
    let dev = &lab.iface;
    lab.near.ip(&format!(
        "link add other type veth peer name other1
         link set other1 up
         link set other up
         addr add 10.60.0.1/24 dev other
         route add 10.82.0.0/16 nexthop via 10.77.0.2 dev {dev} nexthop via 10.60.0.9 dev other
         route add 10.83.0.0/16 via 10.77.0.2"
    ));
    let faultctl = Faultctl::start(&lab.near, &line(&lab, "--for 4s"));
    lab.near.ip("link del other");
    let pid = faultctl.pid();
    let ended = faultctl.ended();
    assert_eq!(ended.code, 1, "{ended:?}");
    assert_eq!(ended.stopped()["reason"], "for");
    assert!(
        ended.stderr.contains("route 10.82.0.0/16") && ended.stderr.contains("\nhint: "),
        "{ended:?}"
    );
    assert!(!ended.stderr.contains("10.83"), "{ended:?}");
    assert_passes(&lab);

    // Kept for `status` and `clear`, which tries once more and then gives up.
    let left = status(&lab, pid).expect("it is saved");
    let missing = left["link"]["missing"].to_string();
    assert!(missing.contains("10.82.0.0/16"), "{left}");
    assert!(saved(&lab).exists());
    let output = run(&lab.near, &words(&format!("clear --iface {dev}")));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("10.82.0.0/16"), "{stderr}");
    assert!(!saved(&lab).exists());
}

/// Waits for what nobody tells.
#[track_caller]
fn until_up(lab: &Lab, bound: Duration) {
    until("the link is up", bound, || (!is_down(lab)).then_some(()));
    until("its state is gone", SOON, || {
        (!saved(lab).exists()).then_some(())
    });
}

#[track_caller]
fn send(pid: Pid, signal: Signal) {
    kill(pid, signal).expect("it runs");
}
