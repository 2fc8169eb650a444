//! bind, listen, connect and accept of TCP sockets, and what poll says of them.

use super::super::address::{self, Endpoint};
use super::super::counters;
use super::super::output::{self, Queue};
use super::super::ports::{Claim, check_bind};
use super::connection::{Begins, Effects};
use super::listener::{Listener, MAX_BACKLOG};
use super::table::{self, Name};
use super::{PORTS, Progress, State, Tcp};
use crate::net::iface;
use crate::net::inet::options::Switch;
use crate::net::options::Switches;
use crate::net::socket::{AF_INET6, AF_UNSPEC, deadline, wait_error};
use crate::prelude::*;
use crate::sync::{WaitError, WaitKind, WaitReason};
use crate::vfs::PollEvents;
use base::net::engine::State as Phase;

impl Tcp {
    pub(super) fn bind_to(&self, bytes: &[u8]) -> Result<(), Errno> {
        let endpoint = address::parse_bind(self.domain, bytes)?;
        if endpoint.ip.is_multicast() || iface::address::is_broadcast(endpoint.ip) {
            return Err(if endpoint.ip.is_ipv6() { Errno::EINVAL } else { Errno::EADDRNOTAVAIL });
        }
        check_bind(&endpoint, &self.ip, &self.common)?;
        {
            let state = self.state.lock();
            if state.local.port != 0 || state.remote.is_some() {
                return Err(Errno::EINVAL);
            }
        }
        let claim = Claim::new(endpoint, self.domain, &self.common, &self.ip);
        let port = PORTS.claim(self.id, endpoint.port, claim)?;
        let mut state = self.state.lock();
        state.local = Endpoint { port, ..endpoint };
        state.has_port = true;
        state.address_is_bound = true;
        Ok(())
    }

    pub(super) fn listen_for(self: &Arc<Self>, backlog: i32) -> Result<(), Errno> {
        let backlog = usize::try_from(backlog).unwrap_or(MAX_BACKLOG).min(MAX_BACKLOG);
        {
            let mut state = self.state.lock();
            if let Some(listener) = &mut state.listener {
                listener.backlog = backlog;
                return Ok(());
            }
            if state.progress != Progress::Unconnected || !state.is_closed || state.engine.is_some() {
                return Err(Errno::EINVAL);
            }
        }
        let port = self.state.lock().local.port;
        let port = if port == 0 {
            let any = Endpoint::unspecified(self.domain);
            let claim = Claim::new(any, self.domain, &self.common, &self.ip);
            let port = PORTS.claim(self.id, 0, claim)?;
            let mut state = self.state.lock();
            state.local.port = port;
            state.has_port = true;
            port
        } else {
            port
        };
        // Two may have been bound here under SO_REUSEADDR; only one may listen.
        if !PORTS.change(self.id, port, |claim| claim.is_listening = true) {
            return Err(Errno::EADDRINUSE);
        }
        {
            let mut state = self.state.lock();
            state.listener = Some(Box::new(Listener::new(backlog)));
            (state.shut_read, state.shut_write) = (false, false);
        }
        table::add_listener(port, self.clone());
        Ok(())
    }

    pub(super) fn accept_one(&self, nonblocking: bool) -> Result<Arc<Tcp>, Errno> {
        let attempt = || -> Option<Result<Arc<Tcp>, Errno>> {
            let mut state = self.state.lock();
            let Some(listener) = &mut state.listener else { return Some(Err(Errno::EINVAL)) };
            match listener.ready.pop_front() {
                Some(child) => Some(Ok(child)),
                None => nonblocking.then_some(Err(Errno::EAGAIN)),
            }
        };
        let until = deadline(self.common.receive_timeout());
        let reason = WaitReason::on(WaitKind::TcpAccept, self.id);
        let child =
            self.readable.wait_until(WaitMode::Interruptible, until, reason, attempt).map_err(wait_error(until))??;
        child.state.lock().parent = None;
        Ok(child)
    }

    /// connect(2).
    pub(super) fn connect_to(self: &Arc<Self>, bytes: &[u8], nonblocking: bool) -> Result<(), Errno> {
        if bytes.len() < 2 {
            return Err(Errno::EINVAL);
        }
        if address::family(bytes) == Some(AF_UNSPEC) {
            return self.disconnect();
        }
        let progress = {
            let state = self.state.lock();
            if state.listener.is_some() {
                return Err(Errno::EISCONN);
            }
            state.progress
        };
        match progress {
            Progress::Connected => return Err(Errno::EISCONN),
            Progress::Connecting => {}
            Progress::Unconnected => self.begin(bytes)?,
        }
        let was_connecting = progress == Progress::Connecting;
        let attempt = || -> Option<Result<(), Errno>> {
            let mut state = self.state.lock();
            // As on Linux, a first call never says how it ended: the answer of the other side comes behind it.
            if nonblocking && !was_connecting {
                return Some(Err(Errno::EINPROGRESS));
            }
            if let Some(error) = state.error.take() {
                state.progress = Progress::Unconnected;
                return Some(Err(error));
            }
            match state.phase() {
                Phase::SynSent | Phase::SynReceived if nonblocking => Some(Err(Errno::EALREADY)),
                Phase::SynSent | Phase::SynReceived => None,
                _ if state.is_closed => {
                    state.progress = Progress::Unconnected;
                    Some(Err(Errno::ECONNABORTED))
                }
                _ => {
                    state.progress = Progress::Connected;
                    Some(Ok(()))
                }
            }
        };
        let until = deadline(self.common.send_timeout());
        let reason = WaitReason::on(WaitKind::TcpConnect, self.id);
        match self.writable.wait_until(WaitMode::Interruptible, until, reason, attempt) {
            Ok(result) => {
                if matches!(result, Err(error) if !matches!(error, Errno::EINPROGRESS | Errno::EALREADY)) {
                    self.forget_connection();
                }
                result
            }
            Err(WaitError::TimedOut) => Err(if was_connecting { Errno::EALREADY } else { Errno::EINPROGRESS }),
            Err(error) => Err(wait_error(until)(error)),
        }
    }

    /// After a failed attempt the socket is as before: it may connect again.
    fn forget_connection(self: &Arc<Self>) {
        let mut effects = Effects::default();
        {
            let mut state = self.state.lock();
            let state = &mut *state;
            self.end(state, None, &mut effects);
            effects.dead = effects.dead.or_else(|| state.engine.take());
            state.joined = None;
            state.remote = None;
            if !state.address_is_bound {
                state.local = Endpoint::unspecified(self.domain);
            }
            (state.shut_read, state.shut_write) = (false, false);
            state.progress = Progress::Unconnected;
            state.error = None;
        }
        effects.events = PollEvents::empty();
        self.conclude(effects, &mut Queue::new());
    }

    fn disconnect(self: &Arc<Self>) -> Result<(), Errno> {
        let mut queue = Queue::new();
        let was_orphan = self.state.lock().is_orphan;
        self.abort(&mut queue);
        self.state.lock().is_orphan = was_orphan;
        output::send_all(&mut queue);
        self.forget_connection();
        Ok(())
    }

    /// Chooses both ends and sends the SYN.
    fn begin(self: &Arc<Self>, bytes: &[u8]) -> Result<(), Errno> {
        let peer = address::parse_peer(self.domain, bytes, false)?;
        if peer.ip.is_ipv4() && self.domain == AF_INET6 && self.ip.is_on(Switch::V6ONLY) {
            return Err(Errno::ENETUNREACH);
        }
        let peer = address::or_loopback(peer);
        if peer.ip.is_multicast() || iface::address::is_broadcast(peer.ip) {
            return Err(Errno::ENETUNREACH);
        }
        let device = self.common.device.load(core::sync::atomic::Ordering::Relaxed);
        let only = [peer.scope, device].into_iter().find(|index| *index != 0);
        let via = iface::route::lookup_on(peer.ip, only).ok_or(Errno::ENETUNREACH)?;
        let own = self.state.lock().local;
        let ip = if own.ip.is_unspecified() {
            via.source.or_else(|| iface::source_for(via.interface, peer.ip)).ok_or(Errno::EADDRNOTAVAIL)?
        } else if own.ip.is_ipv4() != peer.ip.is_ipv4() {
            return Err(Errno::EINVAL);
        } else {
            own.ip
        };
        let name = |port: u16| Name { local: (ip, port), remote: (peer.ip, peer.port) };
        let local = Endpoint { ip, port: own.port, scope: peer.scope };
        let port = if own.port != 0 {
            own.port
        } else {
            let claim = Claim::new(local, self.domain, &self.common, &self.ip);
            PORTS.claim_for_connection(self.id, claim, |port| table::is_free(&name(port)))?
        };
        let local = Endpoint { port, ..local };
        let release = |error: Errno| {
            if own.port == 0 {
                PORTS.release(self.id, port);
            }
            error
        };
        let mut queue = Queue::new();
        let may_join = matches!(device, 0 | iface::LOOPBACK) && table::is_local(peer.ip) && table::is_local(ip);
        if may_join && self.join(name(port), peer.scope, &mut queue) {
            output::send_all(&mut queue);
            return Ok(());
        }
        let begins = Begins::ByConnect;
        let mut engine = self.new_engine(local.socket_addr(), peer.ip, begins).map_err(release)?;
        let started = engine.connect(local.socket_addr(), peer.socket_addr());
        if started.is_err() || !table::insert(name(port), self.clone()) {
            super::buffers::give_back(engine.buffer_bytes());
            return Err(release(Errno::EADDRNOTAVAIL));
        }
        counters::tcp(counters::Tcp::ActiveOpens);
        let mut effects = Effects::default();
        {
            let mut state = self.state.lock();
            let state = &mut *state;
            state.local = local;
            state.has_port = true;
            state.remote = Some(peer);
            state.max_segment = self.options.max_segment();
            state.progress = Progress::Connecting;
            state.is_closed = false;
            state.is_local = table::is_local(peer.ip);
            (state.shut_read, state.shut_write) = (false, false);
            state.error = None;
            state.engine = Some(engine);
            let before = state.before();
            self.flush(state, &mut queue);
            self.settle(state, &before, false, &mut effects);
        }
        self.conclude(effects, &mut queue);
        output::send_all(&mut queue);
        Ok(())
    }

    /// Whether the connection is still being made.
    pub(super) fn is_connecting(state: &mut State) -> bool {
        !state.is_closed && matches!(state.phase(), Phase::SynSent | Phase::SynReceived)
    }

    pub(super) fn poll_events(&self) -> PollEvents {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if let Some(listener) = &state.listener {
            let ready = !listener.ready.is_empty();
            return if ready { PollEvents::IN | PollEvents::RDNORM } else { PollEvents::empty() };
        }
        let mut events = PollEvents::empty();
        if state.error.is_some() {
            events |= PollEvents::ERR;
        }
        if state.is_closed || state.shut_read && state.shut_write {
            events |= PollEvents::HUP;
        }
        if state.shut_read {
            events |= PollEvents::IN | PollEvents::RDNORM | PollEvents::RDHUP;
        }
        if Self::is_connecting(state) {
            return events;
        }
        let low_water = self.common.receive_low_water.load(core::sync::atomic::Ordering::Relaxed) as usize;
        let readable = match &state.joined {
            Some(joined) => joined.readable(self.reads_inline()),
            None => state.unread(),
        };
        if readable >= low_water.max(1) {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if state.joined.as_ref().is_some_and(|joined| joined.urgent.is_waiting()) {
            events |= PollEvents::PRI;
        }
        let peer = Self::joined_peer(state).filter(|_| !state.is_closed && !state.shut_write);
        if peer.is_none() {
            if state.shut_write || state.has_room() {
                events |= PollEvents::OUT | PollEvents::WRNORM;
            } else {
                state.wants_room = true;
            }
        }
        drop(guard);
        if let Some(peer) = peer
            && Self::peer_has_room(peer)
        {
            events |= PollEvents::OUT | PollEvents::WRNORM;
        }
        events
    }

    /// SO_REUSEADDR and SO_REUSEPORT changed after bind(2).
    pub(super) fn reuse_changed(&self) {
        let port = {
            let state = self.state.lock();
            if state.has_port { state.local.port } else { 0 }
        };
        if port != 0 {
            let (addr, reuse_port) = (self.common.is_on(Switches::REUSE_ADDR), self.common.is_on(Switches::REUSE_PORT));
            PORTS.change(self.id, port, |claim| (claim.reuse_addr, claim.reuse_port) = (addr, reuse_port));
        }
    }
}
