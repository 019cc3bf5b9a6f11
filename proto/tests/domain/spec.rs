//! Jobs of every kind.

use super::*;

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        "[a-z./ ]{1,30}x \\{output\\}".prop_map(Command::Shell),
        prop::collection::vec("[^\\x00]{0,20}", 0..4).prop_map(|mut args| {
            args.insert(0, "./bench".to_owned());
            args.push("{output}".to_owned());
            Command::Argv(args)
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    (command(), duration(Duration::from_millis(1), MAX_TIMEOUT))
        .prop_map(|(command, timeout)| Step { command, timeout })
}

fn variant() -> impl Strategy<Value = Variant> {
    let source = prop_oneof![
        digest().prop_map(Source::Tree),
        "/[^\\x00]{0,60}".prop_map(Source::Path),
        Just(Source::Nothing),
    ];
    ("[^\\p{Cc}]{1,60}", source).prop_map(|(label, source)| Variant { label, source })
}

fn work() -> impl Strategy<Value = Work> {
    prop_oneof![
        (variant(), variant()).prop_map(|(baseline, challenger)| Work::Compare { baseline, challenger }),
        variant().prop_map(|variant| Work::Measure { variant }),
        duration(MIN_PROBE, MAX_PROBE).prop_map(|length| Work::Probe { length }),
    ]
}

fn cores() -> impl Strategy<Value = CoreRequest> {
    (
        1u32..=4096,
        select(vec![Isolation::Required, Isolation::Preferred, Isolation::None]),
        select(vec![Exclusive::Core, Exclusive::Llc, Exclusive::Node, Exclusive::Host]),
        select(vec![Scheduler::Other, Scheduler::Fifo]),
    )
        .prop_map(|(count, isolation, exclusive, scheduler)| CoreRequest {
            count,
            isolation,
            exclusive,
            scheduler,
        })
}

fn budget() -> impl Strategy<Value = Budget> {
    (1..=MAX_ROUNDS, 1..=MAX_ROUNDS, duration(Duration::from_secs(1), MAX_BUDGET))
        .prop_map(|(a, b, time)| Budget { rounds_min: a.min(b), rounds_max: a.max(b), time })
}

pub(crate) fn job_spec() -> impl Strategy<Value = JobSpec> {
    let names = (NAME, NAME, option::of(NAME));
    let steps = (option::of(step()), option::of(step()), step());
    let maps = (texts("[A-Z_]{1,20}"), texts("[a-z]{1,20}"));
    let rest = (any::<i32>(), 1u32..=10, any::<u64>(), any::<prop::sample::Index>());
    (names, work(), steps, select(Format::ALL.to_vec()), maps, cores(), policy(), budget(), rest).prop_map(
        |(
            (project, suite, pool),
            work,
            (setup, check, run),
            format,
            (env, labels),
            cores,
            policy,
            budget,
            rest,
        )| {
            let budget = match work {
                Work::Probe { .. } => Budget { rounds_min: 1, rounds_max: 1, ..budget },
                Work::Compare { .. } | Work::Measure { .. } => budget,
            };
            JobSpec {
                project: ProjectName::new(project).unwrap(),
                suite: SuiteName::new(suite).unwrap(),
                work,
                steps: Steps { setup, check, run },
                format,
                env,
                pool: pool.map(|pool| PoolName::new(pool).unwrap()),
                labels,
                cores,
                plan: match format {
                    // Its whole command is timed: no slices of it.
                    Format::Process => PairPlan::Auto,
                    _ => *rest.3.get(&PairPlan::ALL),
                },
                layout: *rest.3.get(&Layout::ALL),
                policy,
                budget,
                priority: rest.0,
                attempts: rest.1,
                seed: rest.2,
            }
        },
    )
}
