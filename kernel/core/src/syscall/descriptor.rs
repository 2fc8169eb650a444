//! Descriptors: dup, fcntl, ioctl, close, close_range; eventfd2 and pipe2.

use crate::file::eventfd::EventFd;
use crate::file::memfd;
use crate::file::pipe;
use crate::file::signal_io;
use crate::net;
use crate::prelude::*;
use crate::task::process::rlimit;
use crate::vfs;
use crate::vfs::lock;
use crate::vfs::table::{closed, file, file_or_path, install};
use crate::vfs::{FdFlags, FdTable, OpenFile, OpenFlags};
use base::abi::ioctl::{
    FIGETBSZ, FIOASYNC, FIOCLEX, FIOGETOWN, FIONBIO, FIONCLEX, FIONREAD, FIOQSIZE, FIOSETOWN, SIOCGPGRP, SIOCSPGRP,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub fn sys_eventfd2(count: u32, flags: u32) -> SysResult {
    const SEMAPHORE: u32 = 1;
    let allowed = SEMAPHORE | OpenFlags::CLOEXEC.bits() | OpenFlags::NONBLOCK.bits();
    if flags & !allowed != 0 {
        return Err(Errno::EINVAL);
    }
    let open_flags = OpenFlags::from_bits_retain(flags & OpenFlags::NONBLOCK.bits()) | OpenFlags::RDWR;
    let object = EventFd::new(u64::from(count), flags & SEMAPHORE != 0);
    install(OpenFile::anonymous(object, open_flags), flags & OpenFlags::CLOEXEC.bits() != 0)
}

pub fn sys_pipe2(fds: UserAddr, flags: u32) -> SysResult {
    let allowed = OpenFlags::CLOEXEC | OpenFlags::NONBLOCK | OpenFlags::DIRECT | OpenFlags::EXCL;
    if flags & !allowed.bits() != 0 {
        return Err(Errno::EINVAL);
    }
    // O_NOTIFICATION_PIPE, of which keys and mounts would tell.
    if flags & OpenFlags::EXCL.bits() != 0 {
        return Err(Errno::ENOPKG);
    }
    let flags = OpenFlags::from_bits_retain(flags);
    let fd_flags = if flags.contains(OpenFlags::CLOEXEC) { FdFlags::CLOEXEC } else { FdFlags::empty() };
    let (reader, writer) = pipe::new_pair(flags)?;
    let table = current().files.get();
    let read_fd = table.insert(reader, fd_flags)?;
    let write_fd = table.insert(writer, fd_flags).inspect_err(|_| drop(table.remove(read_fd)))?;
    if let Err(error) = UserPtr::<[i32; 2]>::new(fds).write(&[read_fd, write_fd]) {
        drop((table.remove(read_fd), table.remove(write_fd)));
        return Err(error);
    }
    Ok(0)
}

pub fn sys_dup(fd: i32) -> SysResult {
    install(file_or_path(fd)?, false)
}

pub fn sys_dup3(oldfd: i32, newfd: i32, flags: u32) -> SysResult {
    if flags & !OpenFlags::CLOEXEC.bits() != 0 || oldfd == newfd {
        return Err(Errno::EINVAL);
    }
    if newfd < 0 || newfd as u64 >= current().process.limit(rlimit::NOFILE) {
        return Err(Errno::EBADF);
    }
    let file = file_or_path(oldfd)?;
    let fd_flags = if flags != 0 { FdFlags::CLOEXEC } else { FdFlags::empty() };
    if let Some(old) = current().files.get().replace(newfd, file, fd_flags)? {
        let _ = closed(old); // as on Linux, the flush error of an implied close is lost
    }
    Ok(newfd as usize)
}

pub fn sys_close(fd: i32) -> SysResult {
    let file = current().files.with(|table| table.remove(fd))?;
    closed(file)?;
    Ok(0)
}

pub fn sys_close_range(first: u32, last: u32, flags: u32) -> SysResult {
    const UNSHARE: u32 = 2;
    const CLOEXEC: u32 = 4;
    if flags & !(UNSHARE | CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    let mut table = current().files.get();
    if flags & UNSHARE != 0 {
        let own = table.fork()?;
        drop(current().files.replace(own.clone()));
        table = own;
    }
    if flags & CLOEXEC != 0 {
        table.cloexec_between(first, last)
    } else {
        table.close_between(first, last)
    }
    Ok(0)
}

const F_DUPFD: u32 = 0;
const F_GETFD: u32 = 1;
const F_SETFD: u32 = 2;
const F_GETFL: u32 = 3;
const F_SETFL: u32 = 4;
const F_GETLK: u32 = 5;
const F_SETLKW: u32 = 7;
const F_SETOWN: u32 = 8;
const F_GETOWN: u32 = 9;
const F_SETSIG: u32 = 10;
const F_GETSIG: u32 = 11;
const F_SETOWN_EX: u32 = 15;
const F_GETOWN_EX: u32 = 16;
const F_GETOWNER_UIDS: u32 = 17;
const F_OFD_GETLK: u32 = 36;
const F_OFD_SETLKW: u32 = 38;
const F_GETLEASE: u32 = 1025;
const F_DUPFD_QUERY: u32 = 1027;
const F_DUPFD_CLOEXEC: u32 = 1030;
const F_SETPIPE_SZ: u32 = 1031;
const F_GETPIPE_SZ: u32 = 1032;
const F_ADD_SEALS: u32 = 1033;
const F_GET_SEALS: u32 = 1034;
const F_UNLCK: usize = 2;

/// What F_SETFL may change.
const SETFL_MASK: OpenFlags = OpenFlags::APPEND
    .union(OpenFlags::NONBLOCK)
    .union(OpenFlags::ASYNC)
    .union(OpenFlags::DIRECT)
    .union(OpenFlags::NOATIME);

/// `struct f_owner_ex`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct OwnerEx {
    kind: i32,
    pid: i32,
}

pub fn sys_fcntl(fd: i32, cmd: u32, arg: u64) -> SysResult {
    let file = file_or_path(fd)?;
    match cmd {
        F_DUPFD | F_DUPFD_CLOEXEC => {
            let from = arg as u32;
            if u64::from(from) >= current().process.limit(rlimit::NOFILE) {
                return Err(Errno::EINVAL);
            }
            let flags = if cmd == F_DUPFD_CLOEXEC { FdFlags::CLOEXEC } else { FdFlags::empty() };
            Ok(current().files.get().insert_from(from as usize, file, flags)? as usize)
        }
        F_GETFD => Ok(current().files.with(|table| table.flags(fd))?.bits() as usize),
        F_SETFD => {
            current().files.with(|table| table.set_flags(fd, FdFlags::from_bits_truncate(arg as u32)))?;
            Ok(0)
        }
        // O_LARGEFILE is forced on every open of a 64-bit program, anonymous objects apart.
        F_GETFL => Ok(file.flags().bits() as usize),
        _ if file.is_path() => Err(Errno::EBADF),
        F_SETFL => set_flags(&file, fd, OpenFlags::from_bits_retain(arg as u32)),
        F_GETLK..=F_SETLKW | F_OFD_GETLK..=F_OFD_SETLKW => lock::fcntl_lock(&file, cmd, UserAddr(arg)),
        F_SETOWN => {
            signal_io::set_owner_number(&file, arg as i32)?;
            Ok(0)
        }
        F_GETOWN => Ok(signal_io::owner_number(&file) as isize as usize),
        F_SETOWN_EX => {
            let owner = UserPtr::<OwnerEx>::new(UserAddr(arg)).read()?;
            if owner.pid < 0 {
                return Err(Errno::ESRCH);
            }
            signal_io::set_owner(&file, owner.kind, owner.pid as u32)?;
            Ok(0)
        }
        F_GETOWN_EX => {
            let (kind, pid) = signal_io::owner(&file);
            UserPtr::new(UserAddr(arg)).write(&OwnerEx { kind, pid: pid as i32 })?;
            Ok(0)
        }
        F_GETOWNER_UIDS => {
            UserPtr::new(UserAddr(arg)).write(&signal_io::owner_uids(&file))?;
            Ok(0)
        }
        F_SETSIG => {
            if arg > 64 {
                return Err(Errno::EINVAL);
            }
            signal_io::owner_of(&file).lock().signal = arg as u32;
            Ok(0)
        }
        F_GETSIG => Ok(signal_io::owner_of(&file).lock().signal as usize),
        F_GETLEASE => Ok(F_UNLCK), // F_SETLEASE is EINVAL, so there is never one
        F_DUPFD_QUERY => Ok(usize::from(Arc::ptr_eq(&file, &file_or_path(arg as i32)?))),
        F_SETPIPE_SZ | F_GETPIPE_SZ => {
            let end = file.downcast::<pipe::PipeEnd>().ok_or(Errno::EBADF)?;
            if cmd == F_GETPIPE_SZ { Ok(end.pipe().size()) } else { end.pipe().set_size(arg as u32 as usize) }
        }
        F_ADD_SEALS => memfd::add_seals(&file, arg as u32),
        F_GET_SEALS => memfd::get_seals(&file),
        _ => Err(Errno::EINVAL),
    }
}

fn set_flags(file: &Arc<OpenFile>, fd: i32, wanted: OpenFlags) -> SysResult {
    let old = file.flags();
    if !old.contains(OpenFlags::NOATIME)
        && wanted.contains(OpenFlags::NOATIME)
        && let Some(inode) = file.inode()
    {
        let creds = current().creds();
        if creds.fsuid != inode.stat().uid && !creds.has_cap(crate::task::credentials::cap::FOWNER) {
            return Err(Errno::EPERM);
        }
    }
    let mut changes = SETFL_MASK;
    changes.set(OpenFlags::ASYNC, file.ops.can_signal());
    file.set_flags((old & !changes) | (wanted & changes));
    if (old ^ file.flags()).contains(OpenFlags::ASYNC) {
        signal_io::update(file, fd);
    }
    file.ops.flags_changed(file);
    Ok(0)
}

pub fn sys_ioctl(fd: i32, cmd: u32, arg: u64) -> SysResult {
    let file = file(fd)?;
    let argument = UserPtr::<i32>::new(UserAddr(arg));
    let is_regular = || file.inode().filter(|inode| inode.file_type() == vfs::FileType::Regular);
    match cmd {
        FIOCLEX | FIONCLEX => {
            let flags = if cmd == FIOCLEX { FdFlags::CLOEXEC } else { FdFlags::empty() };
            current().files.with(|table| table.set_flags(fd, flags))?;
            Ok(0)
        }
        FIONBIO => {
            let on = argument.read()? != 0;
            change_flag(&file, OpenFlags::NONBLOCK, on);
            file.ops.flags_changed(&file);
            Ok(0)
        }
        FIOASYNC => {
            let on = argument.read()? != 0;
            if !file.ops.can_signal() {
                return if on == file.flags().contains(OpenFlags::ASYNC) { Ok(0) } else { Err(Errno::ENOTTY) };
            }
            change_flag(&file, OpenFlags::ASYNC, on);
            signal_io::update(&file, fd);
            file.ops.flags_changed(&file);
            Ok(0)
        }
        FIONREAD => match is_regular() {
            Some(inode) => {
                let left = (inode.stat().size as i64).wrapping_sub(*file.position.lock() as i64);
                argument.write(&(left as i32))?;
                Ok(0)
            }
            None => file.ops.ioctl(&file, cmd, arg),
        },
        FIOSETOWN | SIOCSPGRP if file.ops.as_socket().is_some() => {
            signal_io::set_owner_number(&file, argument.read()?)?;
            Ok(0)
        }
        FIOGETOWN | SIOCGPGRP if file.ops.as_socket().is_some() => {
            argument.write(&signal_io::owner_number(&file))?;
            Ok(0)
        }
        FIOQSIZE => {
            let inode = file.inode().filter(|inode| {
                matches!(inode.file_type(), vfs::FileType::Regular | vfs::FileType::Directory | vfs::FileType::Symlink)
            });
            UserPtr::<u64>::new(UserAddr(arg)).write(&(inode.ok_or(Errno::ENOTTY)?.stat().blocks * 512))?;
            Ok(0)
        }
        FIGETBSZ => match file.inode() {
            Some(inode) => {
                argument.write(&(inode.stat().block_size as i32))?;
                Ok(0)
            }
            None => Err(Errno::EINVAL),
        },
        _ => match file.ops.as_socket() {
            Some(socket) if net::ioctl::knows(cmd) => match net::ioctl::ioctl(socket, cmd, arg) {
                Err(Errno::ENOTTY) => file.ops.ioctl(&file, cmd, arg),
                result => result,
            },
            _ => file.ops.ioctl(&file, cmd, arg),
        },
    }
}

fn change_flag(file: &OpenFile, flag: OpenFlags, on: bool) {
    let flags = file.flags();
    file.set_flags(if on { flags | flag } else { flags & !flag });
}

/// A table of its own for unshare(CLONE_FILES): ENOMEM.
pub fn unshare_files() -> Result<(), Errno> {
    let own: Arc<FdTable> = current().files.get().fork()?;
    drop(current().files.replace(own));
    Ok(())
}
