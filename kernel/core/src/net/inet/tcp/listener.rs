//! Listening: SYNs make children, established children wait in the accept queue.
//!
//! A SYN for which the accept queue has no place is dropped, never refused, so that the peer tries again. Half-open children are
//! few: the SYNs beyond get [`cookies`], so that a flood costs no memory and keeps nobody out.

use super::super::counters;
use super::super::output::Queue;
use super::connection::{Begins, EGRESS_BUDGET, Effects};
use super::table::{self, Name};
use super::{Endpoint, PORTS, Tcp, cookies, make};
use crate::net::iface;
use crate::net::inet::ports::Claim;
use crate::net::options::Switches;
use crate::prelude::*;
use crate::vfs::PollEvents;
use alloc::collections::VecDeque;
use base::net::engine::{Duration, State as Phase};
use base::net::packet::Tcp as Segment;

/// net.core.somaxconn.
pub(super) const MAX_BACKLOG: usize = 4096;
/// Half-open children of one listener.
const MAX_HALF_OPEN: usize = 256;

pub(super) struct Listener {
    /// As listen(2) asked; one more may wait, as on Linux.
    pub backlog: usize,
    /// Established and not yet accepted.
    pub ready: VecDeque<Arc<Tcp>>,
    /// Those whose handshake is under way, the oldest first.
    half_open: VecDeque<Arc<Tcp>>,
    /// Until when cookies may come back (monotonic ns).
    pub cookies_until_ns: u64,
}

impl Listener {
    pub fn new(backlog: usize) -> Self {
        Self { backlog, ready: VecDeque::new(), half_open: VecDeque::new(), cookies_until_ns: 0 }
    }
    fn is_full(&self) -> bool {
        self.ready.len() > self.backlog
    }
    /// Everyone who has not been accepted.
    pub fn into_children(self) -> impl Iterator<Item = Arc<Tcp>> {
        self.ready.into_iter().chain(self.half_open)
    }
}

impl Tcp {
    /// Whether one more established child may wait here.
    pub(super) fn has_place(&self) -> bool {
        self.state.lock().listener.as_ref().is_some_and(|listener| !listener.is_full())
    }

    /// A SYN for this listener.
    pub(super) fn syn(
        self: &Arc<Self>,
        name: Name,
        scope: u32,
        (packet, segment): (&[u8], &Segment),
        queue: &mut Queue,
    ) {
        let has_room = {
            let mut state = self.state.lock();
            let Some(listener) = state.listener.as_mut() else { return };
            if listener.is_full() {
                counters::tcp(counters::Tcp::ListenOverflows);
                return;
            }
            let has_room = listener.half_open.len() < MAX_HALF_OPEN.min(listener.backlog.max(16) * 2);
            if !has_room {
                listener.cookies_until_ns = crate::time::now_ns() + cookies::LASTS_NS;
            }
            has_room
        };
        if !has_room {
            let mtu = self.packet_bytes(iface::lookup(name.remote.0).map_or(1500, |via| via.mtu), name.remote.0);
            cookies::give(&name, mtu, (packet, segment), queue);
            return;
        }
        let Some(child) = self.child(name, scope, None) else { return };
        let mut effects = Effects::default();
        let is_open = {
            let mut state = child.state.lock();
            let state = &mut *state;
            let before = state.before();
            let mut out = Vec::new();
            let now = crate::time::now_ns();
            if let Some(engine) = &mut state.engine {
                engine.ingress(packet, now, &mut out);
                engine.egress(now, EGRESS_BUDGET, &mut out);
            }
            child.enqueue(state, out, queue);
            let is_open = state.phase() == Phase::SynReceived;
            if is_open {
                child.settle(state, &before, false, &mut effects);
            }
            is_open
        };
        if !is_open || !table::insert(name, child.clone()) {
            child.vanish();
            return;
        }
        {
            let mut state = self.state.lock();
            match state.listener.as_mut() {
                Some(listener) => listener.half_open.push_back(child.clone()),
                None => {
                    drop(state);
                    child.vanish();
                    return;
                }
            }
        }
        counters::tcp(counters::Tcp::PassiveOpens);
        child.conclude(effects, queue);
    }

    /// A socket for a connection to this listener, its engine ready for the SYN; `seed` makes it another one's double.
    pub(super) fn child(self: &Arc<Self>, name: Name, scope: u32, seed: Option<u64>) -> Option<Arc<Tcp>> {
        let child = make(self.domain, self.common.inherited(), self.ip.inherited(), self.options.inherited(), self.uid);
        let local = Endpoint { ip: name.local.0, port: name.local.1, scope };
        let mut engine = child.new_engine(local.socket_addr(), name.remote.0, Begins::BySyn(seed)).ok()?;
        engine.tcp().set_timeout(Some(Duration::from_secs(super::connection::SYN_RECEIVED_TIMEOUT_S)));
        let claim = Claim {
            ip: local.ip,
            v6_only: false,
            reuse_addr: self.common.is_on(Switches::REUSE_ADDR),
            reuse_port: self.common.is_on(Switches::REUSE_PORT),
            uid: self.uid,
            device: 0,
            is_listening: false,
        };
        PORTS.join(child.id, local.port, claim);
        let mut state = child.state.lock();
        state.local = local;
        state.remote = Some(Endpoint { ip: name.remote.0, port: name.remote.1, scope });
        state.max_segment = child.options.max_segment();
        state.has_port = true;
        state.is_closed = false;
        state.is_local = table::is_local(name.remote.0);
        state.parent = Some(self.own.clone());
        state.engine = Some(engine);
        drop(state);
        Some(child)
    }

    /// An established child comes into the queue.
    pub(super) fn take_child(self: &Arc<Self>, child: Arc<Tcp>, queue: &mut Queue) {
        let taken = {
            let mut state = self.state.lock();
            match state.listener.as_mut() {
                Some(listener) => {
                    let at = listener.half_open.iter().position(|other| Arc::ptr_eq(other, &child));
                    let gone = at.and_then(|at| listener.half_open.remove(at));
                    listener.ready.push_back(child.clone());
                    drop(state);
                    drop(gone);
                    true
                }
                None => false,
            }
        };
        if taken {
            self.readable.wake_one();
            self.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
        } else {
            child.abort(queue);
        }
    }

    /// A half-open child has ended.
    pub(super) fn forget_half_open(&self, id: u64) {
        let gone = {
            let mut state = self.state.lock();
            state.listener.as_mut().and_then(|listener| {
                let at = listener.half_open.iter().position(|other| other.id == id)?;
                listener.half_open.remove(at)
            })
        };
        drop(gone);
    }

    /// Ends a half-open child without a word.
    pub(super) fn vanish(self: &Arc<Self>) {
        let mut effects = Effects::default();
        {
            let mut state = self.state.lock();
            state.is_orphan = true;
            state.parent = None;
            self.end(&mut state, None, &mut effects);
        }
        self.conclude(effects, &mut Queue::new());
    }
}
