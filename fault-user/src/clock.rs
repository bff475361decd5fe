//! `CLOCK_BOOTTIME`, the clock of deadlines: it goes on while the machine sleeps.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// Now, in nanoseconds since boot.
pub fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let nanos = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    u64::try_from(nanos).expect("a machine runs for less than 584 years")
}

/// A span in nanoseconds; one of over 584 years is as good as forever.
pub fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// The wall-clock time of a moment on the boot clock.
pub fn wall(boot: u64) -> SystemTime {
    let now = boot_ns();
    if boot >= now {
        SystemTime::now() + Duration::from_nanos(boot - now)
    } else {
        SystemTime::now() - Duration::from_nanos(now - boot)
    }
}
