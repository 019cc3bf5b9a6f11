//! What an agent that died left on cores, though nobody has them locked any more: containers.

use std::sync::Arc;
use std::time::Duration;

use darwin_shared::cpu::CpuSet;
use futures::FutureExt as _;
use tokio::time::timeout;

use super::locks::{CoreLocks, Taken};
use super::marks::{self, LifeId};
use crate::docker::{Daemon, EMPTY_LOOKS, until_empty};
use crate::host::HostFs;

/// Empty looks in a row by an agent that cannot ask the daemon, and so does not see a container before its processes: some
/// seconds, as starts of containers on a busy box take.
const EMPTY_LOOKS_ALONE: u32 = 20;
/// After this it is said again what is waited for, and looked anew.
const SWEEP_BOUND: Duration = Duration::from_mins(2);

impl CoreLocks {
    /// Takes CPUs for a slot as [`CoreLocks::take`] does, unless containers of an agent that died may still run there. They
    /// are removed by way of `docker`, or waited for without it; until they are gone, the CPUs are not to be had.
    pub(crate) fn take_clean(
        &mut self,
        slot: u32,
        cpus: &CpuSet,
        now: Duration,
        docker: Option<&Arc<Daemon>>,
    ) -> std::io::Result<Taken> {
        match self.take(slot, cpus, now)? {
            Taken::Ours => {}
            elsewhere @ Taken::Elsewhere(_) => return Ok(elsewhere),
        }
        let mut left = CpuSet::new();
        for (life, its) in marks::read(&self.file)? {
            let here = its.intersection(cpus).difference(&self.marked);
            if here.is_empty() {
                continue;
            }
            if self.is_swept(life, its, docker) {
                marks::write(&self.file, &here, None)?;
            } else {
                left = left.union(&here);
            }
        }
        if left.is_empty() {
            return Ok(Taken::Ours);
        }
        self.give_back(slot);
        Ok(Taken::Elsewhere(left))
    }

    /// Says to whoever has these CPUs next, should this agent die, that containers of this life may run there. That is
    /// taken back before they are given to others.
    pub(crate) fn mark(&mut self, cpus: &CpuSet, life: LifeId) -> std::io::Result<()> {
        marks::write(&self.file, cpus, Some(life))?;
        self.marked = self.marked.union(cpus);
        Ok(())
    }

    /// Whether nothing of a dead life runs on its CPUs any more; as long as that is not known, somebody sees to it.
    fn is_swept(&mut self, life: LifeId, its: CpuSet, docker: Option<&Arc<Daemon>>) -> bool {
        let swept = self.sweeps.entry(life).or_insert_with(|| {
            tracing::warn!(
                %life, cpus = %its,
                "an agent of this box died in the midst of running containers: its cores are left alone until they are gone"
            );
            tokio::spawn(sweep(life, its, docker.cloned()))
        });
        let Some(done) = swept.now_or_never() else { return false };
        self.sweeps.remove(&life);
        done.unwrap_or(false)
    }
}

/// Waits until nothing of a dead life runs on its CPUs, and sees to it where there is a daemon to ask; false if that takes
/// too long.
async fn sweep(life: LifeId, cpus: CpuSet, docker: Option<Arc<Daemon>>) -> bool {
    let enough = if docker.is_some() { EMPTY_LOOKS } else { EMPTY_LOOKS_ALONE };
    let (docker, cpus) = (docker.as_deref(), &cpus);
    let swept = until_empty(enough, || async move {
        match docker {
            Some(docker) => match docker.remove_left(life, cpus).await {
                Ok(removed) => removed == 0,
                Err(error) => {
                    tracing::debug!(%error, "it is asked again");
                    false
                }
            },
            None => nothing_runs(cpus.clone()).await,
        }
    });
    timeout(SWEEP_BOUND, swept).await.is_ok()
}

/// Whether no container is seen to run on these CPUs.
async fn nothing_runs(cpus: CpuSet) -> bool {
    let look = move || !is_run_on(&HostFs::default(), &cpus);
    // What breaks down has seen nothing.
    tokio::task::spawn_blocking(look).await.unwrap_or(false)
}

/// Whether a process in a container may run on some of these CPUs, and on no others. Where the box hides its processes that is
/// not known, and taken for yes.
fn is_run_on(host: &HostFs, cpus: &CpuSet) -> bool {
    // Every Linux has kernel threads; where none is seen, others' processes are not either.
    let shows_all = host.read("/proc/2/comm").is_ok_and(|name| name == "kthreadd");
    let names = host.list("/proc").unwrap_or_default();
    let mut processes = names.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    !shows_all
        || processes.any(|process| {
            let groups = host.read(format!("/proc/{process}/cgroup")).unwrap_or_default();
            groups.lines().any(is_container)
                && allowed(host, process).is_some_and(|its| !its.is_empty() && its.is_subset(cpus))
        })
}

/// Whether a cgroup is a container's, which bears the 64 digits of its id.
fn is_container(group: &str) -> bool {
    const ID_DIGITS: usize = 64;
    let is_id = |part: &str| part.len() == ID_DIGITS && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    group.split(['/', '-', '.']).any(is_id)
}

/// The CPUs that a process may run on.
fn allowed(host: &HostFs, process: &str) -> Option<CpuSet> {
    let status = host.read(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const START: Duration = Duration::from_secs(100);

    fn cpus(list: &str) -> CpuSet {
        list.parse().unwrap()
    }

    fn open(dir: &Path) -> CoreLocks {
        CoreLocks::open(Some(&dir.join("cores")), dir, cpus("0-3")).unwrap()
    }

    #[tokio::test]
    async fn cores_of_a_life_that_ended_in_containers_are_had_once_these_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (mut dead, life) = (open(dir.path()), LifeId::draw());
        assert_eq!(dead.take(0, &cpus("1-2"), START).unwrap(), Taken::Ours);
        dead.mark(&cpus("1-2"), life).unwrap();
        drop(dead);

        let mut next = open(dir.path());
        // Somebody sees to it already, and is not done.
        next.sweeps.insert(life, tokio::spawn(std::future::pending()));
        assert_eq!(next.take_clean(0, &cpus("2-3"), START, None).unwrap(), Taken::Elsewhere(cpus("2")));
        next.settle().unwrap();
        let mut third = open(dir.path());
        assert_eq!(third.take(0, &cpus("2-3"), START).unwrap(), Taken::Ours, "what is not had is not locked");
        drop(third);
        assert_eq!(next.take_clean(0, &cpus("3"), START, None).unwrap(), Taken::Ours, "nothing ran there");

        for (ends, taken) in [(false, Taken::Elsewhere(cpus("2"))), (true, Taken::Ours)] {
            let sweep = tokio::spawn(async move { ends });
            while !sweep.is_finished() {
                tokio::task::yield_now().await;
            }
            next.sweeps.insert(life, sweep);
            assert_eq!(next.take_clean(1, &cpus("2"), START, None).unwrap(), taken, "{ends}");
        }
        assert!(next.sweeps.is_empty());
        let mut third = open(dir.path());
        third.sweeps.insert(life, tokio::spawn(std::future::pending()));
        assert_eq!(third.take_clean(0, &cpus("1"), START, None).unwrap(), Taken::Elsewhere(cpus("1")));
    }

    #[tokio::test]
    async fn a_life_that_ends_well_leaves_no_mark() {
        let dir = tempfile::tempdir().unwrap();
        let (mut one, mut other) = (open(dir.path()), open(dir.path()));
        assert_eq!(one.take_clean(0, &cpus("1"), START, None).unwrap(), Taken::Ours);
        one.mark(&cpus("1"), LifeId::draw()).unwrap();
        one.give_back(0);
        assert_eq!(one.take_clean(1, &cpus("1"), START, None).unwrap(), Taken::Ours, "its own mark");
        one.give_back(1);
        one.settle().unwrap();
        assert_eq!(other.take_clean(0, &cpus("1"), START, None).unwrap(), Taken::Ours);
        assert!(other.sweeps.is_empty());
    }

    #[test]
    fn a_container_is_seen_by_its_group_and_its_cpus() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostFs::new(dir.path());
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let id = "0123456789abcdef".repeat(4);
        let process = |pid: u32, group: &str, list: &str| {
            write(&format!("proc/{pid}/cgroup"), &format!("4:cpuset:{group}\n0::{group}\n"));
            write(&format!("proc/{pid}/status"), &format!("Name:\tx\nCpus_allowed_list:\t{list}\n"));
        };
        assert!(is_run_on(&host, &cpus("1")), "it hides what runs");
        write("proc/2/comm", "kthreadd\n");
        process(2, "/", "0-3");
        process(700, "/system.slice/cron.service", "1");
        process(701, &format!("/docker/{id}"), "0-3");
        assert!(!is_run_on(&host, &cpus("1")));
        process(702, &format!("/system.slice/docker-{id}.scope"), "1");
        assert!(is_run_on(&host, &cpus("1")) && is_run_on(&host, &cpus("1-2")));
        assert!(!is_run_on(&host, &cpus("2-3")));
    }
}
