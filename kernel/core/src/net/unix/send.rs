//! Sending: what a message carries, what it costs, and its way into the other side's inbox.

use super::super::message::{Control, SCM_CREDENTIALS, SCM_RIGHTS};
use super::super::options::SOL_SOCKET;
use super::super::socket::{How, MsgFlags, deadline, wait_error};
use super::{Charge, Flying, Kind, Message, Ucred, UnixSocket};
use crate::file::pipe;
use crate::prelude::*;
use crate::sync::{Deadline, WaitKind, WaitReason};
use crate::task::credentials::cap;
use crate::vfs::table::file_or_path;
use crate::vfs::{OpenFile, PollEvents};
use base::flight::{packet_cost, packet_limit, stream_cost, stream_piece};
use core::sync::atomic::Ordering;
use zerocopy::FromBytes;

/// Descriptors in one message (SCM_MAX_FD).
const MAX_FILES: usize = 253;

/// What goes beside the bytes.
#[derive(Default)]
pub(super) struct Ancillary {
    pub creds: Ucred,
    pub flying: Option<Flying>,
}

impl Ancillary {
    pub fn plain() -> Self {
        Self { creds: Ucred::current(), flying: None }
    }

    /// What a sender's control data means: EINVAL, EBADF, EPERM for credentials of others, ETOOMANYREFS.
    pub fn read(control: &[Control]) -> Result<Self, Errno> {
        let mut ancillary = Self::plain();
        let mut files: Vec<Arc<OpenFile>> = Vec::new();
        for message in control.iter().filter(|message| message.level == SOL_SOCKET) {
            match message.kind {
                SCM_RIGHTS => {
                    for fd in message.data.chunks_exact(4) {
                        if files.len() >= MAX_FILES {
                            return Err(Errno::EINVAL);
                        }
                        files.push(file_or_path(i32::from_ne_bytes([fd[0], fd[1], fd[2], fd[3]]))?);
                    }
                }
                SCM_CREDENTIALS => {
                    let claimed = Ucred::read_from_bytes(&message.data).map_err(|_| Errno::EINVAL)?;
                    check_claim(&claimed)?;
                    ancillary.creds = claimed;
                }
                _ => return Err(Errno::EINVAL),
            }
        }
        if !files.is_empty() {
            ancillary.flying = Some(Flying::new(files)?);
        }
        Ok(ancillary)
    }
}

fn check_claim(claimed: &Ucred) -> Result<(), Errno> {
    let own = current().creds();
    let pid_ok = claimed.pid == current().process.pid || own.has_cap(cap::SYS_ADMIN);
    let uid_ok = [own.uid, own.euid, own.suid].contains(&claimed.uid) || own.has_cap(cap::SETUID);
    let gid_ok = [own.gid, own.egid, own.sgid].contains(&claimed.gid) || own.has_cap(cap::SETGID);
    if pid_ok && uid_ok && gid_ok { Ok(()) } else { Err(Errno::EPERM) }
}

impl UnixSocket {
    /// Where a send call sends to: ENOTCONN, EISCONN, EOPNOTSUPP, EPERM, and the errors of finding an address.
    fn target(&self, to: Option<&[u8]>) -> Result<Arc<Self>, Errno> {
        match to {
            Some(name) if self.kind == Kind::Datagram => self.find_datagram(name),
            Some(_) if self.kind == Kind::Stream => {
                Err(if self.state.lock().connected { Errno::EISCONN } else { Errno::EOPNOTSUPP })
            }
            // Packets go to the peer, whatever address is given.
            _ => {
                let state = self.state.leaf();
                if !state.connected {
                    return Err(Errno::ENOTCONN);
                }
                let peer = state.peer.as_ref().and_then(|peer| peer.upgrade());
                drop(state);
                match peer {
                    Some(peer) => Ok(peer),
                    None if self.kind == Kind::Datagram => Err(self.peer_is_gone()),
                    None => Err(Errno::EPIPE),
                }
            }
        }
    }

    /// The socket that datagrams went to was closed: ECONNREFUSED, once.
    fn peer_is_gone(&self) -> Errno {
        let mut state = self.state.lock();
        state.connected = false;
        let old = state.peer.take();
        drop(state);
        drop(old);
        Errno::ECONNREFUSED
    }

    /// Sends what `src` holds: all of it as one message, or a stream's bytes in pieces (answers how many went). `to` is an explicit
    /// address's name. EPIPE, ENOTCONN, EISCONN, EMSGSIZE, EAGAIN, ECONNREFUSED, EPERM.
    pub(super) fn send_bytes(
        &self,
        src: &mut UserReader<'_>,
        ancillary: Ancillary,
        to: Option<&[u8]>,
        how: How,
    ) -> SysResult {
        let until = deadline(self.common.send_timeout());
        let result = match self.kind {
            Kind::Stream => self.send_stream(src, ancillary, to, how, until),
            _ => self.send_packet(src, ancillary, to, how, until),
        };
        match result {
            Err(Errno::EPIPE) if how.signals() && self.kind == Kind::Stream => pipe::broken_pipe(),
            result => result,
        }
    }

    fn send_packet(
        &self,
        src: &mut UserReader<'_>,
        ancillary: Ancillary,
        to: Option<&[u8]>,
        how: How,
        until: Deadline,
    ) -> SysResult {
        let target = self.target(to)?;
        self.counted()?.bind_for_credentials()?;
        let len = src.remaining();
        if len > packet_limit(self.send_limit()) {
            return Err(Errno::EMSGSIZE);
        }
        let charge = self.charge(packet_cost(len), how.nonblocking, until)?;
        let bytes = read_bytes(src, len)?;
        if bytes.len() < len {
            return Err(Errno::EFAULT);
        }
        self.deliver(&target, self.message(bytes, ancillary, charge), how.nonblocking, until)?;
        Ok(len)
    }

    fn send_stream(
        &self,
        src: &mut UserReader<'_>,
        mut ancillary: Ancillary,
        to: Option<&[u8]>,
        how: How,
        until: Deadline,
    ) -> SysResult {
        let target = self.target(to)?;
        if self.shut_write.load(Ordering::Acquire) {
            return Err(Errno::EPIPE);
        }
        let mut sent = 0;
        // The last byte of MSG_OOB goes by itself.
        let nr_urgent = usize::from(how.flags.contains(MsgFlags::OOB));
        while src.remaining() != 0 {
            let ordinary = src.remaining().saturating_sub(nr_urgent);
            let urgent = ordinary == 0;
            let len = ordinary.min(stream_piece(self.send_limit())).max(1);
            let mut step = || -> SysResult {
                let charge = self.charge(stream_cost(len), how.nonblocking, until)?;
                let bytes = read_bytes(src, len)?;
                let copied = bytes.len();
                let beside = Ancillary { creds: ancillary.creds, flying: ancillary.flying.take() };
                let mut message = self.message(bytes, beside, charge);
                message.is_urgent = urgent;
                self.deliver(&target, message, how.nonblocking, until)?;
                Ok(copied)
            };
            match step() {
                Ok(copied) => {
                    sent += copied;
                    if copied < len {
                        break;
                    }
                }
                Err(_) if sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    fn message(&self, bytes: Vec<u8>, ancillary: Ancillary, charge: Charge) -> Message {
        let Ancillary { creds, flying } = ancillary;
        Message { serial: 0, is_urgent: false, bytes, start: 0, creds, flying, from: self.own_name(), _charge: charge }
    }

    /// Takes `bytes` of the send buffer, waiting until there is any room at all: EAGAIN, EPIPE.
    fn charge(&self, bytes: usize, nonblocking: bool, until: Deadline) -> Result<Charge, Errno> {
        let attempt = || -> Option<Result<(), Errno>> {
            if let Some(reset) = self.take_reset() {
                return Some(Err(reset));
            }
            if self.shut_write.load(Ordering::Acquire) {
                return Some(Err(Errno::EPIPE));
            }
            let limit = self.send_limit();
            let more = |used: usize| (used < limit).then_some(used + bytes);
            match self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) {
                Ok(_) => Some(Ok(())),
                Err(_) => nonblocking.then_some(Err(Errno::EAGAIN)),
            }
        };
        let reason = WaitReason::on(WaitKind::UnixSend, self.id);
        self.writable.wait_until(WaitMode::Interruptible, until, reason, attempt).map_err(wait_error(until))??;
        Ok(Charge { sender: self.own.clone(), bytes })
    }

    /// Whether senders that are not its peer wait for room in its queue of datagrams.
    pub(super) fn is_crowded(&self) -> bool {
        self.inbox.lock().messages.len() > self.max_datagrams
    }

    /// Puts a message into `target`'s inbox, waiting for room there. EPIPE when it takes no more, ECONNREFUSED when it is gone.
    fn deliver(&self, target: &Self, message: Message, nonblocking: bool, until: Deadline) -> Result<(), Errno> {
        let is_limited = self.kind == Kind::Datagram && !core::ptr::eq(target, self) && !target.is_peer(self);
        let is_urgent = message.is_urgent;
        loop {
            let mut inbox = target.inbox.leaf();
            // Looked at under the lock: a socket that is being closed empties its inbox after it has said so.
            if target.end_of_input.load(Ordering::Acquire) {
                drop(inbox);
                let is_gone = self.kind == Kind::Datagram && target.hung_up.load(Ordering::Acquire);
                return Err(match is_gone {
                    true if self.is_peer(target) => self.peer_is_gone(),
                    true => Errno::ECONNREFUSED,
                    false => Errno::EPIPE,
                });
            }
            if !is_limited || inbox.messages.len() <= target.max_datagrams {
                inbox.put(message);
                break;
            }
            drop(inbox);
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            // Another sender may be first to the room this one hears of.
            let reason = WaitReason::on(WaitKind::UnixSend, target.id);
            let has_changed = || (!target.is_crowded() || target.end_of_input.load(Ordering::Acquire)).then_some(());
            target.room.wait_until(WaitMode::Interruptible, until, reason, has_changed).map_err(wait_error(until))?;
        }
        if is_urgent {
            target.tell_urgent();
        }
        target.readable.wake_one();
        target.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
        Ok(())
    }
}

/// Up to `len` bytes of `src`; fewer if memory ends. EFAULT when there is none at all, ENOMEM.
fn read_bytes(src: &mut UserReader<'_>, len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    bytes.try_room(len)?;
    src.append_to(&mut bytes, len)?;
    Ok(bytes)
}
