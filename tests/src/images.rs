//! A suite of one static program, as folders and as container images made from scratch: no registry, no base image.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The bench: 2,500 calls of made-up times, from the number in the file `cost`; or what the file `behaviour` names.
const BENCH: &str = include_str!("bench.c");

const DARWIN_TOML: &str = r#"project = "e2e"

[suite.orders]
run     = ["./bench", "{output}", "{seed}", "{round}", "MARK"]
format  = "darwin-samples"
timeout = "TIMEOUT"

[suite.orders.cores]
isolation = "ISOLATION"

[suite.orders.gate.metric."latency.p50"]
margin = "1%"

[suite.orders.gate.metric."latency.p99"]
margin = "5%"

[suite.orders.budget]
rounds = { min = 1, max = 20 }
"#;

/// The suite's folder, and the images that were made of it.
#[derive(Debug)]
pub struct Images {
    /// Where `darwin.toml` is, with a folder for each variant beside it.
    pub folder: PathBuf,
    /// What stands in the command line of every bench of this suite, and of no other.
    pub mark: String,
    repository: String,
    made: Vec<String>,
}

impl Images {
    /// Whether this machine can run and make images, or why not.
    pub fn can() -> Result<(), &'static str> {
        let succeeds = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if !succeeds("docker", &["version"]) {
            return Err("no Docker daemon answers");
        }
        if succeeds("cc", &["--version"]) { Ok(()) } else { Err("no C compiler") }
    }

    /// The suite below this folder, with the bench compiled; no image yet.
    pub fn create(folder: &Path, timeout: &str, isolation: &str) -> Result<Self> {
        let mark = format!("darwin-e2e-{}-{:x}", std::process::id(), rand::random::<u32>());
        let suite = Self { folder: folder.join("images"), repository: mark.clone(), mark, made: Vec::new() };
        std::fs::create_dir_all(&suite.folder)?;
        let toml = DARWIN_TOML
            .replace("MARK", &suite.mark)
            .replace("TIMEOUT", timeout)
            .replace("ISOLATION", isolation);
        std::fs::write(suite.folder.join("darwin.toml"), toml)?;
        std::fs::write(suite.folder.join("bench.c"), BENCH)?;
        run(Command::new("cc")
            .args(["-static", "-O1", "-o", "bench", "bench.c"])
            .current_dir(&suite.folder))?;
        Ok(suite)
    }

    /// A variant whose calls cost so many microseconds, as a folder and as an image of the same files; the image's name.
    pub fn variant(&mut self, name: &str, cost: u32, behaviour: &str) -> Result<String> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::copy(self.folder.join("bench"), folder.join("bench"))?;
        std::fs::write(folder.join("cost"), cost.to_string())?;
        std::fs::write(folder.join("behaviour"), behaviour)?;
        let archive = self.folder.join(format!("{name}.layer"));
        run(Command::new("tar").arg("-C").arg(&folder).arg("-cf").arg(&archive).arg("."))?;
        let image = self.name(name);
        run(Command::new("docker").arg("import").arg(&archive).arg(&image))?;
        self.made.push(image.clone());
        Ok(image)
    }

    /// The name of a variant's image.
    pub fn name(&self, variant: &str) -> String {
        format!("{}:{variant}", self.repository)
    }

    /// The id by which the daemon knows an image.
    pub fn id(&self, variant: &str) -> Result<String> {
        docker(&["image", "inspect", "--format", "{{.Id}}", &self.name(variant)])
    }

    /// Writes an image into an archive and removes it from the daemon; the archive's path.
    pub fn save_and_remove(&self, variant: &str) -> Result<PathBuf> {
        let path = self.folder.join(format!("{variant}.tar"));
        let name = self.name(variant);
        run(Command::new("docker").args(["save", "-o"]).arg(&path).arg(&name))?;
        docker(&["rmi", &name])?;
        Ok(path)
    }

    /// The containers of an agent whose label is this, running or not.
    pub fn containers(agent: &str) -> Result<Vec<String>> {
        let label = format!("label=darwin.agent={agent}");
        let listed = docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &label])?;
        Ok(listed.lines().map(str::to_owned).collect())
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        for image in &self.made {
            // One that a test has removed itself is gone.
            let _ = docker(&["rmi", "--force", image]);
        }
    }
}

/// What a `docker` command prints.
pub fn docker(arguments: &[&str]) -> Result<String> {
    let output = Command::new("docker").args(arguments).stdin(Stdio::null()).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "docker {arguments:?}: {error}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
