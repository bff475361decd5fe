//! What the running kernel has.

use std::{
    env,
    io::{Write as _, stdout},
    sync::LazyLock,
    thread,
};

use nix::sys::utsname::uname;

use crate::namespace::Namespace;

/// Major and minor version.
static VERSION: LazyLock<(u32, u32)> = LazyLock::new(|| {
    let names = uname().expect("uname");
    let release = names.release().to_string_lossy();
    let mut numbers = release.split(['.', '-', '+']).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => panic!("{release} is no version"),
    }
});

/// The first kernel with tcx.
const TCX: (u32, u32) = (6, 6);

/// How a fault can be attached here, what `auto` takes first.
pub fn hooks() -> Vec<&'static str> {
    if *VERSION >= TCX {
        vec!["tcx", "clsact"]
    } else {
        vec!["clsact"]
    }
}

/// The engines of the delay line that there are here, what `auto` takes first.
pub fn engines() -> &'static [&'static str] {
    static HAS_FQ: LazyLock<bool> = LazyLock::new(|| {
        let namespace = Namespace::new();
        let mut command = namespace.command("tc");
        command.args(["qdisc", "add", "dev", "lo", "root", "fq"]);
        let output = command.output().expect("tc runs");
        output.status.success()
    });
    if *HAS_FQ { &["fq", "tap"] } else { &["tap"] }
}

/// The options that choose among all hooks there are, for a fault in both directions.
pub fn ways() -> Vec<String> {
    let tc = hooks().into_iter().map(|hook| format!("--attach {hook}"));
    tc.chain(["--hook xdp".to_owned()]).collect()
}

/// Whether a test that is about tcx can run here; else it is counted as skipped, and
/// has to return.
pub fn has_tcx() -> bool {
    *VERSION >= TCX || skip(TCX)
}

/// Tells `cargo xtask test`, which counts it and knows this kernel's version.
fn skip((major, minor): (u32, u32)) -> bool {
    let thread = thread::current();
    let test = thread.name().expect("libtest names its threads");
    // Not by `println!`, which libtest captures. The line may come in the middle of
    // another.
    let line = format!("\nskip: {test} needs Linux {major}.{minor}\n");
    stdout().write_all(line.as_bytes()).expect("stdout");
    false
}

/// How many cases a heavy test runs: all of them, unless the machine is emulated.
pub fn cases(all: u64) -> u64 {
    env::var("FAULTCTL_TEST_CASES").map_or(all, |cases| {
        let most: u64 = cases.parse().expect("FAULTCTL_TEST_CASES is a number");
        all.min(most)
    })
}
