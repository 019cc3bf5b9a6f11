//! Stands in until the agent's crate is there.
use std::path::PathBuf;
#[derive(Default, Debug)] pub struct Overrides { pub coordinators: Vec<String>, pub id: Option<String>, pub state_dir: Option<PathBuf> }
#[derive(Debug)] pub struct AgentConfig { pub allow_paths: bool }
impl AgentConfig { pub fn load(_f: Option<&std::path::Path>, o: Overrides) -> Result<Self, String> { let _ = (o.coordinators,o.id,o.state_dir); Ok(Self{allow_paths:false}) } }
pub(crate) async fn run(c: AgentConfig, stop: impl Future<Output=()>) -> Result<(), String> { let _ = c.allow_paths; stop.await; Ok(()) }
