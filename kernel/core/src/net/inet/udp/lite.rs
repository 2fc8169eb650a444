//! UDP-Lite (RFC 3828, udplite(7)): sockets as UDP's whose checksum covers as much of a datagram as a program asks for.
//!
//! [`Coverage`] is all that such a socket keeps beside a UDP one; the rest is in [`super`].

use crate::prelude::*;
use base::net::packet::Udp;
use core::sync::atomic::{AtomicU32, Ordering};

const UDPLITE_SEND_CSCOV: i32 = 10;
const UDPLITE_RECV_CSCOV: i32 = 11;
/// The header is always covered.
const HEADER_BYTES: i32 = 8;

/// How many bytes of a datagram, from the header's first, checksums cover; 0: all; [`UNSET`]: nobody chose.
pub struct Coverage {
    sent: AtomicU32,
    /// The least that a datagram must have to be received.
    received: AtomicU32,
}

const UNSET: u32 = u32::MAX;

impl Coverage {
    pub fn new() -> Self {
        Self { sent: AtomicU32::new(UNSET), received: AtomicU32::new(UNSET) }
    }

    /// Of the next datagram; 0 is all, said as 0.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed) as usize
    }

    /// Whether enough of a datagram is covered: one that is covered in part is for those who chose how much, and did not choose all.
    pub fn accepts(&self, datagram: &Udp) -> bool {
        let least = self.received.load(Ordering::Relaxed);
        least == UNSET || datagram.covered >= datagram.len || least != 0 && datagram.covered >= least as usize
    }

    /// ENOPROTOOPT.
    pub fn set(&self, name: i32, bytes: i32) -> Result<(), Errno> {
        let bytes = match bytes {
            0 => 0,
            // A negative one too, as on Linux.
            bytes if bytes < HEADER_BYTES => HEADER_BYTES as u32,
            bytes => bytes.min(0xffff) as u32,
        };
        self.of(name)?.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// ENOPROTOOPT.
    pub fn get(&self, name: i32) -> Result<i32, Errno> {
        match self.of(name)?.load(Ordering::Relaxed) {
            UNSET => Ok(0),
            bytes => Ok(bytes as i32),
        }
    }

    fn of(&self, name: i32) -> Result<&AtomicU32, Errno> {
        match name {
            UDPLITE_SEND_CSCOV => Ok(&self.sent),
            UDPLITE_RECV_CSCOV => Ok(&self.received),
            _ => Err(Errno::ENOPROTOOPT),
        }
    }
}
