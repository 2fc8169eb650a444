//! mq_open(3), mq_unlink(3), mq_send(3), mq_receive(3), mq_notify(3), mq_getattr(3), mq_setattr(3).

use crate::ipc::mq::notify::{Notify, Sigevent};
use crate::ipc::mq::{MessageQueue, PRIORITIES, fs};
use crate::prelude::*;
use crate::process::timers::clock;
use crate::sync::Deadline;
use crate::time::Timespec;
use crate::vfs::table::{file, install};
use crate::vfs::{OpenFile, OpenFlags};
use base::mqueue::Message;
use zerocopy::{FromBytes, Immutable, IntoBytes};

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

/// A queue's name: ENOENT, ENAMETOOLONG, EACCES.
fn read_name(addr: UserAddr) -> Result<Vec<u8>, Errno> {
    let name = crate::user::read_path(addr)?;
    if name.is_empty() {
        return Err(Errno::ENOENT);
    }
    if name.contains(&b'/') || name == b"." || name == b".." {
        return Err(Errno::EACCES);
    }
    if name.len() > fs::NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok(name)
}

/// mq_open(3): EINVAL, ENOENT, EEXIST, EACCES, EMFILE, ENOSPC, ENAMETOOLONG, EFAULT.
pub fn sys_mq_open(name: UserAddr, oflag: u32, mode: u32, attr: UserAddr) -> SysResult {
    let size = match UserPtr::<MqAttr>::new(attr).non_null() {
        Some(pointer) => Some(pointer.read()?).map(|attr| (attr.max_messages, attr.message_bytes)),
        None => None,
    };
    let name = read_name(name)?;
    let file = fs::open(&name, OpenFlags::from_bits_retain(oflag), mode, size)?;
    // Queue descriptors are always closed by execve, as on Linux.
    install(file, true)
}

/// mq_unlink(3): ENOENT, EACCES, EPERM.
pub fn sys_mq_unlink(name: UserAddr) -> SysResult {
    fs::unlink(&read_name(name)?)?;
    Ok(0)
}

/// An absolute time-out on CLOCK_REALTIME: EFAULT, EINVAL.
fn deadline(timeout: UserAddr) -> Result<Deadline, Errno> {
    match UserPtr::<Timespec>::new(timeout).non_null() {
        Some(pointer) => clock::deadline(clock::REALTIME, pointer.read()?.to_ns()?, true).map(Some),
        None => Ok(None),
    }
}

/// Runs `f` with the queue behind `fd`: EBADF also for another kind of file.
fn with<R>(fd: i32, f: impl FnOnce(&OpenFile, &MessageQueue) -> Result<R, Errno>) -> Result<R, Errno> {
    let file = file(fd)?;
    let queue = file.downcast::<MessageQueue>().ok_or(Errno::EBADF)?;
    f(&file, queue)
}

/// mq_timedsend(3): EAGAIN, EBADF, EINTR, EINVAL, EMSGSIZE, ETIMEDOUT.
pub fn sys_mq_timedsend(mqdes: i32, msg: UserAddr, len: usize, prio: u32, timeout: UserAddr) -> SysResult {
    let deadline = deadline(timeout)?;
    if prio >= PRIORITIES {
        return Err(Errno::EINVAL);
    }
    with(mqdes, |file, queue| {
        if !file.is_writable() {
            return Err(Errno::EBADF);
        }
        if len > queue.message_bytes {
            return Err(Errno::EMSGSIZE);
        }
        let mut text = Vec::new();
        text.try_room(len)?;
        text.resize(len, 0);
        if UserReader::new(msg, len)?.read(&mut text)? != len {
            return Err(Errno::EFAULT);
        }
        queue.send(Message { priority: prio, text }, file.is_nonblocking(), deadline)?;
        Ok(0)
    })
}

/// mq_timedreceive(3): EAGAIN, EBADF, EINTR, EINVAL, EMSGSIZE, ETIMEDOUT.
pub fn sys_mq_timedreceive(mqdes: i32, msg: UserAddr, len: usize, prio: UserAddr, timeout: UserAddr) -> SysResult {
    let deadline = deadline(timeout)?;
    with(mqdes, |file, queue| {
        if !file.is_readable() {
            return Err(Errno::EBADF);
        }
        if len < queue.message_bytes {
            return Err(Errno::EMSGSIZE);
        }
        let message = queue.receive(file.is_nonblocking(), deadline)?;
        UserPtr::new(prio).write_opt(&message.priority)?;
        UserPtr::<u8>::new(msg).write_slice(&message.text)?;
        Ok(message.text.len())
    })
}

/// mq_notify(3): EBADF, EBUSY, EINVAL, EFAULT, ENOTSOCK.
pub fn sys_mq_notify(mqdes: i32, sevp: UserAddr) -> SysResult {
    let notify = match UserPtr::<Sigevent>::new(sevp).non_null() {
        Some(pointer) => Some(Notify::parse(&pointer.read()?)?),
        None => None,
    };
    with(mqdes, |_, queue| match notify {
        Some(notify) => queue.register(notify),
        None => {
            queue.end_notification();
            Ok(())
        }
    })?;
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
    with(mqdes, |file, queue| {
        let before = MqAttr {
            flags: if file.is_nonblocking() { nonblocking } else { 0 },
            max_messages: queue.max_messages as i64,
            message_bytes: queue.message_bytes as i64,
            messages: queue.messages() as i64,
            reserved: [0; 4],
        };
        if let Some(flags) = wanted {
            let mut open_flags = file.flags();
            open_flags.set(OpenFlags::NONBLOCK, flags != 0);
            file.set_flags(open_flags);
        }
        UserPtr::new(old).write_opt(&before)?;
        Ok(0)
    })
}
