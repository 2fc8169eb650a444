//! Another process's memory: procfs's `mem`, `cmdline` and `environ`, the ELF loader's writes, process_vm_readv and writev.

use super::space::AddressSpace;
use crate::prelude::*;
use crate::user::IoVec;
use base::addr::{USER_END, page_down};
use hal::frame::Frame;
use hal::trap::Access;

const PAGE: u64 = PAGE_SIZE as u64;
/// Pages moved before others may run.
const AT_ONCE: usize = 64;
const IOV_MAX: usize = 1024;

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
    fn for_pages(
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

fn remote_segments(iov: UserAddr, count: usize) -> Result<Vec<IoVec>, Errno> {
    if count > IOV_MAX {
        return Err(Errno::EINVAL);
    }
    let segments = UserPtr::<IoVec>::new(iov).read_vec(count)?;
    if segments.iter().any(|segment| (segment.len as i64) < 0) {
        return Err(Errno::EINVAL);
    }
    Ok(segments)
}

fn target_space(pid: i32) -> Result<Arc<AddressSpace>, Errno> {
    let process = u32::try_from(pid).ok().and_then(crate::process::find_process).ok_or(Errno::ESRCH)?;
    if !crate::process::may_inspect(&process) {
        return Err(Errno::EPERM);
    }
    process.any_thread().and_then(|task| task.mm.get()).ok_or(Errno::ESRCH)
}

/// process_vm_readv(2): EINVAL, EFAULT, ENOMEM, EPERM, ESRCH.
pub fn sys_process_vm_readv(
    pid: i32,
    liov: UserAddr,
    liovcnt: usize,
    riov: UserAddr,
    riovcnt: usize,
    flags: u64,
) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let mut local = UserWriter::from_iovec(UserPtr::new(liov), liovcnt)?;
    if local.remaining() == 0 {
        return Ok(0);
    }
    let remote = remote_segments(riov, riovcnt)?;
    let space = target_space(pid)?;
    let mut total = 0;
    for segment in &remote {
        let want = (segment.len as usize).min(local.remaining());
        let mut failed = None;
        let moved =
            space.for_pages(UserAddr(segment.base).untagged().0, want, Access::Read, &mut |frame, offset, _, n| {
                local.write_frame(frame, offset, n).unwrap_or_else(|error| {
                    failed = Some(error);
                    0
                })
            });
        total += moved;
        if moved < want {
            return if total > 0 { Ok(total) } else { Err(failed.unwrap_or(Errno::EFAULT)) };
        }
    }
    Ok(total)
}

/// process_vm_writev(2): EINVAL, EFAULT, ENOMEM, EPERM, ESRCH.
pub fn sys_process_vm_writev(
    pid: i32,
    liov: UserAddr,
    liovcnt: usize,
    riov: UserAddr,
    riovcnt: usize,
    flags: u64,
) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let mut local = UserReader::from_iovec(UserPtr::new(liov), liovcnt)?;
    if local.remaining() == 0 {
        return Ok(0);
    }
    let remote = remote_segments(riov, riovcnt)?;
    let space = target_space(pid)?;
    let mut total = 0;
    for segment in &remote {
        let want = (segment.len as usize).min(local.remaining());
        let mut failed = None;
        let moved =
            space.for_pages(UserAddr(segment.base).untagged().0, want, Access::Write, &mut |frame, offset, _, n| {
                local.read_frame(frame, offset, n).unwrap_or_else(|error| {
                    failed = Some(error);
                    0
                })
            });
        total += moved;
        if moved < want {
            return if total > 0 { Ok(total) } else { Err(failed.unwrap_or(Errno::EFAULT)) };
        }
    }
    Ok(total)
}
