//! The error queue of a socket (IP_RECVERR and IPV6_RECVERR, ip(7)): which packet an error was about and who told, for recvmsg(2)
//! with MSG_ERRQUEUE.

use super::address::Endpoint;
use super::icmp::Trouble;
use super::options::{IP_RECVERR, IPPROTO_IP, IPPROTO_IPV6, IPV6_RECVERR};
use crate::net::message::ControlItem;
use crate::net::socket::{AF_INET, MsgFlags, Received};
use crate::prelude::*;
use alloc::collections::VecDeque;
use core::net::IpAddr;
use smallvec::SmallVec;
use zerocopy::{Immutable, IntoBytes};

/// Who found the error: this machine, or an ICMP message.
const ORIGIN_LOCAL: u8 = 1;
const ORIGIN_ICMP: u8 = 2;
const ORIGIN_ICMP6: u8 = 3;
/// What an entry costs beside its bytes, and how many bytes of a packet it keeps.
const OVERHEAD: usize = 576;
const MAX_BYTES: usize = 65_536;

/// `struct sock_extended_err`.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
struct ExtendedError {
    errno: u32,
    origin: u8,
    kind: u8,
    code: u8,
    pad: u8,
    info: u32,
    data: u32,
}

struct Entry {
    error: ExtendedError,
    /// Who sent the ICMP message.
    offender: Option<IpAddr>,
    /// Where the packet was to go.
    to: Endpoint,
    payload: Vec<u8>,
}

impl Entry {
    fn is_icmp(&self) -> bool {
        self.error.origin != ORIGIN_LOCAL
    }
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
}

/// Its lock is taken alone.
pub struct ErrorQueue(SpinLock<Queue>);

impl ErrorQueue {
    pub const fn new() -> Self {
        Self(SpinLock::new(Queue { entries: VecDeque::new(), bytes: 0 }))
    }

    pub fn is_empty(&self) -> bool {
        self.0.lock().entries.is_empty()
    }

    /// The switch is off: what waits is forgotten.
    pub fn clear(&self) {
        *self.0.lock() = Queue::default();
    }

    /// Keeps what ICMP said of the packet to `to` that began with `payload`; a queue as long as the receive buffer drops it.
    pub fn push_icmp(&self, trouble: &Trouble, to: Endpoint, payload: &[u8], limit: u32) {
        let origin = if to.ip.is_ipv4() { ORIGIN_ICMP } else { ORIGIN_ICMP6 };
        let error = trouble.extended(origin);
        self.push(Entry { error, offender: Some(trouble.offender), to, payload: payload.to_vec() }, limit);
    }

    /// A packet to `to` was longer than `mtu` and must not be cut.
    pub fn push_too_long(&self, to: Endpoint, mtu: u32, limit: u32) {
        let errno = Errno::EMSGSIZE.0 as u32;
        let error = ExtendedError { errno, origin: ORIGIN_LOCAL, kind: 0, code: 0, pad: 0, info: mtu, data: 0 };
        self.push(Entry { error, offender: None, to, payload: Vec::new() }, limit);
    }

    fn push(&self, entry: Entry, limit: u32) {
        let mut queue = self.0.lock();
        let bytes = entry.payload.len() + OVERHEAD;
        if queue.bytes + bytes < limit as usize && entry.payload.len() <= MAX_BYTES {
            queue.bytes += bytes;
            queue.entries.push_back(entry);
        }
    }

    /// The oldest error, and what SO_ERROR is from now on (`None`: as it was): EAGAIN.
    pub fn receive(&self, domain: u16, dst: &mut UserWriter<'_>) -> Result<(Received, Option<Option<Errno>>), Errno> {
        let (entry, next) = {
            let mut queue = self.0.lock();
            let entry = queue.entries.pop_front().ok_or(Errno::EAGAIN)?;
            queue.bytes -= entry.payload.len() + OVERHEAD;
            let next = queue.entries.front().filter(|next| next.is_icmp()).map(|next| Errno(next.error.errno as _));
            (entry, next)
        };
        let pending = (next.is_some() || entry.is_icmp()).then_some(next);
        let len = entry.payload.len().min(dst.remaining());
        if len != 0 && dst.write(&entry.payload[..len])? < len {
            return Err(Errno::EFAULT);
        }
        let mut received = Received { len, full_len: entry.payload.len(), ..Received::default() };
        received.flags = MsgFlags::ERRQUEUE;
        received.flags.set(MsgFlags::TRUNC, len < entry.payload.len());
        received.from = entry.to.to_address(domain);
        let mut data: SmallVec<[u8; 32]> = SmallVec::from_slice(entry.error.as_bytes());
        let nowhere = if domain == AF_INET { 16 } else { 28 };
        match entry.offender {
            Some(offender) => data.extend_from_slice(&Endpoint::new(offender, 0).to_address(domain)),
            None => data.resize(data.len() + nowhere, 0),
        }
        let (level, kind) = if domain == AF_INET { (IPPROTO_IP, IP_RECVERR) } else { (IPPROTO_IPV6, IPV6_RECVERR) };
        received.control.push(ControlItem::Bytes { level, kind, data });
        Ok((received, pending))
    }
}

impl Trouble {
    fn extended(&self, origin: u8) -> ExtendedError {
        let Trouble { errno, kind, code, info, .. } = *self;
        ExtendedError { errno: errno.0 as u32, origin, kind, code, pad: 0, info, data: 0 }
    }
}
