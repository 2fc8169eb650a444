//! The terminal line discipline (Linux's N_TTY) as pure logic: what typed bytes become, what is echoed, what a read gets,
//! what output processing does to a write.
//!
//! Bytes go in by [`LineDiscipline::receive`], which appends echo to a vector and stops at whatever its caller must act on
//! ([`Action`]); readers take them out by [`LineDiscipline::read`]. Locks, waiting and devices are the terminal's business.

use crate::termios::{Termios, cc, iflag, lflag, oflag};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Bytes the input queue holds. One line has at most one less, its newline included.
pub const SIZE: usize = 4096;
/// In the queue, with its delimiter mark: an end of file was typed.
const EOF_MARK: u8 = 0;

/// What the caller of `receive` must do before it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send the foreground group SIGINT, SIGQUIT or SIGTSTP. With `flush`, drop queued output too (input is dropped already).
    Signal { signal: Signal, flush: bool },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    Interrupt,
    Quit,
    Suspend,
}

pub struct LineDiscipline {
    termios: Termios,
    buffer: Box<[u8; SIZE]>,
    /// One bit a byte: it ends a line.
    marks: [u64; SIZE / 64],
    /// Where the next byte goes, where complete input ends, where the next read starts: ever-growing, used modulo SIZE.
    head: usize,
    canon_head: usize,
    tail: usize,
    /// Output column, and the column at which the present input line began.
    column: usize,
    canon_column: usize,
    /// The next byte is taken literally.
    literal_next: bool,
    /// Inside an ECHOPRT erase ("\...").
    erasing: bool,
    /// Output is held by VSTOP or TCOOFF.
    stopped: bool,
}

fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

impl LineDiscipline {
    pub fn new(termios: Termios) -> Self {
        Self {
            termios,
            buffer: Box::new([0; SIZE]),
            marks: [0; SIZE / 64],
            head: 0,
            canon_head: 0,
            tail: 0,
            column: 0,
            canon_column: 0,
            literal_next: false,
            erasing: false,
            stopped: false,
        }
    }

    pub fn termios(&self) -> &Termios {
        &self.termios
    }

    /// Changes the settings; what is queued becomes readable as it is when canonical mode begins.
    pub fn set_termios(&mut self, termios: Termios) {
        let changed = (self.termios.lflag ^ termios.lflag) & (lflag::ICANON | lflag::EXTPROC) != 0;
        self.termios = termios;
        if changed {
            self.marks = [0; SIZE / 64];
            self.canon_head = self.tail;
            if self.termios.is_canonical() && self.head != self.tail {
                // Readable without a newline: the last byte ends the "line".
                self.mark(self.head - 1);
                self.canon_head = self.head;
            }
            self.erasing = false;
            self.literal_next = false;
        }
        if !self.termios.has_i(iflag::IXON) {
            self.stopped = false;
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped
    }
    pub fn set_stopped(&mut self, stopped: bool) {
        self.stopped = stopped;
    }
    pub fn column(&self) -> usize {
        self.column
    }

    fn byte(&self, at: usize) -> u8 {
        self.buffer[at % SIZE]
    }
    fn mark(&mut self, at: usize) {
        self.marks[at % SIZE / 64] |= 1 << (at % 64);
    }
    fn unmark(&mut self, at: usize) {
        self.marks[at % SIZE / 64] &= !(1 << (at % 64));
    }
    fn is_marked(&self, at: usize) -> bool {
        self.marks[at % SIZE / 64] >> (at % 64) & 1 == 1
    }
    fn put(&mut self, byte: u8) {
        self.buffer[self.head % SIZE] = byte;
        self.unmark(self.head);
        self.head += 1;
    }

    /// Bytes queued, readable or not.
    pub fn queued(&self) -> usize {
        self.head - self.tail
    }
    /// What FIONREAD answers: complete lines in canonical mode (end-of-file marks apart), everything in raw mode.
    pub fn readable(&self) -> usize {
        if !self.termios.is_canonical() {
            return self.head - self.tail;
        }
        (self.tail..self.canon_head).filter(|&at| !(self.is_marked(at) && self.byte(at) == EOF_MARK)).count()
    }
    /// Whether a read would find something; with `for_poll`, whether poll(2) says so (VMIN counts then, unless VTIME is set).
    pub fn has_input(&self, for_poll: bool) -> bool {
        if self.termios.is_canonical() {
            return self.canon_head != self.tail;
        }
        let min = usize::from(self.termios.cc[cc::VMIN]);
        let wanted = if for_poll && self.termios.cc[cc::VTIME] == 0 && min != 0 { min } else { 1 };
        self.head - self.tail >= wanted
    }

    /// Drops all input.
    pub fn flush_input(&mut self) {
        self.tail = self.head;
        self.canon_head = self.head;
        self.marks = [0; SIZE / 64];
        self.literal_next = false;
        self.erasing = false;
    }

    /// How many bytes may be received now. In canonical mode with no line complete the queue never refuses: an overlong line
    /// loses its surplus, so that its newline can still come.
    pub fn room(&self) -> usize {
        let free = (SIZE - 1).saturating_sub(self.head - self.tail);
        if free == 0 && self.termios.is_canonical() && self.canon_head == self.tail { 1 } else { free }
    }

    /// Takes typed bytes. Answers how many were taken, and what to do before giving the rest: less than all without an action
    /// means the queue is full. Echo is appended to `echo`, already processed for output.
    pub fn receive(&mut self, bytes: &[u8], echo: &mut Vec<u8>) -> (usize, Option<Action>) {
        for (taken, &byte) in bytes.iter().enumerate() {
            if self.room() == 0 {
                return (taken, None);
            }
            if let Some(action) = self.receive_byte(byte, echo) {
                return (taken + 1, Some(action));
            }
        }
        (bytes.len(), None)
    }

    /// A break condition on the line.
    pub fn receive_break(&mut self, echo: &mut Vec<u8>) -> Option<Action> {
        if self.termios.has_i(iflag::IGNBRK) {
            return None;
        }
        if self.termios.has_i(iflag::BRKINT) {
            return Some(self.signal(Signal::Interrupt, None, echo));
        }
        if self.room() >= 3 {
            if self.termios.has_i(iflag::PARMRK) {
                self.put(0xff);
                self.put(0);
            }
            self.put(0);
        }
        None
    }

    fn receive_byte(&mut self, byte: u8, echo: &mut Vec<u8>) -> Option<Action> {
        let t = self.termios;
        let mut byte = byte;
        if t.has_i(iflag::ISTRIP) {
            byte &= 0x7f;
        }
        if t.has_i(iflag::IUCLC) && t.has_l(lflag::IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if t.has_l(lflag::EXTPROC) {
            self.store(byte);
            return None;
        }
        if core::mem::take(&mut self.literal_next) {
            self.accept(byte, echo);
            return None;
        }
        if t.has_i(iflag::IXON) {
            if t.is(byte, cc::VSTART) {
                self.stopped = false;
                return None;
            }
            if t.is(byte, cc::VSTOP) {
                self.stopped = true;
                return None;
            }
        }
        if t.has_l(lflag::ISIG) {
            for (index, signal) in
                [(cc::VINTR, Signal::Interrupt), (cc::VQUIT, Signal::Quit), (cc::VSUSP, Signal::Suspend)]
            {
                if t.is(byte, index) {
                    return Some(self.signal(signal, Some(byte), echo));
                }
            }
        }
        if t.has_i(iflag::IXON) && t.has_i(iflag::IXANY) {
            self.stopped = false;
        }
        match byte {
            b'\r' if t.has_i(iflag::IGNCR) => return None,
            b'\r' if t.has_i(iflag::ICRNL) => byte = b'\n',
            b'\n' if t.has_i(iflag::INLCR) => byte = b'\r',
            _ => {}
        }
        if !t.is_canonical() || !self.edit(byte, echo) {
            self.accept(byte, echo);
        }
        None
    }

    fn signal(&mut self, signal: Signal, typed: Option<u8>, echo: &mut Vec<u8>) -> Action {
        let flush = !self.termios.has_l(lflag::NOFLSH);
        if flush {
            self.flush_input();
            echo.clear();
        }
        if self.termios.has_i(iflag::IXON) {
            self.stopped = false;
        }
        if let Some(byte) = typed
            && self.termios.has_l(lflag::ECHO)
        {
            self.echo(byte, echo);
        }
        Action::Signal { signal, flush }
    }

    /// Canonical mode's special characters: whether `byte` was one.
    fn edit(&mut self, byte: u8, echo: &mut Vec<u8>) -> bool {
        let t = self.termios;
        let extended = t.has_l(lflag::IEXTEN);
        let echoes = t.has_l(lflag::ECHO);
        if t.is(byte, cc::VERASE) || t.is(byte, cc::VKILL) || (extended && t.is(byte, cc::VWERASE)) {
            self.erase(byte, echo);
        } else if extended && t.is(byte, cc::VLNEXT) {
            self.literal_next = true;
            if echoes {
                self.finish_erasing(echo);
                if t.has_l(lflag::ECHOCTL) {
                    self.output(b'^', echo);
                    self.output(8, echo);
                }
            }
        } else if extended && echoes && t.is(byte, cc::VREPRINT) {
            self.finish_erasing(echo);
            self.echo(byte, echo);
            self.output(b'\n', echo);
            for at in self.canon_head..self.head {
                self.echo(self.byte(at), echo);
            }
        } else if byte == b'\n' {
            if echoes || t.has_l(lflag::ECHONL) {
                self.output(b'\n', echo);
            }
            self.end_line(byte);
        } else if t.is(byte, cc::VEOF) {
            self.end_line(EOF_MARK);
        } else if t.is(byte, cc::VEOL) || (extended && t.is(byte, cc::VEOL2)) {
            if echoes {
                self.begin_line();
                self.echo(byte, echo);
            }
            self.end_line(byte);
        } else {
            return false;
        }
        true
    }

    /// A byte of ordinary input: echoed and queued.
    fn accept(&mut self, byte: u8, echo: &mut Vec<u8>) {
        if self.termios.has_l(lflag::ECHO) {
            self.finish_erasing(echo);
            if byte == b'\n' {
                self.output(byte, echo);
            } else {
                self.begin_line();
                self.echo(byte, echo);
            }
        }
        if byte == 0xff && self.termios.has_i(iflag::PARMRK) {
            self.store(byte);
        }
        self.store(byte);
    }

    /// Queues a byte; when an overlong line has filled the queue its last byte is overwritten.
    fn store(&mut self, byte: u8) {
        if self.head - self.tail >= SIZE - 1 {
            if !self.termios.is_canonical() || self.head == self.canon_head {
                return;
            }
            self.head -= 1;
        }
        self.put(byte);
    }

    fn end_line(&mut self, byte: u8) {
        if self.head - self.tail >= SIZE {
            self.head -= 1;
        }
        self.put(byte);
        self.mark(self.head - 1);
        self.canon_head = self.head;
    }

    fn begin_line(&mut self) {
        if self.canon_head == self.head {
            self.canon_column = self.column;
        }
    }

    fn is_continuation(&self, byte: u8) -> bool {
        self.termios.has_i(iflag::IUTF8) && byte & 0xc0 == 0x80
    }

    /// VERASE, VWERASE or VKILL.
    fn erase(&mut self, typed: u8, echo: &mut Vec<u8>) {
        let t = self.termios;
        let echoes = t.has_l(lflag::ECHO);
        if self.head == self.canon_head {
            return;
        }
        let one = t.is(typed, cc::VERASE);
        let word = !one && t.is(typed, cc::VWERASE);
        if !one && !word {
            if !echoes {
                self.head = self.canon_head;
                return;
            }
            if !(t.has_l(lflag::ECHOK) && t.has_l(lflag::ECHOKE) && t.has_l(lflag::ECHOE)) {
                self.head = self.canon_head;
                self.finish_erasing(echo);
                self.echo(typed, echo);
                if t.has_l(lflag::ECHOK) {
                    self.output(b'\n', echo);
                }
                return;
            }
        }
        let mut in_word = false;
        while self.head != self.canon_head {
            // One character, which may have several bytes.
            let mut start = self.head - 1;
            while self.is_continuation(self.byte(start)) && start != self.canon_head {
                start -= 1;
            }
            let byte = self.byte(start);
            if self.is_continuation(byte) {
                break;
            }
            if word {
                if byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80 {
                    in_word = true;
                } else if in_word {
                    break;
                }
            }
            let end = core::mem::replace(&mut self.head, start);
            if echoes {
                self.echo_erased(start..end, one, echo);
            }
            if one {
                break;
            }
        }
        if self.head == self.canon_head && echoes {
            self.finish_erasing(echo);
        }
    }

    /// Shows that the character at `range` is gone.
    fn echo_erased(&mut self, range: core::ops::Range<usize>, one: bool, echo: &mut Vec<u8>) {
        let t = self.termios;
        let byte = self.byte(range.start);
        if t.has_l(lflag::ECHOPRT) {
            if !self.erasing {
                self.output(b'\\', echo);
                self.erasing = true;
            }
            self.echo(byte, echo);
            for at in range.start + 1..range.end {
                echo.push(self.byte(at));
            }
        } else if one && !t.has_l(lflag::ECHOE) {
            self.echo(t.cc[cc::VERASE], echo);
        } else if byte == b'\t' {
            self.erase_tab(echo);
        } else {
            let control = is_control(byte);
            let columns = if control { if t.has_l(lflag::ECHOCTL) { 2 } else { 0 } } else { 1 };
            for _ in 0..columns {
                for byte in [8, b' ', 8] {
                    self.output(byte, echo);
                }
            }
        }
    }

    /// Moves back over a tab: as many columns as it had covered.
    fn erase_tab(&mut self, echo: &mut Vec<u8>) {
        let mut columns = 0;
        let mut after_tab = false;
        for at in (self.canon_head..self.head).rev() {
            let byte = self.byte(at);
            if byte == b'\t' {
                after_tab = true;
                break;
            } else if is_control(byte) {
                columns += if self.termios.has_l(lflag::ECHOCTL) { 2 } else { 0 };
            } else if !self.is_continuation(byte) {
                columns += 1;
            }
        }
        if !after_tab {
            columns += self.canon_column;
        }
        for _ in 0..8 - (columns & 7) {
            echo.push(8);
            self.column = self.column.saturating_sub(1);
        }
    }

    fn finish_erasing(&mut self, echo: &mut Vec<u8>) {
        if core::mem::take(&mut self.erasing) {
            self.output(b'/', echo);
        }
    }

    /// Echoes a typed byte, control characters as ^X with ECHOCTL.
    fn echo(&mut self, byte: u8, echo: &mut Vec<u8>) {
        if self.termios.has_l(lflag::ECHOCTL) && is_control(byte) && byte != b'\t' {
            self.output(b'^', echo);
            self.output(byte ^ 0o100, echo);
        } else {
            self.output(byte, echo);
        }
    }

    /// Output processing of one byte.
    fn output(&mut self, byte: u8, out: &mut Vec<u8>) {
        let t = self.termios;
        if !t.has_o(oflag::OPOST) {
            out.push(byte);
            return;
        }
        match byte {
            b'\n' => {
                if t.has_o(oflag::ONLRET) {
                    self.column = 0;
                }
                if t.has_o(oflag::ONLCR) {
                    self.column = 0;
                    out.push(b'\r');
                }
                self.canon_column = self.column;
                out.push(b'\n');
            }
            b'\r' => {
                if t.has_o(oflag::ONOCR) && self.column == 0 {
                    return;
                }
                let becomes_newline = t.has_o(oflag::OCRNL);
                if !becomes_newline || t.has_o(oflag::ONLRET) {
                    self.column = 0;
                    self.canon_column = 0;
                }
                out.push(if becomes_newline { b'\n' } else { b'\r' });
            }
            b'\t' => {
                let spaces = 8 - (self.column & 7);
                self.column += spaces;
                if t.oflag & oflag::TABDLY == oflag::XTABS {
                    out.extend_from_slice(&b"        "[..spaces]);
                } else {
                    out.push(b'\t');
                }
            }
            8 => {
                self.column = self.column.saturating_sub(1);
                out.push(8);
            }
            _ => {
                if !is_control(byte) && !self.is_continuation(byte) {
                    self.column += 1;
                }
                out.push(if t.has_o(oflag::OLCUC) { byte.to_ascii_uppercase() } else { byte });
            }
        }
    }

    /// Processes a write: appends to `out` what goes to the device, while `out` is shorter than `limit`. Answers how many
    /// bytes of `bytes` were processed.
    pub fn process_output(&mut self, bytes: &[u8], out: &mut Vec<u8>, limit: usize) -> usize {
        if !self.termios.has_o(oflag::OPOST) {
            let n = bytes.len().min(limit.saturating_sub(out.len()));
            out.extend_from_slice(&bytes[..n]);
            return n;
        }
        for (done, &byte) in bytes.iter().enumerate() {
            // The longest a byte can become is a tab of eight spaces.
            if out.len() + 8 > limit {
                return done;
            }
            self.output(byte, out);
        }
        bytes.len()
    }

    /// The next readable bytes for a buffer of `want` (non-zero): `copy(first, second)` gets the two pieces of the ring and
    /// answers how many bytes it took (all, unless a fault stopped it). `None` when there is no input; `Some((n, ended))`
    /// with whether a line (or end of file, n = 0) was ended by it. Nothing is consumed that `copy` did not take.
    pub fn read(&mut self, want: usize, copy: impl FnOnce(&[u8], &[u8]) -> usize) -> Option<(usize, bool)> {
        let canonical = self.termios.is_canonical();
        let end = if canonical { self.canon_head } else { self.head };
        if end == self.tail {
            return None;
        }
        if !canonical {
            let taken = self.copy_out(want.min(end - self.tail), copy);
            self.tail += taken;
            return Some((taken, false));
        }
        // One byte of look-ahead: an end-of-file mark right behind a full buffer belongs to this read.
        let stop = end.min(self.tail + want + 1);
        let eol = (self.tail..stop).find(|&at| self.is_marked(at));
        let (len, used, ended) = match eol {
            Some(at) if self.byte(at) == EOF_MARK => (at - self.tail, at + 1 - self.tail, true),
            Some(at) if at - self.tail < want => (at + 1 - self.tail, at + 1 - self.tail, true),
            _ => (want.min(stop - self.tail), want.min(stop - self.tail), false),
        };
        let taken = self.copy_out(len, copy);
        if taken < len {
            self.tail += taken;
            return Some((taken, false));
        }
        if ended {
            self.unmark(self.tail + used - 1);
        }
        self.tail += used;
        Some((len, ended))
    }

    fn copy_out(&self, len: usize, copy: impl FnOnce(&[u8], &[u8]) -> usize) -> usize {
        if len == 0 {
            return 0;
        }
        let start = self.tail % SIZE;
        let first = len.min(SIZE - start);
        copy(&self.buffer[start..start + first], &self.buffer[..len - first]).min(len)
    }
}

#[cfg(test)]
#[path = "line_discipline_tests.rs"]
mod tests;
