//! Benches in slices: who asks for one, and what is done in it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::ends::{OpenError, open};
use crate::plan::Plan;
use crate::samples::Samples;
use crate::wire::{Done, Order, SliceError, Wire};

/// What the agent asks of this process; one for all of its benches.
#[derive(Debug)]
pub struct Slices {
    wire: Option<Wire>,
}

impl Slices {
    /// Takes what the environment names. Without it, or for another version of the protocol, benches run
    /// as ordinary ones. A program that a bench starts should not get the variable:
    /// `Command::env_remove(darwin_slice::VARIABLE)`.
    pub fn from_env() -> Result<Self, OpenError> {
        Ok(Self { wire: open()?.map(Wire::new) })
    }

    /// Whether an agent conducts.
    pub fn is_sliced(&self) -> bool {
        self.wire.is_some()
    }

    /// Warms `call` up, takes its samples and gives them back. What it returns is dropped outside the timing.
    pub fn run<T>(
        &mut self,
        name: &str,
        plan: &Plan,
        mut call: impl FnMut() -> T,
    ) -> Result<Samples, SliceError> {
        for _ in 0..plan.warm_up_calls {
            black_box(call());
        }
        let mut session = self.ready(name, plan)?;
        while let Some(mut slice) = session.next_slice()? {
            while slice.wants_more() {
                slice.time(&mut call);
            }
        }
        session.finish()
    }

    /// Says that the bench `name` is set up and warm. The name, 1 to 512 bytes, is the same in every build.
    pub fn ready(&mut self, name: &str, plan: &Plan) -> Result<Session<'_>, SliceError> {
        let samples = Samples::with_room(name, plan.batch, plan.max_samples);
        let state = match &mut self.wire {
            Some(wire) => {
                wire.ready(name)?;
                State::Conducted(wire)
            }
            None => State::Plain,
        };
        Ok(Session { state, samples, plain_samples: plan.plain_samples, current: None })
    }
}

/// One bench that is ready. For a harness with a loop of its own:
///
/// ```
/// use std::time::Instant;
/// use darwin_slice::{Plan, Slices};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut slices = Slices::from_env()?;
/// let mut session = slices.ready("queue/push", &Plan::default().plain_samples(10))?;
/// let mut queue = Vec::with_capacity(1 << 12);
/// while let Some(mut slice) = session.next_slice()? {
///     while slice.wants_more() {
///         queue.clear(); // set up each call outside the timing
///         let start = Instant::now();
///         queue.push(1);
///         slice.record(start.elapsed());
///     }
/// }
/// assert_eq!(session.finish()?.took_ns().len(), 10);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the agent waits for the bench's slices; take them, then `finish`"]
pub struct Session<'w> {
    state: State<'w>,
    samples: Samples,
    plain_samples: u32,
    current: Option<Current>,
}

/// Who says what is next.
#[derive(Debug)]
enum State<'w> {
    /// The agent.
    Conducted(&'w mut Wire),
    /// Nobody: one slice of as many samples as planned.
    Plain,
    /// The bench is over.
    Over,
}

/// Where a slice is.
#[derive(Debug)]
struct Current {
    began: Instant,
    until: Instant,
    last: Instant,
    /// Samples to leave out; all of a pilot.
    skip: u32,
    least: u32,
    kept: u32,
    left_out: u32,
}

impl Current {
    fn new(slice_ns: u64, skip: u32, least: u32) -> Self {
        let began = Instant::now();
        // Beyond what the clock can count there is no later end than now.
        let until = began.checked_add(Duration::from_nanos(slice_ns)).unwrap_or(began);
        Self { began, until, last: began, skip, least, kept: 0, left_out: 0 }
    }

    fn made(&self) -> u32 {
        self.kept.saturating_add(self.left_out)
    }

    fn done(&self) -> Done {
        let busy = self.last.duration_since(self.began);
        Done { kept: self.kept, left_out: self.left_out, busy_ns: nanoseconds(busy) }
    }
}

impl Session<'_> {
    /// Ends the slice before, and blocks until there is another; none when the bench is over.
    pub fn next_slice(&mut self) -> Result<Option<Slice<'_>>, SliceError> {
        self.settle()?;
        let current = loop {
            match &mut self.state {
                State::Over => return Ok(None),
                State::Plain => {
                    self.state = State::Over;
                    break Current::new(0, 0, self.plain_samples);
                }
                State::Conducted(wire) => match wire.order()? {
                    Order::End => self.state = State::Over,
                    Order::NoSlicing => {
                        self.samples.clear();
                        self.state = State::Plain;
                    }
                    // Used up: there is no room for one sample more.
                    _ if self.samples.is_full() => wire.done(Done::default())?,
                    Order::Pilot { slice_ns } => break Current::new(slice_ns, u32::MAX, 1),
                    Order::Slice { slice_ns, skip } => {
                        self.samples.count_slice();
                        break Current::new(slice_ns, skip, skip.saturating_add(1));
                    }
                },
            }
        };
        Ok(Some(Slice { current: self.current.insert(current), samples: &mut self.samples }))
    }

    /// The samples. If slices are still asked for, they are answered with no calls.
    pub fn finish(mut self) -> Result<Samples, SliceError> {
        self.settle()?;
        if let State::Conducted(wire) = &mut self.state {
            wire.done(Done::default())?;
            // Ends with the agent's word, or with the agent.
            while matches!(wire.order()?, Order::Slice { .. } | Order::Pilot { .. }) {
                wire.done(Done::default())?;
            }
        }
        Ok(self.samples)
    }

    /// Tells the agent what the slice before came to.
    fn settle(&mut self) -> Result<(), SliceError> {
        match (&mut self.state, self.current.take()) {
            (State::Conducted(wire), Some(current)) => wire.done(current.done()),
            (State::Conducted(_) | State::Plain | State::Over, _) => Ok(()),
        }
    }
}

/// Some milliseconds in which this bench has the core.
#[derive(Debug)]
pub struct Slice<'s> {
    current: &'s mut Current,
    samples: &'s mut Samples,
}

impl Slice<'_> {
    /// Whether another sample is to be taken. It reads no clock: the time is that of the last sample's end.
    pub fn wants_more(&self) -> bool {
        let current = &*self.current;
        let asked = current.made() < current.least || current.last < current.until;
        asked && !self.samples.is_full() && current.made() < u32::MAX
    }

    /// Times `call`, as often as a sample of this bench takes.
    pub fn time<T>(&mut self, mut call: impl FnMut() -> T) {
        if self.samples.batch() == 1 {
            let start = Instant::now();
            let value = black_box(call());
            let end = Instant::now();
            drop(value);
            self.note(end.duration_since(start), end);
        } else {
            let start = Instant::now();
            for _ in 0..self.samples.batch() {
                black_box(call());
            }
            let end = Instant::now();
            self.note(end.duration_since(start), end);
        }
    }

    /// Takes a sample that the harness has timed itself, of as many calls as the plan's batch.
    pub fn record(&mut self, took: Duration) {
        self.note(took, Instant::now());
    }

    fn note(&mut self, took: Duration, end: Instant) {
        self.current.last = end;
        if self.current.left_out < self.current.skip {
            self.current.left_out += 1;
            self.samples.leave_out();
        } else if !self.samples.is_full() {
            self.current.kept += 1;
            self.samples.keep(nanoseconds(took));
        }
    }
}

/// 584 years fit.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_agent_a_bench_takes_the_planned_samples() {
        let mut slices = Slices { wire: None };
        let mut calls = 0;
        let plan = Plan::default().warm_up_calls(7).plain_samples(20).batch(3);
        let samples = slices.run("plain", &plan, || calls += 1).unwrap();
        assert_eq!((calls, samples.took_ns().len()), (7 + 20 * 3, 20));
        assert_eq!((samples.slices(), samples.left_out(), samples.filled_up()), (0, 0, false));
    }

    #[test]
    fn room_for_samples_bounds_a_plain_bench_too() {
        let mut slices = Slices { wire: None };
        let plan = Plan::default().plain_samples(20).max_samples(8);
        assert_eq!(slices.run("small", &plan, || ()).unwrap().took_ns().len(), 8);
    }

    #[test]
    fn the_room_is_never_taken_again() {
        let mut slices = Slices { wire: None };
        let mut session = slices.ready("room", &Plan::default().plain_samples(500).max_samples(500)).unwrap();
        let before = session.samples.took_ns().as_ptr();
        while let Some(mut slice) = session.next_slice().unwrap() {
            while slice.wants_more() {
                slice.record(Duration::from_nanos(5));
            }
        }
        let samples = session.finish().unwrap();
        assert_eq!(samples.took_ns().as_ptr(), before, "nothing was allocated while the clock ran");
        assert_eq!(samples.took_ns(), vec![5; 500]);
    }
}
