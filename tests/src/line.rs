//! The delay line by itself: the binary `line` as a child process.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStdout, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;

use crate::{faultctl::words, kernel, namespace::Namespace};

/// A running line; killed when dropped.
#[derive(Debug)]
pub struct Line {
    child: Child,
    said: BufReader<ChildStdout>,
}

/// What it says at its end of a direction.
#[derive(Clone, Debug, Deserialize)]
pub struct Said {
    /// `egress` or `ingress`.
    pub direction: String,
    /// Frames that its program decided about.
    pub decided: u64,
    /// Frames that it took in.
    pub held: u64,
    /// Frames that it gave back.
    pub sent: u64,
    /// Frames for which there was no room.
    pub dropped: u64,
}

/// The only hook that kernels below 6.6 have.
const CLSACT: &str = "--clsact";

impl Line {
    /// Starts it inside a namespace, and returns when its programs are attached.
    #[track_caller]
    pub fn start(namespace: &Namespace, arguments: &str) -> Self {
        let test = env::current_exe().expect("a running test has a path");
        // In `deps` of the profile; in a guest beside it.
        let binary = test
            .ancestors()
            .skip(1)
            .map(|directory| directory.join("line"))
            .find(|path| path.is_file())
            .expect("it was built with this test");
        let is_asked = arguments.contains(CLSACT) || kernel::hooks().contains(&"tcx");
        let hook = (!is_asked).then_some(CLSACT);
        let mut child = namespace
            .command(binary)
            .args(words(arguments))
            .args(hook)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let stdout = child.stdout.take().expect("a pipe");
        let mut said = BufReader::new(stdout);
        let mut ready = String::new();
        said.read_line(&mut ready).expect("to hear");
        assert_eq!(ready, "ready\n", "line {arguments}");
        Self { child, said }
    }

    /// Ends it, and hears what became of the frames of each direction.
    #[track_caller]
    pub fn end(mut self) -> Vec<Said> {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.said.read_to_string(&mut text).expect("to hear");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("it runs");
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
