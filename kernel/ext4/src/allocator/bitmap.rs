//! Bitmaps: bit `n` is bit `n % 8` of byte `n / 8`, set for "in use".

use core::ops::Range;

fn word(bytes: &[u8], index: usize) -> u64 {
    match bytes.get(index * 8..index * 8 + 8) {
        Some(bytes) => bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        None => u64::MAX,
    }
}

pub fn get(bytes: &[u8], bit: u32) -> bool {
    bytes.get(bit as usize / 8).is_none_or(|byte| byte >> (bit % 8) & 1 != 0)
}

/// Sets or clears bits; returns whether all were the other way before.
pub fn fill(bytes: &mut [u8], bits: Range<u32>, value: bool) -> bool {
    let mut all_changed = true;
    let mut bit = bits.start;
    while bit < bits.end {
        let Some(byte) = bytes.get_mut(bit as usize / 8) else { return false };
        // A whole byte at once, or as much of one as is asked for.
        let last = (bits.end - (bit & !7)).min(8);
        let mask = (((1u16 << last) - 1) as u8) & (0xFFu8 << (bit % 8));
        all_changed &= *byte & mask == if value { 0 } else { mask };
        *byte = if value { *byte | mask } else { *byte & !mask };
        bit = (bit & !7) + 8;
    }
    all_changed
}

/// The first bit from `from` on, below `end`, that is `value` in `bytes` or-ed with `more`.
fn find(bytes: &[u8], more: &[u8], from: u32, end: u32, value: bool) -> u32 {
    let mut bit = from;
    while bit < end {
        let index = bit as usize / 64;
        let used = word(bytes, index) | if more.is_empty() { 0 } else { word(more, index) };
        let wanted = (if value { used } else { !used }) & (u64::MAX << (bit % 64));
        if wanted != 0 {
            return (index as u32 * 64 + wanted.trailing_zeros()).min(end);
        }
        bit = (index as u32 + 1) * 64;
    }
    end
}

/// The first run of free bits at or after `from` and below `end`, cut to `most` bits. `more` (empty, or as long as `bytes`) has
/// further bits in use.
pub fn free_run(bytes: &[u8], more: &[u8], from: u32, end: u32, most: u32) -> Option<Range<u32>> {
    let start = find(bytes, more, from, end, false);
    if start >= end {
        return None;
    }
    Some(start..find(bytes, more, start, end.min(start.saturating_add(most)), true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_agree_with_a_list_of_bools(
            used in proptest::collection::vec(any::<bool>(), 512),
            busy in proptest::collection::vec(any::<bool>(), 512),
            from in 0u32..512, end in 0u32..=512, most in 1u32..100,
        ) {
            let pack = |bits: &[bool]| {
                let mut bytes = vec![0u8; 64];
                for (i, bit) in bits.iter().enumerate() {
                    if *bit {
                        fill(&mut bytes, i as u32..i as u32 + 1, true);
                    }
                }
                bytes
            };
            let is_free = |i: &u32| !used[*i as usize] && !busy[*i as usize];
            let start = (from..end).find(is_free);
            let want = start.map(|start| {
                start..(start..end.min(start + most)).find(|i| !is_free(i)).unwrap_or(end.min(start + most))
            });
            prop_assert_eq!(free_run(&pack(&used), &pack(&busy), from, end, most), want);
        }

        #[test]
        fn filling_changes_these_bits_and_no_others(
            bits in proptest::collection::vec(any::<bool>(), 128), start in 0u32..128, len in 0u32..128, value in any::<bool>(),
        ) {
            let end = (start + len).min(128);
            let mut bytes = vec![0u8; 16];
            for (i, bit) in bits.iter().enumerate() {
                fill(&mut bytes, i as u32..i as u32 + 1, *bit);
            }
            let changed = fill(&mut bytes, start..end, value);
            prop_assert_eq!(changed, (start..end).all(|i| bits[i as usize] != value));
            for i in 0..128 {
                prop_assert_eq!(get(&bytes, i), if (start..end).contains(&i) { value } else { bits[i as usize] });
            }
        }
    }
}
