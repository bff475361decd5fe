//! The operator's own SSH connection.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use fault_tests::{
    Family, Lab, Side,
    faultctl::{binary, output, run},
    kernel::hooks,
    ssh::{PORT, Server, Session, USER, connects},
    wait::{SOON, until},
};

use fault_user::{
    control_path::{Connection, carried_by},
    interface::Interface,
    namespace::Namespace,
};
use serde_json::{Value, json};

/// Long enough for what is not lost.
const AT_ONCE: Duration = Duration::from_millis(500);
/// Long enough on a loaded machine, and shorter than TCP's way back from a lost neighbour.
const WHILE: Duration = Duration::from_secs(5);

fn faultctl(line: &str) -> String {
    format!("{} {line}", binary().display())
}

/// Checks that a session goes on while everything else between the two ends is lost.
#[track_caller]
fn assert_spared(lab: &Lab, family: Family, session: &mut Session, started: &Value) {
    let spared = started["spared"].as_array().expect("a list");
    assert_eq!(spared.len(), 1, "{started}");
    let text = |end: &str| spared[0][end].as_str().expect("an address").to_owned();
    let local = SocketAddr::new(family.near(), PORT);
    assert_eq!(text("local"), local.to_string());
    let peer: SocketAddr = text("peer").parse().expect("an address");
    assert_eq!(peer.ip(), family.far());
    assert!(session.answers("still here", SOON));
    assert!(!connects(&lab.far, &lab.near, family.near(), AT_ONCE));
    assert!(!connects(&lab.near, &lab.far, family.far(), AT_ONCE));
    // Another connection to the very same server.
    let second = lab
        .far
        .run(|| std::net::TcpStream::connect_timeout(&local, AT_ONCE));
    assert!(second.is_err());
    assert!(session.answers("and still here", SOON));
}

#[test]
fn session_goes_on_through_a_fault_that_takes_everything_else() {
    for hook in hooks() {
        let lab = Lab::new();
        let server = Server::start(&lab.near);
        for family in Family::ALL {
            for fault in ["loss 100 --direction both", "down", "partition --proto tcp"] {
                let mut session = server.session(&lab.far, "root", family.near());
                session.type_line(&faultctl(&format!(
                    "{fault} --iface eth0 --attach {hook} --json --for 1m & pid=$!"
                )));
                let started = session.event("started");
                assert_spared(&lab, family, &mut session, &started);
                session.type_line("kill -INT $pid");
                session.event("stopped");
                assert!(connects(&lab.far, &lab.near, family.near(), SOON));
            }
        }
    }
}

#[test]
fn detached_fault_spares_the_session_and_outlives_it() {
    let lab = Lab::with_iface(&format!("ds{}", std::process::id()));
    let server = Server::start(&lab.near);
    let iface = &lab.iface;
    for family in Family::ALL {
        let mut session = server.session(&lab.far, "root", family.near());
        let line = format!("down --iface {iface} --json --detach --for 10m");
        session.type_line(&faultctl(&line));
        let started = session.event("started");
        assert_spared(&lab, family, &mut session, &started);
        session.type_line("exec echo ended");
        assert!(session.says("ended", SOON));
        drop(session);
        assert!(!connects(&lab.far, &lab.near, family.near(), AT_ONCE));
        let cleared = run(&lab.near, &["clear", "--iface", iface]);
        assert!(cleared.status.success(), "{cleared:?}");
        assert!(connects(&lab.far, &lab.near, family.near(), SOON));
    }
}

#[test]
fn neighbours_are_not_forgotten_under_a_spared_session() {
    let lab = Lab::resolving();
    for side in Side::ALL {
        for family in ["ipv4", "ipv6"] {
            for (key, value) in [
                ("base_reachable_time_ms", "500"),
                ("retrans_time_ms", "200"),
                ("delay_first_probe_time", "1"),
            ] {
                let key = format!("{family}/neigh/{}/{key}", lab.dev(side));
                lab.namespace(side).set(&key, value);
            }
        }
    }
    let server = Server::start(&lab.near);
    for family in Family::ALL {
        let mut session = server.session(&lab.far, "root", family.near());
        session.type_line(&faultctl("down --iface eth0 --json --for 1m & pid=$!"));
        session.event("started");
        // To one side only: TCP confirms a neighbour to the side whose data is
        // acknowledged.
        session.type_line("while sleep 0.1; do echo tick; done & ticking=$!");
        // Without address resolution, a neighbour is lost after 2.6 seconds at most: 0.75
        // until it is doubted, 1 in doubt, and 3 questions.
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            assert!(session.says("tick", WHILE), "{:?}", start.elapsed());
        }
        session.type_line("kill -INT $pid; kill $ticking");
        session.event("stopped");
    }
}

#[test]
fn sudo_hides_nothing() {
    let lab = Lab::new();
    let server = Server::start(&lab.near);
    let family = Family::V4;
    let mut session = server.session(&lab.far, USER, family.near());
    // Without a trace of SSH in the environment, and through a shell more.
    let line = faultctl("down --iface eth0 --json --for 1m");
    session.type_line(&format!("sudo env -i sh -c '{line}; true' &"));
    let started = session.event("started");
    assert_spared(&lab, family, &mut session, &started);
    session.type_line(&format!("sudo kill -INT {}", started["pid"]));
    session.event("stopped");
}

#[test]
fn server_that_cannot_be_looked_at_is_an_error() {
    let lab = Lab::new();
    let server = Server::start(&lab.near);
    let mut session = server.session(&lab.far, "root", Family::V4.near());
    let with_few = "setpriv --inh-caps=-all --bounding-set=-all,+net_admin,+bpf,+perfmon";
    let line = faultctl("mark 1 --iface eth0 --json --for 100ms");
    session.type_line(&format!("{with_few} {line}; echo code $?"));
    let error = session.event("error");
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    assert!(text("message").contains("SSH server with pid"), "{error}");
    assert!(text("hint").contains("--include-ssh"), "{error}");
    assert!(session.says("code 1", SOON));
    session.type_line(&format!("{with_few} {line} --include-ssh"));
    session.event("stopped");
}

#[test]
fn with_include_ssh_the_session_stands_still() {
    let lab = Lab::new();
    let server = Server::start(&lab.near);
    for family in Family::ALL {
        let mut session = server.session(&lab.far, "root", family.near());
        let line = faultctl("loss 100 --iface eth0 --direction ingress --json --for 4s");
        session.type_line(&format!("{line} --include-ssh &"));
        let started = session.event("started");
        assert_eq!(started["spared"], json!([]));
        assert!(!session.answers("still here", AT_ONCE));
        // It was lost and is sent again.
        session.event("stopped");
        assert!(session.answers("back", SOON));
    }
}

#[test]
fn forwarded_connections_are_hit() {
    let lab = Lab::new();
    let server = Server::start(&lab.near);
    let family = Family::V4;
    let mut ssh = server.ssh(&lab.far, "root", family.near());
    // From the far end's loopback through the server back to the far end.
    ssh.args(["-L", &format!("127.0.0.1:2400:{}:2500", family.far())]);
    let mut session = Session::start(ssh.arg("exec sh"));
    assert!(session.answers("ready", SOON));
    let (listener, _stream) = lab.far.run(|| {
        let listener = std::net::TcpListener::bind((family.far(), 2500)).expect("a free port");
        let stream = until("the forwarding listens", SOON, || {
            std::net::TcpStream::connect("127.0.0.1:2400").ok()
        });
        (listener, stream)
    });
    let _forwarded = listener.accept().expect("the server connects");
    session.type_line(&faultctl("down --iface eth0 --json --for 1m &"));
    let started = session.event("started");
    assert_spared(&lab, family, &mut session, &started);
}

#[test]
fn clients_of_a_tmux_are_spared() {
    let lab = Lab::new();
    let server = Server::start(&lab.near);
    let family = Family::V6;
    let path = |name: &str| server.directory().join(name).display().to_string();
    let tmux = format!("tmux -f /dev/null -S {}", path("tmux"));
    let mut ssh = server.ssh(&lab.far, "root", family.near());
    let mut terminal = Session::start(ssh.args(["-tt", &format!("TERM=xterm {tmux} new sh")]));
    // What is typed too early, the terminal keeps.
    terminal.type_line(&format!(
        "{} > {} &",
        faultctl("down --iface eth0 --json --for 1m"),
        path("events")
    ));
    let started = until("the fault is in force", SOON, || {
        let events = fs::read_to_string(path("events")).ok()?;
        serde_json::from_str::<Value>(events.lines().next()?).ok()
    });
    let spared = started["spared"].as_array().expect("a list");
    assert_eq!(spared.len(), 1, "{started}");
    terminal.type_line(&format!("echo here > {}", path("answer")));
    until("the terminal goes on", SOON, || {
        fs::read_to_string(path("answer"))
            .is_ok_and(|answer| answer == "here\n")
            .then_some(())
    });
    assert!(!connects(&lab.far, &lab.near, family.near(), AT_ONCE));
    let ended = output(
        lab.near
            .command("tmux")
            .args(["-S", &path("tmux"), "kill-server"]),
    );
    assert!(ended.status.success(), "{ended:?}");
}

#[test]
fn connection_is_carried_by_its_interface_and_what_that_is_built_on() {
    let lab = Lab::new();
    let lines = [
        "link add member type veth peer name other",
        "link add br0 type bridge",
        "link set member master br0",
        "link add upper link br0 type macvlan",
        "link set br0 up",
        "link set upper up",
        "addr add 10.78.0.1/24 dev upper",
        "addr add fd78::1/64 dev upper nodad",
        "route add 192.0.2.0/24 via 10.77.0.2",
    ];
    lab.near.ip(&lines.join("\n"));
    let namespace = Namespace::named(&lab.near.path());
    let names = ["lo", "eth0", "upper", "br0", "member", "other"].map(String::from);
    let interfaces = namespace
        .run(|| Interface::find(&names))
        .expect("all are there");
    let carrying = |local: &str, peer: &str| {
        let connection = Connection {
            local: local.parse().expect("an address"),
            peer: peer.parse().expect("an address"),
        };
        let carries = |interface: &&Interface| {
            namespace
                .run(|| carried_by(interface.index, &[connection]))
                .expect("routes")
        };
        let carrying = interfaces.iter().filter(carries);
        carrying.map(|it| it.name.clone()).collect::<Vec<_>>()
    };
    for (local, peer) in [
        ("10.77.0.1:22", "10.77.0.2:1"),
        ("[fd77::1]:22", "[fd77::2]:1"),
    ] {
        assert_eq!(carrying(local, peer), ["eth0"]);
    }
    for (local, peer) in [
        ("10.78.0.1:22", "10.78.0.2:1"),
        ("[fd78::1]:22", "[fd78::2]:1"),
    ] {
        assert_eq!(carrying(local, peer), ["upper", "br0", "member", "other"]);
    }
    // Routed by one, with the address of another.
    assert_eq!(
        carrying("10.78.0.1:22", "192.0.2.9:1"),
        ["eth0", "upper", "br0", "member", "other"]
    );
    assert_eq!(carrying("127.0.0.1:22", "127.0.0.1:1"), ["lo"]);
    // No way there any more.
    assert_eq!(carrying("10.77.0.1:22", "198.51.100.1:1"), ["eth0"]);
}
