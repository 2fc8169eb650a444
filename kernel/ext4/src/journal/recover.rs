//! Replay: what committed transactions say is written home. One pass over the log notes the newest copy of each block and the
//! newest revocation; then the copies that count are written in the order of their homes.

use super::LogMap;
use super::format::*;
use crate::layout::{be32, push, put_be32, zeroed};
use crate::prelude::*;

struct Copy {
    position: u32,
    sequence: u32,
    tag: Tag,
}

/// Whether sequence `a` is `b` or later; sequences wrap.
fn is_at_least(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 >= 0
}

/// Replays the log of a file system of `blocks` blocks; returns how many blocks it wrote. Afterwards the log is empty, on disk too.
pub fn recover<D: Disk>(disk: &D, format: &mut Format, map: &LogMap, blocks: u64) -> Result<usize> {
    if format.start() == 0 {
        return Ok(0);
    }
    let bits = format.block_size.trailing_zeros();
    let mut copies: HashMap<u64, Copy> = HashMap::new();
    let mut revoked: HashMap<u64, u32> = HashMap::new();
    let mut block = zeroed(format.block_size)?;
    let (mut position, mut sequence) = (format.start(), format.sequence());
    let mut left = format.capacity();
    // What the transaction that is being read says; it counts when its commit block is there.
    let mut open: Vec<(u32, Tag)> = Vec::new();
    let mut open_revoked: Vec<u64> = Vec::new();
    while left > 0 {
        map.read(disk, bits, position, &mut block)?;
        if be32(&block, 0) != MAGIC || be32(&block, 8) != sequence {
            break;
        }
        position = format.next(position);
        left -= 1;
        match be32(&block, 4) {
            DESCRIPTOR if format.tail_is_valid(disk, &block) => format.tags(&block, |tag| {
                if tag.block >= blocks {
                    return Err(Errno::EUCLEAN);
                }
                push(&mut open, (position, tag))?;
                position = format.next(position);
                left = left.saturating_sub(1);
                Ok(())
            })?,
            REVOKE if format.tail_is_valid(disk, &block) => {
                format.revoked(&block, |block| push(&mut open_revoked, block))?
            }
            COMMIT if format.commit_is_valid(disk, &block) => {
                copies.try_reserve(open.len()).map_err(|_| Errno::ENOMEM)?;
                revoked.try_reserve(open_revoked.len()).map_err(|_| Errno::ENOMEM)?;
                for (position, tag) in open.drain(..) {
                    copies.insert(tag.block, Copy { position, sequence, tag });
                }
                for block in open_revoked.drain(..) {
                    revoked.insert(block, sequence);
                }
                sequence = sequence.wrapping_add(1);
            }
            _ => break,
        }
    }

    let mut homes = Vec::new();
    homes.try_reserve_exact(copies.len()).map_err(|_| Errno::ENOMEM)?;
    homes.extend(
        copies
            .iter()
            .filter(|(home, copy)| revoked.get(*home).is_none_or(|revoked| !is_at_least(*revoked, copy.sequence))),
    );
    homes.sort_unstable_by_key(|(home, _)| **home);
    for (home, copy) in &homes {
        map.read(disk, bits, copy.position, &mut block)?;
        if !format.tag_is_valid(disk, &copy.tag, copy.sequence, &block) {
            disk.log(format_args!("ext4: journal: checksum of block {home} in transaction {}", copy.sequence));
            return Err(Errno::EBADMSG);
        }
        if copy.tag.flags & TAG_ESCAPED != 0 {
            put_be32(&mut block, 0, MAGIC);
        }
        disk.write(**home << (bits - 9), &[&block], false)?;
    }
    disk.flush()?;
    // A transaction that was begun with this number may lie in the log: the next one has another.
    put_be32(&mut format.superblock, SEQUENCE, sequence.wrapping_add(1));
    put_be32(&mut format.superblock, START, 0);
    map.write_superblock(disk, bits, format)?;
    disk.flush()?;
    Ok(homes.len())
}
