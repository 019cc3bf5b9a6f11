//! A bench for the tests of sliced pairs: it speaks the slice protocol (`docs/sliced.md`) with its bare hands, spends its
//! slices for real, and reports made-up times. What it does is in the file `behaviour` of its folder, a word on a line:
//!
//! `cost N`: what a call costs, in nanoseconds. `benches A,B`: its benches, in this order. `silent`: it does not answer.
//! `naps`: it sleeps in its pilot. `dies`, `hangs`, `garbles`: what it does in its fifth slice, counting the pilot.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// Samples of a plain run.
const PLAIN_CALLS: u64 = 2_500;
/// The slice in which it misbehaves, counting the pilot.
const BAD_SLICE: u32 = 5;
/// A call takes so long for real, whatever it reports.
const CALL: Duration = Duration::from_micros(50);

struct Behaviour {
    cost_ns: u64,
    benches: Vec<String>,
    silent: bool,
    naps: bool,
    bad: Option<Bad>,
}

#[derive(Clone, Copy)]
enum Bad {
    Dies,
    Hangs,
    Garbles,
}

/// The two pipes to the agent.
struct Pipes {
    go: File,
    done: File,
}

fn main() -> Result<()> {
    let output = std::env::args().nth(1).context("usage: slice-bench OUTPUT")?;
    let behaviour = behaviour()?;
    let mut pipes = if behaviour.silent { None } else { pipes()? };
    let mut text = "{\"schema\":\"darwin-samples/1\",\"tool\":\"slice-bench\"}\n".to_owned();
    for bench in &behaviour.benches {
        let calls = match &mut pipes {
            Some(pipes) => sliced(pipes, bench, &behaviour)?,
            None => PLAIN_CALLS,
        };
        let values: Vec<String> =
            (0..calls).map(|call| made_up(behaviour.cost_ns, call).to_string()).collect();
        writeln!(
            text,
            "{{\"name\":\"{bench}\",\"metric\":\"latency\",\"unit\":\"ns\",\"per\":\"op\",\"order\":\"time\",\"values\":[{}]}}",
            values.join(",")
        )?;
    }
    fs::write(output, text)?;
    Ok(())
}

fn behaviour() -> Result<Behaviour> {
    let mut behaviour = Behaviour {
        cost_ns: 100_000,
        benches: vec!["add".to_owned()],
        silent: false,
        naps: false,
        bad: None,
    };
    for line in fs::read_to_string("behaviour")?.lines() {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("cost", ns) => behaviour.cost_ns = ns.parse()?,
            ("benches", names) => behaviour.benches = names.split(',').map(str::to_owned).collect(),
            ("silent", _) => behaviour.silent = true,
            ("naps", _) => behaviour.naps = true,
            ("dies", _) => behaviour.bad = Some(Bad::Dies),
            ("hangs", _) => behaviour.bad = Some(Bad::Hangs),
            ("garbles", _) => behaviour.bad = Some(Bad::Garbles),
            _ => bail!("`behaviour` has the line `{line}`"),
        }
    }
    Ok(behaviour)
}

/// The time of a call as it is reported: about the cost, with a noise of a tenth and some slow ones.
fn made_up(cost_ns: u64, call: u64) -> u64 {
    let noise = call.wrapping_mul(7919).wrapping_add(u64::from(std::process::id())) % 100;
    cost_ns + cost_ns * noise / 1000 + if call.is_multiple_of(50) { cost_ns } else { 0 }
}

fn pipes() -> Result<Option<Pipes>> {
    let Ok(value) = std::env::var("DARWIN_SLICE") else { return Ok(None) };
    let mut parts = value.split(':');
    ensure!(parts.next() == Some("1"), "DARWIN_SLICE={value} is no version that I know");
    let mut path =
        || Ok::<_, anyhow::Error>(format!("/proc/self/fd/{}", parts.next().context("no descriptor")?));
    let go = File::open(path()?)?;
    let done = fs::OpenOptions::new().write(true).open(path()?)?;
    Ok(Some(Pipes { go, done }))
}

/// Runs a bench in slices; says how many calls it kept.
fn sliced(pipes: &mut Pipes, bench: &str, behaviour: &Behaviour) -> Result<u64> {
    let length = u16::try_from(bench.len())?.to_le_bytes();
    pipes.done.write_all(&[&b"R"[..], &length, bench.as_bytes()].concat())?;
    let (mut kept_in_all, mut slices) = (0, 0);
    loop {
        let mut kind = [0];
        pipes.go.read_exact(&mut kind).context("the agent is gone")?;
        if kind == *b"E" {
            return Ok(kept_in_all);
        }
        ensure!(kind == *b"G", "the agent sent {kind:?}");
        let (mut slice_ns, mut skip) = ([0; 8], [0; 4]);
        pipes.go.read_exact(&mut slice_ns)?;
        pipes.go.read_exact(&mut skip)?;
        let (slice_ns, skip) = (u64::from_le_bytes(slice_ns), u32::from_le_bytes(skip));
        if slice_ns == u64::MAX {
            return Ok(PLAIN_CALLS);
        }
        slices += 1;
        match behaviour.bad.filter(|_| slices == BAD_SLICE) {
            Some(Bad::Dies) => std::process::exit(3),
            Some(Bad::Hangs) => std::thread::sleep(Duration::from_hours(1)),
            Some(Bad::Garbles) => pipes.done.write_all(b"what was I to say?")?,
            None => {}
        }
        let is_pilot = skip == u32::MAX;
        if is_pilot && behaviour.naps {
            std::thread::sleep(Duration::from_hours(1));
        }
        let least = if is_pilot { 1 } else { skip + 1 };
        let (begin, mut calls) = (Instant::now(), 0u32);
        while calls < least || begin.elapsed() < Duration::from_nanos(slice_ns) {
            let call = Instant::now();
            while call.elapsed() < CALL {
                std::hint::spin_loop();
            }
            calls += 1;
        }
        let left_out = if is_pilot { calls } else { skip };
        let kept = calls - left_out;
        kept_in_all += u64::from(kept);
        let busy_ns = u64::try_from(begin.elapsed().as_nanos())?;
        let done = [&b"D"[..], &kept.to_le_bytes(), &left_out.to_le_bytes(), &busy_ns.to_le_bytes()].concat();
        pipes.done.write_all(&done)?;
    }
}
