//! The archive's model: what the engines must do, in vectors. Tests hold the engines against it.

use std::collections::{BTreeMap, BTreeSet};

use darwin_coordinator_core::action::ArchiveRound;
use darwin_gate::audit::{AaVerdict, Audit};
use darwin_gate::{Calibration, Observation, SeriesKey};
use darwin_shared::ids::{AttemptId, JobId};
use darwin_shared::probe::ProbeMoment;
use darwin_shared::spec::Arm;

use super::archive::{
    AaJob, Archive, ArchiveError, ArchivedProbe, CALIBRATIONS_MAX, CalibratedSeries, CalibrationQuery,
    Calibrations, HistoryPoint, HistoryQuery, POINTS_MAX, PROBES_KEPT, PROBES_MAX, ProbeQuery,
};
use super::archive_calibrations::{Seen, pairs, put_into, replayed};
use super::archive_sqlite::arm_number;

/// A project, a suite, an agent and its tier.
type Place = (String, String, String, String);

/// One invocation with what every point of it shares.
#[derive(Debug, Clone)]
struct Kept {
    attempt: AttemptId,
    round: u32,
    arm: Arm,
    place: Place,
    variant: String,
    recorded_unix_ms: u64,
    observations: BTreeMap<SeriesKey, Observation>,
}

/// An archive that forgets everything when it is dropped.
#[derive(Debug, Clone, Default)]
pub struct MemoryArchive {
    /// In the order in which they came.
    kept: Vec<Kept>,
    known: BTreeSet<(AttemptId, u32, u8)>,
    /// By place and the word for how the pairs were run.
    calibrations: BTreeMap<(Place, &'static str), BTreeMap<SeriesKey, CalibratedSeries>>,
    /// In the order in which they came.
    probes: Vec<ArchivedProbe>,
    verdicts: Vec<AaVerdict>,
    audited: BTreeSet<JobId>,
}

impl MemoryArchive {
    /// What both sides measured of one series in this attempt, round by round.
    fn observations(&self, attempt: AttemptId, series: &SeriesKey) -> Vec<Seen> {
        let of_attempt = self.kept.iter().filter(|kept| kept.attempt == attempt);
        let mut seen: Vec<Seen> = of_attempt
            .filter_map(|kept| {
                let observation = *kept.observations.get(series)?;
                Some(Seen { round: kept.round, arm: kept.arm, observation })
            })
            .collect();
        seen.sort_by_key(|seen| (seen.round, arm_number(seen.arm)));
        seen
    }

    fn put_probes(&mut self, round: &ArchiveRound) {
        let job = round.attempt.job.to_string();
        for probe in &round.probes {
            let key = (&job, round.attempt.number, round.round, probe.moment);
            if self.probes.iter().any(|kept| (&kept.job, kept.attempt, kept.round, kept.probe.moment) == key)
            {
                continue;
            }
            let agent = round.agent.to_string();
            let is_kin = |kept: &ArchivedProbe| kept.agent == agent && kept.probe.moment == probe.moment;
            if self.probes.iter().filter(|kept| is_kin(kept)).count() >= PROBES_KEPT as usize
                && let Some(oldest) = self.probes.iter().position(is_kin)
            {
                self.probes.remove(oldest);
            }
            self.probes.push(ArchivedProbe {
                agent,
                pool: round.pool.to_string(),
                job: job.clone(),
                attempt: round.attempt.number,
                round: round.round,
                recorded_unix_ms: round.recorded_unix_ms,
                probe: probe.clone(),
            });
        }
    }

    fn calibrate(&mut self, job: &AaJob) -> Option<AaVerdict> {
        let (mut blocks, mut known) = (BTreeMap::new(), BTreeMap::new());
        for finding in &job.verdict.findings {
            let seen = self.observations(job.attempt, &finding.series);
            if finding.gated {
                put_into(&mut blocks, job.spec.seed, &finding.series, &seen);
            }
            let pairs = pairs(&seen, &finding.series.metric, job.spec.seed);
            let calibration = Calibration::of(&pairs, job.finished_unix_ms, &job.fingerprint);
            if let Some(calibration) = calibration {
                let series = CalibratedSeries {
                    agent: job.agent.to_string(),
                    tier: job.tier.to_string(),
                    pairing: job.pairing_word().to_owned(),
                    project: job.spec.project.to_string(),
                    suite: job.spec.suite.to_string(),
                    series: finding.series.clone(),
                    gated: finding.gated,
                    job: job.attempt.job.to_string(),
                    calibration,
                };
                known.insert(finding.series.clone(), series);
            }
        }
        let (project, suite) = (job.spec.project.to_string(), job.spec.suite.to_string());
        let place = (project, suite, job.agent.to_string(), job.tier.to_string());
        self.calibrations.insert((place, job.pairing_word()), known);
        replayed(job, &blocks)
    }
}

fn is_wanted(wanted: &str, word: &str) -> bool {
    wanted.is_empty() || wanted == word
}

fn points_of(kept: &Kept, query: &HistoryQuery) -> Vec<HistoryPoint> {
    let (project, suite, agent, tier) = &kept.place;
    if *project != query.project || *suite != query.suite {
        return Vec::new();
    }
    let mut points: Vec<HistoryPoint> = kept
        .observations
        .iter()
        .map(|(SeriesKey { bench, metric }, observation)| HistoryPoint {
            job: kept.attempt.job.to_string(),
            attempt: kept.attempt.number,
            round: kept.round,
            arm: kept.arm,
            variant: kept.variant.clone(),
            bench: bench.clone(),
            metric: metric.to_string(),
            value: observation.value,
            unit: observation.unit.word().to_owned(),
            samples: observation.samples,
            agent: agent.clone(),
            tier: tier.clone(),
            recorded_unix_ms: kept.recorded_unix_ms,
        })
        .filter(|point| is_wanted(&query.bench, &point.bench) && is_wanted(&query.metric, &point.metric))
        .collect();
    points.sort_by(|a, b| (&a.bench, &a.metric).cmp(&(&b.bench, &b.metric)));
    points
}

impl Archive for MemoryArchive {
    fn put(&mut self, rounds: &[ArchiveRound]) -> Result<(), ArchiveError> {
        for round in rounds {
            self.put_probes(round);
            let variants = round.spec.work.variants();
            for invocation in &round.invocations {
                if !self.known.insert((round.attempt, round.round, arm_number(invocation.arm))) {
                    continue;
                }
                let variant = variants.iter().find(|(arm, _)| *arm == invocation.arm);
                self.kept.push(Kept {
                    attempt: round.attempt,
                    round: round.round,
                    arm: invocation.arm,
                    place: (
                        round.spec.project.to_string(),
                        round.spec.suite.to_string(),
                        round.agent.to_string(),
                        round.tier.to_string(),
                    ),
                    variant: variant.map_or_else(String::new, |(_, variant)| variant.label.clone()),
                    recorded_unix_ms: round.recorded_unix_ms,
                    observations: invocation.observations.clone(),
                });
            }
        }
        Ok(())
    }

    fn put_aa(&mut self, job: &AaJob) -> Result<(), ArchiveError> {
        let mut audited = AaVerdict::of(&job.verdict, &job.spec.policy);
        if job.spec.is_calibration() {
            audited = self.calibrate(job).or(audited);
        }
        if let Some(verdict) = audited
            && self.audited.insert(job.attempt.job)
        {
            self.verdicts.push(verdict);
        }
        Ok(())
    }

    fn calibrations(&mut self, query: &CalibrationQuery) -> Result<Calibrations, ArchiveError> {
        let CalibrationQuery { project, suite, agent, limit } = query;
        let wanted = self.calibrations.iter().filter(|(((of, in_suite, by, _), _), _)| {
            is_wanted(project, of) && is_wanted(suite, in_suite) && is_wanted(agent, by)
        });
        // The map's order is that of all but `gated`; a sort by less than all keeps it.
        let mut series: Vec<CalibratedSeries> =
            wanted.flat_map(|(_, series)| series.values().cloned()).collect();
        series.sort_by_key(|series| !series.gated);
        series.truncate((*limit).clamp(1, CALIBRATIONS_MAX) as usize);
        let place = |c: &CalibratedSeries| {
            (c.project.clone(), c.suite.clone(), c.agent.clone(), c.tier.clone(), c.pairing.clone())
        };
        series.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.series.cmp(&b.series)));
        Ok(Calibrations { series, audit: Audit::of(self.verdicts.iter().copied()) })
    }

    fn probes(&mut self, query: &ProbeQuery) -> Result<Vec<ArchivedProbe>, ArchiveError> {
        let ProbeQuery { agent, pool, job, jobs_only, limit } = query;
        let wanted = self.probes.iter().rev().filter(|kept| {
            is_wanted(agent, &kept.agent)
                && is_wanted(pool, &kept.pool)
                && is_wanted(job, &kept.job)
                && (!jobs_only || kept.probe.moment == ProbeMoment::Job)
        });
        Ok(wanted.take((*limit).clamp(1, PROBES_MAX) as usize).cloned().collect())
    }

    fn history(&mut self, query: &HistoryQuery) -> Result<Vec<HistoryPoint>, ArchiveError> {
        let limit = query.limit.clamp(1, POINTS_MAX) as usize;
        let newest_first = self.kept.iter().rev().flat_map(|kept| points_of(kept, query));
        let mut points: Vec<HistoryPoint> = newest_first.take(limit).collect();
        points.reverse();
        Ok(points)
    }
}
