//! The header in front of each frame (virtio 1.2, 5.1.6): checksum and segmentation orders.

use crate::traits::{Offloads, RxMeta, TxMeta};

pub const BYTES: usize = 12;

const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const TCP_V4: u8 = 1;
const TCP_V6: u8 = 4;
const ECN: u8 = 0x80;

/// The orders for a frame of `len` bytes; `None` when they do not fit the frame or the device.
pub fn for_transmit(len: usize, meta: TxMeta, offloads: Offloads) -> Option<[u8; BYTES]> {
    let mut header = [0; BYTES];
    let mut put = |at: usize, value: u16| header[at..at + 2].copy_from_slice(&value.to_le_bytes());
    if let Some(segmentation) = meta.segmentation {
        let able = if segmentation.is_ipv6 { offloads.tso_v6 } else { offloads.tso_v4 };
        let fits = usize::from(segmentation.header_bytes) < len && segmentation.mss_bytes > 0;
        if !able || !fits || meta.checksum.is_none() {
            return None;
        }
        put(2, segmentation.header_bytes);
        put(4, segmentation.mss_bytes);
    }
    if let Some(checksum) = meta.checksum {
        let end = usize::from(checksum.start) + usize::from(checksum.offset) + 2;
        if !offloads.tx_checksum || end > len {
            return None;
        }
        put(6, checksum.start);
        put(8, checksum.offset);
        header[0] = NEEDS_CHECKSUM;
    }
    header[1] = match meta.segmentation {
        Some(segmentation) if segmentation.is_ipv6 => TCP_V6,
        Some(_) => TCP_V4,
        None => 0,
    };
    Some(header)
}

/// What the header of a received frame says: about the frame, and how many buffers it fills (0 cannot be).
pub fn of_received(header: &[u8; BYTES]) -> (RxMeta, u16) {
    let get = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let joined = matches!(header[1] & !ECN, TCP_V4 | TCP_V6);
    let meta = RxMeta {
        // A partial checksum comes from a frame that never left its host.
        checksum_good: header[0] & (NEEDS_CHECKSUM | DATA_VALID) != 0,
        joined_mss_bytes: if joined { get(4) } else { 0 },
    };
    (meta, get(10))
}
