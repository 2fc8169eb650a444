//! Names of kernel functions, from the table that the image tool patches into the image.
//!
//! Layout, little endian: magic, count, `count` pairs {offset from the kernel's start, offset of the name in the table}
//! in ascending order, then the NUL-terminated names.

const MAGIC: u32 = 0x4b53_594d;

fn word(table: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(table.get(at..at + 4)?.try_into().ok()?))
}

/// The function that holds `address` and the offset into it.
pub fn symbol(address: u64) -> Option<(&'static str, u64)> {
    let text = hal::boot::kernel_text();
    if !text.contains(&address) {
        return None;
    }
    let offset = (address - text.start) as u32;
    let table = hal::boot::kernel_symbols();
    if word(table, 0)? != MAGIC {
        return None;
    }
    let count = word(table, 4)? as usize;
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = (low + high) / 2;
        if word(table, 8 + middle * 8)? <= offset {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let entry = 8 + low.checked_sub(1)? * 8;
    let name = table.get(word(table, entry + 4)? as usize..)?;
    let name = name.split(|&b| b == 0).next()?;
    Some((core::str::from_utf8(name).ok()?, u64::from(offset - word(table, entry)?)))
}
