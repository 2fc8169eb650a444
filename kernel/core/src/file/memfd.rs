//! memfd_create(2): sealed files without a name; the seals are the [`MemObject`]'s.

use crate::mm::object::MemObject;
use crate::mm::object::seals::{ALL_SEALS, F_SEAL_SEAL, F_SEAL_WRITE};
use crate::prelude::*;
use crate::vfs::ops::{Advance, SeekFrom};
use crate::vfs::{Attributes, FileOps, OpenFile, OpenFlags};
use crate::vfs::{FileType, Stat};
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

fn sealable(file: &OpenFile) -> Result<Arc<MemObject>, Errno> {
    let object = file.ops.mem_object(file).map_err(|_| Errno::EINVAL)?;
    if object.seals().is_none() { Err(Errno::EINVAL) } else { Ok(object) }
}

/// fcntl(F_ADD_SEALS): EINVAL (no memfd, unknown seal), EPERM (sealed, not writable), EBUSY (mapped writable).
pub fn add_seals(file: &OpenFile, new: u32) -> SysResult {
    if !file.is_writable() {
        return Err(Errno::EPERM);
    }
    if new & !ALL_SEALS != 0 {
        return Err(Errno::EINVAL);
    }
    let object = sealable(file)?;
    let seals = object.seals().unwrap_or(0);
    if seals & F_SEAL_SEAL != 0 {
        return Err(Errno::EPERM);
    }
    if new & F_SEAL_WRITE != 0 && seals & F_SEAL_WRITE == 0 {
        object.mappings.deny_writable()?;
    }
    object.add_seals(new);
    Ok(0)
}

/// fcntl(F_GET_SEALS): EINVAL when the file takes no seals.
pub fn get_seals(file: &OpenFile) -> SysResult {
    Ok(sealable(file)?.seals().unwrap_or(0) as usize)
}

/// The file behind a memfd.
pub struct MemFd {
    object: Arc<MemObject>,
    name: Vec<u8>,
    ino: u64,
    attributes: Attributes,
    /// Serialises writes, as an inode's lock does.
    write_lock: Mutex<()>,
}

static NEXT_INO: AtomicU64 = AtomicU64::new(1);

impl FileOps for MemFd {
    fn read(&self, _file: &OpenFile, offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        self.object.read(offset, dst)
    }
    fn write(&self, file: &OpenFile, offset: u64, src: &mut UserReader<'_>) -> SysResult {
        let _order = self.write_lock.lock();
        let offset = if file.flags().contains(OpenFlags::APPEND) { self.object.len() } else { offset };
        let moved = self.object.write(offset, src)?;
        file.append_position.store(offset + moved as u64, Ordering::Relaxed);
        self.attributes.touch_modified();
        Ok(moved)
    }
    fn advance(&self) -> Advance {
        Advance::Position
    }
    fn seek(&self, _file: &OpenFile, current: u64, from: SeekFrom) -> Result<u64, Errno> {
        let add = |base: u64, delta: i64| {
            base.checked_add_signed(delta).filter(|at| *at <= i64::MAX as u64).ok_or(Errno::EINVAL)
        };
        match from {
            SeekFrom::Start(at) => add(at, 0),
            SeekFrom::Current(delta) => add(current, delta),
            SeekFrom::End(delta) => add(self.object.len(), delta),
            SeekFrom::Data(at) => self.object.seek(at, false),
            SeekFrom::Hole(at) => self.object.seek(at, true),
        }
    }
    fn mem_object(&self, _file: &OpenFile) -> Result<Arc<MemObject>, Errno> {
        Ok(self.object.clone())
    }
    fn fsync(&self, _file: &OpenFile, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }
    fn truncate(&self, _file: &OpenFile, len: u64) -> Result<(), Errno> {
        let _order = self.write_lock.lock();
        self.object.truncate(len)?;
        self.attributes.touch_modified();
        Ok(())
    }
    fn fallocate(&self, _file: &OpenFile, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        let _order = self.write_lock.lock();
        self.object.fallocate(mode, offset, len)?;
        self.attributes.touch_modified();
        Ok(())
    }
    fn anonymous_name(&self) -> Option<String> {
        Some(alloc::format!("/memfd:{} (deleted)", String::from_utf8_lossy(&self.name)))
    }
    fn stat(&self, _file: &OpenFile) -> Option<Stat> {
        Some(self.attributes.complete(Stat {
            dev: 1,
            ino: self.ino,
            mode: FileType::Regular.mode_bits(),
            size: self.object.len(),
            block_size: PAGE_SIZE as u32,
            blocks: self.object.nr_pages() as u64 * (PAGE_SIZE as u64 / 512),
            ..Stat::default()
        }))
    }
    fn attributes(&self) -> Option<&Attributes> {
        Some(&self.attributes)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// memfd_create(2): a file called `name`; only one made so takes seals.
pub fn create(name: Vec<u8>, allow_sealing: bool) -> Arc<OpenFile> {
    let object = MemObject::anonymous(0);
    object.set_seals(if allow_sealing { 0 } else { F_SEAL_SEAL });
    let memfd = Arc::new(MemFd {
        object,
        name,
        ino: NEXT_INO.fetch_add(1, Ordering::Relaxed),
        attributes: Attributes::new(0o777),
        write_lock: Mutex::new(()),
    });
    memfd.attributes.give_to_caller();
    memfd.attributes.start_times();
    OpenFile::anonymous(memfd, OpenFlags::RDWR | OpenFlags::LARGEFILE)
}
