//! The page a handler returns to when the program names no restorer: `mov x8, #139; svc #0` (rt_sigreturn).

use crate::mm::{AddressSpace, MemObject, Prot};
use crate::prelude::*;
use spin::Once;

static PAGE: Once<Arc<MemObject>> = Once::new();

const CODE: [u32; 2] = [0xd280_1168, 0xd400_0001];

fn object() -> Result<Arc<MemObject>, Errno> {
    if let Some(page) = PAGE.get() {
        return Ok(page.clone());
    }
    let page = MemObject::anonymous(PAGE_SIZE as u64);
    let bytes: Vec<u8> = CODE.iter().flat_map(|word| word.to_le_bytes()).collect();
    page.write(0, &mut UserReader::kernel(&bytes))?;
    page.truncate(PAGE_SIZE as u64)?;
    if let Some(frame) = page.present(0) {
        frame.sync_instruction_cache();
    }
    Ok(PAGE.call_once(|| page).clone())
}

/// Maps the page into a new program's memory; answers its address.
pub fn map(space: &AddressSpace) -> Result<u64, Errno> {
    space.map_special(0, PAGE_SIZE as u64, Prot::READ | Prot::EXEC, "[sigpage]", Some((object()?, 0)))
}

/// The trampoline's address in the task's memory; 0 (a crash on return) for a program that unmapped it.
pub fn address(task: &Task) -> u64 {
    task.mm.get().map_or(0, |space| space.layout().sigreturn)
}
