//! Whatever the benches do, one of them runs at most, and the pair ends.

use darwin_gate::Order;
use darwin_shared::spec::Arm;
use proptest::prelude::*;

use super::conductor::SLICES_MOST;
use super::tests::{Player, play};
use super::*;

fn arm() -> impl Strategy<Value = Arm> {
    prop_oneof![Just(Arm::Baseline), Just(Arm::Challenger)]
}

fn news() -> impl Strategy<Value = News> {
    let ready = "[ab]".prop_map(|name| BenchFrame::Ready { name });
    let done = (0u32..3, 0u32..3, any::<u64>()).prop_map(|(kept, left_out, busy_ns)| BenchFrame::Done {
        kept,
        left_out,
        busy_ns,
    });
    prop_oneof![
        4 => (arm(), ready).prop_map(|(arm, frame)| News::Said(arm, frame)),
        4 => (arm(), done).prop_map(|(arm, frame)| News::Said(arm, frame)),
        1 => arm().prop_map(News::Gone),
        1 => arm().prop_map(News::Late),
        1 => arm().prop_map(|arm| News::Garbled(arm, "x".to_owned())),
    ]
}

fn setting() -> impl Strategy<Value = Setting> {
    let settled =
        prop_oneof![any::<bool>().prop_map(|required| Settled::Open { required }), Just(Settled::Sliced)];
    (any::<u64>(), any::<u32>(), any::<bool>(), settled).prop_map(|(seed, round, first, settled)| Setting {
        seed,
        round,
        order: if first { Order::BaselineFirst } else { Order::ChallengerFirst },
        settled,
    })
}

proptest! {
    /// A side is let go only when the other one is not under way, each is started once, and nothing follows the end.
    #[test]
    fn one_side_runs_at_most(setting in setting(), all in prop::collection::vec(news(), 0..200)) {
        let (mut conductor, mut todo) = Conductor::begin(setting);
        let mut started = Vec::new();
        let mut running: Option<Arm> = None;
        let mut over = false;
        for news in all {
            for what in todo {
                prop_assert!(!over);
                match what {
                    Do::Start(arm) => {
                        prop_assert!(!started.contains(&arm));
                        prop_assert_eq!(running, None);
                        started.push(arm);
                        running = Some(arm);
                    }
                    Do::Send(arm, _) => {
                        prop_assert!(started.contains(&arm));
                        prop_assert_eq!(running, None);
                        running = Some(arm);
                    }
                    Do::Finish(end) => {
                        over = true;
                        if end == End::Sliced || matches!(end, End::Plain { .. }) {
                            prop_assert_eq!(started.len(), 2);
                        }
                    }
                }
            }
            prop_assert_eq!(conductor.awaits().is_none(), over);
            if let Some(awaited) = conductor.awaits() {
                prop_assert_eq!(running, Some(awaited.arm));
            }
            // Whoever is awaited has blocked or ended once it is heard of.
            if let News::Said(arm, _) | News::Gone(arm) = &news
                && running == Some(*arm)
            {
                running = None;
            }
            todo = conductor.step(news);
        }
    }

    /// Benches that keep to the protocol are sliced whole, whatever their calls and names.
    #[test]
    fn who_keeps_to_it_is_sliced(
        setting in setting(),
        names in prop::collection::vec("[a-z]{1,8}", 1..5),
        calls in (any::<u32>(), any::<u32>()),
    ) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (all, end) = play(setting, Player::new(&names, calls.0), Player::new(&names, calls.1));
        prop_assert_eq!(end, End::Sliced);
        for arm in [Arm::Baseline, Arm::Challenger] {
            let slices = all.iter().filter(|what| matches!(what, Do::Send(to, ToBench::Go { .. }) if *to == arm));
            let each = names.len() * usize::from(SLICES)..=names.len() * usize::from(SLICES_MOST);
            prop_assert!(each.contains(&slices.count()));
        }
    }
}
