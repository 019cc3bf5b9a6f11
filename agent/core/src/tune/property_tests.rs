//! Whenever the agent dies, a restore puts back every value that nobody else has changed meanwhile.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const BOOT: &str = "this-boot";

/// A box with knobs, a disk with a journal, and a life that ends after so many acts.
#[derive(Debug, Clone)]
struct World {
    knobs: BTreeMap<String, String>,
    /// Knobs that take nothing, and those that make something of their own of what is written.
    stubborn: Vec<String>,
    willful: Vec<String>,
    disk: Vec<Record>,
    acts_left: usize,
}

struct Dead;

impl World {
    fn act(&mut self) -> Result<(), Dead> {
        self.acts_left = self.acts_left.checked_sub(1).ok_or(Dead)?;
        Ok(())
    }

    /// Records reach the disk one by one: a crash leaves some.
    fn append(&mut self, journal: &mut Journal, records: Vec<Record>) -> Result<(), Dead> {
        for record in records {
            self.act()?;
            assert_eq!(journal.apply(&record), Ok(()), "{record:?}");
            self.disk.push(record);
        }
        Ok(())
    }

    fn read(&self, knob: &Knob) -> Reading {
        self.knobs.get(&knob.path).map_or(Reading::Absent, |text| Reading::Value(knob.value(text)))
    }

    fn write(&mut self, knob: &Knob, value: &str) -> Result<Result<(), String>, Dead> {
        self.act()?;
        if self.stubborn.contains(&knob.path) {
            return Ok(Err("refused".to_owned()));
        }
        let Some(text) = self.knobs.get_mut(&knob.path) else { return Ok(Err("absent".to_owned())) };
        *text = if self.willful.contains(&knob.path) && value.parse::<u64>().is_ok_and(|n| n > 100) {
            "100".to_owned()
        } else {
            knob.text(value)
        };
        Ok(Ok(()))
    }

    fn journal(&self) -> Journal {
        let mut journal = Journal::default();
        for record in &self.disk {
            journal.apply(record).unwrap();
        }
        journal
    }

    fn tune(&mut self, wishes: &[Wish]) -> Result<(), Dead> {
        let mut journal = self.journal();
        let read: Vec<_> = wishes.iter().map(|wish| (wish.clone(), self.read(&wish.knob))).collect();
        let planned = journal.plan(BOOT, read);
        self.append(&mut journal, planned.clone())?;
        for record in planned {
            let Record::Planned { id, knob, new, .. } = record else { panic!("{record:?}") };
            let wrote = self.write(&knob, &new)?;
            let records = journal.tried(id, wrote, &self.read(&knob));
            self.append(&mut journal, records)?;
        }
        Ok(())
    }

    fn restore(&mut self, boot: &str) -> Result<Vec<Record>, Dead> {
        let mut journal = self.journal();
        let open: Vec<(u64, Knob)> =
            journal.latest_first().map(|(id, entry)| (id, entry.knob.clone())).collect();
        let mut ends = Vec::new();
        for (id, knob) in open {
            let now = self.read(&knob);
            let record = match journal.undo(id, boot, &now).unwrap() {
                Undo::Close(record) => record,
                Undo::Write(old) => {
                    let wrote = self.write(&knob, &old)?;
                    match journal.undone(id, wrote, &self.read(&knob)).unwrap() {
                        Back::Closed(record) => record,
                        Back::Stuck(_) => continue,
                    }
                }
            };
            ends.push(record.clone());
            self.append(&mut journal, vec![record])?;
        }
        Ok(ends)
    }
}

fn name(number: usize) -> String {
    format!("/k{number}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn after_a_crash_at_any_point_all_is_as_it_was(
        values in prop::collection::vec(0u64..300, 1..8),
        wished in prop::collection::vec((0usize..10, 0u64..300), 0..12),
        stubborn in prop::collection::vec(0usize..8, 0..2),
        dies in prop::collection::vec(0usize..40, 1..5),
        foreign in prop::collection::vec((0usize..8, 300u64..400), 0..3),
    ) {
        let knobs: BTreeMap<_, _> =
            values.iter().enumerate().map(|(at, value)| (name(at), value.to_string())).collect();
        let stubborn: Vec<String> = stubborn.into_iter().map(name).collect();
        let mut world = World { knobs: knobs.clone(), stubborn, willful: Vec::new(), disk: Vec::new(), acts_left: 0 };
        let wishes: Vec<Wish> = wished
            .iter()
            .map(|(at, value)| Wish {
                knob: Knob::new(name(*at), Form::Word),
                want: Want::Value(value.to_string()),
            })
            .collect();
        // Lives that tune, each cut short; the next one restores first, and may be cut short too.
        for (life, acts) in dies.iter().enumerate() {
            world.acts_left = *acts;
            if life == 0 || world.restore(BOOT).is_ok() {
                let _ = world.tune(&wishes);
            }
        }
        let mut expected = knobs;
        for (at, value) in foreign {
            if let Some(knob) = world.knobs.get_mut(&name(at)) {
                *knob = value.to_string();
                expected.insert(name(at), value.to_string());
            }
        }
        world.acts_left = usize::MAX;
        prop_assert!(world.restore(BOOT).is_ok());
        prop_assert_eq!(&world.knobs, &expected);
        prop_assert!(world.journal().is_empty());
    }

    #[test]
    fn another_life_of_the_kernel_is_left_alone(value in 0u64..50, wish in 50u64..99) {
        let knobs = BTreeMap::from([(name(0), value.to_string())]);
        let (stubborn, willful) = (Vec::new(), Vec::new());
        let mut world = World { knobs, stubborn, willful, disk: Vec::new(), acts_left: usize::MAX };
        let knob = Knob::new(name(0), Form::Word);
        let _ = world.tune(&[Wish { knob, want: Want::Value(wish.to_string()) }]);
        prop_assert_eq!(&world.knobs[&name(0)], &wish.to_string());
        let Ok(ends) = world.restore("another-boot") else { panic!("it cannot die") };
        let left = matches!(&ends[..], [Record::Impossible { .. }]);
        prop_assert!(left);
        prop_assert_eq!(&world.knobs[&name(0)], &wish.to_string());
    }
}

#[test]
fn what_someone_else_changed_is_said_and_left() {
    let knobs = BTreeMap::from([(name(0), "1".to_owned())]);
    let (stubborn, willful) = (Vec::new(), Vec::new());
    let mut world = World { knobs, stubborn, willful, disk: Vec::new(), acts_left: usize::MAX };
    let knob = Knob::new(name(0), Form::Word);
    assert!(world.tune(&[Wish { knob, want: Want::Value("10".to_owned()) }]).is_ok());
    world.knobs.insert(name(0), "7".to_owned());
    let Ok(ends) = world.restore(BOOT) else { panic!("it cannot die") };
    assert_eq!(ends, [Record::Foreign { id: 0, found: "7".to_owned() }]);
    assert_eq!(world.knobs[&name(0)], "7");
}

#[test]
fn what_the_kernel_made_of_a_value_is_still_ours() {
    let knobs = BTreeMap::from([(name(0), "1".to_owned())]);
    let (stubborn, willful) = (Vec::new(), vec![name(0)]);
    let mut world = World { knobs, stubborn, willful, disk: Vec::new(), acts_left: usize::MAX };
    let knob = Knob::new(name(0), Form::Word);
    assert!(world.tune(&[Wish { knob, want: Want::Value("250".to_owned()) }]).is_ok());
    assert_eq!(world.knobs[&name(0)], "100");
    let Ok(ends) = world.restore(BOOT) else { panic!("it cannot die") };
    assert_eq!((ends, world.knobs[&name(0)].as_str()), (vec![Record::Undone { id: 0 }], "1"));
}

#[test]
fn records_that_do_not_fit_are_told() {
    let mut journal = Journal::default();
    assert_eq!(journal.apply(&Record::Undone { id: 3 }), Err(Wrong::NotOpen { id: 3 }));
    let knob = Knob::new("/k", Form::Word);
    let planned =
        Record::Planned { id: 3, boot: BOOT.to_owned(), knob, old: "1".to_owned(), new: "2".to_owned() };
    assert_eq!(journal.apply(&planned), Ok(()));
    assert_eq!(journal.apply(&planned), Err(Wrong::Twice { id: 3 }));
}
