//! Input through the line discipline, reads, writes, readiness.

use super::{State, Tty, job};
use crate::prelude::*;
use crate::sync::{WaitError, WaitKind, WaitReason};
use crate::task::siginfo::{SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU};
use crate::time;
use crate::vfs::{FileOps, OpenFile, PollEvents, PollTable};
use base::line_discipline::{Action, Signal};
use base::termios::{cc, lflag};
use core::any::Any;
use core::sync::atomic::Ordering;
use smallvec::SmallVec;

/// Raw bytes kept while the discipline has no room.
const RAW_LIMIT: usize = 64 * 1024;
/// Echo kept while the port has no room; more is lost, as on Linux.
const ECHO_LIMIT: usize = 4096;
/// The port counts as writable with room for the longest output of one byte.
const WRITE_ROOM: usize = 8;

/// What is left to do after the lock was dropped.
#[derive(Default)]
struct Aftermath {
    signals: SmallVec<[u32; 4]>,
    flushed_output: bool,
    newly_readable: bool,
    restarted: bool,
}

impl Tty {
    /// Takes bytes from the port; answers how many. Thread context.
    pub(super) fn receive(self: &Arc<Self>, bytes: &[u8]) -> usize {
        let mut state = self.state.lock();
        let taken = bytes.len().min(RAW_LIMIT - state.raw.len().min(RAW_LIMIT));
        state.raw.extend(&bytes[..taken]);
        let after = self.pump(&mut state);
        drop(state);
        self.finish(after);
        taken
    }

    /// Whether `receive` would take anything.
    pub(super) fn input_room(&self) -> usize {
        RAW_LIMIT - self.raw_len.load(Ordering::Acquire).min(RAW_LIMIT)
    }

    /// Echo that found no room goes out now.
    pub(super) fn send_waiting_echo(&self) {
        self.send_echo(&mut self.state.lock());
    }

    /// Gives raw bytes to the discipline as far as it has room, and sends the echo.
    fn pump(&self, state: &mut State) -> Aftermath {
        let mut after = Aftermath::default();
        let was_readable = state.line.has_input(true);
        let lines_before = state.line.queued();
        while !state.raw.is_empty() {
            let (front, _) = state.raw.as_slices();
            let chunk = &front[..front.len().min(256)];
            let (taken, action) = state.line.receive(chunk, &mut state.echo);
            state.raw.drain(..taken);
            match action {
                Some(Action::Signal { signal, flush }) => {
                    after.flushed_output |= flush;
                    after.signals.push(match signal {
                        Signal::Interrupt => SIGINT,
                        Signal::Quit => SIGQUIT,
                        Signal::Suspend => SIGTSTP,
                    });
                    if flush && let Some(pair) = self.pair() {
                        pair.flush_output();
                    }
                }
                None if taken == 0 => break,
                None => {}
            }
            self.send_echo(state);
        }
        after.newly_readable = state.line.has_input(true) && (!was_readable || state.line.queued() > lines_before);
        after.restarted = self.is_stopped() && !state.line.is_stopped();
        self.report_flow(state);
        self.publish(state);
        if after.restarted {
            self.send_echo(state);
        }
        after
    }

    /// Tells a packet-mode master of ^S and ^Q.
    fn report_flow(&self, state: &State) {
        if let Some(pair) = self.pair()
            && self.is_stopped() != state.line.is_stopped()
        {
            pair.report_stopped(state.line.is_stopped());
        }
    }

    /// Sends echo that waits, as far as the port has room and output is not stopped.
    fn send_echo(&self, state: &mut State) {
        if !state.echo.is_empty() && !state.line.is_stopped() {
            let sent = self.port.write(&state.echo);
            state.echo.drain(..sent.min(state.echo.len()));
        }
        state.echo.truncate(ECHO_LIMIT);
    }

    fn finish(self: &Arc<Self>, after: Aftermath) {
        for &signal in &after.signals {
            job::signal_foreground(self, signal);
        }
        // A reader that waits for VMIN bytes counts what comes, however little; pollers hear only of enough.
        if self.has_input.load(Ordering::Acquire) {
            self.read_wait.wake_one();
        }
        if after.newly_readable {
            self.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
        }
        if after.restarted || after.flushed_output {
            self.port_has_room();
        }
    }

    /// The port took output: writers and waiting echo may go on. Any context but under `state`.
    pub(super) fn port_has_room(&self) {
        self.write_wait.wake_one();
        self.poll_set.notify(PollEvents::OUT | PollEvents::WRNORM);
    }

    /// Stops or restarts output (TCXONC, and ^S/^Q through the discipline).
    pub(super) fn set_stopped(&self, stopped: bool) {
        let mut state = self.state.lock();
        state.line.set_stopped(stopped);
        self.report_flow(&state);
        self.publish(&state);
        if !stopped {
            self.send_echo(&mut state);
        }
        drop(state);
        if !stopped {
            self.port_has_room();
        }
    }

    /// Runs `change` on the discipline, then takes account of what it may have changed.
    pub(super) fn with_line<R>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let result = change(&mut state);
        let after = self.pump(&mut state);
        let readable = state.line.has_input(false);
        drop(state);
        self.finish(after);
        if readable {
            self.read_wait.wake_one();
            self.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
        }
        result
    }

    pub(super) fn read(self: &Arc<Self>, file: &OpenFile, generation: u32, dst: &mut UserWriter<'_>) -> SysResult {
        if self.is_dead(generation) {
            return Ok(0);
        }
        job::check_foreground(self, SIGTTIN)?;
        if dst.remaining() == 0 {
            return Ok(0);
        }
        let mut done = 0;
        let mut gap_deadline = None;
        loop {
            let mut state = self.state.lock();
            let termios = *state.line.termios();
            let canonical = termios.is_canonical();
            let (min, time_ns) = (usize::from(termios.cc[cc::VMIN]), u64::from(termios.cc[cc::VTIME]) * 100_000_000);
            let mut fault = None;
            let found = state.line.read(dst.remaining(), |first, second| {
                let mut copied = 0;
                for piece in [first, second] {
                    if piece.is_empty() {
                        continue;
                    }
                    match dst.write(piece) {
                        Ok(n) => copied += n,
                        Err(error) => fault = Some(error),
                    }
                    if copied < first.len() {
                        break;
                    }
                }
                copied
            });
            let after = self.pump(&mut state);
            let more = state.line.has_input(false);
            drop(state);
            self.finish(after);
            self.resume_port();
            if let Some((n, _)) = found {
                done += n;
                if let Some(error) = fault.filter(|_| done == 0) {
                    return Err(error);
                }
                if canonical || done >= min.max(1) || dst.remaining() == 0 || fault.is_some() {
                    if more {
                        self.read_wait.wake_one();
                    }
                    return Ok(done);
                }
                if time_ns != 0 {
                    gap_deadline = Some(time::now_ns() + time_ns); // min > 0: the gap between bytes is what is timed
                }
                continue;
            }
            if self.is_dead(generation) || self.other_side_closed() {
                return Ok(done);
            }
            if !canonical && min == 0 {
                if time_ns == 0 {
                    return Ok(done);
                }
                gap_deadline.get_or_insert(time::now_ns() + time_ns);
            }
            if file.is_nonblocking() {
                return if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) };
            }
            let waited = self.read_wait.wait_until(
                WaitMode::Interruptible,
                gap_deadline,
                WaitReason::on(WaitKind::TtyRead, self.rdev),
                || {
                    (self.has_input.load(Ordering::Acquire) || self.is_dead(generation) || self.other_side_closed())
                        .then_some(())
                },
            );
            match waited {
                Ok(()) => {}
                Err(WaitError::TimedOut) => return Ok(done),
                Err(WaitError::Interrupted) if done != 0 => return Ok(done),
                Err(error) => return Err(error.into()),
            }
            if done == 0 {
                job::check_foreground(self, SIGTTIN)?;
            }
        }
    }

    /// A read made room: the port may deliver again.
    fn resume_port(&self) {
        match self.pair() {
            Some(pair) => pair.input_has_room(),
            None => super::console::input_has_room(),
        }
    }

    fn other_side_closed(&self) -> bool {
        self.pair().is_some_and(|pair| pair.is_master_closed())
    }

    pub(super) fn is_dead(&self, generation: u32) -> bool {
        self.generation.load(Ordering::Acquire) != generation
    }

    pub(super) fn write(self: &Arc<Self>, file: &OpenFile, generation: u32, src: &mut UserReader<'_>) -> SysResult {
        if self.is_dead(generation) || self.other_side_closed() {
            return Err(Errno::EIO);
        }
        if self.state.lock().line.termios().has_l(lflag::TOSTOP) {
            job::check_foreground(self, SIGTTOU)?;
        }
        let acquire = || (!self.writer.swap(true, Ordering::AcqRel)).then_some(());
        if acquire().is_none() {
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            self.writer_wait.wait_until(
                WaitMode::Interruptible,
                None,
                WaitReason::on(WaitKind::TtyWriter, self.rdev),
                acquire,
            )?;
        }
        let result = self.write_as_the_only_one(file, generation, src);
        self.writer.store(false, Ordering::Release);
        self.writer_wait.wake_one();
        result
    }

    fn write_as_the_only_one(&self, file: &OpenFile, generation: u32, src: &mut UserReader<'_>) -> SysResult {
        let mut chunk = [0u8; 512];
        let mut out = Vec::new();
        let mut done = 0;
        while src.remaining() != 0 {
            let want = src.remaining().min(chunk.len());
            let len = match src.read(&mut chunk[..want]) {
                Ok(len) => len,
                Err(error) if done == 0 => return Err(error),
                Err(_) => return Ok(done),
            };
            let mut at = 0;
            while at < len {
                let mut state = self.state.lock();
                self.send_echo(&mut state);
                let mut moved = 0;
                if !state.line.is_stopped() {
                    out.clear();
                    moved = state.line.process_output(&chunk[at..len], &mut out, self.port.room());
                    self.port.write(&out);
                }
                drop(state);
                at += moved;
                done += moved;
                if moved != 0 {
                    continue;
                }
                src.rewind(len - at);
                if file.is_nonblocking() {
                    return if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) };
                }
                let waited = self.write_wait.wait_until(
                    WaitMode::Interruptible,
                    None,
                    WaitReason::on(WaitKind::TtyWrite, self.rdev),
                    || (self.is_writable() || self.is_dead(generation) || self.other_side_closed()).then_some(()),
                );
                if let Err(error) = waited {
                    return if done == 0 { Err(error.into()) } else { Ok(done) };
                }
                if self.is_dead(generation) || self.other_side_closed() {
                    return if done == 0 { Err(Errno::EIO) } else { Ok(done) };
                }
                break; // the rest of the chunk is read again
            }
        }
        Ok(done)
    }

    fn is_writable(&self) -> bool {
        !self.is_stopped() && self.port.room() >= WRITE_ROOM
    }

    pub(super) fn poll(&self, generation: u32, table: Option<&mut PollTable<'_>>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.poll_set);
        }
        if self.is_dead(generation) {
            return PollEvents::IN
                | PollEvents::OUT
                | PollEvents::ERR
                | PollEvents::HUP
                | PollEvents::RDNORM
                | PollEvents::WRNORM;
        }
        let mut events = PollEvents::empty();
        if self.polls_readable.load(Ordering::Acquire) {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if self.other_side_closed() {
            events |= PollEvents::HUP;
        }
        if self.is_writable() {
            events |= PollEvents::OUT | PollEvents::WRNORM;
        }
        events
    }

    /// Waits until the port has sent what was written (tcdrain): EINTR.
    pub(super) fn drain(&self) -> Result<(), Errno> {
        let Some(pair) = self.pair() else {
            crate::machine::console::flush();
            return Ok(());
        };
        let _ = pair; // a pseudo-terminal has no line to drain: what the master has not read counts as sent
        Ok(())
    }
}

/// One open description of a terminal.
pub struct TtyFile {
    pub(super) tty: Arc<Tty>,
    /// The hang-up count at the open; `None` for /dev/console, which survives hang-ups.
    pub(super) generation: Option<u32>,
}

impl TtyFile {
    fn generation(&self) -> u32 {
        self.generation.unwrap_or_else(|| self.tty.generation.load(Ordering::Acquire))
    }
}

impl FileOps for TtyFile {
    fn can_splice(&self) -> bool {
        true
    }
    fn read(&self, file: &OpenFile, _offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        self.tty.read(file, self.generation(), dst)
    }
    fn write(&self, file: &OpenFile, _offset: u64, src: &mut UserReader<'_>) -> SysResult {
        self.tty.write(file, self.generation(), src)
    }
    fn poll(&self, _file: &OpenFile, table: Option<&mut PollTable<'_>>) -> PollEvents {
        self.tty.poll(self.generation(), table)
    }
    fn ioctl(&self, file: &OpenFile, command: u32, argument: u64) -> SysResult {
        if self.tty.is_dead(self.generation()) {
            return Err(if command == base::abi::ioctl::TIOCSPGRP { Errno::ENOTTY } else { Errno::EIO });
        }
        super::ioctl::ioctl(&self.tty, false, file, command, argument)
    }
    fn release(&self, _file: &OpenFile) {
        super::open::closed(&self.tty);
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
