//! Raw sockets (SOCK_RAW: a copy of every packet of one protocol, headers and all) and ping sockets (SOCK_DGRAM of ICMP: echoes
//! under an identifier of their own).

use super::address::{self, Endpoint};
use super::control::{self, Arrival};
use super::icmp::Trouble;
use super::mailbox::{Mailbox, Owner};
use super::options::{self, IpOptions, Switch};
use super::output;
use super::packet::Packet;
use super::ports::check_bind;
use crate::net::iface::{self, SocketInfo};
use crate::net::message::{Address, Control};
use crate::net::options::{Common, OptionIn, SO_BINDTODEVICE, SOL_SOCKET, Switches};
use crate::net::socket::{
    self, AF_INET, AF_INET6, AF_UNSPEC, How, MsgFlags, Outgoing, Received, SOCK_DGRAM, SOCK_RAW, Socket,
};
use crate::prelude::*;
use crate::sync::{WaitKind, WaitReason};
use crate::vfs::{FileOps, OpenFile, PollEvents, PollTable};
use base::abi::ioctl::FIONREAD;
use base::net::build::{self, Ip};
use base::net::packet::{Header, PROTO_ICMP, PROTO_ICMPV6};
use core::any::Any;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU32, Ordering};

/// IPPROTO_RAW: sends only, whole packets.
const PROTO_RAW: u8 = 255;
const ICMP_FILTER: i32 = 1;

struct State {
    local: IpAddr,
    remote: Option<Endpoint>,
    /// A ping socket's identifier; 0 until it has one.
    id: u16,
}

pub struct RawSocket {
    inode: u64,
    own: Weak<RawSocket>,
    domain: u16,
    is_ping: bool,
    protocol: u8,
    common: Common,
    ip: IpOptions,
    state: SpinLock<State>,
    mailbox: Mailbox,
    /// ICMP_FILTER: a bit for each type that is not wanted.
    filter: AtomicU32,
    /// ICMP6_FILTER: a bit for each type that is not wanted.
    filter6: SpinLock<[u32; 8]>,
    uid: u32,
}

static SOCKETS: SpinLock<Vec<Arc<RawSocket>>> = SpinLock::new(Vec::new());

pub fn create(domain: u16, protocol: u8, is_ping: bool) -> Arc<RawSocket> {
    let socket = Arc::new_cyclic(|own| RawSocket {
        inode: socket::new_id(),
        own: own.clone(),
        domain,
        is_ping,
        protocol,
        common: Common::new(),
        ip: IpOptions::new(),
        state: SpinLock::new(State { local: Endpoint::unspecified(domain).ip, remote: None, id: 0 }),
        mailbox: Mailbox::new(),
        filter: AtomicU32::new(0),
        filter6: SpinLock::new([0; 8]),
        uid: current().creds().euid,
    });
    if protocol == PROTO_RAW {
        socket.ip.switch(Switch::HDRINCL, true);
    }
    SOCKETS.lock().push(socket.clone());
    socket
}

fn listed(wanted: impl Fn(&RawSocket) -> bool) -> Vec<Arc<RawSocket>> {
    let sockets = SOCKETS.lock();
    // Almost always nobody listens.
    if sockets.is_empty() { Vec::new() } else { sockets.iter().filter(|socket| wanted(socket)).cloned().collect() }
}

impl RawSocket {
    fn fits(&self, interface: u32, src: IpAddr, dst: IpAddr) -> bool {
        let device = self.common.device.load(Ordering::Relaxed);
        let state = self.state.lock();
        (device == 0 || device == interface)
            && (self.domain == AF_INET) == dst.is_ipv4()
            && (state.local.is_unspecified() || state.local == dst)
            && state.remote.is_none_or(|remote| remote.ip == src)
    }

    fn deliver(&self, bytes: &[u8], header: &Header, interface: u32) {
        let scope = if interface == iface::LOOPBACK { 0 } else { interface };
        let arrival = Arrival {
            interface,
            to: Endpoint::new(header.dst, 0),
            hop_limit: header.hop_limit,
            traffic_class: header.traffic_class,
            realtime_ns: crate::time::realtime_ns(),
            mark: 0,
            lost: 0,
        };
        self.mailbox.deliver(&self.common, bytes, Endpoint { ip: header.src, port: 0, scope }, arrival);
    }

    fn owner(&self) -> Owner<'_> {
        Owner { domain: self.domain, common: &self.common, ip: &self.ip }
    }

    fn wants_type(&self, message: &[u8]) -> bool {
        let kind = message.first().copied().unwrap_or(0);
        match self.protocol {
            PROTO_ICMP if self.domain == AF_INET => {
                kind >= 32 || self.filter.load(Ordering::Relaxed) & (1 << kind) == 0
            }
            PROTO_ICMPV6 if self.domain == AF_INET6 => {
                self.filter6.lock()[usize::from(kind >> 5)] & (1 << (kind & 31)) == 0
            }
            _ => true,
        }
    }

    /// A ping socket's identifier, chosen at first use.
    fn ping_id(&self, wanted: u16) -> Result<u16, Errno> {
        let own = self.state.lock().id;
        if own != 0 {
            return Ok(own);
        }
        let taken: Vec<u16> = listed(|other| other.is_ping && other.domain == self.domain)
            .iter()
            .map(|other| other.state.lock().id)
            .collect();
        let id = if wanted != 0 {
            if taken.contains(&wanted) {
                return Err(Errno::EADDRINUSE);
            }
            wanted
        } else {
            let start = super::hash::random_u64() as u16;
            (0..=u16::MAX)
                .map(|step| start.wrapping_add(step))
                .find(|id| *id != 0 && !taken.contains(id))
                .ok_or(Errno::EADDRINUSE)?
        };
        self.state.lock().id = id;
        Ok(id)
    }

    fn send_packet(&self, src: &mut UserReader<'_>, to: Option<&[u8]>, control: &[Control], how: How) -> SysResult {
        let len = src.remaining();
        if len > 0xffff {
            return Err(Errno::EMSGSIZE);
        }
        if how.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let target = match to {
            Some(bytes) => address::or_loopback(address::parse_peer(self.domain, bytes, false)?),
            None => self.state.lock().remote.ok_or(Errno::EDESTADDRREQ)?,
        };
        let chosen = control::read_send_control(self.domain, &self.common, control)?;
        self.mailbox.may_send()?;
        if iface::address::is_broadcast(target.ip) && !self.common.is_on(Switches::BROADCAST) {
            return Err(Errno::EACCES);
        }
        let device = self.common.device.load(Ordering::Relaxed);
        let interface = [chosen.interface, target.scope, device].into_iter().find(|index| *index != 0).unwrap_or(0);
        let interface =
            if interface == 0 && target.ip.is_multicast() { self.ip.multicast_interface() } else { interface };
        let mut bytes = src.read_all()?;
        if self.ip.is_on(Switch::HDRINCL) && self.domain == AF_INET {
            return self.send_whole(bytes, target, interface, len);
        }
        let local = self.state.lock().local;
        let source = match chosen.source {
            Some(source) => source,
            None if !local.is_unspecified() => local,
            None => {
                let only = (interface != 0).then_some(interface);
                let via = iface::route::lookup_on(target.ip, only).ok_or(Errno::ENETUNREACH)?;
                via.source.or_else(|| iface::source_for(via.interface, target.ip)).ok_or(Errno::ENETUNREACH)?
            }
        };
        if self.is_ping {
            let request = if self.domain == AF_INET { 8 } else { 128 };
            if bytes.len() < 8 || bytes[0] != request || bytes[1] != 0 {
                return Err(Errno::EINVAL);
            }
            let id = self.ping_id(0)?;
            bytes[4..6].copy_from_slice(&id.to_be_bytes());
        }
        if self.protocol == PROTO_ICMPV6 && bytes.len() >= 4 || self.is_ping {
            build::icmp_sum(&mut bytes, source, target.ip);
        }
        let head = build::ip_header_len(source);
        let mut packet = Packet::try_new(head + bytes.len())?;
        packet.bytes_mut()[head..].copy_from_slice(&bytes);
        let ip = Ip {
            src: source,
            dst: target.ip,
            protocol: self.protocol,
            hop_limit: chosen.hop_limit.unwrap_or_else(|| self.ip.hop_limit(target.ip)),
            traffic_class: chosen.traffic_class.unwrap_or_else(|| self.ip.traffic_class()),
            id: super::hash::random_u64() as u16,
            dont_fragment: chosen.dont_fragment || self.ip.forbids_fragments(target.ip),
        };
        build::ip_header(packet.bytes_mut(), &ip);
        packet.interface = interface;
        packet.dont_fragment = ip.dont_fragment;
        packet.mark = chosen.mark.unwrap_or_else(|| self.common.mark.load(Ordering::Relaxed) as u32);
        packet.no_loop = !self.ip.is_on(Switch::MULTICAST_LOOP);
        output::send_checked(packet)?;
        Ok(len)
    }

    /// IP_HDRINCL: the program made the header; length, sum and, when empty, source and identification are ours.
    fn send_whole(&self, mut bytes: Vec<u8>, target: Endpoint, interface: u32, len: usize) -> SysResult {
        let head = bytes.first().map_or(0, |byte| usize::from(byte & 0xf) * 4);
        if bytes.len() < 20 || head < 20 || head > bytes.len() {
            return Err(Errno::EINVAL);
        }
        let total = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
        if bytes[12..16] == [0; 4] {
            let source = iface::source_for(interface, target.ip).ok_or(Errno::ENETUNREACH)?;
            if let IpAddr::V4(v4) = source {
                bytes[12..16].copy_from_slice(&v4.octets());
            }
        }
        if bytes[4..6] == [0; 2] {
            bytes[4..6].copy_from_slice(&(super::hash::random_u64() as u16).to_be_bytes());
        }
        bytes[10..12].fill(0);
        let sum = !(base::net::packet::sum(&bytes[..head], 0) as u16);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut packet = Packet::new(bytes.len());
        packet.bytes_mut().copy_from_slice(&bytes);
        packet.interface = interface;
        output::send_checked(packet)?;
        Ok(len)
    }

    fn receive_packet(&self, dst: &mut UserWriter<'_>, how: How) -> Result<Received, Errno> {
        let reason = WaitReason::on(WaitKind::RawReceive, self.inode);
        Ok(self.mailbox.receive(&self.owner(), reason, dst, how)?.0)
    }

    fn info(&self) -> SocketInfo {
        let (receive_queue, drops) = self.mailbox.usage();
        let state = self.state.lock();
        let local =
            Endpoint { ip: state.local, port: if self.is_ping { state.id } else { self.protocol.into() }, scope: 0 };
        SocketInfo {
            family: self.domain,
            protocol: self.protocol,
            is_raw: !self.is_ping,
            local: local.shown(self.domain),
            remote: state.remote.unwrap_or(Endpoint::unspecified(self.domain)).shown(self.domain),
            state: if state.remote.is_some() { 1 } else { 7 },
            send_queue: 0,
            receive_queue: receive_queue as u32,
            uid: self.uid,
            inode: self.inode,
            drops,
        }
    }
}

/// Gives a copy of the packet to raw sockets of its protocol; answers whether there was one.
pub fn input(interface: u32, header: &Header, packet: &[u8]) -> bool {
    let wanted = listed(|socket| !socket.is_ping && socket.protocol == header.protocol);
    let mut any = false;
    for socket in wanted.iter().filter(|socket| socket.fits(interface, header.src, header.dst)) {
        any = true;
        let body = &packet[header.payload_at..];
        if socket.wants_type(body) {
            // IPv4's come with the header, IPv6's without.
            socket.deliver(if header.src.is_ipv4() { packet } else { body }, header, interface);
        }
    }
    any
}

/// Gives an echo reply to the ping socket whose identifier it bears.
pub fn echo_reply(interface: u32, header: &Header, message: &[u8]) {
    let id = u16::from_be_bytes([message[4], message[5]]);
    let wanted = listed(|socket| socket.is_ping && socket.protocol == header.protocol);
    for socket in wanted.iter().filter(|socket| socket.fits(interface, header.src, header.dst)) {
        if socket.state.lock().id == id {
            socket.deliver(message, header, interface);
            return;
        }
    }
}

/// An ICMP error about an echo of a ping socket.
pub fn icmp_error(header: &Header, quoted: &[u8], trouble: Trouble) {
    let Some(id) = quoted.get(4..6).map(|id| u16::from_be_bytes([id[0], id[1]])) else { return };
    for socket in listed(|socket| socket.is_ping && socket.protocol == header.protocol) {
        let concerned = socket.state.lock().id == id;
        if concerned {
            socket.mailbox.icmp(&socket.owner(), Endpoint::new(header.dst, 0), quoted, &trouble, true);
        }
    }
}

/// An ICMP error about a packet that a raw socket may have sent: connected ones hear of those that end a connection.
pub fn icmp_error_of_raw(header: &Header, quoted: &[u8], trouble: Trouble) {
    for socket in listed(|socket| !socket.is_ping && socket.protocol == header.protocol) {
        if socket.fits(0, header.dst, header.src) {
            let is_connected = socket.state.lock().remote.is_some();
            socket.mailbox.icmp(&socket.owner(), Endpoint::new(header.dst, 0), quoted, &trouble, is_connected);
        }
    }
}

pub fn sockets() -> Vec<SocketInfo> {
    listed(|_| true).iter().map(|socket| socket.info()).collect()
}

impl Socket for RawSocket {
    fn common(&self) -> &Common {
        &self.common
    }
    fn domain(&self) -> u16 {
        self.domain
    }
    fn kind(&self) -> i32 {
        if self.is_ping { SOCK_DGRAM } else { SOCK_RAW }
    }
    fn protocol(&self) -> i32 {
        i32::from(self.protocol)
    }
    fn bind(&self, bytes: &[u8]) -> Result<(), Errno> {
        let endpoint = address::parse_bind(self.domain, bytes)?;
        check_bind(&Endpoint { port: 0, ..endpoint }, &self.ip, &self.common)?;
        if self.is_ping {
            if self.state.lock().id != 0 {
                return Err(Errno::EINVAL);
            }
            self.ping_id(endpoint.port)?;
        }
        self.state.lock().local = endpoint.ip;
        Ok(())
    }
    fn connect(&self, bytes: &[u8], _nonblocking: bool) -> Result<(), Errno> {
        if bytes.len() < 2 {
            return Err(Errno::EINVAL);
        }
        let remote = match address::family(bytes) {
            Some(AF_UNSPEC) => None,
            _ => Some(address::or_loopback(address::parse_peer(self.domain, bytes, false)?)),
        };
        if let Some(remote) = remote {
            iface::lookup(remote.ip).ok_or(Errno::ENETUNREACH)?;
            if self.is_ping {
                self.ping_id(0)?;
            }
        }
        self.state.lock().remote = remote;
        Ok(())
    }
    fn inode(&self) -> u64 {
        self.inode
    }
    fn name(&self) -> Result<Address, Errno> {
        let state = self.state.lock();
        let port = if self.is_ping { state.id } else { u16::from(self.protocol) };
        Ok(Endpoint::new(state.local, port).to_address(self.domain))
    }
    fn peer_name(&self) -> Result<Address, Errno> {
        let remote = self.state.lock().remote.ok_or(Errno::ENOTCONN)?;
        Ok(remote.to_address(self.domain))
    }
    fn send(&self, src: &mut UserReader<'_>, out: Outgoing<'_>, how: How) -> SysResult {
        self.send_packet(src, out.to, out.control, how)
    }
    fn receive(&self, dst: &mut UserWriter<'_>, how: How) -> Result<Received, Errno> {
        self.receive_packet(dst, how)
    }
    fn shutdown(&self, read: bool, write: bool) -> Result<(), Errno> {
        let is_connected = self.state.lock().remote.is_some();
        self.mailbox.shut_down(read, write, is_connected)
    }
    fn take_error(&self) -> Option<Errno> {
        self.mailbox.take_error()
    }
    fn set_option(&self, level: i32, name: i32, value: OptionIn) -> Option<Result<(), Errno>> {
        const SOL_RAW: i32 = 255;
        const SOL_ICMPV6: i32 = 58;
        const IPV6_CHECKSUM: i32 = 7;
        if level == SOL_RAW && name == ICMP_FILTER && self.protocol == PROTO_ICMP {
            return Some(value.get::<u32>().map(|mask| self.filter.store(mask, Ordering::Relaxed)));
        }
        if level == SOL_ICMPV6 && name == ICMP_FILTER {
            return Some(value.get::<[u32; 8]>().map(|mask| *self.filter6.lock() = mask));
        }
        if matches!(level, SOL_RAW | 41) && name == IPV6_CHECKSUM && self.domain == AF_INET6 {
            return Some(value.int().map(|_| ()));
        }
        let result = options::set(&self.ip, &self.common.device, self.domain, false, level, name, value);
        self.mailbox.options_changed(&self.ip);
        result
    }
    fn option(&self, level: i32, name: i32, room: usize) -> Option<Result<Vec<u8>, Errno>> {
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

impl FileOps for RawSocket {
    fn read(&self, file: &OpenFile, _offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        Ok(self.receive_packet(dst, How::new(file, 0))?.len)
    }
    fn write(&self, file: &OpenFile, _offset: u64, src: &mut UserReader<'_>) -> SysResult {
        self.send_packet(src, None, &[], How::new(file, 0))
    }
    fn poll(&self, _file: &OpenFile, table: Option<&mut PollTable<'_>>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.mailbox.poll_set);
        }
        self.mailbox.poll_events()
    }
    fn ioctl(&self, _file: &OpenFile, command: u32, argument: u64) -> SysResult {
        if command != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let value = self.mailbox.next_len();
        UserPtr::<i32>::new(UserAddr(argument)).write(&(value as i32))?;
        Ok(0)
    }
    fn release(&self, _file: &OpenFile) {
        self.ip.leave_all();
        let gone = {
            let mut sockets = SOCKETS.lock();
            let at = sockets.iter().position(|socket| Weak::ptr_eq(&socket.own, &self.own));
            at.map(|at| sockets.swap_remove(at))
        };
        drop(gone);
    }
    fn as_socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
