//! A delay of its own for each of many far ends.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};

use fault_tests::{
    Family, Faultctl, Lab, Side,
    faultctl::run,
    kernel::engines,
    lab::{FROM_PORT, TO_PORT},
    udp,
    wait::{SOON, until},
};

use crate::line::EARLY;

/// A file of far ends, removed when dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("faultctl-delays-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).expect("to write a file");
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// How long a datagram takes between an address of the near end and one of the far end.
fn one_way(lab: &Lab, sender: Side, near: IpAddr, far: IpAddr) -> Duration {
    let near = SocketAddr::new(near, FROM_PORT);
    let far = SocketAddr::new(far, TO_PORT);
    let (from, to, receiver) = match sender {
        Side::Near => (near, far, &lab.far),
        Side::Far => (far, near, &lab.near),
    };
    let receiving = udp::socket(receiver, to);
    let start = Instant::now();
    udp::send(lab.namespace(sender), from, to, 1);
    until("it arrives", SOON, || udp::drain(&receiving).pop());
    start.elapsed()
}

#[test]
fn each_far_end_waits_for_its_time_and_the_others_not_at_all() {
    let text = "10.77.0.2 300ms # a host wins over its network
        10.77.0.0/24 600ms
        fd77::2 300ms
        fd77::/64 600ms
        fd78::/64 20s";
    let file = File::new("three", text);
    for engine in engines() {
        let lab = Lab::new();
        for sender in Side::ALL {
            let way = sender.direction();
            let line = format!(
                "latency @{} --iface eth0 --engine {engine} --direction {way}",
                file.0.display()
            );
            let faultctl = Faultctl::start(&lab.near, &line);
            let asked = "300ms to 20s by far end, 5 of them";
            assert_eq!(faultctl.started["rules"][0]["asked"], asked);
            for family in Family::ALL {
                for (far, millis) in [(family.far(), 300), (family.far_other(), 600)] {
                    let took = one_way(&lab, sender, family.near(), far);
                    let wait = Duration::from_millis(millis);
                    assert!(took + EARLY >= wait, "{engine} {way} {far}: {took:?}");
                    // Less than what the other one waits, or much longer.
                    assert!(
                        millis == 600 || took < 2 * wait,
                        "{engine} {way} {far}: {took:?}"
                    );
                }
            }
            let ended = faultctl.end();
            assert_eq!(ended.count(way, "matched"), 4);
            assert_eq!(ended.count(way, "delayed"), 4);
            let line = format!("{line} --except 10.77.0.3 --except fd77::3");
            let faultctl = Faultctl::start(&lab.near, &line);
            for family in Family::ALL {
                one_way(&lab, sender, family.near(), family.far_other());
            }
            assert_eq!(faultctl.end().count(way, "matched"), 0);
        }
    }
}

#[test]
fn thousand_far_ends_have_a_thousand_delays() {
    let mut text = String::new();
    for n in 0..1000 {
        let (high, low) = (n / 250, n % 250);
        writeln!(text, "10.80.{high}.{low} {}us", 100_000 + n).expect("a string");
    }
    let file = File::new("thousand", &text);
    for engine in engines() {
        let lab = Lab::new();
        lab.near.ip("route add 10.80.0.0/16 dev eth0 scope link");
        for host in [(0, 0), (1, 249), (3, 249)] {
            let (high, low) = host;
            lab.far.ip(&format!("addr add 10.80.{high}.{low} dev eth1"));
            let mac = "02:00:00:00:00:02";
            lab.near.ip(&format!(
                "neigh add 10.80.{high}.{low} lladdr {mac} dev eth0"
            ));
        }
        let line = format!(
            "latency @{} --iface eth0 --engine {engine}",
            file.0.display()
        );
        let faultctl = Faultctl::start(&lab.near, &line);
        let mut asked = Duration::ZERO;
        for (high, low) in [(0, 0), (1, 249), (3, 249)] {
            let far = IpAddr::from([10, 80, high, low]);
            let took = one_way(&lab, Side::Near, Family::V4.near(), far);
            let n = u64::from(high) * 250 + u64::from(low);
            let wait = Duration::from_micros(100_000 + n);
            assert!(took + EARLY >= wait, "{far}: {took:?}");
            asked += wait;
        }
        let ended = faultctl.end();
        let mean = ended.stopped()["rules"][0]["mean_delay"]
            .as_f64()
            .expect("a mean");
        // What the kernel asked of the line is exact.
        assert!((mean - asked.as_secs_f64() / 3.0).abs() < 1e-6, "{mean}");
    }
}

#[test]
fn more_delays_than_there_is_room_for_are_refused() {
    let mut text = String::new();
    for n in 0..70_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        writeln!(text, "10.{a}.{b}.{c} {}us", n + 1).expect("a string");
    }
    let file = File::new("many", &text);
    let lab = Lab::new();
    let line = format!("latency @{} --iface eth0", file.0.display());
    let output = run(&lab.near, &fault_tests::faultctl::words(&line));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("error: too many delays"), "{stderr}");
    assert_eq!(lab.near.proc("dev").matches("fc-").count(), 0);
}
