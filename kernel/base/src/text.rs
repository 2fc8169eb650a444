//! [`Text`] and [`Line`]: texts of many numbers, put together by hand: what a formatter does for each costs more than all the rest of
//! /proc.

use crate::errno::Errno;
use alloc::vec::Vec;
use core::fmt;

/// Bytes that grow; memory that runs out shows at [`Text::finish`].
#[derive(Default)]
pub struct Text {
    bytes: Vec<u8>,
    failed: bool,
}

impl Text {
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), failed: false }
    }
    /// How long it is, in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> &mut Self {
        if self.bytes.capacity() - self.bytes.len() < bytes.len() && self.bytes.try_reserve(bytes.len()).is_err() {
            self.failed = true;
        } else {
            self.bytes.extend_from_slice(bytes);
        }
        self
    }

    /// Blanks up to `column`, counted from byte `start` on.
    pub fn pad(&mut self, start: usize, column: usize) -> &mut Self {
        const BLANKS: &[u8] = &[b' '; 80];
        let missing = (start + column).saturating_sub(self.len()).min(BLANKS.len());
        self.put(&BLANKS[..missing])
    }

    /// The text: ENOMEM when there was no room for all of it.
    pub fn finish(self) -> Result<Vec<u8>, Errno> {
        if self.failed { Err(Errno::ENOMEM) } else { Ok(self.bytes) }
    }
}

/// A piece of text of at most `N` bytes, made on the stack; what goes beyond is left out.
pub struct Line<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Line<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Line<N> {
    pub const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
    pub fn clear(&mut self) -> &mut Self {
        self.len = 0;
        self
    }
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    #[inline(always)]
    pub fn byte(&mut self, byte: u8) -> &mut Self {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
        self
    }

    pub fn put(&mut self, bytes: &[u8]) -> &mut Self {
        bytes.iter().for_each(|byte| {
            self.byte(*byte);
        });
        self
    }

    /// `count` digits of `value`, the lowest ones, to the base 2^`shift` or to 10.
    #[inline(always)]
    fn digits(&mut self, count: usize, mut value: u64, next: impl Fn(u64) -> (u64, u8)) {
        let Some(place) = self.bytes.get_mut(self.len..self.len + count) else { return };
        for digit in place.iter_mut().rev() {
            (value, *digit) = next(value);
        }
        self.len += count;
    }

    #[inline]
    pub fn decimal(&mut self, value: u64) -> &mut Self {
        if value < 10 {
            return self.byte(b'0' + value as u8);
        }
        let (mut count, mut rest) = (1, value / 10);
        while rest != 0 {
            rest /= 10;
            count += 1;
        }
        self.digits(count, value, |value| (value / 10, b'0' + (value % 10) as u8));
        self
    }

    pub fn signed(&mut self, value: i64) -> &mut Self {
        if value < 0 {
            self.byte(b'-');
        }
        self.decimal(value.unsigned_abs())
    }

    /// At least `width` digits, at most 16.
    pub fn hexadecimal(&mut self, value: u64, width: usize) -> &mut Self {
        let count = (16 - value.leading_zeros() as usize / 4).max(width);
        let digit = |value: u64| {
            let low = (value & 15) as u8;
            (value >> 4, if low < 10 { b'0' + low } else { b'a' - 10 + low })
        };
        self.digits(count, value, digit);
        self
    }

    /// The numbers, each with a blank behind it.
    pub fn row(&mut self, values: &[u64]) -> &mut Self {
        for value in values {
            self.decimal(*value).byte(b' ');
        }
        self
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_as_a_formatter_writes_them(value in any::<u64>(), shift in 0..64u32, width in 1..16usize) {
            let value = value >> shift;
            let mut line: Line<200> = Line::new();
            line.put(b"lost").clear();
            line.decimal(value).byte(b' ').signed(value as i64).put(b" ").signed(-(value as i64 >> 1)).byte(b' ');
            let mut text = Text::new();
            text.put(line.as_bytes());
            let start = text.len();
            text.put(line.clear().hexadecimal(value, width).as_bytes()).pad(start, 40).put(line.clear().row(&[value, 0]).as_bytes());
            let wanted = format!("{value} {} {} {:<40}{value} 0 ", value as i64, -(value as i64 >> 1), format!("{value:0width$x}"));
            prop_assert_eq!(text.finish().unwrap(), wanted.into_bytes());
            let mut short: Line<3> = Line::new();
            prop_assert!(short.decimal(1234).put(b"567").byte(b'8').as_bytes() == b"567");
        }
    }
}
