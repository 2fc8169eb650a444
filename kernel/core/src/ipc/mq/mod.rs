//! POSIX message queues: mq_overview(7). What goes in and out of a queue, and in which order, is `base::mqueue`.
//!
//! A [`MessageQueue`] is an inode of the file system in [`fs`], and the file that its descriptors are open on: whoever mounts that
//! file system (on /dev/mqueue) sees the queues as files. Messages are copied with no lock held; a thread that waits is served by
//! hand-over. Map: [`fs`] names and attributes · [`notify`] mq_notify(3) · [`syscall`] the calls.
//!
//! Lock order: the directory's names, then a queue's `attr`; a queue's `state` alone; `CHARGED` alone.

pub mod fs;
pub mod notify;

use crate::prelude::*;
use crate::sync::{Deadline, Park, WaitKind, WaitReason};
use crate::task::credentials::cap;
use crate::task::process::rlimit;
use crate::time::{Timespec, file_time};
use crate::vfs::{Advance, FileOps, OpenFile, PollEvents, PollSet, PollTable, SeekFrom};
use alloc::collections::BTreeMap;
use base::mqueue::{Message, Queue, Sent};
use core::any::Any;
use core::sync::atomic::{AtomicUsize, Ordering};
use notify::Notify;

/// fs.mqueue.queues_max, msg_max, msgsize_max, msg_default, msgsize_default.
pub static QUEUES_MAX: AtomicUsize = AtomicUsize::new(256);
pub static MSG_MAX: AtomicUsize = AtomicUsize::new(10);
pub static MSGSIZE_MAX: AtomicUsize = AtomicUsize::new(8192);
pub static MSG_DEFAULT: AtomicUsize = AtomicUsize::new(10);
pub static MSGSIZE_DEFAULT: AtomicUsize = AtomicUsize::new(8192);
/// What a program with CAP_SYS_RESOURCE may go up to.
const HARD_MSG_MAX: usize = 65_536;
const HARD_MSGSIZE_MAX: usize = 16 << 20;
/// Priorities are below this (MQ_PRIO_MAX).
pub const PRIORITIES: u32 = 32_768;
/// What a message costs beside its text, for RLIMIT_MSGQUEUE.
const MESSAGE_OVERHEAD: u64 = 96;

/// A thread that waits: where what it waits for is put.
struct Waiter {
    task: Arc<Task>,
    slot: SpinLock<Slot>,
}

enum Slot {
    Waiting,
    /// A receiver's message.
    Received(Message<Vec<u8>>),
    /// A sender's message is in the queue.
    Sent,
}

/// Waiters are told apart by identity.
struct Handle(Arc<Waiter>);

impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Waiter {
    fn new() -> Arc<Self> {
        Arc::new(Self { task: crate::task::current_arc(), slot: SpinLock::new(Slot::Waiting) })
    }
    fn complete(&self, with: Slot) {
        *self.slot.lock() = with;
        self.task.unpark();
    }
    fn result(&self) -> Option<Slot> {
        let mut slot = self.slot.lock();
        match *slot {
            Slot::Waiting => None,
            _ => Some(core::mem::replace(&mut *slot, Slot::Waiting)),
        }
    }
}

struct State {
    queue: Queue<Handle, Vec<u8>>,
    notify: Option<Notify>,
}

struct Attr {
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u32,
    atime: Timespec,
    mtime: Timespec,
    ctime: Timespec,
}

pub struct MessageQueue {
    ino: u64,
    pub max_messages: usize,
    pub message_bytes: usize,
    /// Whom its bytes are charged to, and how many.
    charged: (u32, u64),
    attr: SpinLock<Attr>,
    state: SpinLock<State>,
    poll_set: PollSet,
}

/// Bytes of all queues by owner.
static CHARGED: SpinLock<BTreeMap<u32, u64>> = SpinLock::new(BTreeMap::new());

impl Drop for MessageQueue {
    fn drop(&mut self) {
        let (uid, bytes) = self.charged;
        let mut charged = CHARGED.lock();
        if let Some(sum) = charged.get_mut(&uid) {
            *sum -= bytes;
        }
    }
}

/// The rank of the calling thread in a line of waiters.
fn own_rank() -> u8 {
    current().sched.rt_priority()
}

impl MessageQueue {
    /// Checks limits and makes a queue of the calling thread's user; `size`: messages and bytes of each, `None` the defaults.
    /// EINVAL, EOVERFLOW, EMFILE.
    fn new(ino: u64, size: Option<(i64, i64)>, mode: u32, owner: (u32, u32)) -> Result<Arc<Self>, Errno> {
        let credentials = current().creds();
        let load = |limit: &AtomicUsize| limit.load(Ordering::Relaxed);
        let (most, largest) = if credentials.has_cap(cap::SYS_RESOURCE) {
            (HARD_MSG_MAX, HARD_MSGSIZE_MAX)
        } else {
            (load(&MSG_MAX), load(&MSGSIZE_MAX))
        };
        let (messages, bytes) = match size {
            None => (load(&MSG_DEFAULT).min(load(&MSG_MAX)), load(&MSGSIZE_DEFAULT).min(load(&MSGSIZE_MAX))),
            Some((messages, bytes)) => {
                let within = |value: i64, max| usize::try_from(value).ok().filter(|value| (1..=max).contains(value));
                (within(messages, most).ok_or(Errno::EINVAL)?, within(bytes, largest).ok_or(Errno::EINVAL)?)
            }
        };
        let charge = messages as u64 * (bytes as u64 + MESSAGE_OVERHEAD);
        let uid = credentials.uid;
        let mut charged = CHARGED.lock();
        let sum = charged.entry(uid).or_insert(0);
        if sum.saturating_add(charge) > current().process.limit(rlimit::MSGQUEUE) {
            return Err(Errno::EMFILE);
        }
        *sum += charge;
        drop(charged);
        let now = file_time();
        let attr = Attr { mode, uid: owner.0, gid: owner.1, nlink: 1, atime: now, mtime: now, ctime: now };
        Ok(Arc::new(Self {
            ino,
            max_messages: messages,
            message_bytes: bytes,
            charged: (uid, charge),
            attr: SpinLock::new(attr),
            state: SpinLock::new(State { queue: Queue::new(messages), notify: None }),
            poll_set: PollSet::new(),
        }))
    }

    /// Notes that the queue was used: access time for receiving too.
    fn touch(&self) {
        let now = file_time();
        let mut attr = self.attr.lock();
        (attr.atime, attr.mtime, attr.ctime) = (now, now, now);
    }

    /// Messages in the queue.
    pub fn messages(&self) -> usize {
        self.state.lock().queue.len()
    }

    /// Sends a message, waiting for room unless `nonblocking`: EAGAIN, ETIMEDOUT, ERESTARTSYS.
    pub fn send(&self, message: Message<Vec<u8>>, nonblocking: bool, deadline: Deadline) -> Result<(), Errno> {
        let mut state = self.state.lock();
        match state.queue.send(message) {
            Sent::Handed(Handle(receiver), message) => {
                drop(state);
                receiver.complete(Slot::Received(message));
            }
            Sent::Queued { into_empty } => {
                let notify = if into_empty { state.notify.take() } else { None };
                drop(state);
                self.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
                if let Some(notify) = notify {
                    notify.tell();
                }
            }
            Sent::Full(_) if nonblocking => return Err(Errno::EAGAIN),
            Sent::Full(message) => {
                let waiter = Waiter::new();
                state.queue.wait_to_send(own_rank(), Handle(waiter.clone()), message);
                drop(state);
                let result = Park::park_until(WaitMode::Interruptible, deadline, self.reason(WaitKind::MqSend), || {
                    waiter.result()
                });
                if let Err(error) = result
                    && self.state.lock().queue.cancel_send(&Handle(waiter))
                {
                    return Err(error.into());
                }
            }
        }
        self.touch();
        Ok(())
    }

    /// Takes the next message, waiting for one unless `nonblocking`: EAGAIN, ETIMEDOUT, ERESTARTSYS.
    pub fn receive(&self, nonblocking: bool, deadline: Deadline) -> Result<Message<Vec<u8>>, Errno> {
        let mut state = self.state.lock();
        if let Some((message, released)) = state.queue.receive() {
            drop(state);
            if let Some(Handle(sender)) = released {
                sender.complete(Slot::Sent);
            }
            self.poll_set.notify(PollEvents::OUT | PollEvents::WRNORM);
            self.touch();
            return Ok(message);
        }
        if nonblocking {
            return Err(Errno::EAGAIN);
        }
        let waiter = Waiter::new();
        state.queue.wait_to_receive(own_rank(), Handle(waiter.clone()));
        drop(state);
        let result =
            Park::park_until(WaitMode::Interruptible, deadline, self.reason(WaitKind::MqReceive), || waiter.result());
        let slot = match result {
            Ok(slot) => slot,
            Err(error) => {
                let own = Handle(waiter);
                if self.state.lock().queue.cancel_receive(&own) {
                    return Err(error.into());
                }
                // A sender has taken it out of the line already, and is about to hand over.
                own.0.wait_for_sender()
            }
        };
        match slot {
            Slot::Received(message) => Ok(message),
            _ => Err(Errno::EAGAIN),
        }
    }

    fn reason(&self, kind: WaitKind) -> WaitReason {
        WaitReason::on(kind, self.ino)
    }
}

impl Waiter {
    /// What a sender that has chosen this receiver puts here next.
    fn wait_for_sender(&self) -> Slot {
        let reason = WaitReason::new(WaitKind::MqReceive);
        match Park::park_until(WaitMode::Uninterruptible, None, reason, || self.result()) {
            Ok(slot) => slot,
            Err(_) => unreachable!("no signal and no deadline"),
        }
    }
}

impl FileOps for MessageQueue {
    fn can_signal(&self) -> bool {
        false
    }
    /// What reading the file in /dev/mqueue says.
    fn read(&self, _file: &OpenFile, offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        let state = self.state.lock();
        let bytes = state.queue.bytes();
        let (kind, number, pid) = state.notify.as_ref().map_or((0, 0, 0), Notify::shown);
        drop(state);
        let text = alloc::format!("QSIZE:{bytes:<10} NOTIFY:{kind:<5} SIGNO:{number:<5} NOTIFY_PID:{pid:<6}\n");
        let rest = usize::try_from(offset).ok().and_then(|offset| text.as_bytes().get(offset..)).unwrap_or(&[]);
        if rest.is_empty() { Ok(0) } else { dst.write(&rest[..rest.len().min(dst.remaining())]) }
    }

    fn advance(&self) -> Advance {
        Advance::Position
    }

    fn seek(&self, _file: &OpenFile, current: u64, from: SeekFrom) -> Result<u64, Errno> {
        match from {
            SeekFrom::Start(at) => Ok(at),
            SeekFrom::Current(delta) => current.checked_add_signed(delta).ok_or(Errno::EINVAL),
            SeekFrom::End(delta) => fs::FILE_BYTES.checked_add_signed(delta).ok_or(Errno::EINVAL),
            _ => Err(Errno::EINVAL),
        }
    }

    fn poll(&self, _file: &OpenFile, table: Option<&mut PollTable<'_>>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.poll_set);
        }
        let state = self.state.lock();
        let mut events = PollEvents::empty();
        if !state.queue.is_empty() {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if !state.queue.is_full() {
            events |= PollEvents::OUT | PollEvents::WRNORM;
        }
        events
    }

    /// Closing a descriptor ends the process's registration.
    fn flush(&self, _file: &OpenFile) -> Result<(), Errno> {
        self.end_notification();
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
