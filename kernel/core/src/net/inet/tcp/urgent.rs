//! Urgent data (MSG_OOB, tcp(7)) between joined sockets: one byte of what comes has the mark; a newer one takes it over, and the
//! older is an ordinary byte then.
//!
//! A read that began before the mark ends there. MSG_OOB takes the byte out of order, and its place stays in the stream: the next
//! read that begins there passes over it, or with SO_OOBINLINE reads the byte as any other. smoltcp knows no urgent pointer, so a
//! connection over the wire neither sends one nor looks at one.

use super::Tcp;
use crate::net::options::Switches;
use crate::net::socket::{MsgFlags, Received};
use crate::prelude::*;
use crate::vfs::PollEvents;

struct Mark {
    /// Bytes of the stream before it.
    at: u64,
    /// `None`: MSG_OOB has taken it.
    byte: Option<u8>,
}

/// Where the mark is in one direction of a connection.
#[derive(Default)]
pub(super) struct Urgent {
    /// Bytes that have left the stream.
    taken: u64,
    mark: Option<Mark>,
}

/// What the mark means for a read.
pub(super) enum Reach {
    /// It may take so many bytes.
    Bytes(usize),
    /// It begins at the mark's place and passes over it.
    Over,
    /// It has come to the mark and ends.
    Stop,
}

impl Urgent {
    /// Bytes between what was taken and the mark.
    pub fn distance(&self) -> Option<usize> {
        self.mark.as_ref().map(|mark| (mark.at - self.taken) as usize)
    }

    /// POLLPRI: MSG_OOB would find the byte.
    pub fn is_waiting(&self) -> bool {
        self.mark.as_ref().is_some_and(|mark| mark.byte.is_some())
    }

    /// `len` bytes have left the stream.
    pub fn take(&mut self, len: usize) {
        self.taken += len as u64;
        self.mark.take_if(|mark| mark.at < self.taken);
    }

    /// The mark is now on `byte`, before which `distance` bytes wait.
    pub fn set(&mut self, distance: usize, byte: u8) {
        self.mark = Some(Mark { at: self.taken + distance as u64, byte: Some(byte) });
    }

    /// How far a read goes that has got `got` bytes, which a peek has left where they are.
    pub fn reach(&self, got: usize, peeks: bool, is_inline: bool) -> Reach {
        let Some(distance) = self.distance() else { return Reach::Bytes(usize::MAX) };
        let seen = if peeks { got } else { 0 };
        match distance.checked_sub(seen) {
            Some(0) if got != 0 => Reach::Stop,
            Some(0) if !is_inline => Reach::Over,
            Some(ahead @ 1..) => Reach::Bytes(ahead),
            // A peek that passed over it goes on where it was.
            None if !is_inline && distance == 0 => Reach::Over,
            _ => Reach::Bytes(usize::MAX),
        }
    }
}

impl Tcp {
    pub(super) fn reads_inline(&self) -> bool {
        self.common.is_on(Switches::OOB_INLINE)
    }

    /// SIOCATMARK.
    pub(super) fn is_at_mark(&self) -> bool {
        self.state.lock().joined.as_ref().is_some_and(|joined| joined.urgent.distance() == Some(0))
    }

    /// An urgent byte has come: SIGURG to the socket's owner, and POLLPRI. `state` is not locked.
    pub(super) fn tell_urgent(&self) {
        self.common.send_sigurg();
        self.poll_set.notify(PollEvents::PRI);
    }

    /// recv(2) with MSG_OOB: EINVAL when there is no urgent byte or it is read inline, EFAULT, whereupon it is lost.
    pub(super) fn receive_urgent(&self, dst: &mut UserWriter<'_>, peeks: bool) -> Result<Received, Errno> {
        let byte = {
            let mut state = self.state.lock();
            if state.listener.is_some() {
                return Err(Errno::ENOTCONN);
            }
            let joined = state.joined.as_mut().filter(|_| !self.reads_inline());
            let mark = joined.and_then(|joined| joined.urgent.mark.as_mut());
            mark.and_then(|mark| if peeks { mark.byte } else { mark.byte.take() }).ok_or(Errno::EINVAL)?
        };
        if dst.remaining() == 0 {
            return Ok(Received { flags: MsgFlags::OOB | MsgFlags::TRUNC, ..Received::default() });
        }
        match dst.write(&[byte])? {
            0 => Err(Errno::EFAULT),
            len => Ok(Received { len, flags: MsgFlags::OOB, ..Received::default() }),
        }
    }
}
