use std::fs;
use std::path::Path;

use darwin_shared::fleet::SensorStatus;

use super::*;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn sensor(limits: SensorLimits) -> Sensor {
    Sensor { cpus: "1".parse().unwrap(), siblings_idle: CpuSet::new(), disk: "/".into(), limits }
}

fn stat(root: &Path, busy: u64, idle: u64, steal: u64) {
    write(root, "proc/stat", &format!("cpu1 {busy} 0 0 {idle} 0 0 0 {steal} 0 0\nprocs_running 1\n"));
}

fn a_tuned_box(root: &Path) {
    stat(root, 0, 0, 0);
    write(root, "proc/meminfo", "MemTotal: 99 kB\nMemAvailable:   8388608 kB\n");
    write(root, "proc/cpuinfo", "processor : 0\nflags : fpu vme\n");
    write(root, "sys/devices/system/cpu/isolated", "1\n");
    write(root, "sys/devices/system/cpu/smt/active", "0\n");
    write(root, "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n");
    write(root, "sys/devices/system/cpu/intel_pstate/no_turbo", "1\n");
}

fn text(report: &SensorReport) -> String {
    let lines = report.readings.iter().filter(|reading| reading.name != "disk");
    let lines: Vec<_> =
        lines.map(|r| format!("{} {}: {} | {}", r.status, r.name, r.value, r.remedy)).collect();
    lines.join("\n")
}

#[test]
fn a_tuned_box_is_ok() {
    let dir = tempfile::tempdir().unwrap();
    a_tuned_box(dir.path());
    let host = HostFs::new(dir.path());
    let sensor = Sensor {
        limits: SensorLimits { disk_min_bytes: 0, ..SensorLimits::bare_metal() },
        ..sensor(SensorLimits::dev())
    };
    let (_, earlier) = sensor.read(&host, None);
    stat(dir.path(), 1, 999, 0);
    let (report, _) = sensor.read(&host, earlier.as_ref());
    insta::assert_snapshot!(text(&report));
    assert_eq!(report.status, SensorStatus::Ok);
}

#[test]
fn a_busy_untuned_virtual_box_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    a_tuned_box(dir.path());
    let host = HostFs::new(dir.path());
    let sensor = sensor(SensorLimits::bare_metal());
    let (_, earlier) = sensor.read(&host, None);
    stat(dir.path(), 50, 900, 50);
    write(dir.path(), "proc/meminfo", "MemAvailable: 1024 kB\n");
    write(dir.path(), "proc/cpuinfo", "flags : fpu hypervisor\n");
    write(dir.path(), "sys/devices/system/cpu/isolated", "\n");
    write(dir.path(), "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n");
    write(dir.path(), "sys/devices/system/cpu/intel_pstate/no_turbo", "0\n");
    let (report, _) = sensor.read(&host, earlier.as_ref());
    insta::assert_snapshot!(text(&report));
    assert_eq!(report.status, SensorStatus::Down);
}

#[test]
fn what_a_box_does_not_have_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let host = HostFs::new(dir.path());
    let (report, sample) = sensor(SensorLimits::bare_metal()).read(&host, None);
    assert!(sample.is_none());
    for reading in report.readings.iter().filter(|reading| reading.name != "disk") {
        assert_eq!(reading.status, ReadingStatus::Unknown, "{reading:?}");
        assert!(!reading.why.is_empty());
    }
}
