//! Says why arguments cannot be read, in our words.

use std::{error::Error as _, ffi::OsString};

use clap::{
    CommandFactory as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::Cli;
use crate::{Error, spec::ValueError};

/// The refusal behind one of clap's errors.
pub(super) fn explain(error: &clap::Error, args: &[OsString]) -> Error {
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<ValueError>())
        .cloned();
    let (message, tips) = split(&error.render().to_string());
    let message = match (error.kind(), &source) {
        (ErrorKind::ValueValidation, Some(_)) => format!(
            "`{}` is no value for `{}`",
            context(error, ContextKind::InvalidValue),
            context(error, ContextKind::InvalidArg),
        ),
        _ => message,
    };
    let hint = if tips.is_empty() {
        missing_interface(error)
            .unwrap_or_else(|| format!("`{} --help` shows what goes together", command(args)))
    } else {
        tips
    };
    Error::Usage {
        message,
        hint: Some(hint),
        source,
    }
}

/// Takes clap's text apart: the message on one line, and its tips.
fn split(text: &str) -> (String, String) {
    let text = text.trim_start_matches("error: ").replace('\'', "`");
    let message: Vec<&str> = text
        .lines()
        .take_while(|line| !line.is_empty())
        .map(str::trim)
        .collect();
    let tips: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("tip: "))
        .collect();
    (message.join(" "), tips.join("; "))
}

fn context(error: &clap::Error, kind: ContextKind) -> &str {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text,
        _ => "",
    }
}

fn missing_interface(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    (error.kind() == ErrorKind::MissingRequiredArgument
        && missing.iter().any(|arg| arg.starts_with("--iface")))
    .then(|| "name the interface, as in `--iface eth0`; `ip -brief link` lists them".into())
}

/// The command whose help to look at.
fn command(args: &[OsString]) -> String {
    let verb = args
        .iter()
        .skip(1)
        .filter_map(|arg| arg.to_str())
        .find(|arg| Cli::command().find_subcommand(arg).is_some());
    match verb {
        Some(verb) => format!("faultctl {verb}"),
        None => "faultctl".into(),
    }
}
