//! The socket calls. Each finds its [`Socket`] and does what every family has in common.

use crate::net::message;
use crate::net::message::{Control, MsgHdr};
use crate::net::options;
use crate::net::options::{OptionIn, SO_PEERGROUPS, SOL_SOCKET};
use crate::net::socket;
use crate::net::socket::{AF_INET, AF_INET6, AF_UNIX, How, MsgFlags, Outgoing, Received, Socket};
use crate::net::{inet, netlink, unix};
use crate::prelude::*;
use crate::user::IoVec;
use crate::vfs::table::{file, install};
use crate::vfs::{FileOps, OpenFile};

const SOCK_NONBLOCK: i32 = 0o4000;
const SOCK_CLOEXEC: i32 = 0o2000000;
/// Families and types Linux has numbers for.
const NR_FAMILIES: i32 = 46;
const NR_TYPES: i32 = 11;

/// Checks what socket(2) and socketpair(2) have in common; answers the type alone.
fn parse(domain: i32, kind: i32) -> Result<(u16, i32), Errno> {
    if kind & !(0xf | SOCK_NONBLOCK | SOCK_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    if !(0..NR_FAMILIES).contains(&domain) {
        return Err(Errno::EAFNOSUPPORT);
    }
    let number = kind & 0xf;
    if number >= NR_TYPES {
        return Err(Errno::EINVAL);
    }
    Ok((domain as u16, number))
}

fn install_socket(socket: Arc<dyn FileOps>, kind: i32) -> SysResult {
    install(socket::open_file(socket, kind & SOCK_NONBLOCK != 0), kind & SOCK_CLOEXEC != 0)
}

/// Runs `f` with the socket `fd`: EBADF, ENOTSOCK.
fn with<R>(fd: i32, f: impl FnOnce(&OpenFile, &dyn Socket) -> Result<R, Errno>) -> Result<R, Errno> {
    let file = file(fd)?;
    let socket = file.ops.as_socket().ok_or(Errno::ENOTSOCK)?;
    f(&file, socket)
}

pub fn sys_socket(domain: i32, kind: i32, protocol: i32) -> SysResult {
    let (family, number) = parse(domain, kind)?;
    let socket: Arc<dyn FileOps> = match family {
        AF_UNIX => unix::create(number, protocol)?,
        netlink::AF_NETLINK => netlink::create(number, protocol)?,
        AF_INET | AF_INET6 => inet::create(family, number, protocol)?,
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    install_socket(socket, kind)
}

pub fn sys_socketpair(domain: i32, kind: i32, protocol: i32, sv: UserAddr) -> SysResult {
    let (family, number) = parse(domain, kind)?;
    match family {
        AF_UNIX => {}
        AF_INET | AF_INET6 | netlink::AF_NETLINK => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EAFNOSUPPORT),
    }
    let (one, other) = unix::create_pair(number, protocol)?;
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
    with(fd, |_, socket| socket.bind(&message::read_address(address, len)?))?;
    Ok(0)
}

pub fn sys_listen(fd: i32, backlog: i32) -> SysResult {
    with(fd, |_, socket| socket.listen(backlog))?;
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
    let new = install_socket(accepted.socket, flags)?;
    if !address.is_null()
        && let Err(error) = message::write_address(&accepted.peer, address, len)
    {
        drop(current().files.get().remove(new as i32));
        return Err(error);
    }
    Ok(new)
}

pub fn sys_connect(fd: i32, address: UserAddr, len: u32) -> SysResult {
    with(fd, |file, socket| socket.connect(&message::read_address(address, len)?, file.is_nonblocking()))?;
    Ok(0)
}

pub fn sys_getsockname(fd: i32, address: UserAddr, len: UserAddr) -> SysResult {
    let name = with(fd, |_, socket| socket.name())?;
    message::write_address(&name, address, len)?;
    Ok(0)
}

pub fn sys_getpeername(fd: i32, address: UserAddr, len: UserAddr) -> SysResult {
    let name = with(fd, |_, socket| socket.peer_name())?;
    message::write_address(&name, address, len)?;
    Ok(0)
}

pub fn sys_sendto(fd: i32, buf: UserAddr, len: usize, flags: u32, address: UserAddr, alen: u32) -> SysResult {
    let mut src = UserReader::new(buf, len)?;
    with(fd, |file, socket| {
        let to = if address.is_null() { None } else { Some(message::read_address(address, alen)?) };
        socket.send(&mut src, Outgoing { to: to.as_deref(), control: &[] }, How::new(file, flags))
    })
}

/// What a receive call answers: the bytes copied, or with MSG_TRUNC the datagram's own length.
fn answer(received: &Received, flags: u32) -> usize {
    if flags & MsgFlags::TRUNC.bits() != 0 { received.len.max(received.full_len) } else { received.len }
}

pub fn sys_recvfrom(fd: i32, buf: UserAddr, len: usize, flags: u32, address: UserAddr, alen: UserAddr) -> SysResult {
    let mut dst = UserWriter::new(buf, len)?;
    let received = with(fd, |file, socket| socket.receive(&mut dst, How::new(file, flags)))?;
    if !address.is_null() {
        if received.from.is_empty() {
            UserPtr::<u32>::new(alen).write(&0)?;
        } else {
            message::write_address(&received.from, address, alen)?;
        }
    }
    Ok(answer(&received, flags))
}

fn send_message(fd: i32, header: &MsgHdr, flags: u32) -> SysResult {
    with(fd, |file, socket| {
        let name = UserAddr(header.name);
        if header.name_len as i32 > 0 && header.name_len > 128 && header.name == 0 || (header.name_len as i32) < 0 {
            return Err(Errno::EINVAL);
        }
        let to = match header.name_len {
            0 => None,
            _ if header.name == 0 => None,
            len => Some(message::read_address(name, len.min(128))?),
        };
        let count = usize::try_from(header.iov_len).ok().filter(|count| *count <= 1024).ok_or(Errno::EMSGSIZE)?;
        let mut src = UserReader::from_iovec(UserPtr::<IoVec>::new(UserAddr(header.iov)), count)?;
        let control: Vec<Control> = message::read_control(header)?;
        socket.send(&mut src, Outgoing { to: to.as_deref(), control: &control }, How::new(file, flags))
    })
}

pub fn sys_sendmsg(fd: i32, msg: UserAddr, flags: u32) -> SysResult {
    let header = UserPtr::<MsgHdr>::new(msg).read()?;
    send_message(fd, &header, flags)
}

fn receive_message(fd: i32, pointer: UserPtr<MsgHdr>, flags: u32) -> SysResult {
    let mut header = pointer.read()?;
    let count = usize::try_from(header.iov_len).ok().filter(|count| *count <= 1024).ok_or(Errno::EMSGSIZE)?;
    let mut dst = UserWriter::from_iovec(UserPtr::<IoVec>::new(UserAddr(header.iov)), count)?;
    let mut received = with(fd, |file, socket| socket.receive(&mut dst, How::new(file, flags)))?;
    let cloexec = flags & MsgFlags::CMSG_CLOEXEC.bits();
    let (control_len, added) = message::write_control(&header, &mut received, cloexec != 0)?;
    header.control_len = control_len;
    header.flags = (added | received.flags).bits() | cloexec;
    if header.name != 0 {
        message::write_address_to(&received.from, UserAddr(header.name), header.name_len as usize)?;
        header.name_len = received.from.len() as u32;
    }
    pointer.write(&header)?;
    Ok(answer(&received, flags))
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
        let wait = if done > 0 && flags & MsgFlags::WAITFORONE.bits() != 0 { MsgFlags::DONTWAIT.bits() } else { 0 };
        receive_message(fd, pointer, flags & !MsgFlags::WAITFORONE.bits() | wait)
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

pub fn sys_setsockopt(fd: i32, level: i32, name: i32, value: UserAddr, len: u32) -> SysResult {
    with(fd, |_, socket| {
        let len = usize::try_from(len as i32).map_err(|_| Errno::EINVAL)?;
        let value = OptionIn::new(value, len);
        match socket.set_option(level, name, value) {
            Some(result) => result,
            None if level == SOL_SOCKET => options::set(socket, name, value),
            None => Err(socket.unknown_level()),
        }
    })?;
    Ok(0)
}

pub fn sys_getsockopt(fd: i32, level: i32, name: i32, value: UserAddr, len: UserAddr) -> SysResult {
    with(fd, |_, socket| {
        let pointer = UserPtr::<i32>::new(len);
        let room = usize::try_from(pointer.read()?).map_err(|_| Errno::EINVAL)?;
        let bytes = match socket.option(level, name, room) {
            Some(result) => result?,
            None if level == SOL_SOCKET => options::get(socket, name)?,
            None => return Err(socket.unknown_level()),
        };
        if (level, name) == (SOL_SOCKET, SO_PEERGROUPS) && bytes.len() > room {
            pointer.write(&(bytes.len() as i32))?;
            return Err(Errno::ERANGE);
        }
        let n = bytes.len().min(room);
        UserPtr::<u8>::new(value).write_slice(&bytes[..n])?;
        pointer.write(&(n as i32))
    })?;
    Ok(0)
}
