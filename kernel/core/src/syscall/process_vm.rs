//! process_vm_readv(2) and process_vm_writev(2).

use crate::mm::AddressSpace;
use crate::prelude::*;
use crate::user::IoVec;
use hal::trap::Access;

const IOV_MAX: usize = 1024;

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
    let process = u32::try_from(pid).ok().and_then(crate::task::find_process).ok_or(Errno::ESRCH)?;
    crate::process::space_to_inspect(&*process.any_thread().ok_or(Errno::ESRCH)?)
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
