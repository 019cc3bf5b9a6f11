//! What a container's processes used, as the kernel tells it of each task that ends on the leased CPUs.
//!
//! Nobody but their parent can wait for processes, and theirs is the daemon's. The kernel's taskstats (its document
//! `accounting/taskstats`) are told to root over netlink, at the end of each task; they are read once the container is
//! gone. Where they cannot be had, or some were lost, nothing is known.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use darwin_shared::cpu::CpuSet;
use darwin_shared::usage::Usage;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};

use crate::measure::{RawUsage, together};

/// What ends of tasks may wait for us, in bytes: some thousands.
const BUFFER_BYTES: usize = 8 << 20;
/// More than a message.
const MESSAGE_BYTES: usize = 16 << 10;
/// Ends that are read at most; who makes more tasks than this is not accounted for.
const MAX_ENDS: usize = 100_000;
/// The controller that knows the numbers of families (`linux/genetlink.h`), its question and two attributes.
const CONTROLLER: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// The family's name, its request, and attributes (`linux/taskstats.h`).
const NAME: &[u8] = b"TASKSTATS\0";
const GET: u8 = 1;
const REGISTER_CPUS: u16 = 3;
const OF_TASK: u16 = 4;
const STATS: u16 = 3;
/// Kinds and flags of messages (`linux/netlink.h`).
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
/// Lengths of the two headers, and of an attribute's.
const HEAD: usize = 16;
const GENERIC_HEAD: usize = 4;
const ATTRIBUTE_HEAD: usize = 4;
/// Where things are in `struct taskstats`; they have not moved since its version 8.
mod at {
    pub(super) const NAME: std::ops::Range<usize> = 80..112;
    pub(super) const UID: usize = 120;
    pub(super) const PID: usize = 128;
    pub(super) const PARENT: usize = 132;
    pub(super) const USER_US: usize = 152;
    pub(super) const SYSTEM_US: usize = 160;
    pub(super) const MINOR_FAULTS: usize = 168;
    pub(super) const MAJOR_FAULTS: usize = 176;
    pub(super) const PEAK_RSS_KIB: usize = 200;
    pub(super) const VOLUNTARY: usize = 272;
    pub(super) const INVOLUNTARY: usize = 280;
    pub(super) const LEAST_BYTES: usize = 288;
}
/// What the first process of a container with an init is called.
const INIT_NAME: &[u8] = b"docker-init";

/// The end of a task.
#[derive(Debug, Clone)]
struct TaskEnd {
    pid: u32,
    parent: u32,
    uid: u32,
    is_init: bool,
    usage: Usage,
}

/// Listens to the ends of tasks on some CPUs.
#[derive(Debug)]
pub(super) struct Ends {
    socket: OwnedFd,
}

impl Ends {
    /// From now on. Only root may.
    pub(super) fn listen(cpus: &CpuSet) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkGeneric)?;
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES)?;
        let ends = Self { socket };
        ends.send(CONTROLLER, REQUEST, GET_FAMILY, FAMILY_NAME, NAME)?;
        // The kernel answers before it returns.
        let answer = ends.receive()?;
        let family = attributes(answer.get(HEAD + GENERIC_HEAD..).unwrap_or_default())
            .find(|(kind, _)| *kind == FAMILY_ID)
            .and_then(|(_, id)| Some(u16::from_ne_bytes(id.get(..2)?.try_into().ok()?)))
            .ok_or_else(|| io::Error::other("this kernel has no taskstats"))?;
        let list = format!("{cpus}\0");
        ends.send(family, REQUEST | ACKNOWLEDGE, GET, REGISTER_CPUS, list.as_bytes())?;
        let answer = ends.receive()?;
        let code = number::<4>(&answer, HEAD).map_or(-1, i32::from_ne_bytes);
        if number::<2>(&answer, 4).map(u16::from_ne_bytes) != Some(ERROR) || code != 0 {
            return Err(io::Error::from_raw_os_error(-code));
        }
        Ok(ends)
    }

    /// What the container used whose first process this was, or which had an init and this user; none if that is not
    /// known.
    pub(super) fn used_by(self, first: Option<u32>, uid: u32) -> Option<Usage> {
        let mut ends = Vec::new();
        loop {
            match self.receive() {
                Ok(message) => ends.extend(task_ends(&message)),
                Err(error) if error.raw_os_error() == Some(Errno::EAGAIN as i32) => break,
                // Some were lost, and with them what they used.
                Err(_) => return None,
            }
            if ends.len() > MAX_ENDS {
                return None;
            }
        }
        sum(&ends, first, uid)
    }

    fn send(&self, family: u16, flags: u16, command: u8, attribute: u16, value: &[u8]) -> io::Result<()> {
        let length = ATTRIBUTE_HEAD + value.len();
        let whole = HEAD + GENERIC_HEAD + length.next_multiple_of(4);
        let mut message = Vec::with_capacity(whole);
        let short = |length: usize| u16::try_from(length).map_err(io::Error::other);
        message.extend(u32::from(short(whole)?).to_ne_bytes());
        message.extend(family.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        // The sequence and the port: there is one request at a time, and the kernel knows our port.
        message.extend([0; 8]);
        message.extend([command, 1, 0, 0]);
        message.extend(short(length)?.to_ne_bytes());
        message.extend(attribute.to_ne_bytes());
        message.extend(value);
        message.resize(whole, 0);
        sendto(self.socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        Ok(())
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut message = vec![0; MESSAGE_BYTES];
        let length = recv(self.socket.as_fd().as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT)?;
        message.truncate(length);
        Ok(message)
    }
}

/// Some bytes at a place, if they are there.
fn number<const BYTES: usize>(bytes: &[u8], at: usize) -> Option<[u8; BYTES]> {
    bytes.get(at..at + BYTES)?.try_into().ok()
}

/// The attributes in a message: their kinds and values.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// The bits of a kind that say how it is to be read.
    const FLAGS: u16 = 0xc000;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(number(bytes, 0)?));
        let kind = u16::from_ne_bytes(number(bytes, 2)?) & !FLAGS;
        let value = bytes.get(ATTRIBUTE_HEAD..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The ends in a message; those of whole processes are the sums of their tasks, and left out.
fn task_ends(message: &[u8]) -> Vec<TaskEnd> {
    attributes(message.get(HEAD + GENERIC_HEAD..).unwrap_or_default())
        .filter(|(kind, _)| *kind == OF_TASK)
        .filter_map(|(_, task)| attributes(task).find(|(kind, _)| *kind == STATS))
        .filter_map(|(_, stats)| task_end(stats))
        .collect()
}

fn task_end(stats: &[u8]) -> Option<TaskEnd> {
    if stats.len() < at::LEAST_BYTES {
        return None;
    }
    let small = |at| number(stats, at).map(u32::from_ne_bytes);
    let large = |at| number(stats, at).map(u64::from_ne_bytes);
    let raw = RawUsage {
        user: Duration::from_micros(large(at::USER_US)?),
        system: Duration::from_micros(large(at::SYSTEM_US)?),
        max_rss_kib: large(at::PEAK_RSS_KIB)?,
        voluntary_switches: large(at::VOLUNTARY)?,
        involuntary_switches: large(at::INVOLUNTARY)?,
        minor_faults: large(at::MINOR_FAULTS)?,
        major_faults: large(at::MAJOR_FAULTS)?,
    };
    let name = stats.get(at::NAME)?.split(|byte| *byte == 0).next()?;
    Some(TaskEnd {
        pid: small(at::PID)?,
        parent: small(at::PARENT)?,
        uid: small(at::UID)?,
        is_init: name == INIT_NAME,
        usage: raw.into(),
    })
}

/// The sum over all that descend from the container's first process; with an init, without that.
fn sum(ends: &[TaskEnd], first: Option<u32>, uid: u32) -> Option<Usage> {
    let inits = ends.iter().filter(|end| end.is_init && end.uid == uid).map(|end| end.pid);
    let firsts: Vec<u32> = first.map_or_else(|| inits.collect(), |first| vec![first]);
    // Two at once cannot be told apart.
    let [first] = firsts.as_slice() else { return None };
    let mut children: BTreeMap<u32, Vec<&TaskEnd>> = BTreeMap::new();
    for end in ends {
        children.entry(end.parent).or_default().push(end);
    }
    let itself = ends.iter().filter(|end| end.pid == *first && !end.is_init).map(|end| end.usage);
    let mut total: Option<Usage> = itself.reduce(together);
    let (mut open, mut seen) = (vec![*first], BTreeSet::from([*first]));
    while let Some(parent) = open.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            if seen.insert(child.pid) {
                total = Some(total.map_or(child.usage, |total| together(total, child.usage)));
                open.push(child.pid);
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(pid: u32, parent: u32, is_init: bool) -> TaskEnd {
        let usage = Usage { user_ns: 1 << pid, peak_rss_bytes: u64::from(pid), ..Usage::default() };
        TaskEnd { pid, parent, uid: 7, is_init, usage }
    }

    #[test]
    fn what_descends_from_the_first_is_summed_and_nothing_else() {
        // 2 is the init, 3 the bench with the thread 4, 5 its child; 8 and 9 are strangers.
        let ends = [end(5, 3, false), end(4, 2, false), end(3, 2, false), end(2, 1, true), end(9, 8, false)];
        let used = sum(&ends, None, 7).unwrap();
        assert_eq!((used.user_ns, used.peak_rss_bytes), ((1 << 3) + (1 << 4) + (1 << 5), 5));
        assert_eq!(sum(&ends, Some(2), 7), Some(used));
        assert_eq!(
            sum(&ends, Some(9), 7).map(|used| used.user_ns),
            Some(1 << 9),
            "without an init it is the bench"
        );
        assert_eq!(sum(&ends, None, 8), None);
        assert_eq!(sum(&ends, Some(77), 7), None);
        let two = [end(2, 1, true), end(12, 1, true), end(3, 2, false)];
        assert_eq!(sum(&two, None, 7), None, "two containers at once");
    }

    #[test]
    fn garbled_messages_say_nothing() {
        for message in [&[][..], &[0; 20], &[255; 64], &[4, 0, 4, 0].repeat(10)] {
            assert!(task_ends(message).is_empty());
        }
        assert!(task_end(&[0; at::LEAST_BYTES - 1]).is_none());
    }

    #[test]
    fn the_kernel_tells_of_a_child_that_ended() {
        let cpus: CpuSet =
            std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap().trim().parse().unwrap();
        let ends = match Ends::listen(&cpus) {
            Ok(ends) => ends,
            Err(error) => {
                eprintln!("not run: taskstats cannot be had here: {error}");
                return;
            }
        };
        let mut child = std::process::Command::new("sh").args(["-c", "true; :"]).spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let used = ends.used_by(Some(pid), 0).unwrap();
        assert!(used.peak_rss_bytes > 100_000 && used.minor_faults > 0, "{used:?}");
    }
}
