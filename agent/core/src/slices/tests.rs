//! Whole pairs, played by benches that keep to the protocol and by some that do not.

use std::collections::VecDeque;

use darwin_gate::{Order, slice_order};
use darwin_shared::spec::Arm;

use super::conductor::SLICES_MOST;
use super::*;

/// A process that plays its part: the benches that it has, and how many calls fit into a slice.
#[derive(Debug, Clone)]
pub(super) struct Player {
    pub(super) benches: VecDeque<String>,
    pub(super) calls: u32,
}

impl Player {
    pub(super) fn new(benches: &[&str], calls: u32) -> Self {
        Self { benches: benches.iter().map(|name| (*name).to_owned()).collect(), calls }
    }

    fn next(&mut self, arm: Arm) -> News {
        match self.benches.pop_front() {
            Some(name) => News::Said(arm, BenchFrame::Ready { name }),
            None => News::Gone(arm),
        }
    }

    /// What it does when it is told this.
    pub(super) fn answer(&mut self, arm: Arm, told: Option<ToBench>) -> News {
        let done = |kept, left_out| News::Said(arm, BenchFrame::Done { kept, left_out, busy_ns: 5_000_000 });
        match told {
            None | Some(ToBench::Over | ToBench::Unsliced) => self.next(arm),
            Some(ToBench::Pilot { .. }) => done(0, self.calls.max(1)),
            Some(ToBench::Go { skip, .. }) => done(self.calls.saturating_sub(skip).max(1), skip),
        }
    }
}

pub(super) fn setting(settled: Settled) -> Setting {
    Setting { seed: 42, round: 3, order: Order::BaselineFirst, settled }
}

const OPEN: Settled = Settled::Open { required: false };

/// Plays a pair to its end; what was done, and what it came to.
pub(super) fn play(setting: Setting, mut baseline: Player, mut challenger: Player) -> (Vec<Do>, End) {
    let (mut conductor, mut todo) = Conductor::begin(setting);
    let mut all = Vec::new();
    for _ in 0..10_000 {
        let [what] = <[Do; 1]>::try_from(std::mem::take(&mut todo)).unwrap();
        all.push(what.clone());
        let (arm, told) = match what {
            Do::Start(arm) => (arm, None),
            Do::Send(arm, frame) => (arm, Some(frame)),
            Do::Finish(end) => return (all, end),
        };
        assert_eq!(conductor.awaits().unwrap().arm, arm);
        let player = if arm == Arm::Baseline { &mut baseline } else { &mut challenger };
        todo = conductor.step(player.answer(arm, told));
    }
    panic!("it does not end");
}

#[test]
fn a_pair_takes_turns_in_the_order_that_the_coin_draws() {
    let benches = ["match", "cancel"];
    let (all, end) = play(setting(OPEN), Player::new(&benches, 90), Player::new(&benches, 82));
    assert_eq!(end, End::Sliced);
    assert_eq!(all[..2], [Do::Start(Arm::Baseline), Do::Start(Arm::Challenger)]);
    let slices: Vec<(Arm, u32)> = all
        .iter()
        .filter_map(|what| match what {
            Do::Send(arm, ToBench::Go { skip, .. }) => Some((*arm, *skip)),
            _ => None,
        })
        .collect();
    assert_eq!(slices.len(), 2 * 2 * usize::from(SLICES));
    // A tenth of the smaller pilot, rounded up, on both sides.
    assert!(slices.iter().all(|(_, skip)| *skip == 9));
    for (index, turn) in slices.chunks(2).enumerate() {
        let (bench, slice) = (index / usize::from(SLICES), index % usize::from(SLICES) + 1);
        let order = slice_order(42, 3, u32::try_from(bench).unwrap(), u16::try_from(slice).unwrap());
        let first = if order == Order::BaselineFirst { Arm::Baseline } else { Arm::Challenger };
        assert_eq!(turn[0].0, first);
        assert_ne!(turn[0].0, turn[1].0);
    }
    let overs = all.iter().filter(|what| matches!(what, Do::Send(_, ToBench::Over))).count();
    assert_eq!(overs, 4);
}

#[test]
fn more_slices_are_made_where_they_give_calls_enough() {
    let slices = |baseline, challenger| {
        let (all, end) = play(setting(OPEN), Player::new(&["a"], baseline), Player::new(&["a"], challenger));
        assert_eq!(end, End::Sliced);
        let of = |arm| move |what: &&Do| matches!(what, Do::Send(to, ToBench::Go { .. }) if *to == arm);
        [Arm::Baseline, Arm::Challenger].map(|arm| all.iter().filter(of(arm)).count())
    };
    // 70 of 78 calls a slice are kept on the slower side: 30 slices do.
    assert_eq!(slices(78, 78), [30, 30]);
    // 69 of 77: one more, on both sides.
    assert_eq!(slices(77, 200), [31, 31]);
    // 24 of 27 reach it in 88, 23 of 26 in no slices that may be made.
    assert_eq!(slices(27, 27), [88, 88]);
    assert_eq!(slices(26, 26), [30, 30]);
    assert_eq!(slices(1, 1), [30, 30]);
}

#[test]
fn a_harness_that_does_not_answer_is_measured_plainly_or_refused() {
    let silent = || Player::new(&[], 1);
    let able = || Player::new(&["a", "b"], 1);
    let (all, end) = play(setting(OPEN), silent(), silent());
    assert_eq!(all.len(), 3, "both ran once: {all:?}");
    let told = "the harness does not answer the slice protocol";
    assert_eq!(end, End::Plain { why: told.to_owned() });
    let (_, end) = play(setting(Settled::Open { required: true }), silent(), silent());
    assert_eq!(end, End::Refused { arm: Arm::Challenger, why: told.to_owned() });
    let (_, end) = play(setting(Settled::Sliced), silent(), silent());
    assert!(matches!(end, End::Void { .. }), "{end:?}");

    // The second goes on where it is: they ran in the order that was drawn.
    let (all, end) = play(setting(OPEN), silent(), able());
    assert_eq!(
        end,
        End::Plain { why: "the baseline's harness does not answer the slice protocol".to_owned() }
    );
    let unsliced = all.iter().filter(|what| matches!(what, Do::Send(Arm::Challenger, ToBench::Unsliced)));
    assert_eq!(unsliced.count(), 2);
    // The first would run after the second: another pair must be measured.
    let (_, end) = play(setting(OPEN), able(), silent());
    assert_eq!(
        end,
        End::Again { why: "the challenger's harness does not answer the slice protocol".to_owned() }
    );
    let (_, end) = play(setting(Settled::Open { required: true }), able(), silent());
    assert!(matches!(end, End::Refused { arm: Arm::Challenger, .. }), "{end:?}");
}

#[test]
fn sides_with_different_benches_are_told_apart() {
    let (all, end) = play(setting(OPEN), Player::new(&["a", "b"], 9), Player::new(&["b"], 9));
    let told = "where the baseline has the bench `a`, the challenger has `b`";
    assert_eq!(end, End::Plain { why: told.to_owned() });
    let arms: Vec<Arm> = all
        .iter()
        .filter_map(|what| match what {
            Do::Send(arm, ToBench::Unsliced) => Some(*arm),
            _ => None,
        })
        .collect();
    assert_eq!(arms, [Arm::Baseline, Arm::Baseline, Arm::Challenger]);
    let (_, end) = play(setting(OPEN), Player::new(&["a"], 9), Player::new(&["a", "new"], 9));
    assert_eq!(end, End::Again { why: "only the challenger has the bench `new`".to_owned() });
    let (_, end) = play(setting(Settled::Sliced), Player::new(&["a"], 9), Player::new(&["a", "new"], 9));
    assert!(matches!(end, End::Void { arm: Arm::Baseline, .. }), "{end:?}");
}

#[test]
fn a_side_without_calls_is_left_alone_and_the_other_goes_on() {
    let (mut conductor, arm) = amid_a_slice();
    let other = if arm == Arm::Baseline { Arm::Challenger } else { Arm::Baseline };
    let done = |kept, left_out| BenchFrame::Done { kept, left_out, busy_ns: 1 };
    let mut todo = conductor.step(News::Said(arm, done(0, 0)));
    for _ in 0..SLICES_MOST {
        assert!(matches!(&todo[..], [Do::Send(to, ToBench::Go { .. })] if *to == other), "{todo:?}");
        todo = conductor.step(News::Said(other, done(9, 5)));
    }
    assert_eq!(todo, [Do::Send(Arm::Baseline, ToBench::Over)]);

    let (mut conductor, arm) = amid_a_slice();
    conductor.step(News::Said(arm, done(0, 2)));
    assert_eq!(conductor.step(News::Said(other, done(0, 0))), [Do::Send(Arm::Baseline, ToBench::Over)]);
}

/// A pair up to its first slice, in which this side is awaited.
fn amid_a_slice() -> (Conductor, Arm) {
    let (mut conductor, mut todo) = Conductor::begin(setting(OPEN));
    let mut players = [Player::new(&["a"], 50), Player::new(&["a"], 50)];
    loop {
        let [what] = <[Do; 1]>::try_from(todo).unwrap();
        let (arm, told) = match what {
            Do::Start(arm) => (arm, None),
            Do::Send(arm, ToBench::Go { .. }) => return (conductor, arm),
            Do::Send(arm, frame) => (arm, Some(frame)),
            Do::Finish(end) => panic!("{end:?}"),
        };
        todo = conductor.step(players[usize::from(arm == Arm::Challenger)].answer(arm, told));
    }
}

#[test]
fn who_does_not_keep_to_the_protocol_voids_the_pair() {
    let (conductor, arm) = amid_a_slice();
    let other = if arm == Arm::Baseline { Arm::Challenger } else { Arm::Baseline };
    let done = |kept, left_out| BenchFrame::Done { kept, left_out, busy_ns: 1 };
    let bad = [
        News::Said(arm, done(0, 6)),
        News::Said(arm, done(5, 4)),
        News::Said(arm, BenchFrame::Ready { name: "a".to_owned() }),
        News::Said(other, done(5, 5)),
        News::Gone(arm),
        News::Gone(other),
        News::Late(arm),
        News::Garbled(arm, "wrote byte 0x68".to_owned()),
    ];
    for news in bad {
        let mut conductor = conductor.clone();
        let todo = conductor.step(news.clone());
        assert!(matches!(&todo[..], [Do::Finish(End::Void { .. })]), "{news:?}: {todo:?}");
        assert_eq!(conductor.awaits(), None);
        assert_eq!(conductor.step(news), []);
    }
    assert_eq!(conductor.clone().step(News::Late(other)), [], "nobody waits for it");
    let good = conductor.clone().step(News::Said(arm, done(45, 5)));
    assert!(matches!(&good[..], [Do::Send(to, ToBench::Go { .. })] if *to == other), "{good:?}");
}

#[test]
fn a_slice_has_a_bound_and_the_way_to_a_bench_the_runs_own() {
    let (conductor, arm) = amid_a_slice();
    let within = conductor.awaits().unwrap().within.unwrap();
    // A second, and ten times the 5 ms that were seen.
    assert_eq!(within.as_millis(), 1050);
    let (mut conductor, _) = Conductor::begin(setting(OPEN));
    assert_eq!(conductor.awaits(), Some(Await { arm: Arm::Baseline, within: None }));
    let _ = arm;
    assert_eq!(conductor.step(News::Late(Arm::Baseline)), [Do::Finish(End::TimedOut(Arm::Baseline))]);
}
