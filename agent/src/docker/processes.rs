//! The processes of a container, as the box sees them.

use std::collections::BTreeSet;

use darwin_shared::cpu::CpuSet;

use crate::exec::{PlacementError, verify_placement};
use crate::host::HostFs;

/// Processes that are looked at: more than any bench has at its start.
const MAX_PROCESSES: usize = 1024;

/// A process and all that descend from it, itself first. Those that end meanwhile are left out.
pub(super) fn tree(host: &HostFs, first: u32) -> Vec<u32> {
    let mut found = vec![first];
    let mut seen = BTreeSet::from([first]);
    let mut at = 0;
    while let Some(&pid) = found.get(at).filter(|_| found.len() < MAX_PROCESSES) {
        at += 1;
        for thread in host.list(format!("/proc/{pid}/task")).unwrap_or_default() {
            // Kernels without this file show the first process only, whose cpuset holds for all.
            let children = host.read(format!("/proc/{pid}/task/{thread}/children")).unwrap_or_default();
            let children = children.split_whitespace().filter_map(|child| child.parse().ok());
            found.extend(children.filter(|child| seen.insert(*child)));
        }
    }
    found
}

/// Checks that every process of a container, with all its threads, may run on these CPUs only.
pub(super) fn verify(host: &HostFs, processes: &[u32], cpus: &CpuSet) -> Result<(), PlacementError> {
    for &pid in processes {
        match verify_placement(host, pid, cpus) {
            // Over already: nothing to be said against it.
            Ok(_) | Err(PlacementError::Gone { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn children_and_theirs_are_found_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        for (pid, children, cpus) in [(7, "8 9 ", "1"), (8, "", "1"), (9, "10", "1"), (10, "", "0-1")] {
            let task = dir.path().join(format!("proc/{pid}/task/{pid}"));
            fs::create_dir_all(&task).unwrap();
            fs::write(task.join("children"), children).unwrap();
            let status = format!("NoNewPrivs:\t1\nCpus_allowed_list:\t{cpus}\n");
            fs::write(task.join("status"), &status).unwrap();
            fs::write(dir.path().join(format!("proc/{pid}/status")), status).unwrap();
            let zeros = "0 ".repeat(40);
            fs::write(dir.path().join(format!("proc/{pid}/stat")), format!("{pid} (x) R {zeros}")).unwrap();
        }
        let host = HostFs::new(dir.path());
        let processes = tree(&host, 7);
        assert_eq!(processes, [7, 8, 9, 10]);
        let cpus = "1".parse().unwrap();
        assert!(verify(&host, &processes[..3], &cpus).is_ok());
        let error = verify(&host, &processes, &cpus).unwrap_err();
        assert!(matches!(error, PlacementError::Astray { pid: 10, .. }), "{error}");
        assert!(verify(&host, &tree(&host, 99), &cpus).is_ok(), "it is gone");
    }
}
