//! What /proc/net, `ss` and TCP_INFO show of a TCP socket.

use super::{Endpoint, State, Tcp};
use crate::net::iface::SocketInfo;
use base::net::engine::State as Phase;
use base::net::packet::PROTO_TCP;

impl Tcp {
    pub(super) fn info(&self) -> SocketInfo {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let (send_queue, receive_queue) = match (&state.listener, &mut state.engine) {
            (Some(listener), _) => (listener.backlog as u32, listener.ready.len() as u32),
            (None, Some(engine)) => (engine.tcp().send_queue() as u32, engine.tcp().recv_queue() as u32),
            (None, None) => (0, state.joined.as_ref().map_or(0, |joined| joined.ring.len() as u32)),
        };
        let number = self.state_number(state);
        SocketInfo {
            family: self.domain,
            protocol: PROTO_TCP,
            is_raw: false,
            local: state.local.shown(self.domain),
            remote: state.remote.unwrap_or(Endpoint::unspecified(self.domain)).shown(self.domain),
            state: number,
            send_queue,
            receive_queue,
            uid: self.uid,
            inode: if state.is_orphan { 0 } else { self.id },
            drops: 0,
        }
    }

    /// TCP_ESTABLISHED and so on.
    pub(super) fn state_number(&self, state: &mut State) -> u8 {
        if state.listener.is_some() {
            return 10;
        }
        if let Some(joined) = state.joined.as_ref().filter(|_| !state.is_closed) {
            return match (state.shut_write, joined.has_ended()) {
                (false, false) => 1,
                (true, false) => 5,
                (false, true) => 8,
                (true, true) => 7,
            };
        }
        if state.is_closed && state.phase() != Phase::SynSent {
            return 7;
        }
        match state.phase() {
            Phase::Established => 1,
            Phase::SynSent => 2,
            Phase::SynReceived => 3,
            Phase::FinWait1 => 4,
            Phase::FinWait2 => 5,
            Phase::TimeWait => 6,
            Phase::Closed => 7,
            Phase::CloseWait => 8,
            Phase::LastAck => 9,
            Phase::Listen => 10,
            Phase::Closing => 11,
        }
    }
}
