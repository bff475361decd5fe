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
    let given = one(error, ContextKind::InvalidValue);
    let argument = one(error, ContextKind::InvalidArg).map(name);
    let (clap_message, tips) = split(&error.render().to_string());

    let (message, hint) = match (error.kind(), given, argument) {
        (ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, ..) => {
            ("no command given".into(), None)
        }
        (ErrorKind::MissingRequiredArgument, ..) => missing(error),
        (ErrorKind::InvalidValue, Some(""), Some(argument)) => {
            (format!("`{argument}` needs a value"), choice(error))
        }
        (ErrorKind::InvalidValue | ErrorKind::ValueValidation, Some(given), Some(argument)) => (
            format!("`{given}` is no value for `{argument}`"),
            choice(error),
        ),
        (ErrorKind::ArgumentConflict, _, Some(argument)) => {
            match one(error, ContextKind::PriorArg).map(name) {
                Some(prior) => (
                    format!("`{argument}` and `{prior}` exclude each other"),
                    Some("leave one of them out".into()),
                ),
                None => (clap_message, None),
            }
        }
        _ => (clap_message, None),
    };
    let hint = hint
        .or(tips)
        .unwrap_or_else(|| format!("`{} --help` says what can be given", command(args)));
    Error::Usage {
        message,
        hint: Some(hint),
        source,
    }
}

fn missing(error: &clap::Error) -> (String, Option<String>) {
    let missing: Vec<&str> = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(missing)) => missing.iter().map(|arg| name(arg)).collect(),
        _ => Vec::new(),
    };
    let hint = missing.iter().find_map(|name| match *name {
        "--iface" => Some("name the interface, as in `--iface eth0`; `ip -brief link` lists them"),
        "PERCENT" => Some("say how much to lose, as in `50`, or `--every 10` for one in ten"),
        "--detach" => {
            Some("without it a fault ends with its command: leave out `--until-cleared`, or add it")
        }
        "VALUE[/MASK]" => Some("give a mark, as in `0x10`, or a DSCP, as in `--dscp ef`"),
        _ => None,
    });
    (
        format!("`{}` is missing", missing.join("`, `")),
        hint.map(Into::into),
    )
}

/// The values that there are to choose from.
fn choice(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(valid)) if !valid.is_empty() => {
            Some(format!("give `{}`", valid.join("` or `")))
        }
        _ => None,
    }
}

/// Takes clap's text apart: the message on one line, and its tips. How to pass a
/// flag as a value is not among them: what follows `--` is a command here.
fn split(text: &str) -> (String, Option<String>) {
    let text = text.trim_start_matches("error: ").replace('\'', "`");
    let message: Vec<&str> = text
        .lines()
        .take_while(|line| !line.is_empty())
        .map(str::trim)
        .collect();
    let tips: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("tip: "))
        .filter(|tip| !tip.contains("as a value"))
        .collect();
    (
        message.join(" "),
        (!tips.is_empty()).then(|| tips.join("; ")),
    )
}

fn one(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        ContextValue::Strings(texts) => texts.first().map(String::as_str),
        _ => None,
    }
}

/// `--for` of `--for <TIME>`, `PERCENT` of `[PERCENT]`.
fn name(argument: &str) -> &str {
    let word = argument.split(' ').next().unwrap_or(argument);
    [('<', '>'), ('[', ']')]
        .into_iter()
        .find_map(|(open, close)| word.strip_prefix(open)?.strip_suffix(close))
        .unwrap_or(word)
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
