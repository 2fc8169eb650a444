//! TCP sockets.
//!
//! A [`Tcp`] is a socket from socket(2) or SYN until its connection is over, with a descriptor or, after close(2), without. Its
//! protocol machine is a `base::net::engine::Engine` (smoltcp) of its own behind `state`; segments find it through [`table`].
//!
//! Map: [`table`] names to sockets, TIME-WAIT · [`connection`] what segments and timers do · [`emitted`] segments that leave · [`joined`] two
//! ends on this machine · [`listener`] SYNs and the accept queue · [`cookies`] handshakes without memory · [`calls`] connect, accept ·
//! [`transfer`] send, receive · [`urgent`] MSG_OOB · [`ending`] shutdown, close · [`info`] what is shown · [`options`] · [`socket`] the traits · [`buffers`] how large.
//!
//! Lock order: a child's `state` is never held with its listener's; the table's lock and those of ports, routes and neighbours are
//! taken with no `state` held. Packets leave after `state` is dropped.

mod buffers;
mod calls;
mod connection;
mod cookies;
mod emitted;
mod ending;
mod info;
mod joined;
mod listener;
mod options;
mod socket;
mod table;
mod transfer;
mod urgent;

use super::address::Endpoint;
use super::icmp::Trouble;
use super::input::Held;
use super::options::IpOptions;
use super::output::Queue;
use super::ports::Ports;
use crate::net::iface::SocketInfo;
use crate::net::options::Common;
use crate::prelude::*;
use crate::time::KernelTimer;
use crate::vfs::PollSet;
use base::net::build;
use base::net::engine::Engine;
use base::net::packet::{ACK, Header, RST, SYN, Tcp as Segment};
use core::sync::atomic::AtomicU64;
use joined::Joined;
use listener::Listener;
use options::TcpOptions;
use spin::Once;

static PORTS: Ports = Ports::new(true);

/// How far connect(2) has come (`socket_state` of Linux).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    Unconnected,
    Connecting,
    Connected,
}

struct State {
    local: Endpoint,
    /// bind(2) named the address.
    address_is_bound: bool,
    /// A claim on the local port is ours to release.
    has_port: bool,
    remote: Option<Endpoint>,
    /// TCP_MAXSEG as it was when the connection began, which is when the peer heard of it.
    max_segment: u32,
    progress: Progress,
    engine: Option<Box<Engine>>,
    /// Instead of an engine: the other end is a socket of this machine.
    joined: Option<Box<Joined>>,
    listener: Option<Box<Listener>>,
    /// Who gets this connection when it is established: set in children alone.
    parent: Option<Weak<Tcp>>,
    /// It has been given to its parent's queue.
    queued: bool,
    error: Option<Errno>,
    /// The last soft error (ICMP): what a time-out then reports.
    soft_error: Option<Errno>,
    /// `sk_shutdown`: no more to read; no more may be written.
    shut_read: bool,
    shut_write: bool,
    /// Both ends are on this machine.
    is_local: bool,
    /// The connection has ended or never was: state CLOSE.
    is_closed: bool,
    /// No descriptor is left.
    is_orphan: bool,
    /// A sender or poller found no room: it is told when there is some.
    wants_room: bool,
    /// Segments longer than a packet's room go out only when this is off (TCP_CORK, MSG_MORE).
    is_corked: bool,
    /// When an orphan is given up, or an unaccepted child.
    expires_ns: Option<u64>,
    /// The next sequence number we would send and the one we expect, for TIME-WAIT.
    sequence: (u32, u32),
    /// Counters for TCP_INFO.
    bytes_sent: u64,
    bytes_received: u64,
    segments_out: u32,
    segments_in: u32,
    /// The highest sequence number that went out, and segments that went out again.
    highest_sent: Option<u32>,
    segments_again: u32,
}

/// A TCP socket.
pub struct Tcp {
    id: u64,
    own: Weak<Tcp>,
    domain: u16,
    common: Common,
    ip: IpOptions,
    options: TcpOptions,
    uid: u32,
    state: SpinLock<State>,
    readable: WaitQueue,
    writable: WaitQueue,
    poll_set: PollSet,
    timer: Once<Arc<KernelTimer>>,
    /// What the timer is set to; `u64::MAX`: not set.
    armed: AtomicU64,
}

impl State {
    fn new(domain: u16) -> Self {
        Self {
            local: Endpoint::unspecified(domain),
            address_is_bound: false,
            has_port: false,
            remote: None,
            max_segment: 0,
            progress: Progress::Unconnected,
            engine: None,
            joined: None,
            listener: None,
            parent: None,
            queued: false,
            error: None,
            soft_error: None,
            shut_read: false,
            shut_write: false,
            is_local: false,
            is_closed: true,
            is_orphan: false,
            wants_room: false,
            is_corked: false,
            expires_ns: None,
            sequence: (0, 0),
            bytes_sent: 0,
            bytes_received: 0,
            segments_out: 0,
            segments_in: 0,
            highest_sent: None,
            segments_again: 0,
        }
    }
}

fn make(domain: u16, common: Common, ip: IpOptions, options: TcpOptions, uid: u32) -> Arc<Tcp> {
    Arc::new_cyclic(|own| Tcp {
        id: crate::net::socket::new_id(),
        own: own.clone(),
        domain,
        common,
        ip,
        options,
        uid,
        state: SpinLock::new(State::new(domain)),
        readable: WaitQueue::new(),
        writable: WaitQueue::new(),
        poll_set: PollSet::new(),
        timer: Once::new(),
        armed: AtomicU64::new(u64::MAX),
    })
}

/// socket(2).
pub fn create(domain: u16) -> Arc<Tcp> {
    let common = Common::new();
    use core::sync::atomic::Ordering;
    common.send_buffer.store(buffers::DEFAULT_SEND, Ordering::Relaxed);
    common.receive_buffer.store(buffers::DEFAULT_RECEIVE, Ordering::Relaxed);
    make(domain, common, IpOptions::new(), TcpOptions::new(), current().creds().euid)
}

/// Takes a segment whose sum is right, and the packet that it is in.
pub fn input(
    interface: u32,
    header: &Header,
    (packet, segment): (&[u8], &Segment),
    held: Option<&mut Held>,
    queue: &mut Queue,
) {
    if header.dst.is_multicast() || crate::net::iface::address::is_broadcast(header.dst) {
        return;
    }
    let name = table::Name { local: (header.dst, segment.dst_port), remote: (header.src, segment.src_port) };
    match table::find(&name) {
        Some(table::Found::Live(socket)) => return socket.segment((packet, segment), held, queue),
        Some(table::Found::TimeWait { sequence: (own, expected) }) => {
            // A new connection may take a name whose old one has surely ended: its sequence starts beyond all it said.
            let begins_anew =
                segment.has(SYN) && !segment.has(ACK | RST) && (segment.seq.wrapping_sub(expected) as i32) > 0;
            if !begins_anew {
                if !segment.has(RST) && segment.sequence_len() != 0 {
                    push_bytes(queue, &build::bare_ack(header, segment, own, expected, 0));
                }
                return;
            }
            table::forget_time_wait(&name);
        }
        None => {}
    }
    let is_syn = segment.has(SYN) && !segment.has(ACK);
    if !segment.has(RST) && (is_syn || segment.has(ACK) && !segment.has(SYN)) {
        let scope = if interface == crate::net::iface::LOOPBACK { 0 } else { interface };
        if let Some(listener) =
            table::find_listener(interface, header.dst, segment.dst_port, header.src, segment.src_port)
        {
            if is_syn {
                return listener.syn(name, scope, (packet, segment), queue);
            }
            if listener.cookie(name, scope, (packet, segment), queue) {
                return;
            }
        }
    }
    if !segment.has(RST) {
        super::counters::tcp(super::counters::Tcp::OutRsts);
        push_bytes(queue, &build::reset_for(header, segment));
    }
}

fn push_bytes(queue: &mut Queue, bytes: &[u8]) {
    super::counters::tcp(super::counters::Tcp::OutSegs);
    let mut packet = super::packet::Packet::new(bytes.len());
    packet.bytes_mut().copy_from_slice(bytes);
    queue.push_back(packet);
}

/// An ICMP error about a segment of ours.
pub fn icmp_error(header: &Header, src_port: u16, dst_port: u16, quoted: &[u8], trouble: Trouble) {
    let name = table::Name { local: (header.src, src_port), remote: (header.dst, dst_port) };
    if let Some(table::Found::Live(socket)) = table::find(&name) {
        let seq = quoted.get(4..8).map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        socket.icmp(seq, trouble);
    }
}

/// Every TCP socket, TIME-WAIT included.
pub fn sockets() -> Vec<SocketInfo> {
    table::snapshot()
}

/// The last segment of a burst for `socket` has been looked at: what is to be answered joins `queue`.
pub fn let_go(socket: &Arc<Tcp>, queue: &mut Queue) {
    socket.catch_up(queue);
}

/// Time has come for `socket`: called by the bottom half.
pub fn timer_is_due(socket: &Arc<Tcp>) {
    let mut queue = Queue::new();
    socket.on_timer(&mut queue);
    super::output::send_all(&mut queue);
}

pub use table::expire_time_waits;
