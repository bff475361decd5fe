//! Who uses the processors, by the kernel's count in hundredths of a second.

use std::{collections::BTreeMap, ffi::CStr, fmt, fs, time::Instant};

use nix::unistd::Pid;

/// Names of the benchmark's own threads that send; the kernel keeps 15 bytes.
pub const SENDER: &CStr = c"bench-send";
/// Of those that receive.
pub const RECEIVER: &CStr = c"bench-receive";
/// `USER_HZ`, which is the same on every machine that this runs on.
const HZ: f64 = 100.0;
/// A thread that has so much of a processor waits for nothing else.
const FULL: f64 = 0.9;

/// Times of one moment.
pub struct Mark {
    at: Instant,
    pid: Pid,
    faultctl: BTreeMap<String, u64>,
    own: BTreeMap<String, u64>,
    idle: u64,
}

/// Processors that were used, 1 being one of them the whole time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// By faultctl.
    pub faultctl: f64,
    /// By the one of its threads that used most.
    pub busiest: f64,
    /// By the thread that sends, and what the kernel does in its name; with several, by all.
    pub sender: f64,
    /// By the thread that receives.
    pub receiver: f64,
    /// By nobody.
    pub idle: f64,
}

impl Mark {
    /// Now, with faultctl's process.
    pub fn new(pid: Pid) -> Self {
        Self {
            at: Instant::now(),
            pid,
            faultctl: threads(pid, |id, _| id.to_owned()),
            own: threads(Pid::this(), |_, name| name.to_owned()),
            idle: idle(),
        }
    }

    /// What was used since then.
    pub fn until_now(self) -> Usage {
        let now = Self::new(self.pid);
        let seconds = now.at.duration_since(self.at).as_secs_f64();
        let share = |ticks: u64| f64::from(u32::try_from(ticks).unwrap_or(u32::MAX)) / HZ / seconds;
        let used = |before: &BTreeMap<_, u64>, after: &BTreeMap<String, u64>, name: &str| {
            let [before, after] = [before, after].map(|of| of.get(name).copied().unwrap_or(0));
            share(after.saturating_sub(before))
        };
        let faultctl = now.faultctl.keys();
        let shares = faultctl.map(|id| used(&self.faultctl, &now.faultctl, id));
        Usage {
            faultctl: shares.clone().sum(),
            busiest: shares.fold(0.0, f64::max),
            sender: used(&self.own, &now.own, &SENDER.to_string_lossy()),
            receiver: used(&self.own, &now.own, &RECEIVER.to_string_lossy()),
            idle: share(now.idle.saturating_sub(self.idle)),
        }
    }
}

impl Usage {
    /// What there is no more of.
    pub fn limit(&self) -> &'static str {
        if self.busiest > FULL {
            "faultctl's thread"
        } else if self.sender > FULL {
            "the sender"
        } else if self.receiver > FULL {
            "the receiver"
        } else if self.idle < 1.0 - FULL {
            "the processors"
        } else {
            "none of these"
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "CPUs: faultctl {:.2}, its busiest thread {:.2}, sender {:.2}, receiver {:.2}, idle \
             {:.2}; the limit: {}",
            self.faultctl,
            self.busiest,
            self.sender,
            self.receiver,
            self.idle,
            self.limit()
        )
    }
}

/// Ticks of user and system time of a process's threads, added up by what `key` makes of
/// their number and name.
fn threads(pid: Pid, key: impl Fn(&str, &str) -> String) -> BTreeMap<String, u64> {
    let mut ticks = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
    {
        // A thread may go while it is looked at.
        let Ok(task) = task else { continue };
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else {
            continue;
        };
        let Some((head, rest)) = stat.rsplit_once(") ") else {
            continue;
        };
        let Some((id, name)) = head.split_once(" (") else {
            continue;
        };
        // The 14th and 15th field; `rest` begins with the third.
        let fields = rest.split(' ').skip(11).take(2);
        let sum: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
        *ticks.entry(key(id, name)).or_default() += sum;
    }
    ticks
}

/// Ticks that processors were idle, all together.
fn idle() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = stat.lines().next().unwrap_or_default();
    let field = first.split_whitespace().nth(4);
    field.and_then(|field| field.parse().ok()).unwrap_or(0)
}
