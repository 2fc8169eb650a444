//! A UNIX socket as a socket of the calls, and as a file.

use super::super::message::{Address, ControlItem, SCM_CREDENTIALS};
use super::super::options::{Common, OptionIn, SO_PEEK_OFF, SO_PEERCRED, SO_PEERGROUPS, SOL_SOCKET, Switches};
use super::super::socket::{AF_UNIX, AF_UNSPEC, Accepted, How, MsgFlags, Outgoing, Received, Socket};
use super::send::Ancillary;
use super::{Kind, Ucred, UnixSocket, name};
use crate::prelude::*;
use crate::vfs::{FileOps, OpenFile, PollEvents, PollTable};
use base::abi::ioctl::{FIONREAD, SIOCATMARK, TIOCOUTQ};
use core::any::Any;
use core::sync::atomic::Ordering;
use zerocopy::IntoBytes;

impl UnixSocket {
    fn poll_events(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        let (connected, peer, has_pending) = {
            let state = self.state.lock();
            let has_pending = state.pending.as_ref().map(|(pending, _)| !pending.is_empty());
            (state.connected, state.peer.clone(), has_pending)
        };
        if let Some(has_pending) = has_pending {
            return if has_pending { PollEvents::IN | PollEvents::RDNORM } else { events };
        }
        let ended = self.end_of_input.load(Ordering::Acquire);
        if ended {
            events |= PollEvents::RDHUP;
        }
        let (is_empty, has_urgent) = {
            let inbox = self.inbox.lock();
            (inbox.messages.is_empty(), inbox.urgent.is_some())
        };
        if ended || !is_empty {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if has_urgent {
            events |= PollEvents::PRI;
        }
        if self.reset.load(Ordering::Acquire) {
            events |= PollEvents::ERR;
        }
        let both_ended = ended && self.shut_write.load(Ordering::Acquire);
        if both_ended || self.kind != Kind::Datagram && (!connected || self.hung_up.load(Ordering::Acquire)) {
            events |= PollEvents::HUP;
        }
        // A datagram socket's peer must have room too, unless it is connected back.
        let peer_takes = self.kind != Kind::Datagram
            || peer.and_then(|peer| peer.upgrade()).is_none_or(|peer| peer.is_peer(self) || !peer.is_crowded());
        if self.has_much_room() && peer_takes {
            events |= PollEvents::OUT | PollEvents::WRNORM | PollEvents::WRBAND;
        }
        events
    }

    /// SIOCINQ: EINVAL when listening.
    fn unread(&self) -> Result<usize, Errno> {
        if self.is_listening() {
            return Err(Errno::EINVAL);
        }
        let inbox = self.inbox.lock();
        Ok(match self.kind {
            Kind::Datagram => inbox.messages.front().map_or(0, |message| message.bytes.len()),
            _ => inbox.bytes,
        })
    }
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
        self.counted()?.bind_name(name::parse(address)?)
    }
    fn listen(&self, backlog: i32) -> Result<(), Errno> {
        self.start_listening(usize::try_from(backlog).unwrap_or(usize::MAX))
    }
    fn accept(&self, nonblocking: bool) -> Result<Accepted, Errno> {
        let socket = self.accept_one(nonblocking)?;
        let peer = name::to_address(socket.name_of_peer().unwrap_or_default().as_deref());
        Ok(Accepted { socket, peer })
    }
    fn connect(&self, address: &[u8], nonblocking: bool) -> Result<(), Errno> {
        let own = self.counted()?;
        let is_unspecified = address.first_chunk::<2>().is_some_and(|family| u16::from_le_bytes(*family) == AF_UNSPEC);
        if is_unspecified && self.kind == Kind::Datagram {
            return own.connect_datagram(None);
        }
        let name = name::parse(address)?;
        if name.is_empty() {
            return Err(Errno::EINVAL);
        }
        if self.kind == Kind::Datagram {
            own.connect_datagram(Some(name))
        } else {
            own.connect_stream(name, nonblocking)
        }
    }
    fn inode(&self) -> u64 {
        self.id
    }
    fn name(&self) -> Result<Address, Errno> {
        Ok(name::to_address(self.own_name().as_deref()))
    }
    fn peer_name(&self) -> Result<Address, Errno> {
        Ok(name::to_address(self.name_of_peer()?.as_deref()))
    }
    fn send(&self, src: &mut UserReader<'_>, out: Outgoing<'_>, how: How) -> SysResult {
        let ancillary = Ancillary::read(out.control)?;
        if how.flags.contains(MsgFlags::OOB) && (self.kind != Kind::Stream || src.remaining() == 0) {
            return Err(Errno::EOPNOTSUPP);
        }
        let to = match out.to {
            // A stream's address is refused and a packet's ignored, whatever it says.
            Some(address) if !address.is_empty() && self.kind == Kind::Datagram => Some(name::parse(address)?),
            Some(address) if !address.is_empty() => Some(address),
            _ => None,
        };
        self.send_bytes(src, ancillary, to, how)
    }
    fn receive(&self, dst: &mut UserWriter<'_>, how: How) -> Result<Received, Errno> {
        if how.flags.contains(MsgFlags::OOB) {
            let len = self.receive_urgent(dst, how.peeks())?;
            return Ok(Received { len, flags: MsgFlags::OOB, ..Received::default() });
        }
        let taken = self.receive_bytes(dst, how)?;
        let mut received = Received { len: taken.len, full_len: taken.full_len, ..Received::default() };
        received.flags.set(MsgFlags::TRUNC, taken.truncated);
        if let Some(from) = &taken.from {
            received.from = name::to_address(Some(from));
        }
        if self.common.is_on(Switches::PASS_CRED) {
            let creds = taken.creds.unwrap_or_default();
            received.control.push(ControlItem::new(SOL_SOCKET, SCM_CREDENTIALS, &creds));
        }
        if !taken.files.is_empty() {
            received.control.push(ControlItem::Files(taken.files));
        }
        Ok(received)
    }
    fn shutdown(&self, read: bool, write: bool) -> Result<(), Errno> {
        self.shut_down(read, write);
        Ok(())
    }
    fn take_error(&self) -> Option<Errno> {
        self.take_reset()
    }
    fn is_listening(&self) -> bool {
        self.state.lock().pending.is_some()
    }
    fn set_option(&self, level: i32, name: i32, value: OptionIn) -> Option<Result<(), Errno>> {
        if (level, name) != (SOL_SOCKET, SO_PEEK_OFF) {
            return None;
        }
        Some(value.int().map(|offset| self.peek_offset.store(offset, Ordering::Relaxed)))
    }
    fn option(&self, level: i32, name: i32, _room: usize) -> Option<Result<Vec<u8>, Errno>> {
        let identity = || self.peer_identity();
        match (level, name) {
            (SOL_SOCKET, SO_PEERCRED) => {
                let none = Ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
                Some(Ok(identity().map_or(none, |peer| peer.ucred).as_bytes().to_vec()))
            }
            (SOL_SOCKET, SO_PEERGROUPS) => {
                let groups = identity().map(|peer| peer.creds.groups.as_bytes().to_vec());
                Some(groups.ok_or(Errno::ENODATA))
            }
            (SOL_SOCKET, SO_PEEK_OFF) => Some(Ok(self.peek_offset.load(Ordering::Relaxed).to_ne_bytes().to_vec())),
            _ => None,
        }
    }
}

impl FileOps for UnixSocket {
    fn read(&self, file: &OpenFile, _offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        Ok(self.receive_bytes(dst, How::new(file, 0))?.len)
    }
    fn write(&self, file: &OpenFile, _offset: u64, src: &mut UserReader<'_>) -> SysResult {
        self.send_bytes(src, Ancillary::plain(), None, How::new(file, 0))
    }
    fn poll(&self, _file: &OpenFile, table: Option<&mut PollTable<'_>>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.poll_set);
            if self.kind == Kind::Datagram
                && let Some(peer) = self.peer()
            {
                table.register(&peer.drained);
            }
        }
        self.poll_events()
    }
    fn ioctl(&self, _file: &OpenFile, command: u32, argument: u64) -> SysResult {
        let value = match command {
            FIONREAD => self.unread()?,
            TIOCOUTQ => self.used.load(Ordering::Acquire),
            SIOCATMARK => usize::from(self.is_at_mark()?),
            _ => return Err(Errno::ENOTTY),
        };
        UserPtr::<i32>::new(UserAddr(argument)).write(&(value as i32))?;
        Ok(0)
    }
    fn release(&self, _file: &OpenFile) {
        self.close(false);
    }
    fn as_socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
