//! An IP packet on its way out or around.

use crate::prelude::*;
use drivers::traits::RxMeta;

/// Room for an Ethernet header in front of every packet.
pub const LINK_ROOM: usize = 14;

/// Bytes and what is still to be done to them.
#[derive(Default)]
pub struct Packet {
    /// [`LINK_ROOM`] unused bytes, then the IP packet.
    buffer: Vec<u8>,
    /// TCP or UDP checksum still to be made by the device or, if it cannot, by us. Loopback needs none.
    pub needs_checksum: bool,
    /// Payload bytes of the wire's TCP segments when the packet is longer than one.
    pub segment_bytes: Option<u16>,
    /// The interface it must leave by; 0: whichever the route says.
    pub interface: u32,
    /// Never fragmented (IP_MTU_DISCOVER).
    pub dont_fragment: bool,
    /// A multicast packet that local members must not see (IP_MULTICAST_LOOP off).
    pub no_loop: bool,
    /// SO_MARK of the socket it comes from.
    pub mark: u32,
}

impl Packet {
    /// One of `len` bytes that a program asked for, zeroed: ENOMEM.
    pub fn try_new(len: usize) -> Result<Self, NoMemory> {
        admit(LINK_ROOM + len)?;
        Ok(Self::new(len))
    }
    /// One of `len` bytes of the kernel's own, zeroed.
    pub fn new(len: usize) -> Self {
        // Infallible: at most a packet of 64 KiB; programs' are admitted.
        Self { buffer: alloc::vec![0; LINK_ROOM + len], ..Self::default() }
    }
    /// The IP packet.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[LINK_ROOM..]
    }
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[LINK_ROOM..]
    }
    /// With the room for the Ethernet header.
    pub fn frame_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
    pub fn from_buffer(buffer: Vec<u8>) -> Self {
        Self { buffer, ..Self::default() }
    }
    pub fn len(&self) -> usize {
        self.buffer.len() - LINK_ROOM
    }
}

/// A frame as the device gave it.
pub struct Frame {
    pub interface: u32,
    pub bytes: Vec<u8>,
    pub meta: RxMeta,
}
