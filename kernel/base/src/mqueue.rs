//! A POSIX message queue as a pure state machine: messages by priority, then by age; threads that wait are served by hand-over,
//! in the order of their own priority, then of arrival.
//!
//! `W` names a thread that waits, `M` is a message's text.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// A message and its priority.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Message<M> {
    pub priority: u32,
    pub text: M,
}

struct Receiver<W> {
    rank: u8,
    waiter: W,
}

struct Sender<W, M> {
    rank: u8,
    waiter: W,
    message: Message<M>,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent<W, M> {
    /// It is in the queue, which had been empty or not.
    Queued { into_empty: bool },
    /// This receiver gets it at once; nothing was queued.
    Handed(W, Message<M>),
    /// There is no room.
    Full(Message<M>),
}

pub struct Queue<W, M> {
    max_messages: usize,
    messages: BTreeMap<u32, VecDeque<M>>,
    count: usize,
    bytes: usize,
    receivers: Vec<Receiver<W>>,
    senders: Vec<Sender<W, M>>,
}

impl<W: PartialEq, M: AsRef<[u8]>> Queue<W, M> {
    pub fn new(max_messages: usize) -> Self {
        Self { max_messages, messages: BTreeMap::new(), count: 0, bytes: 0, receivers: Vec::new(), senders: Vec::new() }
    }

    /// Messages in the queue.
    pub fn len(&self) -> usize {
        self.count
    }
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    pub fn is_full(&self) -> bool {
        self.count >= self.max_messages
    }
    /// Bytes of all texts in the queue.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn push(&mut self, message: Message<M>) {
        self.count += 1;
        self.bytes += message.text.as_ref().len();
        self.messages.entry(message.priority).or_default().push_back(message.text);
    }

    /// Sends a message without waiting.
    pub fn send(&mut self, message: Message<M>) -> Sent<W, M> {
        if self.is_full() {
            return Sent::Full(message);
        }
        if !self.receivers.is_empty() {
            return Sent::Handed(self.receivers.remove(0).waiter, message);
        }
        let into_empty = self.is_empty();
        self.push(message);
        Sent::Queued { into_empty }
    }

    /// The oldest message of the highest priority; with it the sender whose message took its place.
    pub fn receive(&mut self) -> Option<(Message<M>, Option<W>)> {
        let mut highest = self.messages.last_entry()?;
        let priority = *highest.key();
        let text = highest.get_mut().pop_front()?;
        if highest.get().is_empty() {
            highest.remove();
        }
        self.count -= 1;
        self.bytes -= text.as_ref().len();
        let released = (!self.senders.is_empty()).then(|| {
            let sender = self.senders.remove(0);
            self.push(sender.message);
            sender.waiter
        });
        Some((Message { priority, text }, released))
    }

    /// A receiver of the empty queue stands in line; `rank` is its thread's priority.
    pub fn wait_to_receive(&mut self, rank: u8, waiter: W) {
        let at = self.receivers.partition_point(|other| other.rank >= rank);
        self.receivers.insert(at, Receiver { rank, waiter });
    }

    /// A sender to the full queue stands in line.
    pub fn wait_to_send(&mut self, rank: u8, waiter: W, message: Message<M>) {
        let at = self.senders.partition_point(|other| other.rank >= rank);
        self.senders.insert(at, Sender { rank, waiter, message });
    }

    /// A receiver gives up: false when it is not in line any more.
    pub fn cancel_receive(&mut self, waiter: &W) -> bool {
        let before = self.receivers.len();
        self.receivers.retain(|other| other.waiter != *waiter);
        self.receivers.len() != before
    }

    /// A sender gives up: false when it is not in line any more.
    pub fn cancel_send(&mut self, waiter: &W) -> bool {
        let before = self.senders.len();
        self.senders.retain(|other| other.waiter != *waiter);
        self.senders.len() != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(priority: u32, text: &[u8]) -> Message<Vec<u8>> {
        Message { priority, text: text.to_vec() }
    }

    #[test]
    fn by_priority_then_age() {
        let mut queue: Queue<u32, Vec<u8>> = Queue::new(4);
        assert_eq!(queue.send(message(1, b"a")), Sent::Queued { into_empty: true });
        for (priority, text) in [(5, b"b"), (1, b"c"), (5, b"d")] {
            assert_eq!(queue.send(message(priority, text)), Sent::Queued { into_empty: false });
        }
        assert_eq!(queue.send(message(9, b"e")), Sent::Full(message(9, b"e")));
        assert_eq!((queue.len(), queue.bytes()), (4, 4));
        let texts: Vec<_> = core::iter::from_fn(|| queue.receive()).map(|(message, _)| message.text[0]).collect();
        assert_eq!(texts, b"bdac");
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
    }

    #[test]
    fn waiters_by_rank_then_arrival() {
        let mut queue: Queue<u32, Vec<u8>> = Queue::new(1);
        for (rank, waiter) in [(0, 1), (7, 2), (7, 3), (9, 4)] {
            queue.wait_to_receive(rank, waiter);
        }
        assert!(queue.cancel_receive(&3) && !queue.cancel_receive(&3));
        for waiter in [4, 2, 1] {
            assert_eq!(queue.send(message(0, b"x")), Sent::Handed(waiter, message(0, b"x")));
        }
        assert_eq!(queue.send(message(0, b"y")), Sent::Queued { into_empty: true });
        queue.wait_to_send(0, 8, message(3, b"late"));
        queue.wait_to_send(5, 9, message(1, b"first"));
        assert_eq!(queue.receive(), Some((message(0, b"y"), Some(9))));
        assert_eq!(queue.receive(), Some((message(1, b"first"), Some(8))));
        assert!(!queue.cancel_send(&8));
        assert_eq!(queue.receive(), Some((message(3, b"late"), None)));
        assert_eq!(queue.receive(), None);
    }

    /// Every history of seven operations: nobody waits to receive while there is a message, nor to send while there is room, and
    /// what goes in comes out.
    #[test]
    fn all_short_histories() {
        for history in 0..4u32.pow(7) {
            let mut queue: Queue<u32, Vec<u8>> = Queue::new(2);
            let (mut sent, mut got) = (0u32, 0u32);
            for step in 0..7u32 {
                match history >> (2 * step) & 3 {
                    0 => match queue.send(message(step % 3, b"m")) {
                        Sent::Full(message) => queue.wait_to_send(0, step, message),
                        Sent::Handed(..) => (sent, got) = (sent + 1, got + 1),
                        Sent::Queued { .. } => sent += 1,
                    },
                    1 => match queue.receive() {
                        Some((_, released)) => (sent, got) = (sent + u32::from(released.is_some()), got + 1),
                        None => queue.wait_to_receive(0, step),
                    },
                    2 => drop((0..step).find(|waiter| queue.cancel_receive(waiter))),
                    _ => drop((0..step).find(|waiter| queue.cancel_send(waiter))),
                }
                assert!(queue.receivers.is_empty() || queue.is_empty());
                assert!(queue.senders.is_empty() || queue.is_full());
                assert_eq!(sent - got, queue.len() as u32);
                assert_eq!(queue.bytes(), queue.len());
            }
        }
    }
}
