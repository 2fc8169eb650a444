//! System V IPC: msgget(2), semget(2), shmget(2) and their families.

use crate::ipc::sem::{self, Ops};
use crate::ipc::sysv::{IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, Which};
use crate::ipc::{msg, shm};
use crate::prelude::*;
use crate::time::Timespec;
use base::message_queue::{Request, Wanted};
use base::semaphore::{MAX_VALUE, Op};
use zerocopy::IntoBytes;

const GETPID: i32 = 11;
const GETVAL: i32 = 12;
const GETALL: i32 = 13;
const GETNCNT: i32 = 14;
const GETZCNT: i32 = 15;
const SETVAL: i32 = 16;
const SETALL: i32 = 17;
const SEM_STAT: i32 = 18;
const SEM_INFO: i32 = 19;
const SEM_STAT_ANY: i32 = 20;

const IPC_NOWAIT: i32 = 0o4000;
const MSG_NOERROR: i32 = 0o10000;
const MSG_EXCEPT: i32 = 0o20000;
const MSG_COPY: i32 = 0o40000;
const MSG_STAT: i32 = 11;
const MSG_INFO: i32 = 12;
const MSG_STAT_ANY: i32 = 13;

const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;

/// What *_STAT with number `id` and its kin are about; `stat` and `any` are the kind's own commands.
fn which(command: i32, id: i32, any: i32) -> Which {
    match command {
        IPC_STAT => Which::Id(id),
        command if command == any => Which::AnyIndex(id),
        _ => Which::Index(id),
    }
}

/// Writes a description out: 0 for IPC_STAT, else the object's number.
fn write_stat<T: zerocopy::IntoBytes + zerocopy::Immutable>(
    which: Which,
    buf: UserAddr,
    (id, stat): (i32, T),
) -> SysResult {
    UserPtr::new(buf).write(&stat)?;
    Ok(if matches!(which, Which::Id(_)) { 0 } else { id as usize })
}

pub fn sys_semget(key: i32, nsems: i32, flags: i32) -> SysResult {
    sem::get(key, nsems, flags)
}

/// Replaces `ops` by the `count` operations of a call, in its own room if that is enough: EFAULT, ENOMEM.
#[inline(always)]
fn read_ops(ops: &mut Ops, addr: UserAddr, count: usize) -> Result<(), Errno> {
    if count > ops.len() {
        *ops = Ops::from_vec(UserPtr::<Op>::new(addr).read_vec(count)?);
        return Ok(());
    }
    Ok(hal::user::copy_from_user(ops.as_mut_bytes(), addr)?)
}

pub fn sys_semop(id: i32, ops: UserAddr, nops: usize) -> SysResult {
    semop(id, ops, nops, None)
}

pub fn sys_semtimedop(id: i32, ops: UserAddr, nops: usize, timeout: UserAddr) -> SysResult {
    let timeout = match UserPtr::<Timespec>::new(timeout).non_null() {
        Some(pointer) => Some(pointer.read()?),
        None => None,
    };
    semop(id, ops, nops, timeout)
}

/// semtimedop(2): E2BIG, EAGAIN, EFBIG, EIDRM, EINTR, EINVAL, ERANGE, EACCES.
fn semop(id: i32, from: UserAddr, nops: usize, timeout: Option<Timespec>) -> SysResult {
    sem::check_count(nops)?;
    let mut ops = Ops::from_buf_and_len([Op::default(); 4], nops.min(4));
    read_ops(&mut ops, from, nops)?;
    sem::operate(id, ops, timeout)
}

/// semctl(2): EINVAL, EACCES, EPERM, EFAULT, ERANGE, EIDRM.
pub fn sys_semctl(id: i32, num: i32, cmd: i32, arg: u64) -> SysResult {
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let buf = UserAddr(arg);
    match cmd {
        IPC_INFO | SEM_INFO => {
            let (used, total, highest) = sem::usage();
            let [per_set, all, ops, sets] = sem::limits().map(|limit| limit as i32);
            let (usz, aem) = if cmd == SEM_INFO { (used as i32, total as i32) } else { (20, MAX_VALUE) };
            // semmap, semmni, semmns, semmnu, semmsl, semopm, semume, semusz, semvmx, semaem
            let info = [all, sets, all, all, per_set, ops, ops, usz, MAX_VALUE, aem];
            UserPtr::<[i32; 10]>::new(buf).write(&info)?;
            Ok(highest)
        }
        IPC_STAT | SEM_STAT | SEM_STAT_ANY => {
            let which = which(cmd, id, SEM_STAT_ANY);
            write_stat(which, buf, sem::stat(which)?)
        }
        IPC_SET => sem::set_permissions(id, &UserPtr::new(buf).read()?).map(|()| 0),
        IPC_RMID => sem::remove(id),
        GETALL => {
            UserPtr::new(buf).write_slice(&sem::values(id)?)?;
            Ok(0)
        }
        SETALL => sem::set_values(id, |count| UserPtr::<u16>::new(buf).read_vec(count)),
        GETVAL => Ok(usize::from(sem::look(id, num)?.value)),
        GETPID => Ok(sem::look(id, num)?.pid as usize),
        GETNCNT => Ok(sem::look(id, num)?.waiting.0),
        GETZCNT => Ok(sem::look(id, num)?.waiting.1),
        SETVAL => sem::set_value(id, num, arg as i32),
        _ => Err(Errno::EINVAL),
    }
}

pub fn sys_msgget(key: i32, flags: i32) -> SysResult {
    msg::get(key, flags)
}

/// msgsnd(2): EINVAL, EFAULT, ENOMEM, EACCES, EAGAIN, EIDRM, EINTR.
pub fn sys_msgsnd(id: i32, msgp: UserAddr, size: usize, flags: i32) -> SysResult {
    let kind = UserPtr::<i64>::new(msgp).read()?;
    if size > msg::max_bytes() || id < 0 || kind < 1 {
        return Err(Errno::EINVAL);
    }
    let mut text = msg::Text::new();
    text.try_room(size)?;
    let body = msgp.checked_add(8).ok_or(Errno::EFAULT)?;
    if hal::user::append_from_user(&mut text, body, size) != size {
        return Err(Errno::EFAULT);
    }
    msg::send(id, msg::Message { kind, text }, flags & IPC_NOWAIT != 0)
}

/// Copies a message out: EFAULT. Answers the bytes of its text.
fn deliver(message: &msg::Message, msgp: UserAddr, size: usize) -> SysResult {
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
    let message = if flags & MSG_COPY != 0 {
        if flags & MSG_EXCEPT != 0 || flags & IPC_NOWAIT == 0 {
            return Err(Errno::EINVAL);
        }
        msg::copy(id, size, usize::try_from(mtype).unwrap_or(usize::MAX), truncate)?
    } else {
        let request = Request { wanted: Wanted::new(mtype, flags & MSG_EXCEPT != 0), size, truncate };
        msg::receive(id, request, flags & IPC_NOWAIT != 0)?
    };
    deliver(&message, msgp, size)
}

/// msgctl(2): EINVAL, EACCES, EPERM, EFAULT.
pub fn sys_msgctl(id: i32, cmd: i32, buf: UserAddr) -> SysResult {
    if id < 0 || cmd < 0 {
        return Err(Errno::EINVAL);
    }
    match cmd {
        IPC_INFO | MSG_INFO => {
            let (info, highest) = msg::info(cmd == MSG_INFO);
            UserPtr::new(buf).write(&info)?;
            Ok(highest)
        }
        IPC_STAT | MSG_STAT | MSG_STAT_ANY => {
            let which = which(cmd, id, MSG_STAT_ANY);
            write_stat(which, buf, msg::stat(which)?)
        }
        IPC_SET => msg::set(id, &UserPtr::new(buf).read()?).map(|()| 0),
        IPC_RMID => msg::remove(id).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

pub fn sys_shmget(key: i32, size: usize, flags: i32) -> SysResult {
    shm::get(key, size, flags)
}

pub fn sys_shmat(id: i32, addr: UserAddr, flags: i32) -> SysResult {
    shm::attach(id, addr.0, flags)
}

pub fn sys_shmdt(addr: UserAddr) -> SysResult {
    shm::detach(addr.0)
}

/// shmctl(2): EINVAL, EACCES, EPERM, EFAULT; ENOMEM for SHM_LOCK.
pub fn sys_shmctl(id: i32, command: i32, buf: UserAddr) -> SysResult {
    if id < 0 || command < 0 {
        return Err(Errno::EINVAL);
    }
    match command {
        IPC_INFO => {
            UserPtr::new(buf).write(&shm::limits())?;
            Ok(shm::max_index())
        }
        SHM_INFO => {
            UserPtr::new(buf).write(&shm::usage())?;
            Ok(shm::max_index())
        }
        IPC_STAT | SHM_STAT | SHM_STAT_ANY => {
            let which = which(command, id, SHM_STAT_ANY);
            write_stat(which, buf, shm::stat(which)?)
        }
        IPC_SET => shm::set(id, &UserPtr::new(buf).read()?).map(|()| 0),
        IPC_RMID => shm::remove(id).map(|()| 0),
        SHM_LOCK => shm::lock(id).map(|()| 0),
        SHM_UNLOCK => shm::unlock(id).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}
