//! Sending without outrunning the receiver, and knowing when all has arrived.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};

/// Packets in flight at most; the kernel's queue per CPU holds 1000.
const WINDOW: u64 = 64;

/// Keeps a sender in step with the kernel.
///
/// What a thread sends over veth or loopback goes through one queue of the CPU it runs
/// on, in order. A thread on one CPU that sees its own loopback packet come back knows
/// that everything it sent before has arrived, or never will.
#[derive(Debug)]
pub struct Pace {
    loopback: UdpSocket,
    sent: u64,
}

impl Pace {
    /// Keeps the calling thread on its CPU, in the namespace that it is in.
    pub fn new() -> Self {
        let mut cpus = CpuSet::new();
        cpus.set(sched_getcpu().expect("a CPU"))
            .expect("its number");
        sched_setaffinity(Pid::from_raw(0), &cpus).expect("to stay on a CPU");
        let loopback = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback socket");
        loopback
            .connect(loopback.local_addr().expect("bound"))
            .expect("a loopback route");
        loopback
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        Self { loopback, sent: 0 }
    }

    /// To be called for every packet sent.
    pub fn sent(&mut self) {
        self.sent += 1;
        if self.sent.is_multiple_of(WINDOW) {
            self.settle();
        }
    }

    /// Returns when everything that was sent so far has arrived.
    pub fn settle(&self) {
        self.loopback.send(&[0]).expect("to send over loopback");
        self.loopback.recv(&mut [0]).expect("to hear from loopback");
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new()
    }
}
