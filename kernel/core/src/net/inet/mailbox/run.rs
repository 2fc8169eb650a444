//! UDP_GRO (udp(7)): datagrams of one length that come in a row from one sender are received by one call, which tells the length.

use super::Datagram;
use crate::net::inet::address::Endpoint;
use crate::net::inet::control::{Arrival, SOL_UDP};
use crate::net::message::ControlItem;

pub const UDP_GRO: i32 = 104;

/// As many as one receive brings, and their bytes.
const MAX_PARTS: u32 = 64;
const MAX_BYTES: usize = 65_507;

/// Of what a datagram in the queue was made.
#[derive(Clone)]
pub struct Run {
    /// The length of each part; the last one may be shorter.
    part_bytes: usize,
    parts: u32,
    /// No more join: a shorter one came, or the program has been told how long it is.
    pub is_complete: bool,
}

impl Run {
    pub fn of(bytes: &[u8]) -> Self {
        Self { part_bytes: bytes.len(), parts: 1, is_complete: bytes.is_empty() }
    }

    /// The length of the parts, if there are several.
    pub fn control(&self) -> Option<ControlItem> {
        (self.parts > 1).then(|| ControlItem::new(SOL_UDP, UDP_GRO, &(self.part_bytes as i32)))
    }
}

impl Datagram {
    /// Takes one more datagram behind this one, if it is of the same run.
    pub fn join(&mut self, bytes: &[u8], from: Endpoint, arrival: &Arrival) -> bool {
        let run = &mut self.run;
        let continues = !run.is_complete
            && (1..=run.part_bytes).contains(&bytes.len())
            && run.parts < MAX_PARTS
            && self.bytes.len() + bytes.len() <= MAX_BYTES
            && self.from == from
            && self.arrival.is_alike(arrival);
        if !continues || self.bytes.try_reserve(bytes.len()).is_err() {
            return false;
        }
        self.bytes.extend_from_slice(bytes);
        run.parts += 1;
        run.is_complete = bytes.len() < run.part_bytes;
        true
    }
}
