//! POSIX message queues: mq_open(3) and its family; a queue descriptor is a file that can be polled.
//!
//! Queues have a name space of their own (the C library strips the leading slash). Messages go by priority, then by age, and
//! are copied with no lock held. Lock order: `TABLE`, then a queue's state.

use crate::file::table::{file, install};
use crate::file::{Advance, FileOps, OpenFile, OpenFlags, PollEvents, PollSet, PollTable};
use crate::prelude::*;
use crate::process::credentials::cap;
use crate::process::process::rlimit;
use crate::signal::{self, SigInfo};
use crate::sync::{Deadline, WaitReason};
use crate::time::{Timespec, clock};
use alloc::collections::{BTreeMap, VecDeque};
use core::any::Any;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// fs.mqueue.queues_max, msg_max, msgsize_max, their defaults, and the hard limits.
const MAX_QUEUES: usize = 256;
const MAX_MESSAGES: i64 = 10;
const MAX_MESSAGE_BYTES: i64 = 8192;
const HARD_MAX_MESSAGES: i64 = 65_536;
const HARD_MAX_MESSAGE_BYTES: i64 = 16 << 20;
/// Priorities are below this (MQ_PRIO_MAX).
const PRIORITIES: u32 = 32_768;
/// What a message costs beside its text, for RLIMIT_MSGQUEUE.
const MESSAGE_OVERHEAD: u64 = 96;
const NAME_MAX: usize = 255;

/// `struct mq_attr`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct MqAttr {
    flags: i64,
    max_messages: i64,
    message_bytes: i64,
    messages: i64,
    reserved: [i64; 4],
}

/// Who hears of a message that comes into the empty queue, once.
struct Notify {
    process: Weak<Process>,
    pid: u32,
    /// Signal and value; none with SIGEV_NONE.
    signal: Option<(u32, u64)>,
}

struct State {
    messages: BTreeMap<u32, VecDeque<Vec<u8>>>,
    count: usize,
    notify: Option<Notify>,
}

pub struct MessageQueue {
    max_messages: usize,
    message_bytes: usize,
    mode: u32,
    uid: u32,
    gid: u32,
    /// Bytes charged to the owner.
    charged: u64,
    state: SpinLock<State>,
    receivers: WaitQueue,
    senders: WaitQueue,
    poll_set: PollSet,
}

struct Table {
    names: BTreeMap<Vec<u8>, Arc<MessageQueue>>,
}

static TABLE: SpinLock<Table> = SpinLock::new(Table { names: BTreeMap::new() });
/// Bytes of all queues by owner.
static CHARGED: SpinLock<BTreeMap<u32, u64>> = SpinLock::new(BTreeMap::new());

impl Drop for MessageQueue {
    fn drop(&mut self) {
        let mut charged = CHARGED.lock();
        if let Some(bytes) = charged.get_mut(&self.uid) {
            *bytes -= self.charged;
        }
    }
}

impl MessageQueue {
    /// Checks limits and makes a queue: EINVAL, EMFILE.
    fn new(attr: Option<MqAttr>, mode: u32) -> Result<Arc<Self>, Errno> {
        let credentials = current().creds();
        let (messages, bytes) = match attr {
            None => (MAX_MESSAGES, MAX_MESSAGE_BYTES),
            Some(attr) => (attr.max_messages, attr.message_bytes),
        };
        let privileged = credentials.has_cap(cap::SYS_RESOURCE);
        let (most, largest) =
            if privileged { (HARD_MAX_MESSAGES, HARD_MAX_MESSAGE_BYTES) } else { (MAX_MESSAGES, MAX_MESSAGE_BYTES) };
        if !(1..=most).contains(&messages) || !(1..=largest).contains(&bytes) {
            return Err(Errno::EINVAL);
        }
        let charge = messages as u64 * (bytes as u64 + MESSAGE_OVERHEAD);
        let mut charged = CHARGED.lock();
        let sum = charged.entry(credentials.uid).or_insert(0);
        if sum.saturating_add(charge) > current().process.limit(rlimit::MSGQUEUE) {
            return Err(Errno::EMFILE);
        }
        *sum += charge;
        drop(charged);
        Ok(Arc::new(Self {
            max_messages: messages as usize,
            message_bytes: bytes as usize,
            mode,
            uid: credentials.uid,
            gid: credentials.fsgid,
            charged: charge,
            state: SpinLock::new(State { messages: BTreeMap::new(), count: 0, notify: None }),
            receivers: WaitQueue::new(),
            senders: WaitQueue::new(),
            poll_set: PollSet::new(),
        }))
    }

    /// EACCES unless the caller may open the queue with `flags`.
    fn check(&self, flags: OpenFlags) -> Result<(), Errno> {
        let credentials = current().creds();
        let wanted = if flags.readable() { 4 } else { 0 } | if flags.writable() { 2 } else { 0 };
        let granted = if credentials.fsuid == self.uid {
            self.mode >> 6
        } else if credentials.in_group(self.gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        if wanted & !granted == 0 || credentials.has_cap(cap::DAC_OVERRIDE) { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Adds a message if there is room; hands back what could not be added.
    fn try_send(&self, priority: u32, message: Vec<u8>) -> Result<(), Vec<u8>> {
        let mut state = self.state.lock();
        if state.count >= self.max_messages {
            return Err(message);
        }
        let was_empty = state.count == 0;
        state.messages.entry(priority).or_default().push_back(message);
        state.count += 1;
        // A thread that waits in mq_receive takes it instead of the one to be notified.
        let notify = if was_empty && self.receivers.is_empty() { state.notify.take() } else { None };
        drop(state);
        self.receivers.wake_one();
        self.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
        if let Some(Notify { process, signal: Some((number, value)), .. }) = notify
            && let Some(process) = process.upgrade()
        {
            const SI_MESGQ: i32 = -3;
            let (pid, uid) = (current().process.pid, current().creds().uid);
            signal::send_to_process(&process, SigInfo::user(number, SI_MESGQ, pid, uid, value));
        }
        Ok(())
    }

    /// Takes the oldest message of the highest priority.
    fn try_receive(&self) -> Option<(u32, Vec<u8>)> {
        let mut state = self.state.lock();
        let mut highest = state.messages.last_entry()?;
        let priority = *highest.key();
        let message = highest.get_mut().pop_front()?;
        if highest.get().is_empty() {
            highest.remove();
        }
        state.count -= 1;
        drop(state);
        self.senders.wake_one();
        self.poll_set.notify(PollEvents::OUT | PollEvents::WRNORM);
        Some((priority, message))
    }
}

/// An open description's end: the queue may have lost its name.
struct Descriptor(Arc<MessageQueue>);

impl FileOps for Descriptor {
    /// What reading the file in /dev/mqueue says.
    fn read(&self, _file: &OpenFile, offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        let state = self.0.state.lock();
        let bytes: usize = state.messages.values().flatten().map(Vec::len).sum();
        let (kind, number, pid) = match &state.notify {
            Some(Notify { signal: Some((number, _)), pid, .. }) => (0, *number, *pid),
            Some(Notify { pid, .. }) => (1, 0, *pid),
            None => (0, 0, 0),
        };
        drop(state);
        let text = alloc::format!("QSIZE:{bytes:<10} NOTIFY:{kind:<5} SIGNO:{number:<5} NOTIFY_PID:{pid:<6}\n");
        let rest = usize::try_from(offset).ok().and_then(|offset| text.as_bytes().get(offset..)).unwrap_or(&[]);
        dst.write(rest)
    }

    fn advance(&self) -> Advance {
        Advance::Position
    }

    fn poll(&self, _file: &OpenFile, table: Option<&mut PollTable<'_>>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.0.poll_set);
        }
        let count = self.0.state.lock().count;
        let mut events = PollEvents::empty();
        if count > 0 {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if count < self.0.max_messages {
            events |= PollEvents::OUT | PollEvents::WRNORM;
        }
        events
    }

    /// Closing a descriptor ends the process's registration.
    fn flush(&self, _file: &OpenFile) -> Result<(), Errno> {
        let mut state = self.0.state.lock();
        if state.notify.as_ref().is_some_and(|notify| notify.pid == current().process.pid) {
            state.notify = None;
        }
        Ok(())
    }

    fn anonymous_name(&self) -> Option<String> {
        Some(String::from("anon_inode:[mqueue]"))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A queue's name: ENOENT, ENAMETOOLONG, EACCES.
fn read_name(addr: UserAddr) -> Result<Vec<u8>, Errno> {
    let name = crate::user::read_path(addr)?;
    if name.is_empty() {
        return Err(Errno::ENOENT);
    }
    if name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if name.contains(&b'/') || name == b"." || name == b".." {
        return Err(Errno::EACCES);
    }
    Ok(name)
}

/// mq_open(2): EINVAL, ENOENT, EEXIST, EACCES, EMFILE, ENOSPC, ENAMETOOLONG, EFAULT.
pub fn sys_mq_open(name: UserAddr, oflag: u32, mode: u32, attr: UserAddr) -> SysResult {
    let attr = match UserPtr::<MqAttr>::new(attr).non_null() {
        Some(pointer) if oflag & OpenFlags::CREAT.bits() != 0 => Some(pointer.read()?),
        _ => None,
    };
    let name = read_name(name)?;
    let flags = OpenFlags::from_bits_retain(oflag);
    let existing = TABLE.lock().names.get(&name).cloned();
    let queue = match existing {
        Some(_) if flags.contains(OpenFlags::CREAT | OpenFlags::EXCL) => return Err(Errno::EEXIST),
        Some(queue) => {
            if oflag & OpenFlags::ACCMODE == 3 {
                return Err(Errno::EINVAL);
            }
            queue.check(flags)?;
            queue
        }
        None if !flags.contains(OpenFlags::CREAT) => return Err(Errno::ENOENT),
        None => {
            let umask = current().fs.with(|fs| fs.umask());
            let queue = MessageQueue::new(attr, mode & 0o777 & !umask)?;
            let mut table = TABLE.lock();
            if table.names.len() >= MAX_QUEUES && !current().creds().has_cap(cap::SYS_RESOURCE) {
                return Err(Errno::ENOSPC);
            }
            // Another thread may have made it meanwhile.
            if table.names.contains_key(&name) {
                return Err(Errno::EEXIST);
            }
            table.names.insert(name, queue.clone());
            queue
        }
    };
    let kept = OpenFlags::from_bits_retain(oflag & (OpenFlags::ACCMODE | OpenFlags::NONBLOCK.bits()));
    // Queue descriptors are always closed by execve, as on Linux.
    install(OpenFile::anonymous(Arc::new(Descriptor(queue)), kept), true)
}

/// mq_unlink(2): ENOENT, EPERM.
pub fn sys_mq_unlink(name: UserAddr) -> SysResult {
    let name = read_name(name)?;
    let credentials = current().creds();
    let mut table = TABLE.lock();
    let queue = table.names.get(&name).ok_or(Errno::ENOENT)?;
    if queue.uid != credentials.fsuid && !credentials.has_cap(cap::FOWNER) {
        return Err(Errno::EPERM);
    }
    let gone = table.names.remove(&name);
    drop(table);
    drop(gone);
    Ok(0)
}

/// An absolute time-out on CLOCK_REALTIME: EFAULT, EINVAL.
fn deadline(timeout: UserAddr) -> Result<Deadline, Errno> {
    match UserPtr::<Timespec>::new(timeout).non_null() {
        Some(pointer) => clock::deadline(clock::REALTIME, pointer.read()?.to_ns()?, true).map(Some),
        None => Ok(None),
    }
}

/// The queue behind `fd`: EBADF also for another kind of file.
fn descriptor(fd: i32) -> Result<(Arc<OpenFile>, Arc<MessageQueue>), Errno> {
    let file = file(fd)?;
    let queue = file.downcast::<Descriptor>().ok_or(Errno::EBADF)?.0.clone();
    Ok((file, queue))
}

/// mq_timedsend(2): EAGAIN, EBADF, EINTR, EINVAL, EMSGSIZE, ETIMEDOUT.
pub fn sys_mq_timedsend(mqdes: i32, msg: UserAddr, len: usize, prio: u32, timeout: UserAddr) -> SysResult {
    let deadline = deadline(timeout)?;
    if prio >= PRIORITIES {
        return Err(Errno::EINVAL);
    }
    let (file, queue) = descriptor(mqdes)?;
    if !file.is_writable() {
        return Err(Errno::EBADF);
    }
    if len > queue.message_bytes {
        return Err(Errno::EMSGSIZE);
    }
    let mut text = Vec::new();
    text.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    text.resize(len, 0);
    if UserReader::new(msg, len)?.read(&mut text)? != len {
        return Err(Errno::EFAULT);
    }
    let mut left = match queue.try_send(prio, text) {
        Ok(()) => return Ok(0),
        Err(_) if file.is_nonblocking() => return Err(Errno::EAGAIN),
        Err(message) => Some(message),
    };
    let attempt = || match queue.try_send(prio, left.take()?) {
        Ok(()) => Some(()),
        Err(message) => {
            left = Some(message);
            None
        }
    };
    queue.senders.wait_until(WaitMode::Interruptible, deadline, WaitReason::new("mq_send"), attempt)?;
    Ok(0)
}

/// mq_timedreceive(2): EAGAIN, EBADF, EINTR, EINVAL, EMSGSIZE, ETIMEDOUT.
pub fn sys_mq_timedreceive(mqdes: i32, msg: UserAddr, len: usize, prio: UserAddr, timeout: UserAddr) -> SysResult {
    let deadline = deadline(timeout)?;
    let (file, queue) = descriptor(mqdes)?;
    if !file.is_readable() {
        return Err(Errno::EBADF);
    }
    if len < queue.message_bytes {
        return Err(Errno::EMSGSIZE);
    }
    let (priority, text) = match queue.try_receive() {
        Some(message) => message,
        None if file.is_nonblocking() => return Err(Errno::EAGAIN),
        None => {
            let reason = WaitReason::new("mq_receive");
            queue.receivers.wait_until(WaitMode::Interruptible, deadline, reason, || queue.try_receive())?
        }
    };
    UserPtr::new(prio).write_opt(&priority)?;
    UserPtr::<u8>::new(msg).write_slice(&text)?;
    Ok(text.len())
}

/// `struct sigevent`, as far as mq_notify looks at it.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Sigevent {
    value: u64,
    signo: i32,
    notify: i32,
    rest: [u64; 6],
}

/// mq_notify(2): EBADF, EBUSY, EINVAL. SIGEV_THREAD comes here as a netlink socket's descriptor, of which there are none.
pub fn sys_mq_notify(mqdes: i32, sevp: UserAddr) -> SysResult {
    const SIGEV_SIGNAL: i32 = 0;
    const SIGEV_NONE: i32 = 1;
    const SIGEV_THREAD: i32 = 2;
    let event = match UserPtr::<Sigevent>::new(sevp).non_null() {
        Some(pointer) => Some(pointer.read()?),
        None => None,
    };
    let signal = match &event {
        None => None,
        Some(event) => match event.notify {
            SIGEV_NONE => None,
            SIGEV_SIGNAL if (1..=64).contains(&event.signo) => Some((event.signo as u32, event.value)),
            SIGEV_THREAD => return Err(Errno::EBADF),
            _ => return Err(Errno::EINVAL),
        },
    };
    let (_file, queue) = descriptor(mqdes)?;
    let process = &current().process;
    let mut state = queue.state.lock();
    if event.is_none() {
        if state.notify.as_ref().is_some_and(|notify| notify.pid == process.pid) {
            state.notify = None;
        }
        return Ok(0);
    }
    if state.notify.as_ref().is_some_and(|notify| notify.process.strong_count() > 0) {
        return Err(Errno::EBUSY);
    }
    state.notify = Some(Notify { process: Arc::downgrade(process), pid: process.pid, signal });
    Ok(0)
}

/// mq_getattr(3) and mq_setattr(3): EBADF, EINVAL, EFAULT.
pub fn sys_mq_getsetattr(mqdes: i32, new: UserAddr, old: UserAddr) -> SysResult {
    let nonblocking = i64::from(OpenFlags::NONBLOCK.bits());
    let wanted = match UserPtr::<MqAttr>::new(new).non_null() {
        Some(pointer) => Some(pointer.read()?.flags),
        None => None,
    };
    if wanted.is_some_and(|flags| flags & !nonblocking != 0) {
        return Err(Errno::EINVAL);
    }
    let (file, queue) = descriptor(mqdes)?;
    let before = MqAttr {
        flags: if file.is_nonblocking() { nonblocking } else { 0 },
        max_messages: queue.max_messages as i64,
        message_bytes: queue.message_bytes as i64,
        messages: queue.state.lock().count as i64,
        reserved: [0; 4],
    };
    if let Some(flags) = wanted {
        let mut open_flags = file.flags();
        open_flags.set(OpenFlags::NONBLOCK, flags != 0);
        file.set_flags(open_flags);
    }
    UserPtr::new(old).write_opt(&before)?;
    Ok(0)
}
