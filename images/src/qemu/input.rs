//! Standard input that is not a terminal, on its way into the guest's.

use std::io::{Read, Write};

/// Bytes of input that a terminal line can hold with room to spare; longer pieces are pushed with an end-of-file character.
const PIECE: usize = 1024;
const EOF: u8 = 4;
const QUOTE: u8 = 0x16;

/// Sends our standard input to the guest's terminal, which init has put into a mode where only ^D and ^V mean something.
pub fn forward(mut to: impl Write) {
    let mut input = std::io::stdin().lock();
    let mut chunk = [0u8; 4096];
    let mut column = 0;
    loop {
        let count = match input.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        let mut out = Vec::with_capacity(count + 16);
        for &byte in &chunk[..count] {
            if matches!(byte, EOF | QUOTE) {
                out.push(QUOTE);
            }
            out.push(byte);
            column = if byte == b'\n' { 0 } else { column + 1 };
            if column == PIECE {
                out.push(EOF);
                column = 0;
            }
        }
        if to.write_all(&out).is_err() || to.flush().is_err() {
            return;
        }
    }
    // What is left of a line is pushed out; the next one is the end.
    let last: &[u8] = if column > 0 { &[EOF, EOF] } else { &[EOF] };
    let _ = to.write_all(last);
    let _ = to.flush();
    // The pipe stays open: QEMU would close the console with it.
    loop {
        std::thread::park();
    }
}
