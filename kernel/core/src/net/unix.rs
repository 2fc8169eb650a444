//! UNIX sockets: stream, datagram, sequenced packets; path names and abstract names; descriptors and credentials in messages.
//!
//! Every socket has an inbox; sending puts a message into the other side's. A reader takes messages out under `reading`, so that
//! what does not fit can be put back in order. Lock order: `reading` (sleeping) → `state` → `inbox`; `BOUND` alone. Nothing spins
//! while bytes are copied.

use super::message::{Address, Control, ControlItem, SCM_CREDENTIALS, SCM_RIGHTS};
use super::options::{Common, SO_PEERCRED, SOL_SOCKET, Switches};
use super::socket::{
    self, AF_UNIX, AF_UNSPEC, Accepted, How, MsgFlags, Outgoing, Received, Socket, deadline, wait_error,
};
use crate::file::table::file_or_path;
use crate::file::{FileOps, OpenFile, PollEvents, PollSet, PollTable, pipe};
use crate::fs::{self, FileType, Path, permission};
use crate::prelude::*;
use crate::process::credentials::cap;
use crate::sync::WaitReason;
use alloc::collections::VecDeque;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hashbrown::HashMap;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes an inbox holds before senders wait (net.core.wmem_default).
pub const CAPACITY: usize = 212_992;
/// The most messages of a datagram socket's inbox.
const MAX_MESSAGES: usize = 278;
/// sun_path's size.
const PATH_MAX: usize = 108;
/// Descriptors in one message.
const MAX_FILES: usize = 253;
/// A stream's bytes travel in pieces of at most this.
const PIECE: usize = 32 << 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Stream = 1,
    Datagram = 2,
    SeqPacket = 5,
}

/// `struct ucred`.
#[derive(Clone, Copy, Default, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct Ucred {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Ucred {
    pub fn current() -> Self {
        let creds = current().creds();
        Self { pid: current().process.pid, uid: creds.euid, gid: creds.egid }
    }
}

/// What goes beside the bytes.
#[derive(Default)]
pub struct Ancillary {
    pub files: Vec<Arc<OpenFile>>,
    pub creds: Ucred,
}

struct Message {
    bytes: Vec<u8>,
    start: usize,
    ancillary: Ancillary,
    from: Vec<u8>,
}

#[derive(Default)]
struct Inbox {
    messages: VecDeque<Message>,
    bytes: usize,
}

#[derive(Default)]
struct State {
    /// sun_path as bind(2) gave it; empty when unbound. Abstract names begin with NUL.
    name: Vec<u8>,
    /// Keeps the inode of a bound path.
    place: Option<Path>,
    peer: Option<Weak<UnixSocket>>,
    /// Connections not yet accepted, and how many there may be; `None` unless listening.
    pending: Option<(VecDeque<Arc<UnixSocket>>, usize)>,
    peer_creds: Option<Ucred>,
    connected: bool,
}

pub struct UnixSocket {
    pub kind: Kind,
    id: u64,
    own: Weak<UnixSocket>,
    state: SpinLock<State>,
    inbox: SpinLock<Inbox>,
    reading: Mutex<()>,
    /// Nothing more will come: the other side is gone or has shut down writing, or this one reading.
    end_of_input: AtomicBool,
    /// This side may not send any more.
    shut_write: AtomicBool,
    /// The other side has been closed.
    hung_up: AtomicBool,
    /// The other side went with unread data: reported once.
    reset: AtomicBool,
    common: Common,
    readable: WaitQueue,
    /// Senders wait here for room in this inbox, or in the queue of connections.
    room: WaitQueue,
    poll_set: PollSet,
}

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
fn parse_name(address: &[u8]) -> Result<&[u8], Errno> {
    match address.split_first_chunk::<2>() {
        Some((family, name)) if u16::from_le_bytes(*family) == AF_UNIX && name.len() <= PATH_MAX => Ok(name),
        _ => Err(Errno::EINVAL),
    }
}

fn to_address(name: &[u8]) -> Address {
    let mut address = Address::from_slice(&AF_UNIX.to_le_bytes());
    address.extend_from_slice(name);
    address
}

/// The kind of a UNIX socket: EPROTONOSUPPORT, ESOCKTNOSUPPORT.
fn parse_kind(kind: i32, protocol: i32) -> Result<Kind, Errno> {
    if protocol != 0 && protocol != AF_UNIX as i32 {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match kind {
        1 => Ok(Kind::Stream),
        // Raw UNIX sockets are datagram sockets, as on Linux.
        2 | 3 => Ok(Kind::Datagram),
        5 => Ok(Kind::SeqPacket),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// socket(2).
pub fn create(kind: i32, protocol: i32) -> Result<Arc<UnixSocket>, Errno> {
    Ok(UnixSocket::new(parse_kind(kind, protocol)?))
}

/// socketpair(2).
pub fn create_pair(kind: i32, protocol: i32) -> Result<(Arc<UnixSocket>, Arc<UnixSocket>), Errno> {
    Ok(UnixSocket::pair(parse_kind(kind, protocol)?))
}

/// What a sender's control data means: EINVAL, EBADF, EPERM for credentials of others.
fn read_ancillary(control: &[Control]) -> Result<Ancillary, Errno> {
    let mut ancillary = Ancillary { files: Vec::new(), creds: Ucred::current() };
    for message in control.iter().filter(|message| message.level == SOL_SOCKET) {
        match message.kind {
            SCM_RIGHTS => {
                for fd in message.data.chunks_exact(4) {
                    let fd = i32::from_ne_bytes([fd[0], fd[1], fd[2], fd[3]]);
                    ancillary.files.push(file_or_path(fd)?);
                }
                if ancillary.files.len() > MAX_FILES {
                    return Err(Errno::EINVAL);
                }
            }
            SCM_CREDENTIALS => {
                let claimed = Ucred::read_from_bytes(&message.data).map_err(|_| Errno::EINVAL)?;
                check_claim(&claimed)?;
                ancillary.creds = claimed;
            }
            _ => return Err(Errno::EINVAL),
        }
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

impl UnixSocket {
    pub fn new(kind: Kind) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            kind,
            id: socket::new_id(),
            own: own.clone(),
            state: SpinLock::new(State::default()),
            inbox: SpinLock::new(Inbox::default()),
            reading: Mutex::new(()),
            end_of_input: AtomicBool::new(false),
            shut_write: AtomicBool::new(false),
            hung_up: AtomicBool::new(false),
            reset: AtomicBool::new(false),
            common: Common::new(),
            readable: WaitQueue::new(),
            room: WaitQueue::new(),
            poll_set: PollSet::new(),
        })
    }

    /// socketpair(2).
    pub fn pair(kind: Kind) -> (Arc<Self>, Arc<Self>) {
        let (one, other) = (Self::new(kind), Self::new(kind));
        let creds = Ucred::current();
        for (own, peer) in [(&one, &other), (&other, &one)] {
            let mut state = own.state.lock();
            state.peer = Some(Arc::downgrade(peer));
            state.peer_creds = Some(creds);
            state.connected = true;
        }
        (one, other)
    }

    /// A counted reference to this very socket: EBADF when it is being closed.
    pub fn counted(&self) -> Result<Arc<Self>, Errno> {
        self.own.upgrade().ok_or(Errno::EBADF)
    }
    fn peer(&self) -> Option<Arc<Self>> {
        self.state.lock().peer.as_ref()?.upgrade()
    }
    pub fn peer_creds(&self) -> Option<Ucred> {
        self.state.lock().peer_creds
    }
    fn own_name(&self) -> Vec<u8> {
        self.state.lock().name.clone()
    }
    /// ENOTCONN.
    fn name_of_peer(&self) -> Result<Vec<u8>, Errno> {
        let (connected, peer) = {
            let state = self.state.lock();
            (state.connected, state.peer.clone())
        };
        match peer.and_then(|peer| peer.upgrade()) {
            Some(peer) => Ok(peer.own_name()),
            None if connected => Ok(Vec::new()),
            None => Err(Errno::ENOTCONN),
        }
    }
    fn take_reset(&self) -> Option<Errno> {
        self.reset.swap(false, Ordering::AcqRel).then_some(Errno::ECONNRESET)
    }

    /// EINVAL when bound already, EADDRINUSE, and the errors of making the name.
    fn bind_name(self: &Arc<Self>, name: &[u8]) -> Result<(), Errno> {
        if !self.state.lock().name.is_empty() {
            return Err(Errno::EINVAL);
        }
        if name.is_empty() {
            return self.bind_any();
        }
        if name[0] == 0 {
            self.register(Key::Abstract(self.kind as u8, name.to_vec()))?;
            self.state.lock().name = name.to_vec();
            return Ok(());
        }
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        let place = fs::create_socket_node(&name[..end], 0o777)?;
        self.register(inode_key(&place))?;
        let mut state = self.state.lock();
        state.name = name[..end].to_vec();
        state.name.push(0);
        state.place = Some(place);
        Ok(())
    }

    /// An abstract name of five hexadecimal digits that nobody has.
    fn bind_any(self: &Arc<Self>) -> Result<(), Errno> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        for _ in 0..1 << 20 {
            let number = NEXT.fetch_add(1, Ordering::Relaxed) & 0xf_ffff;
            let name = alloc::format!("\0{number:05x}").into_bytes();
            if self.register(Key::Abstract(self.kind as u8, name.clone())).is_ok() {
                self.state.lock().name = name;
                return Ok(());
            }
        }
        Err(Errno::ENOSPC)
    }

    fn register(self: &Arc<Self>, key: Key) -> Result<(), Errno> {
        let mut bound = BOUND.lock();
        let bound = bound.get_or_insert_with(HashMap::new);
        if bound.get(&key).is_some_and(|other| other.strong_count() != 0) {
            return Err(Errno::EADDRINUSE);
        }
        bound.insert(key, Arc::downgrade(self));
        Ok(())
    }

    /// The socket bound to `name`: ECONNREFUSED, EPROTOTYPE, and the errors of finding the path.
    fn find(&self, name: &[u8]) -> Result<Arc<Self>, Errno> {
        let mut held = None;
        let key = if name.first() == Some(&0) {
            Key::Abstract(self.kind as u8, name.to_vec())
        } else {
            let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
            let place = fs::lookup(fs::AT_FDCWD, &name[..end], true)?;
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

    /// EINVAL when unbound or connected, EOPNOTSUPP for datagrams.
    fn start_listening(&self, backlog: usize) -> Result<(), Errno> {
        if self.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let creds = Ucred::current();
        let mut state = self.state.lock();
        if state.name.is_empty() || state.connected {
            return Err(Errno::EINVAL);
        }
        let limit = backlog.min(4096) + 1;
        match &mut state.pending {
            Some((_, old)) => *old = limit,
            none => *none = Some((VecDeque::new(), limit)),
        }
        state.peer_creds = Some(creds);
        drop(state);
        self.room.wake_all();
        Ok(())
    }

    /// connect(2); an empty name undoes a datagram socket's.
    fn connect_to(self: &Arc<Self>, name: &[u8], nonblocking: bool) -> Result<(), Errno> {
        if self.kind == Kind::Datagram {
            let target = if name.is_empty() { None } else { Some(self.find(name)?) };
            let mut state = self.state.lock();
            state.connected = target.is_some();
            let old = core::mem::replace(&mut state.peer, target.as_ref().map(Arc::downgrade));
            drop(state);
            drop(old);
            return Ok(());
        }
        if name.is_empty() {
            return Err(Errno::EINVAL);
        }
        let listener = self.find(name)?;
        let creds = Ucred::current();
        let server = Self::new(self.kind);
        {
            let listening = listener.state.lock();
            let mut state = server.state.lock();
            state.name = listening.name.clone();
            state.peer = Some(self.own.clone());
            state.peer_creds = Some(creds);
            state.connected = true;
        }
        let attempt = || -> Option<Result<(), Errno>> {
            {
                let state = self.state.lock();
                if state.connected {
                    return Some(Err(Errno::EISCONN));
                }
                if state.pending.is_some() {
                    return Some(Err(Errno::EINVAL));
                }
            }
            let mut listening = listener.state.lock();
            let peer_creds = listening.peer_creds;
            let Some((pending, limit)) = &mut listening.pending else { return Some(Err(Errno::ECONNREFUSED)) };
            if pending.len() >= *limit {
                return nonblocking.then_some(Err(Errno::EAGAIN));
            }
            pending.push_back(server.clone());
            drop(listening);
            let mut state = self.state.lock();
            state.peer = Some(Arc::downgrade(&server));
            state.peer_creds = peer_creds;
            state.connected = true;
            Some(Ok(()))
        };
        let until = deadline(self.common.send_timeout());
        let result = listener.room.wait_until(WaitMode::Interruptible, until, WaitReason::new("unix_connect"), attempt);
        result.map_err(wait_error)??;
        listener.readable.wake_one();
        listener.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
        self.poll_set.notify(PollEvents::OUT | PollEvents::WRNORM);
        Ok(())
    }

    /// EINVAL unless listening; EAGAIN.
    fn accept_one(&self, nonblocking: bool) -> Result<Arc<Self>, Errno> {
        if self.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let attempt = || -> Option<Result<Arc<Self>, Errno>> {
            let mut state = self.state.lock();
            let Some((pending, _)) = &mut state.pending else { return Some(Err(Errno::EINVAL)) };
            match pending.pop_front() {
                Some(socket) => Some(Ok(socket)),
                None if self.end_of_input.load(Ordering::Acquire) => Some(Err(Errno::EINVAL)),
                None => nonblocking.then_some(Err(Errno::EAGAIN)),
            }
        };
        let until = deadline(self.common.receive_timeout());
        let result = self.readable.wait_until(WaitMode::Interruptible, until, WaitReason::new("unix_accept"), attempt);
        let socket = result.map_err(wait_error)??;
        self.room.wake_one();
        Ok(socket)
    }

    /// Sends what `src` holds: all of it as one message, or a stream's bytes in pieces (answers how many went). `to` is an explicit
    /// address. EPIPE, ENOTCONN, EISCONN, EMSGSIZE, EAGAIN, ECONNREFUSED.
    fn send_bytes(
        &self,
        src: &mut UserReader<'_>,
        mut ancillary: Ancillary,
        to: Option<&[u8]>,
        nonblocking: bool,
        signal: bool,
    ) -> SysResult {
        let target = match to {
            Some(name) if self.kind == Kind::Datagram => self.find(name)?,
            Some(_) if self.state.lock().connected => return Err(Errno::EISCONN),
            Some(_) => return Err(Errno::EOPNOTSUPP),
            None => {
                let connected = self.state.lock().connected;
                if !connected {
                    return Err(Errno::ENOTCONN);
                }
                match self.peer() {
                    Some(peer) => peer,
                    None if self.kind == Kind::Datagram => return Err(Errno::ECONNREFUSED),
                    None => return self.broken(signal),
                }
            }
        };
        if self.shut_write.load(Ordering::Acquire) {
            return self.broken(signal);
        }
        let from = self.own_name();
        let is_stream = self.kind == Kind::Stream;
        if !is_stream && src.remaining() > CAPACITY {
            return Err(Errno::EMSGSIZE);
        }
        let mut sent = 0;
        loop {
            let len = if is_stream { src.remaining().min(PIECE) } else { src.remaining() };
            if is_stream && len == 0 {
                return Ok(sent);
            }
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
            bytes.resize(len, 0);
            let copied = if len == 0 { 0 } else { src.read(&mut bytes)? };
            if copied < len {
                if !is_stream {
                    return Err(Errno::EFAULT);
                }
                bytes.truncate(copied);
            }
            let message = Message { bytes, start: 0, ancillary: core::mem::take(&mut ancillary), from: from.clone() };
            match self.deliver(&target, message, nonblocking) {
                Ok(()) => sent += copied,
                Err(_) if sent > 0 => return Ok(sent),
                Err(Errno::EPIPE) => return self.broken(signal),
                Err(error) => return Err(error),
            }
            if !is_stream || src.remaining() == 0 || copied < len {
                return Ok(sent);
            }
        }
    }

    fn broken(&self, signal: bool) -> SysResult {
        if signal && self.kind != Kind::Datagram { pipe::broken_pipe() } else { Err(Errno::EPIPE) }
    }

    /// Puts a message into `target`'s inbox, waiting for room. EPIPE when it takes no more.
    fn deliver(&self, target: &Arc<Self>, message: Message, nonblocking: bool) -> Result<(), Errno> {
        let mut message = Some(message);
        let attempt = || -> Option<Result<(), Errno>> {
            if target.end_of_input.load(Ordering::Acquire) {
                return Some(Err(if self.kind == Kind::Datagram && target.hung_up.load(Ordering::Acquire) {
                    Errno::ECONNREFUSED
                } else {
                    Errno::EPIPE
                }));
            }
            let mut inbox = target.inbox.lock();
            let len = message.as_ref().map_or(0, |message| message.bytes.len());
            let full = inbox.bytes != 0 && inbox.bytes + len > CAPACITY
                || self.kind != Kind::Stream && inbox.messages.len() >= MAX_MESSAGES;
            if full {
                drop(inbox);
                return nonblocking.then_some(Err(Errno::EAGAIN));
            }
            inbox.bytes += len;
            inbox.messages.extend(message.take());
            Some(Ok(()))
        };
        let until = deadline(self.common.send_timeout());
        let result =
            target.room.wait_until(WaitMode::Interruptible, until, WaitReason::on("unix_send", target.id), attempt);
        result.map_err(wait_error)??;
        target.readable.wake_one();
        target.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
        Ok(())
    }

    /// What a receive got beside the bytes.
    fn receive_bytes(&self, dst: &mut UserWriter<'_>, how: How) -> Result<Taken, Errno> {
        if self.kind != Kind::Datagram && !self.state.lock().connected {
            return Err(if self.kind == Kind::Stream { Errno::EINVAL } else { Errno::ENOTCONN });
        }
        let mut received = Taken::default();
        if self.kind == Kind::Stream && dst.remaining() == 0 {
            return Ok(received);
        }
        loop {
            let reading = self.reading.lock();
            let progress = if self.kind == Kind::Stream {
                self.take_stream(dst, how.peeks(), &mut received)?
            } else {
                self.take_packet(dst, how.peeks(), &mut received)?
            };
            drop(reading);
            if !how.peeks() && progress {
                self.made_room();
            }
            let enough = received.len > 0
                && !(how.flags.contains(MsgFlags::WAITALL)
                    && dst.remaining() > 0
                    && !how.peeks()
                    && received.files.is_empty());
            if progress && (self.kind != Kind::Stream || enough) {
                return Ok(received);
            }
            let attempt = || -> Option<Result<bool, Errno>> {
                if !self.inbox.lock().messages.is_empty() {
                    return Some(Ok(true));
                }
                if self.end_of_input.load(Ordering::Acquire) {
                    return Some(self.take_reset().map_or(Ok(false), Err));
                }
                how.nonblocking.then_some(Err(Errno::EAGAIN))
            };
            let until = deadline(self.common.receive_timeout());
            let reason = WaitReason::on("unix_receive", self.id);
            match self
                .readable
                .wait_until(WaitMode::Interruptible, until, reason, attempt)
                .map_err(wait_error)
                .flatten()
            {
                Ok(true) => {}
                Ok(false) => return Ok(received),
                Err(_) if received.len > 0 => return Ok(received),
                Err(error) => return Err(error),
            }
        }
    }

    /// Bytes of a stream, up to the end of a piece that carried descriptors.
    fn take_stream(&self, dst: &mut UserWriter<'_>, peek: bool, received: &mut Taken) -> Result<bool, Errno> {
        let mut progress = false;
        let mut peeked: Vec<Message> = Vec::new();
        let result = loop {
            let Some(mut message) = self.pop() else { break Ok(()) };
            // Descriptors end what one receive takes.
            let boundary = progress && !received.files.is_empty();
            if boundary || dst.remaining() == 0 {
                self.push_back(message);
                break Ok(());
            }
            let rest = &message.bytes[message.start..];
            let n = match dst.write(&rest[..rest.len().min(dst.remaining())]) {
                Ok(n) => n,
                Err(error) => {
                    self.push_back(message);
                    break if progress { Ok(()) } else { Err(error) };
                }
            };
            progress = true;
            received.len += n;
            received.creds = message.ancillary.creds;
            if peek {
                received.files.extend(message.ancillary.files.iter().cloned());
                peeked.push(message);
                continue;
            }
            received.files.append(&mut message.ancillary.files);
            message.start += n;
            if message.start < message.bytes.len() {
                self.push_back(message);
                break Ok(());
            }
        };
        for message in peeked.into_iter().rev() {
            self.push_back(message);
        }
        result.map(|()| progress)
    }

    fn take_packet(&self, dst: &mut UserWriter<'_>, peek: bool, received: &mut Taken) -> Result<bool, Errno> {
        let Some(mut message) = self.pop() else { return Ok(false) };
        let n = message.bytes.len().min(dst.remaining());
        let copied = if n == 0 { Ok(0) } else { dst.write(&message.bytes[..n]) };
        received.len = copied.as_ref().copied().unwrap_or(0);
        received.full_len = message.bytes.len();
        received.truncated = n < message.bytes.len();
        received.creds = message.ancillary.creds;
        if peek {
            received.from = message.from.clone();
            received.files = message.ancillary.files.clone();
            self.push_back(message);
        } else {
            received.from = core::mem::take(&mut message.from);
            received.files = core::mem::take(&mut message.ancillary.files);
        }
        copied.map(|_| true)
    }

    fn pop(&self) -> Option<Message> {
        let mut inbox = self.inbox.lock();
        let message = inbox.messages.pop_front()?;
        inbox.bytes -= message.bytes.len() - message.start;
        Some(message)
    }
    fn push_back(&self, message: Message) {
        let mut inbox = self.inbox.lock();
        inbox.bytes += message.bytes.len() - message.start;
        inbox.messages.push_front(message);
    }

    fn made_room(&self) {
        self.room.wake_one();
        if self.kind != Kind::Datagram
            && let Some(peer) = self.peer()
        {
            peer.poll_set.notify(PollEvents::OUT | PollEvents::WRNORM);
        }
        if !self.inbox.lock().messages.is_empty() {
            self.readable.wake_one();
        }
    }

    /// shutdown(2), of an unconnected socket too.
    fn shut_down(&self, read: bool, write: bool) -> Result<(), Errno> {
        if read {
            self.end_input();
        }
        if write {
            self.shut_write.store(true, Ordering::Release);
        }
        if self.kind != Kind::Datagram
            && let Some(peer) = self.peer()
        {
            if write {
                peer.end_input();
            }
            if read {
                peer.shut_write.store(true, Ordering::Release);
                peer.poll_set.notify(PollEvents::OUT | PollEvents::HUP);
            }
        }
        Ok(())
    }

    fn end_input(&self) {
        self.end_of_input.store(true, Ordering::Release);
        self.readable.wake_all();
        self.room.wake_all();
        self.poll_set.notify(PollEvents::IN | PollEvents::HUP | PollEvents::RDHUP);
    }

    /// The socket goes: its name, its connection, those that wait to be accepted.
    fn close(&self) {
        let (place, name, peer, pending) = {
            let mut state = self.state.lock();
            (state.place.take(), state.name.clone(), state.peer.take(), state.pending.take())
        };
        let is_own = |bound: &Weak<Self>| bound.ptr_eq(&self.own);
        let key = match &place {
            Some(place) => Some(inode_key(place)),
            None if name.first() == Some(&0) => Some(Key::Abstract(self.kind as u8, name)),
            None => None,
        };
        if let Some(key) = key {
            let mut bound = BOUND.lock();
            if let Some(bound) = bound.as_mut().filter(|bound| bound.get(&key).is_some_and(is_own)) {
                bound.remove(&key);
            }
        }
        drop(place);
        self.hung_up.store(true, Ordering::Release);
        self.end_of_input.store(true, Ordering::Release);
        let unread = core::mem::take(&mut *self.inbox.lock());
        self.room.wake_all();
        if self.kind != Kind::Datagram
            && let Some(peer) = peer.and_then(|peer| peer.upgrade())
        {
            if !unread.messages.is_empty() {
                peer.reset.store(true, Ordering::Release);
            }
            peer.hung_up.store(true, Ordering::Release);
            peer.shut_write.store(true, Ordering::Release);
            peer.end_input();
        }
        drop(unread);
        for waiting in pending.into_iter().flat_map(|(pending, _)| pending) {
            waiting.close();
        }
    }

    fn poll_events(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        let (connected, has_pending) = {
            let state = self.state.lock();
            (state.connected, state.pending.as_ref().map(|(pending, _)| !pending.is_empty()))
        };
        if let Some(has_pending) = has_pending {
            return if has_pending { PollEvents::IN | PollEvents::RDNORM } else { events };
        }
        let ended = self.end_of_input.load(Ordering::Acquire);
        if ended {
            events |= PollEvents::RDHUP;
        }
        if ended || !self.inbox.lock().messages.is_empty() {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if self.reset.load(Ordering::Acquire) {
            events |= PollEvents::ERR;
        }
        if self.kind != Kind::Datagram {
            let both_ended = ended && self.shut_write.load(Ordering::Acquire);
            if !connected || both_ended || self.hung_up.load(Ordering::Acquire) {
                events |= PollEvents::HUP;
            }
        }
        let has_room = match self.peer() {
            Some(peer) if self.kind != Kind::Datagram => peer.inbox.lock().bytes < CAPACITY / 2,
            _ => true,
        };
        if has_room {
            events |= PollEvents::OUT | PollEvents::WRNORM | PollEvents::WRBAND;
        }
        events
    }

    fn unread(&self) -> usize {
        let inbox = self.inbox.lock();
        if self.kind == Kind::Stream {
            inbox.bytes
        } else {
            inbox.messages.front().map_or(0, |message| message.bytes.len())
        }
    }
}

/// What a receive took.
#[derive(Default)]
struct Taken {
    len: usize,
    /// Length of the whole packet.
    full_len: usize,
    truncated: bool,
    files: Vec<Arc<OpenFile>>,
    creds: Ucred,
    /// The sender's name.
    from: Vec<u8>,
}

impl Socket for UnixSocket {
    fn common(&self) -> &Common {
        &self.common
    }
    fn domain(&self) -> u16 {
        AF_UNIX
    }
    fn kind(&self) -> i32 {
        self.kind as i32
    }
    fn bind(&self, address: &[u8]) -> Result<(), Errno> {
        self.counted()?.bind_name(parse_name(address)?)
    }
    fn listen(&self, backlog: i32) -> Result<(), Errno> {
        self.start_listening(usize::try_from(backlog).unwrap_or(4096))
    }
    fn accept(&self, nonblocking: bool) -> Result<Accepted, Errno> {
        let socket = self.accept_one(nonblocking)?;
        let peer = to_address(&socket.name_of_peer().unwrap_or_default());
        Ok(Accepted { socket, peer })
    }
    fn connect(&self, address: &[u8], nonblocking: bool) -> Result<(), Errno> {
        let own = self.counted()?;
        if address.first_chunk::<2>().is_some_and(|family| u16::from_le_bytes(*family) == AF_UNSPEC) {
            return own.connect_to(&[], false);
        }
        let name = parse_name(address)?;
        if name.is_empty() { Err(Errno::EINVAL) } else { own.connect_to(name, nonblocking) }
    }
    fn name(&self) -> Result<Address, Errno> {
        Ok(to_address(&self.own_name()))
    }
    fn peer_name(&self) -> Result<Address, Errno> {
        Ok(to_address(&self.name_of_peer()?))
    }
    fn send(&self, src: &mut UserReader<'_>, out: Outgoing<'_>, how: How) -> SysResult {
        let to = match out.to {
            Some(address) if !address.is_empty() => Some(parse_name(address)?),
            _ => None,
        };
        let ancillary = read_ancillary(out.control)?;
        if how.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        self.send_bytes(src, ancillary, to, how.nonblocking, how.signals())
    }
    fn receive(&self, dst: &mut UserWriter<'_>, how: How) -> Result<Received, Errno> {
        if how.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let taken = self.receive_bytes(dst, how)?;
        let mut received = Received { len: taken.len, full_len: taken.full_len, ..Received::default() };
        received.flags.set(MsgFlags::TRUNC, taken.truncated);
        if !taken.from.is_empty() {
            received.from = to_address(&taken.from);
        }
        if self.common.is_on(Switches::PASS_CRED) {
            received.control.push(ControlItem::new(SOL_SOCKET, SCM_CREDENTIALS, &taken.creds));
        }
        if !taken.files.is_empty() {
            received.control.push(ControlItem::Files(taken.files));
        }
        Ok(received)
    }
    fn shutdown(&self, read: bool, write: bool) -> Result<(), Errno> {
        self.shut_down(read, write)
    }
    fn take_error(&self) -> Option<Errno> {
        self.take_reset()
    }
    fn is_listening(&self) -> bool {
        self.state.lock().pending.is_some()
    }
    fn option(&self, level: i32, name: i32, _room: usize) -> Option<Result<Vec<u8>, Errno>> {
        if (level, name) != (SOL_SOCKET, SO_PEERCRED) {
            return None;
        }
        let none = Ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
        Some(Ok(self.peer_creds().unwrap_or(none).as_bytes().to_vec()))
    }
}

impl FileOps for UnixSocket {
    fn read(&self, file: &OpenFile, _offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        Ok(self.receive_bytes(dst, How::new(file, 0))?.len)
    }
    fn write(&self, file: &OpenFile, _offset: u64, src: &mut UserReader<'_>) -> SysResult {
        let ancillary = Ancillary { files: Vec::new(), creds: Ucred::current() };
        self.send_bytes(src, ancillary, None, file.is_nonblocking(), true)
    }
    fn poll(&self, _file: &OpenFile, table: Option<&mut PollTable<'_>>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.poll_set);
        }
        self.poll_events()
    }
    fn ioctl(&self, _file: &OpenFile, command: u32, argument: u64) -> SysResult {
        const FIONREAD: u32 = 0x541b;
        const TIOCOUTQ: u32 = 0x5411;
        let value = match command {
            FIONREAD => self.unread(),
            TIOCOUTQ => self.peer().map_or(0, |peer| peer.inbox.lock().bytes),
            _ => return Err(Errno::ENOTTY),
        };
        UserPtr::<i32>::new(UserAddr(argument)).write(&(value as i32))?;
        Ok(0)
    }
    fn release(&self, _file: &OpenFile) {
        self.close();
    }
    fn anonymous_name(&self) -> Option<String> {
        Some(alloc::format!("socket:[{}]", self.id))
    }
    fn stat(&self, _file: &OpenFile) -> Option<fs::Stat> {
        Some(socket::stat(self.id))
    }
    fn as_socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }
    fn as_any(&self) -> &dyn Any {
        self
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
        let name = name.strip_suffix(b"\0").filter(|name| name.first() != Some(&0)).unwrap_or(&name);
        let name = String::from_utf8_lossy(name).replace('\0', "@");
        let (refs, kind, id) = (Arc::strong_count(&socket), socket.kind as u8, socket.id);
        let _ = writeln!(text, "{id:016x}: {refs:08X} 00000000 {flags:08X} {kind:04X} {status:02X} {id:5} {name}");
    }
    text
}
