//! [`Mailbox`]: what UDP, raw and ping sockets receive with: a queue of datagrams, the error that is pending and those behind it,
//! and which halves are shut down.
//!
//! Its lock is taken alone; datagrams are copied to the program with no lock held. [`run`] makes one of datagrams in a row.

mod run;

use super::address::Endpoint;
use super::control::{self, Arrival};
use super::errors::ErrorQueue;
use super::icmp::Trouble;
use super::options::{IpOptions, Switch};
use crate::net::options::Common;
use crate::net::socket::{How, MsgFlags, Received, deadline, wait_error};
use crate::prelude::*;
use crate::sync::WaitReason;
use crate::vfs::{PollEvents, PollSet};
use alloc::collections::VecDeque;
use core::net::IpAddr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use run::Run;

pub use run::UDP_GRO;

/// What a datagram in the queue costs beside its bytes.
const OVERHEAD: usize = 576;

#[derive(Clone)]
struct Datagram {
    bytes: Vec<u8>,
    from: Endpoint,
    arrival: Arrival,
    run: Run,
}

#[derive(Default)]
struct State {
    datagrams: VecDeque<Datagram>,
    /// What they cost.
    bytes: usize,
    error: Option<Errno>,
    shut_read: bool,
    shut_write: bool,
}

/// The socket that a mailbox is of, as far as it matters here.
pub struct Owner<'a> {
    pub domain: u16,
    pub common: &'a Common,
    pub ip: &'a IpOptions,
}

pub struct Mailbox {
    state: SpinLock<State>,
    errors: ErrorQueue,
    drops: AtomicU32,
    readable: WaitQueue,
    pub poll_set: PollSet,
    /// UDP_GRO: datagrams in a row become one.
    joins: AtomicBool,
}

impl Mailbox {
    pub fn new() -> Self {
        Self {
            state: SpinLock::new(State::default()),
            errors: ErrorQueue::new(),
            drops: AtomicU32::new(0),
            readable: WaitQueue::new(),
            poll_set: PollSet::new(),
            joins: AtomicBool::new(false),
        }
    }

    /// Puts a datagram into the queue; `false`: a full one, or a machine without memory, dropped it.
    pub fn deliver(&self, common: &Common, bytes: &[u8], from: Endpoint, mut arrival: Arrival) -> bool {
        arrival.lost = self.drops.load(Ordering::Relaxed);
        let limit = common.receive_buffer.load(Ordering::Relaxed) as usize;
        let cost = bytes.len() + OVERHEAD;
        let is_taken = {
            let mut state = self.state.lock();
            let mut copy = Vec::new();
            // An empty queue takes one of any length.
            let fits = state.bytes + cost <= limit.max(cost);
            if fits && self.joins() && state.datagrams.back_mut().is_some_and(|last| last.join(bytes, from, &arrival)) {
                state.bytes += bytes.len();
                true
            } else if fits && copy.try_reserve_exact(bytes.len()).is_ok() {
                copy.extend_from_slice(bytes);
                state.bytes += cost;
                state.datagrams.push_back(Datagram { bytes: copy, from, arrival, run: Run::of(bytes) });
                true
            } else {
                false
            }
        };
        if is_taken {
            self.readable.wake_one();
            self.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
        } else {
            self.drops.fetch_add(1, Ordering::Relaxed);
        }
        is_taken
    }

    /// The next datagram, or the pending error. Answers also who sent it if it is gone from the queue now.
    pub fn receive(
        &self,
        owner: &Owner<'_>,
        reason: WaitReason,
        dst: &mut UserWriter<'_>,
        how: How,
    ) -> Result<(Received, Option<IpAddr>), Errno> {
        if how.flags.contains(MsgFlags::ERRQUEUE) {
            let (received, pending) = self.errors.receive(owner.domain, dst)?;
            if let Some(error) = pending {
                self.state.lock().error = error;
            }
            return Ok((received, None));
        }
        // A datagram comes straight to its place, for it is large.
        let mut taken = None;
        let attempt = || -> Option<Result<(), Errno>> {
            let mut state = self.state.lock();
            if let Some(error) = state.error.take() {
                return Some(Err(error));
            }
            taken = self.next(&mut state, how.peeks());
            match taken {
                Some(_) => Some(Ok(())),
                None if how.nonblocking => Some(Err(Errno::EAGAIN)),
                None => state.shut_read.then_some(Ok(())),
            }
        };
        let until = deadline(owner.common.receive_timeout());
        self.readable.wait_until(WaitMode::Interruptible, until, reason, attempt).map_err(wait_error(until))??;
        let Some(datagram) = taken else { return Ok((Received::default(), None)) };
        let n = datagram.bytes.len().min(dst.remaining());
        let copied = if n == 0 { 0 } else { dst.write(&datagram.bytes[..n])? };
        if copied < n {
            return Err(Errno::EFAULT);
        }
        let mut received = Received { len: n, full_len: datagram.bytes.len(), ..Received::default() };
        received.flags.set(MsgFlags::TRUNC, n < datagram.bytes.len());
        received.from = datagram.from.to_address(owner.domain);
        received.control.extend(control::common_control(owner.common, &datagram.arrival));
        received.control.extend(datagram.run.control());
        if owner.ip.wants_control() {
            received.control.extend(control::arrival_control(owner.ip, owner.domain, &datagram.arrival));
        }
        Ok((received, (!how.peeks()).then_some(datagram.from.ip)))
    }

    fn next(&self, state: &mut State, peeks: bool) -> Option<Datagram> {
        if peeks {
            let first = state.datagrams.front_mut()?;
            first.run.is_complete = true;
            return Some(first.clone());
        }
        let next = state.datagrams.pop_front()?;
        state.bytes -= next.bytes.len() + OVERHEAD;
        Some(next)
    }

    /// An error comes: whoever waits hears of it.
    fn fail(&self, errno: Errno) {
        self.state.lock().error = Some(errno);
        self.readable.wake_all();
        self.poll_set.notify(PollEvents::ERR | PollEvents::IN | PollEvents::OUT);
    }

    /// ICMP tells of a packet to `to` that began with `payload`. Who asked for all errors hears of each and may read what it says;
    /// others hear of those that end something, if `tells_hard`.
    pub fn icmp(&self, owner: &Owner<'_>, to: Endpoint, payload: &[u8], trouble: &Trouble, tells_hard: bool) {
        let wants_all = owner.ip.wants_errors(to.ip);
        if wants_all {
            let limit = owner.common.receive_buffer.load(Ordering::Relaxed);
            self.errors.push_icmp(trouble, to, payload, limit);
        }
        if wants_all || trouble.is_hard && tells_hard {
            self.fail(trouble.errno);
        }
    }

    /// A packet to `to` was longer than `mtu` and must not be cut: told to who asked for errors.
    pub fn too_long(&self, owner: &Owner<'_>, to: Endpoint, mtu: u32) {
        if owner.ip.wants_errors(to.ip) {
            self.errors.push_too_long(to, mtu, owner.common.receive_buffer.load(Ordering::Relaxed));
            self.poll_set.notify(PollEvents::ERR);
        }
    }

    /// IP_RECVERR may be off now: what waits is forgotten then.
    pub fn options_changed(&self, ip: &IpOptions) {
        if !ip.is_on(Switch::RECVERR | Switch::RECVERR6) {
            self.errors.clear();
        }
    }

    /// SO_ERROR.
    pub fn take_error(&self) -> Option<Errno> {
        self.state.lock().error.take()
    }

    /// Before something is sent: the pending error; EPIPE after shutdown(2), without SIGPIPE, which is for streams.
    pub fn may_send(&self) -> Result<(), Errno> {
        let mut state = self.state.lock();
        match state.error.take() {
            Some(error) => Err(error),
            None if state.shut_write => Err(Errno::EPIPE),
            None => Ok(()),
        }
    }

    /// shutdown(2): ENOTCONN of a socket without a peer, whose halves are shut all the same, as on Linux.
    pub fn shut_down(&self, read: bool, write: bool, is_connected: bool) -> Result<(), Errno> {
        {
            let mut state = self.state.lock();
            state.shut_read |= read;
            state.shut_write |= write;
        }
        self.readable.wake_all();
        self.poll_set.notify(PollEvents::IN | PollEvents::RDHUP | PollEvents::HUP);
        if is_connected { Ok(()) } else { Err(Errno::ENOTCONN) }
    }

    pub fn poll_events(&self) -> PollEvents {
        let state = self.state.lock();
        let mut events = PollEvents::OUT | PollEvents::WRNORM | PollEvents::WRBAND;
        if !state.datagrams.is_empty() || state.shut_read {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if state.shut_read {
            events |= PollEvents::RDHUP;
        }
        if state.shut_read && state.shut_write {
            events |= PollEvents::HUP;
        }
        if state.error.is_some() || !self.errors.is_empty() {
            events |= PollEvents::ERR;
        }
        events
    }

    /// FIONREAD: the length of the next datagram.
    pub fn next_len(&self) -> usize {
        let mut state = self.state.lock();
        let Some(first) = state.datagrams.front_mut() else { return 0 };
        first.run.is_complete = true;
        first.bytes.len()
    }

    /// UDP_GRO.
    pub fn joins(&self) -> bool {
        self.joins.load(Ordering::Relaxed)
    }
    pub fn set_joins(&self, on: bool) {
        self.joins.store(on, Ordering::Relaxed);
    }

    /// What waits, with what it costs, and how many were dropped.
    pub fn usage(&self) -> (usize, u32) {
        (self.state.lock().bytes, self.drops.load(Ordering::Relaxed))
    }
}
