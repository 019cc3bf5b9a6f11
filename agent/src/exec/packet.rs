//! One message per packet, with files beside it, over a `SOCK_SEQPACKET` pair.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::protocol::MAX_MESSAGE_BYTES;
use super::sys;

/// The most files beside a packet: stdout, stderr and two that are passed on, or what a launcher keeps open.
pub(super) const MAX_FILES: usize = 4;

/// Why a packet did not travel.
#[derive(Debug, Error)]
pub(super) enum PacketError {
    #[error("{bytes} bytes are too many for one message; the most is {MAX_MESSAGE_BYTES}")]
    TooLarge { bytes: usize },
    #[error("the message cannot be written or read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("a message came cut off or with the wrong files beside it")]
    CutOff,
    #[error("{0}")]
    Os(#[from] Errno),
}

/// What a look into the socket found.
#[derive(Debug)]
pub(super) enum Received<T> {
    /// A message, and the files beside it.
    Message(T, Vec<OwnedFd>),
    /// The other side is gone.
    Closed,
}

/// Sends without blocking: the kernel's buffer holds far more than the two sides ever have under way.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    files: &[RawFd],
) -> Result<(), PacketError> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(PacketError::TooLarge { bytes: bytes.len() });
    }
    let rights = [ControlMessage::ScmRights(files)];
    let beside = if files.is_empty() { &[] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], beside, flags, None)?;
    Ok(())
}

/// Room for one packet, kept from one to the next.
#[derive(Debug)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    control: Vec<u8>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; MAX_MESSAGE_BYTES], control: nix::cmsg_space!([RawFd; MAX_FILES]) }
    }

    /// Takes the next packet, `EAGAIN` if there is none.
    pub(super) fn receive<T: DeserializeOwned>(
        &mut self,
        socket: BorrowedFd<'_>,
    ) -> Result<Received<T>, PacketError> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let mut room = [IoSliceMut::new(&mut self.bytes)];
        let packet = match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut room, Some(&mut self.control), flags)
        {
            Ok(packet) => packet,
            Err(Errno::ECONNRESET | Errno::EPIPE) => return Ok(Received::Closed),
            Err(errno) => return Err(errno.into()),
        };
        let mut files = Vec::new();
        for beside in packet.cmsgs()? {
            if let ControlMessageOwned::ScmRights(received) = beside {
                files.extend(sys::own_received(&received));
            }
        }
        let length = packet.bytes;
        if length == 0 {
            return Ok(Received::Closed);
        }
        if packet.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
            return Err(PacketError::CutOff);
        }
        Ok(Received::Message(serde_json::from_slice(&self.bytes[..length])?, files))
    }
}

impl From<PacketError> for io::Error {
    fn from(error: PacketError) -> Self {
        match error {
            PacketError::Os(errno) => errno.into(),
            PacketError::TooLarge { .. } | PacketError::Json(_) | PacketError::CutOff => Self::other(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    #[test]
    fn messages_keep_their_borders_and_their_files() {
        let (a, b) = pair();
        send(a.as_fd(), &"one", &[a.as_raw_fd(), b.as_raw_fd()]).unwrap();
        send(a.as_fd(), &"two", &[]).unwrap();
        let mut inbox = Inbox::new();
        let Received::Message(text, files) = inbox.receive::<String>(b.as_fd()).unwrap() else { panic!() };
        assert_eq!((text.as_str(), files.len()), ("one", 2));
        drop(files);
        let Received::Message(text, files) = inbox.receive::<String>(b.as_fd()).unwrap() else { panic!() };
        assert_eq!((text.as_str(), files.len()), ("two", 0));
        assert!(matches!(inbox.receive::<String>(b.as_fd()), Err(PacketError::Os(Errno::EAGAIN))));
        drop(a);
        assert!(matches!(inbox.receive::<String>(b.as_fd()), Ok(Received::Closed)));
    }

    #[test]
    fn what_is_too_large_or_not_a_message_is_refused() {
        let (a, b) = pair();
        let large = "x".repeat(MAX_MESSAGE_BYTES);
        assert!(matches!(send(a.as_fd(), &large, &[]), Err(PacketError::TooLarge { .. })));
        send(a.as_fd(), &5, &[]).unwrap();
        assert!(matches!(Inbox::new().receive::<String>(b.as_fd()), Err(PacketError::Json(_))));
    }
}
