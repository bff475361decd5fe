//! TCP through a delay: what arrives in a window of time after a warm-up, in which slow start
//! ends.

use std::{
    fmt, fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fault_tests::{
    Namespace, Side,
    lab::{Family, ends},
    tcp::total_retransmits,
};
use nix::{
    sys::{
        prctl,
        socket::{setsockopt, sockopt},
    },
    unistd::Pid,
};
use socket2::SockRef;

use super::{
    Bed, Cases, Who, float,
    usage::{Mark, RECEIVER, SENDER, Usage},
};
use crate::rows::{Aim, Row, Samples};

/// Bytes of a write and of a read.
const CHUNK: usize = 256 << 10;
/// A thread that waits looks so often whether it is to end.
const LOOK: Duration = Duration::from_millis(100);
/// Of netem's median, for fq.
const LEAST: f64 = 0.9;

/// What is sent.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Connections at once.
    pub flows: usize,
    /// How long they have before it counts.
    pub warm_up: Duration,
    /// How long it counts.
    pub window: Duration,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transfer {
    /// Bits a second that arrived within the window.
    pub bits: f64,
    /// Why it was not more.
    pub resent: Resent,
    /// Who used the processors within the window.
    pub usage: Usage,
}

/// Why less arrived, from the start to the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resent {
    /// Segments sent again.
    pub again: u64,
    /// Of them, those that the receiver had got already and said so (RFC 2883).
    pub needless: u64,
    /// Packets for which the queue of a CPU had no room, on the whole machine.
    pub overflow: u64,
}

#[derive(Default)]
struct Measured {
    mbits: Samples,
    resent: Resent,
}

impl Resent {
    fn add(&mut self, other: Self) {
        self.again += other.again;
        self.needless += other.needless;
        self.overflow += other.overflow;
    }
}

impl fmt::Display for Resent {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            again,
            needless,
            overflow,
        } = self;
        write!(
            to,
            "{again} sent again, {needless} needlessly, {overflow} lost in CPUs' queues"
        )
    }
}

impl Plan {
    /// For a delay: slow start takes some ten round trips.
    pub fn new(flows: usize, delay: Duration) -> Self {
        Self {
            flows,
            warm_up: Duration::from_millis(200) + 10 * delay,
            window: Duration::from_millis(600) + 3 * delay,
        }
    }
}

/// At 10 and 100 ms, out and in, one flow and eight.
pub fn rows(holders: &[Who], rounds: usize) -> Vec<Row> {
    let mut rows = bases(rounds);
    let mut pairs = [Who::Fq, Who::Tap].map(|who| (who, Samples::default()));
    for sender in Side::ALL {
        for millis in [10, 100] {
            let words = format!("delay {millis}ms limit 200000");
            let way = sender.direction();
            let what = format!("TCP ({}), {way}, {millis} ms", *CONTROL);
            let delay = Duration::from_millis(millis);
            let cases =
                Cases::<[Measured; 2]>::new(holders, &what, |who| Bed::new(who, sender, &words));
            rows.extend(measure(cases, rounds, &what, delay, &mut pairs));
        }
    }
    for (who, ratios) in pairs.iter().filter(|(_, ratios)| !ratios.all().is_empty()) {
        let what = format!(
            "TCP ({}), all cases, {} beside netem in the same round, {} pairs",
            *CONTROL,
            who.name(),
            ratios.all().len(),
        );
        let mut row = Row::new(what, 0, 100.0 * ratios.median(), "%");
        row.aim = (*who == Who::Fq).then_some(Aim::Least(100.0 * LEAST, 100.0));
        rows.push(row);
    }
    rows
}

const FLOWS: [usize; 2] = [1, 8];

fn measure(
    mut cases: Cases<[Measured; 2]>,
    rounds: usize,
    what: &str,
    delay: Duration,
    pairs: &mut [(Who, Samples)],
) -> Vec<Row> {
    for _ in 0..rounds {
        for (flows, n) in FLOWS.into_iter().zip(0..) {
            for (bed, measured) in &mut cases.of {
                let transfer = transfer(bed, Plan::new(flows, delay));
                measured[n].mbits.add(transfer.bits / 1e6);
                measured[n].resent.add(transfer.resent);
            }
        }
    }
    let netem = cases.find(Who::Netem);
    for (who, ratios) in pairs {
        let both = cases.find(*who).zip(netem);
        for (own, netem) in both
            .into_iter()
            .flat_map(|(own, netem)| own.iter().zip(netem))
        {
            let rounds = own.mbits.all().iter().zip(netem.mbits.all());
            rounds.for_each(|(own, netem)| ratios.add(own / netem));
        }
    }
    let netem = netem.map(|measured| [0, 1].map(|n: usize| measured[n].mbits.median()));
    let mut rows = cases.missing;
    for (bed, measured) in cases.of {
        let who = bed.who;
        let dropped = bed.dropped();
        for (flows, n) in FLOWS.into_iter().zip(0..) {
            let Measured { mbits, resent } = &measured[n];
            let what = format!(
                "{what}, {}, {} ({resent}; {dropped} dropped with one and eight flows)",
                named(flows),
                who.name(),
            );
            let mut row = Row::new(what, 0, mbits.median(), "Mbit/s");
            if let Some(netem) = netem.filter(|_| who != Who::Netem) {
                row = row.beside("netem", netem[n]);
                row.aim = (who == Who::Fq).then_some(Aim::LeastRatio(LEAST));
            }
            rows.push(row);
        }
    }
    rows
}

/// Without any delay.
fn bases(rounds: usize) -> Vec<Row> {
    let bed = Bed::bare(Who::Nobody, Side::Near);
    FLOWS
        .into_iter()
        .map(|flows| {
            let (mut mbits, mut resent) = (Samples::default(), Resent::default());
            for _ in 0..rounds {
                let transfer = transfer(&bed, Plan::new(flows, Duration::ZERO));
                mbits.add(transfer.bits / 1e6);
                resent.add(transfer.resent);
            }
            let what = format!("TCP ({}), {}, no delay", *CONTROL, named(flows));
            let what = format!("{what} ({resent})");
            Row::new(what, 0, mbits.median(), "Mbit/s")
        })
        .collect()
}

fn named(flows: usize) -> &'static str {
    if flows == 1 {
        "one flow"
    } else {
        "eight flows"
    }
}

/// The congestion control that each socket is told to use: cubic, Linux's default, or what
/// there is always.
pub static CONTROL: LazyLock<&str> = LazyLock::new(|| {
    let there = Namespace::new().run(|| {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a listener");
        setsockopt(
            &listener,
            sockopt::TcpCongestion,
            &"cubic".to_owned().into(),
        )
    });
    if there.is_ok() { "cubic" } else { "reno" }
});

/// Sends from the bed's sender.
pub fn transfer(bed: &Bed, plan: Plan) -> Transfer {
    let (_, to) = ends(Family::V4, bed.sender);
    let listener = bed
        .lab
        .namespace(bed.receiver())
        .run(|| TcpListener::bind(to));
    let listener = listener.expect("a listener");
    let stop = AtomicBool::new(false);
    let bytes = AtomicU64::new(0);
    let needless = || {
        let sender = bed.lab.namespace(bed.sender);
        sender.tcp_ext("TCPDSACKRecvSegs")
    };
    let before = (needless(), overflow());
    thread::scope(|scope| {
        let mut senders = Vec::new();
        for _ in 0..plan.flows {
            let connect = || TcpStream::connect_timeout(&to, Duration::from_secs(20));
            let sending = bed.lab.namespace(bed.sender).run(connect);
            let sending = sending.expect("a connection");
            let (receiving, _) = listener.accept().expect("a connection");
            senders.push(scope.spawn(|| send(sending, &stop)));
            scope.spawn(|| receive(receiving, &stop, &bytes));
        }
        thread::sleep(plan.warm_up);
        let mark = Mark::new(bed.pid().unwrap_or_else(Pid::this));
        let (begin, first) = (Instant::now(), bytes.load(Ordering::Relaxed));
        thread::sleep(plan.window);
        let last = bytes.load(Ordering::Relaxed);
        let seconds = begin.elapsed().as_secs_f64();
        let usage = mark.until_now();
        stop.store(true, Ordering::Relaxed);
        let bytes = usize::try_from(last - first).unwrap_or(usize::MAX);
        Transfer {
            bits: float(bytes) * 8.0 / seconds,
            resent: Resent {
                needless: needless() - before.0,
                overflow: overflow() - before.1,
                again: senders
                    .into_iter()
                    .map(|sender| sender.join().expect("a sender"))
                    .sum(),
            },
            usage,
        }
    })
}

/// Packets that the queues of all CPUs had no room for (`netdev_max_backlog`): the second
/// column of each line of `/proc/net/softnet_stat`, which all namespaces share.
fn overflow() -> u64 {
    let text = fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
    let column = |line: &str| {
        let hex = line.split_whitespace().nth(1)?;
        u64::from_str_radix(hex, 16).ok()
    };
    text.lines().filter_map(column).sum()
}

/// Writes until it is to stop, and lets nothing wait in the kernel afterwards.
fn send(mut stream: TcpStream, stop: &AtomicBool) -> u64 {
    prctl::set_name(SENDER).expect("a name");
    let control = (*CONTROL).to_owned().into();
    setsockopt(&stream, sockopt::TcpCongestion, &control).expect("it was there before");
    stream.set_write_timeout(Some(LOOK)).expect("a timeout");
    let data = vec![0xfa; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        // A full buffer is no error, and a broken connection shows in what arrives.
        let _ = stream.write(&data);
    }
    let again = total_retransmits(&stream);
    let abort = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    abort.expect("a socket");
    again
}

fn receive(mut stream: TcpStream, stop: &AtomicBool, bytes: &AtomicU64) {
    prctl::set_name(RECEIVER).expect("a name");
    stream.set_read_timeout(Some(LOOK)).expect("a timeout");
    let mut buffer = vec![0; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        if let Ok(len) = stream.read(&mut buffer) {
            bytes.fetch_add(len as u64, Ordering::Relaxed);
        }
    }
}
