//! `[suite.NAME.gate]`: the policy by which the gate judges.

use std::collections::BTreeMap;

use darwin_gate::policy::{MAX_BUILDS, MIN_BUILDS};
use darwin_gate::{Metric, MetricError, MetricPolicy, Mode, Policy, Ratio, Stopping};

use super::error::{Fault, nearest};
use super::read::optional;
use super::walk::{Faults, Item, Section};
use crate::spec::Budget;

/// The metrics' names, for whoever mistyped one.
const METRICS: &[&str] = &[
    "latency.min",
    "latency.p50",
    "latency.p90",
    "latency.p99",
    "latency.p99.9",
    "latency.mean",
    "latency.max",
    "throughput",
    "memory.peak",
    "cpu.time",
    "page.faults",
    "instructions",
    "cycles",
    "cache.misses",
    "branch.misses",
];

/// The policy of a suite; its looks are the usual ones within the budget's rounds, and spend no alpha where these have no
/// planned end.
pub(super) fn policy(suite: &Section<'_>, budget: &Budget, faults: &mut Faults) -> Policy {
    let stopping = if budget.is_unlimited() { Stopping::Anytime } else { Stopping::Planned };
    let mut policy = Policy { stopping, ..Policy::default() }.with_max_pairs(budget.rounds_max);
    policy.looks.retain(|pairs| *pairs >= budget.rounds_min);
    let Some(item) = suite.get("gate") else {
        return policy;
    };
    let Some(section) = faults.keep(item.section("{ mode = \"faster\" }")) else {
        return policy;
    };
    section.only(&["mode", "alpha", "primary", "assumed_noise", "builds", "metric"], faults);

    let modes = [("faster", Mode::Faster), ("no-slower", Mode::NoSlower)];
    if let Some(mode) = optional(&section, "mode", faults, |item| item.word(&modes)) {
        policy.mode = mode;
    }
    if let Some(alpha) = optional(&section, "alpha", faults, alpha) {
        policy.alpha = alpha;
    }
    let primary = |item: &Item<'_>| metric(item.text("\"latency.p99\"")?, &item.span);
    if let Some(primary) = optional(&section, "primary", faults, primary) {
        policy.primary = Some(primary);
    }
    if let Some(noise) = optional(&section, "assumed_noise", faults, assumed_noise) {
        policy.assumed_noise = noise;
    }
    if let Some(builds) = optional(&section, "builds", faults, |item| builds(item, suite)) {
        policy.builds = builds;
    }
    if let Some(metrics) = optional(&section, "metric", faults, |item| item.section("{ }")) {
        policy.metrics = metrics_of(&metrics, &policy, faults);
    }
    if let Err(why) = policy.validate() {
        faults.add(Fault::new(
            item.key_span,
            format!("[{}] cannot be judged by: {why}", section.path),
            "the gate",
            "see `darwin init` for a gate that can",
        ));
    }
    policy
}

fn alpha(item: &Item<'_>) -> Result<f64, Fault> {
    item.number_between(0.0, 0.5, "it is the chance of a wrong verdict: 0.01 is one in a hundred, and usual")
}

fn assumed_noise(item: &Item<'_>) -> Result<Ratio, Fault> {
    let fraction = item.percent()?.fraction();
    let ratio = Ratio::new(fraction).ok().filter(|_| fraction > 0.0 && fraction <= 1.0);
    ratio.ok_or_else(|| {
        item.fault(
            "must be above 0% and at most 100%",
            "out of range",
            "it is how much two processes of the same variant may differ; \"5%\" is usual",
        )
    })
}

fn builds(item: &Item<'_>, suite: &Section<'_>) -> Result<u32, Fault> {
    let help = "relinked builds of each variant, so that the luck of one link layout is no finding; 1 is the usual one";
    let builds = item.count(1, MAX_BUILDS, help)?;
    if builds > 1 && builds < MIN_BUILDS {
        return Err(item.fault(
            format!("is {builds}; so few builds cannot tell their luck from a change"),
            "too few",
            format!("{MIN_BUILDS} to {MAX_BUILDS}, or 1 for the usual single build"),
        ));
    }
    if builds > 1 && suite.get("setup").is_none() {
        return Err(item.fault(
            "asks for relinked builds, but the suite has no `setup` that could make them",
            "nothing is built",
            "give a `setup` that links anew for each number in {build} or $DARWIN_BUILD",
        ));
    }
    Ok(builds)
}

fn metric(name: &str, span: &std::ops::Range<usize>) -> Result<Metric, Fault> {
    name.parse().map_err(|why: MetricError| {
        let by_end = METRICS.iter().copied().find(|metric| metric.ends_with(&format!(".{name}")));
        let help = match by_end.or_else(|| nearest(name, METRICS.iter().copied())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "a metric of the bench's own is named `custom.NAME`".to_owned(),
        };
        Fault::new(span.clone(), why.to_string(), "no metric", help)
    })
}

fn metrics_of(section: &Section<'_>, policy: &Policy, faults: &mut Faults) -> BTreeMap<Metric, MetricPolicy> {
    let mut metrics = BTreeMap::new();
    for item in section.items() {
        let named = match unquoted(&item) {
            Some(fault) => Err(fault),
            None => metric(item.key, &item.key_span),
        };
        let Some(name) = faults.keep(named) else { continue };
        let Some(rules) = faults.keep(item.section("{ margin = \"1%\" }")) else {
            continue;
        };
        if let Some(rule) = metric_policy(&rules, &item, &name, policy, faults) {
            metrics.insert(name, rule);
        }
    }
    metrics
}

/// `[… .metric.latency.p99]` without quotes makes a table of a table; say what was meant.
fn unquoted(item: &Item<'_>) -> Option<Fault> {
    let inner = item.section("").ok()?.items().next()?;
    inner.section("").ok()?;
    let joined = format!("{}.{}", item.key, inner.key);
    let parsed = joined.parse::<Metric>().is_ok() && item.key.parse::<Metric>().is_err();
    parsed.then(|| {
        Fault::new(
            item.key_span.clone(),
            format!("`{joined}` is one name, but TOML reads it as a table in a table"),
            "quotes are missing",
            format!("write it in quotes: `metric.\"{joined}\"`"),
        )
    })
}

fn metric_policy(
    section: &Section<'_>,
    item: &Item<'_>,
    name: &Metric,
    policy: &Policy,
    faults: &mut Faults,
) -> Option<MetricPolicy> {
    section.only(&["margin", "floor", "gated"], faults);
    let ratio = |item: &Item<'_>| {
        let percent = item.percent()?;
        Ratio::new(percent.fraction())
            .map_err(|why| item.fault(why.to_string(), "no share", "write it like \"1%\""))
    };
    let margin = optional(section, "margin", faults, ratio).unwrap_or(policy.for_metric(name).0.margin);
    let floor = optional(section, "floor", faults, ratio).unwrap_or(Ratio::ZERO);
    let gated = optional(section, "gated", faults, Item::yes_or_no).unwrap_or(true);
    if floor > Ratio::ZERO && floor >= margin {
        let at = section.get("floor").unwrap_or_else(|| item.clone());
        faults.add(at.fault(
            format!("is {floor}, which is not below the margin of {margin}"),
            "not below `margin`",
            "the floor is what link layout alone may cost; raise `margin`, or lower `floor`",
        ));
        return None;
    }
    if !gated && policy.is_primary(name) {
        let at = section.get("gated").unwrap_or_else(|| item.clone());
        faults.add(at.fault(
            format!("is false, but {name} is the primary metric: what must get faster cannot be left out"),
            "the primary metric",
            "gate it, or choose another `primary`",
        ));
        return None;
    }
    Some(MetricPolicy { margin, floor, gated })
}
