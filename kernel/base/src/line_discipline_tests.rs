//! What a person at the terminal sees, and what the program gets.

use super::*;
use crate::termios::cflag;

struct Terminal {
    line: LineDiscipline,
    screen: Vec<u8>,
}

impl Terminal {
    fn new() -> Self {
        Self { line: LineDiscipline::new(Termios::new(cflag::B38400, 38400)), screen: Vec::new() }
    }
    fn with(change: impl FnOnce(&mut Termios)) -> Self {
        let mut terminal = Self::new();
        let mut termios = *terminal.line.termios();
        change(&mut termios);
        terminal.line.set_termios(termios);
        terminal
    }
    fn type_keys(&mut self, keys: &[u8]) -> Option<Action> {
        let (taken, action) = self.line.receive(keys, &mut self.screen);
        if action.is_none() {
            assert_eq!(taken, keys.len());
        }
        action
    }
    fn read(&mut self, want: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        self.line.read(want, |a, b| {
            out.extend_from_slice(a);
            out.extend_from_slice(b);
            out.len()
        })?;
        Some(out)
    }
    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.screen).into_owned()
    }
}

#[test]
fn a_line_is_read_when_it_is_complete() {
    let mut t = Terminal::new();
    t.type_keys(b"hel");
    assert_eq!(t.read(10), None);
    t.type_keys(b"lo\rnext");
    assert!(t.line.has_input(true));
    assert_eq!(t.line.readable(), 6);
    assert_eq!(t.read(100).as_deref(), Some(&b"hello\n"[..]));
    assert_eq!(t.read(100), None);
    assert_eq!(t.shown(), "hello\r\nnext");
}

#[test]
fn short_reads_take_a_line_in_parts() {
    let mut t = Terminal::new();
    t.type_keys(b"abcdef\n");
    assert_eq!(t.read(4).as_deref(), Some(&b"abcd"[..]));
    assert_eq!(t.read(2).as_deref(), Some(&b"ef"[..]));
    assert_eq!(t.read(9).as_deref(), Some(&b"\n"[..]));
}

#[test]
fn end_of_file_ends_a_read_without_a_byte() {
    let mut t = Terminal::new();
    t.type_keys(b"abc\x04\x04");
    assert_eq!(t.read(3).as_deref(), Some(&b"abc"[..]));
    assert_eq!(t.read(3).as_deref(), Some(&b""[..]));
    assert_eq!(t.read(3), None);
    assert_eq!(t.shown(), "abc");
}

#[test]
fn erase_kill_and_word_erase_edit_the_line() {
    let mut t = Terminal::new();
    t.type_keys(b"ab\x7fc\n");
    assert_eq!(t.read(9).as_deref(), Some(&b"ac\n"[..]));
    assert_eq!(t.shown(), "ab\x08 \x08c\r\n");
    t.type_keys(b"one two\x17three\n");
    assert_eq!(t.read(20).as_deref(), Some(&b"one three\n"[..]));
    t.type_keys(b"gone\x15here\n");
    assert_eq!(t.read(20).as_deref(), Some(&b"here\n"[..]));
    t.screen.clear();
    t.type_keys(b"\x7f\n");
    assert_eq!(t.shown(), "\r\n");
}

#[test]
fn an_erased_tab_gives_its_columns_back() {
    let mut t = Terminal::new();
    t.type_keys(b"ab\t\x7f");
    assert_eq!(t.shown(), format!("ab\t{}", "\x08".repeat(6)));
    assert_eq!(t.line.column(), 2);
}

#[test]
fn one_erase_takes_a_whole_utf8_character() {
    let mut t = Terminal::with(|t| t.iflag |= iflag::IUTF8);
    t.type_keys("aé\x7f\n".as_bytes());
    assert_eq!(t.read(9).as_deref(), Some(&b"a\n"[..]));
    assert_eq!(t.shown(), "aé\x08 \x08\r\n");
}

#[test]
fn control_characters_show_as_carets_and_erase_as_two() {
    let mut t = Terminal::new();
    t.type_keys(b"\x01\x7f");
    assert_eq!(t.shown(), "^A\x08 \x08\x08 \x08");
}

#[test]
fn literal_next_takes_any_byte() {
    let mut t = Terminal::new();
    assert_eq!(t.type_keys(b"\x16\x03\n"), None);
    assert_eq!(t.read(9).as_deref(), Some(&b"\x03\n"[..]));
    assert_eq!(t.shown(), "^\x08^C\r\n");
}

#[test]
fn reprint_shows_the_line_again() {
    let mut t = Terminal::new();
    t.type_keys(b"abc\x12");
    assert_eq!(t.shown(), "abc^R\r\nabc");
}

#[test]
fn interrupt_flushes_and_asks_for_a_signal() {
    let mut t = Terminal::new();
    let (taken, action) = t.line.receive(b"ab\x03cd\n", &mut t.screen);
    assert_eq!((taken, action), (3, Some(Action::Signal { signal: Signal::Interrupt, flush: true })));
    assert_eq!(t.shown(), "^C");
    t.type_keys(b"cd\n");
    assert_eq!(t.read(9).as_deref(), Some(&b"cd\n"[..]));
    let mut t = Terminal::with(|t| t.lflag |= lflag::NOFLSH);
    assert_eq!(t.type_keys(b"ab\x1a"), Some(Action::Signal { signal: Signal::Suspend, flush: false }));
    t.type_keys(b"\n");
    assert_eq!(t.read(9).as_deref(), Some(&b"ab\n"[..]));
}

#[test]
fn raw_mode_gives_every_byte_at_once() {
    let mut t = Terminal::with(|t| {
        t.lflag = 0;
        t.iflag = 0;
    });
    t.type_keys(b"\x03\r\x04");
    assert_eq!(t.read(9).as_deref(), Some(&b"\x03\r\x04"[..]));
    assert_eq!(t.shown(), "");
}

#[test]
fn vmin_counts_for_poll_only() {
    let mut t = Terminal::with(|t| {
        t.lflag = 0;
        t.cc[cc::VMIN] = 3;
    });
    t.type_keys(b"ab");
    assert!(!t.line.has_input(true));
    assert!(t.line.has_input(false));
    t.type_keys(b"c");
    assert!(t.line.has_input(true));
}

#[test]
fn an_overlong_line_keeps_4095_bytes_and_its_newline() {
    let mut t = Terminal::with(|t| t.lflag &= !lflag::ECHO);
    t.type_keys(&[b'x'; 5000]);
    t.type_keys(b"\n");
    let line = t.read(8192).unwrap_or_default();
    assert_eq!(line.len(), 4096);
    assert_eq!(line[4095], b'\n');
}

#[test]
fn complete_lines_fill_the_queue_and_then_it_refuses() {
    let mut t = Terminal::with(|t| t.lflag &= !lflag::ECHO);
    let text: Vec<u8> = (0..5000).map(|i| if i % 10 == 9 { b'\n' } else { b'a' }).collect();
    let (taken, _) = t.line.receive(&text, &mut t.screen);
    assert_eq!(taken, 4095);
    assert!(t.read(10).is_some());
    assert!(t.line.room() >= 10);
}

#[test]
fn flow_control_stops_and_starts_output() {
    let mut t = Terminal::new();
    t.type_keys(b"\x13");
    assert!(t.line.is_stopped());
    t.type_keys(b"\x11");
    assert!(!t.line.is_stopped());
    assert_eq!(t.line.queued(), 0);
}

#[test]
fn carriage_returns_and_newlines_are_mapped() {
    let mut t = Terminal::with(|t| t.iflag |= iflag::IGNCR);
    t.type_keys(b"a\r\n");
    assert_eq!(t.read(9).as_deref(), Some(&b"a\n"[..]));
    let mut t = Terminal::with(|t| t.iflag = iflag::INLCR);
    t.type_keys(b"a\n");
    assert_eq!(t.read(9), None);
    assert_eq!(t.line.queued(), 2);
}

#[test]
fn output_is_processed_with_its_column() {
    let mut t = Terminal::with(|t| t.oflag |= oflag::XTABS);
    let mut out = Vec::new();
    assert_eq!(t.line.process_output(b"ab\tc\nd", &mut out, 100), 6);
    assert_eq!(out, b"ab      c\r\nd");
    out.clear();
    assert_eq!(t.line.process_output(b"abcdef", &mut out, 10), 3);
}

#[test]
fn input_left_when_canonical_mode_begins_is_readable() {
    let mut t = Terminal::with(|t| t.lflag &= !lflag::ICANON);
    t.type_keys(b"ab");
    let mut termios = *t.line.termios();
    termios.lflag |= lflag::ICANON;
    t.line.set_termios(termios);
    assert_eq!(t.read(9).as_deref(), Some(&b"ab"[..]));
}

proptest::proptest! {
    #[test]
    fn no_input_breaks_the_queue(keys in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..6000), lflag in 0u32..0o200000, iflag in 0u32..0o100000, want in 1usize..5000) {
        let mut t = Terminal::with(|t| { t.lflag = lflag & !lflag::EXTPROC; t.iflag = iflag; });
        let mut rest = &keys[..];
        while !rest.is_empty() {
            let (taken, action) = t.line.receive(rest, &mut t.screen);
            rest = &rest[taken..];
            if taken == 0 && action.is_none() {
                proptest::prop_assert!(t.line.has_input(false));
                t.read(want);
            }
        }
        proptest::prop_assert!(t.line.queued() <= SIZE);
        while t.read(want).is_some() {}
    }
}
