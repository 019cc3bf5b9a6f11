//! Boxes that this machine is not: virtual ones with a kernel of their own, in QEMU. What runs in them are the real programs; a
//! script drives them and tells on the console what it saw, and what was seen is judged here.
//!
//! The guest's CPUs are emulated, so that it works inside a virtual machine as well: all that the kernel does is real, and no time
//! means anything.

mod console;
mod image;
mod judges;

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

pub use self::console::Seen;
use self::judges::Judgement;

/// A box is off again long before this.
const BOX_MAX: Duration = Duration::from_mins(5);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What the emulator of Debian 12 gets wrong is left out: `cmpxchg16b`, and page tables of five levels.
const CPU: &str = "max,vendor=GenuineIntel,cx16=off,la57=off";

/// A kind of box.
#[derive(Debug)]
pub struct Guest {
    /// What it is.
    pub name: &'static str,
    /// What its kernel is told at boot.
    parameters: &'static str,
    /// What is done on it.
    script: &'static str,
    judge: fn(&Seen) -> Vec<Judgement>,
}

/// All boxes: two sockets, each a memory node with two cores of two threads.
pub const GUESTS: [Guest; 2] = [
    Guest {
        name: "cgroup v2 that nobody has set up",
        parameters: "",
        script: include_str!("guest/partition.sh"),
        judge: judges::partition,
    },
    Guest {
        name: "cores set apart at boot",
        parameters: "isolcpus=managed_irq,domain,2-3,6-7 nohz_full=2-3,6-7 rcu_nocbs=2-3,6-7 irqaffinity=0-1,4-5",
        script: include_str!("guest/boot.sh"),
        judge: judges::boot,
    },
];

impl Guest {
    /// Starts the box, and returns what was seen when it has switched itself off.
    pub fn boot(&self, kernel: &Path) -> Result<Seen> {
        ensure!(kernel.is_file(), "{} is missing: tests/src/vm/fetch gets one", kernel.display());
        let folder = tempfile::tempdir()?;
        let image = image::build(folder.path(), self.script)?;
        let console = folder.path().join("console");
        let node = "memory-backend-ram,size=2G,id";
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-M", "q35", "-accel", "tcg", "-cpu", CPU, "-m", "4G", "-nographic", "-no-reboot"])
            .args(["-smp", "8,sockets=2,cores=2,threads=2"])
            .args(["-object", &format!("{node}=m0"), "-numa", "node,nodeid=0,cpus=0-3,memdev=m0"])
            .args(["-object", &format!("{node}=m1"), "-numa", "node,nodeid=1,cpus=4-7,memdev=m1"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(&image)
            .args(["-append", &format!("console=ttyS0 quiet panic=-1 {}", self.parameters)]);
        let out = File::create(&console)?;
        qemu.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let mut child = qemu.spawn().context("qemu-system-x86_64 cannot be started")?;
        let began = Instant::now();
        let ended = loop {
            if child.try_wait()?.is_some() {
                break true;
            }
            if began.elapsed() > BOX_MAX {
                child.kill()?;
                child.wait()?;
                break false;
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let text = String::from_utf8_lossy(&std::fs::read(&console)?).into_owned();
        let seen = Seen::read(&text);
        ensure!(ended && seen.is_whole(), "{}: the box did not come to its end:\n{text}", self.name);
        Ok(seen)
    }

    /// What must hold of what was seen, and what was found where it does not.
    pub fn judge(&self, seen: &Seen) -> Vec<Judgement> {
        (self.judge)(seen)
    }
}
