//! The socket calls.

use super::message::{self, AF_UNIX, MsgHdr};
use super::unix::{self, Ancillary, CAPACITY, Kind, Options, Ucred, UnixSocket};
use crate::file::OpenFile;
use crate::file::table::{file, install};
use crate::prelude::*;
use crate::time::Timeval;
use crate::user::IoVec;
use core::sync::atomic::Ordering;

const SOCK_NONBLOCK: i32 = 0o4000;
const SOCK_CLOEXEC: i32 = 0o2000000;

const MSG_OOB: u32 = 1;
const MSG_PEEK: u32 = 2;
const MSG_TRUNC: u32 = 0x20;
const MSG_DONTWAIT: u32 = 0x40;
const MSG_WAITALL: u32 = 0x100;
const MSG_NOSIGNAL: u32 = 0x4000;
const MSG_WAITFORONE: u32 = 0x1_0000;
const MSG_CMSG_CLOEXEC: u32 = 0x4000_0000;

/// The kind of a UNIX socket: EAFNOSUPPORT, EINVAL, EPROTONOSUPPORT, ESOCKTNOSUPPORT.
fn parse(domain: i32, kind: i32, protocol: i32) -> Result<Kind, Errno> {
    if kind & !(0xf | SOCK_NONBLOCK | SOCK_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    if domain != AF_UNIX as i32 {
        return Err(Errno::EAFNOSUPPORT);
    }
    if protocol != 0 && protocol != AF_UNIX as i32 {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match kind & 0xf {
        1 => Ok(Kind::Stream),
        // Raw UNIX sockets are datagram sockets, as on Linux.
        2 | 3 => Ok(Kind::Datagram),
        5 => Ok(Kind::SeqPacket),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

fn install_socket(socket: Arc<UnixSocket>, kind: i32) -> SysResult {
    install(unix::open_file(socket, kind & SOCK_NONBLOCK != 0), kind & SOCK_CLOEXEC != 0)
}

/// Runs `f` with the socket `fd`: EBADF, ENOTSOCK.
fn with<R>(fd: i32, f: impl FnOnce(&Arc<OpenFile>, &UnixSocket) -> Result<R, Errno>) -> Result<R, Errno> {
    let file = file(fd)?;
    let socket = file.downcast::<UnixSocket>().ok_or(Errno::ENOTSOCK)?;
    f(&file, socket)
}

/// As its own counted reference, for what keeps one.
fn socket_of(fd: i32) -> Result<(Arc<OpenFile>, Arc<UnixSocket>), Errno> {
    let file = file(fd)?;
    let socket = file.downcast::<UnixSocket>().ok_or(Errno::ENOTSOCK)?.counted()?;
    Ok((file, socket))
}

pub fn sys_socket(domain: i32, kind: i32, protocol: i32) -> SysResult {
    install_socket(UnixSocket::new(parse(domain, kind, protocol)?), kind)
}

pub fn sys_socketpair(domain: i32, kind: i32, protocol: i32, sv: UserAddr) -> SysResult {
    let (one, other) = UnixSocket::pair(parse(domain, kind, protocol)?);
    let first = install_socket(one, kind)? as i32;
    let second = install_socket(other, kind).inspect_err(|_| drop(current().files.get().remove(first)))? as i32;
    if let Err(error) = UserPtr::<[i32; 2]>::new(sv).write(&[first, second]) {
        let files = current().files.get();
        drop((files.remove(first), files.remove(second)));
        return Err(error);
    }
    Ok(0)
}

pub fn sys_bind(fd: i32, address: UserAddr, len: u32) -> SysResult {
    let (_, socket) = socket_of(fd)?;
    socket.bind(&message::read_address(address, len)?)?;
    Ok(0)
}

pub fn sys_listen(fd: i32, backlog: i32) -> SysResult {
    with(fd, |_, socket| socket.listen(usize::try_from(backlog).unwrap_or(4096)))?;
    Ok(0)
}

pub fn sys_accept(fd: i32, address: UserAddr, len: UserAddr) -> SysResult {
    sys_accept4(fd, address, len, 0)
}

pub fn sys_accept4(fd: i32, address: UserAddr, len: UserAddr, flags: u32) -> SysResult {
    let flags = flags as i32;
    if flags & !(SOCK_NONBLOCK | SOCK_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let accepted = with(fd, |file, socket| socket.accept(file.is_nonblocking()))?;
    let name = accepted.peer_name().unwrap_or_default();
    let new = install_socket(accepted, flags)?;
    if !address.is_null()
        && let Err(error) = message::write_address(&name, address, len)
    {
        drop(current().files.get().remove(new as i32));
        return Err(error);
    }
    Ok(new)
}

pub fn sys_connect(fd: i32, address: UserAddr, len: u32) -> SysResult {
    const AF_UNSPEC: u16 = 0;
    let (file, socket) = socket_of(fd)?;
    if len >= 2 && UserPtr::<u16>::new(address).read()? == AF_UNSPEC {
        socket.connect(&[], false)?;
        return Ok(0);
    }
    let name = message::read_address(address, len)?;
    if name.is_empty() {
        return Err(Errno::EINVAL);
    }
    socket.connect(&name, file.is_nonblocking())?;
    Ok(0)
}

pub fn sys_getsockname(fd: i32, address: UserAddr, len: UserAddr) -> SysResult {
    let name = with(fd, |_, socket| Ok(socket.name()))?;
    message::write_address(&name, address, len)?;
    Ok(0)
}

pub fn sys_getpeername(fd: i32, address: UserAddr, len: UserAddr) -> SysResult {
    let name = with(fd, |_, socket| socket.peer_name())?;
    message::write_address(&name, address, len)?;
    Ok(0)
}

fn send(fd: i32, src: &mut UserReader<'_>, ancillary: Ancillary, to: Option<&[u8]>, flags: u32) -> SysResult {
    with(fd, |file, socket| {
        if flags & MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let nonblocking = flags & MSG_DONTWAIT != 0 || file.is_nonblocking();
        socket.send(src, ancillary, to, nonblocking, flags & MSG_NOSIGNAL == 0)
    })
}

pub fn sys_sendto(fd: i32, buf: UserAddr, len: usize, flags: u32, address: UserAddr, alen: u32) -> SysResult {
    let to = if address.is_null() || alen == 0 { None } else { Some(message::read_address(address, alen)?) };
    let ancillary = Ancillary { files: Vec::new(), creds: Ucred::current() };
    send(fd, &mut UserReader::new(buf, len)?, ancillary, to.as_deref(), flags)
}

fn options(file: &OpenFile, flags: u32) -> Result<Options, Errno> {
    if flags & MSG_OOB != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(Options {
        nonblocking: flags & MSG_DONTWAIT != 0 || file.is_nonblocking(),
        peek: flags & MSG_PEEK != 0,
        wait_all: flags & MSG_WAITALL != 0,
    })
}

pub fn sys_recvfrom(fd: i32, buf: UserAddr, len: usize, flags: u32, address: UserAddr, alen: UserAddr) -> SysResult {
    let mut dst = UserWriter::new(buf, len)?;
    let received = with(fd, |file, socket| socket.receive(&mut dst, options(file, flags)?))?;
    if !address.is_null() {
        if received.from.is_empty() {
            UserPtr::<u32>::new(alen).write(&0)?;
        } else {
            message::write_address(&received.from, address, alen)?;
        }
    }
    Ok(if flags & MSG_TRUNC != 0 && received.full_len != 0 { received.full_len } else { received.len })
}

fn send_message(fd: i32, header: &MsgHdr, flags: u32) -> SysResult {
    let to = if header.name == 0 || header.name_len == 0 {
        None
    } else {
        Some(message::read_address(UserAddr(header.name), header.name_len)?)
    };
    with(fd, |_, _| Ok(()))?;
    let count = usize::try_from(header.iov_len).ok().filter(|count| *count <= 1024).ok_or(Errno::EMSGSIZE)?;
    let mut src = UserReader::from_iovec(UserPtr::<IoVec>::new(UserAddr(header.iov)), count)?;
    let ancillary = message::read_control(header)?;
    send(fd, &mut src, ancillary, to.as_deref(), flags)
}

pub fn sys_sendmsg(fd: i32, msg: UserAddr, flags: u32) -> SysResult {
    let header = UserPtr::<MsgHdr>::new(msg).read()?;
    send_message(fd, &header, flags)
}

fn receive_message(fd: i32, pointer: UserPtr<MsgHdr>, flags: u32) -> SysResult {
    let mut header = pointer.read()?;
    let count = usize::try_from(header.iov_len).ok().filter(|count| *count <= 1024).ok_or(Errno::EMSGSIZE)?;
    let mut dst = UserWriter::from_iovec(UserPtr::<IoVec>::new(UserAddr(header.iov)), count)?;
    let (mut received, pass_creds) = with(fd, |file, socket| {
        let received = socket.receive(&mut dst, options(file, flags)?)?;
        Ok((received, socket.pass_creds.load(Ordering::Relaxed)))
    })?;
    let (control_len, added) =
        message::write_control(&header, &mut received, pass_creds, flags & MSG_CMSG_CLOEXEC != 0)?;
    header.control_len = control_len;
    header.flags = added | if received.truncated { MSG_TRUNC } else { 0 } | flags & MSG_CMSG_CLOEXEC;
    if header.name != 0 {
        header.name_len = if received.from.is_empty() {
            0
        } else {
            message::write_address_to(&received.from, UserAddr(header.name), header.name_len as usize)? as u32
        };
    }
    pointer.write(&header)?;
    Ok(if flags & MSG_TRUNC != 0 && received.full_len != 0 { received.full_len } else { received.len })
}

pub fn sys_recvmsg(fd: i32, msg: UserAddr, flags: u32) -> SysResult {
    receive_message(fd, UserPtr::new(msg), flags)
}

/// `struct mmsghdr`: a header and the length that went.
const MMSGHDR: u64 = 64;
const MAX_MESSAGES: u32 = 1024;

fn each_message(msgs: UserAddr, count: u32, mut f: impl FnMut(UserPtr<MsgHdr>, u32) -> SysResult) -> SysResult {
    let mut done = 0;
    while done < count.min(MAX_MESSAGES) {
        let at = msgs.checked_add(done as u64 * MMSGHDR).ok_or(Errno::EFAULT)?;
        match f(UserPtr::new(at), done) {
            Ok(len) => UserPtr::<u32>::new(at.checked_add(56).ok_or(Errno::EFAULT)?).write(&(len as u32))?,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
        done += 1;
    }
    Ok(done as usize)
}

pub fn sys_sendmmsg(fd: i32, msgs: UserAddr, vlen: u32, flags: u32) -> SysResult {
    each_message(msgs, vlen, |pointer, _| send_message(fd, &pointer.read()?, flags))
}

/// The time-out is looked at between messages, as on Linux.
pub fn sys_recvmmsg(fd: i32, msgs: UserAddr, vlen: u32, flags: u32, timeout: UserAddr) -> SysResult {
    let until = match UserPtr::<crate::time::Timespec>::new(timeout).non_null() {
        Some(pointer) => Some(crate::time::now_ns().saturating_add(pointer.read()?.to_ns()?)),
        None => None,
    };
    each_message(msgs, vlen, |pointer, done| {
        if done > 0 && until.is_some_and(|until| crate::time::now_ns() >= until) {
            return Err(Errno::EAGAIN);
        }
        let wait = if done > 0 && flags & MSG_WAITFORONE != 0 { MSG_DONTWAIT } else { 0 };
        receive_message(fd, pointer, flags & !MSG_WAITFORONE | wait)
    })
}

pub fn sys_shutdown(fd: i32, how: i32) -> SysResult {
    with(fd, |_, socket| match how {
        0 => socket.shutdown(true, false),
        1 => socket.shutdown(false, true),
        2 => socket.shutdown(true, true),
        _ => Err(Errno::EINVAL),
    })?;
    Ok(0)
}

const SOL_SOCKET: i32 = 1;
const SO_REUSEADDR: i32 = 2;
const SO_TYPE: i32 = 3;
const SO_ERROR: i32 = 4;
const SO_SNDBUF: i32 = 7;
const SO_RCVBUF: i32 = 8;
const SO_KEEPALIVE: i32 = 9;
const SO_LINGER: i32 = 13;
const SO_PASSCRED: i32 = 16;
const SO_PEERCRED: i32 = 17;
const SO_RCVTIMEO: i32 = 20;
const SO_SNDTIMEO: i32 = 21;
const SO_ACCEPTCONN: i32 = 30;
const SO_PROTOCOL: i32 = 38;
const SO_DOMAIN: i32 = 39;

pub fn sys_setsockopt(fd: i32, level: i32, name: i32, value: UserAddr, len: u32) -> SysResult {
    with(fd, |_, socket| {
        if level != SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        if matches!(name, SO_RCVTIMEO | SO_SNDTIMEO) {
            if (len as usize) < size_of::<Timeval>() {
                return Err(Errno::EINVAL);
            }
            let time = UserPtr::<Timeval>::new(value).read()?;
            if !(0..1_000_000).contains(&time.usec) {
                return Err(Errno::EDOM);
            }
            let ns = time.to_ns().unwrap_or(0);
            let slot = if name == SO_RCVTIMEO { &socket.receive_timeout_ns } else { &socket.send_timeout_ns };
            slot.store(ns, Ordering::Relaxed);
            return Ok(0);
        }
        if len < 4 {
            return Err(Errno::EINVAL);
        }
        let number = UserPtr::<i32>::new(value).read()?;
        match name {
            SO_PASSCRED => socket.pass_creds.store(number != 0, Ordering::Relaxed),
            // Buffers have one size; the rest means nothing to UNIX sockets.
            SO_REUSEADDR | SO_SNDBUF | SO_RCVBUF | SO_KEEPALIVE | SO_LINGER => {}
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(0)
    })
}

pub fn sys_getsockopt(fd: i32, level: i32, name: i32, value: UserAddr, len: UserAddr) -> SysResult {
    use zerocopy::IntoBytes;
    let bytes: Vec<u8> = with(fd, |_, socket| {
        if level != SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        let number = |number: i32| Ok(number.to_ne_bytes().to_vec());
        let time = |ns: u64| Ok(Timeval::from_ns(ns).as_bytes().to_vec());
        match name {
            SO_TYPE => number(socket.kind as i32),
            SO_ERROR => number(socket.take_error().map_or(0, |errno| errno.0 as i32)),
            SO_SNDBUF | SO_RCVBUF => number(CAPACITY as i32),
            SO_REUSEADDR | SO_KEEPALIVE | SO_PROTOCOL => number(0),
            SO_LINGER => Ok([0u8; 8].to_vec()),
            SO_PASSCRED => number(socket.pass_creds.load(Ordering::Relaxed) as i32),
            SO_ACCEPTCONN => number(socket.is_listening() as i32),
            SO_DOMAIN => number(AF_UNIX as i32),
            SO_RCVTIMEO => time(socket.receive_timeout_ns.load(Ordering::Relaxed)),
            SO_SNDTIMEO => time(socket.send_timeout_ns.load(Ordering::Relaxed)),
            SO_PEERCRED => {
                let none = Ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
                Ok(socket.peer_creds().unwrap_or(none).as_bytes().to_vec())
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    })?;
    let pointer = UserPtr::<i32>::new(len);
    let room = usize::try_from(pointer.read()?).map_err(|_| Errno::EINVAL)?;
    let n = bytes.len().min(room);
    UserPtr::<u8>::new(value).write_slice(&bytes[..n])?;
    pointer.write(&(n as i32))?;
    Ok(0)
}
