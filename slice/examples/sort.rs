//! Two benches of a sort, in slices where darwin's agent asks for them:
//! `run = "target/release/examples/sort {output}"`.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use darwin_slice::{Plan, Slices, save};

/// Some numbers out of order, the same in every process.
fn shuffled(count: u32) -> Vec<u32> {
    (0..count).map(|at| at.wrapping_mul(2_654_435_761)).collect()
}

/// Runs both benches and writes their result to `output`.
pub(crate) fn run(output: &Path) -> Result<(), Box<dyn Error>> {
    let mut slices = Slices::from_env()?;
    let numbers = shuffled(500);

    // One call copies and sorts.
    let copy_and_sort = slices.run("sort/with-copy", &Plan::default(), || {
        let mut copy = numbers.clone();
        copy.sort_unstable();
        copy
    })?;

    // A loop of its own, because the copy is not to be timed.
    let mut copy = numbers.clone();
    let mut session = slices.ready("sort/alone", &Plan::default())?;
    while let Some(mut slice) = session.next_slice()? {
        while slice.wants_more() {
            copy.copy_from_slice(&numbers);
            let start = Instant::now();
            copy.sort_unstable();
            slice.record(start.elapsed());
        }
    }
    save(output, "sort", &[copy_and_sort, session.finish()?])?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let output = std::env::args_os().nth(1).ok_or("usage: sort OUTPUT")?;
    run(Path::new(&output))
}
