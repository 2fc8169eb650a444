//! The table of the kernel's function names, as the image tool writes it into the image and a panic reads it: small, and read
//! without memory of its own.
//!
//! All numbers are little endian: magic, number of functions, number of names (32 bits each); for each function, by rising
//! address, its offset from the kernel's start (32 bits); for each function the number of its name (16 bits), padded to 4; for
//! each [`BLOCK`] names where in the table they begin (32 bits); then the names in alphabetical order, each as two bytes, how
//! much it shares with the one before and how many bytes follow, and those bytes. A block's first name shares nothing.

use arrayvec::ArrayString;

pub const MAGIC: u32 = 0x324d_594b;
/// Names that are read one after the other to get at one.
pub const BLOCK: usize = 16;
/// Bytes of a name that are kept.
pub const NAME_BYTES: usize = 80;

pub type Name = ArrayString<NAME_BYTES>;

fn word(table: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(table.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// The function that holds `offset` and how far into it that is; `None` too for a table that is none.
pub fn find(table: &[u8], offset: u32) -> Option<(Name, u32)> {
    const OFFSETS: usize = 12;
    if word(table, 0)? != MAGIC {
        return None;
    }
    let (functions, names) = (word(table, 4)? as usize, word(table, 8)? as usize);
    let (mut low, mut high) = (0, functions);
    while low < high {
        let middle = low + (high - low) / 2;
        if word(table, OFFSETS + middle * 4)? <= offset {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let index = low.checked_sub(1)?;
    let start = word(table, OFFSETS + index * 4)?;
    let numbers = OFFSETS + functions * 4;
    let number = table.get(numbers + index * 2..numbers + index * 2 + 2)?;
    let number = usize::from(u16::from_le_bytes(number.try_into().ok()?));
    if number >= names {
        return None;
    }
    let blocks = (numbers + functions * 2).next_multiple_of(4);
    let mut at = word(table, blocks + number / BLOCK * 4)? as usize;
    let mut name = Name::new();
    for _ in 0..=number % BLOCK {
        let (&shared, &len) = (table.get(at)?, table.get(at + 1)?);
        let rest = core::str::from_utf8(table.get(at + 2..at + 2 + usize::from(len))?).ok()?;
        if !name.is_char_boundary(usize::from(shared)) {
            return None;
        }
        name.truncate(usize::from(shared));
        name.try_push_str(rest).ok()?;
        at += 2 + usize::from(len);
    }
    Some((name, offset - start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Two functions and their names.
    fn sample() -> Vec<u8> {
        let mut table = Vec::new();
        for number in [MAGIC, 2, 2, 0x10, 0x40] {
            table.extend(number.to_le_bytes());
        }
        // The lower function has the name that is alphabetically second.
        table.extend([1, 0, 0, 0]);
        table.extend(28u32.to_le_bytes());
        table.extend(b"\x00\x07fs::one\x04\x03two");
        table
    }

    #[test]
    fn functions_are_found_by_any_address_in_them() {
        let table = sample();
        let found = |offset| find(&table, offset).map(|(name, into)| (name.to_string(), into));
        assert_eq!(found(0xf), None);
        assert_eq!(found(0x10), Some((String::from("fs::two"), 0)));
        assert_eq!(found(0x3f), Some((String::from("fs::two"), 0x2f)));
        assert_eq!(found(0x400), Some((String::from("fs::one"), 0x3c0)));
        assert_eq!(find(&[0; 64], 5), None);
    }

    proptest! {
        #[test]
        fn no_table_panics(edits in proptest::collection::vec((0usize..48, any::<u8>()), 0..6), len in 0usize..48, offset in any::<u32>()) {
            let mut table = sample();
            for (at, value) in edits {
                if let Some(byte) = table.get_mut(at) {
                    *byte = value;
                }
            }
            let len = len.min(table.len());
            let _ = find(&table[..len], offset);
        }
    }
}
