//! A TCP socket as a file and as a socket.

use super::{Endpoint, Tcp};
use crate::net::inet::options as ip_options;
use crate::net::message::Address;
use crate::net::options::{
    self, Common, OptionIn, SO_BINDTODEVICE, SO_KEEPALIVE, SO_REUSEADDR, SO_REUSEPORT, SOL_SOCKET,
};
use crate::net::socket::{Accepted, How, Outgoing, Received, SOCK_STREAM, Socket};
use crate::prelude::*;
use crate::vfs::{FileOps, OpenFile, PollEvents, PollTable};
use base::abi::ioctl::{FIONREAD, SIOCATMARK, TIOCOUTQ};
use base::net::packet::PROTO_TCP;
use core::any::Any;

const IPPROTO_TCP: i32 = PROTO_TCP as i32;

impl Tcp {
    fn counted(&self) -> Result<Arc<Self>, Errno> {
        self.own.upgrade().ok_or(Errno::EBADF)
    }
}

impl Socket for Tcp {
    fn common(&self) -> &Common {
        &self.common
    }
    fn domain(&self) -> u16 {
        self.domain
    }
    fn kind(&self) -> i32 {
        SOCK_STREAM
    }
    fn protocol(&self) -> i32 {
        IPPROTO_TCP
    }
    fn bind(&self, address: &[u8]) -> Result<(), Errno> {
        self.bind_to(address)
    }
    fn listen(&self, backlog: i32) -> Result<(), Errno> {
        self.counted()?.listen_for(backlog)
    }
    fn accept(&self, nonblocking: bool) -> Result<Accepted, Errno> {
        let child = self.accept_one(nonblocking)?;
        let remote = child.state.lock().remote.unwrap_or(Endpoint::unspecified(self.domain));
        Ok(Accepted { socket: child, peer: remote.to_address(self.domain) })
    }
    fn connect(&self, address: &[u8], nonblocking: bool) -> Result<(), Errno> {
        self.counted()?.connect_to(address, nonblocking)
    }
    fn inode(&self) -> u64 {
        self.id
    }
    fn name(&self) -> Result<Address, Errno> {
        Ok(self.state.lock().local.to_address(self.domain))
    }
    fn peer_name(&self) -> Result<Address, Errno> {
        let mut state = self.state.lock();
        let is_open = !state.is_closed && state.phase() != base::net::engine::State::SynSent;
        match state.remote {
            Some(remote) if is_open => Ok(remote.to_address(self.domain)),
            _ => Err(Errno::ENOTCONN),
        }
    }
    fn send(&self, src: &mut UserReader<'_>, _out: Outgoing<'_>, how: How) -> SysResult {
        self.counted()?.send_bytes(src, how)
    }
    fn receive(&self, dst: &mut UserWriter<'_>, how: How) -> Result<Received, Errno> {
        self.counted()?.receive_bytes(dst, how)
    }
    fn shutdown(&self, read: bool, write: bool) -> Result<(), Errno> {
        self.counted()?.shut_down(read, write)
    }
    fn take_error(&self) -> Option<Errno> {
        self.state.lock().error.take()
    }
    fn is_listening(&self) -> bool {
        self.state.lock().listener.is_some()
    }
    fn set_option(&self, level: i32, name: i32, value: OptionIn) -> Option<Result<(), Errno>> {
        if level == IPPROTO_TCP {
            return Some(self.counted().and_then(|own| own.set_tcp(name, value)));
        }
        if level == SOL_SOCKET && matches!(name, SO_KEEPALIVE | SO_REUSEADDR | SO_REUSEPORT) {
            return Some(options::set(self, name, value).map(|()| {
                if name == SO_KEEPALIVE {
                    if let Ok(own) = self.counted() {
                        own.keepalive_changed();
                    }
                } else {
                    self.reuse_changed();
                }
            }));
        }
        let is_bound = self.state.lock().local.port != 0;
        ip_options::set(&self.ip, &self.common.device, self.domain, is_bound, level, name, value)
    }
    fn option(&self, level: i32, name: i32, room: usize) -> Option<Result<Vec<u8>, Errno>> {
        if level == IPPROTO_TCP {
            return Some(self.get_tcp(name));
        }
        if (level, name) == (SOL_SOCKET, SO_BINDTODEVICE) {
            return Some(Ok(crate::net::inet::device_name(&self.common)));
        }
        let peer = self.state.lock().remote;
        ip_options::get(&self.ip, self.domain, peer, level, name, room)
    }
    fn unknown_level(&self) -> Errno {
        Errno::ENOPROTOOPT
    }
}

impl FileOps for Tcp {
    fn read(&self, file: &OpenFile, _offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        Ok(self.counted()?.receive_bytes(dst, How::new(file, 0))?.len)
    }
    fn write(&self, file: &OpenFile, _offset: u64, src: &mut UserReader<'_>) -> SysResult {
        self.counted()?.send_bytes(src, How::new(file, 0))
    }
    fn poll(&self, _file: &OpenFile, table: Option<&mut PollTable<'_>>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.poll_set);
        }
        self.poll_events()
    }
    fn ioctl(&self, _file: &OpenFile, command: u32, argument: u64) -> SysResult {
        let value = match command {
            FIONREAD => self.queues()?.0,
            TIOCOUTQ => self.queues()?.1,
            SIOCATMARK => usize::from(self.is_at_mark()),
            _ => return Err(Errno::ENOTTY),
        };
        UserPtr::<i32>::new(UserAddr(argument)).write(&(value as i32))?;
        Ok(0)
    }
    fn release(&self, _file: &OpenFile) {
        if let Ok(own) = self.counted() {
            own.close();
        }
    }
    fn as_socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
