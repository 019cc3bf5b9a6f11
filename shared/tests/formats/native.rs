//! Darwin's own format: what every kind of line means.

use std::time::Duration;

use darwin_shared::formats::{Format, Input, measured_process, peak_memory, read, write_samples};
use darwin_shared::sample::{Measured, Series};
use darwin_shared::usage::Usage;

use crate::common::{read_sample, summary};

const EVERY_KIND: &str = r#"{"schema":"darwin-samples/1","tool":"my-harness","tool_version":"2.1","host":{"cpu":"EPYC 9754"}}
{"name":"book/add","params":{"venue":"sim","depth":10,"fast":true,"load":0.5},"metric":"latency","unit":"ns","per":"op","order":"time","grouping":"one_process","values":[1681,960,772.5]}

{"name":"book/add","metric":"latency","unit":"us","per":"batch","iterations":100,"hist":[[71,3],[72,9]]}
{"name":"book/add","metric":"throughput","unit":"1/s","values":[10000]}
{"name":"book/add","metric":"memory.peak","unit":"MiBy","values":[1.5]}
{"name":"book/add","metric":"instructions","unit":"1","evidence":"D","values":[1802]}
{"name":"book/add","metric":"custom.fills","unit":"{count}","better":"bigger","values":[3,5,9]}
{"name":"book/cancel","metric":"latency","unit":"ms","summary":{"count":500,"p50":2,"p99":3.5,"mean":2.25}}
{"name":"book/cross","metric":"latency","unit":"ns","per":"batch","iterations":[1,3],"values":[10,20]}
{"warning":"ran on battery"}
"#;

fn native(text: &str) -> Measured {
    read(Format::Auto, Input::file("x.ndjson", text.as_bytes())).unwrap()
}

#[test]
fn every_kind_of_line() {
    insta::assert_snapshot!(summary(&native(EVERY_KIND)));
}

#[test]
fn what_is_written_reads_back_the_same() {
    let measured = native(EVERY_KIND);
    let written = write_samples(&measured).unwrap();
    assert_eq!(native(&written), measured);
    insta::assert_snapshot!(written);
}

#[test]
fn every_other_format_survives_the_native_one() {
    for name in ["pytest-benchmark/baseline.json", "hyperfine/export-2.0-schema2.json"] {
        let measured = read_sample(Format::Auto, name).unwrap();
        let back = native(&write_samples(&measured).unwrap());
        assert_eq!(back.series, measured.series, "{name}");
        assert_eq!(back.observations(), measured.observations(), "{name}");
    }
}

#[test]
fn batches_count_by_their_size() {
    let measured = native(EVERY_KIND);
    let cross = measured.series.iter().find(|series| series.name == "book/cross").unwrap();
    // (10 * 1 + 20 * 3) / 4
    assert_eq!(cross.mean(), Some(17.5));
}

#[test]
fn a_series_alone_survives_json() {
    for series in native(EVERY_KIND).series {
        let json = serde_json::to_string(&series).unwrap();
        assert_eq!(serde_json::from_str::<Series>(&json).unwrap(), series, "{json}");
    }
    let bad = r#"{"name":"a\u001b","metric":"latency","unit":"ns","values":[1]}"#;
    assert!(serde_json::from_str::<Series>(bad).is_err());
}

#[test]
fn a_timed_process_is_a_result_of_its_own() {
    let usage = Usage { peak_rss_bytes: 222_298_112, ..Usage::default() };
    insta::assert_snapshot!(summary(&measured_process(Duration::from_millis(50), &usage)));
    assert_eq!(peak_memory(&Usage::default()), None);
}
