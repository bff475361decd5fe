//! Network namespaces by a process or a container.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Output},
};

use fault_tests::{
    Family, Faultctl, Lab, Namespace, Side,
    faultctl::{run, words},
    kernel::hooks,
    programs, udp,
    wait::{SOON, until},
};

/// A process that does nothing, killed when dropped.
struct Idle(Child);

impl Idle {
    fn inside(namespace: &Namespace) -> Self {
        let child = namespace.command("sleep").arg("1000").spawn();
        Self(child.expect("sleep runs"))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A control group with a container's id in its name; gone when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/mounts").expect("the mounts");
        let root = mounts
            .lines()
            .find_map(|line| {
                let mut fields = line.split(' ').skip(1);
                let (path, kind) = (fields.next()?, fields.next()?);
                (kind == "cgroup2").then_some(path)
            })
            .expect("cgroup2 is mounted");
        let path = PathBuf::from(root).join(name);
        fs::create_dir(&path).expect("root makes cgroups");
        Self(path)
    }

    fn take(&self, idle: &Idle) {
        fs::write(self.0.join("cgroup.procs"), idle.pid().to_string()).expect("to move it");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Until the last process has left it.
        until("the cgroup is empty", SOON, || fs::remove_dir(&self.0).ok());
    }
}

/// Sixty-four digits of its own, but for the first.
fn id(first: &str) -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!(
        "{first}{:0>1$x}",
        u64::from(std::process::id()) << 16 | u64::from(number),
        64 - first.len()
    )
}

#[track_caller]
fn lost(lab: &Lab) -> bool {
    match udp::flow(lab, Family::V6, Side::Near, 20).lost() {
        0 => false,
        20 => true,
        some => panic!("{some} of 20 lost"),
    }
}

#[track_caller]
fn assert_fails(output: &Output, message: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with(&format!("error: {message}")), "{stderr}");
    assert!(stderr.contains("\nhint: "), "{stderr}");
}

/// Interfaces of a fault.
fn interfaces(faultctl: &Faultctl) -> Vec<&str> {
    let rules = faultctl.started["rules"].as_array().expect("rules");
    rules
        .iter()
        .filter_map(|rule| rule["iface"].as_str())
        .collect()
}

#[test]
fn fault_goes_where_a_process_is_and_stays_when_that_ends() {
    for hook in hooks() {
        let lab = Lab::new();
        lab.near.ip("link add other type veth peer name third");
        let before = programs::hooks(&lab);
        let elsewhere = Namespace::new();
        let idle = Idle::inside(&lab.near);
        let neighbour = Idle::inside(&lab.near);
        let line = format!("loss 100 --attach {hook} --pid {}", idle.pid());
        let faultctl = Faultctl::start(&elsewhere, &line);
        let mut all = interfaces(&faultctl);
        all.sort_unstable();
        assert_eq!(all, ["eth0", "other", "third"]);
        assert!(lost(&lab));
        drop(idle);
        assert!(lost(&lab));
        assert_eq!(faultctl.end().code, 0);
        assert!(!lost(&lab));
        assert_eq!(programs::hooks(&lab), before);
        let line = format!("loss 100 --pid {} --iface eth0", neighbour.pid());
        let faultctl = Faultctl::start(&elsewhere, &line);
        assert_eq!(interfaces(&faultctl), ["eth0"]);
    }
}

#[test]
fn process_that_is_not_there_is_an_error() {
    let namespace = Namespace::new();
    let idle = Idle::inside(&namespace);
    let pid = idle.pid();
    let output = run(&namespace, &words(&format!("down --pid {pid}")));
    assert_fails(&output, "no interface but `lo`");
    drop(idle);
    let output = run(&namespace, &words(&format!("down --pid {pid}")));
    assert_fails(&output, &format!("no process {pid}"));
}

#[test]
fn container_is_found_by_its_cgroup() {
    for name in ["docker-ID.scope", "crio-ID", "ID"] {
        let lab = Lab::new();
        let elsewhere = Namespace::new();
        let id = id("0123456789abcdef");
        let cgroup = Cgroup::new(&name.replace("ID", &id));
        let watcher = Cgroup::new(&format!("libpod-conmon-{id}.scope"));
        // What watches it was there before, and what it started went elsewhere.
        let conmon = Idle::inside(&elsewhere);
        watcher.take(&conmon);
        let first = Idle::inside(&lab.near);
        cgroup.take(&first);
        until("the next clock tick", SOON, || {
            let start = |idle: &Idle| fault_user::process::start_ticks(idle.pid());
            let later = Idle::inside(&elsewhere);
            (start(&later) > start(&first)).then_some(())
        });
        let later = Idle::inside(&elsewhere);
        cgroup.take(&later);
        for digits in [64, 50] {
            let line = format!("loss 100 --container {}", &id[..digits]);
            let faultctl = Faultctl::start(&elsewhere, &line);
            assert_eq!(interfaces(&faultctl), ["eth0"]);
            assert!(lost(&lab), "{name}");
            faultctl.end();
            assert!(!lost(&lab));
        }
        drop((conmon, first, later));
        let output = run(&elsewhere, &words(&format!("down --container {id}")));
        assert_fails(&output, &format!("no container `{id}`"));
    }
}

#[test]
fn id_of_two_containers_is_refused_with_both() {
    let lab = Lab::new();
    let ids = ["fedcba987654", "fedcba987654"].map(id);
    let cgroups = ids
        .each_ref()
        .map(|id| Cgroup::new(&format!("docker-{id}.scope")));
    let idle = [(); 2].map(|()| Idle::inside(&lab.near));
    for (cgroup, idle) in cgroups.iter().zip(&idle) {
        cgroup.take(idle);
    }
    let output = run(&lab.near, &words("down --container fedcba987654"));
    assert_fails(&output, "`fedcba987654` begins the ids of 2 containers");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(ids.iter().all(|id| stderr.contains(id)), "{stderr}");
    drop(idle);
}
