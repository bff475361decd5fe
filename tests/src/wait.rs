//! Waiting for a condition, with a bound.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// For what needs no time but a scheduler's goodwill, on a loaded or emulated machine
/// too.
pub const SOON: Duration = Duration::from_mins(1);

/// Asks until there is an answer. Panics, saying `what` did not come, after `bound`.
pub fn until<T>(what: &str, bound: Duration, mut answer: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(start.elapsed() < bound, "{what}: not within {bound:?}");
        sleep(Duration::from_millis(5));
    }
}
