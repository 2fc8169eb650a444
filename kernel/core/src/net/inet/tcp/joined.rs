//! Connections between two sockets of this machine: no segments, no timers, one byte ring on each side.
//!
//! Such a connection is made at once when a listener is there and has a place; otherwise the SYN goes around `lo` as a segment and
//! is answered, dropped or repeated like any other. What programs see is the same: states, halves, resets, names, queues. There is
//! no TIME-WAIT, as nothing can come late.
//!
//! Each side's ring is behind its own `state`. A sender locks its own `state`, lets go, then locks its peer's: never both.

use super::super::counters;
use super::super::output::Queue;
use super::super::ports::Claim;
use super::connection::Effects;
use super::table::{self, Name};
use super::transfer::Step;
use super::urgent::{Reach, Urgent};
use super::{Endpoint, PORTS, Progress, State, Tcp, buffers, make};
use crate::net::iface;
use crate::net::options::Switches;
use crate::net::socket::MsgFlags;
use crate::prelude::*;
use crate::vfs::PollEvents;
use base::net::ring::ByteRing;

/// The most bytes copied under one lock at once.
const PIECE: usize = 64 << 10;

/// One side.
pub(super) struct Joined {
    peer: Weak<Tcp>,
    /// What came and has not been read.
    pub ring: ByteRing,
    /// The peer writes no more.
    ended: bool,
    /// The peer found the ring full.
    peer_waits: bool,
    /// The urgent byte in `ring`.
    pub urgent: Urgent,
}

/// What a look at the own ring brought.
pub(super) struct Taken {
    pub bytes: usize,
    /// The program's memory was in the way.
    pub fault: bool,
    /// The read has come to the urgent mark and ends.
    pub at_mark: bool,
}

impl Joined {
    fn new(peer: &Arc<Tcp>) -> Box<Self> {
        let (peer, ring, urgent) = (Arc::downgrade(peer), ByteRing::new(), Urgent::default());
        Box::new(Self { peer, ring, ended: false, peer_waits: false, urgent })
    }
    pub fn has_ended(&self) -> bool {
        self.ended
    }
    /// Bytes that a read would take, which an urgent byte that is next is not.
    pub fn readable(&self, is_inline: bool) -> usize {
        self.ring.len() - usize::from(!is_inline && self.urgent.distance() == Some(0))
    }
    /// FIONREAD: bytes up to the urgent one.
    pub fn unread(&self, is_inline: bool) -> usize {
        self.urgent.distance().filter(|_| !is_inline).unwrap_or(self.ring.len())
    }
    fn consume(&mut self, len: usize) {
        self.ring.consume(len);
        self.urgent.take(len);
    }
    /// The last byte that came is urgent. The one before is lost when it is next to be read, as on Linux.
    fn mark_last(&mut self, is_inline: bool) {
        if !is_inline && self.urgent.distance() == Some(0) {
            self.consume(1);
        }
        let last = self.ring.len().saturating_sub(1);
        if let Some(byte) = self.ring.peek(last).first() {
            self.urgent.set(last, *byte);
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        buffers::give_back(self.ring.capacity());
    }
}

/// Bytes that may wait in `socket`'s ring.
fn limit(socket: &Tcp) -> usize {
    buffers::ring_limit(&socket.common)
}

fn has_room(socket: &Tcp, ring: &ByteRing) -> bool {
    let limit = limit(socket);
    limit.saturating_sub(ring.len()) >= (ring.len() / 2).max(1)
}

impl Tcp {
    /// Joins this socket with a new child of the listener that `name` leads to; `false`: there is none or it has no place.
    pub(super) fn join(self: &Arc<Self>, name: Name, scope: u32, queue: &mut Queue) -> bool {
        let Some(listener) =
            table::find_listener(iface::LOOPBACK, name.remote.0, name.remote.1, name.local.0, name.local.1)
        else {
            return false;
        };
        if listener.options.defers_accept() || !listener.has_place() {
            return false;
        }
        let child = make(
            listener.domain,
            listener.common.inherited(),
            listener.ip.inherited(),
            listener.options.inherited(),
            listener.uid,
        );
        let mirrored = Name { local: name.remote, remote: name.local };
        if !table::insert(mirrored, child.clone()) {
            return false;
        }
        if !table::insert(name, self.clone()) {
            table::remove(&mirrored, child.id, None, child.domain);
            return false;
        }
        let end = |(ip, port)| Endpoint { ip, port, scope };
        let claim = Claim {
            ip: name.remote.0,
            v6_only: false,
            reuse_addr: listener.common.is_on(Switches::REUSE_ADDR),
            reuse_port: listener.common.is_on(Switches::REUSE_PORT),
            uid: listener.uid,
            device: 0,
            is_listening: false,
        };
        PORTS.join(child.id, name.remote.1, claim);
        let open = |socket: &Tcp, local: Endpoint, remote: Endpoint, peer: &Arc<Tcp>, progress: Progress| {
            let mut state = socket.state.lock();
            state.local = local;
            state.remote = Some(remote);
            state.max_segment = socket.options.max_segment();
            state.has_port = true;
            state.is_closed = false;
            state.is_local = true;
            state.progress = progress;
            (state.shut_read, state.shut_write) = (false, false);
            state.error = None;
            state.joined = Some(Joined::new(peer));
        };
        self.exchange_segments(&child, name.local.0, name.remote.0);
        open(&child, end(name.remote), end(name.local), self, Progress::Connected);
        open(self, end(name.local), end(name.remote), &child, Progress::Connecting);
        counters::tcp(counters::Tcp::ActiveOpens);
        counters::tcp(counters::Tcp::PassiveOpens);
        listener.take_child(child, queue);
        self.poll_set.notify(PollEvents::OUT | PollEvents::WRNORM);
        true
    }

    /// Puts bytes into the peer's ring, the last of which is urgent with MSG_OOB in `flags`; `None`: it is full.
    pub(super) fn send_joined(
        self: &Arc<Self>,
        peer: Option<Arc<Tcp>>,
        src: &mut UserReader<'_>,
        flags: MsgFlags,
    ) -> Option<Step> {
        let wanted = src.remaining().min(PIECE);
        if let Some(peer) = peer {
            let limit = limit(&peer);
            let mut state = peer.state.lock();
            let is_there = !state.is_orphan && !state.is_closed;
            if let Some(joined) = state.joined.as_mut().filter(|_| is_there) {
                let before = joined.ring.capacity();
                let (added, fault) = joined.ring.append(wanted, limit, |room| src.read_nofault(room));
                buffers::take(joined.ring.capacity() - before);
                if added == 0 && fault.is_none() {
                    joined.peer_waits = true;
                    return None;
                }
                let is_urgent = flags.contains(MsgFlags::OOB) && added != 0 && src.remaining() == 0;
                if is_urgent {
                    joined.mark_last(peer.reads_inline());
                }
                state.bytes_received += added as u64;
                drop(state);
                if added == 0 {
                    return Some(Step::Fault(wanted));
                }
                self.state.lock().bytes_sent += added as u64;
                peer.readable.wake_one();
                peer.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
                if is_urgent {
                    peer.tell_urgent();
                }
                return Some(Step::Moved(added));
            }
        }
        // Nobody is there any more: the bytes go, and a reset comes back.
        let mut scratch = [0u8; 512];
        let mut gone = 0;
        while gone < wanted {
            let piece = (wanted - gone).min(scratch.len());
            match src.read_nofault(&mut scratch[..piece]) {
                Ok(n) => gone += n,
                Err(_) if gone != 0 => break,
                Err(_) => return Some(Step::Fault(wanted)),
            }
        }
        self.reset_by_peer();
        Some(Step::Moved(gone))
    }

    /// Takes bytes out of the own ring, with `state` locked, for a read that has got `got` before.
    pub(super) fn take_joined(
        &self,
        state: &mut State,
        dst: &mut UserWriter<'_>,
        (peeks, discards, got): (bool, bool, usize),
        effects: &mut Effects,
    ) -> Taken {
        let mut taken = Taken { bytes: 0, fault: false, at_mark: false };
        let Some(joined) = &mut state.joined else { return taken };
        // A peek leaves what it got before, and an urgent byte that it passes over.
        let mut at = if peeks { got } else { 0 };
        let mut most = PIECE;
        let (mut moved, mut fault, mut passes) = (0, false, false);
        match joined.urgent.reach(got, peeks, self.reads_inline()) {
            Reach::Bytes(bytes) => most = most.min(bytes),
            Reach::Over if peeks => at += 1,
            Reach::Over => {
                joined.consume(1);
                passes = true;
            }
            Reach::Stop => {
                taken.at_mark = true;
                return taken;
            }
        }
        while moved < most && dst.remaining() != 0 && !fault {
            let piece = joined.ring.peek(if peeks { at + moved } else { 0 });
            let len = piece.len().min(dst.remaining()).min(most - moved);
            if len == 0 {
                break;
            }
            let n = if discards {
                dst.truncate(dst.remaining() - len);
                len
            } else {
                match dst.write_nofault(&piece[..len]) {
                    Ok(n) => n,
                    Err(_) => {
                        fault = true;
                        0
                    }
                }
            };
            moved += n;
            if !peeks {
                joined.consume(n);
            }
        }
        if (moved != 0 || passes) && !peeks {
            if joined.ring.is_empty() && buffers::is_scarce() {
                buffers::give_back(joined.ring.shrink());
            }
            if joined.peer_waits && has_room(self, &joined.ring) {
                joined.peer_waits = false;
                effects.room_for = joined.peer.upgrade();
            }
        }
        (taken.bytes, taken.fault) = (moved, fault);
        taken
    }

    /// The peer of a joined connection; `None` when this one is not joined.
    pub(super) fn joined_peer(state: &State) -> Option<Option<Arc<Tcp>>> {
        state.joined.as_ref().map(|joined| joined.peer.upgrade())
    }

    /// Whether a writer finds room at its peer; one that does not is told later.
    pub(super) fn peer_has_room(peer: Option<Arc<Tcp>>) -> bool {
        let Some(peer) = peer else { return true };
        let mut state = peer.state.lock();
        match state.joined.as_mut() {
            Some(joined) if has_room(&peer, &joined.ring) => true,
            Some(joined) => {
                joined.peer_waits = true;
                false
            }
            None => true,
        }
    }

    /// This side writes no more: its peer hears of it. Both done ends the connection.
    pub(super) fn end_writing(self: &Arc<Self>, peer: Option<Arc<Tcp>>) {
        if let Some(peer) = peer {
            peer.peer_ended();
        }
        let mut effects = Effects::default();
        {
            let mut state = self.state.lock();
            let is_over = state.shut_write && state.joined.as_ref().is_none_or(|joined| joined.ended);
            if is_over && !state.is_closed {
                self.end(&mut state, None, &mut effects);
            }
        }
        self.conclude(effects, &mut Queue::new());
    }

    /// The peer writes no more.
    fn peer_ended(self: &Arc<Self>) {
        let mut effects = Effects::default();
        {
            let mut state = self.state.lock();
            let Some(joined) = state.joined.as_mut() else { return };
            joined.ended = true;
            state.shut_read = true;
            effects.events = PollEvents::IN | PollEvents::RDNORM | PollEvents::RDHUP;
            effects.wake_all = true;
            if state.shut_write && !state.is_closed {
                self.end(&mut state, None, &mut effects);
            }
        }
        self.conclude(effects, &mut Queue::new());
    }

    /// The peer went with unread data, or is not there for what was sent to it.
    fn reset_by_peer(self: &Arc<Self>) {
        let mut effects = Effects::default();
        {
            let mut state = self.state.lock();
            if state.is_closed {
                return;
            }
            counters::tcp(counters::Tcp::EstabResets);
            let ended = state.joined.as_ref().is_some_and(|joined| joined.ended);
            state.error = Some(if ended { Errno::EPIPE } else { Errno::ECONNRESET });
            effects.events = PollEvents::ERR;
            self.end(&mut state, None, &mut effects);
        }
        self.conclude(effects, &mut Queue::new());
    }

    /// This side goes, by a reset or in order; `state` is no longer locked.
    pub(super) fn leave_peer(peer: Option<Arc<Tcp>>, resets: bool) {
        let Some(peer) = peer else { return };
        if resets {
            peer.reset_by_peer();
        } else {
            peer.peer_ended();
            // Whoever waits for room waits in vain now: the next write is answered by a reset.
            peer.writable.wake_all();
            peer.poll_set.notify(PollEvents::OUT | PollEvents::WRNORM);
        }
    }
}
