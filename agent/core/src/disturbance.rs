//! Which rounds are void, and how often a void one is measured again.
//!
//! A round is judged by counters that were read outside the bench, never by what it measured: whether it is void does
//! then not depend on the latencies, and to measure it again under the same number, in the order that the same coin
//! drew, is as good as if nothing had come between.

use std::time::Duration;

use darwin_shared::fleet::Tier;
use darwin_shared::void::{VoidCause, VoidRounds};

/// How often one round is measured again.
pub const REPEATS_PER_ROUND: u32 = 3;
/// How many void rounds an attempt may have whatever it has measured.
const FREE_VOIDS: u32 = 3;
/// Beyond those, one void round for so many that were measured: a fifth, which is what the gate forgives.
const ROUNDS_PER_VOID: u32 = 5;
/// How long the first repeat waits for the box to come to rest. Each later one waits [`PAUSE_TIMES`] as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const PAUSE_TIMES: u32 = 4;

/// A share of a round's time that others may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareLimit {
    /// In millionths of the round.
    pub share_ppm: u32,
    /// Less than this is never too much.
    pub least: Duration,
}

/// Below this a time that the kernel counted in ticks of 10 ms says nothing.
const TICKS_LEAST: Duration = Duration::from_millis(20);

/// A rate of events that a round may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Events in a second.
    pub per_second: u32,
    /// Fewer than this in a round are never too many: a short round has no rate.
    pub least: u64,
}

/// What makes a round void; what is none here never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoidLimits {
    /// Time that the hypervisor took.
    pub stolen: Option<ShareLimit>,
    /// Time that others used of the leased CPUs and their idle siblings.
    pub foreign: Option<ShareLimit>,
    /// Device interrupts on the leased CPUs.
    pub interrupts: Option<RateLimit>,
    /// Involuntary switches of the bench.
    pub switches: Option<RateLimit>,
    /// More throttlings than this.
    pub throttlings: Option<u64>,
    /// More pages swapped than this.
    pub swapped_pages: Option<u64>,
    /// More major page faults than this.
    pub major_faults: Option<u64>,
    /// Whether a bench may be seen on a CPU that it does not have.
    pub may_migrate: bool,
}

const fn share(share_ppm: u32, least: Duration) -> ShareLimit {
    ShareLimit { share_ppm, least }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn rate(per_second: u32, least: u64) -> RateLimit {
    RateLimit { per_second, least }
}

impl VoidLimits {
    /// What a tier forgives. A box of the strict tier has nothing on its leased cores but the bench; on a `dev` box only
    /// what halves or stops a bench counts.
    pub const fn of(tier: Tier) -> Self {
        match tier {
            Tier::BareMetalIsolated => Self {
                stolen: Some(share(1_000, Duration::from_micros(100))),
                foreign: Some(share(10_000, ms(20))),
                interrupts: Some(rate(1, 1)),
                switches: Some(rate(10, 10)),
                throttlings: Some(0),
                swapped_pages: Some(0),
                major_faults: Some(0),
                may_migrate: false,
            },
            Tier::Shielded => Self {
                stolen: Some(share(10_000, Duration::from_micros(500))),
                foreign: Some(share(50_000, ms(30))),
                interrupts: Some(rate(100, 50)),
                switches: None,
                throttlings: Some(0),
                swapped_pages: Some(0),
                major_faults: None,
                may_migrate: false,
            },
            Tier::Dev => Self {
                stolen: Some(share(100_000, ms(50))),
                foreign: Some(share(250_000, ms(50))),
                interrupts: None,
                switches: None,
                throttlings: None,
                swapped_pages: None,
                major_faults: None,
                may_migrate: false,
            },
        }
    }

    /// Lets nothing of this name make a round void; false if there is no such cause.
    pub fn forgive(&mut self, name: &str) -> bool {
        match name {
            "stolen" => self.stolen = None,
            "foreign" => self.foreign = None,
            "interrupts" => self.interrupts = None,
            "switched" => self.switches = None,
            "throttled" => self.throttlings = None,
            "swapped" => self.swapped_pages = None,
            "faulted" => self.major_faults = None,
            "migrated" => self.may_migrate = true,
            _ => return false,
        }
        true
    }
}

/// What was counted around a round; what could not be read is none, and makes nothing void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// From the reading before the round to the one after it.
    pub wall: Duration,
    /// Time that all leased CPUs and their idle siblings were busy.
    pub busy: Option<Duration>,
    /// Time that the hypervisor took from the leased CPUs, in ticks.
    pub stolen: Option<Duration>,
    /// Time that it took from the bench's processes while they had a CPU; rather too little, by some tenths of a millisecond.
    pub stolen_from_bench: Option<Duration>,
    /// CPU time that the bench's processes used themselves.
    pub own: Duration,
    /// Device interrupts on the leased CPUs.
    pub interrupts: Option<u64>,
    /// Times that a leased CPU or its package was throttled.
    pub throttlings: Option<u64>,
    /// Pages that the box swapped in or out.
    pub swapped_pages: Option<u64>,
    /// The bench's involuntary switches.
    pub switches: u64,
    /// The bench's major page faults.
    pub major_faults: u64,
    /// A CPU that the bench was seen on and does not have.
    pub astray_on: Option<u32>,
}

/// Why a round is void, the gravest cause first; empty if it is clean.
pub fn causes(limits: &VoidLimits, counted: &Counted) -> Vec<VoidCause> {
    let share = |part: Option<Duration>, limit: Option<ShareLimit>| over_share(part?, counted.wall, limit?);
    let rate = |count: Option<u64>, limit: Option<RateLimit>| over_rate(count?, counted.wall, limit?);
    let more =
        |count: Option<u64>, most: Option<u64>| count.filter(|count| most.is_some_and(|most| *count > most));
    let foreign = counted.busy.map(|busy| busy.saturating_sub(counted.own));
    let causes = [
        limits
            .stolen
            .and_then(|limit| stolen(counted, limit))
            .map(|share_ppm| VoidCause::Stolen { share_ppm }),
        share(foreign, limits.foreign).map(|share_ppm| VoidCause::Foreign { share_ppm }),
        more(counted.throttlings, limits.throttlings).map(|times| VoidCause::Throttled { times }),
        rate(counted.interrupts, limits.interrupts).map(|interrupts| VoidCause::Interrupts { interrupts }),
        counted.astray_on.filter(|_| !limits.may_migrate).map(|cpu| VoidCause::Migrated { cpu }),
        more(counted.swapped_pages, limits.swapped_pages).map(|pages| VoidCause::Swapped { pages }),
        more(Some(counted.major_faults), limits.major_faults).map(|faults| VoidCause::Faulted { faults }),
        rate(Some(counted.switches), limits.switches).map(|switches| VoidCause::Switched { switches }),
    ];
    causes.into_iter().flatten().collect()
}

/// The share that the hypervisor took, in millionths, if it is over the limit: of the time for which the bench should have
/// had a CPU, or, where that was not counted, of the round.
fn stolen(counted: &Counted, limit: ShareLimit) -> Option<u32> {
    let Some(from_bench) = counted.stolen_from_bench else {
        let limit = ShareLimit { least: limit.least.max(TICKS_LEAST), ..limit };
        return over_share(counted.stolen?, counted.wall, limit);
    };
    // CPU time of children that nobody waited for looks stolen: it cannot be more than was taken from the CPUs.
    let taken = counted.stolen.map_or(from_bench, |taken| from_bench.min(taken.saturating_add(TICKS_LEAST)));
    over_share(taken, counted.own.saturating_add(taken), limit)
}

/// The share, in millionths, if it is over the limit.
fn over_share(part: Duration, wall: Duration, limit: ShareLimit) -> Option<u32> {
    let ppm = part.as_nanos().saturating_mul(1_000_000).checked_div(wall.as_nanos())?;
    let share_ppm = u32::try_from(ppm).unwrap_or(u32::MAX);
    (share_ppm > limit.share_ppm && part >= limit.least).then_some(share_ppm)
}

/// The count, if its rate is over the limit.
fn over_rate(count: u64, wall: Duration, limit: RateLimit) -> Option<u64> {
    let allowed = u128::from(limit.per_second).saturating_mul(wall.as_nanos());
    let over = u128::from(count).saturating_mul(Duration::from_secs(1).as_nanos()) > allowed;
    (over && count >= limit.least).then_some(count)
}

/// What follows a void round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterVoid {
    /// It is measured again, after this time.
    Again(Duration),
    /// The box does not come to rest.
    GiveUp,
}

/// The void rounds of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disturbances {
    /// Those that came before the round in progress: told with the rounds that were measured after them.
    told: u32,
    /// Those of the round in progress.
    of_round: VoidRounds,
}

impl Disturbances {
    /// The round in progress, of number `measured`, is void: says what follows.
    pub fn add(&mut self, cause: VoidCause, measured: u32) -> AfterVoid {
        self.of_round.add(cause);
        let repeat = self.of_round.total();
        let voids = self.told.saturating_add(repeat);
        if repeat > REPEATS_PER_ROUND || voids > FREE_VOIDS.saturating_add(measured / ROUNDS_PER_VOID) {
            return AfterVoid::GiveUp;
        }
        AfterVoid::Again(FIRST_PAUSE.saturating_mul(PAUSE_TIMES.saturating_pow(repeat.saturating_sub(1))))
    }

    /// The round in progress is measured: hands over its voids.
    pub fn measured(&mut self) -> VoidRounds {
        self.told = self.told.saturating_add(self.of_round.total());
        std::mem::take(&mut self.of_round)
    }

    /// The void rounds of the round in progress.
    pub const fn of_round(&self) -> &VoidRounds {
        &self.of_round
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A bench that had its core for itself for a second.
    fn clean() -> Counted {
        Counted {
            wall: SECOND,
            busy: Some(SECOND),
            stolen: Some(ms(0)),
            own: SECOND,
            interrupts: Some(0),
            throttlings: Some(0),
            swapped_pages: Some(0),
            ..Counted::default()
        }
    }

    fn names(tier: Tier, counted: Counted) -> Vec<&'static str> {
        causes(&VoidLimits::of(tier), &counted).iter().map(VoidCause::name).collect()
    }

    #[test]
    fn each_counter_makes_a_round_void_where_its_tier_says_so() {
        use Tier::{BareMetalIsolated as Bare, Dev, Shielded};
        for tier in [Bare, Shielded, Dev] {
            assert_eq!(names(tier, clean()), [""; 0], "{tier:?}");
            assert_eq!(names(tier, Counted { wall: SECOND, ..Counted::default() }), [""; 0], "{tier:?}");
        }
        let table: [(Counted, &str, &[Tier]); 10] = [
            (Counted { own: Duration::from_millis(970), ..clean() }, "foreign", &[Bare]),
            (Counted { own: Duration::from_millis(900), ..clean() }, "foreign", &[Bare, Shielded]),
            (Counted { own: Duration::from_millis(500), ..clean() }, "foreign", &[Bare, Shielded, Dev]),
            (Counted { stolen: Some(ms(20)), ..clean() }, "stolen", &[Bare, Shielded]),
            (Counted { stolen: Some(ms(150)), ..clean() }, "stolen", &[Bare, Shielded, Dev]),
            (Counted { interrupts: Some(2), ..clean() }, "interrupts", &[Bare]),
            (Counted { interrupts: Some(200), ..clean() }, "interrupts", &[Bare, Shielded]),
            (Counted { swapped_pages: Some(1), ..clean() }, "swapped", &[Bare, Shielded]),
            (Counted { throttlings: Some(1), ..clean() }, "throttled", &[Bare, Shielded]),
            (Counted { astray_on: Some(0), ..clean() }, "migrated", &[Bare, Shielded, Dev]),
        ];
        for (counted, name, void_in) in table {
            for tier in [Bare, Shielded, Dev] {
                let wanted: &[&str] = if void_in.contains(&tier) { &[name] } else { &[] };
                assert_eq!(names(tier, counted), wanted, "{tier:?} {counted:?}");
            }
        }
        assert_eq!(
            names(Bare, Counted { switches: 12, major_faults: 1, ..clean() }),
            ["faulted", "switched"]
        );
    }

    #[test]
    fn a_short_round_is_not_void_for_a_tick() {
        let wall = Duration::from_millis(30);
        let tick = Counted { wall, busy: Some(ms(40)), own: wall, stolen: Some(ms(9)), ..clean() };
        assert_eq!(names(Tier::BareMetalIsolated, tick), [""; 0]);
        assert_eq!(
            names(Tier::Dev, Counted { own: Duration::ZERO, ..tick }),
            [""; 0],
            "below its least time"
        );
    }

    #[test]
    fn what_was_taken_from_the_bench_itself_counts_in_rounds_of_any_length() {
        let short = |taken_us| Counted {
            wall: ms(18),
            own: ms(12),
            stolen_from_bench: Some(Duration::from_micros(taken_us)),
            ..Counted::default()
        };
        let limits = VoidLimits {
            stolen: Some(share(50_000, Duration::from_micros(500))),
            ..VoidLimits::of(Tier::Dev)
        };
        assert_eq!(causes(&limits, &short(400)), []);
        assert_eq!(causes(&limits, &short(600)), [], "5% of 12 ms and what was taken, not of the round");
        assert_eq!(causes(&limits, &short(3_000)), [VoidCause::Stolen { share_ppm: 200_000 }]);
        assert_eq!(names(Tier::Dev, short(3_000)), [""; 0], "below its least time");
        assert_eq!(names(Tier::Shielded, short(600)), ["stolen"]);
        // What the CPUs did not lose was not stolen, whatever it is.
        let uncharged = Counted { stolen: Some(ms(0)), stolen_from_bench: Some(SECOND), ..clean() };
        assert_eq!(names(Tier::Dev, uncharged), [""; 0]);
        let stolen = Counted { stolen: Some(ms(500)), ..uncharged };
        assert_eq!(names(Tier::Dev, stolen), ["stolen"]);
        // By ticks alone nothing is said of two of them.
        assert_eq!(names(Tier::BareMetalIsolated, Counted { stolen: Some(ms(10)), ..clean() }), [""; 0]);
    }

    #[test]
    fn the_gravest_cause_comes_first_and_says_how_bad_it_was() {
        let counted =
            Counted { own: Duration::from_millis(590), interrupts: Some(300), switches: 40, ..clean() };
        let found = causes(&VoidLimits::of(Tier::BareMetalIsolated), &counted);
        assert!(found.is_sorted());
        assert_eq!(found[0], VoidCause::Foreign { share_ppm: 410_000 });
        assert_eq!(found[1], VoidCause::Interrupts { interrupts: 300 });
    }

    #[test]
    fn what_is_forgiven_voids_nothing() {
        let mut limits = VoidLimits::of(Tier::BareMetalIsolated);
        let worst = Counted {
            wall: SECOND,
            busy: Some(SECOND),
            stolen: Some(SECOND),
            stolen_from_bench: Some(SECOND),
            own: Duration::ZERO,
            interrupts: Some(9999),
            throttlings: Some(9),
            swapped_pages: Some(9),
            switches: 9999,
            major_faults: 9,
            astray_on: Some(0),
        };
        for cause in causes(&limits, &worst) {
            assert!(limits.forgive(cause.name()), "{cause}");
        }
        assert_eq!(causes(&limits, &worst), []);
        assert!(!limits.forgive("slices") && !limits.forgive("foriegn"));
    }

    fn foreign() -> VoidCause {
        VoidCause::Foreign { share_ppm: 500_000 }
    }

    #[test]
    fn a_round_is_measured_again_thrice_with_longer_and_longer_pauses() {
        let mut voids = Disturbances::default();
        let follows: Vec<AfterVoid> = (0..4).map(|_| voids.add(foreign(), 100)).collect();
        let pause = |ms| AfterVoid::Again(Duration::from_millis(ms));
        assert_eq!(follows, [pause(500), pause(2000), pause(8000), AfterVoid::GiveUp]);
        assert_eq!(voids.of_round().total(), 4);
    }

    #[test]
    fn an_attempt_may_have_a_fifth_and_three() {
        let mut voids = Disturbances::default();
        for round in 0..3 {
            assert_ne!(voids.add(foreign(), round), AfterVoid::GiveUp);
            assert_eq!(voids.measured().total(), 1);
        }
        assert_eq!(voids.clone().add(foreign(), 4), AfterVoid::GiveUp);
        assert_ne!(voids.add(foreign(), 5), AfterVoid::GiveUp);
    }

    proptest! {
        #[test]
        fn no_more_repeats_than_the_bounds_and_all_are_counted(void in prop::collection::vec(any::<bool>(), 0..200)) {
            let (mut voids, mut measured, mut told, mut repeats) = (Disturbances::default(), 0, 0, 0);
            let mut added = 0;
            for void in void {
                if void {
                    added += 1;
                    match voids.add(foreign(), measured) {
                        AfterVoid::Again(pause) => {
                            repeats += 1;
                            prop_assert!(repeats <= REPEATS_PER_ROUND && pause <= Duration::from_secs(8));
                            prop_assert!(added <= 3 + measured / 5);
                        }
                        AfterVoid::GiveUp => {
                            prop_assert!(repeats == REPEATS_PER_ROUND || added > 3 + measured / 5);
                            break;
                        }
                    }
                } else {
                    told += voids.measured().total();
                    (measured, repeats) = (measured + 1, 0);
                }
                prop_assert_eq!(told + voids.of_round().total(), added);
            }
        }

        #[test]
        fn quieter_is_never_worse(
            own in 0u64..2000, stolen in 0u64..2000, interrupts in 0u64..500, switches in 0u64..500,
            less in 0u64..300,
        ) {
            let loud = Counted {
                own: Duration::from_millis(own), stolen: Some(ms(stolen)), interrupts: Some(interrupts), switches, ..clean()
            };
            let quiet = Counted {
                own: Duration::from_millis(own + less), stolen: Some(ms(stolen.saturating_sub(less))),
                interrupts: Some(interrupts.saturating_sub(less)), switches: switches.saturating_sub(less), ..loud
            };
            for tier in [Tier::BareMetalIsolated, Tier::Shielded, Tier::Dev] {
                let loud = names(tier, loud);
                prop_assert!(names(tier, quiet).iter().all(|name| loud.contains(name)));
            }
        }
    }
}
