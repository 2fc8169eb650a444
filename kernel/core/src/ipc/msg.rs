//! System V message queues: msgget(2), msgsnd(2), msgrcv(2), msgctl(2).
//!
//! What a queue does is `base::message_queue`: by hand-over, a sender gives its message straight to the receiver that waited
//! longest for one of its type, and whoever makes room completes the senders that wait. What became of a wait is left with its
//! thread ([`Ended`]). Messages are copied with no lock held. Lock order: `TABLE`, then a queue's state, then a thread's end.

use super::sysv::{
    Get, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, IdTable, IpcPerm, Permissions, now_seconds, with_caller,
};
use crate::prelude::*;
use crate::sync::{Park, WaitKind, WaitReason, WakeList};
use crate::task::credentials::cap;
use base::message_queue::{End, Request, Wanted};
use core::fmt::Write;
use core::sync::atomic::{AtomicUsize, Ordering};
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

type Text = Vec<u8>;
type Message = base::message_queue::Message<Text>;

enum Outcome {
    Ended(End<Text>),
    /// The queue's permissions may have changed: the receiver asks again.
    Again,
}

/// How a thread's wait in a queue ended; nothing while it waits.
pub struct Ended(SpinLock<Option<Outcome>>);

impl Ended {
    pub(super) const fn new() -> Self {
        Self(SpinLock::new(None))
    }
    fn set(&self, outcome: Outcome) {
        *self.0.leaf() = Some(outcome);
    }
    fn take(&self) -> Option<Outcome> {
        self.0.leaf().take()
    }
}

/// A thread that waits; they are told apart by identity.
struct Waiter(Arc<Task>);

impl Waiter {
    /// The calling thread.
    fn own() -> Self {
        Self(crate::task::current_arc())
    }
}

impl PartialEq for Waiter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

struct State {
    permissions: Permissions,
    queue: base::message_queue::Queue<Waiter, Text>,
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

/// kernel.msg_next_id: -1 when none was asked for.
pub fn next_id() -> i32 {
    TABLE.lock().next_id().unwrap_or(-1)
}

/// Sets it: EINVAL.
pub fn set_next_id(text: &str) -> Result<(), Errno> {
    TABLE.lock().set_next_id(super::sysv::read_next_id(text)?);
    Ok(())
}

/// What a call does to a queue: whose waits it ends, and who sent and received last by it.
#[derive(Default)]
struct Effects {
    woken: WakeList,
    sender: Option<u32>,
    receiver: Option<u32>,
}

impl base::message_queue::Ended<Waiter, Text> for Effects {
    fn push(&mut self, waiter: Waiter, end: End<Text>) {
        let task = waiter.0;
        match end {
            End::Sent => self.sender = Some(task.process.pid),
            End::Received(_) => self.receiver = Some(task.process.pid),
            End::Failed(_) => {}
        }
        task.ipc.msg.set(Outcome::Ended(end));
        self.woken.push(task);
    }
}

impl State {
    fn note(&mut self, effects: &Effects) {
        let now = now_seconds();
        if let Some(pid) = effects.sender {
            (self.send_time, self.last_sender) = (now, pid);
        }
        if let Some(pid) = effects.receiver {
            (self.receive_time, self.last_receiver) = (now, pid);
        }
    }
}

fn find(id: i32) -> Result<Arc<Queue>, Errno> {
    Ok(TABLE.leaf().get(id)?.clone())
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
                    queue: base::message_queue::Queue::new(limit(&MSGMNB) as u64),
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
    let mut text = Text::new();
    text.try_room(size)?;
    let body = msgp.checked_add(8).ok_or(Errno::EFAULT)?;
    if hal::user::append_from_user(&mut text, body, size) != size {
        return Err(Errno::EFAULT);
    }
    let queue = find(id)?;
    let pid = current().process.pid;
    let mut effects = Effects::default();
    let mut state = queue.state.lock();
    with_caller(|caller| state.permissions.check(caller, 0o222))?;
    if state.removed {
        return Err(Errno::EIDRM);
    }
    state.queue.reserve()?;
    let message = match state.queue.send(Message { kind, text }, &mut effects) {
        Ok(()) => {
            effects.sender = Some(pid);
            state.note(&effects);
            drop(state);
            effects.woken.wake();
            return Ok(0);
        }
        Err(message) => message,
    };
    if flags & IPC_NOWAIT != 0 {
        return Err(Errno::EAGAIN);
    }
    state.queue.wait_to_send(Waiter::own(), message);
    drop(state);
    match wait(&queue, WaitKind::Msgsnd)? {
        Outcome::Ended(End::Failed(errno)) => Err(errno),
        _ => Ok(0),
    }
}

/// Sleeps until the wait has ended. A signal: ERESTARTNOHAND.
fn wait(queue: &Queue, kind: WaitKind) -> Result<Outcome, Errno> {
    let ended = &current().ipc.msg;
    let take = || ended.take();
    let reason = WaitReason::on(kind, queue.id as u64);
    Park::park_until(WaitMode::Interruptible, None, reason, take).or_else(|_| {
        let was_in_line = queue.state.lock().queue.cancel(&Waiter::own());
        // Else it ended before the signal could.
        if was_in_line { Err(Errno::ERESTARTNOHAND) } else { take().ok_or(Errno::ERESTARTNOHAND) }
    })
}

/// Copies a message out: EFAULT. Answers the bytes of its text.
fn deliver(message: &Message, msgp: UserAddr, size: usize) -> SysResult {
    UserPtr::<i64>::new(msgp).write(&message.kind)?;
    let len = message.text.len().min(size);
    let body = msgp.checked_add(8).ok_or(Errno::EFAULT)?;
    UserPtr::<u8>::new(body).write_slice(&message.text[..len])?;
    Ok(len)
}

/// msgrcv(2): EINVAL, EACCES, E2BIG, ENOMSG, EIDRM, EFAULT, EINTR.
pub fn sys_msgrcv(id: i32, msgp: UserAddr, size: usize, mtype: i64, flags: i32) -> SysResult {
    if id < 0 || (size as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    let truncate = flags & MSG_NOERROR != 0;
    if flags & MSG_COPY != 0 {
        if flags & MSG_EXCEPT != 0 || flags & IPC_NOWAIT == 0 {
            return Err(Errno::EINVAL);
        }
        return copy(id, msgp, size, usize::try_from(mtype).unwrap_or(usize::MAX), truncate);
    }
    let request = Request { wanted: Wanted::new(mtype, flags & MSG_EXCEPT != 0), size, truncate };
    let queue = find(id)?;
    loop {
        let mut effects = Effects::default();
        let mut state = queue.state.lock();
        with_caller(|caller| state.permissions.check(caller, 0o444))?;
        if state.removed {
            return Err(Errno::EIDRM);
        }
        if let Some(message) = state.queue.receive(&request, &mut effects)? {
            effects.receiver.get_or_insert(current().process.pid);
            state.note(&effects);
            drop(state);
            effects.woken.wake();
            return deliver(&message, msgp, size);
        }
        if flags & IPC_NOWAIT != 0 {
            return Err(Errno::ENOMSG);
        }
        state.queue.wait_to_receive(Waiter::own(), request);
        drop(state);
        match wait(&queue, WaitKind::Msgrcv)? {
            Outcome::Ended(End::Received(message)) => return deliver(&message, msgp, size),
            Outcome::Ended(End::Failed(errno)) => return Err(errno),
            Outcome::Ended(End::Sent) | Outcome::Again => {}
        }
    }
}

/// MSG_COPY: the message at a place, which stays. Here a text that is cut (MSG_NOERROR) is EINVAL.
fn copy(id: i32, msgp: UserAddr, size: usize, place: usize, truncate: bool) -> SysResult {
    let queue = find(id)?;
    let state = queue.state.lock();
    with_caller(|caller| state.permissions.check(caller, 0o444))?;
    let message = match state.queue.peek(place)? {
        None => return Err(Errno::ENOMSG),
        Some(message) if message.text.len() > size => {
            return Err(if truncate { Errno::EINVAL } else { Errno::E2BIG });
        }
        Some(message) => message.clone(),
    };
    drop(state);
    deliver(&message, msgp, size)
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
        cbytes: state.queue.bytes(),
        qnum: state.queue.len() as u64,
        qbytes: state.queue.max_bytes(),
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
                info.map = queues.iter().map(|queue| queue.state.lock().queue.len() as i32).sum();
                info.tql = queues.iter().map(|queue| queue.state.lock().queue.bytes() as i32).sum();
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
            let mut effects = Effects::default();
            with_caller(|caller| {
                let mut state = queue.state.lock();
                state.permissions.check_owner(caller)?;
                if wanted.qbytes > limit(&MSGMNB) as u64 && !may_raise {
                    return Err(Errno::EPERM);
                }
                wanted.perm.apply(&mut state.permissions)?;
                state.change_time = now_seconds();
                for receiver in state.queue.drain_receivers() {
                    receiver.0.ipc.msg.set(Outcome::Again);
                    effects.woken.push(receiver.0);
                }
                state.queue.set_max_bytes(wanted.qbytes, &mut effects);
                state.note(&effects);
                Ok(())
            })?;
            effects.woken.wake();
            Ok(0)
        }
        IPC_RMID => {
            let queue = find(id)?;
            with_caller(|caller| queue.state.lock().permissions.check_owner(caller))?;
            let gone = TABLE.lock().remove(id)?;
            let mut state = queue.state.lock();
            state.removed = true;
            let mut effects = Effects::default();
            let messages = state.queue.remove(&mut effects);
            drop(state);
            drop((messages, gone));
            effects.woken.wake();
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
    let queues: Vec<(i32, Arc<Queue>)> =
        Vec::try_collect(TABLE.lock().iter().map(|(_, key, queue)| (key, queue.clone()))).unwrap_or_default();
    for (key, queue) in queues {
        if !text_room(&mut out, 256) {
            break;
        }
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
