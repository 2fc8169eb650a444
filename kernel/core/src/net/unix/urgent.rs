//! MSG_OOB of streams: the last byte of such a send is a message by itself that the inbox names as its urgent one.
//!
//! It is received out of order by MSG_OOB, whereupon its empty shell keeps its place; or it is passed over (lost) by the first read
//! that begins at it, or read as any other byte with SO_OOBINLINE. A read that began before it ends before it. What a shell or an
//! urgent byte does to a read is what Linux 6.1 does, to its oddities: a read that begins at a shell finds nothing, once.

use super::super::options::Switches;
use super::receive::UsedUp;
use super::{Inbox, Kind, Message, UnixSocket, flight};
use crate::prelude::*;
use crate::vfs::PollEvents;
use alloc::collections::VecDeque;

impl Message {
    fn is_shell(&self) -> bool {
        self.is_urgent && self.start == self.bytes.len()
    }
}

impl Inbox {
    /// A message comes in; an urgent one takes the place of the one before, which becomes an ordinary byte.
    pub(super) fn put(&mut self, mut message: Message) {
        self.last += 1;
        message.serial = self.last;
        if message.is_urgent {
            self.urgent = Some(message.serial);
        }
        self.bytes += message.bytes.len();
        self.messages.push_back(message);
    }
}

/// Whether what a socket leaves behind when it is closed was unread data: the shell of an urgent byte was not.
pub(super) fn is_unread(messages: &VecDeque<Message>) -> bool {
    let first = messages.front().is_some_and(Message::is_shell);
    messages.len() > usize::from(first)
}

impl UnixSocket {
    /// SIOCATMARK: whether the urgent byte is next. EOPNOTSUPP but for streams.
    pub(super) fn is_at_mark(&self) -> Result<bool, Errno> {
        if self.kind != Kind::Stream {
            return Err(Errno::EOPNOTSUPP);
        }
        let inbox = self.inbox.lock();
        Ok(inbox.messages.front().is_some_and(|first| Some(first.serial) == inbox.urgent))
    }

    /// An urgent byte has come: SIGURG to the socket's owner, and POLLPRI.
    pub(super) fn tell_urgent(&self) {
        self.common.send_sigurg();
        self.poll_set.notify(PollEvents::PRI);
    }

    /// recv(2) with MSG_OOB: always one byte, which is copied if there is room for it. EOPNOTSUPP but for streams; EINVAL when
    /// not connected, when there is no urgent byte, and with SO_OOBINLINE; ENOTCONN; EFAULT, whereupon the byte is lost.
    pub(super) fn receive_urgent(&self, dst: &mut UserWriter<'_>, peek: bool) -> SysResult {
        if self.kind != Kind::Datagram && !self.state.lock().connected {
            return Err(if self.kind == Kind::Stream { Errno::EINVAL } else { Errno::ENOTCONN });
        }
        if self.kind != Kind::Stream {
            return Err(Errno::EOPNOTSUPP);
        }
        // With no reader at work, the byte is in the inbox.
        let reading = self.reading.lock();
        let (byte, shell) = {
            let mut inbox = self.inbox.lock();
            let wanted = inbox.urgent.filter(|_| !self.common.is_on(Switches::OOB_INLINE)).ok_or(Errno::EINVAL)?;
            let at = inbox.messages.iter().rposition(|message| message.serial == wanted).ok_or(Errno::EINVAL)?;
            let message = &mut inbox.messages[at];
            let byte = *message.bytes.get(message.start).ok_or(Errno::EINVAL)?;
            let mut shell = None;
            if !peek {
                message.start += 1;
                inbox.bytes -= 1;
                inbox.urgent = None;
                // There is never one shell behind another.
                if at > 0 && inbox.messages[at - 1].is_shell() {
                    shell = inbox.messages.remove(at - 1);
                }
            }
            (byte, shell)
        };
        drop(reading);
        if let Some(shell) = shell {
            flight::discard([shell]);
        }
        if dst.remaining() != 0 {
            dst.write(&[byte])?;
        }
        Ok(1)
    }

    /// A reader that has `copied` bytes comes to `message`, which was sent urgent: answers what it goes on with, or `None` when there is nothing for it
    /// here. Messages that it passes over go to `peeked`, those that are lost by it to `lost`.
    pub(super) fn mind_urgent(
        &self,
        message: Message,
        peek: bool,
        copied: usize,
        peeked: &mut Vec<Message>,
        lost: &mut UsedUp,
    ) -> Option<Message> {
        if message.is_shell() && !peek {
            lost.push(message);
            return None;
        }
        let is_inline = self.common.is_on(Switches::OOB_INLINE);
        {
            let mut inbox = self.inbox.lock();
            if inbox.urgent != Some(message.serial) {
                return Some(message);
            }
            if copied == 0 && !peek {
                inbox.urgent = None;
            }
        }
        if copied > 0 {
            self.push_back(message);
            return None;
        }
        if is_inline {
            return Some(message);
        }
        if peek {
            peeked.push(message);
        } else {
            lost.push(message);
        }
        self.pop()
    }
}
