//! The box's cores as an allocator, and how well a lease of them is kept to itself.
//!
//! The decisions are `darwin_agent_core::cpu_alloc`'s; here the box is read and its isolation named.

use darwin_agent_core::cpu_alloc::{Allocator, AllocatorError, Granted};
use darwin_agent_core::topology::Topology;
use darwin_shared::cpu::CpuSet;
use darwin_shared::fleet::IsolationLevel;
use thiserror::Error;

mod left;
mod locks;
mod marks;

pub use locks::LocksError;
pub(crate) use locks::{CoreLocks, Taken};
pub(crate) use marks::{LifeId, forget as forget_marks};

use crate::exec::{Placement, Took};
use crate::host::{HostFs, HostTopologyError, read_topology};

/// Why there is no allocator.
#[derive(Debug, Error)]
pub enum CoresError {
    /// The box cannot be read.
    #[error(transparent)]
    Topology(#[from] HostTopologyError),
    /// The operator's list does not fit the box.
    #[error(transparent)]
    List(#[from] AllocatorError),
}

/// Reads the box and makes the allocator over it. `lease_cpus` is the operator's own list, if there is one.
pub fn open(host: &HostFs, lease_cpus: Option<&CpuSet>) -> Result<(Topology, Allocator), CoresError> {
    let topology = read_topology(host)?;
    let allocator = Allocator::new(&topology, lease_cpus)?;
    Ok((topology, allocator))
}

/// How well a running bench was kept apart: by its cores, by what the launcher says took effect, and by what was read
/// back of it, unless it had ended before that.
pub fn isolation_level(granted: &Granted, took: Took, placement: Option<&Placement>) -> IsolationLevel {
    let read_back = |holds: fn(&Placement) -> bool| placement.is_none_or(holds);
    if !took.affinity || placement.is_some_and(|placement| !placement.cpus.is_subset(&granted.cpus)) {
        IsolationLevel::None
    } else if granted.isolated {
        IsolationLevel::Isolated
    } else if took.cpuset && read_back(|placement| placement.cpuset.is_some()) {
        IsolationLevel::Cpuset
    } else if took.fifo && read_back(|placement| placement.fifo_priority.is_some()) {
        IsolationLevel::Fifo
    } else {
        IsolationLevel::Affinity
    }
}

#[cfg(test)]
mod tests {
    use darwin_agent_core::topology::NodeId;

    use super::*;

    fn placement(cpus: &str, fifo_priority: Option<u8>, cpuset: Option<&str>) -> Placement {
        Placement {
            cpus: cpus.parse().unwrap(),
            narrowed: false,
            threads: 1,
            fifo_priority,
            no_new_privs: true,
            cpuset: cpuset.map(Into::into),
            cgroup: None,
            nodes: None,
        }
    }

    #[test]
    fn the_level_is_what_took_not_what_was_asked() {
        let granted = |isolated| Granted {
            cpus: "2".parse().unwrap(),
            siblings_idle: CpuSet::new(),
            node: NodeId(0),
            isolated,
            claimed: "2".parse().unwrap(),
        };
        let took = Took { affinity: true, cpuset: true, fifo: true, ..Took::default() };
        let plain = Took { affinity: true, ..Took::default() };
        let level = |isolated, took, placement: Placement| {
            isolation_level(&granted(isolated), took, Some(&placement))
        };
        let in_ours = Some("/darwin/a/0");
        assert_eq!(level(true, plain, placement("2", None, None)), IsolationLevel::Isolated);
        assert_eq!(level(true, took, placement("0-3", None, None)), IsolationLevel::None);
        assert_eq!(level(false, took, placement("2", Some(1), in_ours)), IsolationLevel::Cpuset);
        assert_eq!(
            level(false, plain, placement("2", None, in_ours)),
            IsolationLevel::Affinity,
            "ours, not set"
        );
        assert_eq!(level(false, took, placement("2", Some(1), None)), IsolationLevel::Fifo);
        assert_eq!(level(false, took, placement("2", None, None)), IsolationLevel::Affinity);
        assert_eq!(
            isolation_level(&granted(false), took, None),
            IsolationLevel::Cpuset,
            "it was too quick to be seen"
        );
        assert_eq!(isolation_level(&granted(true), Took::default(), None), IsolationLevel::None);
    }
}
