//! System V message queues: msgget(2), msgsnd(2), msgrcv(2), msgctl(2).
//!
//! By hand-over: a sender gives its message straight to the receiver that waited longest for one of its type; whoever makes
//! room completes the senders that wait, in their order. Messages are copied with no lock held. Lock order: `TABLE`, then a
//! queue's state.

use super::sysv::{
    Get, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, IdTable, IpcPerm, Permissions, now_seconds, with_caller,
};
use crate::prelude::*;
use crate::process::credentials::cap;
use crate::sync::{Park, WaitError, WaitReason};
use alloc::collections::VecDeque;
use core::fmt::Write;
use core::sync::atomic::{AtomicUsize, Ordering};
use smallvec::SmallVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const IPC_NOWAIT: i32 = 0o4000;
const MSG_NOERROR: i32 = 0o10000;
const MSG_EXCEPT: i32 = 0o20000;
const MSG_COPY: i32 = 0o40000;
const MSG_STAT: i32 = 11;
const MSG_INFO: i32 = 12;
const MSG_STAT_ANY: i32 = 13;

/// kernel.msgmax, msgmnb, msgmni.
pub static MSGMAX: AtomicUsize = AtomicUsize::new(8192);
pub static MSGMNB: AtomicUsize = AtomicUsize::new(16_384);
pub static MSGMNI: AtomicUsize = AtomicUsize::new(32_000);

fn limit(of: &AtomicUsize) -> usize {
    of.load(Ordering::Relaxed)
}

struct Message {
    kind: i64,
    data: Vec<u8>,
}

/// Which messages a receiver takes.
#[derive(Clone, Copy)]
enum Wanted {
    Any,
    Type(i64),
    NotType(i64),
    /// The lowest type up to this.
    UpTo(i64),
    /// The message at this place, which stays (MSG_COPY).
    At(usize),
}

impl Wanted {
    fn matches(self, kind: i64) -> bool {
        match self {
            Wanted::Any => true,
            Wanted::Type(wanted) => kind == wanted,
            Wanted::NotType(unwanted) => kind != unwanted,
            Wanted::UpTo(limit) => kind <= limit,
            Wanted::At(_) => false,
        }
    }
}

/// A thread that waits: `slot` holds what it sends until it is taken, or what it received.
struct Waiter {
    task: Arc<Task>,
    state: SpinLock<WaitState>,
}

enum WaitState {
    Receiving { wanted: Wanted, size: usize, truncate: bool },
    Sending(Message),
    Received(Message),
    Sent,
    Failed(Errno),
}

struct State {
    permissions: Permissions,
    messages: VecDeque<Message>,
    bytes: u64,
    max_bytes: u64,
    receivers: VecDeque<Arc<Waiter>>,
    senders: VecDeque<Arc<Waiter>>,
    send_time: i64,
    receive_time: i64,
    change_time: i64,
    last_sender: u32,
    last_receiver: u32,
    removed: bool,
}

struct Queue {
    id: i32,
    state: SpinLock<State>,
}

static TABLE: SpinLock<IdTable<Arc<Queue>>> = SpinLock::new(IdTable::new());

type Woken = SmallVec<[Arc<Task>; 4]>;

fn wake(woken: &mut Woken) {
    for task in woken.drain(..) {
        crate::sched::unpark_owned(task);
    }
}

impl State {
    fn has_room(&self, len: usize) -> bool {
        self.bytes + len as u64 <= self.max_bytes && (self.messages.len() as u64) < self.max_bytes
    }

    /// Gives a message to a waiting receiver, or queues it.
    fn put(&mut self, message: Message, sender: u32, woken: &mut Woken) {
        self.send_time = now_seconds();
        self.last_sender = sender;
        let mut at = 0;
        while let Some(receiver) = self.receivers.get(at) {
            let mut state = receiver.state.lock();
            let WaitState::Receiving { wanted, size, truncate } = *state else {
                at += 1;
                continue;
            };
            if !wanted.matches(message.kind) {
                at += 1;
                continue;
            }
            let fits = truncate || message.data.len() <= size;
            woken.push(receiver.task.clone());
            let pid = receiver.task.process.pid;
            if !fits {
                *state = WaitState::Failed(Errno::E2BIG);
                drop(state);
                self.receivers.remove(at);
                continue;
            }
            *state = WaitState::Received(message);
            drop(state);
            self.receivers.remove(at);
            self.receive_time = self.send_time;
            self.last_receiver = pid;
            return;
        }
        self.bytes += message.data.len() as u64;
        self.messages.push_back(message);
    }

    /// Completes the senders that now have room.
    fn room_was_made(&mut self, woken: &mut Woken) {
        while let Some(sender) = self.senders.front().cloned() {
            let mut state = sender.state.lock();
            match core::mem::replace(&mut *state, WaitState::Sent) {
                WaitState::Sending(message) if !self.has_room(message.data.len()) => {
                    *state = WaitState::Sending(message);
                    return;
                }
                WaitState::Sending(message) => {
                    drop(state);
                    self.senders.pop_front();
                    self.put(message, sender.task.process.pid, woken);
                }
                other => {
                    *state = other;
                    drop(state);
                    self.senders.pop_front();
                }
            }
            woken.push(sender.task.clone());
        }
    }

    /// Where the message that `wanted` takes next is.
    fn find(&self, wanted: Wanted) -> Option<usize> {
        match wanted {
            Wanted::At(at) => (at < self.messages.len()).then_some(at),
            Wanted::UpTo(limit) => {
                let candidates = self.messages.iter().enumerate().filter(|(_, message)| message.kind <= limit);
                candidates.min_by_key(|(at, message)| (message.kind, *at)).map(|(at, _)| at)
            }
            _ => self.messages.iter().position(|message| wanted.matches(message.kind)),
        }
    }
}

fn find(id: i32) -> Result<Arc<Queue>, Errno> {
    Ok(TABLE.lock().get(id)?.clone())
}

/// msgget(2): ENOENT, EEXIST, EACCES, ENOSPC.
pub fn sys_msgget(key: i32, flags: i32) -> SysResult {
    let mut table = TABLE.lock();
    match table.get_or_create(key, flags)? {
        Get::Existing(id) => {
            let queue = table.get(id)?.clone();
            drop(table);
            with_caller(|caller| queue.state.lock().permissions.check(caller, flags as u32))?;
            Ok(id as usize)
        }
        Get::Create => {
            let permissions = with_caller(|caller| Permissions::new(caller, flags as u32));
            let id = table.add(key, limit(&MSGMNI), |id| {
                let state = State {
                    permissions,
                    messages: VecDeque::new(),
                    bytes: 0,
                    max_bytes: limit(&MSGMNB) as u64,
                    receivers: VecDeque::new(),
                    senders: VecDeque::new(),
                    send_time: 0,
                    receive_time: 0,
                    change_time: now_seconds(),
                    last_sender: 0,
                    last_receiver: 0,
                    removed: false,
                };
                Arc::new(Queue { id, state: SpinLock::new(state) })
            })?;
            Ok(id as usize)
        }
    }
}

/// msgsnd(2): EINVAL, EFAULT, ENOMEM, EACCES, EAGAIN, EIDRM, EINTR.
pub fn sys_msgsnd(id: i32, msgp: UserAddr, size: usize, flags: i32) -> SysResult {
    let kind = UserPtr::<i64>::new(msgp).read()?;
    if size > limit(&MSGMAX) || id < 0 || kind < 1 {
        return Err(Errno::EINVAL);
    }
    let mut data = Vec::new();
    data.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
    data.resize(size, 0);
    let body = msgp.checked_add(8).ok_or(Errno::EFAULT)?;
    hal::user::copy_from_user(&mut data, body)?;
    let queue = find(id)?;
    let mut woken = Woken::new();
    let mut state = queue.state.lock();
    with_caller(|caller| state.permissions.check(caller, 0o222))?;
    if state.removed {
        return Err(Errno::EIDRM);
    }
    let message = Message { kind, data };
    if state.senders.is_empty() && state.has_room(size) {
        state.put(message, current().process.pid, &mut woken);
        drop(state);
        wake(&mut woken);
        return Ok(0);
    }
    if flags & IPC_NOWAIT != 0 {
        return Err(Errno::EAGAIN);
    }
    let waiter =
        Arc::new(Waiter { task: crate::process::current_arc(), state: SpinLock::new(WaitState::Sending(message)) });
    state.senders.push_back(waiter.clone());
    drop(state);
    match wait(&queue, &waiter, "msgsnd")? {
        WaitState::Failed(errno) => Err(errno),
        _ => Ok(0),
    }
}

/// Sleeps until the waiter's operation is complete and takes the result. A signal: ERESTARTNOHAND.
fn wait(queue: &Queue, waiter: &Arc<Waiter>, kind: &'static str) -> Result<WaitState, Errno> {
    let is_complete = || {
        let state = waiter.state.lock();
        (!matches!(*state, WaitState::Sending(_) | WaitState::Receiving { .. })).then_some(())
    };
    let reason = WaitReason::on(kind, queue.id as u64);
    if let Err(WaitError::Interrupted | WaitError::TimedOut) =
        Park::park_until(WaitMode::Interruptible, None, reason, is_complete)
    {
        let mut state = queue.state.lock();
        if is_complete().is_none() {
            let was_first = state.senders.front().is_some_and(|first| Arc::ptr_eq(first, waiter));
            state.senders.retain(|other| !Arc::ptr_eq(other, waiter));
            state.receivers.retain(|other| !Arc::ptr_eq(other, waiter));
            let mut woken = Woken::new();
            if was_first {
                // A shorter message may have stood behind this one.
                state.room_was_made(&mut woken);
            }
            drop(state);
            wake(&mut woken);
            return Err(Errno::ERESTARTNOHAND);
        }
    }
    Ok(core::mem::replace(&mut *waiter.state.lock(), WaitState::Sent))
}

/// Copies a message out: EFAULT. Answers the bytes of its text.
fn deliver(message: &Message, msgp: UserAddr, size: usize) -> SysResult {
    UserPtr::<i64>::new(msgp).write(&message.kind)?;
    let len = message.data.len().min(size);
    let body = msgp.checked_add(8).ok_or(Errno::EFAULT)?;
    UserPtr::<u8>::new(body).write_slice(&message.data[..len])?;
    Ok(len)
}

/// msgrcv(2): EINVAL, EACCES, E2BIG, ENOMSG, EIDRM, EFAULT, EINTR.
pub fn sys_msgrcv(id: i32, msgp: UserAddr, size: usize, mtype: i64, flags: i32) -> SysResult {
    if id < 0 || (size as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    let wanted = match mtype {
        place if flags & MSG_COPY != 0 => {
            if flags & MSG_EXCEPT != 0 || flags & IPC_NOWAIT == 0 {
                return Err(Errno::EINVAL);
            }
            Wanted::At(usize::try_from(place).unwrap_or(usize::MAX))
        }
        0 => Wanted::Any,
        limit if limit < 0 => Wanted::UpTo(limit.checked_neg().unwrap_or(i64::MAX)),
        kind if flags & MSG_EXCEPT != 0 => Wanted::NotType(kind),
        kind => Wanted::Type(kind),
    };
    let truncate = flags & MSG_NOERROR != 0;
    let queue = find(id)?;
    let mut woken = Woken::new();
    let mut state = queue.state.lock();
    with_caller(|caller| state.permissions.check(caller, 0o444))?;
    if state.removed {
        return Err(Errno::EIDRM);
    }
    if let Some(at) = state.find(wanted) {
        if state.messages[at].data.len() > size && !truncate {
            return Err(Errno::E2BIG);
        }
        let message = if let Wanted::At(_) = wanted {
            let message = &state.messages[at];
            Message { kind: message.kind, data: message.data.clone() }
        } else {
            let Some(message) = state.messages.remove(at) else { return Err(Errno::ENOMSG) };
            state.bytes -= message.data.len() as u64;
            state.receive_time = now_seconds();
            state.last_receiver = current().process.pid;
            state.room_was_made(&mut woken);
            message
        };
        drop(state);
        wake(&mut woken);
        return deliver(&message, msgp, size);
    }
    if flags & IPC_NOWAIT != 0 {
        return Err(Errno::ENOMSG);
    }
    let waiter = Arc::new(Waiter {
        task: crate::process::current_arc(),
        state: SpinLock::new(WaitState::Receiving { wanted, size, truncate }),
    });
    state.receivers.push_back(waiter.clone());
    drop(state);
    match wait(&queue, &waiter, "msgrcv")? {
        WaitState::Received(message) => deliver(&message, msgp, size),
        WaitState::Failed(errno) => Err(errno),
        _ => Err(Errno::EIDRM),
    }
}

/// `struct msqid64_ds`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct MsqidDs {
    perm: IpcPerm,
    stime: i64,
    rtime: i64,
    ctime: i64,
    cbytes: u64,
    qnum: u64,
    qbytes: u64,
    lspid: u32,
    lrpid: u32,
    unused: [u64; 2],
}

fn describe(queue: &Queue, key: i32) -> MsqidDs {
    let state = queue.state.lock();
    MsqidDs {
        perm: IpcPerm::new(&state.permissions, queue.id, key, 0),
        stime: state.send_time,
        rtime: state.receive_time,
        ctime: state.change_time,
        cbytes: state.bytes,
        qnum: state.messages.len() as u64,
        qbytes: state.max_bytes,
        lspid: state.last_sender,
        lrpid: state.last_receiver,
        unused: [0; 2],
    }
}

/// `struct msginfo`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct MsgInfo {
    pool: i32,
    map: i32,
    max: i32,
    mnb: i32,
    mni: i32,
    ssz: i32,
    tql: i32,
    seg: u32,
}

/// msgctl(2): EINVAL, EACCES, EPERM, EFAULT.
pub fn sys_msgctl(id: i32, cmd: i32, buf: UserAddr) -> SysResult {
    if id < 0 || cmd < 0 {
        return Err(Errno::EINVAL);
    }
    match cmd {
        IPC_INFO | MSG_INFO => {
            let queues: Vec<Arc<Queue>> = TABLE.lock().iter().map(|(_, _, queue)| queue.clone()).collect();
            let mut info = MsgInfo {
                pool: (limit(&MSGMNI) * limit(&MSGMNB) / 1024) as i32,
                map: limit(&MSGMNB) as i32,
                max: limit(&MSGMAX) as i32,
                mnb: limit(&MSGMNB) as i32,
                mni: limit(&MSGMNI) as i32,
                ssz: 16,
                tql: limit(&MSGMNB) as i32,
                seg: 0xffff,
            };
            if cmd == MSG_INFO {
                info.pool = queues.len() as i32;
                info.map = queues.iter().map(|queue| queue.state.lock().messages.len() as i32).sum();
                info.tql = queues.iter().map(|queue| queue.state.lock().bytes as i32).sum();
            }
            UserPtr::new(buf).write(&info)?;
            Ok(TABLE.lock().max_index())
        }
        IPC_STAT | MSG_STAT | MSG_STAT_ANY => {
            let table = TABLE.lock();
            let id = if cmd == IPC_STAT { id } else { table.at_index(id)?.0 };
            let (queue, key) = (table.get(id)?.clone(), table.key(id)?);
            drop(table);
            if cmd != MSG_STAT_ANY {
                with_caller(|caller| queue.state.lock().permissions.check(caller, 0o444))?;
            }
            UserPtr::new(buf).write(&describe(&queue, key))?;
            Ok(if cmd == IPC_STAT { 0 } else { id as usize })
        }
        IPC_SET => {
            let wanted: MsqidDs = UserPtr::new(buf).read()?;
            let queue = find(id)?;
            let may_raise = current().creds().has_cap(cap::SYS_RESOURCE);
            let mut woken = Woken::new();
            with_caller(|caller| {
                let mut state = queue.state.lock();
                state.permissions.check_owner(caller)?;
                if wanted.qbytes > limit(&MSGMNB) as u64 && !may_raise {
                    return Err(Errno::EPERM);
                }
                wanted.perm.apply(&mut state.permissions)?;
                state.max_bytes = wanted.qbytes;
                state.change_time = now_seconds();
                state.room_was_made(&mut woken);
                Ok(())
            })?;
            wake(&mut woken);
            Ok(0)
        }
        IPC_RMID => {
            let queue = find(id)?;
            with_caller(|caller| queue.state.lock().permissions.check_owner(caller))?;
            let gone = TABLE.lock().remove(id)?;
            let mut state = queue.state.lock();
            state.removed = true;
            let mut waiters: Vec<Arc<Waiter>> = state.receivers.drain(..).collect();
            waiters.extend(state.senders.drain(..));
            let messages = core::mem::take(&mut state.messages);
            state.bytes = 0;
            for waiter in &waiters {
                *waiter.state.lock() = WaitState::Failed(Errno::EIDRM);
            }
            drop(state);
            drop((messages, gone));
            wake(&mut waiters.iter().map(|waiter| waiter.task.clone()).collect());
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// /proc/sysvipc/msg.
pub fn format_table() -> String {
    let mut out = String::from(
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n",
    );
    let queues: Vec<(i32, Arc<Queue>)> = TABLE.lock().iter().map(|(_, key, queue)| (key, queue.clone())).collect();
    for (key, queue) in queues {
        let ds = describe(&queue, key);
        let _ = writeln!(
            out,
            "{:>10} {:>10}  {:>4o}  {:>10} {:>10} {:>5} {:>5} {:>5} {:>5} {:>5} {:>5} {:>10} {:>10} {:>10}",
            key,
            queue.id,
            ds.perm.mode,
            ds.cbytes,
            ds.qnum,
            ds.lspid,
            ds.lrpid,
            ds.perm.uid,
            ds.perm.gid,
            ds.perm.cuid,
            ds.perm.cgid,
            ds.stime,
            ds.rtime,
            ds.ctime
        );
    }
    out
}
