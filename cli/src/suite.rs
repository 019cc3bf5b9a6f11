//! The nearest `darwin.toml`, the suite in it, and the job that follows from them.

use std::path::{Path, PathBuf};

use darwin_shared::config::{Config, FILE_NAME, MAX_FILE_BYTES, Suite};
use darwin_shared::ids::{ProjectName, SuiteName};
use darwin_shared::spec::{JobSpec, Work};

use crate::failure::Failed;
use crate::pack::PackRoot;

/// A suite with where it was found.
#[derive(Debug)]
pub(crate) struct FoundSuite {
    /// The project.
    pub project: ProjectName,
    /// The suite's name.
    pub name: SuiteName,
    /// The suite.
    pub suite: Suite,
    /// What is packed for it.
    pub root: PackRoot,
}

impl FoundSuite {
    /// From the given file, or from the nearest one from the working directory upward. Without a name there must be
    /// one suite only.
    pub(crate) fn load(file: Option<&Path>, name: Option<&str>) -> Result<Self, Failed> {
        let path = match file {
            Some(path) => path.to_owned(),
            None => nearest()?,
        };
        let config = read(&path)?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        Self::choose(&config, folder, &path.display().to_string(), name)
    }

    /// The suite of this name in a file that is read already.
    pub(crate) fn choose(
        config: &Config,
        folder: PathBuf,
        file: &str,
        name: Option<&str>,
    ) -> Result<Self, Failed> {
        let (name, suite) = if let Some(name) = name {
            config.suite(name).map_err(|e| Failed::usage(format!("{file}: {e}")))?
        } else {
            let mut suites = config.suites.iter();
            let (Some(only), None) = (suites.next(), suites.next()) else {
                let names: Vec<&str> = config.suites.keys().map(SuiteName::as_str).collect();
                let names = names.join(" or --suite ");
                return Err(Failed::usage(format!("say which suite of {file}: --suite {names}")));
            };
            only
        };
        let root = PackRoot { folder, files: suite.files.clone() };
        Ok(Self { project: config.project.clone(), name: name.clone(), suite: suite.clone(), root })
    }

    /// The job that runs this suite.
    pub(crate) fn spec(&self, work: Work, seed: u64) -> Result<JobSpec, Failed> {
        self.suite.to_spec(&self.project, &self.name, work, seed).map_err(Failed::usage)
    }
}

/// The project of the nearest `darwin.toml`, if there is one.
pub(crate) fn nearest_project() -> Result<ProjectName, Failed> {
    Ok(read(&nearest()?)?.project)
}

fn read(path: &Path) -> Result<Config, Failed> {
    use std::io::Read as _;
    let name = path.display().to_string();
    let cannot = |e: std::io::Error| {
        let why = match e.kind() {
            std::io::ErrorKind::InvalidData => "it is no text in UTF-8".to_owned(),
            _ => e.to_string(),
        };
        Failed::usage(format!("cannot read {name}: {why}"))
    };
    let mut text = String::new();
    // One byte more than is allowed is enough for the parser to refuse it in its own words.
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_string(&mut text).map_err(cannot)?;
    Ok(Config::parse(&name, &text)?)
}

fn nearest() -> Result<PathBuf, Failed> {
    let here = std::env::current_dir()
        .map_err(|e| Failed::usage(format!("cannot tell the working directory: {e}")))?;
    here.ancestors().map(|folder| folder.join(FILE_NAME)).find(|path| path.is_file()).ok_or_else(|| {
        Failed::usage(format!(
            "there is no {FILE_NAME} in {} or above it: `darwin init` writes one, --config FILE names another",
            here.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "project = \"p\"\n[suite.a]\nrun = \"true\"\nformat = \"process\"\n[suite.b]\nrun = \"true\"\nformat = \"process\"\n";

    fn choose(text: &str, name: Option<&str>) -> Result<FoundSuite, String> {
        let config = Config::parse("darwin.toml", text).map_err(|e| e.to_string())?;
        FoundSuite::choose(&config, ".".into(), "darwin.toml", name)
            .map_err(|failed| format!("{:?}", failed.message))
    }

    #[test]
    fn one_suite_needs_no_name_and_two_do() {
        let one = &TWO[..TWO.find("[suite.b]").unwrap()];
        assert_eq!(choose(one, None).unwrap().name.as_str(), "a");
        assert_eq!(choose(TWO, Some("b")).unwrap().name.as_str(), "b");
        assert!(choose(TWO, None).unwrap_err().contains("--suite a or --suite b"));
        assert!(choose(TWO, Some("c")).is_err());
    }
}
