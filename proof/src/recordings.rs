//! Recordings of real benches with real extra work, and random blocks of their rounds as trials.
//!
//! A trial is a job's worth of rounds: blocks of consecutive rounds from random places, put together (the moving-block
//! bootstrap of Künsch, 1989). Inside a block the noise goes on as it was recorded; across blocks the trials differ. One
//! piece of 80 rounds from 1,200 would give but 15 trials that do not overlap, and 4,000 of them would count whatever
//! happened in one place again and again.
//!
//! The files and their columns are described in `proof/recordings/README.md`.

use darwin_gate::{Order, order};
use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;

use crate::variants::{Round, Values};

/// What the processes of a round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arm {
    /// The same work as [`Arm::SameB`].
    SameA,
    /// The same work as [`Arm::SameA`].
    SameB,
    /// 1% more work.
    More1,
    /// 2% more work.
    More2,
    /// 5% more work.
    More5,
}

impl Arm {
    const COUNT: usize = 5;
}

/// Rounds in a trial.
pub const ROUNDS: usize = 80;
/// Consecutive rounds in a block: the cube root of a recording's 1,200 rounds, the rate at which a block should grow for
/// an estimate of a bias or variance (Hall, Horowitz & Jing 1995).
const BLOCK: usize = 10;
const _: () = assert!(ROUNDS.is_multiple_of(BLOCK));

/// The files, in the order of the tables.
const FILES: [(&str, &str, &str); 8] = [
    ("contended", "book", include_str!("../recordings/contended-book.txt")),
    ("contended", "chase", include_str!("../recordings/contended-chase.txt")),
    ("contended", "parse", include_str!("../recordings/contended-parse.txt")),
    ("contended", "udp", include_str!("../recordings/contended-udp.txt")),
    ("normal", "book", include_str!("../recordings/normal-book.txt")),
    ("normal", "chase", include_str!("../recordings/normal-chase.txt")),
    ("normal", "parse", include_str!("../recordings/normal-parse.txt")),
    ("normal", "udp", include_str!("../recordings/normal-udp.txt")),
];

/// What is wrong with a recording.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RecordingError {
    /// A line is not a round.
    #[error("{name}, line {line}: {what}")]
    Line {
        /// Of which recording.
        name: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// It has too few rounds for a trial.
    #[error("{name} has {rounds} rounds; a trial takes {ROUNDS}")]
    Short {
        /// Which recording.
        name: String,
        /// How many rounds it has.
        rounds: usize,
    },
}

/// One bench on one machine state.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The state of the machine.
    pub machine: &'static str,
    /// The bench.
    pub workload: &'static str,
    rounds: Vec<[Invocation; Arm::COUNT]>,
}

#[derive(Debug, Clone, Copy)]
struct Invocation {
    position: u8,
    values: Values,
}

/// Every recording.
pub fn all() -> Result<Vec<Recording>, RecordingError> {
    FILES.into_iter().map(|(machine, workload, text)| Recording::parse(machine, workload, text)).collect()
}

impl Recording {
    fn parse(machine: &'static str, workload: &'static str, text: &str) -> Result<Self, RecordingError> {
        let name = format!("{machine}-{workload}");
        let rounds = (1..)
            .zip(text.lines())
            .map(|(line, text)| {
                parse_round(text).map_err(|what| RecordingError::Line { name: name.clone(), line, what })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if rounds.len() < ROUNDS {
            return Err(RecordingError::Short { name, rounds: rounds.len() });
        }
        Ok(Self { machine, workload, rounds })
    }

    /// The name in tables.
    pub fn name(&self) -> String {
        format!("{} {}", self.machine, self.workload)
    }

    /// Draws [`ROUNDS`] rounds in blocks from random places, and the seed of their coin.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> Drawn<'_> {
        let places = self.rounds.len() - BLOCK;
        let mut rounds = Vec::with_capacity(ROUNDS);
        while rounds.len() < ROUNDS {
            let first = rng.random_range(0..=places);
            rounds.extend(&self.rounds[first..first + BLOCK]);
        }
        Drawn { rounds, coin: rng.next_u64() }
    }
}

fn parse_round(line: &str) -> Result<[Invocation; Arm::COUNT], &'static str> {
    let mut words = line.split(' ');
    let positions = words.next().unwrap_or_default().as_bytes();
    let number = |word: Option<&str>| -> Result<f64, &'static str> {
        let value: i32 = word.ok_or("a number is missing")?.parse().map_err(|_| "not a whole number")?;
        Ok(f64::from(value))
    };
    let mut invocations = Vec::with_capacity(Arm::COUNT);
    for position in positions {
        let p50 = number(words.next())?;
        let (mean, p99) = (p50 + number(words.next())?, p50 + number(words.next())?);
        let plausible = p50 > 0.0 && mean > 0.0 && p99 >= p50 && (b'0'..b'5').contains(position);
        if !plausible {
            return Err("a value that no invocation can have");
        }
        invocations.push(Invocation { position: position - b'0', values: Values { p50, mean, p99 } });
    }
    let rest = words.next();
    invocations.try_into().ok().filter(|_| rest.is_none()).ok_or("not five invocations")
}

/// One trial on a recording.
#[derive(Debug, Clone)]
pub struct Drawn<'a> {
    rounds: Vec<&'a [Invocation; Arm::COUNT]>,
    coin: u64,
}

impl Drawn<'_> {
    /// The seed of the coin.
    pub fn coin(&self) -> u64 {
        self.coin
    }

    /// The rounds with identical variants: which of the two is the baseline is the coin's choice.
    pub fn same(&self) -> impl Iterator<Item = Round> {
        self.with_coin().map(|(round, order)| {
            let (a, b) = (round[Arm::SameA as usize], round[Arm::SameB as usize]);
            let (first, second) = if a.position < b.position { (a, b) } else { (b, a) };
            let (baseline, challenger) = match order {
                Order::BaselineFirst => (first, second),
                Order::ChallengerFirst => (second, first),
            };
            Round { order, baseline: baseline.values, challenger: challenger.values }
        })
    }

    /// The rounds with a variant that does more work, in the order in which they were recorded; the coin chooses which
    /// of the identical processes stands for the other variant. If `faster`, the baseline is what does more work.
    pub fn more_work(&self, arm: Arm, faster: bool) -> impl Iterator<Item = Round> {
        self.with_coin().map(move |(round, coin)| {
            let plain = round[match coin {
                Order::BaselineFirst => Arm::SameA,
                Order::ChallengerFirst => Arm::SameB,
            } as usize];
            let more = round[arm as usize];
            let (baseline, challenger) = if faster { (more, plain) } else { (plain, more) };
            let order = if baseline.position < challenger.position {
                Order::BaselineFirst
            } else {
                Order::ChallengerFirst
            };
            Round { order, baseline: baseline.values, challenger: challenger.values }
        })
    }

    fn with_coin(&self) -> impl Iterator<Item = (&[Invocation; Arm::COUNT], Order)> {
        let coin = self.coin;
        (0u32..).zip(&self.rounds).map(move |(number, round)| (*round, order(coin, number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Purpose, stream};

    #[test]
    fn the_files_are_whole() {
        let recordings = all().unwrap();
        let rounds: Vec<usize> = recordings.iter().map(|r| r.rounds.len()).collect();
        assert_eq!(rounds, [1_200, 1_200, 1_200, 1_200, 450, 450, 450, 450]);
        for recording in recordings {
            for round in &recording.rounds {
                let mut positions: Vec<u8> = round.iter().map(|i| i.position).collect();
                positions.sort_unstable();
                assert_eq!(positions, [0, 1, 2, 3, 4], "{}", recording.name());
            }
        }
    }

    #[test]
    fn a_torn_line_is_refused() {
        let good = "31420 10375 524 5789 10565 248 1643 10406 531 5127 10576 586 2363 10946 291 1523";
        parse_round(good).unwrap();
        let bad = [
            "",
            "31420",
            &good[..60],
            &format!("{good} 1"),
            &good.replace("10375", "x"),
            &good.replacen('3', "7", 1),
        ];
        for line in bad {
            assert!(parse_round(line).is_err(), "{line} was taken");
        }
        let error = Recording::parse("quiet", "book", "1 2").unwrap_err();
        assert_eq!(error.to_string(), "quiet-book, line 1: a number is missing");
        assert!(matches!(
            Recording::parse("quiet", "book", good),
            Err(RecordingError::Short { rounds: 1, .. })
        ));
    }

    #[test]
    fn trials_relabel_and_do_not_invent() {
        let recording = &all().unwrap()[0];
        let drawn = recording.draw(&mut stream(1, Purpose::Rounds, 0, 0));
        assert_eq!(drawn.rounds.len(), ROUNDS);
        for (round, recorded) in drawn.same().zip(&drawn.rounds) {
            let pair = [round.baseline, round.challenger];
            assert!(recorded[..2].iter().all(|i| pair.contains(&i.values)));
        }
        for (slower, faster) in drawn.more_work(Arm::More5, false).zip(drawn.more_work(Arm::More5, true)) {
            assert_eq!((slower.baseline, slower.challenger), (faster.challenger, faster.baseline));
            assert_ne!(slower.order, faster.order);
        }
    }
}
