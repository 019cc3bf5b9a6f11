//! What `darwin-agent` prints for people.

use darwin_shared::fleet::{Reading, ReadingStatus, SensorReport, SensorStatus};

/// The sensor's report as columns: each check with what was read; under what is not well, why it matters and what
/// mends it. The last line says what follows.
pub fn sensor_table(report: &SensorReport) -> String {
    let width = report.readings.iter().map(|reading| reading.name.len()).max().unwrap_or(0);
    let mut lines: Vec<String> = Vec::new();
    for reading in &report.readings {
        let mut add = |status: &str, name: &str, text: &str| {
            lines.push(format!("{status:<7}  {name:<width$}  {text}").trim_end().to_owned());
        };
        let status = reading.status.as_str();
        match reading.status {
            ReadingStatus::Ok => add(status, &reading.name, &reading.value),
            // There is no value, and the reason is why there is none.
            ReadingStatus::Unknown => add(status, &reading.name, &reading.why),
            ReadingStatus::Warn | ReadingStatus::Fail => {
                add(status, &reading.name, &reading.value);
                add("", "", &format!("why: {}", reading.why));
                add("", "", &format!("fix: {}", reading.remedy));
            }
        }
    }
    lines.push(String::new());
    lines.push(in_short(report));
    lines.join("\n")
}

fn in_short(report: &SensorReport) -> String {
    let named = |status: ReadingStatus| {
        let of_status = |reading: &&Reading| reading.status == status;
        let names: Vec<&str> =
            report.readings.iter().filter(of_status).map(|reading| reading.name.as_str()).collect();
        names.join(", ")
    };
    match report.status {
        SensorStatus::Ok => "ok: this box is fit to measure".to_owned(),
        SensorStatus::Degraded => {
            format!("degraded: this box can measure, but {} may be felt", named(ReadingStatus::Warn))
        }
        SensorStatus::Down => {
            format!("down: this box is not fit to measure, because of {}", named(ReadingStatus::Fail))
        }
    }
}
