//! Where an archive's bytes come from: the memory the boot loader filled, or a gzip member in it.
//!
//! Both give their memory back as it is consumed, so that unpacking never needs it twice: [`Plain`] the archive's frames,
//! [`Gzip`] the compressed frames, of whose content it holds no more than a window.

use crate::prelude::*;
use base::cpio::CpioError;
use hal::boot::Initrd;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags::TINFL_FLAG_HAS_MORE_INPUT};

pub trait Source {
    /// `len` bytes at `offset`, which is not below what was consumed; Truncated when there are not as many.
    fn get(&mut self, offset: usize, len: usize) -> Result<&[u8], CpioError>;
    /// Nothing below `offset` is asked for again.
    fn consumed(&mut self, offset: usize);
}

pub struct Plain<'a>(pub &'a mut Initrd);

impl Source for Plain<'_> {
    fn get(&mut self, offset: usize, len: usize) -> Result<&[u8], CpioError> {
        if offset.checked_add(len).is_none_or(|end| end > self.0.len()) {
            return Err(CpioError::Truncated);
        }
        Ok(self.0.bytes(offset, len))
    }
    fn consumed(&mut self, offset: usize) {
        self.0.release_before(offset);
    }
}

/// Bytes that deflate may refer back to.
const RING_BYTES: usize = 32 << 10;
/// Compressed bytes looked at in one step.
const INPUT_BYTES: usize = 8 << 10;
/// The window is moved up when so much of it is behind the reader.
const SLACK_BYTES: usize = 128 << 10;

/// One gzip member (RFC 1952), decompressed as it is read. Offsets count its plain bytes.
pub struct Gzip<'a> {
    raw: &'a mut Initrd,
    /// The next compressed byte.
    at: usize,
    state: Box<DecompressorOxide>,
    ring: Vec<u8>,
    position: usize,
    /// Plain bytes from `base` on.
    window: Vec<u8>,
    base: usize,
    crc: u32,
    done: bool,
}

impl<'a> Gzip<'a> {
    pub const MAGIC: &'static [u8] = &[0x1f, 0x8b];

    /// The member that begins at byte `start` of `raw`.
    pub fn new(raw: &'a mut Initrd, start: usize) -> Result<Self, CpioError> {
        let bytes = raw.bytes(start, raw.len() - start);
        let at = start + payload(bytes).ok_or(CpioError::Truncated)?;
        Ok(Self {
            raw,
            at,
            state: Box::default(),
            // Infallible: once, at boot.
            ring: vec![0; RING_BYTES],
            position: 0,
            window: Vec::new(),
            base: 0,
            crc: !0,
            done: false,
        })
    }

    /// Decompresses a little more.
    fn step(&mut self) -> Result<(), CpioError> {
        if self.done {
            return Err(CpioError::Truncated);
        }
        let len = (self.raw.len() - self.at).min(INPUT_BYTES);
        let flags = if self.at + len < self.raw.len() { TINFL_FLAG_HAS_MORE_INPUT } else { 0 };
        let input = self.raw.bytes(self.at, len);
        let (status, eaten, made) = decompress(&mut self.state, input, &mut self.ring, self.position, flags);
        let fresh = &self.ring[self.position..self.position + made];
        self.crc = crc32(self.crc, fresh);
        self.window.extend_from_slice(fresh);
        self.position = (self.position + made) % RING_BYTES;
        self.at += eaten;
        self.raw.release_before(self.at);
        match status {
            TINFLStatus::Done => self.finish(),
            TINFLStatus::NeedsMoreInput | TINFLStatus::HasMoreOutput if eaten + made > 0 => Ok(()),
            TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => Err(CpioError::Truncated),
            _ => Err(CpioError::BadCompression),
        }
    }

    /// The check sum and the length behind the deflate stream.
    fn finish(&mut self) -> Result<(), CpioError> {
        if self.raw.len() - self.at < 8 {
            return Err(CpioError::Truncated);
        }
        let mut trailer = [0; 8];
        trailer.copy_from_slice(self.raw.bytes(self.at, 8));
        self.at += 8;
        self.done = true;
        let expected = u64::from(!self.crc) | ((self.base + self.window.len()) as u64) << 32;
        if u64::from_le_bytes(trailer) == expected { Ok(()) } else { Err(CpioError::BadCompression) }
    }

    /// Where the member ends among the compressed bytes.
    pub fn end(mut self) -> Result<usize, CpioError> {
        while !self.done {
            self.base += self.window.len();
            self.window.clear();
            self.step()?;
        }
        Ok(self.at)
    }
}

impl Source for Gzip<'_> {
    fn get(&mut self, offset: usize, len: usize) -> Result<&[u8], CpioError> {
        let from = offset.checked_sub(self.base).ok_or(CpioError::Truncated)?;
        let to = from.checked_add(len).ok_or(CpioError::Truncated)?;
        while self.window.len() < to {
            self.step()?;
        }
        Ok(&self.window[from..to])
    }
    fn consumed(&mut self, offset: usize) {
        let behind = offset.saturating_sub(self.base).min(self.window.len());
        if behind >= SLACK_BYTES || behind == self.window.len() {
            self.window.drain(..behind);
            self.base += behind;
        }
    }
}

/// Where the deflate stream of a gzip member begins.
fn payload(bytes: &[u8]) -> Option<usize> {
    const HEADER_CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let flags = *bytes.get(3)?;
    let mut at = 10;
    if flags & EXTRA != 0 {
        at += 2 + usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    }
    for bit in [NAME, COMMENT] {
        if flags & bit != 0 {
            at += bytes.get(at..)?.iter().position(|&b| b == 0)? + 1;
        }
    }
    if flags & HEADER_CRC != 0 {
        at += 2;
    }
    (at <= bytes.len()).then_some(at)
}

/// Goes on with the check sum of gzip, four bits at a time.
fn crc32(mut crc: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut index = 0;
        while index < 16 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 4 {
                value = value >> 1 ^ if value & 1 != 0 { 0xedb8_8320 } else { 0 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    for &byte in bytes {
        crc ^= u32::from(byte);
        crc = crc >> 4 ^ TABLE[(crc & 15) as usize];
        crc = crc >> 4 ^ TABLE[(crc & 15) as usize];
    }
    crc
}

use alloc::vec;
