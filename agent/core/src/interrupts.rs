//! `/proc/interrupts`: a line for each interrupt, and in it a count for each CPU.

/// The table as the kernel writes it, read line by line.
#[derive(Debug, Clone)]
pub struct InterruptTable<'a> {
    /// Places of the wanted CPUs' columns.
    columns: Vec<usize>,
    lines: std::str::Lines<'a>,
}

/// One line, with the counts of the wanted CPUs.
#[derive(Debug, Clone, Copy)]
pub struct InterruptLine<'a> {
    /// Its number if it is a device's, else the kernel's short name for it.
    pub name: &'a str,
    /// The counts, and behind them what it is, in words.
    pub rest: &'a str,
}

impl<'a> InterruptTable<'a> {
    /// The columns of these CPUs; none if the text does not begin with a line of CPUs.
    pub fn of(text: &'a str, wanted: impl Fn(u32) -> bool) -> Option<Self> {
        let mut lines = text.lines();
        let cpus: Option<Vec<u32>> =
            lines.next()?.split_whitespace().map(|word| word.strip_prefix("CPU")?.parse().ok()).collect();
        let columns = cpus?.iter().enumerate().filter(|(_, cpu)| wanted(**cpu)).map(|(at, _)| at).collect();
        Some(Self { columns, lines })
    }

    /// Whether none of the CPUs has a column.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// The lines.
    pub fn lines(&self) -> impl Iterator<Item = InterruptLine<'a>> + use<'a> {
        self.lines.clone().filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            Some(InterruptLine { name: name.trim(), rest })
        })
    }

    /// A line's counts in the columns, none for what is no number; a line may have fewer than there are CPUs.
    pub fn counts(&self, line: InterruptLine<'a>) -> impl Iterator<Item = Option<u64>> {
        let last = self.columns.last().map_or(0, |last| last + 1);
        let words = line.rest.split_whitespace().take(last).enumerate();
        words.filter(|(at, _)| self.columns.contains(at)).map(|(_, word)| word.parse().ok())
    }
}

impl InterruptLine<'_> {
    /// Whether a device raises it; the others are the kernel's own, timer and calls between CPUs among them.
    pub fn is_of_a_device(&self) -> bool {
        !self.name.is_empty() && self.name.bytes().all(|byte| byte.is_ascii_digit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(text: &str, cpus: &[u32]) -> Vec<(String, Vec<Option<u64>>)> {
        let table = InterruptTable::of(text, |cpu| cpus.contains(&cpu)).unwrap();
        table.lines().map(|line| (line.name.to_owned(), table.counts(line).collect())).collect()
    }

    #[test]
    fn columns_are_found_by_the_cpus_numbers() {
        let text = "  CPU0 CPU4\n 24: 1 2 PCI-MSI eth0\nLOC: 3 4 Local timer\nERR: 9\n 25: 5 x\n";
        let of = |name: &str, counts: &[Option<u64>]| (name.to_owned(), counts.to_vec());
        let wanted = [of("24", &[Some(2)]), of("LOC", &[Some(4)]), of("ERR", &[]), of("25", &[None])];
        assert_eq!(counts(text, &[4]), wanted);
        assert_eq!(counts(text, &[0, 4])[0], of("24", &[Some(1), Some(2)]));
        assert!(InterruptTable::of(text, |cpu| cpu == 1).unwrap().is_empty());
        assert!(InterruptTable::of("cpu 1 2\n", |_| true).is_none());
        assert!(InterruptTable::of("", |_| true).is_none());
    }
}
