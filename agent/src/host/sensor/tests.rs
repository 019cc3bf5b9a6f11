use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use darwin_agent_core::cpu_alloc::{Allocator, LeaseKey, Request};
use darwin_agent_core::topology::Topology;
use darwin_shared::fleet::{ReadingStatus, SensorStatus};
use darwin_shared::spec::Exclusive;

use super::*;
use crate::host::read_topology;
use crate::sense::SensorView;
use crate::sensor_table;

const TREES: &[&str] = &["cloud-vm", "container", "epyc", "hybrid", "intel-2s", "v2-partition"];

fn tree(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trees").join(name)
}

fn whole(name: &str) -> (HostFs, Topology, Allocator) {
    let host = HostFs::new(tree(name));
    let topology = read_topology(&host).unwrap();
    let allocator = Allocator::new(&topology, None).unwrap();
    (host, topology, allocator)
}

/// Both readings of a recorded box, the second with what had changed.
fn read_twice(name: &str, policy: SensorPolicy) -> SensorView {
    let (host, topology, allocator) = whole(name);
    let scope = Scope::of(&topology, &allocator, "/".into());
    let mut sensor = Sensor::new(&host, scope, policy);
    sensor.read(&host, &CpuSet::new(), Depth::Whole);
    let mut report = sensor.read(&host.with(tree(name).join("later")), &CpuSet::new(), Depth::Whole);
    for reading in report.readings.iter_mut().filter(|reading| reading.name == "disk") {
        // How much space there is depends on where the test runs.
        reading.value = "(some) MiB free for /".to_owned();
    }
    SensorView {
        schema: "darwin-sensor/1",
        tier: sensor.policy().tier,
        lease_cpus: allocator.leasable().to_string(),
        housekeeping_cpus: allocator.housekeeping().to_string(),
        required: sensor.policy().required(),
        report,
    }
}

fn find<'a>(report: &'a SensorReport, name: &str) -> &'a darwin_shared::fleet::Reading {
    report.readings.iter().find(|reading| reading.name == name).unwrap()
}

#[test]
fn every_recorded_box_is_told_as_it_is() {
    for name in TREES {
        let view = read_twice(name, SensorPolicy::of(Tier::Shielded));
        insta::assert_snapshot!(format!("shielded-{name}"), sensor_table(&view));
    }
}

#[test]
fn every_recorded_box_is_told_to_programs() {
    let view = read_twice("v2-partition", SensorPolicy::of(Tier::BareMetalIsolated));
    insta::assert_snapshot!(serde_json::to_string_pretty(&view).unwrap());
}

#[test]
fn each_tier_stops_which_boxes_and_why() {
    let mut told = Vec::new();
    for name in TREES {
        for tier in Tier::ALL {
            let SensorReport { status, refuses, .. } = read_twice(name, SensorPolicy::of(*tier)).report;
            told.push(format!(
                "{name} as {tier}: {status}; {}",
                refuses.unwrap_or_else(|| "measures".to_owned())
            ));
        }
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn every_recorded_box_gives_its_cores_as_asked() {
    let mut told = Vec::new();
    for name in TREES {
        let (_, topology, allocator) = whole(name);
        let cores = topology.cores().iter().map(|core| {
            let llc = core.llc.map_or_else(|| "-".to_owned(), |llc| llc.0.to_string());
            let isolated = if core.isolated { " isolated" } else { "" };
            let quiet = if core.nohz_full { " nohz_full" } else { "" };
            format!(
                "  core {}: node {} llc {llc} kind {}{isolated}{quiet}",
                core.cpus, core.node.0, core.kind.0
            )
        });
        told.push(format!("{name}: keeps {}", allocator.housekeeping()));
        told.extend(cores);
        for (count, exclusive) in [
            (1, Exclusive::Core),
            (2, Exclusive::Core),
            (2, Exclusive::Llc),
            (1, Exclusive::Node),
            (1, Exclusive::Host),
        ] {
            let mut fresh = allocator.clone();
            let leases: Vec<String> = (0..4)
                .map(|key| match fresh.allocate(LeaseKey(key), Request { cores: count, exclusive }) {
                    Ok(granted) if granted.siblings_idle.is_empty() => granted.cpus.to_string(),
                    Ok(granted) => format!("{} (idle {})", granted.cpus, granted.siblings_idle),
                    Err(_) => "none".to_owned(),
                })
                .collect();
            told.push(format!("  {count} cores, exclusive {exclusive:?}: {}", leases.join("; ")));
        }
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn names_are_words_of_their_own_and_required_ones_exist() {
    let mut seen = BTreeSet::new();
    for name in names() {
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert!(seen.insert(name), "{name} twice");
    }
    for tier in Tier::ALL {
        for name in required_by(*tier) {
            assert!(seen.contains(name), "{name}");
        }
    }
}

#[test]
fn the_page_on_the_sensor_describes_every_check() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sensor.md");
    let text = fs::read_to_string(page).unwrap();
    let missing: Vec<&str> = names().filter(|name| !text.contains(&format!("| `{name}` |"))).collect();
    assert_eq!(missing, [""; 0], "docs/sensor.md lacks them");
}

#[test]
fn what_a_box_does_not_have_is_unknown_and_nothing_fails() {
    let empty = tempfile::tempdir().unwrap();
    let host = HostFs::new(empty.path());
    let nodes = BTreeMap::from([(darwin_agent_core::topology::NodeId(0), "1".parse().unwrap())]);
    let scope = Scope { nodes, disk: "/".into(), ..scope_of_one_cpu() };
    for tier in Tier::ALL {
        let mut sensor = Sensor::new(&host, scope.clone(), SensorPolicy::of(*tier));
        let report = sensor.read(&host, &CpuSet::new(), Depth::Whole);
        for reading in &report.readings {
            // These say something of a box that tells nothing, and of the disk that the test runs on.
            let told =
                ["disk", "production", "cache_neighbours", "rt_group"].contains(&reading.name.as_str());
            assert!(told || reading.status == ReadingStatus::Unknown, "{reading:?}");
            assert!(reading.status != ReadingStatus::Fail && !reading.why.is_empty(), "{reading:?}");
        }
        let refuses = report.refuses.unwrap();
        assert!(refuses.contains("): cannot verify `") && !refuses.contains("fails"), "{refuses}");
    }
}

#[test]
fn this_box_says_why_it_does_not_know() {
    let host = HostFs::default();
    let topology = read_topology(&host).unwrap();
    let allocator = Allocator::new(&topology, None).unwrap();
    let mut sensor =
        Sensor::new(&host, Scope::of(&topology, &allocator, "/".into()), SensorPolicy::of(Tier::Dev));
    let report = sensor.read(&host, &CpuSet::new(), Depth::Whole);
    assert_eq!(report.readings.len(), names().count());
    for reading in &report.readings {
        let silent = match reading.status {
            ReadingStatus::Unknown => !reading.value.is_empty() || reading.why.is_empty(),
            ReadingStatus::Ok => reading.value.is_empty() || !reading.remedy.is_empty(),
            ReadingStatus::Warn | ReadingStatus::Fail => {
                reading.value.is_empty() || reading.remedy.is_empty()
            }
        };
        assert!(!silent, "{reading:?}");
    }
    let governor = find(&report, "governor");
    if host.exists("/sys/devices/system/cpu/cpu0/cpufreq") {
        println!("not run: this box has governors");
    } else {
        assert_eq!(governor.status, ReadingStatus::Unknown);
        assert!(governor.why.ends_with("scaling_governor does not exist on this box"), "{governor:?}");
    }
}

#[test]
fn a_required_check_that_is_unknown_stops_with_a_reason_of_its_own() {
    let require = |names: &[&str]| SensorPolicy {
        require: names.iter().map(|name| (*name).to_owned()).collect(),
        ..SensorPolicy::of(Tier::Dev)
    };
    let report = read_twice("cloud-vm", require(&["governor"])).report;
    assert_eq!(report.status, SensorStatus::Down);
    let refuses = report.refuses.unwrap();
    assert!(refuses.starts_with("its sensor (tier dev): cannot verify `governor`: "), "{refuses}");
    assert!(
        refuses.contains("does not exist on this box -> `forgive = [\"governor\"]` below [sensor]"),
        "{refuses}"
    );

    let report = read_twice("hybrid", require(&["governor"])).report;
    let refuses = report.refuses.unwrap();
    assert!(refuses.contains("`governor` fails: powersave -> cpupower -c 2-11"), "{refuses}");

    let report = read_twice("hybrid", require(&["turbo"])).report;
    assert_eq!(
        (report.refuses.as_deref(), find(&report, "turbo").status),
        (None, ReadingStatus::Warn),
        "a warning stops nothing"
    );
}

#[test]
fn what_passes_by_itself_is_waited_for() {
    let report = read_twice(
        "epyc",
        SensorPolicy {
            forgive: vec!["clock".to_owned(), "smt".to_owned()],
            ..SensorPolicy::of(Tier::Shielded)
        },
    )
    .report;
    assert_eq!(find(&report, "competition").status, ReadingStatus::Fail);
    assert_eq!((report.status, report.refuses), (SensorStatus::Down, None));
}

#[test]
fn what_is_forgiven_stops_nothing_and_is_still_told() {
    let all: Vec<String> = names().map(str::to_owned).collect();
    let policy = SensorPolicy { forgive: all, ..SensorPolicy::of(Tier::BareMetalIsolated) };
    let report = read_twice("epyc", policy).report;
    assert_eq!((report.status, &report.refuses), (SensorStatus::Ok, &None));
    assert_eq!(find(&report, "clock").status, ReadingStatus::Fail);
}

#[test]
fn a_fingerprint_is_compared_with_the_approved_one() {
    let status = |approved: Option<String>| {
        let report =
            read_twice("intel-2s", SensorPolicy { approved, ..SensorPolicy::of(Tier::Shielded) }).report;
        let found = find(&report, "fingerprint").clone();
        (found.status, found.value)
    };
    let (_, value) = status(None);
    let seen = value.split(' ').next().unwrap().to_owned();
    assert_eq!(status(Some(seen)).0, ReadingStatus::Ok);
    assert_eq!(status(Some("0".repeat(16))).0, ReadingStatus::Fail);
}

#[test]
fn nothing_is_measured_beside_production() {
    let policy = SensorPolicy {
        production: vec!["strategy-engine-long-name".to_owned(), "strategy-engine".to_owned()],
        require: vec!["production".to_owned()],
        ..SensorPolicy::of(Tier::Dev)
    };
    let report = read_twice("epyc", policy.clone()).report;
    assert_eq!(find(&report, "production").status, ReadingStatus::Fail);
    assert_eq!((report.status, report.refuses), (SensorStatus::Down, None), "it may end");
    let report = read_twice("container", policy).report;
    assert!(report.refuses.unwrap().contains("cannot verify `production`: /proc shows no kernel threads"));
}

/// CPU 1 is leased, CPU 0 is kept.
fn scope_of_one_cpu() -> Scope {
    Scope {
        cpus: "1".parse().unwrap(),
        siblings_idle: CpuSet::new(),
        housekeeping: "0".parse().unwrap(),
        cache_neighbours: CpuSet::new(),
        kinds: Vec::new(),
        nodes: BTreeMap::new(),
        disk: "/var/lib/agent".into(),
    }
}

/// A small box of one leased CPU, changed at will.
struct Small {
    dir: tempfile::TempDir,
    sensor: Sensor,
}

impl Small {
    fn new(tier: Tier) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = HostFs::new(dir.path());
        let small = Self { sensor: Sensor::new(&host, scope_of_one_cpu(), SensorPolicy::of(tier)), dir };
        small.write("proc/meminfo", "MemTotal: 99 kB\nMemAvailable:   8388608 kB\n");
        small.write("proc/interrupts", "CPU0 CPU1\n 24: 5 7 x\n");
        small.write("var/x", "");
        small.stat(0, 0, 0);
        small
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn stat(&self, busy: u64, idle: u64, steal: u64) {
        self.write("proc/stat", &format!("cpu1 {busy} 0 0 {idle} 0 0 0 {steal} 0 0\nprocs_running 1\n"));
    }

    fn read(&mut self, ours: &str, depth: Depth) -> SensorReport {
        self.sensor.read(&HostFs::new(self.dir.path()), &ours.parse().unwrap(), depth)
    }
}

#[test]
fn the_work_of_our_own_benches_is_not_taken_for_someone_elses() {
    let mut small = Small::new(Tier::Shielded);
    small.read("", Depth::Light);
    small.stat(900, 50, 50);
    let report = small.read("1", Depth::Light);
    let status = |name: &str| find(&report, name).status;
    assert_eq!((status("competition"), status("steal")), (ReadingStatus::Unknown, ReadingStatus::Fail));
    assert!(report.refuses.is_none_or(|why| !why.contains("competition")), "it is known again soon");
}

#[test]
fn a_folder_that_is_not_there_yet_is_judged_by_the_disk_that_it_will_be_on() {
    let mut small = Small::new(Tier::Dev);
    let report = small.read("", Depth::Light);
    let disk = find(&report, "disk");
    assert!(disk.value.ends_with("MiB free for /var/lib/agent"), "{disk:?}");
}

#[test]
fn a_light_reading_leaves_the_rest_as_it_was() {
    let mut small = Small::new(Tier::Dev);
    small.write("proc/sys/kernel/randomize_va_space", "2\n");
    let first = small.read("", Depth::Whole);
    small.write("proc/sys/kernel/randomize_va_space", "0\n");
    small.write("proc/meminfo", "MemAvailable: 1024 kB\n");
    let light = small.read("", Depth::Light);
    assert_eq!(find(&light, "aslr"), find(&first, "aslr"), "not read between two attempts");
    assert_eq!(find(&light, "memory").status, ReadingStatus::Fail);
    assert_eq!((light.status, light.refuses), (SensorStatus::Down, None));
    let whole = small.read("", Depth::Whole);
    assert_ne!(find(&whole, "aslr"), find(&first, "aslr"));
}

#[test]
fn what_is_not_understood_is_unknown_with_its_text() {
    let mut small = Small::new(Tier::BareMetalIsolated);
    for (path, text) in [
        ("proc/sys/kernel/randomize_va_space", "7"),
        ("proc/sys/kernel/numa_balancing", "often"),
        ("sys/devices/system/cpu/intel_pstate/no_turbo", "maybe"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always"),
        ("sys/devices/system/cpu/isolated", "all"),
        ("sys/devices/virtual/workqueue/cpumask", "zz"),
    ] {
        small.write(path, text);
    }
    let report = small.read("", Depth::Whole);
    for (name, text) in [
        ("aslr", "`7`"),
        ("numa_balancing", "`often`"),
        ("turbo", "`maybe`"),
        ("huge_pages", "`always`"),
        ("isolation", "`all`"),
        ("workqueues", "`zz`"),
    ] {
        let reading = find(&report, name);
        assert_eq!(reading.status, ReadingStatus::Unknown, "{reading:?}");
        assert!(reading.why.contains(text), "{reading:?}");
    }
}

/// What the box says of one check at a whole reading, `uptime_s` after its start.
fn whole_at(small: &mut Small, uptime_s: u32, name: &str) -> darwin_shared::fleet::Reading {
    small.write("proc/uptime", &format!("{uptime_s}.00 0.00\n"));
    find(&small.read("", Depth::Whole), name).clone()
}

/// What an agent remembers of probes 900 s after the start of the box: of the leased CPU, and of another one.
fn probed(boot_id: &str, share_of_best: f64) -> String {
    let by_cpu = serde_json::json!({
        "1": { "share_of_best": share_of_best, "uptime_s": 900.0 },
        "7": { "share_of_best": 0.1, "uptime_s": 900.0 },
    });
    let speeds = serde_json::json!({ "boot_id": boot_id, "by_cpu": by_cpu });
    serde_json::json!({ "fingerprint": "x", "best": {}, "past": {}, "speeds": speeds }).to_string()
}

#[test]
fn how_fast_a_core_is_comes_from_its_last_probe() {
    let mut small = Small::new(Tier::Dev);
    let policy = SensorPolicy { require: vec!["effective_speed".to_owned()], ..SensorPolicy::of(Tier::Dev) };
    small.sensor = Sensor::new(&HostFs::new(small.dir.path()), scope_of_one_cpu(), policy);
    let reading = whole_at(&mut small, 1000, "effective_speed");
    assert_eq!(reading.status, ReadingStatus::Unknown);
    assert!(reading.why.starts_with("no probe yet: "), "{reading:?}");
    assert_eq!(small.read("", Depth::Light).refuses, None, "only an attempt makes one: it is not waited for");

    small.write("proc/sys/kernel/random/boot_id", "now\n");
    let mut told = |boot_id: &str, share: f64, uptime_s| {
        small.write("var/lib/agent/probes.json", &probed(boot_id, share));
        let reading = whole_at(&mut small, uptime_s, "effective_speed");
        (reading.status, reading.value + &reading.why)
    };
    let (status, text) = told("now", 0.99, 1000);
    assert_eq!(status, ReadingStatus::Ok);
    assert!(text.starts_with("CPU 1: 99.0 % of its best, 100 s ago"), "{text}");
    assert_eq!(told("now", 0.96, 1000).0, ReadingStatus::Warn);
    assert_eq!(told("now", 0.94, 1000).0, ReadingStatus::Fail);
    for (status, text) in [told("now", 0.94, 1501), told("before", 0.94, 1000)] {
        assert_eq!(status, ReadingStatus::Unknown);
        assert!(text.starts_with("no probe in the last 10 min: "), "{text}");
    }
    small.write("var/lib/agent/probes.json", "{\"best\":");
    let torn = small.read("", Depth::Whole);
    assert!(find(&torn, "effective_speed").why.contains("does not tell what probes saw"));
    assert_eq!(torn.refuses, None, "the next probe writes it anew");
}

#[test]
fn each_tier_asks_for_another_speed() {
    for (tier, share, status) in [
        (Tier::BareMetalIsolated, 0.97, ReadingStatus::Warn),
        (Tier::Shielded, 0.975, ReadingStatus::Ok),
        (Tier::Shielded, 0.9, ReadingStatus::Warn),
        (Tier::Shielded, 0.86, ReadingStatus::Fail),
        (Tier::Dev, 0.88, ReadingStatus::Ok),
        (Tier::Dev, 0.8, ReadingStatus::Warn),
        (Tier::Dev, 0.7, ReadingStatus::Fail),
    ] {
        let mut small = Small::new(tier);
        small.write("proc/sys/kernel/random/boot_id", "now\n");
        small.write("var/lib/agent/probes.json", &probed("now", share));
        assert_eq!(whole_at(&mut small, 900, "effective_speed").status, status, "{tier} {share}");
    }
}

#[test]
fn only_new_complaints_of_the_kernel_count() {
    let mut small = Small::new(Tier::Shielded);
    let mut log = "4,7,100,-;an old complaint\n SUBSYSTEM=x\n DEVICE=+x:y\n".to_owned();
    small.write("dev/kmsg", &log);
    let reading = whole_at(&mut small, 10, "kernel_log");
    assert!(reading.why.contains("it takes two whole readings"), "{reading:?}");
    let mut then = |uptime_s, more: &str| {
        log += more;
        small.write("dev/kmsg", &log);
        let reading = whole_at(&mut small, uptime_s, "kernel_log");
        (reading.status, reading.value)
    };
    // Told by a program, no complaint, and known to be harmless.
    let quiet = "28,8,200,-;systemd[1]: oh\n6,9,210,-;all is well\n4,10,220,-;overlayfs: no file handles\n";
    assert_eq!(then(20, quiet), (ReadingStatus::Ok, "no complaint in 10.0 s".to_owned()));
    let loud = "4,11,300,c;hrtimer: interrupt\u{1b} took 48210 ns\n3,12,301,-;usb 1-3: error\n";
    let (status, value) = then(30, loud);
    assert_eq!(status, ReadingStatus::Warn);
    assert_eq!(value, "2 in 10.0 s, such as `hrtimer: interrupt took 48210 ns`");
    assert_eq!(then(40, "").0, ReadingStatus::Ok, "it passes by itself");
    for (at, text) in [
        (50, "mce: CPU1: Package temperature above threshold, cpu clock throttled"),
        (60, "mce: [Hardware Error]: Machine check events logged"),
        (70, "Out of memory: Killed process 7 (python3)"),
        (80, "INFO: task kworker/1:2:123 blocked for more than 120 seconds."),
        (90, "watchdog: BUG: soft lockup - CPU#1 stuck for 22s!"),
        (100, "rcu: INFO: rcu_preempt self-detected stall on CPU"),
    ] {
        let more = format!("4,{at}0,1,-;a lesser one before\n2,{at}1,1,-;{text}\n");
        let told = then(at, &more);
        assert_eq!(told, (ReadingStatus::Fail, format!("2 in 10.0 s, such as `{text}`")));
    }
}

#[test]
fn a_log_that_cannot_be_read_is_unknown() {
    let mut small = Small::new(Tier::Shielded);
    whole_at(&mut small, 10, "kernel_log");
    assert!(whole_at(&mut small, 20, "kernel_log").why.contains("/dev/kmsg does not exist"));
    small.write("dev/kmsg", "gibberish\n");
    assert!(whole_at(&mut small, 30, "kernel_log").why.contains("says `gibberish`"));
    small.write("dev/kmsg", "4,7,100,-;an old complaint\n");
    let reading = whole_at(&mut small, 40, "kernel_log");
    assert_eq!(reading.status, ReadingStatus::Unknown, "nobody knows what is new: {reading:?}");
    small.write("dev/kmsg", &"6,8,100,-;chatter\n".repeat(1 << 18));
    let reading = whole_at(&mut small, 50, "kernel_log");
    assert!(reading.why.contains("has more than the 4 MiB that are read"), "{reading:?}");
}

#[test]
fn what_the_firmware_takes_is_seen_where_the_cpu_counts_it() {
    let mut small = Small::new(Tier::Shielded);
    let register = |low: char| format!("{}{low}\0\0\0\0\0\0\0", "\0".repeat(0x34));
    let cpuinfo = |vendor: &str, flags: &str| {
        format!("processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n")
    };
    small.write("proc/cpuinfo", &cpuinfo("GenuineIntel", "msr"));
    whole_at(&mut small, 10, "smi_count");
    let reading = whole_at(&mut small, 20, "smi_count");
    assert!(reading.why.contains("/dev/cpu/1/msr does not exist"), "{reading:?}");
    small.write("dev/cpu/1/msr", &register('\u{3}'));
    assert_eq!(whole_at(&mut small, 30, "smi_count").status, ReadingStatus::Unknown, "one count is none");
    let reading = whole_at(&mut small, 40, "smi_count");
    assert_eq!((reading.status, reading.value.as_str()), (ReadingStatus::Ok, "none in 10.0 s"));
    small.write("dev/cpu/1/msr", &register('\u{5}'));
    let reading = whole_at(&mut small, 50, "smi_count");
    assert_eq!((reading.status, reading.value.as_str()), (ReadingStatus::Fail, "2 in 10.0 s"));
    for (at, vendor, flags, why) in [
        (60, "AuthenticAMD", "msr", "only Intel's CPUs"),
        (70, "GenuineIntel", "msr hypervisor", "a virtual machine does not see"),
    ] {
        small.write("proc/cpuinfo", &cpuinfo(vendor, flags));
        let reading = whole_at(&mut small, at, "smi_count");
        assert!(reading.status == ReadingStatus::Unknown && reading.why.contains(why), "{reading:?}");
    }
}
