//! Netlink sockets: requests about interfaces, addresses, routes and neighbours ([`route`]), about sockets ([`diag`]), and news
//! of changes for those who joined a group.
//!
//! A request is answered while it is sent: the answers wait in the socket's own inbox. Lock order: `SOCKETS` → a socket's
//! `inbox`; neither is held across a copy or a sleep.

mod diag;
mod message;
mod route;

use super::iface::{self, Change};
use super::message::Address;
use super::options::{Common, OptionIn};
use super::socket::{self, How, MsgFlags, Outgoing, Received, SOCK_DGRAM, SOCK_RAW, Socket, deadline, wait_error};
use crate::prelude::*;
use crate::sync::{WaitKind, WaitReason};
use crate::task::credentials::cap;
use crate::vfs::{FileOps, OpenFile, PollEvents, PollSet, PollTable};
use alloc::collections::VecDeque;
use alloc::vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use message::{HEADER, Header, NLM_F_ACK, NLM_F_MULTI, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, align};

pub const AF_NETLINK: u16 = 16;
const ROUTE: i32 = 0;
const SOCK_DIAG: i32 = 4;
const KOBJECT_UEVENT: i32 = 15;

const SOL_NETLINK: i32 = 270;
const ADD_MEMBERSHIP: i32 = 1;
const DROP_MEMBERSHIP: i32 = 2;
const PKTINFO: i32 = 3;
const LIST_MEMBERSHIPS: i32 = 9;
const CAP_ACK: i32 = 10;
const EXT_ACK: i32 = 11;
const GET_STRICT_CHK: i32 = 12;
/// Groups of the largest number we keep.
const NR_GROUPS: u32 = 32;

/// Bytes of a datagram of a dump: what fits the smallest buffer that programs use.
const DATAGRAM: usize = 3800;
/// The longest request taken.
const MAX_REQUEST: usize = 64 << 10;

struct Datagram {
    bytes: Vec<u8>,
    /// The group it was sent to, as a bit; 0: to this socket.
    group: u32,
}

#[derive(Default)]
struct Inbox {
    datagrams: VecDeque<Datagram>,
    bytes: usize,
}

pub struct NetlinkSocket {
    protocol: i32,
    kind: i32,
    id: u64,
    /// 0 until bound.
    port: AtomicU32,
    groups: AtomicU32,
    /// Where connect(2) pointed it: port and groups.
    peer: SpinLock<(u32, u32)>,
    cap_ack: AtomicBool,
    strict: AtomicBool,
    /// News were lost: ENOBUFS once.
    overrun: AtomicBool,
    inbox: SpinLock<Inbox>,
    reading: Mutex<()>,
    readable: WaitQueue,
    poll_set: PollSet,
    common: Common,
}

static SOCKETS: SpinLock<Vec<Weak<NetlinkSocket>>> = SpinLock::new(Vec::new());

/// Tells the groups of changes from now on.
pub fn init() {
    iface::on_change(announce);
}

/// socket(2): ESOCKTNOSUPPORT, EPROTONOSUPPORT.
pub fn create(kind: i32, protocol: i32) -> Result<Arc<NetlinkSocket>, Errno> {
    if kind != SOCK_DGRAM && kind != SOCK_RAW {
        return Err(Errno::ESOCKTNOSUPPORT);
    }
    if ![ROUTE, SOCK_DIAG, KOBJECT_UEVENT].contains(&protocol) {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let socket = Arc::new(NetlinkSocket {
        protocol,
        kind,
        id: socket::new_id(),
        port: AtomicU32::new(0),
        groups: AtomicU32::new(0),
        peer: SpinLock::new((0, 0)),
        cap_ack: AtomicBool::new(false),
        strict: AtomicBool::new(false),
        overrun: AtomicBool::new(false),
        inbox: SpinLock::new(Inbox::default()),
        reading: Mutex::new(()),
        readable: WaitQueue::new(),
        poll_set: PollSet::new(),
        common: Common::new(),
    });
    let mut sockets = SOCKETS.lock();
    sockets.retain(|socket| socket.strong_count() != 0);
    sockets.push(Arc::downgrade(&socket));
    Ok(socket)
}

fn all() -> Vec<Arc<NetlinkSocket>> {
    SOCKETS.lock().iter().filter_map(Weak::upgrade).collect()
}

/// /proc/net/netlink.
pub fn format_table() -> String {
    use core::fmt::Write;
    let mut text =
        String::from("sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n");
    for socket in all() {
        let (port, groups) = (socket.port.load(Ordering::Relaxed), socket.groups.load(Ordering::Relaxed));
        let bytes = socket.inbox.lock().bytes;
        let (protocol, id) = (socket.protocol, socket.id);
        let _ = writeln!(
            text,
            "{id:016x} {protocol:<3} {port:<10} {groups:08x} {bytes:<8} 0        0     2        0        {id:<8}"
        );
    }
    text
}

/// Tells the members of the change's group; never sleeps.
fn announce(change: &Change) {
    let Some((group, bytes)) = route::news(change) else { return };
    let bit = 1 << (group - 1);
    for socket in all() {
        if socket.protocol == ROUTE && socket.groups.load(Ordering::Relaxed) & bit != 0 {
            socket.put(bytes.clone(), bit);
        }
    }
}

/// `struct sockaddr_nl`.
fn to_address(port: u32, groups: u32) -> Address {
    let mut address = Address::from_slice(&AF_NETLINK.to_ne_bytes());
    address.extend_from_slice(&[0, 0]);
    address.extend_from_slice(&port.to_ne_bytes());
    address.extend_from_slice(&groups.to_ne_bytes());
    address
}

/// Port and groups: EINVAL.
fn parse_address(address: &[u8]) -> Result<(u32, u32), Errno> {
    let word = |at: usize| address.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_ne_bytes);
    let family = address.first_chunk().map(|family| u16::from_ne_bytes(*family));
    match (family, word(4), word(8)) {
        (Some(AF_NETLINK), Some(port), Some(groups)) => Ok((port, groups)),
        _ => Err(Errno::EINVAL),
    }
}

/// The answers to one request.
struct Reply {
    pub header: Header,
    pub port: u32,
    pub messages: Vec<Vec<u8>>,
    pub is_dump: bool,
    /// There was no memory for all of it.
    is_short: bool,
}

impl Reply {
    pub fn message(&self, kind: u16, body: &[u8]) -> message::Builder {
        let flags = if self.is_dump { NLM_F_MULTI } else { 0 };
        message::Builder::new(kind, flags, self.header.sequence, self.port, body)
    }
    pub fn push(&mut self, message: message::Builder) {
        let message = message.finish();
        if self.is_short || admit(message.len()).is_err() || self.messages.try_push(message).is_err() {
            self.is_short = true;
        }
    }
}

impl NetlinkSocket {
    /// Chooses a port when there is none: the process's number, or another that is free.
    fn autobind(&self) -> u32 {
        let port = self.port.load(Ordering::Relaxed);
        if port != 0 {
            return port;
        }
        static NEXT: AtomicU32 = AtomicU32::new(u32::MAX - 4096);
        let taken = |port| {
            all().iter().any(|other| other.protocol == self.protocol && other.port.load(Ordering::Relaxed) == port)
        };
        let mut port = current().process.pid;
        while taken(port) {
            port = NEXT.fetch_sub(1, Ordering::Relaxed);
        }
        // Whoever was first has chosen for both.
        match self.port.compare_exchange(0, port, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => port,
            Err(other) => other,
        }
    }

    /// Queues a datagram; when there is no room the news are lost and the reader is told.
    fn put(&self, bytes: Vec<u8>, group: u32) {
        let room = self.common.receive_buffer.load(Ordering::Relaxed) as usize;
        {
            let mut inbox = self.inbox.lock();
            if group != 0 && inbox.bytes + bytes.len() > room {
                self.overrun.store(true, Ordering::Release);
            } else {
                inbox.bytes += bytes.len();
                inbox.datagrams.push_back(Datagram { bytes, group });
            }
        }
        self.readable.wake_one();
        self.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
    }

    /// Puts a message that the kernel sends of itself (mq_notify(3)'s cookie) into the inbox: ENOBUFS when it is full.
    pub fn push(&self, bytes: Vec<u8>) -> Result<(), Errno> {
        let room = self.common.receive_buffer.load(Ordering::Relaxed) as usize;
        if self.inbox.lock().bytes + bytes.len() > room {
            return Err(Errno::ENOBUFS);
        }
        self.put(bytes, 0);
        Ok(())
    }

    /// Carries out every message of a request.
    fn process(&self, bytes: &[u8]) {
        let port = self.autobind();
        let mut rest = bytes;
        while let Some(header) = Header::read(rest) {
            let len = header.len as usize;
            let Some(request) = rest.get(..len).filter(|_| len >= HEADER) else { return };
            if header.has(NLM_F_REQUEST) && ![NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE].contains(&header.kind) {
                self.answer(request, header, port);
            } else if header.has(NLM_F_ACK) {
                self.put(message::error(request, header, port, None, true), 0);
            }
            rest = rest.get(align(len)..).unwrap_or(&[]);
        }
    }

    fn answer(&self, request: &[u8], header: Header, port: u32) {
        let mut reply = Reply { header, port, messages: Vec::new(), is_dump: false, is_short: false };
        let body = &request[HEADER..];
        let result = match self.protocol {
            ROUTE => route::handle(&mut reply, body),
            SOCK_DIAG => diag::handle(&mut reply, body),
            _ => Err(Errno::EOPNOTSUPP),
        };
        let result = result.and(if reply.is_short { Err(Errno::ENOMEM) } else { Ok(()) });
        match result {
            Ok(()) if reply.is_dump => {
                let done = reply.message(NLMSG_DONE, &0i32.to_ne_bytes());
                reply.push(done);
            }
            Ok(()) if !header.has(NLM_F_ACK) => {}
            result => {
                let cap = self.cap_ack.load(Ordering::Relaxed);
                reply.messages.push(message::error(request, header, port, result.err(), cap));
            }
        }
        let mut datagram = Vec::new();
        for message in reply.messages {
            if !datagram.is_empty() && datagram.len() + message.len() > DATAGRAM {
                self.put(core::mem::take(&mut datagram), 0);
            }
            if datagram.try_append_slice(&message).is_err() {
                self.overrun.store(true, Ordering::Release);
                break;
            }
        }
        if !datagram.is_empty() {
            self.put(datagram, 0);
        }
    }

    fn take_overrun(&self) -> bool {
        self.overrun.swap(false, Ordering::AcqRel)
    }
}

impl Socket for NetlinkSocket {
    fn common(&self) -> &Common {
        &self.common
    }
    fn domain(&self) -> u16 {
        AF_NETLINK
    }
    fn kind(&self) -> i32 {
        self.kind
    }
    fn protocol(&self) -> i32 {
        self.protocol
    }
    /// EINVAL, EADDRINUSE.
    fn bind(&self, address: &[u8]) -> Result<(), Errno> {
        let (port, groups) = parse_address(address)?;
        let bound = self.port.load(Ordering::Relaxed);
        if bound != 0 && port != 0 && port != bound {
            return Err(Errno::EINVAL);
        }
        if bound == 0 && port != 0 {
            let taken =
                |other: &Arc<Self>| other.protocol == self.protocol && other.port.load(Ordering::Relaxed) == port;
            if all().iter().any(taken) {
                return Err(Errno::EADDRINUSE);
            }
            self.port.store(port, Ordering::Relaxed);
        }
        self.autobind();
        self.groups.store(groups, Ordering::Relaxed);
        Ok(())
    }
    fn connect(&self, address: &[u8], _nonblocking: bool) -> Result<(), Errno> {
        let unspecified = address.first_chunk() == Some(&[0, 0]);
        *self.peer.lock() = if unspecified { (0, 0) } else { parse_address(address)? };
        self.autobind();
        Ok(())
    }
    fn inode(&self) -> u64 {
        self.id
    }
    fn name(&self) -> Result<Address, Errno> {
        Ok(to_address(self.port.load(Ordering::Relaxed), self.groups.load(Ordering::Relaxed)))
    }
    fn peer_name(&self) -> Result<Address, Errno> {
        let (port, groups) = *self.peer.lock();
        Ok(to_address(port, groups))
    }
    /// EMSGSIZE, EPERM, ECONNREFUSED for anyone but the kernel.
    fn send(&self, src: &mut UserReader<'_>, out: Outgoing<'_>, how: How) -> SysResult {
        if how.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let (port, groups) = match out.to {
            Some(address) => parse_address(address)?,
            None => *self.peer.lock(),
        };
        if groups != 0 && !current().creds().has_cap(cap::NET_ADMIN) {
            return Err(Errno::EPERM);
        }
        if src.remaining() > MAX_REQUEST {
            return Err(Errno::EMSGSIZE);
        }
        if port != 0 {
            return Err(Errno::ECONNREFUSED);
        }
        let bytes = src.read_all()?;
        self.process(&bytes);
        Ok(bytes.len())
    }
    /// ENOBUFS when news were lost, EAGAIN, EINTR.
    fn receive(&self, dst: &mut UserWriter<'_>, how: How) -> Result<Received, Errno> {
        let until = deadline(self.common.receive_timeout());
        loop {
            {
                let _reading = self.reading.lock();
                if self.take_overrun() {
                    return Err(Errno::ENOBUFS);
                }
                let first = self.inbox.lock().datagrams.front().map(|first| (first.bytes.clone(), first.group));
                if let Some((bytes, group)) = first {
                    let len = bytes.len().min(dst.remaining());
                    if len > 0 {
                        dst.write(&bytes[..len])?;
                    }
                    if !how.peeks() {
                        let mut inbox = self.inbox.lock();
                        inbox.bytes -= bytes.len();
                        inbox.datagrams.pop_front();
                    }
                    let flags = if len < bytes.len() { MsgFlags::TRUNC } else { MsgFlags::empty() };
                    let from = to_address(0, group);
                    return Ok(Received { len, full_len: bytes.len(), flags, from, control: Vec::new() });
                }
            }
            if how.nonblocking {
                return Err(Errno::EAGAIN);
            }
            let reason = WaitReason::on(WaitKind::NetlinkRecv, self.id);
            let ready = || {
                let some = !self.inbox.lock().datagrams.is_empty() || self.overrun.load(Ordering::Acquire);
                some.then_some(())
            };
            self.readable.wait_until(WaitMode::Interruptible, until, reason, ready).map_err(wait_error(until))?;
        }
    }
    fn set_option(&self, level: i32, name: i32, value: OptionIn) -> Option<Result<(), Errno>> {
        if level != SOL_NETLINK {
            return None;
        }
        Some(self.set_netlink_option(name, value))
    }
    fn option(&self, level: i32, name: i32, room: usize) -> Option<Result<Vec<u8>, Errno>> {
        if level != SOL_NETLINK {
            return None;
        }
        let flag = |flag: &AtomicBool| Ok(i32::from(flag.load(Ordering::Relaxed)).to_ne_bytes().to_vec());
        Some(match name {
            CAP_ACK => flag(&self.cap_ack),
            GET_STRICT_CHK => flag(&self.strict),
            PKTINFO | EXT_ACK => Ok(vec![0; 4]),
            LIST_MEMBERSHIPS => {
                let mut groups = self.groups.load(Ordering::Relaxed).to_ne_bytes().to_vec();
                groups.truncate(room);
                Ok(groups)
            }
            _ => Err(Errno::ENOPROTOOPT),
        })
    }
    fn unknown_level(&self) -> Errno {
        Errno::ENOPROTOOPT
    }
}

impl NetlinkSocket {
    /// EINVAL, ENOPROTOOPT.
    fn set_netlink_option(&self, name: i32, value: OptionIn) -> Result<(), Errno> {
        let number = value.int()?;
        match name {
            ADD_MEMBERSHIP | DROP_MEMBERSHIP => {
                let group = u32::try_from(number).ok().filter(|group| *group >= 1).ok_or(Errno::EINVAL)?;
                self.autobind();
                // Groups beyond those we have news of can be joined: nothing ever comes.
                if group <= NR_GROUPS {
                    let bit = 1 << (group - 1);
                    if name == ADD_MEMBERSHIP {
                        self.groups.fetch_or(bit, Ordering::Relaxed);
                    } else {
                        self.groups.fetch_and(!bit, Ordering::Relaxed);
                    }
                }
            }
            CAP_ACK => self.cap_ack.store(number != 0, Ordering::Relaxed),
            GET_STRICT_CHK => self.strict.store(number != 0, Ordering::Relaxed),
            4 | 5 | PKTINFO | EXT_ACK => {}
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }
}

impl FileOps for NetlinkSocket {
    fn read(&self, file: &OpenFile, _offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        Ok(self.receive(dst, How::new(file, 0))?.len)
    }
    fn write(&self, file: &OpenFile, _offset: u64, src: &mut UserReader<'_>) -> SysResult {
        self.send(src, Outgoing::default(), How::new(file, 0))
    }
    fn poll(&self, _file: &OpenFile, table: Option<&mut PollTable<'_>>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.poll_set);
        }
        let mut events = PollEvents::OUT | PollEvents::WRNORM;
        if self.overrun.load(Ordering::Acquire) {
            events |= PollEvents::ERR;
        }
        if !self.inbox.lock().datagrams.is_empty() {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        events
    }
    fn as_socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
