//! Says what this kernel, these privileges and these interfaces allow, and how to
//! mend what they don't.

use std::path::PathBuf;

use crate::{
    Error,
    error::chain,
    namespace::Namespace,
    report::{Event, Reporter},
};

mod interfaces;
mod system;

/// What to look at, and how to tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Interfaces to look at; empty for all.
    pub interfaces: Vec<String>,
    /// Their network namespace, or the caller's own.
    pub netns: Option<PathBuf>,
    /// JSON lines on stdout.
    pub json: bool,
}

/// Something found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub about: String,
    /// How much it matters.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub fix: Option<String>,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// faultctl can't work.
    Error,
}

impl Level {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Error => "error",
        }
    }
}

/// Prints each finding; the exit code is 1 if faultctl can't work.
pub fn run(request: &Request) -> Result<i32, Error> {
    let mut reporter = Reporter::new(request.json);
    let mut code = 0;
    for finding in examine(request)? {
        if finding.level == Level::Error {
            code = 1;
        }
        reporter
            .event(&Event::Finding(finding))
            .map_err(|_| Error::OutputClosed)?;
    }
    Ok(code)
}

/// Looks at everything.
pub fn examine(request: &Request) -> Result<Vec<Finding>, Error> {
    let mut findings = system::examine()?;
    let namespace = request
        .netns
        .as_deref()
        .map_or_else(Namespace::default, Namespace::named);
    findings.extend(namespace.run(|| interfaces::examine(&request.interfaces))?);
    Ok(findings)
}

fn ok(about: &str, found: impl Into<String>) -> Finding {
    Finding {
        about: about.into(),
        level: Level::Ok,
        found: found.into(),
        fix: None,
    }
}

fn note(about: &str, found: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding {
        about: about.into(),
        level: Level::Note,
        found: found.into(),
        fix: Some(fix.into()),
    }
}

fn wrong(about: &str, found: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding {
        level: Level::Error,
        ..note(about, found, fix)
    }
}

/// Without the verifier's log, which has many lines.
fn whole(error: &dyn std::error::Error) -> String {
    let text = chain(error);
    text.lines().next().unwrap_or_default().to_owned()
}
