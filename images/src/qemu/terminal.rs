//! Our own terminal while a machine has it: raw, with Ctrl-A as the key that speaks to the tool.

use std::io::{Read, Write};

/// The key that speaks to the tool instead of the machine: Ctrl-A.
const ESCAPE: u8 = 1;

/// The settings of the terminal on standard input as they were; given back when this is dropped.
pub struct Terminal {
    settings: libc::termios,
}

impl Terminal {
    /// Makes the terminal on standard input raw: every key is the machine's.
    pub fn make_raw() -> Option<Self> {
        let mut settings = std::mem::MaybeUninit::uninit();
        // SAFETY: tcgetattr(3) fills the structure when it returns 0.
        let settings = unsafe {
            if libc::tcgetattr(0, settings.as_mut_ptr()) != 0 {
                return None;
            }
            settings.assume_init()
        };
        let mut raw = settings;
        // SAFETY: both calls work on structures of our own.
        unsafe {
            libc::cfmakeraw(&mut raw);
            libc::tcsetattr(0, libc::TCSADRAIN, &raw);
        }
        Some(Self { settings })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // SAFETY: tcsetattr(3) reads the structure that tcgetattr(3) filled.
        unsafe { libc::tcsetattr(0, libc::TCSADRAIN, &self.settings) };
    }
}

/// Rows and columns of the terminal on standard output.
pub fn size() -> Option<(u16, u16)> {
    let mut size = std::mem::MaybeUninit::<libc::winsize>::zeroed();
    // SAFETY: the call fills the structure when it returns 0; all zeroes is a valid one.
    let size = unsafe { (libc::ioctl(1, libc::TIOCGWINSZ, size.as_mut_ptr()) == 0).then(|| size.assume_init()) }?;
    (size.ws_row != 0 && size.ws_col != 0).then_some((size.ws_row, size.ws_col))
}

/// What a key after Ctrl-A asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    Nothing,
    /// Ctrl-A x: end the machine.
    Leave,
    Help,
}

/// Separates what is typed for the machine from what is typed for the tool.
#[derive(Default)]
pub struct Keys {
    escaped: bool,
}

impl Keys {
    /// Puts the machine's part of `typed` into `out`; returns what was asked of the tool last.
    pub fn split(&mut self, typed: &[u8], out: &mut Vec<u8>) -> Asked {
        let mut asked = Asked::Nothing;
        for &byte in typed {
            if !std::mem::replace(&mut self.escaped, false) {
                if byte == ESCAPE {
                    self.escaped = true;
                } else {
                    out.push(byte);
                }
                continue;
            }
            match byte {
                ESCAPE | b'a' => out.push(ESCAPE),
                b'x' => return Asked::Leave,
                b'h' | b'?' => asked = Asked::Help,
                _ => {}
            }
        }
        asked
    }
}

/// Sends what is typed to the machine until it is told to leave; then returns true.
pub fn type_into(mut machine: impl Write) -> bool {
    let mut keys = Keys::default();
    let mut chunk = [0u8; 1024];
    let mut input = std::io::stdin().lock();
    while let Ok(count @ 1..) = input.read(&mut chunk) {
        let mut out = Vec::new();
        let asked = keys.split(&chunk[..count], &mut out);
        if machine.write_all(&out).and_then(|()| machine.flush()).is_err() {
            return false;
        }
        match asked {
            Asked::Nothing => {}
            Asked::Leave => return true,
            Asked::Help => {
                let _ = write!(std::io::stderr(), "\r\nCtrl-A x ends the machine, Ctrl-A a sends Ctrl-A\r\n");
            }
        }
    }
    // A terminal that went away: its end is told by SIGHUP. The machine's pipe stays open.
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_a_speaks_to_the_tool() {
        let mut keys = Keys::default();
        let mut out = Vec::new();
        assert_eq!(keys.split(b"ls\x01a\x01\x01", &mut out), Asked::Nothing);
        assert_eq!(out, b"ls\x01\x01");
        assert_eq!(keys.split(b"b\x01", &mut out), Asked::Nothing);
        assert_eq!(keys.split(b"hc", &mut out), Asked::Help);
        assert_eq!(out, b"ls\x01\x01bc");
        assert_eq!(keys.split(b"\x01xrest", &mut out), Asked::Leave);
        assert_eq!(out, b"ls\x01\x01bc");
    }
}
