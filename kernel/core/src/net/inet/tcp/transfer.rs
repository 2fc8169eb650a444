//! send, receive and MSG_PEEK of TCP sockets, and how much waits.

use super::super::output::{self, Queue};
use super::Tcp;
use super::connection::Effects;
use crate::net::socket::{How, MsgFlags, Received, deadline, wait_error};
use crate::prelude::*;
use crate::sync::{WaitKind, WaitReason};

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
    fn try_send(self: &Arc<Self>, src: &mut UserReader<'_>, flags: MsgFlags, queue: &mut Queue) -> Option<Step> {
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
                return self.send_joined(peer, src, flags);
            }
            if flags.contains(MsgFlags::OOB) {
                // smoltcp has no urgent pointer.
                return Some(Step::Err(Errno::EOPNOTSUPP));
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
                let holds = (flags.contains(MsgFlags::MORE) || state.is_corked) && tcp.send_queue() < 1448;
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
        let mut sent = 0;
        let until = deadline(self.common.send_timeout());
        let reason = WaitReason::on(WaitKind::TcpSend, self.id);
        let mut first = true;
        while src.remaining() != 0 || first {
            let mut queue = Queue::new();
            let attempt = || {
                if src.remaining() == 0 {
                    return Some(self.send_nothing());
                }
                let step = self.try_send(src, how.flags, &mut queue);
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
            let (mut moved, mut fault, mut at_mark) = (0, false, false);
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
                            let Ok(n) = copy_at(tcp, at, &mut chunk[..(wanted - moved).min(2048)]) else {
                                if moved == 0 {
                                    return Some(Step::Err(Errno::ENOMEM));
                                }
                                break;
                            };
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
                let taken = self.take_joined(state, dst, how, &mut effects);
                (moved, fault, at_mark) = (taken.bytes, taken.fault, taken.at_mark);
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
            } else if at_mark || got >= at_least || dst.remaining() == 0 && (got != 0 || before.unread != 0) {
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
            return self.receive_urgent(dst, how.peeks());
        }
        let low_water = self.common.receive_low_water.load(core::sync::atomic::Ordering::Relaxed);
        let all = dst.remaining();
        let at_least = match how.flags.contains(MsgFlags::WAITALL) {
            true => all.max(1),
            false => all.min(low_water.max(1) as usize).max(1),
        };
        let mut got = 0;
        let until = deadline(self.common.receive_timeout());
        let reason = WaitReason::on(WaitKind::TcpReceive, self.id);
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

    /// FIONREAD and SIOCOUTQ.
    pub(super) fn queues(&self) -> Result<(usize, usize), Errno> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.listener.is_some() {
            return Err(Errno::EINVAL);
        }
        Ok(match (&mut state.engine, &state.joined) {
            (Some(engine), _) => (engine.tcp().recv_queue(), engine.tcp().send_queue()),
            (None, Some(joined)) => (joined.unread(self.reads_inline()), 0),
            (None, None) => (0, 0),
        })
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
fn copy_at(tcp: &mut smoltcp::socket::tcp::Socket<'static>, at: usize, out: &mut [u8]) -> Result<usize, NoMemory> {
    let end = (at + out.len()).min(tcp.recv_queue());
    // What lies before the ring's end needs no copy of all that comes before it.
    if let Ok(bytes) = tcp.peek(end)
        && bytes.len() > at
    {
        let n = bytes.len() - at;
        out[..n].copy_from_slice(&bytes[at..]);
        return Ok(n);
    }
    let mut whole = Vec::new();
    whole.try_resize(end, 0)?;
    let n = tcp.peek_slice(&mut whole).unwrap_or(0).saturating_sub(at);
    out[..n].copy_from_slice(&whole[at..at + n]);
    Ok(n)
}
