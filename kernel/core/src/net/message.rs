//! `struct msghdr`, ancillary data and socket addresses as programs write them.

use super::unix::{Ancillary, Received, Ucred};
use crate::file::table::{file_or_path, install};
use crate::prelude::*;
use crate::process::credentials::cap;
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub const AF_UNIX: u16 = 1;
/// sun_path's size.
const PATH_MAX: usize = 108;
const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const SCM_CREDENTIALS: i32 = 2;
/// Descriptors in one message.
const MAX_FILES: usize = 253;
const MSG_CTRUNC: u32 = 8;
/// Control data of one message (net.core.optmem_max).
const MAX_CONTROL: u64 = 128 << 10;

/// `struct msghdr` of 64-bit Linux.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct MsgHdr {
    pub name: u64,
    pub name_len: u32,
    pub pad: u32,
    pub iov: u64,
    pub iov_len: u64,
    pub control: u64,
    pub control_len: u64,
    pub flags: u32,
    pub pad2: u32,
}

/// `struct cmsghdr`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct ControlHeader {
    len: u64,
    level: i32,
    kind: i32,
}

const HEADER: usize = size_of::<ControlHeader>();

/// The name in a `struct sockaddr_un`; empty for the family alone. EINVAL, EAFNOSUPPORT, EFAULT.
pub fn read_address(address: UserAddr, len: u32) -> Result<Vec<u8>, Errno> {
    let len = len as usize;
    if !(2..=2 + PATH_MAX).contains(&len) {
        return Err(Errno::EINVAL);
    }
    let mut bytes = [0u8; 2 + PATH_MAX];
    hal::user::copy_from_user(&mut bytes[..len], address)?;
    if u16::from_le_bytes([bytes[0], bytes[1]]) != AF_UNIX {
        return Err(Errno::EINVAL);
    }
    Ok(bytes[2..len].to_vec())
}

/// Writes an address and its true length; what does not fit is cut off. EINVAL for a negative length.
pub fn write_address(name: &[u8], address: UserAddr, len: UserAddr) -> Result<(), Errno> {
    let pointer = UserPtr::<i32>::new(len);
    let room = usize::try_from(pointer.read()?).map_err(|_| Errno::EINVAL)?;
    let full = write_address_to(name, address, room)?;
    pointer.write(&(full as i32))
}

/// As [`write_address`], the room given; answers the true length.
pub fn write_address_to(name: &[u8], address: UserAddr, room: usize) -> Result<usize, Errno> {
    let mut bytes = AF_UNIX.to_le_bytes().to_vec();
    bytes.extend_from_slice(name);
    UserPtr::<u8>::new(address).write_slice(&bytes[..bytes.len().min(room)])?;
    Ok(bytes.len())
}

/// What a sender put beside the bytes: EINVAL, EBADF, EPERM for credentials of others.
pub fn read_control(header: &MsgHdr) -> Result<Ancillary, Errno> {
    let mut ancillary = Ancillary { files: Vec::new(), creds: Ucred::current() };
    if header.control == 0 || header.control_len < HEADER as u64 {
        return Ok(ancillary);
    }
    if header.control_len > MAX_CONTROL {
        return Err(Errno::ENOBUFS);
    }
    let bytes = UserReader::new(UserAddr(header.control), header.control_len as usize)?.read_all()?;
    let mut rest = &bytes[..];
    while let Ok((control, _)) = ControlHeader::read_from_prefix(rest) {
        let len = usize::try_from(control.len).map_err(|_| Errno::EINVAL)?;
        let data = rest.get(HEADER..len).ok_or(Errno::EINVAL)?;
        match (control.level, control.kind) {
            (SOL_SOCKET, SCM_RIGHTS) => {
                for fd in data.chunks_exact(4) {
                    let fd = i32::from_ne_bytes([fd[0], fd[1], fd[2], fd[3]]);
                    ancillary.files.push(file_or_path(fd)?);
                }
                if ancillary.files.len() > MAX_FILES {
                    return Err(Errno::EINVAL);
                }
            }
            (SOL_SOCKET, SCM_CREDENTIALS) => {
                let claimed = Ucred::read_from_bytes(data).map_err(|_| Errno::EINVAL)?;
                check_claim(&claimed)?;
                ancillary.creds = claimed;
            }
            (SOL_SOCKET, _) => return Err(Errno::EINVAL),
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or(&[]);
    }
    Ok(ancillary)
}

fn check_claim(claimed: &Ucred) -> Result<(), Errno> {
    let own = current().creds();
    let pid_ok = claimed.pid == current().process.pid || own.has_cap(cap::SYS_ADMIN);
    let uid_ok = [own.uid, own.euid, own.suid].contains(&claimed.uid) || own.has_cap(cap::SETUID);
    let gid_ok = [own.gid, own.egid, own.sgid].contains(&claimed.gid) || own.has_cap(cap::SETGID);
    if pid_ok && uid_ok && gid_ok { Ok(()) } else { Err(Errno::EPERM) }
}

/// Hands a receiver what came beside the bytes: answers the control length used and flags to add.
pub fn write_control(
    header: &MsgHdr,
    received: &mut Received,
    pass_creds: bool,
    cloexec: bool,
) -> Result<(u64, u32), Errno> {
    let room = header.control_len.min(MAX_CONTROL) as usize;
    let room = if header.control == 0 { 0 } else { room };
    let (mut bytes, mut flags): (Vec<u8>, u32) = (Vec::new(), 0);
    let put = |bytes: &mut Vec<u8>, kind: i32, data: &[u8]| {
        let control = ControlHeader { len: (HEADER + data.len()) as u64, level: SOL_SOCKET, kind };
        bytes.extend_from_slice(control.as_bytes());
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    };
    if pass_creds {
        if room >= HEADER + size_of::<Ucred>() {
            put(&mut bytes, SCM_CREDENTIALS, received.creds.as_bytes());
        } else {
            flags |= MSG_CTRUNC;
        }
    }
    if !received.files.is_empty() {
        let fit = room.saturating_sub(bytes.len()).saturating_sub(HEADER) / 4;
        let mut data = Vec::new();
        if received.files.len() > fit {
            flags |= MSG_CTRUNC;
        }
        for file in received.files.drain(..).take(fit) {
            match install(file, cloexec) {
                Ok(fd) => data.extend_from_slice(&(fd as i32).to_ne_bytes()),
                Err(_) => {
                    flags |= MSG_CTRUNC;
                    break;
                }
            }
        }
        if !data.is_empty() {
            put(&mut bytes, SCM_RIGHTS, &data);
        }
    }
    let len = bytes.len().min(room);
    if len != 0 {
        UserPtr::<u8>::new(UserAddr(header.control)).write_slice(&bytes[..len])?;
    }
    Ok((len as u64, flags))
}
