//! What tc itself makes of netem's words, beside what we make of them.

use proptest::prelude::*;

use super::{NetemError, parse, tc};

/// Where we differ, and what we show instead; None where we refuse. The documentation
/// of [`super`] says why.
const OTHERWISE: &[(&str, Option<&str>)] = &[
    ("delay 100ns", Some("limit 1000 delay 100ns")),
    ("delay 0.5us", Some("limit 1000 delay 500ns")),
    ("delay inf", None),
    ("delay nan", None),
    ("loss random %", None),
    ("loss random nan", None),
    ("corrupt %", None),
    ("duplicate 1% 25%", Some("limit 1000 duplicate 1% 25%")),
    ("rate -1mbit", None),
    (
        "delay 100ms 20ms distribution uniform",
        Some("limit 1000 delay 100ms  20ms"),
    ),
    // Whether there is such a file is found out when it is read.
    (
        "delay 100ms 20ms distribution nosuch",
        Some("limit 1000 delay 100ms  20ms"),
    ),
    (
        "slot distribution nosuch 1ms 1ms",
        Some("limit 1000 slot distribution 1ms 1ms"),
    ),
    ("seed 5", Some("limit 1000 seed 5")),
    ("se 5", Some("limit 1000 seed 5")),
];

/// The words, and what tc shows, or its refusal.
fn table() -> Vec<(&'static str, Result<&'static str, &'static str>)> {
    let lines: Vec<_> = include_str!("tc-6.1.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    lines
        .chunks(2)
        .map(|pair| {
            let [words, result] = pair else {
                panic!("a line without a result: {pair:?}");
            };
            let words = words.strip_prefix("netem").expect("netem").trim_start();
            let shown = result
                .strip_prefix("= ")
                .and_then(|shown| shown.strip_suffix('|'));
            let refused = || result.strip_prefix("! ").expect("a refusal");
            (words, shown.ok_or_else(refused))
        })
        .collect()
}

/// What tc says for the same reason.
fn in_tcs_words(error: &NetemError) -> &'static [&'static str] {
    match error {
        NetemError::UnknownWord { .. } => &["What is \"", "Usage: "],
        NetemError::Missing { .. } => &["Command line is not complete", "Illegal \"slot"],
        NetemError::Value { .. } => &[
            "Illegal \"",
            "Illegal 2",
            "Illegal 4294962296 time",
            "Unknown loss parameter",
            "Unknown slot parameter",
            "Non-positive jitter",
            "Error: negative",
        ],
        NetemError::RatePercent { .. } => &["property \"speed\""],
        NetemError::LossTwice => &["Illegal \"duplicate loss argument"],
        NetemError::ReorderWithoutDelay => &["reordering not possible"],
        NetemError::GapWithoutReorder => &["gap specified without reorder"],
        NetemError::EcnWithoutLoss => &["ecn requested without loss"],
        NetemError::DistributionWithoutJitter => &["distribution specified but no latency"],
        NetemError::SlotReversed { .. } => &["Illegal \"slot max_delay\""],
    }
}

fn ours(words: &str) -> Result<String, NetemError> {
    let words: Vec<_> = words.split_whitespace().collect();
    parse(&words).map(|netem| netem.to_string())
}

#[test]
fn words_mean_what_tc_takes_them_for() {
    let mut used = 0;
    let table = table();
    assert_eq!(table.len(), 266);
    for (words, tc) in table {
        let ours = ours(words);
        if let Some((_, expected)) = OTHERWISE.iter().find(|(otherwise, _)| *otherwise == words) {
            assert_ne!(ours.as_deref().ok(), tc.ok(), "`{words}` is as in tc");
            assert_eq!(ours.as_deref().ok(), *expected, "`{words}`");
            used += 1;
            continue;
        }
        match (&ours, tc) {
            (Ok(ours), Ok(tc)) => assert_eq!(ours, tc, "`{words}`"),
            (Err(ours), Err(tc)) => assert!(
                in_tcs_words(ours).iter().any(|said| tc.starts_with(said)),
                "`{words}`: {ours}, and tc says: {tc}"
            ),
            _ => panic!("`{words}`: {ours:?}, and tc: {tc:?}"),
        }
    }
    assert_eq!(used, OTHERWISE.len());
}

/// A word of netem's or tc's, whole or cut, or a number with a unit, or anything.
fn word() -> impl Strategy<Value = String> {
    const NAMES: &[&str] = &[
        "limit",
        "delay",
        "distribution",
        "normal",
        "loss",
        "random",
        "state",
        "gemodel",
        "ecn",
        "duplicate",
        "corrupt",
        "reorder",
        "gap",
        "rate",
        "slot",
        "packets",
        "bytes",
        "seed",
        "qdisc",
        "add",
        "del",
        "show",
        "dev",
        "root",
        "parent",
        "handle",
        "netem",
        "ingress",
    ];
    prop_oneof![
        8 => (prop::sample::select(NAMES), 1..12_usize)
            .prop_map(|(name, length)| name.chars().take(length).collect()),
        8 => "-?[0-9]{1,3}(\\.[0-9])?(e[0-9]{1,2})?(%|s|ms|us|ns|kbit|mbit|k|:)?",
        1 => "\\PC{0,6}",
    ]
}

proptest! {
    #[test]
    fn no_words_are_too_strange(words in prop::collection::vec(word(), 0..12)) {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        match parse(&words) {
            Ok(netem) => prop_assert!(netem.to_string().starts_with("limit ")),
            Err(error) => prop_assert!(!error.hint().is_empty()),
        }
        if let Err(error) = tc::parse(&words) {
            prop_assert!(!error.hint().is_empty());
        }
    }
}
