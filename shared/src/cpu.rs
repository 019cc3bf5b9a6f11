//! Sets of CPUs, as the kernel writes them: `0-3,8`.
//!
//! Plain data. Which CPUs a box has, and which a bench may use, is found out and decided elsewhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// The highest CPU number that is accepted: Linux builds for at most 8,192 CPUs, and a typo must not cost gigabytes.
pub const MAX_CPU: u32 = 8191;

const WORD_BITS: u32 = 64;

/// Why a text is not a set of CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CpuSetError {
    /// A part that is neither a number nor a range.
    #[error("`{part}` is neither a CPU nor a range of CPUs: a list looks like 0-3,8")]
    NotANumber {
        /// The part between two commas.
        part: String,
    },
    /// A range whose end comes before its start.
    #[error("`{part}` runs backwards: the smaller CPU comes first, as in 0-3")]
    Backwards {
        /// The part between two commas.
        part: String,
    },
    /// A CPU number that no Linux has.
    #[error("CPU {cpu} is out of range: the highest is {MAX_CPU}")]
    OutOfRange {
        /// The refused number.
        cpu: u32,
    },
}

/// A set of logical CPUs, ordered; reads and writes the kernel's list form, in serde as well.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CpuSet {
    /// Bit `n % 64` of word `n / 64` is CPU `n`; no zero words at the end, so that equality is equality of sets.
    words: Vec<u64>,
}

impl CpuSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { words: Vec::new() }
    }

    /// Adds a CPU; says whether it is new.
    pub fn insert(&mut self, cpu: u32) -> Result<bool, CpuSetError> {
        if cpu > MAX_CPU {
            return Err(CpuSetError::OutOfRange { cpu });
        }
        let (word, bit) = place(cpu);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        Ok(new)
    }

    /// Takes a CPU out; says whether it was there.
    pub fn remove(&mut self, cpu: u32) -> bool {
        let (word, bit) = place(cpu);
        let Some(found) = self.words.get_mut(word) else { return false };
        let was = *found & bit != 0;
        *found &= !bit;
        self.trim();
        was
    }

    /// Whether the CPU is in the set.
    pub fn contains(&self, cpu: u32) -> bool {
        let (word, bit) = place(cpu);
        self.words.get(word).is_some_and(|found| found & bit != 0)
    }

    /// How many CPUs there are.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The lowest CPU.
    pub fn first(&self) -> Option<u32> {
        self.iter().next()
    }

    /// The CPUs in rising order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..).zip(&self.words).flat_map(|(index, &word)| {
            (0..WORD_BITS).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * WORD_BITS + bit)
        })
    }

    /// Every CPU of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let len = self.words.len().max(other.words.len());
        Self::from_words((0..len).map(|i| self.word(i) | other.word(i)).collect())
    }

    /// The CPUs of both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self::from_words(self.words.iter().zip(&other.words).map(|(a, b)| a & b).collect())
    }

    /// The CPUs of this set that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self::from_words((0..self.words.len()).map(|i| self.word(i) & !other.word(i)).collect())
    }

    /// Whether every CPU of this set is in the other.
    pub fn is_subset(&self, other: &Self) -> bool {
        (0..self.words.len()).all(|i| self.word(i) & !other.word(i) == 0)
    }

    /// Whether no CPU is in both sets.
    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).all(|(a, b)| a & b == 0)
    }

    fn word(&self, index: usize) -> u64 {
        self.words.get(index).copied().unwrap_or(0)
    }

    fn from_words(words: Vec<u64>) -> Self {
        let mut set = Self { words };
        set.trim();
        set
    }

    fn trim(&mut self) {
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }
}

/// The word's index and the bit in it.
const fn place(cpu: u32) -> (usize, u64) {
    ((cpu / WORD_BITS) as usize, 1 << (cpu % WORD_BITS))
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(start) = cpus.next() {
            let mut end = start;
            while let Some(next) = cpus.next_if_eq(&(end + 1)) {
                end = next;
            }
            if start == end {
                write!(f, "{separator}{start}")?;
            } else {
                write!(f, "{separator}{start}-{end}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuSet({self})")
    }
}

impl FromStr for CpuSet {
    type Err = CpuSetError;

    /// Reads the kernel's list form; blank text is the empty set.
    fn from_str(text: &str) -> Result<Self, CpuSetError> {
        let mut set = Self::new();
        if text.trim().is_empty() {
            return Ok(set);
        }
        for part in text.split(',').map(str::trim) {
            let (start, end) = match part.split_once('-') {
                Some((start, end)) => (number(start, part)?, number(end, part)?),
                None => (number(part, part)?, number(part, part)?),
            };
            if end < start {
                return Err(CpuSetError::Backwards { part: part.to_owned() });
            }
            if end > MAX_CPU {
                return Err(CpuSetError::OutOfRange { cpu: end });
            }
            for cpu in start..=end {
                set.insert(cpu)?;
            }
        }
        Ok(set)
    }
}

fn number(text: &str, part: &str) -> Result<u32, CpuSetError> {
    let text = text.trim();
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| CpuSetError::NotANumber { part: part.chars().take(40).collect() })
}

impl Serialize for CpuSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CpuSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(text: &str) -> CpuSet {
        text.parse().unwrap()
    }

    fn from_cpus(cpus: &BTreeSet<u32>) -> CpuSet {
        let mut set = CpuSet::new();
        for &cpu in cpus {
            set.insert(cpu).unwrap();
        }
        set
    }

    #[test]
    fn reads_and_writes_what_the_kernel_writes() {
        for text in ["", "0", "0-1", "0-3,8", "1,3,5-7,63-64,128", "8191"] {
            assert_eq!(set(text).to_string(), text);
        }
        assert_eq!(set(" 3 , 1-2\n").to_string(), "1-3");
        assert_eq!(set("0-3,2-5").len(), 6);
    }

    #[test]
    fn refuses_what_is_no_list() {
        for (text, message) in [
            ("a", "`a` is neither a CPU nor a range of CPUs: a list looks like 0-3,8"),
            ("0,,1", "`` is neither a CPU nor a range of CPUs: a list looks like 0-3,8"),
            ("-1", "`-1` is neither a CPU nor a range of CPUs: a list looks like 0-3,8"),
            ("+1", "`+1` is neither a CPU nor a range of CPUs: a list looks like 0-3,8"),
            ("5-2", "`5-2` runs backwards: the smaller CPU comes first, as in 0-3"),
            ("0-4294967295", "CPU 4294967295 is out of range: the highest is 8191"),
            ("8192", "CPU 8192 is out of range: the highest is 8191"),
        ] {
            assert_eq!(text.parse::<CpuSet>().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn removing_the_last_cpu_leaves_the_empty_set() {
        let mut cpus = set("200");
        assert!(cpus.remove(200));
        assert!(!cpus.remove(200));
        assert_eq!(cpus, CpuSet::new());
    }

    #[test]
    fn serde_uses_the_list_form() {
        assert_eq!(serde_json::to_string(&set("0-1,4")).unwrap(), "\"0-1,4\"");
        assert_eq!(serde_json::from_str::<CpuSet>("\"0-1,4\"").unwrap(), set("0-1,4"));
        assert!(serde_json::from_str::<CpuSet>("\"x\"").is_err());
    }

    proptest! {
        #[test]
        fn text_and_set_are_the_same(cpus in prop::collection::btree_set(0u32..300, 0..80)) {
            let set = from_cpus(&cpus);
            prop_assert_eq!(&set.to_string().parse::<CpuSet>().unwrap(), &set);
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), cpus);
        }

        #[test]
        fn algebra_is_that_of_sets(
            a in prop::collection::btree_set(0u32..200, 0..40),
            b in prop::collection::btree_set(0u32..200, 0..40),
        ) {
            let (x, y) = (from_cpus(&a), from_cpus(&b));
            prop_assert_eq!(x.union(&y), from_cpus(&(&a | &b)));
            prop_assert_eq!(x.intersection(&y), from_cpus(&(&a & &b)));
            prop_assert_eq!(x.difference(&y), from_cpus(&(&a - &b)));
            prop_assert_eq!(x.is_subset(&y), a.is_subset(&b));
            prop_assert_eq!(x.is_disjoint(&y), a.is_disjoint(&b));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-0-9, x]{0,20}") {
            let _ = text.parse::<CpuSet>();
        }
    }
}
