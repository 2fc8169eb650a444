//! Names of kernel functions, from the table that the image tool patches into the image.

use base::symbols::{Name, find};

/// The function that holds `address` and the offset into it.
pub fn symbol(address: u64) -> Option<(Name, u64)> {
    let text = hal::boot::kernel_text();
    if !text.contains(&address) {
        return None;
    }
    let (name, offset) = find(hal::boot::kernel_symbols(), (address - text.start) as u32)?;
    Some((name, u64::from(offset)))
}
