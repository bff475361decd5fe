//! What Prometheus is told.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
};

use fault_tests::{
    Family, Faultctl, Lab, Namespace, Side,
    faultctl::{run, words},
    kernel::hooks,
    udp,
};

const ADDRESS: &str = "127.0.0.1:9909";

#[test]
fn metrics_are_the_counters_and_promtool_accepts_them() {
    for hook in hooks() {
        let lab = Lab::new();
        let faultctl = Faultctl::start(
            &lab.near,
            &format!("loss 25 --iface eth0 --direction both --attach {hook} --metrics {ADDRESS}"),
        );
        for sender in Side::ALL {
            udp::flow(&lab, Family::V6, sender, 1_000);
        }
        let text = scrape(&lab.near);
        let ended = faultctl.end();

        let rule = ended.stopped()["rules"][0]["rule"]
            .as_str()
            .expect("a name")
            .to_owned();
        for direction in ["egress", "ingress"] {
            for (metric, outcome, counter) in [
                ("faultctl_packets_total", "matched", "matched"),
                ("faultctl_packets_total", "dropped", "dropped"),
                ("faultctl_packets_total", "marked", "marked"),
                ("faultctl_bytes_total", "matched", "bytes"),
            ] {
                let labels = [
                    ("direction", direction),
                    ("iface", "eth0"),
                    ("outcome", outcome),
                    ("rule", &rule),
                ];
                let told = sample(&text, metric, &labels);
                let counted = ended.count(direction, counter).to_string();
                assert_eq!(
                    told.as_deref(),
                    Some(&*counted),
                    "{metric} {labels:?}\n{text}"
                );
            }
        }
        assert_eq!(ended.count("egress", "matched"), 1_000);

        let active = sample(
            &text,
            "faultctl_fault_active",
            &[("kind", "loss"), ("rule", &rule)],
        );
        assert_eq!(active.as_deref(), Some("1"), "{text}");
        let ratio = |kind| {
            sample(
                &text,
                "faultctl_rule_ratio",
                &[("kind", kind), ("rule", &rule)],
            )
            .and_then(|value| value.parse::<f64>().ok())
            .unwrap_or_else(|| panic!("no ratio {kind}\n{text}"))
        };
        assert!((ratio("asked") - 0.25).abs() < 1e-6, "{}", ratio("asked"));
        let dropped = ended.count("egress", "dropped") + ended.count("ingress", "dropped");
        let injected = f64::from(u32::try_from(dropped).expect("few")) / 2_000.0;
        assert!(
            (ratio("injected") - injected).abs() < 1e-9,
            "{}",
            ratio("injected")
        );
        assert!(
            text.contains("# TYPE faultctl_unparsed_frames_total counter"),
            "{text}"
        );
        promtool(&text);
    }
}

#[test]
fn port_that_is_taken_is_told_before_any_fault() {
    let lab = Lab::new();
    let taken = listener(&lab.near);
    let line = format!("loss 100 --iface eth0 --metrics {ADDRESS}");
    let output = run(&lab.near, &words(&line));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(ADDRESS), "{stderr}");
    assert_eq!(udp::flow(&lab, Family::V4, Side::Near, 20).lost(), 0);
    drop(taken);
}

fn listener(namespace: &Namespace) -> std::net::TcpListener {
    namespace.run(|| std::net::TcpListener::bind(ADDRESS).expect("a free port"))
}

/// The value of the sample with exactly these labels, in the order of their names.
fn sample(text: &str, metric: &str, labels: &[(&str, &str)]) -> Option<String> {
    let labels: Vec<_> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{value}\""))
        .collect();
    let start = format!("{metric}{{{}}} ", labels.join(","));
    text.lines()
        .find_map(|line| line.strip_prefix(&start))
        .map(str::to_owned)
}

fn scrape(namespace: &Namespace) -> String {
    let mut answer = String::new();
    namespace.run(|| {
        let mut stream = TcpStream::connect(ADDRESS).expect("it listens once it has started");
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {ADDRESS}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("to ask");
        stream.read_to_string(&mut answer).expect("to hear");
    });
    let (head, body) = answer.split_once("\r\n\r\n").expect("a header");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(!head.to_lowercase().contains("chunked"), "{head}");
    body.to_owned()
}

fn promtool(text: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, from Debian's package `prometheus`");
    let mut stdin = promtool.stdin.take().expect("piped");
    stdin.write_all(text.as_bytes()).expect("to write");
    drop(stdin);
    let output = promtool.wait_with_output().expect("it ends");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}\n{text}",
        String::from_utf8_lossy(&output.stderr)
    );
}
