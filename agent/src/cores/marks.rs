//! Which cores containers may run on, told to whoever has those cores next.
//!
//! ```text
//!   the file of core locks:   bytes 8 n to 8 n + 7   the life that runs containers on CPU n; 0 is none
//! ```
//! A container is a child of the Docker daemon's: it outlives an agent that is killed together with its guard, and then the
//! locks of its cores are free. So an agent writes its life there before it starts containers on a core, and takes it away
//! when none of them is left, both while it has the core locked. Whoever locks a core and finds a life there has found one
//! that ended in the midst of it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;

use darwin_shared::cpu::{CpuSet, MAX_CPU};

/// The mark of one CPU, in bytes.
const MARK_BYTES: usize = 8;
/// More than this is not read of a file to which everybody on the box may write.
const FILE_MAX_BYTES: usize = MARK_BYTES * (MAX_CPU as usize + 1);

/// One life of an agent that runs containers, from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LifeId(NonZeroU64);

impl LifeId {
    /// A new one, by chance.
    pub(crate) fn draw() -> Self {
        Self(NonZeroU64::new(rand::random()).unwrap_or(NonZeroU64::MIN))
    }

    /// Reads it as it is shown.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().and_then(NonZeroU64::new).map(Self)
    }
}

impl fmt::Display for LifeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The lives that the file tells of, each with its CPUs.
pub(super) fn read(file: &File) -> io::Result<BTreeMap<LifeId, CpuSet>> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).min(FILE_MAX_BYTES);
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], filled as u64)? {
            0 => break,
            more => filled += more,
        }
    }
    let mut lives: BTreeMap<LifeId, CpuSet> = BTreeMap::new();
    for (cpu, mark) in (0u32..).zip(bytes.chunks_exact(MARK_BYTES)) {
        let mark = <[u8; MARK_BYTES]>::try_from(mark).map_or(0, u64::from_le_bytes);
        if let Some(life) = NonZeroU64::new(mark) {
            // The file is not read further than there can be CPUs.
            let _ = lives.entry(LifeId(life)).or_default().insert(cpu);
        }
    }
    Ok(lives)
}

/// Writes a life, or none, to these CPUs.
pub(super) fn write(file: &File, cpus: &CpuSet, life: Option<LifeId>) -> io::Result<()> {
    let mark = life.map_or(0, |life| life.0.get()).to_le_bytes();
    for cpu in cpus.iter() {
        file.write_all_at(&mark, MARK_BYTES as u64 * u64::from(cpu))?;
    }
    Ok(())
}

/// Takes away all marks of a life, of which no container is left and whose cores are still locked.
pub(crate) fn forget(file: &File, life: LifeId) -> io::Result<()> {
    match read(file)?.get(&life) {
        Some(cpus) => write(file, cpus, None),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_read_as_it_is_shown() {
        let life = LifeId(NonZeroU64::new(0xab).unwrap());
        assert_eq!(life.to_string(), "00000000000000ab");
        assert_eq!(LifeId::parse(&life.to_string()), Some(life));
        assert_eq!((LifeId::parse("0"), LifeId::parse("x"), LifeId::parse("")), (None, None, None));
        assert_ne!(LifeId::draw(), LifeId::draw());
    }

    #[test]
    fn marks_are_found_and_taken_away_again() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(read(&file).unwrap(), BTreeMap::new());
        let (one, other) = (LifeId::draw(), LifeId::draw());
        let cpus = |list: &str| -> CpuSet { list.parse().unwrap() };
        write(&file, &cpus("1,3"), Some(one)).unwrap();
        write(&file, &cpus("2"), Some(other)).unwrap();
        assert_eq!(read(&file).unwrap(), BTreeMap::from([(one, cpus("1,3")), (other, cpus("2"))]));
        write(&file, &cpus("3"), None).unwrap();
        assert_eq!(read(&file).unwrap()[&one], cpus("1"));
        forget(&file, one).unwrap();
        forget(&file, LifeId::draw()).unwrap();
        assert_eq!(read(&file).unwrap(), BTreeMap::from([(other, cpus("2"))]));
    }

    #[test]
    fn what_others_wrote_is_read_within_bounds() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![1; 2 * FILE_MAX_BYTES], 0).unwrap();
        let lives = read(&file).unwrap();
        assert_eq!(lives.values().map(CpuSet::len).sum::<usize>(), MAX_CPU as usize + 1);
        file.set_len(MARK_BYTES as u64 + 3).unwrap();
        assert_eq!(read(&file).unwrap().values().map(CpuSet::len).sum::<usize>(), 1);
    }
}
