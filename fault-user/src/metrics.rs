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

use crate::{error::KernelError, snapshot::Snapshot};

/// Takes the address, before any fault is in force.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
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
            "Wire packets that a rule matched, lost or marked",
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
            "Share of packets that the rule is to lose, and that it lost or marked",
        ),
        &["rule", "kind"],
    )?;
    let unparsed = IntCounterVec::new(
        Opts::new(
            "faultctl_unparsed_frames_total",
            "Frames that could not be read to their end, which only rules without selectors take",
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

/// Over all interfaces and directions.
#[expect(clippy::cast_precision_loss, reason = "counters below 2^53 are exact")]
fn injected(snapshot: &Snapshot, rule: &str) -> Option<f64> {
    let (mut touched, mut matched) = (0, 0);
    for count in snapshot.counts.iter().filter(|count| count.rule == rule) {
        matched += count.counters.matched_packets;
        touched += match count.fault {
            Fault::Mark => count.counters.marked_packets,
            Fault::Loss | Fault::Partition | Fault::Down => count.counters.dropped_packets,
        };
    }
    (matched > 0).then(|| touched as f64 / matched as f64)
}
