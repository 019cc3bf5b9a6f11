//! `/proc/interrupts`, one CPU's column of it, by kind.

use darwin_shared::probe::Cause;

use crate::interrupts::{InterruptLine, InterruptTable};

/// Lines that have one number, which is of no CPU.
const OF_NO_CPU: [&str; 2] = ["ERR", "MIS"];

/// How often one CPU was interrupted, counted since the box started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interrupts {
    /// By its own timer.
    pub timer: u64,
    /// To reschedule.
    pub reschedule: u64,
    /// To call a function.
    pub call: u64,
    /// To forget translations of addresses.
    pub tlb_shootdown: u64,
    /// By what cannot be masked.
    pub nmi: u64,
    /// Because it is hot.
    pub thermal: u64,
    /// By devices.
    pub device: u64,
    /// By anything else.
    pub other: u64,
}

impl Interrupts {
    /// The column of this CPU; none if it has none.
    pub fn parse(text: &str, cpu: u32) -> Option<Self> {
        let table = InterruptTable::of(text, |of| of == cpu).filter(|table| !table.is_empty())?;
        let mut counted = Self::default();
        for line in table.lines().filter(|line| !OF_NO_CPU.contains(&line.name)) {
            *counted.slot(line) += table.counts(line).flatten().sum::<u64>();
        }
        Some(counted)
    }

    /// Where a line's count belongs. On machines without Intel's short names the text behind the numbers tells.
    fn slot(&mut self, line: InterruptLine<'_>) -> &mut u64 {
        let rest = line.rest;
        match line.name {
            "LOC" => &mut self.timer,
            "RES" => &mut self.reschedule,
            "CAL" => &mut self.call,
            "TLB" => &mut self.tlb_shootdown,
            "NMI" => &mut self.nmi,
            "TRM" => &mut self.thermal,
            _ if rest.contains("arch_timer") => &mut self.timer,
            _ if rest.contains("Rescheduling") => &mut self.reschedule,
            _ if rest.contains("Function call") => &mut self.call,
            _ if line.is_of_a_device() => &mut self.device,
            _ => &mut self.other,
        }
    }

    /// What was added since an earlier reading; counters that went backwards count as nothing.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            timer: self.timer.saturating_sub(earlier.timer),
            reschedule: self.reschedule.saturating_sub(earlier.reschedule),
            call: self.call.saturating_sub(earlier.call),
            tlb_shootdown: self.tlb_shootdown.saturating_sub(earlier.tlb_shootdown),
            nmi: self.nmi.saturating_sub(earlier.nmi),
            thermal: self.thermal.saturating_sub(earlier.thermal),
            device: self.device.saturating_sub(earlier.device),
            other: self.other.saturating_sub(earlier.other),
        }
    }

    /// The counts by cause.
    pub const fn by_cause(&self) -> [(Cause, u64); 8] {
        [
            (Cause::Timer, self.timer),
            (Cause::Reschedule, self.reschedule),
            (Cause::Call, self.call),
            (Cause::TlbShootdown, self.tlb_shootdown),
            (Cause::Nmi, self.nmi),
            (Cause::Thermal, self.thermal),
            (Cause::Device, self.device),
            (Cause::OtherInterrupt, self.other),
        ]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "           CPU0       CPU2       \n  0:         10          0   IO-APIC   2-edge      timer\n \
        25:          3        700   PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0\nNMI:          1          2   \
        Non-maskable interrupts\nLOC:       4000       5000   Local timer interrupts\nRES:          7          8   \
        Rescheduling interrupts\nCAL:         11         12   Function call interrupts\nTLB:         13         14   TLB \
        shootdowns\nTRM:          0          4   Thermal event interrupts\nPMI:          5          6   Performance \
        monitoring interrupts\nERR:          9\nMIS:          9\n";

    #[test]
    fn a_column_is_found_by_its_name() {
        let cpu2 = Interrupts::parse(TEXT, 2).unwrap();
        let wanted = Interrupts {
            timer: 5_000,
            reschedule: 8,
            call: 12,
            tlb_shootdown: 14,
            nmi: 2,
            thermal: 4,
            device: 700,
            other: 6,
        };
        assert_eq!(cpu2, wanted);
        assert_eq!(Interrupts::parse(TEXT, 0).unwrap().device, 13);
        assert_eq!(Interrupts::parse(TEXT, 1), None);
    }

    #[test]
    fn other_machines_tell_it_in_words() {
        let text = "      CPU0 CPU1\n 11:  100  200  GICv3  27 Level  arch_timer\nIPI0:  1  2  Rescheduling \
            interrupts\nIPI1:  3  4  Function call interrupts\n 30:  5  6  GICv3  78 Level  eth0\n";
        let cpu1 = Interrupts::parse(text, 1).unwrap();
        assert_eq!((cpu1.timer, cpu1.reschedule, cpu1.call, cpu1.device), (200, 2, 4, 6));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}", cpu in 0u32..4) {
            let _ = Interrupts::parse(&text, cpu);
            let _ = Interrupts::parse(&format!("CPU0 CPU1\n{text}"), cpu);
        }
    }
}
