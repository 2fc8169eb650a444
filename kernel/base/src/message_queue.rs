//! A System V message queue as a pure state machine: messages in order of arrival, taken by type; threads that wait are served by
//! hand-over, in their order.
//!
//! `W` names a thread that waits, `M` is a message's text. What became of waiting threads is told in the `ended` lists.

use crate::errno::Errno;
use crate::tree::{Key, Tree};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::{ControlFlow, Range};

/// A message and its type, which is above 0.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Message<M> {
    pub kind: i64,
    pub text: M,
}

/// Which message a receiver takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Any,
    Type(i64),
    /// MSG_EXCEPT.
    NotType(i64),
    /// The oldest of the lowest type up to this.
    UpTo(i64),
}

impl Wanted {
    /// As msgrcv(2) reads its `msgtyp` and MSG_EXCEPT.
    pub fn new(kind: i64, except: bool) -> Self {
        match kind {
            0 => Wanted::Any,
            limit if limit < 0 => Wanted::UpTo(limit.checked_neg().unwrap_or(i64::MAX)),
            kind if except => Wanted::NotType(kind),
            kind => Wanted::Type(kind),
        }
    }

    pub fn matches(self, kind: i64) -> bool {
        match self {
            Wanted::Any => true,
            Wanted::Type(wanted) => kind == wanted,
            Wanted::NotType(unwanted) => kind != unwanted,
            Wanted::UpTo(limit) => kind <= limit,
        }
    }
}

/// What a receiver asks for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub wanted: Wanted,
    /// Bytes it has room for.
    pub size: usize,
    /// MSG_NOERROR: a longer text is cut.
    pub truncate: bool,
}

impl Request {
    fn takes(&self, len: usize) -> Result<(), Errno> {
        if self.truncate || len <= self.size { Ok(()) } else { Err(Errno::E2BIG) }
    }
}

/// How a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End<M> {
    Received(Message<M>),
    Sent,
    Failed(Errno),
}

/// Where a call's effects on waiting threads go.
pub trait Ended<W, M> {
    fn push(&mut self, waiter: W, end: End<M>);
}

struct Receiver<W> {
    waiter: W,
    request: Request,
}

struct Sender<W, M> {
    waiter: W,
    message: Message<M>,
}

pub struct Queue<W, M> {
    /// msg_qbytes: the most bytes, and the most messages.
    max_bytes: u64,
    /// By type and age; the oldest is the heaviest.
    messages: Tree<Message<M>>,
    /// Messages there have been.
    made: u64,
    bytes: u64,
    receivers: VecDeque<Receiver<W>>,
    senders: VecDeque<Sender<W, M>>,
}

/// The messages of types in `kinds`.
fn of_kinds(kinds: Range<i64>) -> Range<Key> {
    (kinds.start as u64, 0)..(kinds.end as u64, 0)
}

const ANY: Range<Key> = (0, 0)..(u64::MAX, 0);

impl<W: PartialEq, M: AsRef<[u8]>> Queue<W, M> {
    pub const fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            messages: Tree::new(),
            made: 0,
            bytes: 0,
            receivers: VecDeque::new(),
            senders: VecDeque::new(),
        }
    }

    /// Messages in the queue.
    pub fn len(&self) -> usize {
        self.messages.len()
    }
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
    /// Bytes of all texts in the queue.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    fn has_room(&self, len: usize) -> bool {
        self.bytes + len as u64 <= self.max_bytes && (self.messages.len() as u64) < self.max_bytes
    }

    /// Makes room in memory for one message: ENOMEM. For who is about to send one.
    pub fn reserve(&mut self) -> Result<(), Errno> {
        self.messages.reserve()
    }

    /// Sends a message, for which there is memory ([`Queue::reserve`]), past senders that wait with longer ones; gives it back when it
    /// does not fit.
    pub fn send(&mut self, message: Message<M>, ended: &mut impl Ended<W, M>) -> Result<(), Message<M>> {
        if !self.has_room(message.text.as_ref().len()) {
            return Err(message);
        }
        self.put(message, ended);
        Ok(())
    }

    /// Gives a message to the first receiver that wants it, or queues it. Receivers without room for it fail on the way.
    fn put(&mut self, message: Message<M>, ended: &mut impl Ended<W, M>) {
        let len = message.text.as_ref().len();
        while let Some(at) = self.receivers.iter().position(|receiver| receiver.request.wanted.matches(message.kind)) {
            let Some(receiver) = self.receivers.remove(at) else { break };
            match receiver.request.takes(len) {
                Ok(()) => return ended.push(receiver.waiter, End::Received(message)),
                Err(errno) => ended.push(receiver.waiter, End::Failed(errno)),
            }
        }
        self.made += 1;
        let key = (message.kind as u64, self.made);
        if self.messages.insert(key, !self.made, message).is_ok() {
            self.bytes += len as u64;
        }
    }

    /// The number of the message that is asked for.
    fn find(&self, wanted: Wanted) -> Option<u32> {
        let weight = |index: &u32| self.messages.place(*index).map(|place| place.1);
        match wanted {
            Wanted::Any => self.messages.heaviest(ANY),
            Wanted::Type(kind) => self.messages.first((kind as u64, 0)..(kind as u64 + 1, 0), 0),
            Wanted::NotType(kind) => {
                let below = self.messages.heaviest(of_kinds(0..kind));
                let above = self.messages.heaviest((kind as u64 + 1, 0)..ANY.end);
                below.into_iter().chain(above).max_by_key(weight)
            }
            Wanted::UpTo(limit) => self.messages.first((0, 0)..(limit as u64 + 1, 0), 0),
        }
    }

    /// Takes the message that is asked for, `None` when there is none: E2BIG, and it stays.
    pub fn receive(&mut self, request: &Request, ended: &mut impl Ended<W, M>) -> Result<Option<Message<M>>, Errno> {
        let Some(index) = self.find(request.wanted) else { return Ok(None) };
        request.takes(self.messages.get(index).map_or(0, |message| message.text.as_ref().len()))?;
        let message = self.messages.remove(index);
        self.bytes -= message.as_ref().map_or(0, |message| message.text.as_ref().len() as u64);
        self.room_was_made(ended);
        Ok(message)
    }

    /// The message at a place in the order of arrival, which stays (MSG_COPY): ENOMEM.
    pub fn peek(&self, at: usize) -> Result<Option<&Message<M>>, Errno> {
        if at >= self.messages.len() {
            return Ok(None);
        }
        let mut ages = Vec::new();
        ages.try_reserve_exact(self.messages.len()).map_err(|_| Errno::ENOMEM)?;
        self.messages.visit(ANY, 0, &mut |index, _| {
            ages.extend(self.messages.place(index).map(|((_, made), _)| (made, index)));
            ControlFlow::Continue(())
        });
        let (_, &mut (_, index), _) = ages.select_nth_unstable(at);
        Ok(self.messages.get(index))
    }

    /// Completes the senders whose messages fit now, in their order; one that does not fit holds up nobody.
    fn room_was_made(&mut self, ended: &mut impl Ended<W, M>) {
        let mut at = 0;
        while let Some(sender) = self.senders.get(at) {
            if !self.has_room(sender.message.text.as_ref().len()) {
                at += 1;
                continue;
            }
            // Whoever makes room next tries again.
            if self.messages.reserve().is_err() {
                break;
            }
            let Some(sender) = self.senders.remove(at) else { break };
            self.put(sender.message, ended);
            ended.push(sender.waiter, End::Sent);
        }
    }

    /// Changes the limit (IPC_SET).
    pub fn set_max_bytes(&mut self, max_bytes: u64, ended: &mut impl Ended<W, M>) {
        self.max_bytes = max_bytes;
        self.room_was_made(ended);
    }

    pub fn wait_to_receive(&mut self, waiter: W, request: Request) {
        self.receivers.push_back(Receiver { waiter, request });
    }

    pub fn wait_to_send(&mut self, waiter: W, message: Message<M>) {
        self.senders.push_back(Sender { waiter, message });
    }

    /// A waiter gives up: false when it is not in line any more, for its wait has ended.
    pub fn cancel(&mut self, waiter: &W) -> bool {
        let before = self.receivers.len() + self.senders.len();
        self.receivers.retain(|other| other.waiter != *waiter);
        self.senders.retain(|other| other.waiter != *waiter);
        before != self.receivers.len() + self.senders.len()
    }

    /// All receivers leave the line (IPC_SET: they must ask again).
    pub fn drain_receivers(&mut self) -> impl Iterator<Item = W> {
        self.receivers.drain(..).map(|receiver| receiver.waiter)
    }

    /// The queue is removed: every waiter fails, every message is given back to be freed.
    pub fn remove(&mut self, ended: &mut impl Ended<W, M>) -> Tree<Message<M>> {
        for receiver in self.receivers.drain(..) {
            ended.push(receiver.waiter, End::Failed(Errno::EIDRM));
        }
        for sender in self.senders.drain(..) {
            ended.push(sender.waiter, End::Failed(Errno::EIDRM));
        }
        self.bytes = 0;
        core::mem::take(&mut self.messages)
    }
}

#[cfg(test)]
#[path = "message_queue_tests.rs"]
mod tests;
