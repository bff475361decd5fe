//! Events as JSON objects, one a line.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::{Event, Started};
use crate::{
    Error,
    clear::Cleared,
    error::chain,
    snapshot::{RuleCount, Snapshot},
    status::FaultStatus,
    verbose::{End, Packet, What},
};

pub(super) fn event(event: &Event, now: SystemTime) -> Value {
    let (name, fields) = match event {
        Event::Started(started) => ("started", self::started(started)),
        Event::Stats(snapshot) => (
            "stats",
            json!({
                "rules": rules(snapshot),
                "lines": lines(snapshot),
                "links": links(snapshot),
                "lapsed": snapshot.lapsed.as_secs_f64(),
            }),
        ),
        Event::Note(message) => ("note", json!({"message": message})),
        Event::Packet(packet) => ("packet", self::packet(packet)),
        Event::Stopped(stopped) => (
            "stopped",
            json!({
                "reason": stopped.reason,
                "seconds": stopped.ran.as_secs_f64(),
                "rules": rules(&stopped.snapshot),
                "lines": lines(&stopped.snapshot),
                "links": links(&stopped.snapshot),
                "lapsed": stopped.snapshot.lapsed.as_secs_f64(),
                "notes": stopped.notes,
            }),
        ),
        Event::Check(check) => (
            "check",
            json!({
                "check": check.name,
                "expected": check.expected,
                "observed": check.observed,
                "passed": check.passed,
            }),
        ),
        Event::Finding(finding) => (
            "finding",
            json!({
                "about": finding.about,
                "level": finding.level.name(),
                "found": finding.found,
                "hint": finding.fix,
            }),
        ),
    };
    with_time(name, fields, now)
}

fn packet(packet: &Packet) -> Value {
    let (far, near, protocol) = match packet.what {
        What::Ip {
            far,
            near,
            protocol,
        } => (Some(far), Some(near), protocol),
        What::Arp | What::Other => (None, None, None),
    };
    let address = |end: Option<End>| end.map(|end| end.address.to_string());
    let port = |end: Option<End>| end.and_then(|end| end.port);
    json!({
        "iface": packet.iface,
        "rule": packet.rule,
        "direction": packet.direction.name(),
        "decision": packet.outcome(),
        "far": address(far),
        "far_port": port(far),
        "near": address(near),
        "near_port": port(near),
        "protocol": protocol,
        "bytes": packet.bytes,
        "sequence": packet.sequence,
    })
}

pub(super) fn fault(fault: &FaultStatus, now: SystemTime) -> Value {
    with_time(
        "fault",
        json!({
            "iface": fault.iface,
            "netns": fault.netns,
            "own_netns": fault.own_netns,
            "pid": fault.pid,
            "alive": fault.alive,
            "uid": fault.uid,
            "memory": fault.memory,
            "command": fault.command,
            "since": time(fault.since),
            "until": fault.until.map(time),
            "in_force": fault.in_force,
            "rules": fault.counts.iter().map(rule).collect::<Value>(),
            "link": fault.link.as_ref().map(|link| json!({
                "mode": link.mode.name(),
                "watchdog": link.watchdog,
                "watched": link.watched,
                "missing": link.missing,
            })),
        }),
        now,
    )
}

pub(super) fn other_version(programs: usize, now: SystemTime) -> Value {
    with_time("other_version", json!({"programs": programs}), now)
}

pub(super) fn cleared(cleared: &Cleared, now: SystemTime) -> Value {
    let faults: Value = cleared
        .faults
        .iter()
        .map(|fault| json!({"iface": fault.iface, "pid": fault.pid, "command": fault.command}))
        .collect();
    with_time(
        "cleared",
        json!({
            "faults": faults,
            "filters": cleared.filters,
            "unreachable": cleared.unreachable,
            "other_version": cleared.other_version,
            "notes": cleared.notes,
            "failed": cleared.failed,
        }),
        now,
    )
}

pub(super) fn error(error: &Error, now: SystemTime) -> Value {
    with_time(
        "error",
        json!({"message": chain(error), "hint": error.hint()}),
        now,
    )
}

fn started(started: &Started) -> Value {
    let rules: Value = started
        .rules
        .iter()
        .map(|rule| {
            json!({
                "rule": rule.rule,
                "fault": rule.fault,
                "iface": rule.iface,
                "directions": rule.directions,
                "asked": rule.asked,
                "hook": rule.hook,
            })
        })
        .collect();
    let spared: Value = started
        .spared
        .iter()
        .map(|connection| {
            json!({"local": connection.local.to_string(), "peer": connection.peer.to_string()})
        })
        .collect();
    json!({
        "rules": rules,
        "spared": spared,
        "pid": started.pid,
        "detached": started.detached,
        "memory": started.memory,
        "seed": started.seed,
        "until": started.until.map(time),
        "confirm_until": started.confirm_until.map(time),
        "command": started.command,
    })
}

fn rules(snapshot: &Snapshot) -> Value {
    snapshot.counts.iter().map(rule).collect()
}

fn lines(snapshot: &Snapshot) -> Value {
    snapshot
        .lines
        .iter()
        .map(|line| {
            json!({
                "iface": line.iface,
                "direction": line.direction.name(),
                "held": line.stats.held,
                "sent": line.stats.sent,
                "dropped": line.stats.dropped,
                "missed": line.missed,
                "mean_late": line.stats.mean_late.map(|it| it.as_secs_f64()),
                "most_late": line.stats.most_late.map(|it| it.as_secs_f64()),
            })
        })
        .collect()
}

fn links(snapshot: &Snapshot) -> Value {
    snapshot
        .links
        .iter()
        .map(|link| json!({"iface": link.iface, "mode": link.mode.name()}))
        .collect()
}

fn rule(count: &RuleCount) -> Value {
    let counters = &count.counters;
    json!({
        "rule": count.rule,
        "fault": count.fault.name(),
        "iface": count.iface,
        "direction": count.direction.name(),
        "asked": count.asked,
        "injected": count.injected(),
        "matched": counters.matched_packets,
        "dropped": counters.dropped_packets,
        "delayed": counters.delayed_packets,
        "mean_delay": count.mean_delay().map(|mean| mean.as_secs_f64()),
        "duplicated": counters.duplicated_packets,
        // A kind that this version does not inject yet; the field is part of the contract.
        "corrupted": 0,
        "marked": counters.marked_packets,
        "bytes": counters.matched_bytes,
        "dropped_bytes": counters.dropped_bytes,
        "dropped_super": counters.dropped_super_skbs,
    })
}

/// RFC 3339, in UTC, to the millisecond.
pub(super) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

fn with_time(event: &str, mut fields: Value, now: SystemTime) -> Value {
    fields["time"] = time(now).into();
    fields["event"] = event.into();
    fields
}
