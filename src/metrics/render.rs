//! From cells to the text that a scrape gets.
//!
//! `Sink` takes one sample after the other and knows from `names` what each is; `Scrape` is the
//! `prometheus` crate's view of it: a collector that owns every family of the table. The crate
//! sorts, escapes and writes; it never sees a cell and is never on the request path.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto;

use super::cells::{BOUNDS, Totals};
use super::names::{Kind, Name};

/// Where samples go during a scrape.
#[derive(Debug)]
pub struct Sink {
    /// Indexed by `Name`.
    series: Vec<Vec<proto::Metric>>,
}

impl Sink {
    fn new() -> Self {
        Self {
            series: vec![Vec::new(); Name::ALL.len()],
        }
    }

    /// A sample of a counter or gauge. `labels` are the values, in the order of the table.
    pub fn put(&mut self, name: Name, labels: &[&str], value: f64) {
        let mut metric = labelled(name, labels);
        match name.family().kind {
            Kind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            Kind::Histogram => {
                debug_assert!(false, "{name:?} takes no single value");
                return;
            }
        }
        self.series[name as usize].push(metric);
    }

    /// A whole number; exact up to 2^53.
    pub fn put_count(&mut self, name: Name, labels: &[&str], value: u64) {
        self.put(name, labels, value as f64);
    }

    pub(super) fn put_histogram(&mut self, name: Name, labels: &[&str], totals: &Totals) {
        debug_assert_eq!(name.family().kind, Kind::Histogram, "{name:?}");
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(BOUNDS.len());
        for (bound, count) in BOUNDS.into_iter().zip(totals.buckets) {
            cumulative += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(seconds(bound));
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        let mut histogram = proto::Histogram::default();
        histogram.set_sample_count(totals.buckets.iter().sum());
        histogram.set_sample_sum(seconds(totals.nanos));
        histogram.set_bucket(buckets);
        let mut metric = labelled(name, labels);
        metric.set_histogram(histogram);
        self.series[name as usize].push(metric);
    }

    fn into_families(self) -> Vec<proto::MetricFamily> {
        Name::ALL
            .iter()
            .zip(self.series)
            .map(|(name, series)| family(*name, series))
            .collect()
    }
}

/// What fills a sink during a scrape.
pub(super) type Fill = dyn Fn(&mut Sink) + Send + Sync;

/// Every family of the table, as one collector.
pub(super) struct Scrape {
    descriptions: Vec<Desc>,
    fill: Arc<Fill>,
}

impl Scrape {
    pub(super) fn new(fill: Arc<Fill>) -> prometheus::Result<Self> {
        let describe = |name: &Name| {
            let family = name.family();
            let labels = family
                .labels
                .iter()
                .map(|&label| label.to_owned())
                .collect();
            Desc::new(
                family.name.to_owned(),
                family.help.to_owned(),
                labels,
                HashMap::new(),
            )
        };
        Ok(Self {
            descriptions: Name::ALL.iter().map(describe).collect::<Result<_, _>>()?,
            fill,
        })
    }
}

impl Collector for Scrape {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut sink = Sink::new();
        (self.fill)(&mut sink);
        sink.into_families()
    }
}

fn family(name: Name, series: Vec<proto::Metric>) -> proto::MetricFamily {
    let line = name.family();
    let mut family = proto::MetricFamily::default();
    family.set_name(line.name.to_owned());
    family.set_help(line.help.to_owned());
    family.set_field_type(match line.kind {
        Kind::Counter => proto::MetricType::COUNTER,
        Kind::Gauge => proto::MetricType::GAUGE,
        Kind::Histogram => proto::MetricType::HISTOGRAM,
    });
    family.set_metric(series);
    family
}

fn labelled(name: Name, values: &[&str]) -> proto::Metric {
    let names = name.family().labels;
    debug_assert_eq!(names.len(), values.len(), "{name:?}");
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    proto::Metric::from_label(names.iter().zip(values).map(pair).collect())
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
