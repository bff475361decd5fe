//! Counters for Prometheus. The one place that names metrics; docs/metrics.md says
//! what they mean.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{Html, IntoResponse as _, Response},
    routing::get,
};
use fault_common::layout::Fault;
use prometheus::{
    CounterVec, Encoder as _, GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::{Error, error::KernelError, snapshot::Snapshot};

mod delays;

use delays::InjectedDelay;

/// Takes the address, before any fault is in force.
pub fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|source| Error::Metrics { address, source })
}

/// Serves `/metrics` until the process ends; counters are read at each scrape.
pub async fn serve(
    listener: TcpListener,
    source: impl Fn() -> Result<Snapshot, KernelError> + Clone + Send + Sync + 'static,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = Router::new()
        .route("/metrics", get(async move || scrape(&source())))
        .route(
            "/",
            get(async || Html("<a href=\"/metrics\">faultctl metrics</a>")),
        );
    axum::serve(listener, router).await
}

fn scrape(snapshot: &Result<Snapshot, KernelError>) -> Response {
    let text = match snapshot {
        Ok(snapshot) => render(snapshot).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match text {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error).into_response(),
    }
}

/// The text format, version 0.0.4.
pub fn render(snapshot: &Snapshot) -> Result<String, prometheus::Error> {
    let registry = Registry::new();
    fill(&registry, snapshot)?;
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn fill(registry: &Registry, snapshot: &Snapshot) -> Result<(), prometheus::Error> {
    let packets = IntCounterVec::new(
        Opts::new(
            "faultctl_packets_total",
            "Wire packets that a rule matched, lost, delayed, sent twice or marked",
        ),
        &["iface", "direction", "rule", "outcome"],
    )?;
    let bytes = IntCounterVec::new(
        Opts::new(
            "faultctl_bytes_total",
            "Bytes of the frames that a rule matched or lost",
        ),
        &["iface", "direction", "rule", "outcome"],
    )?;
    let active = IntGaugeVec::new(
        Opts::new("faultctl_fault_active", "1 while the fault is in force"),
        &["rule", "kind"],
    )?;
    let ratio = GaugeVec::new(
        Opts::new(
            "faultctl_rule_ratio",
            "Share of packets that the rule is to lose, and that it did something to",
        ),
        &["rule", "kind"],
    )?;
    let unparsed = IntCounterVec::new(
        Opts::new(
            "faultctl_unparsed_frames_total",
            "Frames that are not IP, or whose headers could not be read to their end",
        ),
        &["iface", "reason"],
    )?;
    let lapsed = CounterVec::new(
        Opts::new(
            "faultctl_lease_lapsed_seconds_total",
            "Time without force because the controller did not get to run",
        ),
        &[],
    )?;
    fill_lines(registry, snapshot)?;
    for collector in [&packets, &bytes, &unparsed] {
        registry.register(Box::new(collector.clone()))?;
    }
    registry.register(Box::new(active.clone()))?;
    registry.register(Box::new(ratio.clone()))?;
    registry.register(Box::new(lapsed.clone()))?;

    for count in &snapshot.counts {
        let labels = |outcome| [&*count.iface, count.direction.name(), &*count.rule, outcome];
        let counters = &count.counters;
        for (outcome, n) in [
            ("matched", counters.matched_packets),
            ("dropped", counters.dropped_packets),
            ("delayed", counters.delayed_packets),
            ("duplicated", counters.duplicated_packets),
            ("marked", counters.marked_packets),
        ] {
            packets.with_label_values(&labels(outcome)).inc_by(n);
        }
        for (outcome, n) in [
            ("matched", counters.matched_bytes),
            ("dropped", counters.dropped_bytes),
        ] {
            bytes.with_label_values(&labels(outcome)).inc_by(n);
        }
        active
            .with_label_values(&[&*count.rule, count.fault.name()])
            .set(1);
        if let Some(asked) = count.probability {
            ratio.with_label_values(&[&*count.rule, "asked"]).set(asked);
        }
        if let Some(injected) = injected(snapshot, &count.rule) {
            ratio
                .with_label_values(&[&*count.rule, "injected"])
                .set(injected);
        }
    }
    if !snapshot.links.is_empty() {
        let down = Fault::Down.name();
        active.with_label_values(&[down, down]).set(1);
    }
    for (iface, reason, n) in &snapshot.unparsed {
        unparsed
            .with_label_values(&[&**iface, reason.name()])
            .inc_by(*n);
    }
    lapsed
        .with_label_values::<&str>(&[])
        .inc_by(snapshot.lapsed.as_secs_f64());
    Ok(())
}

/// What delay lines did.
fn fill_lines(registry: &Registry, snapshot: &Snapshot) -> Result<(), prometheus::Error> {
    let line = IntCounterVec::new(
        Opts::new(
            "faultctl_line_frames_total",
            "Frames that the delay line held, sent on or lost, or could not hold",
        ),
        &["iface", "direction", "outcome"],
    )?;
    registry.register(Box::new(line.clone()))?;
    if let Some(delays) = InjectedDelay::of(snapshot)? {
        registry.register(Box::new(delays))?;
    }
    for count in &snapshot.lines {
        for (outcome, n) in [
            ("held", count.stats.held),
            ("sent", count.stats.sent),
            ("dropped", count.stats.dropped),
            ("missed", count.missed),
        ] {
            line.with_label_values(&[&*count.iface, count.direction.name(), outcome])
                .inc_by(n);
        }
    }
    Ok(())
}

/// Over all interfaces and directions.
#[expect(clippy::cast_precision_loss, reason = "counters below 2^53 are exact")]
fn injected(snapshot: &Snapshot, rule: &str) -> Option<f64> {
    let (mut touched, mut matched) = (0, 0);
    for count in snapshot.counts.iter().filter(|count| count.rule == rule) {
        matched += count.counters.matched_packets;
        touched += count.touched();
    }
    (matched > 0).then(|| touched as f64 / matched as f64)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use fault_common::{
        layout::{Counters, Delays, Direction},
        packet::Reason,
    };

    use super::*;
    use crate::{
        line::Stats,
        snapshot::{LineCount, RuleCount},
    };

    /// What is known of a metric: its type, its labels, and their values but for
    /// `iface`, whose values are not ours.
    #[derive(Debug, Default, PartialEq)]
    struct Metric {
        kind: String,
        labels: BTreeSet<String>,
        values: BTreeSet<String>,
    }

    /// Every fault in both directions, each having seen `packets`.
    fn snapshot(packets: u64) -> Snapshot {
        let counters = Counters {
            matched_packets: packets,
            matched_bytes: packets,
            dropped_packets: packets,
            dropped_bytes: packets,
            marked_packets: packets,
            delayed_packets: packets,
            delayed_ns: 1_000_000 * packets,
            duplicated_packets: packets,
            ..Counters::default()
        };
        let mut delays = Delays::default();
        delays.buckets[Delays::bucket(1_000_000)] = packets;
        let count = |fault: Fault, direction| RuleCount {
            rule: fault.name().into(),
            fault,
            iface: "eth0".into(),
            direction,
            asked: "50%".into(),
            probability: Some(0.5),
            counters,
            delays,
        };
        let stats = Stats {
            held: packets,
            sent: packets,
            dropped: packets,
            ..Stats::default()
        };
        Snapshot {
            lines: Direction::ALL
                .map(|direction| LineCount {
                    iface: "eth0".into(),
                    direction,
                    stats,
                    missed: packets,
                })
                .to_vec(),
            counts: Fault::ALL
                .into_iter()
                .flat_map(|fault| Direction::ALL.map(|direction| count(fault, direction)))
                .collect(),
            unparsed: Reason::ALL
                .map(|reason| ("eth0".into(), reason, packets))
                .to_vec(),
            ..Snapshot::default()
        }
    }

    /// Name, labels, value.
    type Sample<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a str);

    /// The samples of the text format.
    fn samples(text: &str) -> Vec<Sample<'_>> {
        let sample = |line| -> Option<_> {
            let (series, value) = str::rsplit_once(line, ' ')?;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.trim_end_matches('}').split_terminator(',');
            let pair = |label| str::split_once(label, '=').map(|(k, v)| (k, v.trim_matches('"')));
            Some((name, labels.filter_map(pair).collect(), value))
        };
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| sample(line).unwrap_or_else(|| panic!("no sample: {line}")))
            .collect()
    }

    fn exported() -> BTreeMap<String, Metric> {
        let text = render(&snapshot(1)).expect("a text");
        let mut metrics = BTreeMap::<String, Metric>::new();
        for line in text.lines() {
            if let Some((name, kind)) = line
                .strip_prefix("# TYPE ")
                .and_then(|line| line.split_once(' '))
            {
                metrics.entry(name.into()).or_default().kind = kind.into();
            }
        }
        for (name, labels, _) in samples(&text) {
            // Those of a histogram.
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .filter(|family| metrics.contains_key(*family));
            let metric = metrics.get_mut(family.unwrap_or(name));
            let metric = metric.expect("a type before the samples");
            for (label, value) in labels {
                if label == "le" {
                    continue;
                }
                metric.labels.insert(label.into());
                if label != "iface" {
                    metric.values.insert(value.into());
                }
            }
        }
        metrics
    }

    /// What stands in backticks.
    fn quoted(text: &str) -> BTreeSet<String> {
        let words = text.split('`').skip(1).step_by(2);
        words.map(str::to_owned).collect()
    }

    /// The page's sections by metric: a heading, a line each for type and labels.
    fn documented(page: &str) -> BTreeMap<String, Metric> {
        page.split("\n### ")
            .skip(1)
            .map(|section| {
                let name = section.lines().next().unwrap_or_default();
                let line = |start| section.lines().find_map(|line| line.strip_prefix(start));
                let metric = Metric {
                    kind: line("- Type: ").unwrap_or_default().into(),
                    labels: quoted(line("- Labels: ").unwrap_or_default()),
                    values: BTreeSet::new(),
                };
                (name.trim_matches('`').into(), metric)
            })
            .collect()
    }

    const PAGE: &str = include_str!("../../docs/metrics.md");

    #[test]
    fn what_is_exported_is_documented_once_and_nothing_else_is() {
        let mut exported = exported();
        let page_quotes = quoted(&PAGE.replace("```", ""));
        for (name, metric) in &mut exported {
            for value in std::mem::take(&mut metric.values) {
                assert!(page_quotes.contains(&value), "`{value}` of `{name}`");
            }
        }
        assert_eq!(documented(PAGE), exported);
        let headings = PAGE.lines().filter(|line| line.starts_with("### "));
        assert_eq!(headings.count(), exported.len());
    }

    #[test]
    fn names_in_the_examples_are_exported() {
        let exported = exported();
        let words = PAGE.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in words.filter(|word| word.starts_with("faultctl_")) {
            let name = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(exported.contains_key(name), "`{name}`");
        }
    }

    #[test]
    fn delays_are_a_histogram_of_seconds() {
        let text = render(&snapshot(3)).expect("a text");
        let of = |end: &str| -> Vec<&str> {
            text.lines()
                .filter(|line| line.starts_with(&format!("faultctl_injected_delay_seconds{end}{{")))
                .filter(|line| line.contains("egress") && line.contains("latency"))
                .collect()
        };
        assert!(of("_sum")[0].ends_with(" 0.003"), "{:?}", of("_sum"));
        assert!(of("_count")[0].ends_with(" 3"), "{:?}", of("_count"));
        let value = |bound: &str| {
            let label = format!("le=\"{bound}\"");
            let line = of("_bucket").into_iter().find(|line| line.contains(&label));
            line.and_then(|line| line.rsplit(' ').next())
                .unwrap_or_default()
        };
        assert_eq!(
            [value("0.000512"), value("0.001024"), value("+Inf")],
            ["0", "3", "3"]
        );
    }

    #[test]
    fn counters_are_there_from_zero() {
        let text = render(&snapshot(0)).expect("a text");
        let of_zero: BTreeSet<_> = samples(&text)
            .into_iter()
            .filter(|(name, ..)| name.ends_with("_total"))
            .map(|(name, labels, value)| {
                assert_eq!(value, "0", "{name} {labels:?}");
                (name, labels)
            })
            .collect();
        let text = render(&snapshot(1)).expect("a text");
        let of_one: BTreeSet<_> = samples(&text)
            .into_iter()
            .filter(|(name, ..)| name.ends_with("_total"))
            .map(|(name, labels, _)| (name, labels))
            .collect();
        assert_eq!(of_zero, of_one);
        // Rules by directions by outcomes, twice; lines by outcomes; reasons; the lease.
        assert_eq!(of_one.len(), 8 * 2 * 5 + 8 * 2 * 2 + 2 * 4 + 4 + 1);
    }

    #[test]
    fn counters_end_in_total_and_nothing_else_does() {
        for (name, metric) in exported() {
            assert_eq!(metric.kind == "counter", name.ends_with("_total"), "{name}");
        }
    }
}
