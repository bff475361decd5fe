//! Several processes on one interface.

use fault_tests::{
    Family, Lab, Side,
    binomial::assert_rate,
    foreign::Counting,
    kernel::{engines, hooks},
    lab::ends,
    line::Line,
    udp,
};

use super::{COUNT, EARLY, MILLISECOND, by, delayed, helpers, one_way, receiver};

#[test]
fn loss_and_delay_of_two_processes_decide_once_each() {
    for engine in engines() {
        let (loss, delay) = ("loss 10", format!("latency 20ms --engine {engine}"));
        for hook in hooks() {
            for sender in Side::ALL {
                let way = sender.direction();
                for delay_is_first in [true, false] {
                    let lab = Lab::new();
                    let start = |what: &str| {
                        let line = format!("{what} --iface eth0 --direction {way} {}", by(hook));
                        Line::start(&lab.near, &line)
                    };
                    let (older, newer) = if delay_is_first {
                        (&*delay, loss)
                    } else {
                        (loss, &*delay)
                    };
                    let older = start(older);
                    let newer = start(newer);
                    let (from, to) = ends(Family::V4, sender);
                    let receiving = udp::socket(receiver(&lab, sender), to);
                    let outcome = udp::send(lab.namespace(sender), from, to, COUNT);
                    assert_eq!(outcome.refused, 0);
                    // The newer one is in front of the older, and comes off last.
                    let (delay, loss) = if delay_is_first {
                        let delay = older.end().remove(0);
                        (delay, newer.end().remove(0))
                    } else {
                        let delay = newer.end().remove(0);
                        (delay, older.end().remove(0))
                    };
                    let arrived = udp::drain(&receiving).len() as u64;
                    // Two-sided 1e-9 each, by `binomial`.
                    assert_rate(COUNT - arrived, COUNT, 0.1);
                    assert_eq!(loss.decided, COUNT, "{delay:?} {loss:?}");
                    let seen = if delay_is_first { arrived } else { COUNT };
                    assert_eq!((delay.decided, delay.sent), (seen, seen), "{loss:?}");
                }
            }
        }
    }
}

#[test]
fn delays_of_two_processes_add_up() {
    for engine in engines() {
        for hook in hooks() {
            for sender in Side::ALL {
                let lab = Lab::new();
                let start = |millis: u64| {
                    let way = sender.direction();
                    let line = format!(
                        "latency {millis}ms --iface eth0 --engine {engine} --direction {way}"
                    );
                    Line::start(&lab.near, &format!("{line} {}", by(hook)))
                };
                let (one, two) = (start(300), start(500));
                assert_eq!(helpers(&lab.near), 2);
                let spans = one_way(&lab, Family::V6, sender, 3);
                assert!(spans[0] + EARLY >= 800 * MILLISECOND, "{spans:?}");
                // No delay comes twice, the quickest time.
                assert!(spans[0] < 1100 * MILLISECOND, "{spans:?}");
                for said in [one.end().remove(0), two.end().remove(0)] {
                    assert_eq!((said.decided, said.sent), (3, 3), "{said:?}");
                }
            }
        }
    }
}

#[test]
fn programs_of_others_behind_see_each_frame_once() {
    for engine in engines() {
        for sender in Side::ALL {
            let lab = Lab::new();
            let foreign = Counting::on(&lab, sender);
            let way = sender.direction();
            let line = format!("latency 5ms --iface eth0 --engine {engine} --direction {way}");
            let _line = Line::start(&lab.near, &line);
            delayed(&lab, Family::V4, sender, COUNT, |n| n == COUNT);
            assert_eq!(foreign.frames(), COUNT);
        }
    }
}
