//! System V message queues: msgget(2), msgsnd(2), msgrcv(2), msgctl(2).
//!
//! What a queue does is `base::message_queue`: by hand-over, a sender gives its message straight to the receiver that waited
//! longest for one of its type, and whoever makes room completes the senders that wait. What became of a wait is left with its
//! thread ([`Ended`]). Messages are copied with no lock held. Lock order: `TABLE`, then a queue's state, then a thread's end.

use super::sysv::{Get, IdTable, IpcPerm, Permissions, Which, now_seconds, with_caller};
use crate::prelude::*;
use crate::sync::{Park, WaitKind, WaitReason, WakeList};
use crate::task::credentials::cap;
use base::message_queue::{End, Request};
use core::fmt::Write;
use core::sync::atomic::{AtomicUsize, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// kernel.msgmax, msgmnb, msgmni.
pub static MSGMAX: AtomicUsize = AtomicUsize::new(8192);
pub static MSGMNB: AtomicUsize = AtomicUsize::new(16_384);
pub static MSGMNI: AtomicUsize = AtomicUsize::new(32_000);

fn limit(of: &AtomicUsize) -> usize {
    of.load(Ordering::Relaxed)
}

pub type Text = Vec<u8>;
pub type Message = base::message_queue::Message<Text>;

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
pub fn get(key: i32, flags: i32) -> SysResult {
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

/// kernel.msgmax: the most bytes of one message.
pub fn max_bytes() -> usize {
    limit(&MSGMAX)
}

/// msgsnd(2): EINVAL, ENOMEM, EACCES, EAGAIN, EIDRM, EINTR.
pub fn send(id: i32, message: Message, nowait: bool) -> SysResult {
    let queue = find(id)?;
    let pid = current().process.pid;
    let mut effects = Effects::default();
    let mut state = queue.state.lock();
    with_caller(|caller| state.permissions.check(caller, 0o222))?;
    if state.removed {
        return Err(Errno::EIDRM);
    }
    state.queue.reserve()?;
    let message = match state.queue.send(message, &mut effects) {
        Ok(()) => {
            effects.sender = Some(pid);
            state.note(&effects);
            drop(state);
            effects.woken.wake();
            return Ok(0);
        }
        Err(message) => message,
    };
    if nowait {
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

/// msgrcv(2): EINVAL, EACCES, E2BIG, ENOMSG, EIDRM, EINTR.
pub fn receive(id: i32, request: Request, nowait: bool) -> Result<Message, Errno> {
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
            return Ok(message);
        }
        if nowait {
            return Err(Errno::ENOMSG);
        }
        state.queue.wait_to_receive(Waiter::own(), request);
        drop(state);
        match wait(&queue, WaitKind::Msgrcv)? {
            Outcome::Ended(End::Received(message)) => return Ok(message),
            Outcome::Ended(End::Failed(errno)) => return Err(errno),
            Outcome::Ended(End::Sent) | Outcome::Again => {}
        }
    }
}

/// MSG_COPY: the message at a place, which stays. Here a text that is cut (MSG_NOERROR) is EINVAL.
pub fn copy(id: i32, size: usize, place: usize, truncate: bool) -> Result<Message, Errno> {
    let queue = find(id)?;
    let state = queue.state.lock();
    with_caller(|caller| state.permissions.check(caller, 0o444))?;
    match state.queue.peek(place)? {
        None => Err(Errno::ENOMSG),
        Some(message) if message.text.len() > size => Err(if truncate { Errno::EINVAL } else { Errno::E2BIG }),
        Some(message) => Ok(message.clone()),
    }
}

/// `struct msqid64_ds`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct MsqidDs {
    perm: IpcPerm,
    stime: i64,
    rtime: i64,
    ctime: i64,
    cbytes: u64,
    qnum: u64,
    pub qbytes: u64,
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
pub struct MsgInfo {
    pool: i32,
    map: i32,
    max: i32,
    mnb: i32,
    mni: i32,
    ssz: i32,
    tql: i32,
    seg: u32,
}

/// IPC_INFO, or with what there is now MSG_INFO; and the highest index.
pub fn info(of_now: bool) -> (MsgInfo, usize) {
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
    if of_now {
        info.pool = queues.len() as i32;
        info.map = queues.iter().map(|queue| queue.state.lock().queue.len() as i32).sum();
        info.tql = queues.iter().map(|queue| queue.state.lock().queue.bytes() as i32).sum();
    }
    (info, TABLE.lock().max_index())
}

/// IPC_STAT and its kin: the queue's number and description. EINVAL, EACCES.
pub fn stat(which: Which) -> Result<(i32, MsqidDs), Errno> {
    let table = TABLE.lock();
    let id = which.id(&table)?;
    let (queue, key) = (table.get(id)?.clone(), table.key(id)?);
    drop(table);
    if which.needs_right() {
        with_caller(|caller| queue.state.lock().permissions.check(caller, 0o444))?;
    }
    Ok((id, describe(&queue, key)))
}

/// IPC_SET: EINVAL, EPERM.
pub fn set(id: i32, wanted: &MsqidDs) -> Result<(), Errno> {
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
    Ok(())
}

/// IPC_RMID: EINVAL, EPERM.
pub fn remove(id: i32) -> Result<(), Errno> {
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
    Ok(())
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
