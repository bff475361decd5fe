//! Datagrams that carry their number and when they were sent.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fault_tests::{
    lab::{Family, ends},
    udp,
};

use super::Bed;

/// How often a receiver looks whether it is to go on.
const LOOK: Duration = Duration::from_millis(20);
/// How long the last packets may be late, on an emulated machine too.
const LATE: Duration = Duration::from_secs(1);
/// Bytes of a number and a moment.
pub const STAMP: usize = 12;

/// What is sent.
#[derive(Clone, Copy)]
pub struct Plan {
    /// How many datagrams.
    pub count: u32,
    /// One each so often; they catch up where the sender was late.
    pub every: Duration,
    /// Bytes of payload, at least [`STAMP`].
    pub bytes: usize,
    /// The longest that one is held.
    pub longest: Duration,
    /// Whether more may arrive than are sent.
    pub copies: bool,
}

/// A datagram that has arrived.
#[derive(Clone, Copy)]
pub struct Arrival {
    /// Its number, from 0.
    pub number: u32,
    /// When it was sent.
    pub sent: Duration,
    /// When it was received; both on this process's clock, which is `CLOCK_MONOTONIC`.
    pub at: Duration,
}

impl Arrival {
    /// How long it took, in microseconds.
    pub fn micros(&self) -> f64 {
        (self.at.saturating_sub(self.sent)).as_secs_f64() * 1e6
    }
}

/// Sends, and hears what arrives, in the order of arrival.
pub fn stream(bed: &Bed, plan: Plan) -> Vec<Arrival> {
    let (_, to) = ends(Family::V4, bed.sender);
    self::to(bed, to, plan)
}

/// The same to another address of the receiver.
pub fn to(bed: &Bed, to: SocketAddr, plan: Plan) -> Vec<Arrival> {
    let (from, _) = ends(Family::V4, bed.sender);
    let socket = udp::socket(bed.lab.namespace(bed.receiver()), to);
    listen(&socket);
    let sent = AtomicBool::new(false);
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let recv = |buffer: &mut [u8]| socket.recv(buffer);
            receive(recv, &sent, plan, read_stamp)
        });
        bed.lab.namespace(bed.sender).run(|| {
            let socket = UdpSocket::bind(from).expect("a socket");
            socket.connect(to).expect("a route");
            let mut payload = vec![0; plan.bytes];
            pace(plan.count, plan.every, |number| {
                payload[..STAMP].copy_from_slice(&stamp(number));
                // What no queue takes is lost, and seen to be.
                let _ = socket.send(&payload);
            });
        });
        sent.store(true, Ordering::Relaxed);
        receiver.join().expect("a receiver")
    })
}

/// Makes a socket of [`udp::socket`] one that [`receive`] can wait on.
pub fn listen(socket: &UdpSocket) {
    socket.set_nonblocking(false).expect("blocking");
    socket.set_read_timeout(Some(LOOK)).expect("a timeout");
}

/// Calls `send` with each number when its turn has come.
pub fn pace(count: u32, every: Duration, mut send: impl FnMut(u32)) {
    let begin = Instant::now();
    for number in 0..count {
        let due = begin + every * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        send(number);
    }
}

/// Receives until all that was sent is there, or will not come any more.
pub fn receive(
    mut recv: impl FnMut(&mut [u8]) -> io::Result<usize>,
    sent: &AtomicBool,
    plan: Plan,
    read: impl Fn(&[u8]) -> Option<Arrival>,
) -> Vec<Arrival> {
    let mut buffer = [0; 2048];
    let mut arrived = Vec::new();
    let mut over = None;
    loop {
        if let Ok(len) = recv(&mut buffer) {
            arrived.extend(read(&buffer[..len]));
        }
        if !sent.load(Ordering::Relaxed) {
            continue;
        }
        let over = over.get_or_insert_with(Instant::now);
        let patience = plan.longest + if plan.copies { LATE / 4 } else { LATE };
        let all = arrived.len() >= plan.count as usize && !plan.copies;
        if all || over.elapsed() > patience {
            return arrived;
        }
    }
}

/// A number and now.
pub fn stamp(number: u32) -> [u8; STAMP] {
    let mut bytes = [0; STAMP];
    let nanos = u64::try_from(now().as_nanos()).expect("a run is short");
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes[4..].copy_from_slice(&nanos.to_be_bytes());
    bytes
}

/// What [`stamp`] wrote, received now.
pub fn read_stamp(bytes: &[u8]) -> Option<Arrival> {
    let at = now();
    let (number, rest) = bytes.split_first_chunk()?;
    let nanos = rest.first_chunk()?;
    Some(Arrival {
        number: u32::from_be_bytes(*number),
        sent: Duration::from_nanos(u64::from_be_bytes(*nanos)),
        at,
    })
}

fn now() -> Duration {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGIN.elapsed()
}
