//! Whatever the domain can say comes back the same from the wire's bytes, and what it cannot say is refused by name.

#[cfg(test)]
mod domain;

use darwin_gate::{Observation, Policy, SeriesKey, Verdict};
use darwin_proto::v1;
use darwin_shared::attempt::AttemptUpdate;
use darwin_shared::fleet::{AgentFacts, SensorReport};
use darwin_shared::ids::Epoch;
use darwin_shared::round::RoundResult;
use darwin_shared::spec::JobSpec;
use darwin_shared::state::{MeasuredSeries, Outcome, RefusalCause};
use darwin_shared::usage::Usage;
use darwin_shared::used::Used;
use proptest::prelude::*;
use prost::Message;

macro_rules! round_trips {
    ($($test:ident: $domain:ty => $message:ty, $strategy:expr;)+) => {
        proptest! {
            $(
                #[test]
                fn $test(value in $strategy) {
                    let back: $domain = domain::over_the_wire(&<$message>::from(value.clone())).unwrap();
                    prop_assert_eq!(back, value);
                }
            )+
        }
    };
}

round_trips! {
    a_spec: JobSpec => v1::JobSpec, domain::job_spec();
    an_outcome: Outcome => v1::Outcome, domain::outcome();
    a_measured_series: MeasuredSeries => v1::MeasuredSeries, domain::measured_series();
    an_update_of_an_attempt: AttemptUpdate => v1::AttemptUpdate, domain::attempt_update();
    a_refusal: RefusalCause => v1::Refusal, domain::refusal();
    a_round: RoundResult => v1::RoundResult, domain::round_result();
    an_observation: (SeriesKey, Observation) => v1::Observation, (domain::series_key(), domain::observation());
    facts: AgentFacts => v1::AgentFacts, domain::agent_facts();
    a_sensor_report: SensorReport => v1::SensorReport, domain::sensor_report();
}

proptest! {
    #[test]
    fn a_policy(policy in domain::policy()) {
        let back: Policy = domain::over_the_wire(&v1::Policy::from(&policy)).unwrap();
        prop_assert_eq!(back, policy);
    }

    #[test]
    fn a_verdict(verdict in domain::verdict()) {
        let back: Verdict = domain::over_the_wire(&v1::Verdict::from(&verdict)).unwrap();
        prop_assert_eq!(back, verdict);
    }

    #[test]
    fn an_epoch_and_usage(epoch in domain::epoch(), usage in domain::usage()) {
        prop_assert_eq!(Epoch::from(v1::Epoch::from(epoch)), epoch);
        prop_assert_eq!(Usage::from(v1::Usage::from(usage)), usage);
    }

    #[test]
    fn what_sides_used(used in domain::used()) {
        prop_assert_eq!(Used::try_from(v1::Used::from(used.clone())).unwrap(), used);
    }

    /// The agent's spool keeps rounds as lines of JSON.
    #[test]
    fn a_round_in_a_spool(round in domain::round_result()) {
        let line = serde_json::to_string(&round).unwrap();
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(serde_json::from_str::<RoundResult>(&line).unwrap(), round);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = v1::JobSpec::decode(bytes.as_slice()).map(JobSpec::try_from);
        let _ = v1::RoundResult::decode(bytes.as_slice()).map(RoundResult::try_from);
        let _ = v1::AttemptUpdate::decode(bytes.as_slice()).map(AttemptUpdate::try_from);
        let _ = v1::Outcome::decode(bytes.as_slice()).map(Outcome::try_from);
        let _ = v1::SensorReport::decode(bytes.as_slice()).map(SensorReport::try_from);
        let _ = v1::AgentFacts::decode(bytes.as_slice()).map(AgentFacts::try_from);
    }

    /// One byte changed on the way: refused or another value, never a panic.
    #[test]
    fn no_flipped_byte_makes_it_panic(spec in domain::job_spec(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = v1::JobSpec::from(spec).encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(message) = v1::JobSpec::decode(bytes.as_slice())
            && let Ok(spec) = JobSpec::try_from(message)
        {
            spec.check().unwrap();
        }
    }
}
