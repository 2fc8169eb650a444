//! The vDSO in user memory: a page of clock data and a page of code (see `hal::vdso`), shared by all programs.

use crate::mm::area::AreaFlags;
use crate::mm::map::Source;
use crate::mm::{AddressSpace, MapFlags, MemObject, Prot};
use crate::prelude::*;
use hal::vdso::Data;
use spin::Once;

const PAGE: u64 = PAGE_SIZE as u64;

/// Page 0: the data; page 1: the code.
static PAGES: Once<Arc<MemObject>> = Once::new();

fn data() -> [u8; 24] {
    let (mult, shift) = hal::time::mult_shift();
    Data { mult, shift: u64::from(shift), realtime_offset: crate::time::realtime_offset_ns() }.to_bytes()
}

fn pages() -> Result<Arc<MemObject>, Errno> {
    if let Some(pages) = PAGES.get() {
        return Ok(pages.clone());
    }
    let pages = MemObject::anonymous(2 * PAGE);
    pages.write(0, &mut UserReader::kernel(&data()))?;
    pages.write(PAGE, &mut UserReader::kernel(hal::vdso::image()))?;
    if let Some(code) = pages.present(1) {
        code.sync_instruction_cache();
    }
    let pages = PAGES.call_once(|| pages).clone();
    // The clock may have been set since the data was read.
    clock_was_set();
    Ok(pages)
}

/// CLOCK_REALTIME was set: programs see it at once.
pub(crate) fn clock_was_set() {
    if let Some(frame) = PAGES.get().and_then(|pages| pages.present(0)) {
        frame.write(0, &data());
    }
}

/// Maps the vDSO and answers its address for AT_SYSINFO_EHDR.
pub fn map(space: &AddressSpace) -> Result<u64, Errno> {
    let pages = pages()?;
    let start = space.map_special(0, 2 * PAGE, Prot::READ, "[vvar]", Some((pages.clone(), 0)))?;
    let code = Source {
        object: Some((pages, PAGE)),
        file: None,
        name: Some("[vdso]"),
        may: AreaFlags::MAY_READ | AreaFlags::MAY_EXEC,
    };
    space.map_source(start + PAGE, PAGE, Prot::READ | Prot::EXEC, MapFlags::SHARED | MapFlags::FIXED, code)
}

/// Where `__kernel_rt_sigreturn` is from the vDSO's address.
pub fn sigreturn_offset() -> u64 {
    hal::vdso::sigreturn_offset() as u64
}
