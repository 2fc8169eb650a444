//! Receiving: messages out of the inbox, in order, and what came beside the bytes.

use super::super::options::Switches;
use super::super::socket::{How, MsgFlags, deadline, wait_error};
use super::{Kind, Message, Name, Ucred, UnixSocket, flight};
use crate::prelude::*;
use crate::sync::{WaitKind, WaitReason};
use crate::vfs::{OpenFile, PollEvents};
use core::sync::atomic::Ordering;
use smallvec::SmallVec;

/// What a receive took.
#[derive(Default)]
pub(super) struct Taken {
    pub len: usize,
    /// Length of the whole packet.
    pub full_len: usize,
    pub truncated: bool,
    pub files: Vec<Arc<OpenFile>>,
    pub creds: Option<Ucred>,
    /// The sender's name.
    pub from: Option<Name>,
}

/// Pieces that a receive used up: one, as a rule, for which no list is allocated (130 instructions).
pub(super) type UsedUp = SmallVec<[Message; 1]>;

/// What one look into the inbox came to.
#[derive(Clone, Copy, Default)]
struct Step {
    /// There was something.
    progress: bool,
    /// The call ends here, whatever it waits for.
    stop: bool,
}

impl UnixSocket {
    /// EINVAL and ENOTCONN for a socket that is not connected; EAGAIN, ECONNRESET, EFAULT.
    pub(super) fn receive_bytes(&self, dst: &mut UserWriter<'_>, how: How) -> Result<Taken, Errno> {
        if self.kind != Kind::Datagram && !self.state.leaf().connected {
            return Err(if self.kind == Kind::Stream { Errno::EINVAL } else { Errno::ENOTCONN });
        }
        let mut taken = Taken::default();
        if self.kind == Kind::Stream && dst.remaining() == 0 {
            return Ok(taken);
        }
        let until = deadline(self.common.receive_timeout());
        // How much a stream's receive waits for.
        let low_water = self.common.receive_low_water.load(Ordering::Relaxed).max(1) as usize;
        let wanted = if how.flags.contains(MsgFlags::WAITALL) { usize::MAX } else { low_water };
        let wanted = wanted.min(dst.remaining()).max(1);
        // Up to which message a look found nothing that it may see.
        let mut seen = None;
        loop {
            // A stream tells of a reset behind what had come before, the others at once.
            if self.kind != Kind::Stream
                && let Some(reset) = self.take_reset()
            {
                return Err(reset);
            }
            let peek = how.peeks().then(|| self.peek_from());
            let attempt = || -> Option<Result<bool, Errno>> {
                let is_there = {
                    let inbox = self.inbox.leaf();
                    let passed = peek.unwrap_or(0);
                    match seen {
                        Some(seen) => inbox.last != seen,
                        None if passed == 0 => !inbox.messages.is_empty(),
                        None => inbox.bytes > passed,
                    }
                };
                if is_there {
                    return Some(Ok(true));
                }
                if let Some(reset) = self.take_reset() {
                    return Some(Err(reset));
                }
                if self.end_of_input.load(Ordering::Acquire) {
                    return Some(Ok(false));
                }
                how.nonblocking.then_some(Err(Errno::EAGAIN))
            };
            let reason = WaitReason::on(WaitKind::UnixReceive, self.id);
            let waited = self.readable.wait_until(WaitMode::Interruptible, until, reason, attempt);
            match waited.map_err(wait_error(until)).flatten() {
                Ok(true) => {}
                Ok(false) => return Ok(taken),
                Err(_) if taken.len > 0 => return Ok(taken),
                Err(error) => return Err(error),
            }
            let reading = self.reading.lock();
            let before = taken.len;
            let last = how.peeks().then(|| self.inbox.leaf().last);
            // Messages that have left the inbox: where they are now they stay until they are dropped, for they are large.
            let mut used_up = UsedUp::new();
            let looked = if self.kind == Kind::Stream {
                self.take_stream(dst, peek, &mut taken, &mut used_up)
            } else {
                self.take_packet(dst, peek, &mut taken, &mut used_up)
            };
            let Step { progress, stop } = match looked {
                Ok(step) => step,
                Err(error) => {
                    drop(reading);
                    // What this one could not take is for another who waits.
                    self.readable.wake_one();
                    return if taken.len > 0 { Ok(taken) } else { Err(error) };
                }
            };
            if progress {
                self.move_peek_offset(how.peeks(), taken.len - before, taken.full_len);
            }
            drop(reading);
            if how.peeks() {
                // Who only looks passes the wake on.
                self.readable.wake_all();
                seen = last;
            } else if progress {
                self.made_room();
            }
            let has_dropped = !progress && !used_up.is_empty();
            // Senders hear of room, and descriptors are counted down, with no lock held.
            if used_up.iter().any(|message| message.flying.is_some()) {
                flight::discard(used_up.drain(..));
            }
            used_up.clear();
            let is_enough = taken.len >= wanted || how.peeks() || !taken.files.is_empty();
            if progress && (self.kind != Kind::Stream || is_enough) || stop {
                return Ok(taken);
            }
            // What an urgent byte left behind was all there was for this read, even if more has come.
            if has_dropped {
                if let Some(reset) = self.take_reset() {
                    return Err(reset);
                }
                if self.end_of_input.load(Ordering::Acquire) {
                    return Ok(taken);
                }
                if how.nonblocking {
                    return Err(Errno::EAGAIN);
                }
            }
        }
    }

    /// How many bytes MSG_PEEK passes over.
    fn peek_from(&self) -> usize {
        usize::try_from(self.peek_offset.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// SO_PEEK_OFF goes forward with what was looked at, and back with what was taken (a packet counts whole).
    fn move_peek_offset(&self, peeked: bool, len: usize, packet_len: usize) {
        let offset = self.peek_offset.load(Ordering::Relaxed);
        if offset < 0 {
            return;
        }
        let new = if peeked {
            offset.saturating_add(len as i32)
        } else {
            offset.saturating_sub(len.max(packet_len) as i32).max(0)
        };
        self.peek_offset.store(new, Ordering::Relaxed);
    }

    /// Bytes of a stream, up to the end of a piece that carried descriptors, before an urgent byte, and of one sender when senders
    /// are told. `peek`: they stay, and so many bytes are passed over.
    fn take_stream(
        &self,
        dst: &mut UserWriter<'_>,
        peek: Option<usize>,
        taken: &mut Taken,
        used_up: &mut UsedUp,
    ) -> Result<Step, Errno> {
        let mut step = Step::default();
        let mut peeked = Vec::new();
        let tells = self.common.is_on(Switches::PASS_CRED);
        let mut skip = peek.unwrap_or(0);
        // What is reached by passing over a piece is not looked at again, as on Linux.
        let mut is_passing = false;
        let result = loop {
            if !taken.files.is_empty() || dst.remaining() == 0 {
                break Ok(());
            }
            let Some(mut message) = self.pop() else { break Ok(()) };
            if message.is_urgent && !is_passing {
                message = match self.mind_urgent(message, peek.is_some(), taken.len, &mut peeked, used_up) {
                    Some(message) => message,
                    None => {
                        step.stop = taken.len > 0;
                        break Ok(());
                    }
                };
            }
            let rest = &message.bytes[message.start..];
            if skip >= rest.len() {
                skip -= rest.len();
                is_passing = true;
                if let Err(error) = peeked.try_room(1) {
                    self.push_back(message);
                    break Err(error.into());
                }
                peeked.push(message);
                continue;
            }
            // Another sender's bytes are not waited behind.
            if tells && taken.creds.is_some_and(|creds| creds != message.creds) {
                step.stop = taken.len > 0;
                self.push_back(message);
                break Ok(());
            }
            is_passing = false;
            let rest = &rest[core::mem::take(&mut skip)..];
            if peek.is_some()
                && let Err(error) = peeked.try_room(1)
            {
                self.push_back(message);
                break if step.progress { Ok(()) } else { Err(error.into()) };
            }
            let n = match dst.write(&rest[..rest.len().min(dst.remaining())]) {
                Ok(n) => n,
                Err(error) => {
                    self.push_back(message);
                    break if step.progress { Ok(()) } else { Err(error) };
                }
            };
            step.progress = true;
            taken.len += n;
            taken.creds = Some(message.creds);
            taken.from = message.from.clone();
            if peek.is_some() {
                if let Some(flying) = &message.flying {
                    taken.files = flight::peek(flying);
                }
                peeked.push(message);
                continue;
            }
            if let Some(flying) = message.flying.take() {
                taken.files = flying.land();
            }
            message.start += n;
            if message.start < message.bytes.len() {
                self.push_back(message);
                break Ok(());
            }
            used_up.push(message);
        };
        for message in peeked.into_iter().rev() {
            self.push_back(message);
        }
        result.map(|()| step)
    }

    /// One packet: what does not fit into `dst` is lost. `peek`: it stays, and so many bytes are passed over.
    fn take_packet(
        &self,
        dst: &mut UserWriter<'_>,
        peek: Option<usize>,
        taken: &mut Taken,
        used_up: &mut UsedUp,
    ) -> Result<Step, Errno> {
        let mut skip = peek.unwrap_or(0);
        let mut passed = Vec::new();
        let found = loop {
            let Some(message) = self.pop() else { break None };
            if skip == 0 || skip < message.bytes.len() {
                break Some(message);
            }
            skip -= message.bytes.len();
            passed.push(message);
        };
        let Some(mut message) = found else {
            passed.into_iter().rev().for_each(|message| self.push_back(message));
            return Ok(Step::default());
        };
        let rest = &message.bytes[skip..];
        let n = rest.len().min(dst.remaining());
        let copied = if n == 0 { Ok(0) } else { dst.write(&rest[..n]) };
        taken.len = copied.as_ref().copied().unwrap_or(0);
        taken.full_len = rest.len();
        taken.truncated = n < rest.len();
        taken.creds = Some(message.creds);
        taken.from = message.from.clone();
        if peek.is_some() {
            if let Some(flying) = &message.flying {
                taken.files = flight::peek(flying);
            }
            self.push_back(message);
            passed.into_iter().rev().for_each(|message| self.push_back(message));
        } else {
            if let Some(flying) = message.flying.take() {
                taken.files = flying.land();
            }
            used_up.push(message);
        }
        copied.map(|_| Step { progress: true, stop: false })
    }

    pub(super) fn pop(&self) -> Option<Message> {
        let mut inbox = self.inbox.leaf();
        let message = inbox.messages.pop_front()?;
        inbox.bytes -= message.bytes.len() - message.start;
        Some(message)
    }
    pub(super) fn push_back(&self, message: Message) {
        let mut inbox = self.inbox.lock();
        inbox.bytes += message.bytes.len() - message.start;
        inbox.messages.push_front(message);
    }

    /// Messages were taken: those who wait to send hear of it, and a reader if any are left.
    pub(super) fn made_room(&self) {
        if self.kind == Kind::Datagram {
            self.room.wake_one();
            self.drained.notify(PollEvents::OUT | PollEvents::WRNORM | PollEvents::WRBAND);
        }
        if !self.inbox.leaf().messages.is_empty() {
            self.readable.wake_one();
        }
    }
}
