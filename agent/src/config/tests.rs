use super::*;

fn parse(text: &str) -> Result<AgentConfig, ConfigError> {
    FileConfig::parse(Path::new("agent.toml"), text)?
        .resolve(Overrides { id: Some("box".to_owned()), ..Overrides::default() })
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config.coordinators, [DEFAULT_COORDINATOR.parse::<Uri>().unwrap()]);
    assert_eq!((config.stage_ahead, config.stagers, config.tier), (2, 1, Tier::Dev));
    assert_eq!(config.limits, BenchLimits::default());
}

#[test]
fn every_key_is_read_and_flags_win() {
    let text = r#"
        coordinator = ["http://localhost:1", "http://[::1]:2"]
        pool = "xeon"
        state_dir = "/tmp/x"
        lease_cpus = "2-3"
        core_locks = "/run/darwin/cores"
        stage_ahead = 4
        stagers = 2
        cache_max = "1 GiB"
        tier = "bare-metal"
        allow_paths = true
        lease_grace = "1s"
        drain_max = "1m"
        [labels]
        nic = "x710"
        [sensor]
        require = ["turbo"]
        forgive = ["smt"]
        [limits]
        output_max = "1 MiB"
        file_max = "2 GiB"
        memory_max = "4 GiB"
        processes_max = 100
        time_max = "5m"
    "#;
    let config = parse(text).unwrap();
    assert_eq!(config.coordinators.len(), 2);
    assert_eq!(config.core_locks, Some(PathBuf::from("/run/darwin/cores")));
    assert_eq!((config.cache_max_bytes, config.limits.memory_max_bytes), (1 << 30, Some(4 << 30)));
    assert_eq!(config.limits.time_max, Some(Duration::from_mins(5)));
    assert_eq!(
        (config.sensor.require.as_slice(), config.sensor.forgive.len()),
        (["turbo".to_owned()].as_slice(), 1)
    );
    assert_eq!((config.tier, config.allow_paths, config.labels.len()), (Tier::BareMetalIsolated, true, 1));
    let file = FileConfig::parse(Path::new("agent.toml"), text).unwrap();
    let flags = Overrides { id: Some("b".into()), pool: Some("epyc".into()), ..Overrides::default() };
    assert_eq!(file.resolve(flags).unwrap().pool.as_str(), "epyc");
}

#[test]
fn mistakes_are_named() {
    let messages: Vec<String> = [
        "stage_ahed = 3",
        "colour = \"red\"",
        "[limits]\nmemory = 3",
        "stage_ahead = 1000",
        "stagers = \"two\"",
        "pool = \"a b\"",
        "coordinator = \"http://10.0.0.1:7411\"",
        "coordinator = \"https://localhost:7411\"",
        "coordinator = \"localhost:7411\"",
        "lease_cpus = \"3-1\"",
        "tier = \"metal\"",
        "[sensor]\nrequired = []",
        "[sensor]\nrequire = [\"govenor\"]",
    ]
    .into_iter()
    .map(|text| parse(text).unwrap_err().to_string())
    .collect();
    insta::assert_snapshot!(messages.join("\n---\n"));
}
