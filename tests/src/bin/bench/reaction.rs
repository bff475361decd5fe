//! How long it takes from the start of faultctl to the first packet lost, and from Ctrl-C to
//! the last, by packets of which one is sent every fifty microseconds.

use std::{
    collections::BTreeSet,
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use fault_tests::{
    Faultctl, Lab, Side,
    lab::{Family, ends},
    udp,
};
use nix::sys::signal::Signal;

use crate::rows::{Row, Samples};

const PACE: Duration = Duration::from_micros(50);
/// How long packets are sent before, between and after.
const PAUSE: Duration = Duration::from_millis(100);

/// Both.
pub fn rows(rounds: usize) -> Vec<Row> {
    let lab = Lab::new();
    let (mut start, mut end) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        let (first, last) = round(&lab);
        start.add(first);
        end.add(last);
    }
    vec![
        Row::new("start to the first packet lost", 1, start.median(), "ms"),
        Row::new("Ctrl-C to the last packet lost", 1, end.median(), "ms"),
    ]
}

/// Milliseconds to the first packet and to the last.
fn round(lab: &Lab) -> (f64, f64) {
    let (from, to) = ends(Family::V4, Side::Near);
    let receiver = udp::socket(&lab.far, to);
    let stop = AtomicBool::new(false);
    let (began, ended, sent) = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            lab.near.run(|| {
                let socket = UdpSocket::bind(from).expect("a socket");
                let mut sent = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let now = Instant::now();
                    let number = sent.len() as u64;
                    socket.send_to(&number.to_be_bytes(), to).expect("to send");
                    sent.push(now);
                    while now.elapsed() < PACE {
                        std::hint::spin_loop();
                    }
                }
                sent
            })
        });
        thread::sleep(PAUSE);
        let began = Instant::now();
        let faultctl = Faultctl::start(
            &lab.near,
            &format!("partition --iface eth0 --to {}", to.ip()),
        );
        thread::sleep(PAUSE);
        let ended = Instant::now();
        faultctl.signal(Signal::SIGINT);
        faultctl.ended();
        thread::sleep(PAUSE);
        stop.store(true, Ordering::Relaxed);
        (began, ended, sender.join().expect("the sender"))
    });
    let arrived: BTreeSet<u64> = udp::drain(&receiver)
        .iter()
        .filter_map(|datagram| Some(u64::from_be_bytes(*datagram.first_chunk()?)))
        .collect();
    let mut lost = (0..)
        .zip(&sent)
        .filter(|(number, _)| !arrived.contains(number))
        .map(|(_, at)| *at);
    let first = lost.next().unwrap_or(ended);
    let end = lost.last().unwrap_or(first);
    let ms = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1e3;
    (ms(began, first), ms(ended, end))
}
