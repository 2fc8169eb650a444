//! A UDP socket as a socket of the calls, and as a file.

use super::UdpSocket;
use crate::net::iface;
use crate::net::inet::address::{self, Endpoint};
use crate::net::inet::control::UDP_SEGMENT;
use crate::net::inet::counters::Udp as Count;
use crate::net::inet::mailbox::UDP_GRO;
use crate::net::inet::options;
use crate::net::inet::ports::check_bind;
use crate::net::message::Address;
use crate::net::options::{Common, OptionIn, SO_BINDTODEVICE, SOL_SOCKET, Switches};
use crate::net::socket::{AF_INET6, AF_UNSPEC, How, Outgoing, Received, SOCK_DGRAM, Socket};
use crate::prelude::*;
use crate::sync::{WaitKind, WaitReason};
use crate::vfs::{FileOps, OpenFile, PollEvents, PollTable};
use base::abi::ioctl::{FIONREAD, TIOCOUTQ};
use base::net::packet::{PROTO_UDP, PROTO_UDPLITE};
use core::any::Any;
use core::sync::atomic::Ordering;

const UDP_CORK: i32 = 1;

/// SOL_UDP and SOL_UDPLITE, which either protocol's sockets take.
fn is_own_level(level: i32) -> bool {
    level == i32::from(PROTO_UDP) || level == i32::from(PROTO_UDPLITE)
}

impl UdpSocket {
    fn receive_datagram(&self, dst: &mut UserWriter<'_>, how: How) -> Result<Received, Errno> {
        let reason = WaitReason::on(WaitKind::UdpReceive, self.id);
        let (received, taken_from) = self.mailbox.receive(&self.owner(), reason, dst, how)?;
        if let Some(from) = taken_from {
            self.count(from, Count::In);
        }
        Ok(received)
    }
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
    fn inode(&self) -> u64 {
        self.id
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
        let is_connected = self.state.lock().remote.is_some();
        self.mailbox.shut_down(read, write, is_connected)
    }
    fn take_error(&self) -> Option<Errno> {
        self.mailbox.take_error()
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
                UDP_GRO => {
                    self.mailbox.set_joins(on != 0);
                    Ok(())
                }
                UDP_SEGMENT => self.set_segment(on),
                _ if self.protocol == PROTO_UDPLITE => self.coverage.set(name, on),
                _ => Err(Errno::ENOPROTOOPT),
            });
        }
        let is_bound = self.state.lock().local.port != 0;
        let result = options::set(&self.ip, &self.common.device, self.domain, is_bound, level, name, value);
        self.mailbox.options_changed(&self.ip);
        result
    }
    fn option(&self, level: i32, name: i32, room: usize) -> Option<Result<Vec<u8>, Errno>> {
        if is_own_level(level) {
            let number = match name {
                UDP_CORK => i32::from(self.state.lock().is_corked),
                UDP_SEGMENT => self.segment_bytes.load(Ordering::Relaxed) as i32,
                UDP_GRO => i32::from(self.mailbox.joins()),
                _ if self.protocol == PROTO_UDPLITE => match self.coverage.get(name) {
                    Ok(number) => number,
                    Err(error) => return Some(Err(error)),
                },
                _ => return Some(Err(Errno::ENOPROTOOPT)),
            };
            return Some(Ok(number.to_ne_bytes().to_vec()));
        }
        if (level, name) == (SOL_SOCKET, SO_BINDTODEVICE) {
            return Some(Ok(crate::net::inet::device_name(&self.common)));
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
            table.register(&self.mailbox.poll_set);
        }
        self.mailbox.poll_events()
    }
    fn ioctl(&self, _file: &OpenFile, command: u32, argument: u64) -> SysResult {
        let value = match command {
            FIONREAD => self.mailbox.next_len(),
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
    fn as_socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
