//! What the verifier walks for each program on each kernel, compared with what is
//! stored in docs/verifier.json.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{
    command::{self, failure},
    run,
    toolchain::Wanted,
    vm,
};

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Cost {
    /// Instructions walked; a kernel's limit is a million
    verified_insns: u32,
    /// Size after the verifier
    xlated_bytes: u32,
    /// Not stored: it is the machine's
    #[serde(default, skip_serializing)]
    load_ms: f64,
}

/// By program.
type Costs = BTreeMap<String, Cost>;

/// Measures here and in guests; with `store`, what it measures is the new standard.
pub fn verifier(store: bool, wanted: &Wanted) -> Result<ExitCode> {
    let mut costs = BTreeMap::from([(command::own_kernel(), parse(&here(wanted)?)?)]);
    for (kernel, text) in vm::verifier(wanted)? {
        costs.insert(kernel, parse(&text)?);
    }
    for (kernel, costs) in &costs {
        for (program, cost) in costs {
            println!(
                "{kernel:<6} {program:<26} {:>7} instructions walked, {:>6} bytes, loaded in \
                 {:.0} ms",
                cost.verified_insns, cost.xlated_bytes, cost.load_ms
            );
        }
    }
    let mut stored = stored()?;
    if store {
        stored.extend(costs);
        let text = serde_json::to_string_pretty(&stored)? + "\n";
        fs::write(path(), text)?;
        println!("stored in {}", path().display());
        return Ok(ExitCode::SUCCESS);
    }
    let findings = compare(&costs, &stored);
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(failure(
            "programs that are harder to verify than what is stored",
            "make them simpler, or store it with `cargo xtask verifier --store`",
        ))
    }
}

/// What is more than a quarter above what is stored: two compilers differ by less.
fn compare(costs: &BTreeMap<String, Costs>, stored: &BTreeMap<String, Costs>) -> Vec<String> {
    let mut findings = Vec::new();
    for (kernel, costs) in costs {
        let Some(before) = stored.get(kernel) else {
            findings.push(format!("nothing is stored for Linux {kernel}"));
            continue;
        };
        for (program, cost) in costs {
            let limit = before.get(program).map_or(0, |cost| cost.verified_insns);
            if cost.verified_insns / 5 > limit / 4 {
                findings.push(format!(
                    "{program} on Linux {kernel}: {} instructions, stored are {limit}",
                    cost.verified_insns
                ));
            }
        }
    }
    findings
}

fn here(wanted: &Wanted) -> Result<String> {
    let mut command: Command = run::of_tests("verifier", wanted)?;
    let output = command.output()?;
    if !output.status.success() {
        let what = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(failure(what.trim(), "the programs must load here"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse(text: &str) -> Result<Costs> {
    serde_json::from_str(text).with_context(|| format!("not what the verifier test prints: {text}"))
}

fn path() -> PathBuf {
    command::root().join("docs/verifier.json")
}

fn stored() -> Result<BTreeMap<String, Costs>> {
    let text = fs::read_to_string(path()).unwrap_or_else(|_| "{}".to_owned());
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not as this command writes it", path().display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(verified_insns: u32) -> BTreeMap<String, Costs> {
        let cost = Cost {
            verified_insns,
            xlated_bytes: 1,
            load_ms: 1.0,
        };
        BTreeMap::from([("6.1".into(), BTreeMap::from([("program".into(), cost)]))])
    }

    #[test]
    fn more_than_a_quarter_above_is_found() {
        assert!(compare(&costs(1250), &costs(1000)).is_empty());
        assert_eq!(compare(&costs(1260), &costs(1000)).len(), 1);
        assert_eq!(compare(&costs(1), &BTreeMap::new()).len(), 1);
    }

    #[test]
    fn time_is_read_but_not_stored() {
        let text = r#"{"p":{"verified_insns":1,"xlated_bytes":2,"load_ms":3.5}}"#;
        let costs = parse(text).unwrap();
        let stored = serde_json::to_string(&costs).unwrap();
        assert_eq!(stored, r#"{"p":{"verified_insns":1,"xlated_bytes":2}}"#);
    }
}
