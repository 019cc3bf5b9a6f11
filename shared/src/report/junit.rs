//! The report as JUnit XML: a test case for every bench and metric, and one for the verdict itself.
//!
//! Slower is a failure, unclear is skipped with a message, a failed job is an error.

use std::io;

use darwin_gate::{Decision, Finding, FindingClass, Verdict};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::human::parked_text;
use super::lines;
use super::model::Report;
use super::text::log_lines;
use crate::state::{MeasuredSeries, Outcome};
use crate::text::visible;

/// So many of a failed stage's last lines are kept.
const MAX_LOG_LINES: usize = 200;

/// How a test case ended.
enum Ending {
    Passed,
    Failed(String),
    Skipped(String),
    Error { message: String, log: String },
}

struct Case {
    class: String,
    name: String,
    ending: Ending,
    output: String,
}

/// The report as a JUnit document.
pub fn junit(report: &Report) -> String {
    let suite = report.header.suite.as_deref().unwrap_or("darwin");
    let class = match &report.header.project {
        Some(project) => format!("{project}.{suite}"),
        None => suite.to_owned(),
    };
    let cases = cases(report, &class);
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    // Writing to memory cannot fail; what is there would be cut, and no XML, so readers would say so.
    let _ = write_suite(&mut writer, report, suite, &cases);
    let mut text = String::from_utf8_lossy(&writer.into_inner()).into_owned();
    text.push('\n');
    text
}

fn cases(report: &Report, class: &str) -> Vec<Case> {
    let whole = |ending, output| Case { class: class.to_owned(), name: "verdict".to_owned(), ending, output };
    match &report.outcome {
        Outcome::Judged(verdict) => {
            let mut cases = vec![whole(verdict_ending(verdict), remarks(verdict))];
            cases.extend(lines::sorted(verdict).into_iter().map(|finding| finding_case(finding, class)));
            cases
        }
        Outcome::Measured(series) => series.iter().map(|series| measured_case(series, class)).collect(),
        Outcome::Failed(failure) => {
            let log = log_lines(&failure.log_tail, MAX_LOG_LINES).join("\n");
            let ending = Ending::Error { message: lines::failure_text(&report.header, failure), log };
            vec![Case { name: failure.stage.to_string(), ..whole(ending, String::new()) }]
        }
        Outcome::Cancelled { by } => {
            vec![whole(Ending::Skipped(format!("cancelled by {by}")), String::new())]
        }
        Outcome::Expired => {
            vec![whole(Ending::Skipped("expired: it waited longer than it may".to_owned()), String::new())]
        }
        Outcome::Parked { why } => {
            let ending = Ending::Error { message: parked_text(why), log: String::new() };
            vec![whole(ending, String::new())]
        }
    }
}

fn verdict_ending(verdict: &Verdict) -> Ending {
    let text = format!("{}: {}", verdict.decision, lines::decision_text(verdict));
    match verdict.decision {
        Decision::Approve => Ending::Passed,
        Decision::Reject => Ending::Failed(text),
        Decision::Inconclusive => Ending::Skipped(text),
    }
}

fn remarks(verdict: &Verdict) -> String {
    let mut texts = vec![format!("{}: {}", verdict.decision, lines::decision_text(verdict))];
    texts.extend(lines::remarks(verdict).into_iter().map(|(title, text)| format!("{title}: {text}")));
    texts.push(lines::method_line(verdict));
    texts.join("\n")
}

fn finding_case(finding: &Finding, class: &str) -> Case {
    let row = lines::row(finding);
    let text = format!("{} ({}) {} {}", row.values, row.delta, row.interval, row.class);
    let ending = match finding.class {
        FindingClass::Slower => Ending::Failed(text.clone()),
        FindingClass::Unclear | FindingClass::NotGated { .. } => Ending::Skipped(text.clone()),
        FindingClass::Faster | FindingClass::Same | FindingClass::NotSlower => Ending::Passed,
    };
    Case {
        class: format!("{class}.{}", finding.series.bench),
        name: finding.series.metric.to_string(),
        ending,
        output: text,
    }
}

fn measured_case(series: &MeasuredSeries, class: &str) -> Case {
    let [_, _, center, range, effort] = lines::measured_row(series);
    Case {
        class: format!("{class}.{}", series.series.bench),
        name: series.series.metric.to_string(),
        ending: Ending::Passed,
        output: format!("{center} {range} from {effort}"),
    }
}

fn write_suite(writer: &mut Writer<Vec<u8>>, report: &Report, suite: &str, cases: &[Case]) -> io::Result<()> {
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let count =
        |what: fn(&Ending) -> bool| cases.iter().filter(|case| what(&case.ending)).count().to_string();
    let (tests, seconds) = (cases.len().to_string(), report.header.elapsed.unwrap_or_default().as_secs_f64());
    let failures = count(|ending| matches!(ending, Ending::Failed(_)));
    let errors = count(|ending| matches!(ending, Ending::Error { .. }));
    let skipped = count(|ending| matches!(ending, Ending::Skipped(_)));
    let time = format!("{seconds:.3}");
    let name = visible(suite);
    let totals = [
        ("name", name.as_str()),
        ("tests", &tests),
        ("failures", &failures),
        ("errors", &errors),
        ("skipped", &skipped),
        ("time", &time),
    ];
    writer.create_element("testsuites").with_attributes(totals).write_inner_content(|writer| {
        writer
            .create_element("testsuite")
            .with_attributes(totals)
            .write_inner_content(|writer| cases.iter().try_for_each(|case| write_case(writer, case)))?;
        Ok(())
    })?;
    Ok(())
}

fn write_case(writer: &mut Writer<Vec<u8>>, case: &Case) -> io::Result<()> {
    let (class, name) = (visible(&case.class), visible(&case.name));
    let attributes = [("classname", class.as_str()), ("name", name.as_str()), ("time", "0")];
    writer.create_element("testcase").with_attributes(attributes).write_inner_content(|writer| {
        let message = |text: &str| [("message", visible(text))];
        match &case.ending {
            Ending::Passed => {}
            Ending::Failed(text) => with_message(writer, "failure", &message(text), "")?,
            Ending::Skipped(text) => with_message(writer, "skipped", &message(text), "")?,
            Ending::Error { message: text, log } => with_message(writer, "error", &message(text), log)?,
        }
        if !case.output.is_empty() {
            writer.create_element("system-out").write_text_content(BytesText::new(&case.output))?;
        }
        Ok(())
    })?;
    Ok(())
}

fn with_message(
    writer: &mut Writer<Vec<u8>>,
    element: &str,
    attributes: &[(&str, String); 1],
    text: &str,
) -> io::Result<()> {
    let attributes = attributes.iter().map(|(key, value)| (*key, value.as_str()));
    let element = writer.create_element(element).with_attributes(attributes);
    if text.is_empty() {
        element.write_empty()?;
    } else {
        element.write_text_content(BytesText::new(text))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quick_xml::Reader;

    use super::super::samples;
    use super::*;

    #[test]
    fn every_report_reads_well() {
        for (name, report) in samples::all() {
            insta::assert_snapshot!(format!("junit-{name}"), junit(&report));
        }
    }

    #[test]
    fn it_is_xml_whatever_the_names_are() {
        for (_, report) in samples::all() {
            let text = junit(&report);
            let mut reader = Reader::from_str(&text);
            loop {
                match reader.read_event().unwrap() {
                    Event::Eof => break,
                    Event::Start(tag) | Event::Empty(tag) => {
                        for attribute in tag.attributes() {
                            attribute.unwrap().unescape_value().unwrap();
                        }
                    }
                    _ => {}
                }
            }
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        }
    }
}
