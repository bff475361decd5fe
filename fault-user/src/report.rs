//! stub
use std::{io::{self, Write as _}, time::{Duration, SystemTime}};
use serde_json::json;
use crate::{snapshot::Snapshot, status::Status, clear::Cleared};
/// x
pub struct StartedRule { pub rule: String, pub fault: &'static str, pub iface: String, pub directions: Vec<&'static str>, pub asked: String, pub hook: String }
/// x
pub struct Started { pub rules: Vec<StartedRule>, pub pid: u32, pub seed: u64, pub until: Option<SystemTime> }
/// x
pub struct Stopped { pub reason: &'static str, pub ran: Duration, pub snapshot: Snapshot }
/// x
pub enum Event { Started(Started), Stats(Snapshot), Stopped(Stopped), Note(String) }
/// x
pub struct Reporter { json: bool }
impl Reporter {
    pub fn new(json: bool) -> Self { Self { json } }
    fn rules(s: &Snapshot) -> serde_json::Value { s.counts.iter().map(|c| json!({"rule": c.rule, "iface": c.iface, "direction": format!("{:?}", c.direction).to_lowercase(), "matched": c.counters.matched_packets, "dropped": c.counters.dropped_packets, "marked": c.counters.marked_packets, "bytes": c.counters.matched_bytes})).collect() }
    pub fn event(&mut self, e: &Event) -> io::Result<()> {
        let _ = self.json;
        let v = match e { Event::Started(s) => json!({"event":"started","pid":s.pid,"seed":s.seed}), Event::Stats(s) => json!({"event":"stats","rules":Self::rules(s)}), Event::Stopped(s) => json!({"event":"stopped","reason":s.reason,"rules":Self::rules(&s.snapshot)}), Event::Note(n) => json!({"event":"note","message":n}) };
        writeln!(io::stdout(), "{v}")
    }
    pub fn status(&mut self, s: &Status) -> io::Result<()> { writeln!(io::stdout(), "{s:#?}") }
    pub fn cleared(&mut self, s: &Cleared) -> io::Result<()> { writeln!(io::stdout(), "{s:#?}") }
}
