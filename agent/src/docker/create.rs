//! What a container may have: the whole of what the daemon is told.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountType, ResourcesUlimits,
};

use super::daemon::{Daemon, LABEL_AGENT, LABEL_ATTEMPT, LABEL_CPUS, LABEL_LIFE, LABEL_STATE};
use super::images::StagedImage;
use super::life::Place;
use super::{HOME, TMP};
use crate::exec::Launch;

/// What `/tmp` holds at most, in bytes; it counts as the container's memory.
const TMP_BYTES: u64 = 1 << 30;
/// A name for every container, so that `HOSTNAME` is as long on both sides and the same in every run.
const HOST_NAME: &str = "darwin";

/// A limit that is as hard as soft.
fn limit(name: &str, value: u64) -> ResourcesUlimits {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    ResourcesUlimits { name: Some(name.to_owned()), soft: Some(value), hard: Some(value) }
}

/// A container of this image for this launch.
pub(super) fn container(
    daemon: &Daemon,
    image: &StagedImage,
    launch: &Launch,
    place: &Place,
) -> ContainerCreateBody {
    let memory = i64::try_from(daemon.memory_bytes).unwrap_or(i64::MAX);
    let tmp = format!("rw,exec,nosuid,nodev,mode=1777,size={}", TMP_BYTES.min(daemon.memory_bytes));
    // What an image declares as its volumes would be folders of the disk, without a bound.
    let mut tmpfs: HashMap<String, String> =
        image.volumes.iter().map(|path| (path.clone(), tmp.clone())).collect();
    tmpfs.insert(TMP.to_owned(), tmp);
    let user = daemon.config.user;
    let host = HostConfig {
        cpuset_cpus: launch.cpus.as_ref().map(ToString::to_string),
        cpuset_mems: place.node.map(|node| node.to_string()),
        network_mode: Some("none".to_owned()),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        privileged: Some(false),
        readonly_rootfs: Some(true),
        tmpfs: Some(tmpfs),
        mounts: Some(vec![Mount {
            target: Some(HOME.to_owned()),
            source: Some(place.folder.to_string_lossy().into_owned()),
            typ: Some(MountType::BIND),
            read_only: Some(false),
            ..Mount::default()
        }]),
        memory: Some(memory),
        // As much as memory alone: no swap.
        memory_swap: Some(memory),
        pids_limit: Some(i64::try_from(daemon.config.processes_max).unwrap_or(i64::MAX)),
        ulimits: Some(vec![
            limit("nofile", launch.limits.open_files_max),
            limit("core", 0),
            limit("fsize", launch.limits.file_max_bytes.max(launch.limits.output_max_bytes)),
        ]),
        // The first to go when the box's memory runs out.
        oom_score_adj: Some(1000),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        init: daemon.init.then_some(true),
        auto_remove: Some(false),
        ..HostConfig::default()
    };
    let mut argv = launch.argv.iter().cloned();
    let labels = [
        (LABEL_AGENT, daemon.agent.clone()),
        (LABEL_STATE, daemon.state.clone()),
        (LABEL_LIFE, daemon.life.to_string()),
        (LABEL_CPUS, launch.cpus.as_ref().map(ToString::to_string).unwrap_or_default()),
        (LABEL_ATTEMPT, place.attempt.to_string()),
    ];
    ContainerCreateBody {
        image: Some(image.id().to_owned()),
        // The command says all: what the image would start by itself is left out.
        entrypoint: Some(argv.by_ref().take(1).collect()),
        cmd: Some(argv.collect()),
        env: Some(launch.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        working_dir: Some(launch.cwd.to_string_lossy().into_owned()),
        user: Some(format!("{}:{}", user.uid, user.gid)),
        hostname: Some(HOST_NAME.to_owned()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        attach_stdin: Some(false),
        open_stdin: Some(false),
        tty: Some(false),
        network_disabled: Some(true),
        // An image's own health check would run beside the bench.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        labels: Some(labels.map(|(name, value)| (name.to_owned(), value)).into()),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}
