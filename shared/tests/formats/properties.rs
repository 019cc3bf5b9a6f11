//! No input makes a reader panic, and nothing is lost between writing and reading.

use std::collections::BTreeMap;

use darwin_gate::{Better, Evidence, Unit};
use darwin_shared::formats::{Format, Input, TreeFile, detect, read, write_samples};
use darwin_shared::sample::{Grouping, Measured, MetricKind, Order, Per, Series, Values};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::common::{criterion_tree, sample};

/// Reads under every format; whatever comes of it, the error can be printed and a success has series.
fn read_every_way(bytes: &[u8]) {
    let _ = detect(bytes);
    for format in Format::ALL {
        match read(format, Input::file("x", bytes)) {
            Ok(measured) => {
                assert!(!measured.series.is_empty());
                let _ = measured.observations();
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

const MUTABLE: [&str; 5] = [
    "hyperfine/export-1.15.json",
    "hyperfine/export-2.0-schema2.json",
    "pytest-benchmark/saved-without-data.json",
    "foreign/google-benchmark-bench.json",
    "hyperfine/with-failures.json",
];

/// Bytes that matter to a parser, rather than any.
fn telling_byte() -> impl Strategy<Value = u8> {
    prop_oneof![select(b"{}[],:\"\\-+.eE0123456789\n \x00\x1b\xff\xc3ntf".to_vec()), any::<u8>()]
}

fn finite() -> impl Strategy<Value = f64> + Clone {
    prop_oneof![
        (0_u32..10_000_000).prop_map(f64::from),
        0.0..1e12_f64,
        Just(0.0),
        Just(f64::MIN_POSITIVE),
        Just(1e300)
    ]
}

fn values() -> impl Strategy<Value = (Values, Per, Evidence)> {
    let samples = vec(finite(), 1..50);
    let batches = vec((finite(), 1_u64..1_000_000), 1..50);
    let histogram = btree_map(0_u64..1_000_000, 1_u64..1_000, 1..50);
    prop_oneof![
        samples.clone().prop_map(|values| (Values::Samples(values), Per::Op, Evidence::A)),
        (samples, 2_u64..1_000_000).prop_map(|(values, iterations)| (
            Values::Samples(values),
            Per::Batch { iterations },
            Evidence::B
        )),
        batches.prop_map(|pairs| {
            let (values, iterations) = pairs.into_iter().unzip();
            (Values::Samples(values), Per::Batches { iterations }, Evidence::B)
        }),
        histogram.prop_map(|pairs: BTreeMap<u64, u64>| {
            let pairs = pairs.into_iter().map(|(value, count)| (value as f64 / 8.0, count)).collect();
            (Values::Histogram(pairs), Per::Op, Evidence::A)
        }),
    ]
}

fn series() -> impl Strategy<Value = Series> {
    let metric = prop_oneof![
        Just((MetricKind::Latency, Unit::Nanoseconds, Better::Smaller)),
        Just((MetricKind::Throughput, Unit::PerSecond, Better::Bigger)),
        Just((MetricKind::MemoryPeak, Unit::Bytes, Better::Smaller)),
        Just((MetricKind::Instructions, Unit::Count, Better::Smaller)),
        Just((MetricKind::Custom("fill rate".to_owned()), Unit::Ratio, Better::Bigger)),
    ];
    let order = select(vec![Order::Time, Order::Sorted, Order::Unknown]);
    let grouping = select(vec![Grouping::OneProcess, Grouping::ProcessEach, Grouping::Unknown]);
    (metric, order, grouping, values()).prop_map(
        |((metric, unit, better), order, grouping, (values, per, evidence))| Series {
            name: String::new(),
            metric,
            unit,
            better,
            per,
            evidence,
            order,
            grouping,
            values,
        },
    )
}

fn measured() -> impl Strategy<Value = Measured> {
    let host = btree_map("\\PC{0,8}", "\\PC{0,8}", 0..3);
    let entries = btree_map("[a-z/]{1,8}[{}=\"\\\\<>é☃ a-z]{0,8}z", series(), 1..6);
    (entries, host, vec("[a-z \"\\\\]{0,20}", 0..3)).prop_map(|(entries, host, warnings)| Measured {
        format: Format::DarwinSamples,
        tool: Some("h".to_owned()),
        tool_version: None,
        host,
        series: entries.into_iter().map(|(name, series)| Series { name, ..series }).collect(),
        warnings,
    })
}

proptest! {
    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..300)) {
        read_every_way(&bytes);
    }

    #[test]
    fn any_json_like_text(text in "[\\[\\]{}\":,a-z0-9eE+. \n-]{0,200}") {
        read_every_way(text.as_bytes());
    }

    #[test]
    fn mutated_files(
        name in select(MUTABLE.to_vec()),
        edits in vec((any::<Index>(), telling_byte()), 1..6),
        cut in proptest::option::of(any::<Index>()),
    ) {
        let mut bytes = sample(name);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        read_every_way(&bytes);
    }

    #[test]
    fn mutated_criterion_folders(edits in vec((any::<Index>(), any::<Index>(), telling_byte()), 1..6)) {
        let mut files: Vec<TreeFile> = criterion_tree("criterion/target-criterion");
        for (file, at, byte) in edits {
            let file = file.get_mut(&mut files);
            let at = at.index(file.bytes.len());
            file.bytes[at] = byte;
        }
        let _ = read(Format::Auto, Input::tree("target/criterion", &files)).map_err(|error| error.to_string());
    }

    #[test]
    fn the_native_format_loses_nothing(measured in measured()) {
        let text = write_samples(&measured).unwrap();
        let back = read(Format::Auto, Input::file("x", text.as_bytes()));
        prop_assert_eq!(back.as_ref(), Ok(&measured));
    }

    #[test]
    fn mutated_native_files(measured in measured(), at in any::<Index>(), byte in telling_byte()) {
        let mut bytes = write_samples(&measured).unwrap().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        read_every_way(&bytes);
    }

    /// A histogram is the same samples in another form: every statistic must be the same.
    #[test]
    fn a_histogram_is_its_samples(counts in btree_map(1_u32..1_000, 1_u64..40, 1..30), q in 0.0..=1.0_f64) {
        let pairs: Vec<(f64, u64)> = counts.iter().map(|(value, count)| (f64::from(*value), *count)).collect();
        let samples = pairs.iter().flat_map(|(value, count)| (0..*count).map(|_| *value)).collect();
        let of = |values| Series {
            name: "a".to_owned(),
            metric: MetricKind::Latency,
            unit: Unit::Nanoseconds,
            better: Better::Smaller,
            per: Per::Op,
            evidence: Evidence::A,
            order: Order::Unknown,
            grouping: Grouping::Unknown,
            values,
        };
        let (histogram, samples) = (of(Values::Histogram(pairs)), of(Values::Samples(samples)));
        prop_assert_eq!(histogram.samples(), samples.samples());
        prop_assert_eq!(histogram.quantile(q), samples.quantile(q));
        let (ours, theirs) = (histogram.mean().unwrap(), samples.mean().unwrap());
        prop_assert!((ours - theirs).abs() <= theirs * 1e-12);
    }
}
