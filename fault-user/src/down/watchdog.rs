//! The process that puts links back when the one that took them away cannot: `kill -9`,
//! a halt, or no memory.
//!
//! It is started from the same binary, in a session of its own and with none of the
//! caller's descriptors, before anything is touched. It hears of the controller's end
//! through a pipe, which the kernel closes by whatever end. It is idle until then.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use caps::Capability;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::setsid,
    stdio::dup2_stdout,
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    flag,
};

use super::{
    put_back::{LONGEST, put_back},
    saved::{Saved, Who},
    state::{self, Entry, State},
};
use crate::{Error, clock, error::KernelError, privilege};

/// How long the controller may take beyond its time.
const GRACE: Duration = Duration::from_secs(3);

/// What the controller says, a byte each; no more to come says that it has ended.
const ARM: u8 = b'a';
const CONFIRMED: u8 = b'c';
const ENDING: u8 = b'e';
const DONE: u8 = b'd';
/// The answer to [`ARM`].
const ARMED: u8 = b'a';

/// The files of the links to watch over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// One a link.
    pub files: Vec<PathBuf>,
}

/// A watchdog, seen from the controller. Dropped before it is dismissed, it puts the links
/// back.
#[derive(Debug)]
pub struct Watchdog {
    child: Child,
    orders: io::PipeWriter,
    answers: io::PipeReader,
}

impl Watchdog {
    /// Starts one, for the files that will be written.
    pub fn start(files: impl Iterator<Item = PathBuf>) -> Result<Self, KernelError> {
        let start = || {
            let (theirs, orders) = io::pipe()?;
            let (answers, theirs_too) = io::pipe()?;
            let mut command = Command::new("/proc/self/exe");
            command
                .arg0("faultctl")
                .arg("watchdog")
                .args(files)
                .env_clear()
                .current_dir("/")
                .stdin(theirs)
                .stdout(theirs_too)
                .stderr(Stdio::null());
            // SAFETY: only system calls between fork and exec.
            unsafe {
                command.pre_exec(|| {
                    // A signal to the caller's process group or terminal stays there.
                    setsid()?;
                    own_descriptors_only()
                });
            }
            Ok(Self {
                child: command.spawn()?,
                orders,
                answers,
            })
        };
        start().map_err(KernelError::system::<io::Error>("start the watchdog"))
    }

    /// Who it is.
    pub fn who(&self) -> Who {
        Who::of(self.child.id())
    }

    /// Lets it watch from here on, over files that are written by now.
    pub fn arm(&mut self) -> Result<(), KernelError> {
        let mut answer = [0];
        self.orders
            .write_all(&[ARM])
            .and_then(|()| self.answers.read_exact(&mut answer))
            .map_err(|_| KernelError::Watchdog)
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Says that the fault stays to its own end.
    pub fn confirmed(&mut self) {
        let _ = self.orders.write_all(&[CONFIRMED]);
    }

    /// Says that the links are being put back.
    pub fn ending(&mut self) {
        // Without a watchdog, it goes without saying.
        let _ = self.orders.write_all(&[ENDING]);
    }

    /// Says that all is done; it ends.
    pub fn dismiss(&mut self) {
        const AT_ONCE: Duration = Duration::from_secs(1);
        if self.orders.write_all(&[DONE]).is_ok()
            && let Some(process) = self.who().find()
        {
            // A stopped one is not waited for.
            let _ = process.wait(AT_ONCE);
        }
        let _ = self.child.try_wait();
    }
}

/// Watches until it is dismissed, or puts the links back.
pub fn run(request: &Request) -> Result<i32, Error> {
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
        // It ends with its controller, and not before.
        flag::register(signal, Arc::new(AtomicBool::new(false)))
            .map_err(KernelError::system("catch signals"))?;
    }
    // The kernel took it from the path, which is `/proc/self/exe`.
    rustix::thread::set_name(c"faultctl").map_err(KernelError::system("set a name"))?;
    // The last to go when memory runs out, where that is allowed.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    let mut orders = Orders(io::stdin());
    let armed = matches!(orders.next(None), Ok(Some(ARM)));
    // Without the order: whatever had been written before the controller ended.
    let states = open(request)?;
    // Whatever goes wrong in between, the links are put back.
    if !(armed && matches!(watch(&mut orders, &states), Ok(Watched::Dismissed))) {
        // What cannot be put back stays in its file, for `status` and `clear`.
        // The controller is dead, or has had its time: nobody is waited for.
        let _ = put_back(&states, false, Duration::ZERO);
    }
    Ok(0)
}

/// What came of watching.
enum Watched {
    /// The controller has put the links back.
    Dismissed,
    /// It has ended, or does not get to run.
    Alone,
}

fn watch(orders: &mut Orders, states: &[State]) -> Result<Watched, KernelError> {
    keep_what_it_takes(states)?;
    io::stdout()
        .write_all(&[ARMED])
        .and_then(|()| io::stdout().flush())
        .map_err(KernelError::system("answer the controller"))?;
    close_stdout().map_err(KernelError::system("close stdout"))?;

    // All of one fault have the same.
    let (until_ns, confirm_until_ns) = states.first().map_or((0, None), |state| {
        (state.saved.until_ns, state.saved.confirm_until_ns)
    });
    let with_grace = |end_ns: u64| end_ns.saturating_add(clock::nanos(GRACE));
    let mut deadline_ns = with_grace(confirm_until_ns.unwrap_or(u64::MAX).min(until_ns));
    loop {
        match orders.next(Some(deadline_ns))? {
            Some(DONE) => return Ok(Watched::Dismissed),
            Some(CONFIRMED) => deadline_ns = with_grace(until_ns),
            Some(ENDING) => {
                deadline_ns = clock::boot_ns() + clock::nanos(LONGEST + GRACE);
            }
            _ => return Ok(Watched::Alone),
        }
    }
}

fn close_stdout() -> io::Result<()> {
    let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
    Ok(dup2_stdout(&nowhere)?)
}

/// The states in the files that this process is the watchdog of.
fn open(request: &Request) -> Result<Vec<State>, KernelError> {
    let mut states = Vec::new();
    for file in &request.files {
        if let Some(Entry::State(state)) = state::read(file)?
            && state.saved.watchdog == Who::this()
        {
            states.push(*state);
        }
    }
    Ok(states)
}

fn keep_what_it_takes(states: &[State]) -> Result<(), KernelError> {
    let elsewhere = |saved: &Saved| saved.netns_path.is_some();
    if states.iter().any(|state| elsewhere(&state.saved)) {
        privilege::keep(&privilege::TO_COME_BACK)
    } else {
        privilege::keep(&[Capability::CAP_NET_ADMIN])
    }
}

struct Orders(io::Stdin);

impl Orders {
    /// The next one; `None` if none can come any more, or none came until then.
    fn next(&mut self, until_ns: Option<u64>) -> Result<Option<u8>, KernelError> {
        // The boot clock goes on while the machine sleeps, poll's doesn't.
        const LOOK: Duration = Duration::from_secs(1);
        loop {
            let left = until_ns.map(|until| {
                Duration::from_nanos(until.saturating_sub(clock::boot_ns())).min(LOOK)
            });
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], timeout.as_ref()) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => {
                    let mut order = [0];
                    let count = rustix::io::read(&self.0, &mut order)
                        .map_err(KernelError::system("hear the controller"))?;
                    return Ok((count > 0).then_some(order[0]));
                }
                Err(error) => return Err(KernelError::system("hear the controller")(error)),
            }
        }
    }
}

/// Closes at exec what the caller had open beside the standard streams.
fn own_descriptors_only() -> io::Result<()> {
    // SAFETY: it marks descriptors, and closes none in this process.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
