//! Events as lines and tables for people.

use std::{error::Error as _, fmt::Write as _, time::SystemTime};

use fault_common::layout::Fault;

use super::{Event, Started, Stopped, json::time};
use crate::{
    Error,
    clear::Cleared,
    doctor::Finding,
    selftest::Check,
    snapshot::{RuleCount, Snapshot},
    status::{FaultStatus, LinkStatus, Status},
};

pub(super) fn event(event: &Event, now: SystemTime) -> String {
    let text = match event {
        Event::Started(started) => self::started(started),
        Event::Stats(snapshot) => live(snapshot, usize::MAX),
        Event::Note(message) => format!("note: {}", clean(message)),
        Event::Packet(packet) => clean(&packet.to_string()),
        Event::Stopped(stopped) => self::stopped(stopped),
        Event::Check(check) => return self::check(check),
        Event::Finding(finding) => return self::finding(finding),
    };
    format!("{} {text}", time(now))
}

/// What happens this second, in one line.
pub(super) fn live(snapshot: &Snapshot, width: usize) -> String {
    let links = snapshot
        .links
        .iter()
        .map(|link| format!("{}: away ({})", clean(&link.iface), link.mode.name()));
    let line = snapshot
        .counts
        .iter()
        .map(|count| {
            format!(
                "{} {} {}: {} of {} packets ({})",
                clean(&count.iface),
                count.direction.name(),
                done(count),
                count.touched(),
                count.counters.matched_packets,
                injected(count),
            )
        })
        .chain(links)
        .collect::<Vec<_>>()
        .join(" | ");
    line.chars().take(width.saturating_sub(1)).collect()
}

fn started(started: &Started) -> String {
    let mut text = String::from("started ");
    for (n, rule) in started.rules.iter().enumerate() {
        let separator = if n == 0 { "" } else { "; " };
        let directions = rule.directions.join(" and ");
        let _ = write!(
            text,
            "{separator}{} {} on `{}` {directions} ({})",
            rule.fault,
            rule.asked,
            clean(&rule.iface),
            rule.hook,
        );
    }
    let end = match (started.until, &started.command) {
        (Some(until), _) => format!("until {}", time(until)),
        (None, Some(command)) => format!("while `{}` runs", clean(command)),
        (None, None) if started.detached => "until cleared".into(),
        (None, None) => "until Ctrl-C".into(),
    };
    let _ = write!(text, ", {end}");
    if let Some(seed) = started.seed {
        let _ = write!(text, ", seed {seed}");
    }
    text += &memory(started.memory);
    if let Some(until) = started.confirm_until {
        let _ = write!(text, ", undone at {} unless you press Enter", time(until));
    }
    if !started.spared.is_empty() {
        let spared: Vec<_> = started.spared.iter().map(ToString::to_string).collect();
        let _ = write!(text, ", spares {}", spared.join(" and "));
    }
    if started.detached {
        let clear = started.rules.iter().fold(String::new(), |list, rule| {
            format!("{list} --iface {}", clean(&rule.iface))
        });
        let pid = started.pid;
        let _ = write!(text, ", held by pid {pid}: `faultctl clear{clear}` ends it");
    }
    text
}

/// What maps cost the kernel, where that is worth a word.
fn memory(bytes: u64) -> String {
    const MB: u64 = 1_000_000;
    if bytes < 16 * MB {
        return String::new();
    }
    format!(", {} MB of kernel memory", bytes / MB)
}

fn stopped(stopped: &Stopped) -> String {
    let seconds = stopped.ran.as_secs_f64();
    let mut text = format!("stopped after {seconds:.1} s ({})\n", stopped.reason);
    text += &table(&stopped.snapshot.counts);
    if !stopped.snapshot.lapsed.is_zero() {
        let lapsed = stopped.snapshot.lapsed.as_secs_f64();
        let _ = writeln!(
            text,
            "note: for {lapsed:.1} s the fault had no force, because this process did not get to run"
        );
    }
    text += &lines(&stopped.snapshot);
    for note in &stopped.notes {
        let _ = writeln!(text, "note: {}", clean(note));
    }
    text + &super_packets(&stopped.snapshot.counts)
}

/// What a delay line could not do.
fn lines(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for line in &snapshot.lines {
        let place = format!("`{}` {}", clean(&line.iface), line.direction.name());
        if line.stats.dropped > 0 {
            let _ = writeln!(
                text,
                "note: {} packets were lost on {place} because too many waited; see `--limit`",
                line.stats.dropped
            );
        }
        if line.missed > 0 {
            let _ = writeln!(
                text,
                "note: {} packets on {place} could not be held, and went at once",
                line.missed
            );
        }
    }
    text
}

/// A super-packet is lost whole, so losses come in bursts of its segments.
fn super_packets(counts: &[RuleCount]) -> String {
    let mut text = String::new();
    for count in counts
        .iter()
        .filter(|count| count.counters.dropped_super_skbs > 0)
    {
        let iface = clean(&count.iface);
        let off = match count.direction {
            fault_common::layout::Direction::Egress => "tso off gso off",
            fault_common::layout::Direction::Ingress => "gro off lro off",
        };
        let _ = writeln!(
            text,
            "note: {} super-packets were lost whole on `{iface}` {}, so losses came in bursts; \
             `ethtool -K {iface} {off}` makes them single packets",
            count.counters.dropped_super_skbs,
            count.direction.name(),
        );
    }
    text
}

/// Columns as wide as they need to be, numbers to the right.
fn table(counts: &[RuleCount]) -> String {
    if counts.is_empty() {
        return String::new();
    }
    let header = [
        "rule",
        "interface",
        "direction",
        "asked",
        "injected",
        "packets",
        "lost",
        "delayed",
        "copied",
        "marked",
        "bytes",
    ];
    let mut rows = vec![header.map(String::from).to_vec()];
    for count in counts {
        let counters = &count.counters;
        rows.push(vec![
            clean(&count.rule),
            clean(&count.iface),
            count.direction.name().into(),
            clean(&count.asked),
            injected(count),
            counters.matched_packets.to_string(),
            counters.dropped_packets.to_string(),
            counters.delayed_packets.to_string(),
            counters.duplicated_packets.to_string(),
            counters.marked_packets.to_string(),
            counters.matched_bytes.to_string(),
        ]);
    }
    // What none of these faults does has no column.
    let does = |faults: &[Fault]| counts.iter().any(|count| faults.contains(&count.fault));
    for (name, there) in [
        ("lost", does(&[Fault::Loss, Fault::Partition, Fault::Down])),
        (
            "delayed",
            does(&[Fault::Latency, Fault::Reorder, Fault::Rate]),
        ),
        ("copied", does(&[Fault::Duplicate])),
        ("marked", does(&[Fault::Mark])),
    ] {
        if !there && let Some(n) = rows[0].iter().position(|cell| cell == name) {
            for row in &mut rows {
                row.remove(n);
            }
        }
    }
    let mut widths = vec![0; rows[0].len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::from(" ");
        for (n, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let _ = if n < 3 {
                write!(line, " {cell:<width$} ")
            } else {
                write!(line, " {cell:>width$} ")
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

pub(super) fn status(status: &Status) -> String {
    let mut text = String::new();
    if status.faults.is_empty() {
        text += "no faults\n";
    }
    for fault in &status.faults {
        text += &self::fault(fault);
    }
    text + &other_version(status.other_version)
}

fn fault(fault: &FaultStatus) -> String {
    let state = match (fault.in_force, fault.alive) {
        (true, _) if is_left(fault) => "left behind; `faultctl clear` puts the link back",
        (false, _) if is_left(fault) => {
            "left behind, and the link is back; `faultctl clear` does the rest"
        }
        (true, _) => "in force",
        (false, false) if fault.link.is_some() => "over, and its watchdog is putting the rest back",
        (false, true) => "without force: its process does not get to run",
        (false, false) => "left behind without force; `faultctl clear` removes it",
    };
    let namespace = if fault.own_netns {
        String::new()
    } else {
        format!(" in network namespace {}", fault.netns)
    };
    let until = match fault.until {
        Some(until) => format!("until {}", time(until)),
        None => "until its process ends".into(),
    };
    format!(
        "`{}`{namespace}: faultctl {}\n  {state}, by pid {} of uid {}, since {}, {until}{}\n{}",
        clean(&fault.iface),
        clean(&fault.command),
        fault.pid,
        fault.uid,
        time(fault.since),
        memory(fault.memory),
        fault
            .link
            .as_ref()
            .map_or_else(|| table(&fault.counts), missing),
    )
}

/// Whether neither process of a link that was taken away lives.
fn is_left(fault: &FaultStatus) -> bool {
    fault
        .link
        .as_ref()
        .is_some_and(|link| !fault.alive && !link.watched)
}

fn missing(link: &LinkStatus) -> String {
    link.missing.iter().fold(String::new(), |mut text, what| {
        let _ = writeln!(text, "  missing: {}", clean(what));
        text
    })
}

pub(super) fn cleared(cleared: &Cleared) -> String {
    let mut text = String::new();
    for fault in &cleared.faults {
        let _ = writeln!(
            text,
            "ended `{}` of pid {}: faultctl {}",
            clean(&fault.iface),
            fault.pid,
            clean(&fault.command),
        );
    }
    if cleared.faults.is_empty() {
        text += "nothing to clear\n";
    }
    if cleared.filters > 0 {
        let _ = writeln!(
            text,
            "removed {} filters that dead processes left",
            cleared.filters
        );
    }
    if cleared.unreachable > 0 {
        let _ = writeln!(
            text,
            "{} are in network namespaces that nothing leads to: without force, and gone with them",
            cleared.unreachable
        );
    }
    for note in &cleared.notes {
        let _ = writeln!(text, "note: {}", clean(note));
    }
    text + &other_version(cleared.other_version)
}

fn other_version(count: usize) -> String {
    if count == 0 {
        return String::new();
    }
    format!("{count} faults belong to another version of faultctl; ask that one\n")
}

fn check(check: &Check) -> String {
    let word = if check.passed { "ok  " } else { "FAIL" };
    format!(
        "{word} {}: expected {}, observed {}",
        check.name, check.expected, check.observed
    )
}

fn finding(finding: &Finding) -> String {
    let mut text = format!(
        "{:<5} {}: {}",
        finding.level.name(),
        clean(&finding.about),
        clean(&finding.found)
    );
    if let Some(fix) = &finding.fix {
        let _ = write!(text, "\n      hint: {}", clean(fix));
    }
    text
}

pub(super) fn error(error: &Error) -> String {
    let mut text = format!("error: {error}\n");
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = writeln!(text, "  caused by: {error}");
        cause = error.source();
    }
    if let Some(hint) = error.hint() {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

fn done(count: &RuleCount) -> &'static str {
    match count.fault {
        Fault::Loss | Fault::Partition | Fault::Down => "lost",
        Fault::Mark => "marked",
        Fault::Latency | Fault::Rate => "delayed",
        Fault::Reorder => "sent ahead",
        Fault::Duplicate => "copied",
    }
}

/// A share of packets, or how long they were told to wait on average.
fn injected(count: &RuleCount) -> String {
    match count.fault {
        Fault::Latency | Fault::Rate => count.mean_delay().map_or("-".into(), |mean| {
            format!("{:.1} ms", mean.as_secs_f64() * 1e3)
        }),
        _ => percent(count.injected()),
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.2}%", share * 100.0))
}

/// Without control characters, which could do things to a terminal.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use fault_common::layout::{Counters, Delays, Direction};

    use super::*;

    fn count(dropped_super_skbs: u64) -> RuleCount {
        RuleCount {
            rule: "loss".into(),
            fault: Fault::Loss,
            iface: "eth0".into(),
            direction: Direction::Egress,
            asked: "50%".into(),
            probability: Some(0.5),
            counters: Counters {
                matched_packets: 1000,
                matched_bytes: 98_000,
                dropped_packets: 499,
                dropped_super_skbs,
                ..Counters::default()
            },
            delays: Delays::default(),
        }
    }

    #[test]
    fn summary_lines_up_and_tells_of_super_packets() {
        let stopped = Stopped {
            reason: "signal",
            ran: Duration::from_millis(2500),
            snapshot: Snapshot {
                counts: vec![count(3)],
                lapsed: Duration::from_secs(4),
                ..Snapshot::default()
            },
            notes: Vec::new(),
        };
        let text = event(&Event::Stopped(stopped), UNIX_EPOCH);
        let expected = "\
1970-01-01T00:00:00.000Z stopped after 2.5 s (signal)
  rule  interface  direction  asked  injected  packets  lost  bytes
  loss  eth0       egress       50%    49.90%     1000   499  98000
note: for 4.0 s the fault had no force, because this process did not get to run
note: 3 super-packets were lost whole on `eth0` egress, so losses came in bursts; \
`ethtool -K eth0 tso off gso off` makes them single packets
";
        assert_eq!(text, expected);
    }

    #[test]
    fn live_line_fits_the_terminal() {
        let snapshot = Snapshot {
            counts: vec![count(0), count(0)],
            ..Snapshot::default()
        };
        assert_eq!(live(&snapshot, 20), "eth0 egress lost: 4");
        assert_eq!(live(&snapshot, 20).chars().count(), 19);
    }

    #[test]
    fn memory_is_told_from_sixteen_megabytes_on() {
        assert_eq!(memory(15_999_999), "");
        assert_eq!(memory(104_857_600), ", 104 MB of kernel memory");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(clean("eth\x1b[31m0\n"), "eth[31m0");
    }
}
