//! bind, listen, connect, accept, send, receive, shutdown and close of TCP sockets.

use super::super::address::{self, Endpoint};
use super::super::counters;
use super::super::output::{self, Queue};
use super::super::ports::{Claim, check_bind};
use super::connection::{Begins, Effects};
use super::listener::{Listener, MAX_BACKLOG};
use super::table::{self, Name};
use super::{PORTS, Progress, State, Tcp};
use crate::file::PollEvents;
use crate::net::iface;
use crate::net::inet::options::Switch;
use crate::net::options::Switches;
use crate::net::socket::{AF_INET6, AF_UNSPEC, How, MsgFlags, Received, deadline, wait_error};
use crate::prelude::*;
use crate::sync::{WaitError, WaitReason};
use base::net::engine::State as Phase;

/// The most bytes copied under the connection's lock at once.
const PIECE: usize = 64 << 10;

/// What one look at a connection brought.
pub(super) enum Step {
    /// So many bytes more.
    Moved(usize),
    /// The program's memory is not there yet: make it so and look again.
    Fault(usize),
    /// Nothing more will come.
    End,
    Err(Errno),
}

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
        let reason = WaitReason::on("tcp_accept", self.id);
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
        let reason = WaitReason::on("tcp_connect", self.id);
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
    fn is_connecting(state: &mut State) -> bool {
        !state.is_closed && matches!(state.phase(), Phase::SynSent | Phase::SynReceived)
    }

    fn try_send(self: &Arc<Self>, src: &mut UserReader<'_>, more: bool, queue: &mut Queue) -> Option<Step> {
        let mut effects = Effects::default();
        let step = {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            if let Some(error) = state.error.take() {
                return Some(Step::Err(error));
            }
            if state.shut_write || state.is_closed && state.engine.is_none() || state.listener.is_some() {
                return Some(Step::Err(Errno::EPIPE));
            }
            if let Some(peer) = Self::joined_peer(state) {
                drop(guard);
                return self.send_joined(peer, src);
            }
            if Self::is_connecting(state) {
                return None;
            }
            let before = state.before();
            let Some(engine) = &mut state.engine else { return Some(Step::Err(Errno::EPIPE)) };
            let tcp = engine.tcp();
            let (mut moved, mut fault) = (0, false);
            // The ring's free part may be in two pieces.
            for _ in 0..2 {
                let wanted = src.remaining().min(PIECE - moved);
                if wanted == 0 || fault {
                    break;
                }
                let result = tcp.send(|room| {
                    let len = room.len().min(wanted);
                    match src.read_nofault(&mut room[..len]) {
                        Ok(n) => (n, Ok(n)),
                        Err(_) => (0, Err(len)),
                    }
                });
                match result {
                    Ok(Ok(0)) => break,
                    Ok(Ok(n)) => moved += n,
                    Ok(Err(_)) => fault = true,
                    Err(_) => return Some(Step::Err(Errno::EPIPE)),
                }
            }
            if moved != 0 {
                state.bytes_sent += moved as u64;
                let holds = (more || state.is_corked) && tcp.send_queue() < 1448;
                if !holds {
                    self.flush(state, queue);
                }
                self.settle(state, &before, false, &mut effects);
                if holds {
                    // Held back for the rest, but not for long.
                    let soon = crate::time::now_ns() + 200_000_000;
                    effects.timer = Some(soon);
                }
                Some(Step::Moved(moved))
            } else if fault {
                Some(Step::Fault(src.remaining().min(PIECE)))
            } else {
                state.wants_room = true;
                None
            }
        };
        self.conclude(effects, queue);
        step
    }

    /// Sends the bytes of `src`, all of them unless it may not wait.
    pub(super) fn send_bytes(self: &Arc<Self>, src: &mut UserReader<'_>, how: How) -> SysResult {
        if how.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut sent = 0;
        let until = deadline(self.common.send_timeout());
        let reason = WaitReason::on("tcp_send", self.id);
        let more = how.flags.contains(MsgFlags::MORE);
        let mut first = true;
        while src.remaining() != 0 || first {
            let mut queue = Queue::new();
            let attempt = || {
                if src.remaining() == 0 {
                    return Some(self.send_nothing());
                }
                let step = self.try_send(src, more, &mut queue);
                output::send_all(&mut queue);
                match step {
                    None if how.nonblocking => Some(Step::Err(Errno::EAGAIN)),
                    step => step,
                }
            };
            first = false;
            let step =
                self.writable.wait_until(WaitMode::Interruptible, until, reason, attempt).map_err(wait_error(until));
            match step {
                Ok(Step::Moved(n)) => sent += n,
                Ok(Step::Fault(len)) => match src.fault_in(len) {
                    Ok(()) => {}
                    Err(_) if sent != 0 => break,
                    Err(error) => return Err(error),
                },
                Ok(Step::End) => break,
                Ok(Step::Err(_)) | Err(_) if sent != 0 => break,
                Ok(Step::Err(Errno::EPIPE)) if how.signals() => return crate::file::pipe::broken_pipe(),
                Ok(Step::Err(error)) | Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// A send of no bytes only looks whether one could be.
    fn send_nothing(&self) -> Step {
        let mut state = self.state.lock();
        if let Some(error) = state.error.take() {
            return Step::Err(error);
        }
        let is_open = state.engine.is_some() || state.joined.is_some();
        if state.shut_write || !is_open { Step::Err(Errno::EPIPE) } else { Step::End }
    }

    fn try_receive(
        self: &Arc<Self>,
        dst: &mut UserWriter<'_>,
        how: How,
        at_least: usize,
        got: usize,
        queue: &mut Queue,
    ) -> Option<Step> {
        let mut effects = Effects::default();
        let step = {
            let mut state = self.state.lock();
            let state = &mut *state;
            if state.listener.is_some() {
                return Some(Step::Err(Errno::ENOTCONN));
            }
            let before = state.before();
            let discards = how.flags.contains(MsgFlags::TRUNC);
            let (mut moved, mut fault) = (0, false);
            if let Some(engine) = &mut state.engine {
                let tcp = engine.tcp();
                if how.peeks() {
                    let mut at = got;
                    let mut chunk = [0u8; 2048];
                    // A peek sees the ring through a copy: pieces beyond the first are reached by no other way.
                    let available = tcp.recv_queue();
                    let wanted = dst.remaining().min(available.saturating_sub(at)).min(PIECE);
                    let (whole, _) = peek_at(tcp, at, wanted);
                    if let Some(bytes) = whole {
                        match dst.write_nofault(bytes) {
                            Ok(n) => moved = n,
                            Err(_) => fault = true,
                        }
                    } else if wanted != 0 {
                        while moved < wanted && !fault {
                            let n = copy_at(tcp, at, &mut chunk[..(wanted - moved).min(2048)]);
                            if n == 0 {
                                break;
                            }
                            match dst.write_nofault(&chunk[..n]) {
                                Ok(n) => {
                                    moved += n;
                                    at += n;
                                }
                                Err(_) => fault = true,
                            }
                        }
                    }
                } else {
                    for _ in 0..2 {
                        let wanted = dst.remaining().min(PIECE - moved);
                        if wanted == 0 || fault || !tcp.can_recv() {
                            break;
                        }
                        let result = tcp.recv(|bytes| {
                            let len = bytes.len().min(wanted);
                            if discards {
                                dst.truncate(dst.remaining() - len);
                                return (len, Ok(len));
                            }
                            match dst.write_nofault(&bytes[..len]) {
                                Ok(n) => (n, Ok(n)),
                                Err(_) => (0, Err(())),
                            }
                        });
                        match result {
                            Ok(Ok(n)) => moved += n,
                            Ok(Err(())) => fault = true,
                            Err(_) => break,
                        }
                    }
                }
            }
            if state.joined.is_some() {
                let how = (how.peeks(), discards, got);
                (moved, fault) = self.take_joined(state, dst, how, &mut effects);
            }
            if moved != 0 {
                if state.is_closed && state.unread() == 0 {
                    effects.dead = state.engine.take();
                } else if state.engine.is_some() && !how.peeks() && !state.is_closed {
                    self.flush(state, queue);
                    self.settle(state, &before, false, &mut effects);
                }
                Some(Step::Moved(moved))
            } else if fault {
                Some(Step::Fault(dst.remaining().min(PIECE)))
            } else if got >= at_least || dst.remaining() == 0 && (got != 0 || before.unread != 0) {
                Some(Step::End)
            } else if let Some(error) = state.error {
                // What was read before comes first; the error stays for the next call then.
                if got == 0 {
                    state.error = None;
                }
                Some(Step::Err(error))
            } else if state.shut_read {
                Some(Step::End)
            } else if state.is_closed {
                Some(Step::Err(Errno::ENOTCONN))
            } else {
                None
            }
        };
        self.conclude(effects, queue);
        step
    }

    pub(super) fn receive_bytes(self: &Arc<Self>, dst: &mut UserWriter<'_>, how: How) -> Result<Received, Errno> {
        if how.flags.contains(MsgFlags::ERRQUEUE) {
            return Err(Errno::EAGAIN);
        }
        if how.flags.contains(MsgFlags::OOB) {
            let is_closed = self.state.lock().is_closed;
            return Err(if is_closed { Errno::ENOTCONN } else { Errno::EINVAL });
        }
        let low_water = self.common.receive_low_water.load(core::sync::atomic::Ordering::Relaxed);
        let all = dst.remaining();
        let at_least = match how.flags.contains(MsgFlags::WAITALL) {
            true => all.max(1),
            false => all.min(low_water.max(1) as usize).max(1),
        };
        let mut got = 0;
        let until = deadline(self.common.receive_timeout());
        let reason = WaitReason::on("tcp_receive", self.id);
        let mut looked = false;
        while got < at_least || !looked {
            looked = true;
            let mut queue = Queue::new();
            let attempt = || {
                let step = self.try_receive(dst, how, at_least, got, &mut queue);
                output::send_all(&mut queue);
                match step {
                    None if how.nonblocking => Some(Step::Err(Errno::EAGAIN)),
                    step => step,
                }
            };
            let step =
                self.readable.wait_until(WaitMode::Interruptible, until, reason, attempt).map_err(wait_error(until));
            match step {
                Ok(Step::Moved(n)) => got += n,
                Ok(Step::Fault(len)) => match dst.fault_in(len) {
                    Ok(()) => looked = false,
                    Err(_) if got != 0 => break,
                    Err(error) => return Err(error),
                },
                Ok(Step::End) => break,
                Ok(Step::Err(_)) | Err(_) if got != 0 => break,
                Ok(Step::Err(error)) | Err(error) => return Err(error),
            }
        }
        // Bytes that others may take are theirs to hear of.
        if got != 0 && self.state.lock().unread() != 0 {
            self.readable.wake_one();
        }
        Ok(Received { len: got, ..Received::default() })
    }

    pub(super) fn shut_down(self: &Arc<Self>, read: bool, write: bool) -> Result<(), Errno> {
        let children = {
            let mut state = self.state.lock();
            if state.listener.is_some() {
                // Listening ends when reading does.
                if read { self.stop_listening(&mut state) } else { None }
            } else if state.remote.is_none() || state.is_closed && state.engine.is_none() && state.joined.is_none() {
                return Err(Errno::ENOTCONN);
            } else {
                None
            }
        };
        let mut queue = Queue::new();
        if let Some((listener, port)) = children {
            self.end_listener(*listener, port, &mut queue);
            output::send_all(&mut queue);
            self.readable.wake_all();
            self.poll_set.notify(PollEvents::IN | PollEvents::HUP);
            return Ok(());
        }
        let mut effects = Effects::default();
        let mut joined = None;
        {
            let mut state = self.state.lock();
            let state = &mut *state;
            let before = state.before();
            if write && !state.shut_write && !state.is_closed {
                joined = Self::joined_peer(state);
            }
            if read {
                state.shut_read = true;
                effects.events |= PollEvents::IN | PollEvents::RDNORM | PollEvents::RDHUP;
            }
            if write && !state.shut_write {
                state.shut_write = true;
                effects.events |= PollEvents::OUT | PollEvents::WRNORM;
                state.is_corked = false;
                if let Some(engine) = &mut state.engine
                    && !state.is_closed
                {
                    engine.tcp().close();
                }
                if !state.is_closed {
                    self.flush(state, &mut queue);
                    self.settle(state, &before, false, &mut effects);
                }
            }
            if state.shut_read && state.shut_write {
                effects.events |= PollEvents::HUP;
            }
        }
        self.conclude(effects, &mut queue);
        if let Some(peer) = joined {
            self.end_writing(peer);
        }
        output::send_all(&mut queue);
        self.readable.wake_all();
        self.writable.wake_all();
        Ok(())
    }

    fn stop_listening(&self, state: &mut State) -> Option<(Box<Listener>, u16)> {
        let listener = state.listener.take()?;
        state.shut_read = true;
        Some((listener, state.local.port))
    }

    /// A listener is no more: those that nobody accepted are reset.
    fn end_listener(self: &Arc<Self>, listener: Listener, port: u16, queue: &mut Queue) {
        table::remove_listener(port, self.id);
        PORTS.change(self.id, port, |claim| claim.is_listening = false);
        for child in listener.into_children() {
            child.abort(queue);
        }
    }

    /// The last descriptor is gone.
    pub(super) fn close(self: &Arc<Self>) {
        let mut queue = Queue::new();
        let listener = {
            let mut state = self.state.lock();
            state.listener.take().map(|listener| (listener, state.local.port))
        };
        if let Some((listener, port)) = listener {
            self.end_listener(*listener, port, &mut queue);
        }
        self.orphan(&mut queue);
        output::send_all(&mut queue);
        self.linger();
    }

    /// SO_LINGER: close(2) waits until everything has been acknowledged.
    fn linger(self: &Arc<Self>) {
        let Some(seconds) = self.common.linger_seconds().filter(|seconds| *seconds != 0) else { return };
        if current().is_dying() {
            return;
        }
        let until = crate::time::now_ns().saturating_add(u64::from(seconds) * 1_000_000_000);
        let reason = WaitReason::on("tcp_linger", self.id);
        let _ = self.writable.wait_until(WaitMode::Interruptible, Some(until), reason, || {
            let mut state = self.state.lock();
            let is_done = state.is_closed
                || !matches!(state.phase(), Phase::FinWait1 | Phase::LastAck | Phase::Closing | Phase::Established);
            is_done.then_some(())
        });
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
        if state.unread() >= low_water.max(1) {
            events |= PollEvents::IN | PollEvents::RDNORM;
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

    /// FIONREAD and SIOCOUTQ.
    pub(super) fn queues(&self) -> Result<(usize, usize), Errno> {
        let mut state = self.state.lock();
        if state.listener.is_some() {
            return Err(Errno::EINVAL);
        }
        Ok(match &mut state.engine {
            Some(engine) => (engine.tcp().recv_queue(), engine.tcp().send_queue()),
            None => (state.unread(), 0),
        })
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

/// The bytes from `at` on when they lie in one piece from the ring's start.
fn peek_at<'a>(
    tcp: &'a mut smoltcp::socket::tcp::Socket<'static>,
    at: usize,
    wanted: usize,
) -> (Option<&'a [u8]>, usize) {
    if at != 0 || wanted == 0 {
        return (None, 0);
    }
    match tcp.peek(wanted) {
        Ok(bytes) if bytes.len() == wanted => {
            let len = bytes.len();
            (Some(bytes), len)
        }
        _ => (None, 0),
    }
}

/// Copies bytes from `at` on out of the ring without taking them.
fn copy_at(tcp: &mut smoltcp::socket::tcp::Socket<'static>, at: usize, out: &mut [u8]) -> usize {
    let mut whole = alloc::vec![0; at + out.len()];
    let n = tcp.peek_slice(&mut whole).unwrap_or(0).saturating_sub(at);
    out[..n].copy_from_slice(&whole[at..at + n]);
    n
}
