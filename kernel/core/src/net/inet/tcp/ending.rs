//! How a connection or a listener ends by its own side: shutdown, close, SO_LINGER, reset.

use super::super::counters::{self, Tcp as Count};
use super::super::output::{self, Queue};
use super::connection::{Effects, FIN_WAIT_NS, ORPHAN_NS};
use super::listener::Listener;
use super::{PORTS, State, Tcp, table};
use crate::prelude::*;
use crate::sync::{WaitKind, WaitReason};
use crate::vfs::PollEvents;
use base::net::engine::State as Phase;

impl Tcp {
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
        let reason = WaitReason::on(WaitKind::TcpLinger, self.id);
        let _ = self.writable.wait_until(WaitMode::Interruptible, Some(until), reason, || {
            let mut state = self.state.lock();
            let is_done = state.is_closed
                || !matches!(state.phase(), Phase::FinWait1 | Phase::LastAck | Phase::Closing | Phase::Established);
            is_done.then_some(())
        });
    }

    /// Resets the connection.
    pub(super) fn abort(self: &Arc<Self>, queue: &mut Queue) {
        let mut effects = Effects::default();
        {
            let mut state = self.state.lock();
            let state = &mut *state;
            if let Some(engine) = &mut state.engine {
                engine.tcp().abort();
            }
            self.flush(state, queue);
            effects.left = Self::joined_peer(state).filter(|_| !state.is_closed).map(|peer| (peer, true));
            state.is_orphan = true;
            self.end(state, None, &mut effects);
        }
        self.conclude(effects, queue);
    }

    /// The last descriptor is gone: the connection ends as close(2) says, by FIN or, when there is unread data or SO_LINGER of 0
    /// seconds, by RST.
    pub(super) fn orphan(self: &Arc<Self>, queue: &mut Queue) {
        let mut effects = Effects::default();
        {
            let mut state = self.state.lock();
            let state = &mut *state;
            state.is_orphan = true;
            let before = state.before();
            let resets = before.unread != 0 || self.common.linger_seconds() == Some(0);
            if resets && !state.is_closed && before.phase != Phase::SynSent {
                counters::tcp(Count::AbortOnClose);
                counters::tcp(Count::EstabResets);
            }
            if !state.is_closed {
                effects.left = Self::joined_peer(state).map(|peer| (peer, resets));
            }
            match &mut state.engine {
                Some(engine) if !state.is_closed || before.phase == Phase::SynSent => {
                    if resets {
                        engine.tcp().abort();
                        self.flush(state, queue);
                        self.end(state, None, &mut effects);
                    } else {
                        engine.tcp().close();
                        state.shut_write = true;
                        state.expires_ns = Some(
                            crate::time::now_ns()
                                + if before.phase == Phase::FinWait2 { FIN_WAIT_NS } else { ORPHAN_NS },
                        );
                        self.flush(state, queue);
                        self.settle(state, &before, false, &mut effects);
                    }
                }
                _ => {
                    let was_closed = state.is_closed;
                    self.end(state, None, &mut effects);
                    state.joined = None;
                    effects.dead = effects.dead.take().or_else(|| state.engine.take());
                    let port = core::mem::take(&mut state.has_port).then_some(state.local.port);
                    effects.release_port = effects.release_port.or(port);
                    if was_closed {
                        effects.gone = None;
                    }
                }
            }
        }
        self.conclude(effects, queue);
    }
}
