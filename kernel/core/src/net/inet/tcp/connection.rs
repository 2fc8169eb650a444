//! What segments, timers and errors do to a connection.
//!
//! Each entry point locks `state`, lets the engine work, compares before with after ([`Tcp::settle`]), unlocks, and only then
//! sends packets and wakes ([`Tcp::conclude`]).

use super::super::bottom_half;
use super::super::counters::{self, Tcp as Count};
use super::super::icmp::Trouble;
use super::super::input::Held;
use super::super::output::Queue;
use super::table::{self, Name};
use super::{Progress, State, Tcp, buffers};
use crate::net::iface;
use crate::prelude::*;
use crate::vfs::PollEvents;
use base::net::engine::{Duration, Engine, Link, State as Phase};
use base::net::packet::{RST, Tcp as Segment};
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::Ordering;

/// Packets one call sends at most before others get their turn.
pub(super) const EGRESS_BUDGET: usize = 64;
/// FIN-WAIT-2 without a descriptor (net.ipv4.tcp_fin_timeout).
pub(super) const FIN_WAIT_NS: u64 = 60_000_000_000;
/// Everything an orphan may take to say what it has to.
pub(super) const ORPHAN_NS: u64 = 120_000_000_000;
/// Unacknowledged data or SYN (tcp_retries2, tcp_syn_retries).
const DATA_TIMEOUT_S: u64 = 924;
pub(super) const CONNECT_TIMEOUT_S: u64 = 127;
pub(super) const SYN_RECEIVED_TIMEOUT_S: u64 = 31;

/// What is to be done when the lock is dropped.
#[derive(Default)]
pub(super) struct Effects {
    pub events: PollEvents,
    pub wake_readers: bool,
    pub wake_writers: bool,
    pub wake_all: bool,
    /// The name is to be freed (with TIME-WAIT's numbers), and the port.
    pub gone: Option<(Name, Option<(u32, u32)>)>,
    pub release_port: Option<u16>,
    /// The listener that gets this child.
    pub accept: Option<Weak<Tcp>>,
    /// The engine is not needed any more.
    pub dead: Option<Box<Engine>>,
    pub timer: Option<u64>,
    /// The peer on this machine that waits for the room that was made.
    pub room_for: Option<Arc<Tcp>>,
    /// The joined peer that this socket leaves, and whether by a reset.
    pub left: Option<(Option<Arc<Tcp>>, bool)>,
}

/// How a connection begins.
#[derive(Clone, Copy)]
pub(super) enum Begins {
    ByConnect,
    /// By a SYN that comes; the seed makes it another one's double. It gets its buffers when the handshake is done.
    BySyn(Option<u64>),
}

/// What the connection was before the engine worked.
pub(super) struct Before {
    pub phase: Phase,
    pub unread: usize,
    unsent: usize,
}

/// Whether the peer has said that it sends no more.
fn has_ended(phase: Phase) -> bool {
    matches!(phase, Phase::CloseWait | Phase::LastAck | Phase::Closing | Phase::TimeWait | Phase::Closed)
}

impl State {
    pub(super) fn name(&self) -> Option<Name> {
        let remote = self.remote?;
        Some(Name { local: (self.local.ip, self.local.port), remote: (remote.ip, remote.port) })
    }
    pub(super) fn phase(&mut self) -> Phase {
        self.engine.as_mut().map_or(Phase::Closed, |engine| engine.tcp().state())
    }
    pub(super) fn before(&mut self) -> Before {
        match &mut self.engine {
            Some(engine) => {
                let tcp = engine.tcp();
                Before { phase: tcp.state(), unread: tcp.recv_queue(), unsent: tcp.send_queue() }
            }
            None => Before { phase: Phase::Closed, unread: self.unread(), unsent: 0 },
        }
    }
    pub(super) fn unread(&mut self) -> usize {
        match (&mut self.engine, &self.joined) {
            (Some(engine), _) => engine.tcp().recv_queue(),
            (None, Some(joined)) => joined.ring.len(),
            (None, None) => 0,
        }
    }
    /// Whether enough room is free that a writer is worth waking.
    pub(super) fn has_room(&mut self) -> bool {
        match &mut self.engine {
            Some(engine) => {
                let tcp = engine.tcp();
                let (used, all) = (tcp.send_queue(), tcp.send_capacity());
                all - used >= (used / 2).max(1)
            }
            None => true,
        }
    }
}

impl Tcp {
    /// A segment of this connection. What follows from it is sent at once or, when more of its burst is to come, by
    /// [`Tcp::catch_up`].
    pub(super) fn segment(
        self: &Arc<Self>,
        (bytes, segment): (&[u8], &Segment),
        held: Option<&mut Held>,
        queue: &mut Queue,
    ) {
        let parent = {
            let mut state = self.state.lock();
            let waits = state.phase() == Phase::SynReceived;
            if waits { state.parent.clone() } else { None }
        };
        // The last step of the handshake is not heard while the accept queue is full: the peer repeats it.
        if let Some(parent) = parent
            && !segment.has(RST)
            && !parent.upgrade().is_some_and(|parent| parent.has_place())
        {
            return;
        }
        let mut effects = Effects::default();
        {
            let mut state = self.state.lock();
            let state = &mut *state;
            state.segments_in = state.segments_in.wrapping_add(1);
            let before = state.before();
            // Data for somebody who has gone is answered by a reset.
            let unwanted = state.is_orphan && segment.payload_len != 0 && !segment.has(RST);
            let Some(engine) = &mut state.engine else { return };
            // Without memory for the connection's buffers the peer is not heard, and says it again.
            if engine.is_established_by(bytes) && !engine.establish() {
                return;
            }
            let mut out = Vec::new();
            let now = crate::time::now_ns();
            let resets = unwanted && matches!(before.phase, Phase::FinWait1 | Phase::FinWait2);
            if resets {
                engine.tcp().abort();
            } else {
                engine.ingress(bytes, now, &mut out);
            }
            let holds = !resets && held.as_ref().is_some_and(|held| held.more);
            if !holds {
                engine.egress(now, EGRESS_BUDGET, &mut out);
            }
            self.enqueue(state, out, queue);
            self.settle(state, &before, segment.has(RST), &mut effects);
            if let Some(held) = held {
                // It is about to be looked at again.
                effects.timer = effects.timer.filter(|_| !holds);
                if holds {
                    held.socket = Some(self.clone());
                } else {
                    held.socket.take_if(|other| Arc::ptr_eq(other, self));
                }
            }
        }
        self.conclude(effects, queue);
    }

    /// Sends what there is to send.
    pub(super) fn catch_up(self: &Arc<Self>, queue: &mut Queue) {
        let mut effects = Effects::default();
        {
            let mut state = self.state.lock();
            let state = &mut *state;
            let before = state.before();
            if state.engine.is_some() && !state.is_closed {
                self.flush(state, queue);
                self.settle(state, &before, false, &mut effects);
            }
        }
        self.conclude(effects, queue);
    }

    /// Finds out what changed, with `state` locked. `by_reset`: a reset came.
    pub(super) fn settle(&self, state: &mut State, before: &Before, by_reset: bool, effects: &mut Effects) {
        let Some(engine) = &mut state.engine else { return };
        let now = crate::time::now_ns();
        let tcp = engine.tcp();
        let (phase, unread, unsent) = (tcp.state(), tcp.recv_queue(), tcp.send_queue());
        if unread > before.unread {
            state.bytes_received += (unread - before.unread) as u64;
            effects.events |= PollEvents::IN | PollEvents::RDNORM;
            effects.wake_readers = true;
        }
        // A peer that does not answer is given up only while something is under way.
        let patience = match phase {
            Phase::SynSent => Some(CONNECT_TIMEOUT_S),
            Phase::SynReceived => Some(SYN_RECEIVED_TIMEOUT_S),
            _ if unsent != 0 || matches!(phase, Phase::FinWait1 | Phase::LastAck | Phase::Closing) => {
                Some(if state.is_orphan { ORPHAN_NS / 1_000_000_000 } else { DATA_TIMEOUT_S })
            }
            _ => None,
        };
        let timeout = match (patience, self.options.user_timeout()) {
            (Some(_), Some(user)) => Some(user),
            (Some(seconds), None) => Some(Duration::from_secs(seconds)),
            (None, _) => self.options.keepalive_limit(&self.common),
        };
        if tcp.timeout() != timeout {
            tcp.set_timeout(timeout);
        }
        if unsent < before.unsent && state.wants_room && !state.shut_write {
            let (used, all) = (unsent, tcp.send_capacity());
            if all - used >= (used / 2).max(1) {
                state.wants_room = false;
                effects.events |= PollEvents::OUT | PollEvents::WRNORM;
                effects.wake_writers = true;
            }
        }
        if phase != before.phase {
            self.phase_changed(state, before.phase, phase, by_reset, effects);
        }
        self.offer(state, effects);
        if !state.is_closed {
            effects.timer = state.engine.as_mut().and_then(|engine| engine.poll_at(now));
        }
        if let Some(expires) = state.expires_ns {
            effects.timer = Some(effects.timer.map_or(expires, |at| at.min(expires)));
        }
    }

    fn phase_changed(&self, state: &mut State, old: Phase, new: Phase, by_reset: bool, effects: &mut Effects) {
        if matches!(old, Phase::SynSent) && !matches!(new, Phase::Closed | Phase::SynSent | Phase::SynReceived) {
            state.is_closed = false;
            effects.events |= PollEvents::OUT | PollEvents::WRNORM;
            effects.wake_all = true;
        }
        // A child whose peer took its SYN back.
        let is_child_reset = new == Phase::Listen;
        if has_ended(new) && !has_ended(old) && new != Phase::Closed {
            state.shut_read = true;
            effects.events |= PollEvents::IN | PollEvents::RDNORM | PollEvents::RDHUP;
            if state.shut_write {
                effects.events |= PollEvents::HUP;
            }
            effects.wake_all = true;
        }
        if new == Phase::FinWait2 && state.is_orphan {
            state.expires_ns = Some(crate::time::now_ns() + FIN_WAIT_NS);
        }
        if new == Phase::TimeWait || new == Phase::Closed || is_child_reset {
            if new == Phase::Closed || is_child_reset {
                let regular = matches!(old, Phase::LastAck | Phase::Closing | Phase::TimeWait) && !by_reset;
                if !regular && state.error.is_none() {
                    state.error = Some(match (by_reset, old) {
                        (true, Phase::SynSent | Phase::SynReceived) => Errno::ECONNREFUSED,
                        (true, Phase::CloseWait) => Errno::EPIPE,
                        (true, _) => Errno::ECONNRESET,
                        (false, _) => state.soft_error.unwrap_or(Errno::ETIMEDOUT),
                    });
                    if !by_reset {
                        counters::tcp(Count::AbortOnTimeout);
                    }
                    effects.events |= PollEvents::ERR;
                }
            }
            match old {
                Phase::SynSent | Phase::SynReceived => counters::tcp(Count::AttemptFails),
                Phase::Established | Phase::CloseWait if new != Phase::TimeWait => counters::tcp(Count::EstabResets),
                _ => {}
            }
            self.end(state, (new == Phase::TimeWait).then_some(state.sequence), effects);
        }
    }

    /// The connection is over, with `state` locked: name and port are freed, waiters told. The engine stays for what is unread.
    pub(super) fn end(&self, state: &mut State, time_wait: Option<(u32, u32)>, effects: &mut Effects) {
        if state.is_closed && state.name().is_none() {
            return;
        }
        state.is_closed = true;
        (state.shut_read, state.shut_write) = (true, true);
        state.expires_ns = None;
        effects.gone = state.name().map(|name| (name, time_wait));
        // TIME-WAIT keeps the port's claim under the socket's number.
        if time_wait.is_none() && (state.is_orphan || !state.address_is_bound) {
            effects.release_port = core::mem::take(&mut state.has_port).then_some(state.local.port);
        } else if time_wait.is_some() {
            state.has_port = false;
        }
        if state.is_orphan || state.unread() == 0 {
            effects.dead = state.engine.take();
        }
        if state.is_orphan {
            state.joined = None;
        }
        effects.events |= PollEvents::IN | PollEvents::RDNORM | PollEvents::OUT | PollEvents::HUP | PollEvents::RDHUP;
        effects.wake_all = true;
    }

    /// A child that is ready for its listener's queue goes there once.
    fn offer(&self, state: &mut State, effects: &mut Effects) {
        if state.queued || state.parent.is_none() {
            return;
        }
        let phase = state.phase();
        let is_ready = match phase {
            Phase::SynReceived | Phase::Listen | Phase::SynSent => false,
            Phase::Established => !self.options.defers_accept() || state.unread() != 0,
            _ => true,
        };
        if is_ready {
            state.queued = true;
            state.is_closed = phase == Phase::Closed;
            state.progress = Progress::Connected;
            effects.accept = state.parent.clone();
        } else if state.is_closed && matches!(phase, Phase::Listen | Phase::Closed) {
            state.parent = None;
        }
    }

    /// Does what [`Tcp::settle`] found, with nothing locked.
    pub(super) fn conclude(self: &Arc<Self>, effects: Effects, queue: &mut Queue) {
        let Effects {
            events,
            wake_readers,
            wake_writers,
            wake_all,
            gone,
            release_port,
            accept,
            dead,
            timer,
            room_for,
            left,
        } = effects;
        if let Some(peer) = room_for {
            peer.writable.wake_one();
            peer.poll_set.notify(PollEvents::OUT | PollEvents::WRNORM);
        }
        if let Some((peer, resets)) = left {
            Tcp::leave_peer(peer, resets);
        }
        if let Some((name, time_wait)) = gone {
            table::remove(&name, self.id, time_wait, self.domain);
            if let Some(parent) = self.state.lock().parent.clone().and_then(|parent| parent.upgrade()) {
                parent.forget_half_open(self.id);
            }
        }
        if let Some(port) = release_port {
            super::PORTS.release(self.id, port);
        }
        if let Some(mut engine) = dead {
            buffers::give_back(engine.buffer_bytes());
        }
        if let Some(parent) = accept {
            match parent.upgrade() {
                Some(parent) => parent.take_child(self.clone(), queue),
                None => self.abort(queue),
            }
        }
        if wake_all {
            self.readable.wake_all();
            self.writable.wake_all();
        } else {
            if wake_readers {
                self.readable.wake_one();
            }
            if wake_writers {
                self.writable.wake_one();
            }
        }
        if !events.is_empty() {
            self.poll_set.notify(events);
        }
        if let Some(at) = timer {
            self.arm(at);
        }
    }

    /// Sees to it that the timer fires by `at`. One that is set earlier is left alone: it looks again when it fires.
    fn arm(self: &Arc<Self>, at: u64) {
        let now = crate::time::now_ns();
        let at = at.max(now + 1000);
        if self.armed.load(Ordering::Acquire) <= at {
            return;
        }
        self.armed.store(at, Ordering::Release);
        let timer = self.timer.call_once(|| {
            let own = self.own.clone();
            crate::time::KernelTimer::new(Box::new(move || {
                if let Some(socket) = own.upgrade() {
                    bottom_half::due(socket);
                }
            }))
        });
        timer.arm(at);
    }

    pub(super) fn on_timer(self: &Arc<Self>, queue: &mut Queue) {
        self.armed.store(u64::MAX, Ordering::Release);
        let mut effects = Effects::default();
        {
            let mut state = self.state.lock();
            let state = &mut *state;
            let before = state.before();
            if state.expires_ns.is_some_and(|at| at <= crate::time::now_ns()) {
                state.expires_ns = None;
                self.end(state, None, &mut effects);
            } else if state.engine.is_some() && !state.is_closed {
                self.flush(state, queue);
                self.settle(state, &before, false, &mut effects);
            }
        }
        self.conclude(effects, queue);
    }

    /// An ICMP error about a segment with this sequence number.
    pub(super) fn icmp(self: &Arc<Self>, _sequence: Option<u32>, trouble: Trouble) {
        let mut effects = Effects::default();
        {
            let mut state = self.state.lock();
            let state = &mut *state;
            if state.phase() == Phase::SynSent && trouble.errno != Errno::EMSGSIZE {
                state.error = Some(trouble.errno);
                effects.events |= PollEvents::ERR;
                self.end(state, None, &mut effects);
                effects.dead = effects.dead.or_else(|| state.engine.take());
            } else {
                state.soft_error = Some(trouble.errno);
            }
        }
        self.conclude(effects, &mut Queue::new());
    }

    /// An engine for a connection between these ends, which begins as `begins` says: ENOBUFS.
    pub(super) fn new_engine(&self, local: SocketAddr, remote: IpAddr, begins: Begins) -> Result<Box<Engine>, Errno> {
        let sizes = buffers::choose(&self.common).ok_or(Errno::ENOBUFS)?;
        let via = iface::lookup(remote);
        let is_local = table::is_local(remote);
        let offloads = via.as_ref().and_then(|via| iface::device(via.interface)).map(|device| device.offloads());
        let mtu = self.packet_bytes(via.map_or(1500, |via| via.mtu), remote);
        let link = Link {
            mtu,
            without_sum: true,
            large_segments: offloads.is_some_and(
                |offloads| {
                    if remote.is_ipv4() { offloads.tso_v4 } else { offloads.tso_v6 }
                },
            ),
        };
        let room = super::super::packet::LINK_ROOM;
        let now = crate::time::now_ns();
        let random = super::super::hash::random_u64;
        let engine = match begins {
            Begins::BySyn(seed) => Engine::half_open(local, link, seed.unwrap_or_else(random), sizes, room, now),
            Begins::ByConnect => Engine::new(local.ip(), link, random(), sizes, room, now),
        };
        let Some(mut engine) = engine else {
            buffers::give_back(sizes.0 + sizes.1);
            return Err(Errno::ENOBUFS);
        };
        let tcp = engine.tcp();
        tcp.set_nagle_enabled(!is_local && !self.options.no_delay());
        tcp.set_ack_delay((!is_local).then_some(Duration::from_millis(10)));
        tcp.set_hop_limit(Some(self.ip.hop_limit(remote)));
        tcp.set_keep_alive(self.options.keepalive_idle(&self.common));
        Ok(engine)
    }
}
