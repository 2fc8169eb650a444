//! Another process's memory: for procfs's `mem`, `cmdline` and `environ`, the ELF loader's writes, process_vm_readv(2).

use crate::mm::space::AddressSpace;
use crate::prelude::*;
use base::addr::{USER_END, page_down};
use hal::frame::Frame;
use hal::trap::Access;

const PAGE: u64 = PAGE_SIZE as u64;
/// Pages moved before others may run.
const AT_ONCE: usize = 64;

impl AddressSpace {
    /// The frame at `addr` after faulting it in as `access` would.
    fn frame_at(&self, addr: u64, access: Access) -> Option<Frame> {
        // The page may be taken away between the fault and the look; a bounded number of tries is enough for any honest program.
        for _ in 0..16 {
            self.handle_fault(addr, access).ok()?;
            if let Some((frame, flags)) = self.lock().table.get(page_down(addr))
                && (access == Access::Read || flags.write)
            {
                return Some(frame);
            }
        }
        None
    }

    /// Runs `f(frame, offset in page, done, length)` over the pages of a range; answers bytes done before the first
    /// inaccessible page or short `f`.
    pub fn for_pages(
        &self,
        addr: u64,
        len: usize,
        access: Access,
        f: &mut dyn FnMut(&Frame, usize, usize, usize) -> usize,
    ) -> usize {
        let mut done = 0;
        let mut pages = 0;
        while done < len {
            pages += 1;
            if pages % AT_ONCE == 0 {
                crate::sched::cond_resched();
                if current().is_dying() {
                    break;
                }
            }
            let Some(at) = addr.checked_add(done as u64) else { break };
            let offset = (at % PAGE) as usize;
            let n = (PAGE_SIZE - offset).min(len - done);
            let Some(frame) = self.frame_at(at, access) else { break };
            let moved = f(&frame, offset, done, n);
            done += moved;
            if moved < n {
                break;
            }
        }
        done
    }

    /// Reads another process's memory (procfs, process_vm_readv): bytes copied before the first inaccessible page.
    pub fn read_remote(&self, addr: u64, dst: &mut [u8]) -> usize {
        self.for_pages(addr, dst.len(), Access::Read, &mut |frame, offset, done, n| {
            frame.read(offset, &mut dst[done..done + n]);
            n
        })
    }

    /// The aligned word at `addr` if its page is there: never faults, changes nothing.
    pub fn peek_u32(&self, addr: u64) -> Option<u32> {
        if !addr.is_multiple_of(4) || addr >= USER_END {
            return None;
        }
        let (frame, _) = self.lock().table.get(page_down(addr))?;
        let mut bytes = [0; 4];
        frame.read((addr % PAGE) as usize, &mut bytes);
        Some(u32::from_le_bytes(bytes))
    }

    pub fn write_remote(&self, addr: u64, src: &[u8]) -> usize {
        self.for_pages(addr, src.len(), Access::Write, &mut |frame, offset, done, n| {
            frame.write(offset, &src[done..done + n]);
            n
        })
    }
}
