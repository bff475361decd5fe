//! How far from the delay that was asked packets are: echo requests whose way out is delayed,
//! and datagrams that carry when they were sent.

use std::{
    io::Read as _,
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use fault_tests::{
    Side,
    frame::checksum,
    lab::{Family, ends},
    udp,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    Bed, Cases, Who,
    stream::{Arrival, Plan, listen, pace, read_stamp, receive, stamp},
};
use crate::rows::{Aim, Row, Samples};

const MILLIS: [u32; 4] = [1, 10, 100, 1000];
/// Probes of each kind in a round: several are in flight from 10 ms on.
const PROBES: u32 = 80;
const EVERY: Duration = Duration::from_millis(4);
/// How far from its target the TAP's median may be where nothing is emulated.
const TAP_MICROS: f64 = 200.0;

/// Round trips of echo requests, ways of datagrams; in microseconds.
#[derive(Default)]
struct Spans {
    echo: Samples,
    one_way: Samples,
}

/// Median and 99th percentile of the error, for each kind of probe.
pub fn rows(holders: &[Who], rounds: usize) -> Vec<Row> {
    let mut all = Vec::new();
    for millis in std::iter::once(0).chain(MILLIS) {
        let holders = if millis == 0 { &[Who::Nobody] } else { holders };
        let words = format!("delay {millis}ms limit 200000");
        let cases: Cases<Spans> = Cases::new(holders, &format!("{millis} ms"), |who| {
            Bed::new(who, Side::Near, &words)
        });
        all.push((millis, cases));
    }
    for _ in 0..rounds {
        for (millis, cases) in &mut all {
            for (bed, spans) in &mut cases.of {
                probe(bed, Duration::from_millis((*millis).into()), spans);
            }
        }
    }
    let base = all[0].1.find(Who::Nobody);
    let mut rows = Vec::new();
    for (kind, of) in KINDS {
        for (what, percent) in [("median", 50), ("99 %", 99)] {
            let base = base.map_or(f64::NAN, |spans| of(spans).percentile(percent));
            rows.push(Row::new(format!("{kind}, {what}"), 0, base, "us"));
            for (millis, cases) in &all[1..] {
                let error = |spans| of(spans).percentile(percent) - f64::from(*millis) * 1e3;
                let netem = cases.find(Who::Netem).map(error);
                for (bed, spans) in &cases.of {
                    let name = bed.who.name();
                    let what = format!("{kind}, {millis} ms, error, {what}, {name}");
                    let value = error(spans);
                    let mut row = Row::new(what, 0, value, "us");
                    row.own = (percent == 50).then_some(value - base);
                    row.aim = match (bed.who, netem) {
                        (Who::Fq, Some(_)) => Some(Aim::HopeRatio(1.0)),
                        (Who::Tap, None) if percent == 50 => {
                            Some(Aim::Between(-TAP_MICROS, TAP_MICROS))
                        }
                        _ => None,
                    };
                    rows.push(match netem {
                        Some(netem) if bed.who != Who::Netem => row.beside("netem", netem),
                        _ => row,
                    });
                }
            }
        }
    }
    rows.extend(all.into_iter().flat_map(|(_, cases)| cases.missing));
    rows
}

/// What a probe is called, and where its spans are.
type Kind = (&'static str, fn(&Spans) -> &Samples);
const KINDS: [Kind; 2] = [
    ("echo", |spans| &spans.echo),
    ("one-way UDP", |spans| &spans.one_way),
];

/// Sends both kinds of probes in turn, whether earlier ones are back or not.
fn probe(bed: &Bed, longest: Duration, spans: &mut Spans) {
    let (from, to) = ends(Family::V4, Side::Near);
    let datagrams = udp::socket(&bed.lab.far, to);
    listen(&datagrams);
    let echo = bed.lab.near.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4));
        socket.expect("a raw socket")
    });
    let timeout = datagrams.read_timeout().expect("its timeout");
    echo.set_read_timeout(timeout).expect("a timeout");
    let plan = Plan {
        count: PROBES,
        every: EVERY / 2,
        bytes: 64,
        longest,
        copies: false,
    };
    let sent = AtomicBool::new(false);
    thread::scope(|scope| {
        let one_way = scope.spawn(|| {
            let recv = |buffer: &mut [u8]| datagrams.recv(buffer);
            receive(recv, &sent, plan, read_stamp)
        });
        let replies = scope.spawn(|| {
            let recv = |buffer: &mut [u8]| (&echo).read(buffer);
            receive(recv, &sent, plan, read_reply)
        });
        bed.lab.near.run(|| {
            let socket = UdpSocket::bind(from).expect("a socket");
            socket.connect(to).expect("a route");
            let far = SocketAddr::new(to.ip(), 0).into();
            pace(2 * PROBES, plan.every, |number| {
                // What no queue takes is lost, and seen to be.
                let _ = if number % 2 == 0 {
                    socket.send(&stamp(number))
                } else {
                    echo.send_to(&request(number), &far)
                };
            });
        });
        sent.store(true, Ordering::Relaxed);
        for (arrivals, samples) in [
            (one_way.join(), &mut spans.one_way),
            (replies.join(), &mut spans.echo),
        ] {
            let arrivals = arrivals.expect("a receiver");
            for arrival in arrivals {
                samples.add(arrival.micros());
            }
        }
    });
}

/// Of an IPv4 header without options.
const IP: usize = 20;
/// Of an echo message (RFC 792).
const ECHO: usize = 8;

/// An echo request that carries a stamp.
fn request(number: u32) -> Vec<u8> {
    let mut message = [&[8, 0, 0, 0, 0xfa, 0x17, 0, 0][..], &stamp(number)].concat();
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    message
}

fn read_reply(packet: &[u8]) -> Option<Arrival> {
    let message = packet.get(IP..)?;
    (message.first() == Some(&0)).then(|| read_stamp(message.get(ECHO..)?))?
}
