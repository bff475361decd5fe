//! `CLOCK_BOOTTIME`, the clock of deadlines: it goes on while the machine sleeps.

use std::{
    fs,
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use rustix::time::{ClockId, clock_gettime};

/// Now, in nanoseconds since boot, as BPF programs see it: without the offset of a
/// time namespace (`time_namespaces(7)`).
pub fn boot_ns() -> u64 {
    static OFFSET: LazyLock<i128> = LazyLock::new(|| offset_of("boottime"));
    now_ns(ClockId::Boottime, *OFFSET)
}

/// Now by `CLOCK_MONOTONIC`, the clock of departure times, which stands still while the
/// machine sleeps; as BPF programs see it.
pub fn monotonic_ns() -> u64 {
    static OFFSET: LazyLock<i128> = LazyLock::new(|| offset_of("monotonic"));
    now_ns(ClockId::Monotonic, *OFFSET)
}

fn now_ns(clock: ClockId, offset: i128) -> u64 {
    let now = clock_gettime(clock);
    let nanos = i128::from(now.tv_sec) * SECOND + i128::from(now.tv_nsec) - offset;
    u64::try_from(nanos).expect("a machine runs for less than 584 years")
}

const SECOND: i128 = 1_000_000_000;

fn offset_of(clock: &str) -> i128 {
    fs::read_to_string("/proc/self/timens_offsets")
        .ok()
        .and_then(|text| offset(&text, clock))
        .unwrap_or(0)
}

/// The line `boottime SECONDS NANOSECONDS`.
fn offset(text: &str, clock: &str) -> Option<i128> {
    let line = text.lines().find(|line| line.starts_with(clock))?;
    let mut numbers = line.split_whitespace().skip(1);
    let seconds: i128 = numbers.next()?.parse().ok()?;
    let nanos: i128 = numbers.next()?.parse().ok()?;
    Some(seconds * SECOND + nanos)
}

/// A span in nanoseconds; one of over 584 years is as good as forever.
pub fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Waits for a moment on the boot clock, which goes on while the machine sleeps; the
/// runtime's doesn't.
pub async fn reach(boot: u64) {
    const LOOK: u64 = 1_000_000_000;
    while boot_ns() < boot {
        let left = boot - boot_ns().min(boot);
        tokio::time::sleep(Duration::from_nanos(left.min(LOOK))).await;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_of_a_time_namespace_is_read() {
        let text = "monotonic           0         0\nboottime         3600         5\n";
        assert_eq!(offset(text, "boottime"), Some(3_600_000_000_005));
        assert_eq!(offset(text, "monotonic"), Some(0));
        assert_eq!(offset("", "boottime"), None);
    }
}
