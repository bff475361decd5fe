//! A link that carries the operator's own SSH connection.

use std::time::Duration;

use fault_tests::{
    Family, Lab,
    faultctl::binary,
    ssh::Server,
    wait::{SOON, until},
};
use serde_json::Value;

use super::{is_down, settled};

/// Long enough for what is not lost.
const AT_ONCE: Duration = Duration::from_millis(500);

fn shown(lab: &Lab) -> [String; 4] {
    [
        "link show",
        "addr show",
        "route show table all",
        "neigh show nud permanent",
    ]
    .map(|command| lab.near.ip_json(command))
}

fn text(event: &Value, key: &str) -> String {
    event[key].as_str().unwrap_or_default().to_owned()
}

#[test]
fn link_that_carries_it_is_refused_however_the_namespace_is_named() {
    let lab = Lab::new();
    lab.near
        .ip("link add other type veth peer name other1\nlink set other1 up\nlink set other up");
    settled(&lab);
    let server = Server::start(&lab.near);
    for family in Family::ALL {
        let mut session = server.session(&lab.far, "root", family.near());
        let before = shown(&lab);
        for mode in ["admin", "carrier"] {
            for place in [
                "--iface eth0",
                "--iface other --iface eth0 --netns /proc/$$/ns/net",
                "--iface eth0 --pid $$",
                "--pid $$",
            ] {
                session.type_line(&format!(
                    "{} down --mode {mode} {place} --json --for 1m; echo code $?",
                    binary().display()
                ));
                let error = session.event("error");
                let message = text(&error, "message");
                let start = format!(
                    "`eth0` carries the connection that you work through, SSH from {}",
                    match family {
                        Family::V4 => format!("{}:", family.far()),
                        Family::V6 => format!("[{}]:", family.far()),
                    }
                );
                assert!(message.starts_with(&start), "{message}");
                assert!(
                    text(&error, "hint").starts_with("`--include-ssh`"),
                    "{error}"
                );
                assert!(session.says("code 1", SOON));
                assert_eq!(shown(&lab), before);
            }
        }
        // Another link is nobody's way.
        session.type_line(&format!(
            "{} down --mode admin --iface other --json --for 500ms; echo code $?",
            binary().display()
        ));
        session.event("stopped");
        assert!(session.says("code 0", SOON));
    }
}

#[test]
fn with_include_ssh_it_goes_and_comes_back_with_the_session() {
    let lab = Lab::new();
    let server = Server::start(&lab.near);
    for family in Family::ALL {
        let mut session = server.session(&lab.far, "root", family.near());
        let before = shown(&lab);
        session.type_line(&format!(
            "{} down --mode admin --iface eth0 --include-ssh --json --for 4s &",
            binary().display()
        ));
        until("the link is down", SOON, || is_down(&lab).then_some(()));
        assert!(!session.answers("still here", AT_ONCE));
        // What was lost is sent again.
        session.event("started");
        assert!(session.event("stopped")["reason"] == "for");
        assert!(session.answers("back", SOON));
        assert_eq!(shown(&lab), before);
    }
}

#[test]
fn what_an_operator_who_is_cut_off_cannot_confirm_comes_back() {
    let lab = Lab::new();
    let server = Server::start(&lab.near);
    let mut session = server.session(&lab.far, "root", Family::V6.near());
    session.type_line(&format!(
        "{} down --mode admin --iface eth0 --include-ssh --json --confirm 2s --for 1h; echo code $?",
        binary().display()
    ));
    until("the link is down", SOON, || is_down(&lab).then_some(()));
    // The Enter that confirms it does not arrive in time.
    session.type_line("");
    session.event("started");
    assert_eq!(session.event("stopped")["reason"], "not confirmed");
    assert!(session.says("code 1", SOON));
    assert!(session.answers("back", SOON));
}
