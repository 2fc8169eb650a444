//! Names of UNIX sockets: paths, abstract names, and the socket behind one.

use super::super::message::Address;
use super::super::socket::AF_UNIX;
use super::{Kind, Name, UnixSocket};
use crate::prelude::*;
use crate::vfs;
use crate::vfs::{FileType, Path, permission};
use core::sync::atomic::{AtomicU64, Ordering};
use hashbrown::HashMap;

/// sun_path's size.
const PATH_MAX: usize = 108;

#[derive(PartialEq, Eq, Hash)]
enum Key {
    Inode(usize),
    /// Each kind has names of its own.
    Abstract(u8, Vec<u8>),
}

static BOUND: SpinLock<Option<HashMap<Key, Weak<UnixSocket>>>> = SpinLock::new(None);

fn inode_key(place: &Path) -> Key {
    Key::Inode(Arc::as_ptr(place.inode()).cast::<()>() as usize)
}

/// The name in a `struct sockaddr_un`; empty for the family alone. EINVAL.
pub(super) fn parse(address: &[u8]) -> Result<&[u8], Errno> {
    match address.split_first_chunk::<2>() {
        Some((family, name)) if u16::from_le_bytes(*family) == AF_UNIX && name.len() <= PATH_MAX => Ok(name),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn to_address(name: Option<&[u8]>) -> Address {
    let mut address = Address::from_slice(&AF_UNIX.to_le_bytes());
    address.extend_from_slice(name.unwrap_or(&[]));
    address
}

/// A path's bytes up to the first NUL.
fn path_of(name: &[u8]) -> &[u8] {
    &name[..name.iter().position(|&byte| byte == 0).unwrap_or(name.len())]
}

impl UnixSocket {
    pub(super) fn own_name(&self) -> Option<Name> {
        self.state.leaf().name.clone()
    }

    /// ENOTCONN.
    pub(super) fn name_of_peer(&self) -> Result<Option<Name>, Errno> {
        let (connected, peer) = {
            let state = self.state.lock();
            (state.connected, state.peer.clone())
        };
        match peer.and_then(|peer| peer.upgrade()) {
            Some(peer) => Ok(peer.own_name()),
            None if connected => Ok(None),
            None => Err(Errno::ENOTCONN),
        }
    }

    /// EINVAL when bound already, EADDRINUSE, and the errors of making the name.
    pub(super) fn bind_name(self: &Arc<Self>, name: &[u8]) -> Result<(), Errno> {
        if name.is_empty() {
            return self.bind_any();
        }
        if name[0] == 0 {
            if self.own_name().is_some() {
                return Err(Errno::EINVAL);
            }
            return self.register(Key::Abstract(self.kind as u8, name.to_vec()), name.into(), None);
        }
        if self.own_name().is_some() {
            return Err(Errno::EINVAL);
        }
        let path = path_of(name);
        let place = vfs::create_socket_node(path, self.common.attributes.mode())?;
        let mut bound = path.to_vec();
        bound.push(0);
        self.register(inode_key(&place), bound.into(), Some(place))
    }

    /// An abstract name of five hexadecimal digits that nobody has; nothing for a socket that has a name.
    pub(super) fn bind_any(self: &Arc<Self>) -> Result<(), Errno> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if self.own_name().is_some() {
            return Ok(());
        }
        for _ in 0..1 << 20 {
            let number = NEXT.fetch_add(1, Ordering::Relaxed) & 0xf_ffff;
            let name = alloc::format!("\0{number:05x}").into_bytes();
            match self.register(Key::Abstract(self.kind as u8, name.clone()), name.into(), None) {
                Err(Errno::EADDRINUSE) => {}
                result => return result,
            }
        }
        Err(Errno::ENOSPC)
    }

    fn register(self: &Arc<Self>, key: Key, name: Name, place: Option<Path>) -> Result<(), Errno> {
        let mut bound = BOUND.lock();
        let bound = bound.get_or_insert_with(HashMap::new);
        if bound.get(&key).is_some_and(|other| other.strong_count() != 0) {
            return Err(Errno::EADDRINUSE);
        }
        let mut state = self.state.lock();
        if state.name.is_some() {
            return Err(Errno::EINVAL); // another thread was faster
        }
        state.name = Some(name);
        state.place = place;
        drop(state);
        bound.insert(key, Arc::downgrade(self));
        Ok(())
    }

    pub(super) fn forget_name(&self, place: Option<&Path>, name: Option<&[u8]>) {
        let key = match (place, name) {
            (Some(place), _) => inode_key(place),
            (None, Some(name)) if name.first() == Some(&0) => Key::Abstract(self.kind as u8, name.to_vec()),
            _ => return,
        };
        let mut bound = BOUND.lock();
        let is_own = |other: &Weak<Self>| other.ptr_eq(&self.own);
        if let Some(bound) = bound.as_mut().filter(|bound| bound.get(&key).is_some_and(is_own)) {
            bound.remove(&key);
        }
    }

    /// The socket bound to `name`: ECONNREFUSED, EPROTOTYPE, and the errors of finding the path.
    pub(super) fn find(&self, name: &[u8]) -> Result<Arc<Self>, Errno> {
        let mut held = None;
        let key = if name.first() == Some(&0) {
            Key::Abstract(self.kind as u8, name.to_vec())
        } else {
            let place = vfs::lookup(vfs::AT_FDCWD, path_of(name), true)?;
            permission::check_current(&**place.inode(), permission::WRITE)?;
            if place.inode().file_type() != FileType::Socket {
                return Err(Errno::ECONNREFUSED);
            }
            let key = inode_key(&place);
            held = Some(place);
            key
        };
        let socket = BOUND.lock().as_ref().and_then(|bound| bound.get(&key)?.upgrade()).ok_or(Errno::ECONNREFUSED)?;
        drop(held);
        if socket.kind != self.kind { Err(Errno::EPROTOTYPE) } else { Ok(socket) }
    }

    /// As [`find`](Self::find), for datagrams: EPERM when that socket is connected to another one.
    pub(super) fn find_datagram(&self, name: &[u8]) -> Result<Arc<Self>, Errno> {
        let target = self.find(name)?;
        let takes =
            self.kind != Kind::Datagram || target.state.lock().peer.as_ref().is_none_or(|peer| peer.ptr_eq(&self.own));
        if takes { Ok(target) } else { Err(Errno::EPERM) }
    }
}

/// /proc/net/unix: the sockets that have a name.
pub fn format_table() -> String {
    use core::fmt::Write;
    let mut text = String::from("Num       RefCount Protocol Flags    Type St Inode Path\n");
    let sockets: Vec<Arc<UnixSocket>> = {
        let bound = BOUND.lock();
        bound.iter().flat_map(HashMap::values).filter_map(Weak::upgrade).collect()
    };
    for socket in sockets {
        let (name, listens, connected) = {
            let state = socket.state.lock();
            (state.name.clone(), state.pending.is_some(), state.connected)
        };
        // SO_ACCEPTCON; SS_CONNECTED or SS_UNCONNECTED.
        let (flags, status) = (if listens { 0x10000 } else { 0 }, if connected { 3 } else { 1 });
        let name = name.as_deref().unwrap_or(&[]);
        let name = name.strip_suffix(b"\0").filter(|name| name.first() != Some(&0)).unwrap_or(name);
        let name = String::from_utf8_lossy(name).replace('\0', "@");
        let (refs, kind, id) = (Arc::strong_count(&socket), socket.kind as u8, socket.id);
        let _ = writeln!(text, "{id:016x}: {refs:08X} 00000000 {flags:08X} {kind:04X} {status:02X} {id:5} {name}");
    }
    text
}
