//! What `darwin-agent` prints for people.

use darwin_shared::fleet::{Reading, ReadingStatus, SensorStatus};

use crate::sense::SensorView;

/// The sensor's report as columns: each check with what was read; under what is not well, why it matters and what
/// mends it. The last lines say what is required and what follows.
pub fn sensor_table(view: &SensorView) -> String {
    let report = &view.report;
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
    lines.push(format!(
        "tier {}, leases CPUs {}, keeps CPUs {}; required: {}",
        view.tier,
        view.lease_cpus,
        view.housekeeping_cpus,
        view.required.join(", ")
    ));
    lines.push(in_short(view));
    lines.join("\n")
}

fn in_short(view: &SensorView) -> String {
    let report = &view.report;
    let named = |wanted: &dyn Fn(&Reading) -> bool| {
        let found = report.readings.iter().filter(|reading| wanted(reading));
        found.map(|reading| reading.name.as_str()).collect::<Vec<&str>>().join(", ")
    };
    match (report.status, &report.refuses) {
        (SensorStatus::Ok, _) => "ok: this box is fit to measure".to_owned(),
        (SensorStatus::Degraded, _) => {
            let felt = |reading: &Reading| match reading.status {
                ReadingStatus::Warn | ReadingStatus::Fail => true,
                ReadingStatus::Ok | ReadingStatus::Unknown => false,
            };
            format!("degraded: this box can measure, but {} may be felt", named(&felt))
        }
        (SensorStatus::Down, Some(why)) => format!("down: nothing is measured here: {why}"),
        (SensorStatus::Down, None) => {
            let stops = |reading: &Reading| {
                reading.status == ReadingStatus::Fail && view.required.contains(&reading.name.as_str())
            };
            format!("down: this box is not fit to measure, because of {}", named(&stops))
        }
    }
}
