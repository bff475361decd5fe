//! The histogram of injected delays. The kernel has counted it, which is nothing that the
//! library's own histogram can be told.

use fault_common::layout::{DELAY_BUCKETS, Fault};
use prometheus::{
    Opts,
    core::{Collector, Desc, Describer as _},
    proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use crate::snapshot::{RuleCount, Snapshot};

const NAME: &str = "faultctl_injected_delay_seconds";
const HELP: &str = "How long packets were told to wait";
const LABELS: [&str; 3] = ["iface", "direction", "rule"];

/// Of all rules that let packets wait.
pub(super) struct InjectedDelay {
    desc: Desc,
    metrics: Vec<Metric>,
}

impl InjectedDelay {
    /// `None` where no rule does.
    pub fn of(snapshot: &Snapshot) -> Result<Option<Self>, prometheus::Error> {
        let waits = |fault| matches!(fault, Fault::Latency | Fault::Reorder | Fault::Rate);
        let counts = snapshot.counts.iter().filter(|count| waits(count.fault));
        let metrics: Vec<_> = counts.map(metric).collect();
        if metrics.is_empty() {
            return Ok(None);
        }
        let labels = LABELS.map(String::from).to_vec();
        let desc = Opts::new(NAME, HELP).variable_labels(labels).describe()?;
        Ok(Some(Self { desc, metrics }))
    }
}

impl Collector for InjectedDelay {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut family = MetricFamily::default();
        family.set_name(NAME.into());
        family.set_help(HELP.into());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(self.metrics.clone());
        vec![family]
    }
}

#[expect(clippy::cast_precision_loss, reason = "sums below 2^53 ns are exact")]
fn metric(count: &RuleCount) -> Metric {
    let mut histogram = Histogram::default();
    let mut below = 0;
    let buckets = (0..DELAY_BUCKETS - 1)
        .zip(count.delays.buckets)
        .map(|(n, packets)| {
            below += packets;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound((1_u64 << n) as f64 / 1e6);
            bucket.set_cumulative_count(below);
            bucket
        });
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(count.delays.buckets.iter().sum());
    histogram.set_sample_sum(count.counters.delayed_ns as f64 / 1e9);
    let values = [&*count.iface, count.direction.name(), &*count.rule];
    let labels = LABELS.iter().zip(values).map(|(name, value)| {
        let mut label = LabelPair::default();
        label.set_name((*name).into());
        label.set_value(value.into());
        label
    });
    let mut metric = Metric::from_label(labels.collect());
    metric.set_histogram(histogram);
    metric
}
