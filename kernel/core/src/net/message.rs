//! `struct msghdr`, ancillary data and socket addresses as programs write them.

use super::options::SOL_SOCKET;
use super::socket::{MsgFlags, Received};
use crate::prelude::*;
use crate::vfs::OpenFile;
use crate::vfs::table::install;
use smallvec::SmallVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A `struct sockaddr` of any family, the family's two bytes first; empty when there is none.
pub type Address = SmallVec<[u8; 28]>;
/// The largest of them (`struct sockaddr_storage`).
const ADDRESS_MAX: usize = 128;
pub const SCM_RIGHTS: i32 = 1;
pub const SCM_CREDENTIALS: i32 = 2;
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

/// One control message a program sent.
pub struct Control {
    pub level: i32,
    pub kind: i32,
    pub data: Vec<u8>,
}

/// One control message for a receiver.
pub enum ControlItem {
    Bytes {
        level: i32,
        kind: i32,
        data: SmallVec<[u8; 32]>,
    },
    /// SCM_RIGHTS: become descriptors of the receiver.
    Files(Vec<Arc<OpenFile>>),
}

impl ControlItem {
    pub fn new<T: IntoBytes + Immutable>(level: i32, kind: i32, value: &T) -> Self {
        Self::Bytes { level, kind, data: SmallVec::from_slice(value.as_bytes()) }
    }
}

/// The `struct sockaddr` of `len` bytes at `address`: EINVAL, EFAULT.
pub fn read_address(address: UserAddr, len: u32) -> Result<Vec<u8>, Errno> {
    let len = len as usize;
    if len > ADDRESS_MAX {
        return Err(Errno::EINVAL);
    }
    let mut bytes = [0u8; ADDRESS_MAX];
    hal::user::copy_from_user(&mut bytes[..len], address)?;
    Ok(bytes[..len].to_vec())
}

/// Writes an address and its true length; what does not fit is cut off. EINVAL for a negative length.
pub fn write_address(name: &[u8], address: UserAddr, len: UserAddr) -> Result<(), Errno> {
    let pointer = UserPtr::<i32>::new(len);
    let room = usize::try_from(pointer.read()?).map_err(|_| Errno::EINVAL)?;
    write_address_to(name, address, room)?;
    pointer.write(&(name.len() as i32))
}

/// As [`write_address`], the room given.
pub fn write_address_to(name: &[u8], address: UserAddr, room: usize) -> Result<(), Errno> {
    UserPtr::<u8>::new(address).write_slice(&name[..name.len().min(room)])
}

/// What a sender put beside the bytes: EINVAL, ENOBUFS, EFAULT.
pub fn read_control(header: &MsgHdr) -> Result<Vec<Control>, Errno> {
    let mut messages = Vec::new();
    if header.control_len > MAX_CONTROL {
        return Err(Errno::ENOBUFS);
    }
    if header.control_len < HEADER as u64 {
        return Ok(messages);
    }
    let bytes = UserReader::new(UserAddr(header.control), header.control_len as usize)?.read_all()?;
    let mut rest = &bytes[..];
    while let Ok((control, _)) = ControlHeader::read_from_prefix(rest) {
        let len = usize::try_from(control.len).map_err(|_| Errno::EINVAL)?;
        let data = rest.get(HEADER..len).ok_or(Errno::EINVAL)?;
        messages.push(Control { level: control.level, kind: control.kind, data: data.to_vec() });
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or(&[]);
    }
    Ok(messages)
}

fn append(bytes: &mut Vec<u8>, level: i32, kind: i32, data: &[u8]) {
    let control = ControlHeader { len: (HEADER + data.len()) as u64, level, kind };
    bytes.extend_from_slice(control.as_bytes());
    bytes.extend_from_slice(data);
}

/// Hands a receiver what came beside the bytes: answers the control length used and flags to add. What does not fit is cut off
/// (CTRUNC); descriptors that do not fit are closed.
pub fn write_control(header: &MsgHdr, received: &mut Received, cloexec: bool) -> Result<(u64, MsgFlags), Errno> {
    let room = if header.control == 0 { 0 } else { header.control_len.min(MAX_CONTROL) as usize };
    let (mut bytes, mut flags): (Vec<u8>, MsgFlags) = (Vec::new(), MsgFlags::empty());
    for item in received.control.drain(..) {
        bytes.resize(bytes.len().next_multiple_of(8).min(room), 0);
        let left = room.saturating_sub(bytes.len());
        match item {
            ControlItem::Bytes { level, kind, data } => {
                let fit = data.len().min(left.saturating_sub(HEADER));
                if fit < data.len() {
                    flags |= MsgFlags::CTRUNC;
                }
                if left >= HEADER {
                    append(&mut bytes, level, kind, &data[..fit]);
                }
            }
            ControlItem::Files(files) => {
                let fit = left.saturating_sub(HEADER) / 4;
                let mut data = Vec::new();
                if files.len() > fit {
                    flags |= MsgFlags::CTRUNC;
                }
                for file in files.into_iter().take(fit) {
                    match install(file, cloexec) {
                        Ok(fd) => data.extend_from_slice(&(fd as i32).to_ne_bytes()),
                        Err(_) => {
                            flags |= MsgFlags::CTRUNC;
                            break;
                        }
                    }
                }
                if !data.is_empty() {
                    append(&mut bytes, SOL_SOCKET, SCM_RIGHTS, &data);
                }
            }
        }
    }
    bytes.resize(bytes.len().next_multiple_of(8).min(room), 0);
    if !bytes.is_empty() {
        UserPtr::<u8>::new(UserAddr(header.control)).write_slice(&bytes)?;
    }
    Ok((bytes.len() as u64, flags))
}
