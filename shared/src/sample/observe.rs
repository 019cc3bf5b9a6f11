//! From a series to what the gate compares: one value for each statistic of the invocation.

use std::collections::BTreeMap;

use darwin_gate::{LatencyStat, Metric, Observation, SeriesKey, stats};

use super::{Measured, MetricKind, Per, Series, Summary, Values};

/// Which of a series' statistics is its single value, where it is no latency: the median shrugs off one odd sample.
const CENTRE: LatencyStat = LatencyStat::P50;

impl Series {
    /// How many samples stand behind the series; for a summary what it says, or 1.
    pub fn samples(&self) -> u64 {
        match &self.values {
            Values::Samples(values) => values.len() as u64,
            Values::Histogram(pairs) => pairs.iter().map(|(_, count)| count).sum(),
            Values::Summary(summary) => summary.count.unwrap_or(1),
        }
    }

    /// The `q`-quantile by nearest rank, in the series' unit. None for a summary and for a `q` outside 0 to 1.
    ///
    /// For several quantiles of one series [`Series::observations`] sorts only once.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        self.ranked().quantile(q)
    }

    /// The arithmetic mean over operations, in the series' unit: batches count by their size.
    pub fn mean(&self) -> Option<f64> {
        match (&self.values, &self.per) {
            (Values::Samples(values), Per::Op | Per::Batch { .. }) => stats::mean(values),
            (Values::Samples(values), Per::Batches { iterations }) => {
                weighted_mean(values.iter().copied().zip(iterations.iter().copied()))
            }
            (Values::Histogram(pairs), _) => weighted_mean(pairs.iter().copied()),
            (Values::Summary(summary), _) => summary.mean,
        }
    }

    /// What the gate compares of this series: for latency each statistic, for the others their median.
    ///
    /// Of a single value every quantile is that value, so only its mean is given. A statistic that is not above zero
    /// (a clock too coarse for the bench) is left out, for no ratio can be formed with it; the gate then reports the
    /// series as absent.
    pub fn observations(&self) -> BTreeMap<SeriesKey, Observation> {
        let ranked = self.ranked();
        let single = self.metric_of(CENTRE).filter(|_| self.metric != MetricKind::Latency);
        let stats: Vec<(Metric, Option<f64>)> = match single {
            Some(metric) => vec![(metric, ranked.stat(CENTRE).or_else(|| self.mean()))],
            None => self
                .latency_stats()
                .iter()
                .filter_map(|stat| {
                    let value = if *stat == LatencyStat::Mean { self.mean() } else { ranked.stat(*stat) };
                    Some((self.metric_of(*stat)?, value))
                })
                .collect(),
        };
        let samples = self.samples();
        stats
            .into_iter()
            .filter_map(|(metric, value)| {
                let value = value.filter(|value| value.is_finite() && *value > 0.0)?;
                let observation = Observation { value, samples, evidence: self.evidence, unit: self.unit };
                Some((SeriesKey::new(self.name.as_str(), metric), observation))
            })
            .collect()
    }

    fn latency_stats(&self) -> &'static [LatencyStat] {
        let one_value = matches!(&self.values, Values::Samples(values) if values.len() == 1);
        if one_value { &[LatencyStat::Mean] } else { &LatencyStat::ALL }
    }

    /// The gate's metric for a statistic; none for a custom name that the gate does not take.
    fn metric_of(&self, stat: LatencyStat) -> Option<Metric> {
        match &self.metric {
            MetricKind::Latency => Some(Metric::Latency(stat)),
            MetricKind::Throughput => Some(Metric::Throughput),
            MetricKind::MemoryPeak => Some(Metric::MemoryPeak),
            MetricKind::Instructions => Some(Metric::Instructions),
            MetricKind::Custom(name) => Metric::custom(name.as_str(), self.better).ok(),
        }
    }

    fn ranked(&self) -> Ranked<'_> {
        match &self.values {
            Values::Samples(values) => {
                let mut sorted = values.clone();
                sorted.sort_unstable_by(f64::total_cmp);
                Ranked::Samples(sorted)
            }
            Values::Histogram(pairs) => Ranked::Histogram(pairs),
            Values::Summary(summary) => Ranked::Summary(summary),
        }
    }
}

impl Measured {
    /// What the gate compares of all the series together.
    pub fn observations(&self) -> BTreeMap<SeriesKey, Observation> {
        self.series.iter().flat_map(Series::observations).collect()
    }
}

/// Values in an order in which ranks can be looked up.
enum Ranked<'a> {
    Samples(Vec<f64>),
    Histogram(&'a [(f64, u64)]),
    Summary(&'a Summary),
}

impl Ranked<'_> {
    fn stat(&self, stat: LatencyStat) -> Option<f64> {
        match (self, stat) {
            (Self::Summary(summary), LatencyStat::Min) => summary.min,
            (Self::Summary(summary), LatencyStat::P50) => summary.p50,
            (Self::Summary(summary), LatencyStat::P90) => summary.p90,
            (Self::Summary(summary), LatencyStat::P99) => summary.p99,
            (Self::Summary(summary), LatencyStat::P99_9) => summary.p99_9,
            (Self::Summary(summary), LatencyStat::Mean) => summary.mean,
            (Self::Summary(summary), LatencyStat::Max) => summary.max,
            (Self::Samples(_) | Self::Histogram(_), stat) => self.quantile(stat.quantile()?),
        }
    }

    fn quantile(&self, q: f64) -> Option<f64> {
        match self {
            Self::Samples(sorted) => stats::quantile(sorted, q),
            Self::Histogram(pairs) => {
                let rank = stats::rank(pairs.iter().map(|(_, count)| count).sum(), q)?;
                let mut below = 0;
                pairs.iter().find_map(|(value, count)| {
                    below += count;
                    (below >= rank).then_some(*value)
                })
            }
            Self::Summary(_) => None,
        }
    }
}

/// `sum(value * weight) / sum(weight)`; none without a weight.
fn weighted_mean(pairs: impl Iterator<Item = (f64, u64)>) -> Option<f64> {
    let (sum, weight) = pairs.fold((0.0, 0.0), |(sum, weight), (value, count)| {
        (value.mul_add(count as f64, sum), weight + count as f64)
    });
    (weight > 0.0).then(|| sum / weight)
}
