//! UDP sockets: one queue of datagrams each, found by port.
//!
//! [`lite`] says what is different with UDP-Lite's; [`segment`] makes many datagrams of one send.
//!
//! Lock order: `TABLE` alone; a socket's `state` alone. Datagrams are copied to and from the program with no lock held.

mod lite;
mod segment;

use super::address::{self, Endpoint};
use super::control::{self, Arrival, UDP_SEGMENT};
use super::counters::{self, Of};
use super::errors::ErrorQueue;
use super::hash::Keyed;
use super::icmp::{self, Trouble};
use super::options::{self, IpOptions, Switch};
use super::output::{self, Queue};
use super::packet::Packet;
use super::ports::{Claim, Ports, check_bind};
use crate::file::{Attributes, FileOps, OpenFile, PollEvents, PollSet, PollTable};
use crate::net::iface::{self, SocketInfo};
use crate::net::message::{Address, Control};
use crate::net::options::{Common, OptionIn, SO_BINDTODEVICE, SOL_SOCKET, Switches};
use crate::net::socket::{
    self, AF_INET, AF_INET6, AF_UNSPEC, How, MsgFlags, Outgoing, Received, SOCK_DGRAM, Socket, deadline, wait_error,
};
use crate::prelude::*;
use crate::sync::WaitReason;
use alloc::collections::VecDeque;
use base::net::build::{self, Ip};
use base::net::packet::{Header, PROTO_UDP, PROTO_UDPLITE, Udp};
use core::any::Any;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU32, Ordering};
use hashbrown::HashMap;
use lite::Coverage;
use smallvec::SmallVec;
use spin::Once;

/// The longest payload of one datagram.
const MAX_PAYLOAD: usize = 65_507;
const MAX_PAYLOAD_V6: usize = 65_527;
/// What a datagram in a queue costs beside its bytes.
const OVERHEAD: usize = 576;
const UDP_CORK: i32 = 1;
const UDP_GRO: i32 = 104;

struct Datagram {
    bytes: Vec<u8>,
    from: Endpoint,
    arrival: Arrival,
}

#[derive(Default)]
struct Inbox {
    datagrams: VecDeque<Datagram>,
    bytes: usize,
}

struct State {
    local: Endpoint,
    remote: Option<Endpoint>,
    inbox: Inbox,
    error: Option<Errno>,
    shut_read: bool,
    shut_write: bool,
    /// bind(2) named the address: disconnecting keeps it.
    address_is_bound: bool,
    /// Bytes of MSG_MORE and UDP_CORK, and where they go.
    corked: Option<(Endpoint, Vec<u8>)>,
    is_corked: bool,
}

pub struct UdpSocket {
    id: u64,
    own: Weak<UdpSocket>,
    domain: u16,
    /// PROTO_UDP or PROTO_UDPLITE.
    protocol: u8,
    common: Common,
    ip: IpOptions,
    coverage: Coverage,
    /// UDP_SEGMENT; 0 is off.
    segment_bytes: AtomicU32,
    errors: ErrorQueue,
    state: SpinLock<State>,
    drops: AtomicU32,
    uid: u32,
    readable: WaitQueue,
    poll_set: PollSet,
}

type Table = HashMap<u16, SmallVec<[Arc<UdpSocket>; 1]>, Keyed>;
/// UDP's sockets and ports, and UDP-Lite's.
static TABLES: [Once<SpinLock<Table>>; 2] = [const { Once::new() }; 2];
static PORTS: [Ports; 2] = [const { Ports::new(false) }; 2];

fn which(protocol: u8) -> usize {
    usize::from(protocol == PROTO_UDPLITE)
}

fn table(protocol: u8) -> &'static SpinLock<Table> {
    TABLES[which(protocol)].call_once(|| SpinLock::new(HashMap::with_hasher(Keyed::new())))
}

pub fn create(domain: u16, protocol: u8) -> Arc<UdpSocket> {
    Arc::new_cyclic(|own| UdpSocket {
        id: socket::new_id(),
        own: own.clone(),
        domain,
        protocol,
        common: Common::new(),
        ip: IpOptions::new(),
        coverage: Coverage::new(),
        segment_bytes: AtomicU32::new(0),
        errors: ErrorQueue::new(),
        state: SpinLock::new(State {
            local: Endpoint::unspecified(domain),
            remote: None,
            inbox: Inbox::default(),
            error: None,
            shut_read: false,
            shut_write: false,
            address_is_bound: false,
            corked: None,
            is_corked: false,
        }),
        drops: AtomicU32::new(0),
        uid: current().creds().euid,
        readable: WaitQueue::new(),
        poll_set: PollSet::new(),
    })
}

impl UdpSocket {
    /// How well this socket fits a datagram; `None`: not at all. Higher is better.
    fn score(&self, interface: u32, from: Endpoint, to: Endpoint) -> Option<u32> {
        let state = self.state.lock();
        let mut score = u32::from(self.domain == AF_INET);
        let device = self.common.device.load(Ordering::Relaxed);
        if device != 0 {
            if device != interface {
                return None;
            }
            score += 4;
        }
        if state.local.ip.is_unspecified() {
            if to.ip.is_ipv4() && self.domain == AF_INET6 && (self.ip.is_on(Switch::V6ONLY)) {
                return None;
            }
            if to.ip.is_ipv6() && self.domain == AF_INET {
                return None;
            }
        } else if state.local.ip == to.ip {
            score += 4;
        } else {
            return None;
        }
        if let Some(remote) = state.remote {
            if remote.ip != from.ip || remote.port != from.port {
                return None;
            }
            score += 4;
        }
        Some(score)
    }

    /// Puts a datagram into the queue; a full one drops it.
    fn deliver(&self, bytes: &[u8], from: Endpoint, mut arrival: Arrival) {
        arrival.lost = self.drops.load(Ordering::Relaxed);
        let limit = self.common.receive_buffer.load(Ordering::Relaxed) as usize;
        {
            let mut state = self.state.lock();
            if state.inbox.bytes + bytes.len() + OVERHEAD > limit.max(bytes.len() + OVERHEAD) {
                drop(state);
                self.lost(from);
                return;
            }
            let mut copy = Vec::new();
            if copy.try_reserve_exact(bytes.len()).is_err() {
                drop(state);
                self.lost(from);
                return;
            }
            copy.extend_from_slice(bytes);
            state.inbox.bytes += bytes.len() + OVERHEAD;
            state.inbox.datagrams.push_back(Datagram { bytes: copy, from, arrival });
        }
        self.readable.wake_one();
        self.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
    }

    /// There was no room for a datagram.
    fn lost(&self, from: Endpoint) {
        self.drops.fetch_add(1, Ordering::Relaxed);
        self.count(from.ip, Of::UdpBufferErrors);
        self.count(from.ip, Of::UdpInErrors);
    }

    /// Counts for /proc/net/snmp, which has no place for UDP-Lite.
    fn count(&self, of: IpAddr, counter: Of) {
        if self.protocol == PROTO_UDP {
            counters::one(of, counter);
        }
    }

    fn ports(&self) -> &'static Ports {
        &PORTS[which(self.protocol)]
    }

    fn fail(&self, errno: Errno) {
        self.state.lock().error = Some(errno);
        self.readable.wake_all();
        self.poll_set.notify(PollEvents::ERR | PollEvents::IN | PollEvents::OUT);
    }

    /// Claims a port and joins the table.
    fn claim(&self, endpoint: Endpoint) -> Result<u16, Errno> {
        let claim = Claim::new(endpoint, self.domain, &self.common, &self.ip);
        let port = self.ports().claim(self.id, endpoint.port, claim)?;
        let own = self.own.upgrade().ok_or(Errno::EBADF)?;
        table(self.protocol).lock().entry(port).or_default().push(own);
        Ok(port)
    }

    fn release_port(&self, port: u16) {
        let gone = {
            let mut table = table(self.protocol).lock();
            let gone = table.get_mut(&port).and_then(|sockets| {
                let at = sockets.iter().position(|socket| socket.id == self.id)?;
                Some(sockets.remove(at))
            });
            if table.get(&port).is_some_and(|sockets| sockets.is_empty()) {
                table.remove(&port);
            }
            gone
        };
        self.ports().release(self.id, port);
        drop(gone);
    }

    /// A port of its own for a socket that sends or connects unbound.
    fn bind_any(&self) -> Result<(), Errno> {
        if self.state.lock().local.port != 0 {
            return Ok(());
        }
        let port = self.claim(Endpoint::unspecified(self.domain))?;
        let mut state = self.state.lock();
        if state.local.port == 0 {
            state.local.port = port;
            return Ok(());
        }
        drop(state);
        self.release_port(port);
        Ok(())
    }

    fn takes_v4(&self) -> bool {
        self.domain == AF_INET || !self.ip.is_on(Switch::V6ONLY)
    }

    fn parse_peer(&self, bytes: &[u8]) -> Result<Endpoint, Errno> {
        let endpoint = address::parse_peer(self.domain, bytes, true)?;
        if endpoint.ip.is_ipv4() && !self.takes_v4() {
            return Err(Errno::ENETUNREACH);
        }
        Ok(address::or_loopback(endpoint))
    }

    fn take_pending(&self) -> Option<Errno> {
        self.state.lock().error.take()
    }

    fn corks(&self, how: How) -> bool {
        how.flags.contains(MsgFlags::MORE) || self.state.lock().is_corked
    }

    fn send_datagram(&self, src: &mut UserReader<'_>, to: Option<&[u8]>, control: &[Control], how: How) -> SysResult {
        if src.remaining() > 0xffff {
            return Err(Errno::EMSGSIZE);
        }
        if how.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let explicit = match to {
            Some(bytes) => {
                let peer = self.parse_peer(bytes)?;
                if peer.port == 0 {
                    return Err(Errno::EINVAL);
                }
                Some(peer)
            }
            None => None,
        };
        let (remote, shut_write, local) = {
            let state = self.state.lock();
            (state.remote, state.shut_write, state.local)
        };
        let target = explicit.or(remote).ok_or(Errno::EDESTADDRREQ)?;
        if shut_write {
            // SIGPIPE is for streams.
            return Err(Errno::EPIPE);
        }
        let chosen = control::read_send_control(self.domain, &self.common, control)?;
        if remote.is_some()
            && let Some(error) = self.take_pending()
        {
            return Err(error);
        }
        let max = if target.ip.is_ipv4() { MAX_PAYLOAD } else { MAX_PAYLOAD_V6 };
        if src.remaining() > max {
            return Err(Errno::EMSGSIZE);
        }
        if iface::address::is_broadcast(target.ip) && !self.common.is_on(Switches::BROADCAST) {
            return Err(Errno::EACCES);
        }
        self.bind_any()?;
        let len = src.remaining();
        if self.corks(how) || self.state.lock().corked.is_some() {
            let bytes = src.read_all()?;
            return self.cork(target, bytes, max, self.corks(how));
        }
        let interface = match (chosen.interface, target.scope) {
            (0, 0) => self.default_interface(target.ip),
            (0, scope) => scope,
            (named, _) => named,
        };
        let source = self.source(target.ip, interface, chosen.source, local)?;
        if let Some(bytes) = self.segment_of(&chosen) {
            self.send_segments(&src.read_all()?, bytes, target, source, interface, &chosen)?;
            return Ok(len);
        }
        let head = build::ip_header_len(source);
        let mut packet = Packet::new(head + 8 + len);
        let copied = if len == 0 { 0 } else { src.read(&mut packet.bytes_mut()[head + 8..])? };
        if copied < len {
            return Err(Errno::EFAULT);
        }
        self.finish(packet, target, source, interface, &chosen)?;
        Ok(len)
    }

    fn default_interface(&self, to: IpAddr) -> u32 {
        match self.common.device.load(Ordering::Relaxed) {
            0 if to.is_multicast() => self.ip.multicast_interface(),
            device => device,
        }
    }

    fn source(&self, to: IpAddr, interface: u32, chosen: Option<IpAddr>, local: Endpoint) -> Result<IpAddr, Errno> {
        if let Some(source) = chosen.filter(|source| source.is_ipv4() == to.is_ipv4()) {
            return Ok(source);
        }
        if !local.ip.is_unspecified() && !local.ip.is_multicast() {
            return if local.ip.is_ipv4() == to.is_ipv4() { Ok(local.ip) } else { Err(Errno::EINVAL) };
        }
        let only = (interface != 0).then_some(interface);
        let via = iface::route::lookup_on(to, only).ok_or(Errno::ENETUNREACH)?;
        via.source.or_else(|| iface::source_for(via.interface, to)).ok_or(if to.is_ipv4() {
            Errno::ENETUNREACH
        } else {
            Errno::EADDRNOTAVAIL
        })
    }

    fn finish(
        &self,
        mut packet: Packet,
        target: Endpoint,
        source: IpAddr,
        interface: u32,
        chosen: &control::SendControl,
    ) -> Result<(), Errno> {
        let ip = Ip {
            src: source,
            dst: target.ip,
            protocol: self.protocol,
            hop_limit: chosen.hop_limit.unwrap_or_else(|| self.ip.hop_limit(target.ip)),
            traffic_class: chosen.traffic_class.unwrap_or_else(|| self.ip.traffic_class()),
            id: 0,
            dont_fragment: chosen.dont_fragment || self.ip.forbids_fragments(target.ip),
        };
        let port = self.state.lock().local.port;
        let head = build::ip_header_len(source);
        build::ip_header(packet.bytes_mut(), &ip);
        let datagram = &mut packet.bytes_mut()[head..];
        if self.protocol == PROTO_UDP {
            build::udp_header(datagram, &ip, port, target.port, false);
        } else {
            build::udplite_header(datagram, &ip, port, target.port, self.coverage.sent());
        }
        // No device knows UDP-Lite's.
        packet.needs_checksum = self.protocol == PROTO_UDP;
        packet.interface = interface;
        packet.dont_fragment = ip.dont_fragment;
        packet.mark = chosen.mark.unwrap_or_else(|| self.common.mark.load(Ordering::Relaxed) as u32);
        packet.no_loop = !self.ip.is_on(Switch::MULTICAST_LOOP);
        self.count(target.ip, Of::UdpOut);
        let result = output::send_checked(packet);
        if result == Err(Errno::EMSGSIZE) && self.wants_errors(target.ip) {
            let only = (interface != 0).then_some(interface);
            let mtu = iface::route::lookup_on(target.ip, only).map_or(0, |via| via.mtu);
            let port = self.state.lock().remote.map_or(0, |remote| remote.port);
            let limit = self.common.receive_buffer.load(Ordering::Relaxed);
            self.errors.push_too_long(Endpoint { port, ..target }, mtu, limit);
            self.poll_set.notify(PollEvents::ERR);
        }
        result
    }

    /// IP_RECVERR or IPV6_RECVERR: errors about packets to `to` are to be told, and kept.
    fn wants_errors(&self, to: IpAddr) -> bool {
        self.ip.is_on(if to.is_ipv4() { Switch::RECVERR } else { Switch::RECVERR6 })
    }

    /// Keeps bytes for one datagram; sends it when nothing more is to come.
    fn cork(&self, target: Endpoint, bytes: Vec<u8>, max: usize, more: bool) -> SysResult {
        let len = bytes.len();
        let whole = {
            let mut state = self.state.lock();
            let (_, kept) = state.corked.get_or_insert_with(|| (target, Vec::new()));
            if kept.len() + len > max {
                return Err(Errno::EMSGSIZE);
            }
            kept.extend_from_slice(&bytes);
            if more { None } else { state.corked.take() }
        };
        if let Some((target, bytes)) = whole {
            self.send_kept(target, &bytes)?;
        }
        Ok(len)
    }

    fn send_kept(&self, target: Endpoint, bytes: &[u8]) -> Result<(), Errno> {
        let local = self.state.lock().local;
        let interface = self.default_interface(target.ip);
        let source = self.source(target.ip, interface, None, local)?;
        let head = build::ip_header_len(source);
        let mut packet = Packet::new(head + 8 + bytes.len());
        packet.bytes_mut()[head + 8..].copy_from_slice(bytes);
        self.finish(packet, target, source, interface, &control::SendControl::default())
    }

    fn receive_datagram(&self, dst: &mut UserWriter<'_>, how: How) -> Result<Received, Errno> {
        if how.flags.contains(MsgFlags::ERRQUEUE) {
            let (received, pending) = self.errors.receive(self.domain, dst)?;
            if let Some(error) = pending {
                self.state.lock().error = error;
            }
            return Ok(received);
        }
        let attempt = || -> Option<Result<Option<Datagram>, Errno>> {
            let mut state = self.state.lock();
            if let Some(error) = state.error.take() {
                return Some(Err(error));
            }
            let next = if how.peeks() {
                state.inbox.datagrams.front().map(|datagram| Datagram {
                    bytes: datagram.bytes.clone(),
                    from: datagram.from,
                    arrival: datagram.arrival,
                })
            } else {
                let next = state.inbox.datagrams.pop_front();
                state.inbox.bytes -= next.as_ref().map_or(0, |next| next.bytes.len() + OVERHEAD);
                next
            };
            match next {
                Some(datagram) => Some(Ok(Some(datagram))),
                None if how.nonblocking => Some(Err(Errno::EAGAIN)),
                None => state.shut_read.then_some(Ok(None)),
            }
        };
        let until = deadline(self.common.receive_timeout());
        let reason = WaitReason::on("udp_receive", self.id);
        let taken =
            self.readable.wait_until(WaitMode::Interruptible, until, reason, attempt).map_err(wait_error(until))??;
        let Some(datagram) = taken else { return Ok(Received::default()) };
        if !how.peeks() {
            self.count(datagram.from.ip, Of::UdpIn);
        }
        let n = datagram.bytes.len().min(dst.remaining());
        let copied = if n == 0 { 0 } else { dst.write(&datagram.bytes[..n])? };
        if copied < n {
            return Err(Errno::EFAULT);
        }
        let mut received = Received { len: n, full_len: datagram.bytes.len(), ..Received::default() };
        received.flags.set(MsgFlags::TRUNC, n < datagram.bytes.len());
        received.from = datagram.from.to_address(self.domain);
        received.control.extend(control::common_control(&self.common, &datagram.arrival));
        if self.ip.wants_control() {
            received.control.extend(control::arrival_control(&self.ip, self.domain, &datagram.arrival));
        }
        Ok(received)
    }

    fn disconnect(&self) {
        let port = {
            let mut state = self.state.lock();
            state.remote = None;
            if !state.address_is_bound {
                state.local.ip = Endpoint::unspecified(self.domain).ip;
            }
            state.local.port
        };
        let any = Endpoint::unspecified(self.domain).ip;
        if port != 0 && !self.state.lock().address_is_bound {
            self.ports().change(self.id, port, |claim| claim.ip = any);
        }
    }

    fn info(&self) -> SocketInfo {
        let state = self.state.lock();
        SocketInfo {
            family: self.domain,
            protocol: self.protocol,
            is_raw: false,
            local: state.local.shown(self.domain),
            remote: state.remote.unwrap_or(Endpoint::unspecified(self.domain)).shown(self.domain),
            state: if state.remote.is_some() { 1 } else { 7 },
            send_queue: 0,
            receive_queue: state.inbox.bytes as u32,
            uid: self.uid,
            inode: self.id,
            drops: self.drops.load(Ordering::Relaxed),
        }
    }

    fn poll_events(&self) -> PollEvents {
        let state = self.state.lock();
        let mut events = PollEvents::OUT | PollEvents::WRNORM | PollEvents::WRBAND;
        if !state.inbox.datagrams.is_empty() || state.shut_read {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if state.shut_read {
            events |= PollEvents::RDHUP;
        }
        if state.shut_read && state.shut_write {
            events |= PollEvents::HUP;
        }
        if state.error.is_some() || !self.errors.is_empty() {
            events |= PollEvents::ERR;
        }
        events
    }
}

/// Takes a datagram of either protocol whose sum is right.
pub fn input(interface: u32, header: &Header, packet: &[u8], udp: &Udp, mark: u32, queue: &mut Queue) {
    let scope = if interface == iface::LOOPBACK { 0 } else { interface };
    let from = Endpoint { ip: header.src, port: udp.src_port, scope };
    let to = Endpoint { ip: header.dst, port: udp.dst_port, scope };
    let payload = &packet[header.payload_at + 8..header.payload_at + udp.len];
    let arrival = Arrival {
        interface,
        to,
        hop_limit: header.hop_limit,
        traffic_class: header.traffic_class,
        realtime_ns: crate::time::realtime_ns(),
        mark,
        lost: 0,
    };
    let sockets = table(header.protocol).lock().get(&udp.dst_port).cloned().unwrap_or_default();
    let for_all = header.dst.is_multicast() || iface::address::is_broadcast(header.dst);
    if for_all {
        for socket in &sockets {
            let hears = socket.hears_group(interface, header.dst) && socket.coverage.accepts(udp);
            if hears && socket.score_group(interface, from, to) {
                socket.deliver(payload, from, arrival);
            }
        }
        return;
    }
    // Of several that fit equally well, SO_REUSEPORT chooses by the sender, so that one sender has one receiver.
    let mut best: SmallVec<[&Arc<UdpSocket>; 4]> = SmallVec::new();
    let mut best_score = 0;
    for socket in &sockets {
        match socket.score(interface, from, to) {
            Some(score) if best.is_empty() || score > best_score => {
                best.clear();
                best.push(socket);
                best_score = score;
            }
            Some(score) if score == best_score => best.push(socket),
            _ => {}
        }
    }
    let chosen = match best.len() {
        0 => None,
        1 => Some(best[0]),
        _ if best[0].common.is_on(Switches::REUSE_PORT) => {
            let mix = usize::from(from.port) ^ header.src.to_canonical().to_string_hash();
            best.get(mix % best.len()).copied()
        }
        // The latest bound one, as on Linux.
        _ => best.last().copied(),
    };
    match chosen {
        Some(socket) if socket.coverage.accepts(udp) => socket.deliver(payload, from, arrival),
        Some(_) => {}
        None => {
            if header.protocol == PROTO_UDP {
                counters::one(header.src, Of::UdpNoPorts);
            }
            icmp::unreachable(header, packet, icmp::Reason::Port, queue);
        }
    }
}

/// SOL_UDP and SOL_UDPLITE, which either protocol's sockets take.
fn is_own_level(level: i32) -> bool {
    level == i32::from(PROTO_UDP) || level == i32::from(PROTO_UDPLITE)
}

/// A number from an address, to spread senders.
trait Spread {
    fn to_string_hash(&self) -> usize;
}

impl Spread for IpAddr {
    fn to_string_hash(&self) -> usize {
        match self {
            IpAddr::V4(v4) => v4.to_bits() as usize,
            IpAddr::V6(v6) => (v6.to_bits() ^ v6.to_bits() >> 64) as usize,
        }
    }
}

impl UdpSocket {
    fn score_group(&self, interface: u32, from: Endpoint, to: Endpoint) -> bool {
        self.score(interface, from, to).is_some()
    }
    /// Whether a group's packets are for this socket: it joined, or takes all that the machine hears.
    fn hears_group(&self, interface: u32, group: IpAddr) -> bool {
        if !group.is_multicast() || group.is_ipv4() && self.ip.is_on(Switch::MULTICAST_ALL) {
            return true;
        }
        self.ip.groups.lock().contains(&(interface, group))
    }
}

/// An ICMP error about a datagram of ours, of which `quoted` is what came back: connected sockets hear of it, others when they asked
/// to (IP_RECVERR).
pub fn icmp_error(header: &Header, src_port: u16, dst_port: u16, quoted: &[u8], trouble: Trouble) {
    let sockets = table(header.protocol).lock().get(&src_port).cloned().unwrap_or_default();
    for socket in &sockets {
        let wants_all = socket.wants_errors(header.dst);
        let concerned = {
            let state = socket.state.lock();
            (state.local.ip.is_unspecified() || state.local.ip == header.src)
                && match state.remote {
                    Some(remote) => remote.ip == header.dst && remote.port == dst_port,
                    None => wants_all,
                }
        };
        if !concerned || !(trouble.is_hard || wants_all) {
            continue;
        }
        if wants_all {
            let limit = socket.common.receive_buffer.load(Ordering::Relaxed);
            let to = Endpoint::new(header.dst, dst_port);
            socket.errors.push_icmp(&trouble, to, quoted.get(8..).unwrap_or(&[]), limit);
        }
        socket.fail(trouble.errno);
    }
}

pub fn sockets() -> Vec<SocketInfo> {
    let mut all: Vec<Arc<UdpSocket>> = table(PROTO_UDP).lock().values().flatten().cloned().collect();
    all.extend(table(PROTO_UDPLITE).lock().values().flatten().cloned());
    all.iter().map(|socket| socket.info()).collect()
}

impl Socket for UdpSocket {
    fn common(&self) -> &Common {
        &self.common
    }
    fn domain(&self) -> u16 {
        self.domain
    }
    fn kind(&self) -> i32 {
        SOCK_DGRAM
    }
    fn protocol(&self) -> i32 {
        i32::from(self.protocol)
    }
    fn bind(&self, bytes: &[u8]) -> Result<(), Errno> {
        let endpoint = address::parse_bind(self.domain, bytes)?;
        check_bind(&endpoint, &self.ip, &self.common)?;
        if self.state.lock().local.port != 0 {
            return Err(Errno::EINVAL);
        }
        let port = self.claim(endpoint)?;
        let mut state = self.state.lock();
        state.address_is_bound = !endpoint.ip.is_unspecified();
        state.local = Endpoint { port, ..endpoint };
        if self.domain == AF_INET6 && endpoint.ip.is_ipv4() && endpoint.ip.is_unspecified() {
            state.address_is_bound = true;
        }
        Ok(())
    }
    fn connect(&self, bytes: &[u8], _nonblocking: bool) -> Result<(), Errno> {
        if bytes.len() < 2 {
            return Err(Errno::EINVAL);
        }
        if address::family(bytes) == Some(AF_UNSPEC) {
            self.disconnect();
            return Ok(());
        }
        let peer = self.parse_peer(bytes)?;
        if iface::address::is_broadcast(peer.ip) && !self.common.is_on(Switches::BROADCAST) {
            return Err(Errno::EACCES);
        }
        let local = self.state.lock().local;
        let interface = if peer.scope != 0 { peer.scope } else { self.default_interface(peer.ip) };
        let source = self.source(peer.ip, interface, None, local)?;
        self.bind_any()?;
        let mut state = self.state.lock();
        state.remote = Some(peer);
        if state.local.ip.is_unspecified() {
            state.local.ip = source;
        }
        Ok(())
    }
    fn name(&self) -> Result<Address, Errno> {
        Ok(self.state.lock().local.to_address(self.domain))
    }
    fn peer_name(&self) -> Result<Address, Errno> {
        let remote = self.state.lock().remote.ok_or(Errno::ENOTCONN)?;
        Ok(remote.to_address(self.domain))
    }
    fn send(&self, src: &mut UserReader<'_>, out: Outgoing<'_>, how: How) -> SysResult {
        self.send_datagram(src, out.to, out.control, how)
    }
    fn receive(&self, dst: &mut UserWriter<'_>, how: How) -> Result<Received, Errno> {
        self.receive_datagram(dst, how)
    }
    fn shutdown(&self, read: bool, write: bool) -> Result<(), Errno> {
        let is_connected = {
            let mut state = self.state.lock();
            state.shut_read |= read;
            state.shut_write |= write;
            state.remote.is_some()
        };
        self.readable.wake_all();
        self.poll_set.notify(PollEvents::IN | PollEvents::RDHUP | PollEvents::HUP);
        // As on Linux, the halves are shut all the same.
        if is_connected { Ok(()) } else { Err(Errno::ENOTCONN) }
    }
    fn take_error(&self) -> Option<Errno> {
        self.take_pending()
    }
    fn set_option(&self, level: i32, name: i32, value: OptionIn) -> Option<Result<(), Errno>> {
        if is_own_level(level) {
            let on = match value.int() {
                Ok(on) => on,
                Err(error) => return Some(Err(error)),
            };
            return Some(match name {
                UDP_CORK => {
                    let kept = {
                        let mut state = self.state.lock();
                        state.is_corked = on != 0;
                        if on == 0 { state.corked.take() } else { None }
                    };
                    match kept {
                        Some((target, bytes)) => self.send_kept(target, &bytes),
                        None => Ok(()),
                    }
                }
                UDP_GRO => Ok(()),
                UDP_SEGMENT => self.set_segment(on),
                _ if self.protocol == PROTO_UDPLITE => self.coverage.set(name, on),
                _ => Err(Errno::ENOPROTOOPT),
            });
        }
        let is_bound = self.state.lock().local.port != 0;
        let result = options::set(&self.ip, &self.common.device, self.domain, is_bound, level, name, value);
        if !self.ip.is_on(Switch::RECVERR | Switch::RECVERR6) {
            self.errors.clear();
        }
        result
    }
    fn option(&self, level: i32, name: i32, room: usize) -> Option<Result<Vec<u8>, Errno>> {
        if is_own_level(level) {
            let number = match name {
                UDP_CORK => i32::from(self.state.lock().is_corked),
                UDP_SEGMENT => self.segment_bytes.load(Ordering::Relaxed) as i32,
                UDP_GRO => 0,
                _ if self.protocol == PROTO_UDPLITE => match self.coverage.get(name) {
                    Ok(number) => number,
                    Err(error) => return Some(Err(error)),
                },
                _ => return Some(Err(Errno::ENOPROTOOPT)),
            };
            return Some(Ok(number.to_ne_bytes().to_vec()));
        }
        if (level, name) == (SOL_SOCKET, SO_BINDTODEVICE) {
            return Some(Ok(super::device_name(&self.common)));
        }
        let peer = self.state.lock().remote;
        options::get(&self.ip, self.domain, peer, level, name, room)
    }
    fn unknown_level(&self) -> Errno {
        Errno::ENOPROTOOPT
    }
}

impl FileOps for UdpSocket {
    fn read(&self, file: &OpenFile, _offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        Ok(self.receive_datagram(dst, How::new(file, 0))?.len)
    }
    fn write(&self, file: &OpenFile, _offset: u64, src: &mut UserReader<'_>) -> SysResult {
        self.send_datagram(src, None, &[], How::new(file, 0))
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
            FIONREAD => self.state.lock().inbox.datagrams.front().map_or(0, |datagram| datagram.bytes.len()),
            TIOCOUTQ => 0,
            _ => return Err(Errno::ENOTTY),
        };
        UserPtr::<i32>::new(UserAddr(argument)).write(&(value as i32))?;
        Ok(0)
    }
    fn release(&self, _file: &OpenFile) {
        self.ip.leave_all();
        let port = core::mem::take(&mut self.state.lock().local.port);
        if port != 0 {
            self.release_port(port);
        }
    }
    fn anonymous_name(&self) -> Option<String> {
        Some(alloc::format!("socket:[{}]", self.id))
    }
    fn stat(&self, _file: &OpenFile) -> Option<crate::fs::Stat> {
        Some(socket::stat(self.id, &self.common))
    }
    fn attributes(&self) -> Option<&Attributes> {
        Some(&self.common.attributes)
    }
    fn as_socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
