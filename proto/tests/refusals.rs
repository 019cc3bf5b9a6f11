//! What no peer may send is refused, and the refusal names the field.

use std::collections::HashMap;

use darwin_gate::{Policy, Verdict};
use darwin_proto::convert::ConvertError;
use darwin_proto::v1;
use darwin_shared::attempt::AttemptUpdate;
use darwin_shared::fleet::{AgentFacts, SensorReport};
use darwin_shared::round::RoundResult;
use darwin_shared::spec::JobSpec;
use darwin_shared::state::{MeasuredSeries, Outcome};
use prost_types::Duration;

const ATTEMPT: &str = "01J9ZQ4T7M2N8X3V5B6C7D8E9F.1";

fn spec() -> v1::JobSpec {
    let step = |text: &str| v1::Step {
        command: Some(v1::step::Command::Shell(text.to_owned())),
        timeout: Some(Duration { seconds: 600, nanos: 0 }),
    };
    let variant = v1::Variant { label: "main@1a2b3c4".to_owned(), source: None };
    v1::JobSpec {
        project: "matching-engine".to_owned(),
        suite: "hotpath".to_owned(),
        work: Some(v1::job_spec::Work::Compare(v1::Compare {
            baseline: Some(variant.clone()),
            challenger: Some(variant),
        })),
        steps: Some(v1::Steps {
            setup: Some(step("make")),
            check: None,
            run: Some(step("./bench {output}")),
        }),
        format: "pytest-benchmark".to_owned(),
        env: HashMap::new(),
        pool: String::new(),
        labels: HashMap::new(),
        cores: Some(v1::CoreRequest {
            count: 1,
            isolation: v1::Isolation::Preferred.into(),
            exclusive: v1::Exclusive::Core.into(),
            scheduler: v1::Scheduler::Other.into(),
        }),
        policy: Some(v1::Policy::from(&Policy::default())),
        budget: Some(v1::Budget {
            rounds_min: 1,
            rounds_max: 40,
            time: Some(Duration { seconds: 1200, nanos: 0 }),
        }),
        priority: 0,
        attempts: 3,
        seed: 7,
        plan: "auto".to_owned(),
        layout: "fixed".to_owned(),
    }
}

fn round() -> v1::RoundResult {
    let observation = v1::Observation {
        bench: "match[1000]".to_owned(),
        metric: "latency.p99".to_owned(),
        value: 50_100.0,
        unit: "nanoseconds".to_owned(),
        samples: 1000,
        evidence: "A".to_owned(),
    };
    v1::RoundResult {
        attempt_id: ATTEMPT.to_owned(),
        epoch: Some(v1::Epoch { generation: 1, counter: 2 }),
        round: 0,
        invocations: vec![v1::Invocation {
            arm: v1::Arm::Baseline.into(),
            observations: vec![observation],
            wall_ns: 1,
            usage: Some(v1::Usage::default()),
            samples: bytes::Bytes::new(),
            image: String::new(),
            build: None,
        }],
        pairing: None,
        warm_ups: vec![],
        voids: None,
        probes: vec![],
    }
}

/// What is said to each message after each change of it, one on a line.
fn refusals<M: Clone, D: TryFrom<M, Error = ConvertError>>(good: &M, changes: &[fn(&mut M)]) -> String {
    assert!(D::try_from(good.clone()).is_ok(), "the unchanged message must be taken");
    let told = changes.iter().map(|change| {
        let mut message = good.clone();
        change(&mut message);
        D::try_from(message).err().map_or_else(|| "TAKEN".to_owned(), |error| error.to_string())
    });
    told.collect::<Vec<_>>().join("\n")
}

macro_rules! run {
    ($spec:ident) => {
        $spec.steps.as_mut().unwrap().run.as_mut().unwrap()
    };
}

#[test]
fn of_specs() {
    let told = refusals::<_, JobSpec>(
        &spec(),
        &[
            |spec| spec.project = "../etc".to_owned(),
            |spec| spec.suite = String::new(),
            |spec| spec.work = None,
            |spec| spec.work = Some(v1::job_spec::Work::Measure(v1::Measure { variant: None })),
            |spec| {
                let variant = v1::Variant { label: String::new(), source: None };
                spec.work = Some(v1::job_spec::Work::Measure(v1::Measure { variant: Some(variant) }));
            },
            |spec| {
                let source = Some(v1::variant::Source::Tree(bytes::Bytes::from_static(b"short")));
                let variant = v1::Variant { label: "x".to_owned(), source };
                spec.work = Some(v1::job_spec::Work::Measure(v1::Measure { variant: Some(variant) }));
            },
            |spec| {
                let source = Some(v1::variant::Source::Path("srv/x".to_owned()));
                let variant = v1::Variant { label: "\u{1b}[2J".to_owned(), source };
                spec.work = Some(v1::job_spec::Work::Compare(v1::Compare {
                    baseline: None,
                    challenger: Some(variant),
                }));
            },
            |spec| spec.steps = None,
            |spec| spec.steps.as_mut().unwrap().run = None,
            |spec| run!(spec).command = None,
            |spec| run!(spec).command = Some(v1::step::Command::Shell("x".repeat(1 << 20))),
            |spec| run!(spec).command = Some(v1::step::Command::Argv(v1::Argv { args: vec![] })),
            |spec| run!(spec).command = Some(v1::step::Command::Shell("pytest".to_owned())),
            |spec| run!(spec).timeout = None,
            |spec| run!(spec).timeout = Some(Duration { seconds: -1, nanos: 0 }),
            |spec| run!(spec).timeout = Some(Duration { seconds: 0, nanos: 0 }),
            |spec| run!(spec).timeout = Some(Duration { seconds: i64::MAX, nanos: 0 }),
            |spec| spec.format = "jmh".to_owned(),
            |spec| drop(spec.env.insert("A=B".to_owned(), String::new())),
            |spec| spec.pool = "xeon 6".to_owned(),
            |spec| drop(spec.labels.insert(String::new(), "x".to_owned())),
            |spec| spec.cores = None,
            |spec| spec.cores.as_mut().unwrap().count = 0,
            |spec| spec.cores.as_mut().unwrap().isolation = 0,
            |spec| spec.cores.as_mut().unwrap().exclusive = 99,
            |spec| spec.cores.as_mut().unwrap().scheduler = -1,
            |spec| spec.policy = None,
            |spec| spec.policy.as_mut().unwrap().schema = "darwin-policy/2".to_owned(),
            |spec| spec.policy.as_mut().unwrap().json = "{".to_owned(),
            |spec| spec.policy.as_mut().unwrap().json = "{\"alpha\":0.9}".to_owned(),
            |spec| spec.policy.as_mut().unwrap().json = "{\"alfa\":0.01}".to_owned(),
            |spec| spec.policy.as_mut().unwrap().json = " ".repeat(1 << 20),
            |spec| spec.budget = None,
            |spec| spec.budget.as_mut().unwrap().rounds_max = 0,
            |spec| spec.budget.as_mut().unwrap().rounds_min = 41,
            |spec| spec.budget.as_mut().unwrap().time = None,
            |spec| spec.attempts = 0,
        ],
    );
    insta::assert_snapshot!(told);
}

#[test]
fn of_rounds() {
    let told = refusals::<_, RoundResult>(
        &round(),
        &[
            |round| round.attempt_id = "nonsense".to_owned(),
            |round| round.epoch = None,
            |round| round.invocations.clear(),
            |round| round.invocations.push(round.invocations[0].clone()),
            |round| round.invocations = vec![round.invocations[0].clone(); 3],
            |round| round.invocations[0].arm = 0,
            |round| round.invocations[0].usage = None,
            |round| round.invocations[0].samples = bytes::Bytes::from_static(b"x"),
            |round| {
                let again = round.invocations[0].observations[0].clone();
                round.invocations[0].observations.push(again);
            },
            |round| round.invocations[0].observations[0].value = f64::NAN,
            |round| round.invocations[0].observations[0].value = -1.0,
            |round| round.invocations[0].observations[0].value = 0.0,
            |round| round.invocations[0].observations[0].value = f64::INFINITY,
            |round| round.invocations[0].observations[0].bench = String::new(),
            |round| round.invocations[0].observations[0].bench = "x".repeat(10_000),
            |round| round.invocations[0].observations[0].bench = "\u{1b}[2J".to_owned(),
            |round| round.invocations[0].observations[0].metric = "latency.p98".to_owned(),
            |round| round.invocations[0].observations[0].unit = "ms".to_owned(),
            |round| round.invocations[0].observations[0].evidence = "E".to_owned(),
            |round| round.invocations[0].observations[0].samples = 0,
        ],
    );
    insta::assert_snapshot!(told);
}

#[test]
fn of_updates() {
    use v1::attempt_update::Event;
    let good = v1::AttemptUpdate {
        attempt_id: ATTEMPT.to_owned(),
        epoch: Some(v1::Epoch { generation: 1, counter: 2 }),
        event: Some(Event::Ready(v1::AttemptReady {})),
    };
    let told = refusals::<_, AttemptUpdate>(
        &good,
        &[
            |update| update.event = None,
            |update| update.event = Some(Event::Staging(0)),
            |update| update.event = Some(Event::Staging(1000)),
            |update| update.event = Some(Event::Refused(v1::Refusal { cause: None })),
            |update| {
                let cause = Some(v1::refusal::Cause::Busy(false));
                update.event = Some(Event::Refused(v1::Refusal { cause }));
            },
            |update| {
                let running = v1::AttemptRunning {
                    cpus: "3-1".to_owned(),
                    isolation: "fifo".to_owned(),
                    ..v1::AttemptRunning::default()
                };
                update.event = Some(Event::Running(running));
            },
            |update| {
                let running = v1::AttemptRunning {
                    cpus: "1".to_owned(),
                    isolation: "perfect".to_owned(),
                    ..v1::AttemptRunning::default()
                };
                update.event = Some(Event::Running(running));
            },
            |update| update.event = Some(Event::Ended(v1::AttemptEnd { how: None, disturbed: None })),
            |update| {
                let how = Some(v1::attempt_end::How::Cancelled(false));
                update.event = Some(Event::Ended(v1::AttemptEnd { how, disturbed: None }));
            },
            |update| {
                let how = Some(v1::attempt_end::How::Box("x".repeat(1 << 20)));
                update.event = Some(Event::Ended(v1::AttemptEnd { how, disturbed: None }));
            },
            |update| {
                let how = Some(v1::attempt_end::How::Failed(v1::Failure::default()));
                update.event = Some(Event::Ended(v1::AttemptEnd { how, disturbed: None }));
            },
        ],
    );
    insta::assert_snapshot!(told);
}

#[test]
fn of_outcomes() {
    use v1::outcome::Kind;
    let good = v1::Outcome { kind: Some(Kind::Expired(v1::Expired {})) };
    let told = refusals::<_, Outcome>(
        &good,
        &[
            |outcome| outcome.kind = None,
            |outcome| outcome.kind = Some(Kind::Judged(v1::Verdict::default())),
            |outcome| outcome.kind = Some(Kind::Cancelled(v1::Cancelled { by: "a\nb".to_owned() })),
            |outcome| {
                let failure = v1::Failure {
                    stage: v1::Stage::Run.into(),
                    arm: v1::Arm::Baseline.into(),
                    ..v1::Failure::default()
                };
                outcome.kind = Some(Kind::Failed(failure));
            },
            |outcome| {
                let series = vec![v1::MeasuredSeries { center: f64::NAN, ..v1::MeasuredSeries::default() }];
                outcome.kind = Some(Kind::Measured(v1::Measured { series }));
            },
        ],
    );
    insta::assert_snapshot!(told);
}

#[test]
fn a_verdict_must_say_the_same_twice() {
    let json = r#"{"decision":"REJECT","reason":{"kind":"no_change_proven"},"findings":[],"alpha":0.01,
        "interval_confidence":0.98,"mode":"faster","pairs":1,"looks_taken":0,"looks":[],"seed":null,
        "assumption":null,"settle_with":null,"notes":[],"method":"few-pairs/1"}"#;
    let good = v1::Verdict {
        json: json.to_owned(),
        schema: "darwin-verdict/1".to_owned(),
        decision: v1::Decision::Reject.into(),
    };
    let told = refusals::<_, Verdict>(
        &good,
        &[
            |verdict| verdict.decision = v1::Decision::Approve.into(),
            |verdict| verdict.decision = 0,
            |verdict| verdict.decision = 9,
            |verdict| verdict.schema = String::new(),
            |verdict| verdict.json = verdict.json.replace("0.01", "null"),
        ],
    );
    insta::assert_snapshot!(told);
}

#[test]
fn a_measured_center_lies_between_its_ends() {
    let message = v1::MeasuredSeries {
        bench: "b".to_owned(),
        metric: "throughput".to_owned(),
        unit: "per_second".to_owned(),
        center: 5.0,
        least: 1.0,
        most: 2.0,
        ..v1::MeasuredSeries::default()
    };
    let refused = MeasuredSeries::try_from(message).unwrap_err();
    assert_eq!(refused.to_string(), "`center` is 5, which is not from the least of 1 to the most of 2");
}

#[test]
fn of_what_agents_say_of_themselves() {
    let facts = v1::AgentFacts {
        pool: "xeon-6".to_owned(),
        isolation: "fifo".to_owned(),
        lease_cpus: "1,3-4".to_owned(),
        ..v1::AgentFacts::default()
    };
    let of_facts = refusals::<_, AgentFacts>(
        &facts,
        &[
            |facts| facts.pool = String::new(),
            |facts| facts.isolation = String::new(),
            |facts| facts.lease_cpus = "all".to_owned(),
            |facts| facts.housekeeping_cpus = "0-99999".to_owned(),
            |facts| facts.hostname = "\u{1b}]0;x\u{7}".to_owned(),
            |facts| facts.kernel = "6".repeat(1000),
            |facts| facts.tier = "bare".to_owned(),
            |facts| facts.labels = (0..1000).map(|n| (n.to_string(), String::new())).collect(),
        ],
    );
    let reading = v1::Reading { name: "turbo".to_owned(), status: "ok".to_owned(), ..v1::Reading::default() };
    let report =
        v1::SensorReport { status: "ok".to_owned(), readings: vec![reading], ..v1::SensorReport::default() };
    let of_reports = refusals::<_, SensorReport>(
        &report,
        &[
            |report| report.status = "fine".to_owned(),
            |report| report.readings[0].status = String::new(),
            |report| report.readings = vec![report.readings[0].clone(); 1000],
            |report| report.refuses = "x".repeat(1 << 20),
        ],
    );
    let told = format!("{of_facts}\n{of_reports}");
    insta::assert_snapshot!(told);
}
