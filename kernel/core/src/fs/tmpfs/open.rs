//! Open files and directories.

use super::node::{Body, TmpInode};
use crate::mm::MemObject;
use crate::prelude::*;
use crate::vfs::notify;
use crate::vfs::notify::Event;
use crate::vfs::{Advance, FileOps, OpenFile, OpenFlags, PollEvents, PollTable, SeekFrom};
use crate::vfs::{FileType, Inode, attributes};
use core::any::Any;
use core::sync::atomic::Ordering;

impl FileOps for TmpInode {
    fn read(&self, file: &OpenFile, offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        let Body::File(object) = &self.body else { return Err(Errno::EISDIR) };
        let n = object.read(offset, dst)?;
        if let Some(path) = file.path.as_ref().filter(|_| n != 0) {
            self.accessed(file, path);
            notify::path_event(path, Event::ACCESS);
        }
        Ok(n)
    }
    fn write(&self, file: &OpenFile, offset: u64, src: &mut UserReader<'_>) -> SysResult {
        let Body::File(object) = &self.body else { return Err(Errno::EISDIR) };
        let order = self.order.lock();
        let append = file.flags().contains(OpenFlags::APPEND);
        let offset = if append { object.len() } else { offset };
        attributes::limit_write(offset, src)?;
        crate::mm::object::seals::check_write(object, offset.saturating_add(src.remaining() as u64))?;
        let done = object.write(offset, src)?;
        self.wrote();
        if append {
            file.append_position.store(offset + done as u64, Ordering::Relaxed);
        }
        drop(order);
        if let Some(path) = &file.path {
            notify::path_event(path, Event::MODIFY);
        }
        Ok(done)
    }
    fn advance(&self) -> Advance {
        Advance::Position
    }
    fn seek(&self, _file: &OpenFile, current: u64, from: SeekFrom) -> Result<u64, Errno> {
        let (len, object) = match &self.body {
            Body::File(object) => (object.len(), Some(object)),
            _ => (i64::MAX as u64, None),
        };
        let to = match from {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::Current(by) => current.checked_add_signed(by),
            SeekFrom::End(by) => len.checked_add_signed(by),
            SeekFrom::Data(at) => return object.ok_or(Errno::EINVAL)?.seek(at, false),
            SeekFrom::Hole(at) => return object.ok_or(Errno::EINVAL)?.seek(at, true),
        };
        to.filter(|to| *to <= i64::MAX as u64).ok_or(Errno::EINVAL)
    }
    fn poll(&self, _file: &OpenFile, _table: Option<&mut PollTable<'_>>) -> PollEvents {
        PollEvents::IN | PollEvents::OUT | PollEvents::RDNORM | PollEvents::WRNORM
    }
    fn mem_object(&self, _file: &OpenFile) -> Result<Arc<MemObject>, Errno> {
        self.object().cloned().ok_or(Errno::ENODEV)
    }
    fn read_dir(
        &self,
        _file: &OpenFile,
        offset: u64,
        emit: &mut dyn FnMut(&[u8], u64, u8, u64) -> bool,
    ) -> Result<(), Errno> {
        let directory = self.directory()?;
        // Cookies 0 and 1 are "." and ".."; an entry's own number + 1 is the position after it.
        let parent = directory.lock().parent.max(1);
        if offset == 0 && !emit(b".", self.ino, FileType::Directory as u8, 1) {
            return Ok(());
        }
        if offset <= 1 && !emit(b"..", parent, FileType::Directory as u8, 2) {
            return Ok(());
        }
        // A snapshot in pieces: `emit` copies to user memory, which may not happen under the lock.
        let mut next = offset.max(2) - 1;
        loop {
            let batch: Vec<(u64, Box<[u8]>, u64, u8)> = {
                let directory = directory.lock();
                let entries = directory.by_cookie.range(next..).take(32);
                entries
                    .filter_map(|(cookie, name)| {
                        let (_, inode) = directory.by_name.get(name)?;
                        Some((*cookie, name.clone(), inode.ino, inode.file_type() as u8))
                    })
                    .collect()
            };
            if batch.is_empty() {
                return Ok(());
            }
            for (cookie, name, ino, file_type) in batch {
                if !emit(&name, ino, file_type, cookie + 2) {
                    return Ok(());
                }
                next = cookie + 1;
            }
        }
    }
    fn fsync(&self, _file: &OpenFile, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }
    fn truncate(&self, _file: &OpenFile, len: u64) -> Result<(), Errno> {
        let object = self.object().ok_or(Errno::EINVAL)?;
        let _order = self.order.lock();
        crate::mm::object::seals::check_resize(object, len)?;
        object.truncate(len)?;
        self.wrote();
        Ok(())
    }
    fn fallocate(&self, _file: &OpenFile, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        let _order = self.order.lock();
        self.object().ok_or(Errno::ENODEV)?.fallocate(mode, offset, len)?;
        self.wrote();
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
