//! Interfaces and namespaces that are not there, or not for long.

use fault_tests::{
    Family, Faultctl, Lab, Namespace, Side,
    faultctl::{Ended, command, output, run, words},
    kernel::hooks,
    programs, udp,
    wait::{SOON, until},
};

#[test]
fn unknown_interface_is_named_with_those_there_are() {
    let lab = Lab::new();
    for verb in ["loss 50", "partition", "down", "mark 1"] {
        let line = format!("{verb} --iface eth9");
        let output = run(&lab.near, &words(&line));
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.starts_with("error: no interface `eth9`\n"),
            "{stderr}"
        );
        assert!(
            stderr.contains("hint:") && stderr.contains("`eth0`"),
            "{stderr}"
        );
    }
}

#[test]
fn fault_ends_with_its_interface() {
    for hook in hooks() {
        let lab = Lab::new();
        let line = format!("loss 50 --iface eth0 --attach {hook}");
        let faultctl = Faultctl::start(&lab.near, &line);
        lab.near.ip("link del eth0");
        assert_gone(&faultctl.ended());
        until_no_program(&lab.near);
    }
}

#[test]
fn fault_ends_with_its_namespace() {
    for hook in hooks() {
        let outside = Namespace::new();
        let lab = Lab::new();
        let line = format!(
            "loss 50 --iface eth0 --attach {hook} --netns {}",
            lab.near.path().display()
        );
        let faultctl = Faultctl::start(&outside, &line);
        let stats = faultctl.event("stats");
        assert_eq!(stats["rules"][0]["iface"], "eth0", "it lives: {stats}");
        // Nobody but this test holds it, so this is its end.
        drop(lab);
        assert_gone(&faultctl.ended());
    }
}

#[test]
fn fault_in_another_namespace_ends_with_the_process() {
    for hook in hooks() {
        let outside = Namespace::new();
        let lab = Lab::new();
        let before = programs::hooks(&lab);
        let line = format!(
            "loss 100 --iface eth0 --attach {hook} --netns {}",
            lab.near.path().display()
        );
        let faultctl = Faultctl::start(&outside, &line);
        assert_eq!(udp::flow(&lab, Family::V6, Side::Near, 50).lost(), 50);
        let ended = faultctl.end();
        assert_eq!((ended.code, ended.count("egress", "dropped")), (0, 50));
        assert_eq!(udp::flow(&lab, Family::V6, Side::Near, 50).lost(), 0);
        assert_eq!(programs::hooks(&lab), before);
        until_no_program(&lab.near);
    }
}

#[test]
fn namespace_may_be_named_as_ip_netns_knows_it() {
    let outside = Namespace::new();
    for hook in hooks() {
        // In a mount namespace of its own, so that the name goes with the shell.
        let script = format!(
            "mount -t tmpfs none /run && ip netns add blue && ip -n blue link set lo up && \
             {} loss 50 --json --iface lo --attach {hook} --netns blue --for 1500ms && \
             ! ip netns exec blue tc qdisc show | grep clsact >&2",
            fault_tests::faultctl::binary().display()
        );
        let mut shell = outside.command("unshare");
        shell.args(["--mount", "sh", "-c", &script]);
        let ended = Faultctl::spawn(&mut shell).ended();
        assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
    }

    let output = run(
        &outside,
        &words("loss 50 --iface lo --netns no-such-namespace"),
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("no-such-namespace"), "{stderr}");
}

#[test]
fn fault_goes_on_when_its_interface_is_renamed_or_down_and_up() {
    for hook in hooks() {
        let mut lab = Lab::new();
        let before = programs::hooks(&lab);
        let line = format!("loss 100 --iface eth0 --direction both --attach {hook}");
        let faultctl = Faultctl::start(&lab.near, &line);
        let lost =
            |lab: &Lab| Side::ALL.map(|sender| udp::flow(lab, Family::V4, sender, 20).lost());
        assert_eq!(lost(&lab), [20; 2]);

        lab.near.ip("link set eth0 down");
        lab.near.ip("link set eth0 up");
        lab.neighbours();
        assert_eq!(lost(&lab), [20; 2], "down and up");

        lab.near.ip("link set eth0 down");
        lab.near.ip("link set eth0 name eth7 up");
        "eth7".clone_into(&mut lab.iface);
        lab.neighbours();
        assert_eq!(lost(&lab), [20; 2], "renamed");

        let ended = faultctl.end();
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.count("egress", "dropped") >= 60, "{ended:?}");
        assert_eq!(lost(&lab), [0; 2]);
        assert_eq!(
            programs::hooks(&lab).replace("eth7", "eth0"),
            before,
            "{hook}"
        );
        until_no_program(&lab.near);
    }
}

#[test]
fn fault_goes_on_without_one_of_its_interfaces() {
    for hook in hooks() {
        let lab = Lab::new();
        lab.near.ip("link add gone type veth peer name gone1");
        let line = format!("loss 100 --iface eth0 --iface gone --attach {hook}");
        let mut faultctl = Faultctl::start(&lab.near, &line);
        lab.near.ip("link del gone");
        let note = faultctl.event("note");
        assert!(
            note["message"]
                .as_str()
                .is_some_and(|text| text.contains("`gone`")),
            "{note}"
        );
        assert!(faultctl.is_running());
        assert_eq!(udp::flow(&lab, Family::V4, Side::Near, 20).lost(), 20);
        let ended = faultctl.end();
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(ended.count("egress", "dropped"), 20);
    }
}

#[test]
fn one_interface_that_is_not_there_means_no_fault_at_all() {
    for hook in hooks() {
        let lab = Lab::new();
        let before = programs::hooks(&lab);
        let line = format!("loss 100 --iface eth0 --iface eth9 --attach {hook}");
        let output = output(&mut command(&lab.near, &words(&line)));
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(udp::flow(&lab, Family::V4, Side::Near, 20).lost(), 0);
        assert_eq!(programs::hooks(&lab), before);
    }
}

#[track_caller]
fn assert_gone(ended: &Ended) {
    assert_eq!(ended.code, 1, "{ended:?}");
    assert_eq!(ended.stopped()["reason"], "interface gone");
    assert!(ended.stderr.contains("`eth0`"), "{ended:?}");
}

#[track_caller]
fn until_no_program(namespace: &Namespace) {
    until("no program is left", SOON, || {
        programs::of(namespace).is_empty().then_some(())
    });
}
