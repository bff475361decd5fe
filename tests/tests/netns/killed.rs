//! SIGKILL and SIGSTOP at a hundred random moments.

use std::{
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use fault_tests::{
    Family, Lab, Side,
    faultctl::{command, words},
    kernel::ways,
    udp,
    wait::until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const MOMENTS: usize = 100;
/// At once; each waits for its lease.
const LABS: usize = 10;
/// A lease and what a loaded machine may need.
const BOUND: Duration = Duration::from_secs(4);

#[test]
fn no_effect_outlives_the_lease_at_a_hundred_random_moments() {
    thread::scope(|scope| {
        for first in 0..LABS {
            scope.spawn(move || {
                let lab = Lab::new();
                for moment in (first..MOMENTS).step_by(LABS) {
                    end_at_random(&lab, moment);
                }
            });
        }
    });
}

fn end_at_random(lab: &Lab, moment: usize) {
    // From before the program is loaded to well after it is attached.
    let after = Duration::from_micros(splitmix(moment as u64) % 1_500_000);
    let way = &ways()[moment % ways().len()];
    let signal = [Signal::SIGKILL, Signal::SIGSTOP][moment / 2 % 2];
    let line = format!("loss 100 --iface eth0 --direction both {way}");
    let child = command(&lab.near, &words(&line))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("faultctl runs");
    let child = Killed(child);
    // The moment is what is tested, there is nothing to wait for.
    thread::sleep(after);
    kill(Pid::from_raw(child.0.id().cast_signed()), signal).expect("it runs");
    let at = Instant::now();
    let passes = || {
        Side::ALL
            .into_iter()
            .all(|sender| udp::flow(lab, Family::V4, sender, 10).lost() == 0)
    };
    until(
        &format!("{signal} {after:?} after the start by {way}: no effect"),
        BOUND,
        || passes().then_some(()),
    );
    if signal == Signal::SIGSTOP {
        // It may have been stopped before it came to attach; nothing comes later either.
        until("the lease is over", BOUND * 2, || {
            (at.elapsed() > BOUND).then_some(())
        });
        assert!(passes());
    }
}

/// A child that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Steele, Lea, Flood 2014: fixed moments, spread evenly.
fn splitmix(number: u64) -> u64 {
    let mut z = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
