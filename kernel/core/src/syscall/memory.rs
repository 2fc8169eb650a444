//! The system calls of the mmap family: decoding, the checks that concern descriptors, and the answer.

use crate::mm::advise::{Advice, LockScope, SyncFlags};
use crate::mm::area::{AreaFlags, MappedFile};
use crate::mm::map::{Source, may_lock};
use crate::mm::object::seals;
use crate::mm::remap::RemapFlags;
use crate::mm::space::{MapFlags, Prot};
use crate::prelude::*;
use base::addr::{USER_END, page_up};
use core::ops::Range;

const PAGE: u64 = PAGE_SIZE as u64;
/// personality(2) bit: readable mappings are executable too.
const READ_IMPLIES_EXEC: u32 = 0x040_0000;

/// brk(2).
pub fn sys_brk(addr: UserAddr) -> SysResult {
    Ok(current().address_space().brk(addr.untagged().0) as usize)
}

/// munmap(2).
pub fn sys_munmap(addr: UserAddr, len: usize) -> SysResult {
    let start = addr.untagged().0;
    let end = start.checked_add(len as u64).ok_or(Errno::EINVAL)?;
    current().address_space().unmap(start..end).map(|()| 0)
}

/// mmap(2).
pub fn sys_mmap(addr: UserAddr, len: usize, prot: u32, flags: u32, fd: i32, offset: u64) -> SysResult {
    if !offset.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let kind = flags & 0xf;
    let map_flags = MapFlags::from_bits_truncate(flags);
    let mut prot = Prot::from_bits_truncate(prot);
    let anonymous = map_flags.contains(MapFlags::ANONYMOUS);
    let file = if anonymous { None } else { Some(crate::vfs::table::file(fd)?) };
    if map_flags.contains(MapFlags::HUGETLB) {
        // There is no pool of huge pages, so there is never one free.
        return Err(if anonymous { Errno::ENOMEM } else { Errno::EINVAL });
    }
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    // (What may never be executed is not made so by a personality.)
    if prot.contains(Prot::READ)
        && current().personality.load(core::sync::atomic::Ordering::Relaxed) & READ_IMPLIES_EXEC != 0
        && !file.as_ref().and_then(|file| file.path.as_ref()).is_some_and(|path| path.is_noexec())
    {
        prot |= Prot::EXEC;
    }
    let rounded = page_up(len as u64).ok_or(Errno::ENOMEM)?;
    offset.checked_add(rounded).ok_or(Errno::EOVERFLOW)?;
    let mut addr = addr.0;
    if map_flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE) {
        if addr > USER_END || rounded > USER_END - addr {
            return Err(Errno::ENOMEM);
        }
        if !addr.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
    } else {
        addr = UserAddr(addr).untagged().0;
        if rounded > USER_END {
            return Err(Errno::ENOMEM);
        }
    }
    if map_flags.contains(MapFlags::LOCKED) {
        may_lock()?;
    }
    let mut may = AreaFlags::MAY_ALL;
    let mut object = None;
    match (&file, kind) {
        (None, 1) if map_flags.contains(MapFlags::GROWSDOWN) => return Err(Errno::EINVAL),
        (None, 1 | 2) => {}
        (Some(file), 1..=3) => {
            if kind == 3 && flags & !KNOWN_FLAGS != 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            if kind != 2 {
                if prot.contains(Prot::WRITE) && !file.is_writable() {
                    return Err(Errno::EACCES);
                }
                if !file.is_writable() {
                    may.remove(AreaFlags::MAY_WRITE);
                }
            }
            if !file.is_readable() {
                return Err(Errno::EACCES);
            }
            if file.path.as_ref().is_some_and(|path| path.is_noexec()) {
                if prot.contains(Prot::EXEC) {
                    return Err(Errno::EPERM);
                }
                may.remove(AreaFlags::MAY_EXEC);
            }
            let pages = file.ops.mem_object(file)?;
            if map_flags.contains(MapFlags::GROWSDOWN) {
                return Err(Errno::EINVAL);
            }
            if kind != 2 {
                seals::check_mapping(&pages, prot.contains(Prot::WRITE), &mut may)?;
            }
            object = Some((pages, offset));
        }
        _ => return Err(Errno::EINVAL),
    }
    let file = file.map(|file| file as Arc<dyn MappedFile>);
    let source = Source { object, file, name: None, may };
    let flags = if kind == 3 { map_flags | MapFlags::SHARED } else { map_flags };
    let flags = if kind == 2 { flags.difference(MapFlags::SHARED) } else { flags.difference(MapFlags::PRIVATE) };
    current().address_space().map_source(addr, len as u64, prot, flags, source).map(|addr| addr as usize)
}

/// What MAP_SHARED_VALIDATE knows (the huge-page size bits included).
const KNOWN_FLAGS: u32 = 0x7c00_0000
    | MapFlags::SHARED_VALIDATE.bits()
    | MapFlags::FIXED.bits()
    | MapFlags::ANONYMOUS.bits()
    | MapFlags::GROWSDOWN.bits()
    | MapFlags::DENYWRITE.bits()
    | MapFlags::EXECUTABLE.bits()
    | MapFlags::LOCKED.bits()
    | MapFlags::NORESERVE.bits()
    | MapFlags::POPULATE.bits()
    | MapFlags::NONBLOCK.bits()
    | MapFlags::STACK.bits()
    | MapFlags::HUGETLB.bits()
    | MapFlags::FIXED_NOREPLACE.bits();

/// mprotect(2).
pub fn sys_mprotect(addr: UserAddr, len: usize, prot: u32) -> SysResult {
    const PROT_SEM: u32 = 8;
    const PROT_GROWSDOWN: u32 = 0x0100_0000;
    const PROT_GROWSUP: u32 = 0x0200_0000;
    let start = addr.untagged().0;
    let grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
    let prot = prot & !(PROT_GROWSDOWN | PROT_GROWSUP);
    if grows == PROT_GROWSDOWN | PROT_GROWSUP || !start.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let end =
        page_up(len as u64).and_then(|len| start.checked_add(len)).filter(|end| *end > start).ok_or(Errno::ENOMEM)?;
    if prot & !(Prot::all().bits() | PROT_SEM) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut prot = Prot::from_bits_truncate(prot);
    if prot.contains(Prot::READ)
        && current().personality.load(core::sync::atomic::Ordering::Relaxed) & READ_IMPLIES_EXEC != 0
    {
        prot |= Prot::EXEC;
    }
    let space = current().address_space();
    let mut start = start;
    if grows != 0 {
        let inner = space.lock();
        let area = inner.map.get(start).ok_or(Errno::ENOMEM)?;
        if grows == PROT_GROWSUP || !area.data.is_stack() {
            return Err(Errno::EINVAL);
        }
        start = area.start;
    }
    if end > USER_END {
        return Err(Errno::ENOMEM);
    }
    space.protect(start..end, prot).map(|()| 0)
}

/// mremap(2).
pub fn sys_mremap(old: UserAddr, old_len: usize, new_len: usize, flags: u32, new: UserAddr) -> SysResult {
    let flags = RemapFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    let space = current().address_space();
    space.remap(old.untagged().0, old_len as u64, new_len as u64, flags, new.0).map(|addr| addr as usize)
}

const MFD_CLOEXEC: u32 = 1;
const MFD_ALLOW_SEALING: u32 = 2;
const MFD_HUGETLB: u32 = 4;
/// "memfd:" and the name are at most NAME_MAX bytes.
const NAME_MAX: usize = 255 - 6;

/// memfd_create(2): EINVAL (flags, name too long), EFAULT, EMFILE.
pub fn sys_memfd_create(name: UserAddr, flags: u32) -> SysResult {
    if flags & !(MFD_CLOEXEC | MFD_ALLOW_SEALING) != 0 {
        // MFD_HUGETLB: there is no pool of huge pages.
        return Err(if flags & MFD_HUGETLB != 0 { Errno::ENOSYS } else { Errno::EINVAL });
    }
    let name = crate::user::read_cstring(name, NAME_MAX, Errno::EINVAL)?;
    let file = crate::file::memfd::create(name, flags & MFD_ALLOW_SEALING != 0);
    crate::vfs::table::install(file, flags & MFD_CLOEXEC != 0)
}

/// membarrier(2): EINVAL, EPERM (not registered).
pub fn sys_membarrier(cmd: i32, flags: u32, _cpu: i32) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    crate::mm::membarrier::command(u32::try_from(cmd).map_err(|_| Errno::EINVAL)?)
}

/// The pages that `addr` and `len` touch: EINVAL when they wrap around.
fn lock_range(addr: UserAddr, len: usize) -> Result<Range<u64>, Errno> {
    let addr = addr.untagged().0;
    let start = base::addr::page_down(addr);
    let len = page_up((len as u64).checked_add(addr - start).ok_or(Errno::EINVAL)?).ok_or(Errno::EINVAL)?;
    Ok(start..start.checked_add(len).ok_or(Errno::EINVAL)?)
}

/// madvise(2): EINVAL, ENOMEM (a hole; what is mapped was advised), EACCES, EFAULT.
pub fn sys_madvise(addr: UserAddr, len: usize, advice: i32) -> SysResult {
    let advice = Advice::from_raw(advice)?;
    let start = addr.untagged().0;
    if !start.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let end = page_up(len as u64).and_then(|len| start.checked_add(len)).ok_or(Errno::EINVAL)?;
    if start == end {
        return Ok(0);
    }
    current().address_space().advise(start..end, advice).map(|()| 0)
}

/// mlock(2): EPERM, ENOMEM (limit, hole), EAGAIN, EINVAL.
pub fn sys_mlock(addr: UserAddr, len: usize) -> SysResult {
    lock(addr, len, AreaFlags::LOCKED)
}

fn lock(addr: UserAddr, len: usize, flags: AreaFlags) -> SysResult {
    may_lock()?;
    current().address_space().lock_range(lock_range(addr, len)?, flags).map(|()| 0)
}

/// mlock2(2).
pub fn sys_mlock2(addr: UserAddr, len: usize, flags: u32) -> SysResult {
    const MLOCK_ONFAULT: u32 = 1;
    match flags {
        0 => lock(addr, len, AreaFlags::LOCKED),
        MLOCK_ONFAULT => lock(addr, len, AreaFlags::LOCKED | AreaFlags::LOCK_ON_FAULT),
        _ => Err(Errno::EINVAL),
    }
}

/// munlock(2): ENOMEM (hole), EINVAL.
pub fn sys_munlock(addr: UserAddr, len: usize) -> SysResult {
    current().address_space().unlock_range(lock_range(addr, len)?).map(|()| 0)
}

/// mlockall(2): EINVAL, EPERM, ENOMEM.
pub fn sys_mlockall(flags: u32) -> SysResult {
    let scope = LockScope::from_bits(flags).ok_or(Errno::EINVAL)?;
    if scope.difference(LockScope::ON_FAULT).is_empty() {
        return Err(Errno::EINVAL);
    }
    current().address_space().lock_everything(scope).map(|()| 0)
}

/// munlockall(2).
pub fn sys_munlockall() -> SysResult {
    current().address_space().unlock_everything();
    Ok(0)
}

/// msync(2): EINVAL, EBUSY (locked, MS_INVALIDATE), ENOMEM (hole; the rest was written), EIO.
pub fn sys_msync(addr: UserAddr, len: usize, flags: u32) -> SysResult {
    let start = addr.untagged().0;
    let flags = SyncFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    if !start.is_multiple_of(PAGE) || flags.contains(SyncFlags::ASYNC | SyncFlags::SYNC) {
        return Err(Errno::EINVAL);
    }
    let end = page_up(len as u64).and_then(|len| start.checked_add(len)).ok_or(Errno::ENOMEM)?;
    if start == end { Ok(0) } else { current().address_space().sync(start..end, flags).map(|()| 0) }
}

/// mincore(2): EINVAL, ENOMEM (hole), EFAULT.
pub fn sys_mincore(addr: UserAddr, len: usize, vec: UserAddr) -> SysResult {
    let start = addr.untagged().0;
    if !start.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    if !UserAddr(start).range_ok(len) {
        return Err(Errno::ENOMEM);
    }
    let pages = (len as u64).div_ceil(PAGE);
    let vec = vec.untagged();
    if !vec.range_ok(pages as usize) {
        return Err(Errno::EFAULT);
    }
    let space = current().address_space();
    let mut done = 0;
    while done < pages {
        let mut chunk = [0u8; 512];
        let n = (pages - done).min(chunk.len() as u64);
        let bytes = chunk.get_mut(..n as usize).ok_or(Errno::EFAULT)?;
        space.mark_resident(start + done * PAGE, bytes)?;
        UserPtr::<u8>::new(UserAddr(vec.0 + done)).write_slice(bytes)?;
        done += n;
    }
    Ok(0)
}
