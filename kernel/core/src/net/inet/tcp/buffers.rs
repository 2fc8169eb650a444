//! How large a connection's buffers are. smoltcp fixes them when a connection begins, so they are sized then: by SO_SNDBUF and
//! SO_RCVBUF where a program chose, else generously while few connections share the memory set aside for them and modestly when
//! there are many.

use crate::net::options::Common;
use core::sync::atomic::{AtomicUsize, Ordering};

/// What SO_SNDBUF and SO_RCVBUF say before the first connection (net.ipv4.tcp_wmem, tcp_rmem).
pub const DEFAULT_SEND: u32 = 16_384;
pub const DEFAULT_RECEIVE: u32 = 131_072;

const LARGEST: usize = 256 << 10;
const SMALLEST: usize = 8 << 10;
/// The most of what is left that one buffer takes.
const SHARE: usize = 128;

/// Bytes in buffers of live connections.
static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// Bytes for all connections together beyond the smallest buffers: a quarter of memory.
fn budget() -> usize {
    (hal::boot::info().memory_bytes as usize / 4).max(4 << 20)
}

fn automatic() -> usize {
    let left = budget().saturating_sub(IN_USE.load(Ordering::Relaxed));
    let share = (left / SHARE).clamp(SMALLEST, LARGEST);
    // A power of two, so that the heap's size classes fit.
    1 << share.ilog2()
}

/// What they may use before no more connections are made: half of memory.
fn limit() -> usize {
    budget() * 2
}

/// Sizes of the receive and the send buffer of a new connection, which are counted from now on, though it may get them later;
/// `None` when connections use all their memory.
pub fn choose(common: &Common) -> Option<(usize, usize)> {
    if IN_USE.load(Ordering::Relaxed) > limit() {
        return None;
    }
    let chosen = |is_set: bool, size: u32| {
        let automatic = automatic();
        if is_set { (size as usize).clamp(2048, LARGEST * 8).min(automatic.max(256 << 10)) } else { automatic }
    };
    let receive =
        chosen(common.receive_buffer_is_set.load(Ordering::Relaxed), common.receive_buffer.load(Ordering::Relaxed));
    let send = chosen(common.send_buffer_is_set.load(Ordering::Relaxed), common.send_buffer.load(Ordering::Relaxed));
    IN_USE.fetch_add(receive + send, Ordering::Relaxed);
    Some((receive, send))
}

/// Bytes that the ring of a local connection may hold.
pub fn ring_limit(common: &Common) -> usize {
    if common.receive_buffer_is_set.load(Ordering::Relaxed) {
        // What the sender's buffer would hold comes on top.
        return common.receive_buffer.load(Ordering::Relaxed) as usize + DEFAULT_SEND as usize;
    }
    if is_scarce() { SMALLEST * 2 } else { LARGEST * 2 }
}

/// Whether more is in use than was set aside.
pub fn is_scarce() -> bool {
    IN_USE.load(Ordering::Relaxed) > budget()
}

/// Memory was taken for bytes.
pub fn take(bytes: usize) {
    if bytes != 0 {
        IN_USE.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Buffers of these sizes are gone.
pub fn give_back(bytes: usize) {
    IN_USE.fetch_sub(bytes, Ordering::Relaxed);
}
