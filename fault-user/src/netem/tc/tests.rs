use super::*;

fn parsed(command: &str) -> Result<Command, TcError> {
    let words: Vec<_> = command.split_whitespace().collect();
    parse(&words)
}

/// The place and netem's words, as a command of tc again.
fn shown(command: &str) -> Option<String> {
    let place = |place: &Place| {
        let handle = place.handle.map(|handle| format!(" handle {handle}"));
        let parent = place.parent.map(|parent| format!(" {parent}"));
        let [handle, parent] = [handle, parent].map(Option::unwrap_or_default);
        format!("{}{parent}{handle}", place.device)
    };
    Some(match parsed(command).ok()? {
        Command::Set {
            verb,
            place: at,
            netem,
        } => format!("{verb:?} {}: {netem}", place(&at)),
        Command::Delete(at) => format!("Delete {}", place(&at)),
        Command::Show {
            device,
            parent,
            handle,
        } => format!("Show {device:?} {parent:?} {handle:?}"),
    })
}

/// Each of them does the same in tc of iproute2 6.1 on Linux 6.12.
#[test]
fn commands_are_read_as_tc_reads_them() {
    for (command, expected) in [
        (
            "qdisc add dev d0 root netem loss 50%",
            "Add d0 root: limit 1000 loss 50%",
        ),
        (
            "qdisc add dev d0 root netem delay 1000ms",
            "Add d0 root: limit 1000 delay 1s",
        ),
        ("qdisc add dev d0 root netem", "Add d0 root: limit 1000"),
        (
            "q a dev d0 root handle 1: netem delay 1000ms",
            "Add d0 root handle 1:: limit 1000 delay 1s",
        ),
        (
            "qd add root dev d0 netem delay 1ms",
            "Add d0 root: limit 1000 delay 1ms",
        ),
        (
            "qdisc add dev d0 parent root netem delay 1ms",
            "Add d0 root: limit 1000 delay 1ms",
        ),
        (
            "qdisc add dev d0 parent 1:3 handle 30: netem delay 1ms",
            "Add d0 parent 1:3 handle 30:: limit 1000 delay 1ms",
        ),
        (
            "qdisc add dev d0 root handle none netem delay 1ms",
            "Add d0 root: limit 1000 delay 1ms",
        ),
        (
            "qdisc change dev d0 root netem delay 5ms",
            "Change d0 root: limit 1000 delay 5ms",
        ),
        (
            "qdisc chan dev d0 root netem loss 1%",
            "Change d0 root: limit 1000 loss 1%",
        ),
        (
            "qdisc change dev d0 handle 1: netem delay 6ms",
            "Change d0 handle 1:: limit 1000 delay 6ms",
        ),
        (
            "qdisc replace dev d0 root netem loss 1%",
            "Replace d0 root: limit 1000 loss 1%",
        ),
        (
            "qdisc r dev d0 root netem loss 1%",
            "Replace d0 root: limit 1000 loss 1%",
        ),
        ("qdisc del dev d0 root", "Delete d0 root"),
        ("qdisc d dev d0 root netem", "Delete d0 root"),
        (
            "qdisc delete dev d0 root netem delay 100ms",
            "Delete d0 root",
        ),
        (
            "qdisc del dev d0 root handle 1:",
            "Delete d0 root handle 1:",
        ),
        ("qdisc", "Show None None None"),
        ("qdisc show", "Show None None None"),
        ("qdisc s dev d0", "Show Some(\"d0\") None None"),
        ("qdisc ls dev d0", "Show Some(\"d0\") None None"),
        ("qdisc lis dev d0", "Show Some(\"d0\") None None"),
        (
            "qdisc show dev d0 root",
            "Show Some(\"d0\") Some(Root) None",
        ),
        (
            "qdisc sh dev d0 handle 1:",
            "Show Some(\"d0\") None Some(Handle(1))",
        ),
        ("qdisc sh dev d0 invisible", "Show Some(\"d0\") None None"),
    ] {
        assert_eq!(shown(command).as_deref(), Some(expected), "{command}");
    }
}

const EXAMPLE: &str = "as in `faultctl tc qdisc add dev eth0 root netem loss 50%`";

/// The command, the message and the hint. tc refuses all of them too, but for those that
/// are not netem's.
const REFUSALS: &[(&str, &str, &str)] = &[
    ("", "`tc` ends without a command", EXAMPLE),
    ("qdisc add dev d0 root", "no qdisc is named", EXAMPLE),
    (
        "qdisc add root netem delay 1ms",
        "no interface is named",
        EXAMPLE,
    ),
    ("qdisc del root", "no interface is named", EXAMPLE),
    (
        "-s qdisc show dev d0",
        "`-s` is an option of tc, and faultctl reads only its commands",
        "leave out `-s`; `faultctl status` shows counters",
    ),
    (
        "-n red qdisc show",
        "`-n` is an option of tc, and faultctl reads only its commands",
        "`ip netns exec NAME faultctl tc` does it in another namespace",
    ),
    (
        "qdisc l dev d0",
        "`l` is no command for a netem qdisc",
        "the commands are `add`, `change`, `replace`, `del` and `show`",
    ),
    (
        "qdisc foo dev d0",
        "`foo` is no command for a netem qdisc",
        "the commands are `add`, `change`, `replace`, `del` and `show`",
    ),
    (
        "class show dev d0",
        "`class` is not netem, and faultctl takes nothing else from tc",
        "type it without `faultctl` in front: `tc class show dev d0`",
    ),
    (
        "qdisc replace dev d0 root fq limit 5",
        "`fq` is not netem, and faultctl takes nothing else from tc",
        "type it without `faultctl` in front: `tc qdisc replace dev d0 root fq limit 5`",
    ),
    (
        "qdisc del dev d0 root tbf",
        "`tbf` is not netem, and faultctl takes nothing else from tc",
        "type it without `faultctl` in front: `tc qdisc del dev d0 root tbf`",
    ),
    (
        "qdisc add dev d0 ingress",
        "`ingress` is no place for netem: tc delays only what leaves",
        "`faultctl netem 'delay 100ms' --iface d0 --direction ingress` takes what comes in; \
             the qdisc itself is `tc qdisc add dev d0 ingress`",
    ),
    (
        "qdisc add dev d0 ro netem delay 1ms",
        "`ro` is not `root`: tc takes that word in full only",
        "write `root`",
    ),
    (
        "qdisc add dev d0 root nete delay 1ms",
        "`nete` is not `netem`: tc takes that word in full only",
        "write `netem`",
    ),
    (
        "qdisc add dev",
        "`dev` ends without the name of an interface",
        "`ip link` shows their names",
    ),
    (
        "qdisc add dev d0 root handle",
        "`handle` ends without a number and a colon",
        "a handle is a number in hexadecimal and a colon, from `1:` to `ffff:`",
    ),
    (
        "qdisc add dev d0 root handle 10000: netem delay 1ms",
        "`10000:` after `handle` is not the handle of a qdisc",
        "a handle is a number in hexadecimal and a colon, from `1:` to `ffff:`",
    ),
    (
        "qdisc add dev d0 parent eth0 netem delay 1ms",
        "`eth0` after `parent` is not the id of a class",
        "a class is two numbers in hexadecimal with a colon between them, as in `1:3`",
    ),
    (
        "qdisc add dev d0 root handle 1: handle 2: netem delay 1ms",
        "`handle` is there twice, or beside another of its kind",
        "leave out one `handle`",
    ),
    (
        "qdisc add dev d0 root parent 1:1 netem delay 1ms",
        "`parent` is there twice, or beside another of its kind",
        "leave out one `parent`",
    ),
    (
        "qdisc add dev d0 netem delay 1ms",
        "neither `root` nor `parent` says where the qdisc is",
        "write `root` after the name of the interface",
    ),
    (
        "qdisc del dev d0 handle 1:",
        "neither `root` nor `parent` says where the qdisc is",
        "write `root` after the name of the interface",
    ),
    (
        "qdisc show dev d0 netem",
        "`show` does not take `netem`",
        "as in `faultctl tc qdisc show dev eth0`",
    ),
    (
        "qdisc show d0",
        "`show` does not take `d0`",
        "as in `faultctl tc qdisc show dev eth0`",
    ),
    (
        "qdisc add root netem delay 1ms dev d0",
        "`dev` is no word of netem",
        "write `dev` before `netem`",
    ),
    (
        "qdisc add dev d0 root netem delay",
        "`delay` ends without a time from 0 to 274 s",
        "times have a unit (s, ms, us, ns), as in `100ms`; a bare number is microseconds",
    ),
];

#[test]
fn refusals_say_what_to_type() {
    for (command, message, hint) in REFUSALS {
        let error = parsed(command).expect_err("a refusal");
        assert_eq!(error.to_string(), *message, "{command}");
        assert_eq!(error.hint(), *hint, "{command}");
    }
}
