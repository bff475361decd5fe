//! The bounds themselves, and the chains of `fault_common` against them.
//!
//! Seeds are fixed, so a run that fails is a change in the code.

use fault_common::{
    decide::{Decision, Turn, decide_by_chain, next},
    layout::{Direction, Rule, State},
};
use fault_user::spec::{Burst, FaultKind, FaultSpec, Loss, Percent, Selectors, compile};

use super::*;
use crate::binomial;

/// The numbers of the packets that a fault loses among the first so many.
fn missing(loss: Loss, seed: u64, packets: u64) -> Vec<u64> {
    let spec = FaultSpec {
        kind: FaultKind::Loss(loss),
        selectors: Selectors::default(),
        waits: fault_user::spec::Waits::default(),
        seed: None,
    };
    let rule: Rule = compile(&spec, seed).unwrap().rules[0].rule;
    let mut state = State::default();
    let mut missing = Vec::new();
    for number in 0..packets {
        let turn = Turn {
            state,
            direction: Direction::Egress,
        };
        state = next(&rule, turn);
        if decide_by_chain(&rule, turn, state.chain()) == Decision::Drop {
            missing.push(number);
        }
    }
    missing
}

fn gemodel(text: &str) -> (Loss, Theory) {
    (
        Loss::Gemodel(text.parse().unwrap()),
        Theory::gemodel(shares(text)),
    )
}

fn states(text: &str) -> (Loss, Theory) {
    (
        Loss::State(text.parse().unwrap()),
        Theory::states(shares(text)),
    )
}

fn burst(points: f64, length: f64) -> (Loss, Theory) {
    let percent = Percent::new(points).unwrap();
    let burst = Burst::new(percent, length.to_string().parse().unwrap()).unwrap();
    (Loss::Burst(burst), Theory::burst(points / 100.0, length))
}

fn correlated(points: f64, correlation: f64) -> (Loss, Theory) {
    let [percent, other] = [points, correlation].map(|points| Percent::new(points).unwrap());
    let loss = Loss::Random {
        percent,
        correlation: other,
    };
    (
        loss,
        Theory::correlated(points / 100.0, correlation / 100.0),
    )
}

fn shares<const N: usize>(text: &str) -> [f64; N] {
    let shares: Vec<f64> = text
        .split(',')
        .map(|points| points.parse::<f64>().unwrap() / 100.0)
        .collect();
    shares.try_into().unwrap()
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

#[test]
fn independent_losses_have_the_binomial_bounds() {
    for (rate, packets) in [(0.5, 10_000), (0.01, 100_000), (0.1, 500)] {
        let ours = Theory::gemodel([0.0, 0.0, 1.0, rate])
            .bounds(packets)
            .losses;
        let exact = binomial::interval(packets, rate);
        let width = float(exact.end() - exact.start());
        for (one, other) in [(ours.start(), exact.start()), (ours.end(), exact.end())] {
            assert!(
                float(one.abs_diff(*other)) <= 0.04 * width + 1.0,
                "{ours:?}, not {exact:?}, for {rate} of {packets}"
            );
        }
    }
}

#[test]
fn expected_counts_are_the_known_ones() {
    // Gilbert: of all packets p r / (p + r) are the first of a burst, which reaches
    // `length` with (1 - r)^(length - 1).
    let (rate, length) = (0.1_f64, 5.0_f64);
    let theory = Theory::burst(rate, length);
    let packets = 1_000_000;
    let t = 1e-7;
    let mean = |event| theory.log_moment(event, t, packets) / t;
    let near = |mean: f64, expected: f64| {
        assert!(
            (mean / expected - 1.0).abs() < 1e-3,
            "{mean}, not {expected}"
        );
    };
    near(mean(Event::Loss), 1e5);
    for k in [1, 2, 4, 8] {
        near(
            mean(Event::Run(k)),
            2e4 * 0.8_f64.powi(i32::try_from(k).unwrap() - 1),
        );
    }
    // The variance of the number of losses is wider by (1 + c) / (1 - c).
    let p = rate / length / (1.0 - rate);
    let c = 1.0 - p - 1.0 / length;
    let t = 1e-4;
    let variance = (theory.log_moment(Event::Loss, t, packets)
        + theory.log_moment(Event::Loss, -t, packets))
        / (t * t);
    near(variance, 1e6 * rate * (1.0 - rate) * (1.0 + c) / (1.0 - c));
}

#[test]
fn numbers_in_a_row_are_a_burst() {
    assert_eq!(bursts(&[]), [0; 0]);
    assert_eq!(bursts(&[0, 1, 2, 5, 7, 8]), [3, 1, 2]);
}

#[test]
fn losses_and_bursts_are_those_of_the_models() {
    const PACKETS: u64 = 100_000;
    for (loss, theory) in [
        gemodel("1,10,100,0"),
        gemodel("5,95,100,0"),
        gemodel("2,20,70,0.5"),
        gemodel("100,100,100,0"),
        gemodel("50,50,30,60"),
        states("1,10,0,100,0"),
        states("5,20,30,40,2"),
        states("0,100,0,100,3"),
        states("2,30,10,5,0.1"),
        burst(10.0, 5.0),
        burst(1.0, 20.0),
        burst(75.0, 4.0),
        burst(50.0, 1.0),
        correlated(30.0, 80.0),
        correlated(10.0, 25.0),
        correlated(50.0, 90.0),
    ] {
        let bounds = theory.bounds(PACKETS);
        for seed in [1, 0xdead_beef_0bad_cafe] {
            bounds.assert_hold(&missing(loss, seed, PACKETS));
        }
    }
}

#[test]
fn rare_and_long_bursts_are_as_rare_and_as_long_as_the_model_says() {
    // Some ten bursts of a thousand packets in each run. One run may lose a third of
    // what it should, or three times as much, by chance; all together tell.
    const RUNS: u64 = 20;
    const PACKETS: u64 = 1_000_000;
    let (model, theory) = gemodel("0.001,0.1,100,0");
    let bounds = theory.bounds(PACKETS);
    let mut lost = 0;
    for seed in 0..RUNS {
        let missing = missing(model, seed, PACKETS);
        bounds.assert_hold(&missing);
        lost += missing.len() as u64;
    }
    // The runs are independent: the moment of their sum is the product.
    let allowed = (2.0 / CHANCE).ln();
    for t in (8..16).map(|n| 0.5_f64.powi(n)).flat_map(|t| [t, -t]) {
        let moment = theory.log_moment(Event::Loss, t, PACKETS) * float(RUNS);
        let bound = (moment + allowed) / t;
        assert_eq!(float(lost) < bound, t > 0.0, "{lost}, bound {bound}");
    }
}

#[test]
fn correlation_of_all_repeats_the_first_outcome() {
    for seed in 0..64 {
        let lost = missing(correlated(50.0, 100.0).0, seed, 1000).len();
        assert!(lost == 0 || lost == 1000, "{lost} with seed {seed}");
    }
}

#[test]
fn ends_of_the_scales_are_exact() {
    let all: Vec<u64> = (0..1000).collect();
    let none: Vec<u64> = Vec::new();
    let every_second: Vec<u64> = (1..1000).step_by(2).collect();
    for seed in 0..16 {
        for (loss, lost) in [
            (gemodel("0,100,100,0").0, &none),
            (gemodel("0,0,0,100").0, &all),
            (gemodel("100,100,100,0").0, &every_second),
            (states("0,100,0,100,0").0, &none),
            (states("100,0,0,100,0").0, &all),
            (correlated(0.0, 100.0).0, &none),
            (correlated(100.0, 50.0).0, &all),
        ] {
            assert_eq!(&missing(loss, seed, 1000), lost, "{loss:?}");
        }
    }
}
