use std::fs;
use std::path::Path;

use darwin_shared::fleet::SensorStatus;

use super::*;
use crate::sensor_table;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn sensor(host: &HostFs, limits: SensorLimits) -> Sensor {
    Sensor::new(host, "1".parse().unwrap(), CpuSet::new(), "/".into(), limits)
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

/// As people see it; how much space there is depends on where the test runs.
fn text(report: &SensorReport) -> String {
    let readings = report.readings.iter().filter(|reading| reading.name != "disk").cloned();
    sensor_table(&SensorReport { status: report.status, readings: readings.collect() })
}

#[test]
fn a_tuned_box_is_ok() {
    let dir = tempfile::tempdir().unwrap();
    a_tuned_box(dir.path());
    let host = HostFs::new(dir.path());
    let sensor = sensor(&host, SensorLimits { disk_min_bytes: 0, ..SensorLimits::bare_metal() });
    let (_, earlier) = sensor.read(&host, None, &CpuSet::new());
    stat(dir.path(), 1, 999, 0);
    let (report, _) = sensor.read(&host, earlier.as_ref(), &CpuSet::new());
    insta::assert_snapshot!(text(&report));
    assert_eq!(report.status, SensorStatus::Ok);
}

#[test]
fn a_busy_untuned_virtual_box_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    a_tuned_box(dir.path());
    let host = HostFs::new(dir.path());
    write(dir.path(), "proc/cpuinfo", "flags : fpu hypervisor\n");
    let sensor = sensor(&host, SensorLimits::bare_metal());
    let (_, earlier) = sensor.read(&host, None, &CpuSet::new());
    stat(dir.path(), 50, 900, 50);
    write(dir.path(), "proc/meminfo", "MemAvailable: 1024 kB\n");
    write(dir.path(), "sys/devices/system/cpu/isolated", "\n");
    write(dir.path(), "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n");
    write(dir.path(), "sys/devices/system/cpu/intel_pstate/no_turbo", "0\n");
    let (report, _) = sensor.read(&host, earlier.as_ref(), &CpuSet::new());
    insta::assert_snapshot!(text(&report));
    assert_eq!(report.status, SensorStatus::Down);
}

#[test]
fn an_ordinary_virtual_machine_is_told_and_not_blamed() {
    let dir = tempfile::tempdir().unwrap();
    a_tuned_box(dir.path());
    let host = HostFs::new(dir.path());
    write(dir.path(), "proc/cpuinfo", "flags : fpu hypervisor\n");
    let sensor = sensor(&host, SensorLimits::dev());
    let (_, earlier) = sensor.read(&host, None, &CpuSet::new());
    stat(dir.path(), 1, 999, 0);
    write(dir.path(), "sys/devices/system/cpu/isolated", "\n");
    fs::remove_dir_all(dir.path().join("sys/devices/system/cpu/cpu1")).unwrap();
    fs::remove_dir_all(dir.path().join("sys/devices/system/cpu/intel_pstate")).unwrap();
    let (report, _) = sensor.read(&host, earlier.as_ref(), &CpuSet::new());
    insta::assert_snapshot!(text(&report));
    for reading in report.readings.iter().filter(|reading| reading.status == ReadingStatus::Ok) {
        assert_eq!(reading.remedy, "", "what is ok needs no remedy: {reading:?}");
    }
}

#[test]
fn the_work_of_our_own_benches_is_not_taken_for_someone_elses() {
    let dir = tempfile::tempdir().unwrap();
    a_tuned_box(dir.path());
    let host = HostFs::new(dir.path());
    let sensor = sensor(&host, SensorLimits::bare_metal());
    let (_, earlier) = sensor.read(&host, None, &CpuSet::new());
    stat(dir.path(), 900, 50, 50);
    let (report, _) = sensor.read(&host, earlier.as_ref(), &"1".parse().unwrap());
    let status = |name: &str| report.readings.iter().find(|reading| reading.name == name).unwrap().status;
    assert_eq!((status("competition"), status("steal")), (ReadingStatus::Unknown, ReadingStatus::Fail));
}

#[test]
fn a_folder_that_is_not_there_yet_is_judged_by_the_disk_that_it_will_be_on() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("var")).unwrap();
    let host = HostFs::new(dir.path());
    let limits = SensorLimits { disk_min_bytes: 0, ..SensorLimits::dev() };
    let sensor = Sensor::new(&host, CpuSet::new(), CpuSet::new(), "/var/lib/agent".into(), limits);
    let (report, _) = sensor.read(&host, None, &CpuSet::new());
    let disk = report.readings.iter().find(|reading| reading.name == "disk").unwrap();
    assert_eq!(disk.status, ReadingStatus::Ok, "{disk:?}");
    assert!(disk.value.ends_with("MiB free for /var/lib/agent"), "{disk:?}");
}

#[test]
fn what_a_box_does_not_have_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let host = HostFs::new(dir.path());
    let (report, sample) = sensor(&host, SensorLimits::bare_metal()).read(&host, None, &CpuSet::new());
    assert!(sample.is_none());
    for reading in report.readings.iter().filter(|reading| reading.name != "disk") {
        assert_eq!(reading.status, ReadingStatus::Unknown, "{reading:?}");
        assert!(!reading.why.is_empty());
    }
}
