//! Knobs, and what their values are apart from how the kernel happens to write them.

use darwin_shared::cpu::CpuSet;
use serde::{Deserialize, Serialize};

/// How a knob's text is to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A word or number.
    Word,
    /// All choices in a line, the one that holds in brackets: `always [madvise] never`.
    Choice,
    /// A list of CPUs: `0-3,8`.
    List,
    /// A mask of CPUs in hexadecimal groups: `ff,00000003`.
    Mask,
    /// Not a file: a cpuset that holds every task of the set above it that can be moved. Its value is its CPUs, and
    /// empty where it is not there.
    Shield,
}

/// One thing that can be changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Knob {
    /// The file, or the folder of a cpuset.
    pub path: String,
    /// How its text is read.
    pub form: Form,
}

impl Knob {
    /// A knob at this path.
    pub fn new(path: impl Into<String>, form: Form) -> Self {
        Self { path: path.into(), form }
    }

    /// The value that a text stands for, so that two ways to write one value are equal. What is not understood stays as
    /// it is.
    pub fn value(&self, text: &str) -> String {
        let text = text.trim();
        match self.form {
            Form::Word => text.to_owned(),
            Form::Choice => {
                let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
                chosen.map_or(text, |(chosen, _)| chosen).to_owned()
            }
            Form::List | Form::Shield => {
                text.parse::<CpuSet>().map_or_else(|_| text.to_owned(), |cpus| cpus.to_string())
            }
            Form::Mask => from_mask(text).map_or_else(|| text.to_owned(), |cpus| cpus.to_string()),
        }
    }

    /// The text to write for a value.
    pub fn text(&self, value: &str) -> String {
        match self.form {
            Form::Word | Form::Choice | Form::List | Form::Shield => value.to_owned(),
            Form::Mask => value.parse().map_or_else(|_| value.to_owned(), |cpus| to_mask(&cpus)),
        }
    }

    /// The value's CPUs, if it is of CPUs.
    pub fn cpus(&self, value: &str) -> Option<CpuSet> {
        match self.form {
            Form::List | Form::Mask | Form::Shield => value.parse().ok(),
            Form::Word | Form::Choice => None,
        }
    }
}

/// Bits in a group of the kernel's masks.
const GROUP_BITS: u32 = 32;

fn from_mask(text: &str) -> Option<CpuSet> {
    let mut cpus = CpuSet::new();
    for (group, digits) in (0..).zip(text.split(',').rev()) {
        let bits = u32::from_str_radix(digits.trim(), 16).ok()?;
        for bit in (0..GROUP_BITS).filter(|bit| bits >> bit & 1 == 1) {
            cpus.insert(group * GROUP_BITS + bit).ok()?;
        }
    }
    Some(cpus)
}

fn to_mask(cpus: &CpuSet) -> String {
    let highest = cpus.iter().last().unwrap_or(0) / GROUP_BITS;
    let group = |group: u32| {
        let within = |cpu: &u32| cpu / GROUP_BITS == group;
        cpus.iter().filter(within).fold(0u32, |bits, cpu| bits | 1 << (cpu % GROUP_BITS))
    };
    let groups: Vec<String> = (0..=highest).rev().map(|number| format!("{:08x}", group(number))).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ways_to_write_one_value_are_equal() {
        let knob = |form| Knob::new("/k", form);
        assert_eq!(knob(Form::Choice).value("always [madvise] never\n"), "madvise");
        assert_eq!(knob(Form::Choice).value("never"), "never");
        assert_eq!(knob(Form::List).value("0,1,2"), knob(Form::List).value("0-2\n"));
        assert_eq!(knob(Form::Mask).value("3"), "0-1");
        assert_eq!(knob(Form::Mask).value("00000001,00000000"), "32");
        assert_eq!(knob(Form::Mask).text("32-33"), "00000003,00000000");
        assert_eq!(knob(Form::Mask).text("0"), "00000001");
        assert_eq!(knob(Form::Word).value(" 10 \n"), "10");
        assert_eq!(knob(Form::List).value("odd"), "odd", "kept as it is");
    }

    proptest! {
        #[test]
        fn masks_are_written_as_they_are_read(cpus in prop::collection::btree_set(0u32..300, 0..20)) {
            let mut set = CpuSet::new();
            for cpu in cpus {
                set.insert(cpu).unwrap();
            }
            let knob = Knob::new("/k", Form::Mask);
            prop_assert_eq!(knob.value(&knob.text(&set.to_string())), set.to_string());
        }
    }
}
