//! The command `faultctl`: reads the arguments, calls the library, prints what
//! went wrong and turns it into an exit code.

use std::{
    env,
    error::Error as _,
    ffi::OsString,
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
    time::SystemTime,
};

use fault_user::{
    Error, clear,
    cli::{self, Command, Parsed},
    doctor, inject, selftest, status,
};

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    let code = run(&args).unwrap_or_else(|error| {
        report(&error, cli::wants_json(&args));
        error.exit_code()
    });
    // Codes of processes have eight bits.
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
}

fn run(args: &[OsString]) -> Result<i32, Error> {
    match cli::parse(args)? {
        Parsed::Text(text) => {
            // Whoever closed stdout does not want the text.
            let _ = io::stdout().write_all(text.as_bytes());
            Ok(0)
        }
        Parsed::Command(Command::Inject(request)) => inject::run(&request),
        Parsed::Command(Command::Status(request)) => status::run(&request),
        Parsed::Command(Command::Clear(request)) => clear::run(&request),
        Parsed::Command(Command::Selftest(request)) => selftest::run(request),
        Parsed::Command(Command::Doctor(request)) => doctor::run(request),
    }
}

/// Text on stderr, and with `--json` an event on stdout too. Neither may be open.
fn report(error: &Error, json: bool) {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    let hint = error.hint();

    let mut text = format!("error: {error}\n");
    for cause in &causes {
        let _ = writeln!(text, "  caused by: {cause}");
    }
    if let Some(hint) = &hint {
        let _ = writeln!(text, "hint: {hint}");
    }
    let _ = io::stderr().write_all(text.as_bytes());

    if json {
        causes.insert(0, error.to_string());
        let event = serde_json::json!({
            "time": humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            "event": "error",
            "message": causes.join(": "),
            "hint": hint,
        });
        let _ = writeln!(io::stdout(), "{event}");
    }
}
