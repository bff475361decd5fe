//! The command `faultctl`: reads the arguments, calls the library, prints what
//! went wrong and turns it into an exit code.

use std::{
    env,
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

use fault_user::{
    Error, clear,
    cli::{self, Command, Parsed},
    doctor, down, inject,
    report::Reporter,
    selftest, status, tc,
};

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    let code = run(&args).unwrap_or_else(|error| {
        Reporter::new(cli::wants_json(&args)).error(&error);
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
        Parsed::Command(Command::Down(request)) => down::run(&request),
        Parsed::Command(Command::Watchdog(request)) => down::watchdog::run(&request),
        Parsed::Command(Command::Tc(request)) => tc::run(&request),
        Parsed::Command(Command::Status(request)) => status::run(&request),
        Parsed::Command(Command::Clear(request)) => clear::run(&request),
        Parsed::Command(Command::Selftest(request)) => selftest::run(&request),
        Parsed::Command(Command::Doctor(request)) => doctor::run(&request),
    }
}
