//! Logs while they are written, and of what failed.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::common::{System, eventually, text};

#[test]
fn a_job_is_followed_through_its_stages_and_its_failure_can_be_read_later() {
    let system = match System::start() {
        Ok(system) => system,
        Err(why) => return println!("not run: {why}"),
    };
    let _agent = system.agent();
    let waits = |name: &str| {
        let file = system.folder.path().join(name);
        format!(
            "echo {name} begins; while [ ! -e {} ]; do sleep 0.01; done; echo {name} ends",
            file.display()
        )
    };
    let (check, run) = (waits("check"), waits("run"));
    let suite = system.suite(&format!(
        "setup = \"echo setting up\"\ncheck = \"{check}\"\nrun = \"{run}; echo out of memory >&2; exit 3\"\n\
         format = \"process\"\n[suite.steps.budget]\nrounds = {{ min = 1, max = 1 }}\n"
    ));
    let job = system.submit(&suite);
    let logs = |more: &[&str]| system.darwin(&suite, &[&["job", "logs", &job], more].concat());
    eventually("there is a log to follow", || text(&logs(&[]).output().unwrap()).contains("check begins"));

    let mut follower = logs(&["--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut seen = Vec::new();
    for stage in ["check", "run"] {
        // Seen while the step still runs: it ends only after that.
        let begins = lines.by_ref().find(|line| *line == format!("{stage} begins"));
        assert!(begins.is_some(), "{stage}: {seen:?}");
        let inside = text(&logs(&[]).output().unwrap());
        assert!(
            inside.contains(&format!("{stage} begins")) && !inside.contains(&format!("{stage} ends")),
            "{inside}"
        );
        std::fs::write(system.folder.path().join(stage), "").unwrap();
        seen.push(lines.next().unwrap());
    }
    seen.extend(lines);
    assert_eq!(seen, ["check ends", "run ends", "out of memory"]);
    assert!(follower.wait().unwrap().success());
    eventually("the job is over", || {
        text(&system.darwin(&suite, &["job", "show", &job]).output().unwrap()).contains("exit code 3")
    });
    let kept = text(&logs(&[]).output().unwrap());
    assert_eq!(kept, "run begins\nrun ends\nout of memory\n");
}
