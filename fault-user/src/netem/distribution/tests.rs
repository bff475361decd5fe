use super::*;

const COMPUTED: [Distribution; 4] = [
    Distribution::Uniform,
    Distribution::Normal,
    Distribution::Pareto,
    Distribution::ParetoNormal,
];

/// A step between the slices of a table, and half a step of its values where they are
/// densest: at the start of the Pareto distribution, whose density is 9/4.
const RESOLUTION: f64 = 0.5 / 4096.0 + 9.0 / 4.0 * 0.5 / 8192.0;

fn values(distribution: &Distribution) -> Vec<f64> {
    let table = distribution.table().expect("a table");
    let scale = f64::from(Table::SCALE);
    table
        .values()
        .iter()
        .map(|v| f64::from(*v) / scale)
        .collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / count(values)
}

fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    (squares / count(values)).sqrt()
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn count(values: &[f64]) -> f64 {
    values.len() as f64
}

/// The exact distribution function, without the quantiles that the tables are made of.
fn cumulative(distribution: &Distribution) -> Box<dyn Fn(f64) -> f64> {
    match distribution {
        Distribution::Uniform => Box::new(|value| f64::midpoint(value, 1.0)),
        Distribution::Normal => Box::new(through(normal_curve())),
        Distribution::Pareto => Box::new(|value| 1.0 - (0.75 * value + 1.5).powi(-3)),
        Distribution::ParetoNormal => {
            let mut curve = normal_curve();
            for (value, share) in &mut curve {
                let pareto = 4.0 / 3.0 * ((1.0 - *share).powf(-1.0 / 3.0) - 1.5);
                *value = 0.25 * *value + 0.75 * pareto.min(4.0);
            }
            Box::new(through(curve))
        }
        Distribution::File { .. } => unreachable!("computed ones only"),
    }
}

/// The normal distribution function, integrated by the trapezoidal rule in steps that
/// leave an error below 1e-8.
fn normal_curve() -> Vec<(f64, f64)> {
    const PER_UNIT: i32 = 4000;
    let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let width = f64::from(PER_UNIT).recip();
    let mut share = 0.0;
    (-6 * PER_UNIT..=6 * PER_UNIT)
        .map(|n| {
            let value = f64::from(n) * width;
            let point = (value, share);
            share += width * f64::midpoint(density(value), density(value + width));
            point
        })
        .collect()
}

/// Straight lines between the points of a rising curve.
fn through(curve: Vec<(f64, f64)>) -> impl Fn(f64) -> f64 {
    move |x| {
        let behind = curve.partition_point(|(value, _)| *value < x);
        let [(x0, y0), (x1, y1)] = [curve[behind - 1], curve[behind]];
        y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    }
}

/// The largest value of a table, which stands for all beyond it.
const CUT: f64 = 32767.0 / 8192.0;

/// Which share of a sorted table is below a value, and which is not above it.
fn shares(table: &[f64], value: f64) -> (f64, f64) {
    let share = |n: usize| f64::from(u32::try_from(n).expect("thousands")) / count(table);
    (
        share(table.partition_point(|v| *v < value)),
        share(table.partition_point(|v| *v <= value)),
    )
}

#[test]
fn tables_have_4096_ascending_values() {
    for distribution in &COMPUTED {
        let table = distribution.table().expect("a table");
        assert_eq!(table.values().len(), 4096, "{distribution:?}");
        assert!(table.values().is_sorted(), "{distribution:?}");
    }
}

#[test]
fn means_and_deviations_are_as_stated() {
    for (distribution, expected_mean, expected_deviation) in [
        (Distribution::Uniform, 0.0, 1.0 / 3.0_f64.sqrt()),
        (Distribution::Normal, 0.0, 1.0),
        // Without the cut they would be 0 and 1.155.
        (Distribution::Pareto, -0.033, 0.82),
        (Distribution::ParetoNormal, -0.025, 0.835),
    ] {
        let values = values(&distribution);
        let (mean, deviation) = (mean(&values), deviation(&values));
        assert!(
            (mean - expected_mean).abs() < 0.001,
            "{distribution:?}: mean {mean}"
        );
        assert!(
            (deviation - expected_deviation).abs() < 0.005,
            "{distribution:?}: deviation {deviation}"
        );
    }
}

#[test]
fn uniform_and_normal_tables_are_symmetric() {
    for distribution in &COMPUTED[..2] {
        let table = distribution.table().expect("a table");
        let mirrored: Vec<_> = table.values().iter().rev().map(|v| -v).collect();
        assert_eq!(table.values(), mirrored, "{distribution:?}");
    }
}

/// Kolmogorov-Smirnov: what a table has beside theory shows at 1 % in samples of
/// (1.63 / 0.00026)^2, some 39 million, and more.
#[test]
fn tables_are_as_near_to_theory_as_their_size_allows() {
    for distribution in &COMPUTED {
        let table = values(distribution);
        let cumulative = cumulative(distribution);
        let mut distance = 0.0_f64;
        for value in &table {
            let (below, up_to) = shares(&table, *value);
            let expected = cumulative(*value);
            distance = distance.max((expected - below).abs());
            if *value < CUT {
                distance = distance.max((expected - up_to).abs());
            }
        }
        assert!(
            distance < RESOLUTION,
            "{distribution:?}: {distance} of {RESOLUTION}"
        );
    }
}

/// The same against iproute2's own tables, where they are installed. Theirs are sampled
/// at the lower ends of the slices, so that they differ by one of them.
#[test]
fn tables_are_those_of_iproute2() {
    let mut compared = 0;
    for name in ["normal", "pareto", "paretonormal"] {
        let Ok(path) = file::find(name) else {
            continue;
        };
        let ours = values(&Distribution::named(name));
        let path = path.to_str().expect("UTF-8").to_owned();
        let theirs = values(&Distribution::File { name: path });
        assert_eq!(theirs.len(), ours.len(), "{name}");
        assert!(theirs.is_sorted(), "{name}");
        let distance = ours.iter().chain(&theirs).fold(0.0_f64, |distance, value| {
            let (_, ours) = shares(&ours, *value);
            let (_, theirs) = shares(&theirs, *value);
            distance.max((ours - theirs).abs())
        });
        assert!(distance < 1.5 / 4096.0, "{name}: {distance}");
        let shift = mean(&ours) - mean(&theirs);
        assert!((0.0..0.001).contains(&shift), "{name}: mean {shift} above");
        let spread = deviation(&ours) / deviation(&theirs);
        assert!((0.99..1.01).contains(&spread), "{name}: spread {spread}");
        compared += 1;
    }
    println!("compared with {compared} of 3 installed tables");
}
