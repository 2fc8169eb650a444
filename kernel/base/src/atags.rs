//! ATAGs: the list by which boot loaders without a device tree describe memory, initial RAM disk and command line.
//!
//! Each entry is {size in words, tag, values}; the first is ATAG_CORE, and one of tag 0 ends the list.

use core::ops::Range;

const CORE: u32 = 0x5441_0001;
const MEM: u32 = 0x5441_0002;
const INITRD2: u32 = 0x5442_0005;
const CMDLINE: u32 = 0x5441_0009;

/// What a list says. Later entries count, as for Linux.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Atags<'a> {
    pub memory: Option<Range<u64>>,
    pub initrd: Option<Range<u64>>,
    pub cmdline: &'a str,
}

fn word(bytes: &[u8], index: usize) -> Option<u32> {
    let at = index.checked_mul(4)?;
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Reads the list at the start of `bytes`; `None` when there is none. A list that breaks off counts as far as it goes.
pub fn parse(bytes: &[u8]) -> Option<Atags<'_>> {
    if word(bytes, 1)? != CORE {
        return None;
    }
    let mut found = Atags::default();
    let mut rest = bytes;
    while let (Some(size), Some(tag)) = (word(rest, 0), word(rest, 1)) {
        let Some(len) = (size as usize).checked_mul(4).filter(|len| *len >= 8) else { break };
        let Some(entry) = rest.get(..len) else { break };
        let range = || {
            let (first, second) = (u64::from(word(entry, 2)?), u64::from(word(entry, 3)?));
            Some((first, second))
        };
        match tag {
            MEM => found.memory = range().map(|(size, start)| start..start + size).or(found.memory),
            INITRD2 => found.initrd = range().map(|(start, size)| start..start + size).or(found.initrd),
            CMDLINE => {
                let text = entry.get(8..).unwrap_or(&[]).split(|byte| *byte == 0).next().unwrap_or(&[]);
                found.cmdline = core::str::from_utf8(text).unwrap_or("");
            }
            0 => break,
            _ => {}
        }
        rest = rest.get(len..).unwrap_or(&[]);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u32, &[u32])]) -> Vec<u8> {
        let mut words = Vec::new();
        for (tag, values) in entries {
            words.push(2 + values.len() as u32);
            words.push(*tag);
            words.extend_from_slice(values);
        }
        words.extend([0, 0]);
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn text(text: &str) -> Vec<u32> {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(text.len() / 4 * 4 + 4, 0);
        bytes.chunks(4).map(|four| u32::from_le_bytes(four.try_into().unwrap())).collect()
    }

    #[test]
    fn a_list_is_read() {
        let line = text("console=ttyAMA0 quiet");
        let bytes = list(&[
            (CORE, &[1, 0x1000, 0]),
            (MEM, &[0x3c00_0000, 0]),
            (INITRD2, &[0x800_0000, 0x1234]),
            (CMDLINE, &line),
        ]);
        let found = parse(&bytes).unwrap();
        assert_eq!(found.memory, Some(0..0x3c00_0000));
        assert_eq!(found.initrd, Some(0x800_0000..0x800_1234));
        assert_eq!(found.cmdline, "console=ttyAMA0 quiet");
    }

    #[test]
    fn what_is_no_list_is_none() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[0; 64]), None);
        assert_eq!(parse(&0xd00d_feedu64.to_be_bytes()), None);
    }

    #[test]
    fn a_broken_list_counts_as_far_as_it_goes() {
        let bytes = list(&[(CORE, &[]), (MEM, &[0x100, 0x200]), (INITRD2, &[0x300])]);
        let found = parse(&bytes).unwrap();
        assert_eq!(found.memory, Some(0x200..0x300));
        assert_eq!(found.initrd, None, "an entry too short for its tag");
        for end in 0..bytes.len() {
            let _ = parse(&bytes[..end]);
        }
        let mut endless = list(&[(CORE, &[])]);
        endless[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(parse(&endless), Some(Atags::default()));
        endless[0..4].copy_from_slice(&1u32.to_le_bytes());
        assert_eq!(parse(&endless), Some(Atags::default()), "an entry that has no room for its own tag");
    }
}
