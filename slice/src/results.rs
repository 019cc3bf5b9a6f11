//! Results as `darwin-samples/1`: a header, then one line of JSON for each bench.

use std::fs::{File, rename};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::samples::Samples;

/// The format that is written.
pub const SCHEMA: &str = "darwin-samples/1";

/// Writes the results of all benches to the file at `path`, whole or not at all.
pub fn save(path: &Path, tool: &str, benches: &[Samples]) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".part");
    let mut out = BufWriter::new(File::create(&aside)?);
    write(&mut out, tool, benches)?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?;
    rename(&aside, path)
}

/// Writes the results of all benches; `tool` names the harness.
///
/// A bench that kept nothing, or ended because its room for samples was full, gets a warning that the report
/// of the comparison repeats.
pub fn write(out: &mut impl Write, tool: &str, benches: &[Samples]) -> io::Result<()> {
    writeln!(out, "{{\"schema\":\"{SCHEMA}\",\"tool\":{},\"host\":{{}}}}", Quoted(tool))?;
    for samples in benches {
        if samples.took_ns().is_empty() {
            warn(out, &format!("`{}` kept no sample", samples.name()))?;
            continue;
        }
        write_series(out, samples)?;
        if samples.filled_up() {
            let most = samples.took_ns().len();
            warn(out, &format!("`{}` ended early: its room for {most} samples was full", samples.name()))?;
        }
    }
    out.flush()
}

fn write_series(out: &mut impl Write, samples: &Samples) -> io::Result<()> {
    write!(out, "{{\"name\":{},\"metric\":\"latency\",\"unit\":\"ns\",", Quoted(samples.name()))?;
    let batch = samples.batch();
    match batch {
        0 | 1 => write!(out, "\"per\":\"op\",")?,
        _ => write!(out, "\"per\":\"batch\",\"iterations\":{batch},")?,
    }
    write!(out, "\"order\":\"time\",\"values\":[")?;
    for (at, took_ns) in samples.took_ns().iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        match batch {
            0 | 1 => write!(out, "{comma}{took_ns}")?,
            _ => write!(out, "{comma}{}", *took_ns as f64 / f64::from(batch))?,
        }
    }
    writeln!(out, "]}}")
}

fn warn(out: &mut impl Write, warning: &str) -> io::Result<()> {
    writeln!(out, "{{\"warning\":{}}}", Quoted(warning))
}

/// Text as a JSON string.
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\u{0}'..='\u{1f}' => write!(f, "\\u{:04x}", u32::from(c))?,
                _ => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use darwin_shared::formats::{self, Format, Input};
    use darwin_shared::sample::{Measured, Values};
    use proptest::prelude::*;

    use super::*;

    fn samples(name: &str, batch: u32, took_ns: &[u64], room: u32) -> Samples {
        let mut samples = Samples::with_room(name, batch, room);
        samples.count_slice();
        for took_ns in took_ns {
            samples.keep(*took_ns);
        }
        samples
    }

    fn read(benches: &[Samples]) -> Measured {
        let mut bytes = Vec::new();
        write(&mut bytes, "a \"tool\"", benches).unwrap();
        formats::read(Format::DarwinSamples, Input::file("result", &bytes)).unwrap()
    }

    #[test]
    fn the_product_reads_what_is_written() {
        let read = read(&[
            samples("book/add", 1, &[10, 3, 7], 10),
            samples("book/\"tiny\"\\", 4, &[10, 12], 2),
            samples("book/none", 1, &[], 10),
        ]);
        assert_eq!(read.tool.as_deref(), Some("a \"tool\""));
        let values: Vec<_> = read.series.iter().map(|series| &series.values).collect();
        assert_eq!(values, [&Values::Samples(vec![10.0, 3.0, 7.0]), &Values::Samples(vec![2.5, 3.0])]);
        assert_eq!(read.series[1].name, "book/\"tiny\"\\");
        let warned = ["ended early: its room for 2 samples was full", "`book/none` kept no sample"];
        assert!(
            warned.iter().zip(&read.warnings).all(|(part, warning)| warning.contains(part)),
            "{:?}",
            read.warnings
        );
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.ndjson");
        save(&path, "tool", &[samples("a", 1, &[1], 1)]).unwrap();
        let names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["result.ndjson"], "nothing is left beside it");
        assert!(save(&folder.path().join("no/such/folder"), "tool", &[]).is_err());
    }

    proptest! {
        #[test]
        fn any_name_and_any_duration_survive(
            name in "[ -~\u{e0}-\u{ff}]{0,20}[!-~]",
            took_ns in prop::collection::vec(0..1_u64 << 53, 1..50),
        ) {
            let read = read(&[samples(&name, 1, &took_ns, 100)]);
            let values: Vec<f64> = took_ns.iter().map(|took_ns| *took_ns as f64).collect();
            prop_assert_eq!(&read.series[0].values, &Values::Samples(values));
        }
    }
}
