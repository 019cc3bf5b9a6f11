//! The jobs that wait: by class, then priority, then fairness between projects, then age.
//!
//! Jobs that the same agents can take share a class, so that finding work for an agent asks each class once and never
//! walks past ten thousand jobs that the agent cannot take or has declined.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use darwin_shared::ids::{AgentId, JobId, ProjectName};

use crate::agent::Needs;

/// Which agents can take a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class {
    /// What it asks of an agent.
    pub(crate) needs: Needs,
    /// Agents that are not asked again for now.
    pub(crate) declined_by: BTreeSet<AgentId>,
}

/// Where a job stands in the queue: smaller goes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Higher priority first.
    pub(crate) priority: Reverse<i32>,
    /// Projects with fewer attempts under way first.
    pub(crate) project_active: u32,
    /// Older first.
    pub(crate) job: JobId,
}

type Lanes = BTreeMap<Reverse<i32>, BTreeMap<ProjectName, BTreeSet<JobId>>>;

/// The jobs that wait.
#[derive(Debug, Clone, Default)]
pub(crate) struct Queue {
    classes: BTreeMap<Class, Lanes>,
    len: usize,
    active: BTreeMap<ProjectName, u32>,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, class: Class, priority: i32, project: &ProjectName, job: JobId) {
        let lane = self.classes.entry(class).or_default().entry(Reverse(priority)).or_default();
        let jobs = match lane.get_mut(project) {
            Some(jobs) => jobs,
            None => lane.entry(project.clone()).or_default(),
        };
        if jobs.insert(job) {
            self.len += 1;
        }
    }

    /// Takes a job out; false if it was not waiting.
    pub(crate) fn remove(&mut self, class: &Class, priority: i32, project: &ProjectName, job: JobId) -> bool {
        let Some(lanes) = self.classes.get_mut(class) else {
            return false;
        };
        let Some(lane) = lanes.get_mut(&Reverse(priority)) else {
            return false;
        };
        let Some(jobs) = lane.get_mut(project) else {
            return false;
        };
        let removed = jobs.remove(&job);
        if jobs.is_empty() {
            lane.remove(project);
        }
        if lane.is_empty() {
            lanes.remove(&Reverse(priority));
        }
        if lanes.is_empty() {
            self.classes.remove(class);
        }
        self.len -= usize::from(removed);
        removed
    }

    pub(crate) fn contains(&self, class: &Class, priority: i32, project: &ProjectName, job: JobId) -> bool {
        self.classes
            .get(class)
            .and_then(|lanes| lanes.get(&Reverse(priority)))
            .and_then(|lane| lane.get(project))
            .is_some_and(|jobs| jobs.contains(&job))
    }

    pub(crate) fn classes(&self) -> impl Iterator<Item = &Class> {
        self.classes.keys()
    }

    /// The first job of a class.
    pub(crate) fn first(&self, class: &Class) -> Option<Place> {
        let (priority, lane) = self.classes.get(class)?.first_key_value()?;
        let places = lane.iter().filter_map(|(project, jobs)| {
            let job = *jobs.first()?;
            Some(Place { priority: *priority, project_active: self.active_of(project), job })
        });
        places.min()
    }

    /// How many jobs of the same class would go first if agents came one by one.
    pub(crate) fn position(&self, class: &Class, priority: i32, job: JobId) -> usize {
        let Some(lanes) = self.classes.get(class) else {
            return 0;
        };
        lanes
            .iter()
            .map(|(lane_priority, lane)| match lane_priority.cmp(&Reverse(priority)) {
                std::cmp::Ordering::Less => lane.values().map(BTreeSet::len).sum::<usize>(),
                std::cmp::Ordering::Equal => lane.values().map(|jobs| jobs.range(..job).count()).sum(),
                std::cmp::Ordering::Greater => 0,
            })
            .sum()
    }

    fn active_of(&self, project: &ProjectName) -> u32 {
        self.active.get(project).copied().unwrap_or(0)
    }

    pub(crate) fn attempt_began(&mut self, project: &ProjectName) {
        match self.active.get_mut(project) {
            Some(count) => *count += 1,
            None => {
                self.active.insert(project.clone(), 1);
            }
        }
    }

    pub(crate) fn attempt_ended(&mut self, project: &ProjectName) {
        if let Some(count) = self.active.get_mut(project) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.active.remove(project);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class() -> Class {
        Class { needs: Needs::default_for_tests(), declined_by: BTreeSet::new() }
    }

    fn project(name: &str) -> ProjectName {
        ProjectName::new(name).unwrap()
    }

    fn job(ms: u64) -> JobId {
        JobId::from_parts(ms, 0)
    }

    #[test]
    fn priority_goes_before_fairness_and_fairness_before_age() {
        let mut queue = Queue::default();
        queue.push(class(), 0, &project("a"), job(1));
        queue.push(class(), 0, &project("a"), job(2));
        queue.push(class(), 0, &project("b"), job(3));
        queue.push(class(), 5, &project("b"), job(4));
        let mut order = Vec::new();
        while let Some(place) = queue.first(&class()) {
            let owner = if matches!(place.job, j if j == job(1) || j == job(2)) { "a" } else { "b" };
            assert!(queue.remove(&class(), place.priority.0, &project(owner), place.job));
            queue.attempt_began(&project(owner));
            order.push(place.job);
        }
        // 4 by priority; then b has one under way, so a's oldest; then both have one, so age decides.
        assert_eq!(order, [job(4), job(1), job(2), job(3)]);
        assert_eq!(queue.len(), 0);
        assert_eq!(queue.classes().count(), 0);
    }

    #[test]
    fn the_position_counts_what_goes_first() {
        let mut queue = Queue::default();
        queue.push(class(), 0, &project("a"), job(1));
        queue.push(class(), 0, &project("b"), job(2));
        queue.push(class(), 1, &project("b"), job(9));
        assert_eq!(queue.position(&class(), 0, job(2)), 2);
        assert_eq!(queue.position(&class(), 1, job(9)), 0);
    }
}
