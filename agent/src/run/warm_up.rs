//! Leaving out the warm-up of a pair, once both sides of it are read.

use std::collections::BTreeSet;

use darwin_gate::mser::WarmUp;
use darwin_gate::{Metric, Policy};
use darwin_shared::round::Invocation;
use darwin_shared::sample::{Measured, cut_warm_up};

/// One side of a round as it was read, with its warm-up.
#[derive(Debug)]
pub(crate) struct ReadSide {
    /// Its statistics are those of all samples.
    pub(crate) invocation: Invocation,
    /// All samples.
    pub(crate) measured: Measured,
}

/// The invocations with statistics of what is left after the warm-up, which is only known of both sides together; a
/// measurement of one variant keeps all.
pub(crate) fn without_warm_up(sides: Vec<ReadSide>, policy: &Policy) -> (Vec<Invocation>, Vec<WarmUp>) {
    let (mut invocations, samples): (Vec<Invocation>, Vec<Measured>) =
        sides.into_iter().map(|ReadSide { invocation, measured }| (invocation, measured)).unzip();
    let Ok(mut samples) = <[Measured; 2]>::try_from(samples) else {
        return (invocations, Vec::new());
    };
    let warm_ups = cut_warm_up(&mut samples, policy);
    let cut: BTreeSet<&str> =
        warm_ups.iter().filter(|warm_up| warm_up.cut > 0).map(|warm_up| warm_up.bench.as_str()).collect();
    for (invocation, measured) in invocations.iter_mut().zip(&samples) {
        let observations = &mut invocation.observations;
        let is_cut =
            |bench: &str, metric: &Metric| matches!(metric, Metric::Latency(_)) && cut.contains(bench);
        observations.retain(|key, _| !is_cut(&key.bench, &key.metric));
        let series = measured.series.iter().filter(|series| cut.contains(series.name.as_str()));
        let left = series.flat_map(darwin_shared::sample::Series::observations);
        observations.extend(left.filter(|(key, _)| is_cut(&key.bench, &key.metric)));
    }
    (invocations, warm_ups)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use darwin_gate::LatencyStat;
    use darwin_shared::formats::{Format, Input, read};
    use darwin_shared::spec::Arm;
    use darwin_shared::usage::Usage;

    use super::*;

    /// 1,000 calls of 100 ns, the first `slow` of 300 ns, and the peak memory of the process.
    fn side(arm: Arm, slow: usize) -> ReadSide {
        let values: Vec<&str> = (0..1000).map(|at| if at < slow { "300" } else { "100" }).collect();
        let text = format!(
            "{{\"schema\":\"darwin-samples/1\",\"tool\":\"t\"}}\n\
             {{\"name\":\"b\",\"metric\":\"latency\",\"unit\":\"ns\",\"order\":\"time\",\"values\":[{}]}}\n",
            values.join(",")
        );
        let measured = read(Format::DarwinSamples, Input::file("f", text.as_bytes())).unwrap();
        let usage = Usage { peak_rss_bytes: 4096, ..Usage::default() };
        let mut observations: BTreeMap<_, _> = measured.observations();
        observations.extend(darwin_shared::formats::peak_memory(&usage).unwrap().observations());
        let wall = Duration::from_millis(1);
        ReadSide {
            invocation: Invocation {
                arm,
                observations,
                wall,
                usage,
                samples: None,
                image: None,
                build: None,
            },
            measured,
        }
    }

    fn mean_and_samples(invocation: &Invocation) -> (f64, u64) {
        let mean = Metric::Latency(LatencyStat::Mean);
        let (_, seen) = invocation.observations.iter().find(|(key, _)| key.metric == mean).unwrap();
        (seen.value, seen.samples)
    }

    #[test]
    fn both_sides_lose_the_same_calls_and_nothing_else() {
        let pair = vec![side(Arm::Challenger, 150), side(Arm::Baseline, 0)];
        let (invocations, warm_ups) = without_warm_up(pair, &Policy::default());
        assert_eq!((warm_ups.len(), warm_ups[0].cut, warm_ups[0].of), (1, 150, 1000));
        for invocation in &invocations {
            assert_eq!(mean_and_samples(invocation), (100.0, 850));
            assert!(invocation.observations.keys().any(|key| key.metric == Metric::MemoryPeak));
        }
        assert_eq!((invocations[0].arm, invocations[1].arm), (Arm::Challenger, Arm::Baseline));
    }

    #[test]
    fn a_variant_measured_alone_keeps_all() {
        let (invocations, warm_ups) = without_warm_up(vec![side(Arm::Baseline, 150)], &Policy::default());
        assert_eq!((mean_and_samples(&invocations[0]), warm_ups.len()), ((130.0, 1000), 0));
    }
}
