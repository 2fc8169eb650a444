//! UNIX sockets in flight: which of those that only messages hold can nobody reach any more; and what a message in flight costs
//! its sender.

use alloc::vec::Vec;

/// A socket that is in flight: messages not yet received hold it.
#[derive(Default, Debug, Clone)]
pub struct Node {
    /// References to its open file, and how many of them are messages.
    pub references: usize,
    pub in_flight: usize,
    /// The sockets in flight (by index) that messages in its own queue hold, once for each message.
    pub holds: Vec<usize>,
}

/// The nodes that cannot be reached: only messages hold them, and only messages in queues of sockets that cannot be reached
/// either. Answers for each whether it is garbage.
pub fn garbage(nodes: &[Node]) -> Vec<bool> {
    // Whoever has another reference, or is held by a queue that is not in flight itself, is reachable.
    let mut inside: Vec<usize> = alloc::vec![0; nodes.len()];
    for held in nodes.iter().flat_map(|node| &node.holds) {
        inside[*held] += 1;
    }
    let is_root = |at: usize| nodes[at].references > nodes[at].in_flight || inside[at] < nodes[at].in_flight;
    let mut reachable: Vec<bool> = (0..nodes.len()).map(is_root).collect();
    let mut work: Vec<usize> = (0..nodes.len()).filter(|at| reachable[*at]).collect();
    while let Some(at) = work.pop() {
        for held in &nodes[at].holds {
            if !core::mem::replace(&mut reachable[*held], true) {
                work.push(*held);
            }
        }
    }
    reachable.into_iter().map(|reachable| !reachable).collect()
}

const PAGE: usize = 4096;
/// What Linux adds to each buffer: `struct sk_buff`, and the shared info behind the bytes.
const BUFFER_HEAD: usize = 256;
const SHARED_INFO: usize = 320;
/// The most bytes of one buffer in one piece (SKB_MAX_ALLOC), of a stream's (SKB_MAX_HEAD), and in pages beside it.
const MAX_LINEAR: usize = 4 * PAGE - SHARED_INFO;
const STREAM_LINEAR: usize = PAGE - SHARED_INFO;
const STREAM_PAGES: usize = 32 << 10;
const MAX_PAGES: usize = 17 * PAGE;

/// Memory of a buffer with `linear` bytes in one piece and `pages` bytes in pages.
fn buffer_cost(linear: usize, pages: usize) -> usize {
    let head = (linear.next_multiple_of(64) + SHARED_INFO).next_power_of_two().max(512);
    BUFFER_HEAD + head + pages
}

/// What a datagram or packet of `len` bytes is charged.
pub fn packet_cost(len: usize) -> usize {
    let pages = len.saturating_sub(MAX_LINEAR).next_multiple_of(PAGE).min(MAX_PAGES);
    buffer_cost(len.saturating_sub(pages), pages)
}

/// What a piece of `len` bytes of a stream is charged.
pub fn stream_cost(len: usize) -> usize {
    let pages = len.saturating_sub(STREAM_LINEAR).next_multiple_of(PAGE).min(len);
    buffer_cost(len - pages, pages.next_multiple_of(PAGE))
}

/// The longest piece in which a stream with a send buffer of `limit` bytes sends.
pub fn stream_piece(limit: usize) -> usize {
    (limit / 2).saturating_sub(64).clamp(1, MAX_LINEAR + STREAM_PAGES)
}

/// The longest datagram or packet of a send buffer of `limit` bytes: longer ones are EMSGSIZE.
pub fn packet_limit(limit: usize) -> usize {
    limit.saturating_sub(32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_linux_s() {
        assert_eq!((packet_cost(0), packet_cost(1), stream_cost(1)), (768, 768, 768));
        assert_eq!(packet_cost(192), 768);
        assert_eq!(packet_cost(193), 1280);
        assert_eq!(stream_cost(4096), 256 + 512 + 4096);
        assert_eq!(stream_piece(212_992), 48_832);
    }

    /// What is reachable by definition: walk from every socket somebody else holds.
    fn by_definition(holds: &[Vec<usize>], outside: &[bool]) -> Vec<bool> {
        let mut reachable = outside.to_vec();
        for _ in 0..holds.len() {
            for at in 0..holds.len() {
                if reachable[at] {
                    holds[at].iter().for_each(|held| reachable[*held] = true);
                }
            }
        }
        reachable.iter().map(|reachable| !reachable).collect()
    }

    /// Every graph of four sockets, each held from outside or not: by a descriptor, or by a message in a queue that is not in flight.
    #[test]
    fn all_small_graphs() {
        const N: usize = 4;
        for edges in 0..1u32 << (N * N) {
            let holds: Vec<Vec<usize>> =
                (0..N).map(|at| (0..N).filter(|to| edges >> (at * N + to) & 1 == 1).collect()).collect();
            // Outside references change with the graph: all sixteen choices would take long.
            let choice = (edges ^ edges >> 7) & 15;
            let outside: Vec<bool> = (0..N).map(|at| choice >> at & 1 == 1).collect();
            let nodes: Vec<Node> = (0..N)
                .map(|at| {
                    let inside = holds.iter().flatten().filter(|held| **held == at).count();
                    let by_message = outside[at] && at % 2 == 0;
                    let in_flight = inside + usize::from(by_message);
                    let references = in_flight + usize::from(outside[at] && !by_message);
                    Node { references, in_flight, holds: holds[at].clone() }
                })
                .collect();
            assert_eq!(garbage(&nodes), by_definition(&holds, &outside), "{nodes:?}");
        }
    }
}
