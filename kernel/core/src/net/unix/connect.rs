//! listen(2), connect(2), accept(2).

use super::super::options::Switches;
use super::super::socket::{deadline, wait_error};
use super::{Identity, Kind, State, UnixSocket, flight};
use crate::prelude::*;
use crate::sync::{WaitKind, WaitReason};
use crate::vfs::PollEvents;
use alloc::collections::VecDeque;
use core::sync::atomic::Ordering;

/// net.core.somaxconn.
const MAX_BACKLOG: usize = 4096;

impl UnixSocket {
    /// EINVAL when unbound or connected, EOPNOTSUPP for datagrams.
    pub(super) fn start_listening(&self, backlog: usize) -> Result<(), Errno> {
        if self.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let identity = Identity::current();
        let mut state = self.state.lock();
        if state.name.is_none() || state.connected {
            return Err(Errno::EINVAL);
        }
        let limit = backlog.min(MAX_BACKLOG) + 1;
        match &mut state.pending {
            Some((_, old)) => *old = limit,
            none => *none = Some((VecDeque::new(), limit)),
        }
        state.peer_identity = Some(identity);
        drop(state);
        self.room.wake_all();
        Ok(())
    }

    /// connect(2) of a datagram socket: where its datagrams go, and whose alone it takes; `None` undoes it. EPERM.
    pub(super) fn connect_datagram(self: &Arc<Self>, name: Option<&[u8]>) -> Result<(), Errno> {
        let target = match name {
            Some(name) => {
                self.bind_for_credentials()?;
                Some(self.find_datagram(name)?)
            }
            None => None,
        };
        let new = target.as_ref().map(Arc::downgrade);
        let mut state = self.state.lock();
        state.connected = target.is_some();
        let old = core::mem::replace(&mut state.peer, new);
        drop(state);
        let Some(old) = old.and_then(|old| old.upgrade()) else { return Ok(()) };
        if target.as_ref().is_none_or(|target| !Arc::ptr_eq(target, &old)) {
            // What the old peer sent is lost, and it hears of that.
            let unread = core::mem::take(&mut *self.inbox.lock()).messages;
            if !unread.is_empty() {
                flight::discard(unread);
                self.made_room();
            }
            if old.is_peer(self) {
                old.reset.store(true, Ordering::Release);
                old.readable.wake_all();
                old.poll_set.notify(PollEvents::ERR);
            }
        }
        Ok(())
    }

    /// A socket that passes credentials has a name before it is heard of.
    pub(super) fn bind_for_credentials(self: &Arc<Self>) -> Result<(), Errno> {
        if self.common.is_on(Switches::PASS_CRED) { self.bind_any() } else { Ok(()) }
    }

    /// connect(2) of the others: ECONNREFUSED, EAGAIN, EISCONN, EINVAL when listening, and the errors of finding the name.
    pub(super) fn connect_stream(self: &Arc<Self>, name: &[u8], nonblocking: bool) -> Result<(), Errno> {
        self.bind_for_credentials()?;
        let listener = self.find(name)?;
        let identity = Identity::current();
        let server = Self::new(self.kind);
        let attempt = || -> Option<Result<(), Errno>> {
            if listener.end_of_input.load(Ordering::Acquire) {
                return Some(Err(Errno::ECONNREFUSED));
            }
            // This socket may be the listener itself.
            if Arc::ptr_eq(self, &listener) {
                let is_listening = self.state.lock().pending.is_some();
                return Some(Err(if is_listening { Errno::EINVAL } else { Errno::ECONNREFUSED }));
            }
            with_both(&listener, self, |listening, state| {
                let (peer_identity, name) = (listening.peer_identity.clone(), listening.name.clone());
                let Some((pending, limit)) = &mut listening.pending else { return Some(Err(Errno::ECONNREFUSED)) };
                if pending.len() >= *limit {
                    return nonblocking.then_some(Err(Errno::EAGAIN));
                }
                if state.connected {
                    return Some(Err(Errno::EISCONN));
                }
                if state.pending.is_some() {
                    return Some(Err(Errno::EINVAL));
                }
                let mut own = server.state.lock();
                own.name = name;
                own.peer = Some(self.own.clone());
                own.peer_identity = Some(identity.clone());
                own.connected = true;
                drop(own);
                pending.push_back(server.clone());
                state.peer = Some(Arc::downgrade(&server));
                state.peer_identity = peer_identity;
                state.connected = true;
                Some(Ok(()))
            })
        };
        let until = deadline(self.common.send_timeout());
        let reason = WaitReason::on(WaitKind::UnixConnect, listener.id);
        listener.room.wait_until(WaitMode::Interruptible, until, reason, attempt).map_err(wait_error(until))??;
        listener.readable.wake_one();
        listener.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
        self.poll_set.notify(PollEvents::OUT | PollEvents::WRNORM);
        Ok(())
    }

    /// EINVAL unless listening; EAGAIN.
    pub(super) fn accept_one(&self, nonblocking: bool) -> Result<Arc<Self>, Errno> {
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
        let reason = WaitReason::on(WaitKind::UnixAccept, self.id);
        let socket =
            self.readable.wait_until(WaitMode::Interruptible, until, reason, attempt).map_err(wait_error(until))??;
        self.room.wake_one();
        socket.common.switch(Switches::PASS_CRED, self.common.is_on(Switches::PASS_CRED));
        Ok(socket)
    }
}

/// Runs `f` with the states of two different sockets, locked by address.
fn with_both<R>(one: &UnixSocket, other: &UnixSocket, f: impl FnOnce(&mut State, &mut State) -> R) -> R {
    if core::ptr::from_ref(one) < core::ptr::from_ref(other) {
        let mut first = one.state.lock();
        let mut second = other.state.lock();
        f(&mut first, &mut second)
    } else {
        let mut first = other.state.lock();
        let mut second = one.state.lock();
        f(&mut second, &mut first)
    }
}
