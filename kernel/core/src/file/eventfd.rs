//! eventfd(2): a 64-bit counter that is a file.

use super::{FileOps, OpenFile, PollEvents, PollSet, PollTable, SeekFrom};
use crate::prelude::*;
use crate::sync::WaitReason;
use core::any::Any;

/// The largest value the counter may hold.
const MAX: u64 = u64::MAX - 1;

pub struct EventFd {
    count: IrqSpinLock<u64>,
    semaphore: bool,
    readers: WaitQueue,
    writers: WaitQueue,
    poll_set: PollSet,
}

impl EventFd {
    pub fn new(count: u64, semaphore: bool) -> Arc<Self> {
        Arc::new(Self {
            count: IrqSpinLock::new(count),
            semaphore,
            readers: WaitQueue::new(),
            writers: WaitQueue::new(),
            poll_set: PollSet::new(),
        })
    }

    /// Adds `value` as far as it fits, without waiting: for completions signalled by the kernel itself. Any context.
    pub fn signal(&self, value: u64) {
        let mut count = self.count.lock();
        *count = count.saturating_add(value);
        drop(count);
        self.readers.wake_one();
        self.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
    }

    /// Takes the counter (or one of it) into `dst` and answers what is left of it; `None` when it was zero.
    fn try_read(&self, dst: &mut UserWriter<'_>) -> Result<Option<u64>, Errno> {
        loop {
            let mut count = self.count.lock();
            if *count == 0 {
                return Ok(None);
            }
            let taken = if self.semaphore { 1 } else { *count };
            if dst.write_nofault(&taken.to_ne_bytes()) == Ok(8) {
                *count -= taken;
                return Ok(Some(*count));
            }
            drop(count);
            dst.fault_in(8)?;
            if dst.remaining() < 8 {
                return Err(Errno::EFAULT);
            }
        }
    }
}

impl FileOps for EventFd {
    fn can_signal(&self) -> bool {
        false
    }
    fn seek(&self, _file: &OpenFile, _current: u64, _from: SeekFrom) -> Result<u64, Errno> {
        Ok(0)
    }
    fn read(&self, file: &OpenFile, _offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        if dst.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let left = loop {
            if let Some(left) = self.try_read(dst)? {
                break left;
            }
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            self.readers.wait_until(WaitMode::Interruptible, None, WaitReason::on("eventfd_read", file.id), || {
                (*self.count.lock() != 0).then_some(())
            })?;
        };
        if left != 0 {
            self.readers.wake_one();
        }
        self.writers.wake_one();
        self.poll_set.notify(PollEvents::OUT | PollEvents::WRNORM);
        Ok(8)
    }

    fn write(&self, file: &OpenFile, _offset: u64, src: &mut UserReader<'_>) -> SysResult {
        if src.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; 8];
        if src.read(&mut bytes)? < 8 {
            return Err(Errno::EFAULT);
        }
        let value = u64::from_ne_bytes(bytes);
        if value == u64::MAX {
            return Err(Errno::EINVAL);
        }
        let try_add = || {
            let mut count = self.count.lock();
            let sum = count.checked_add(value).filter(|&sum| sum <= MAX)?;
            *count = sum;
            Some(())
        };
        if try_add().is_none() {
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            self.writers.wait_until(
                WaitMode::Interruptible,
                None,
                WaitReason::on("eventfd_write", file.id),
                try_add,
            )?;
        }
        self.readers.wake_one();
        self.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
        Ok(8)
    }

    fn poll(&self, _file: &OpenFile, table: Option<&mut PollTable<'_>>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.poll_set);
        }
        let count = *self.count.lock();
        let mut events = PollEvents::empty();
        if count > 0 {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if count == u64::MAX {
            events |= PollEvents::ERR;
        }
        if count < MAX {
            events |= PollEvents::OUT | PollEvents::WRNORM;
        }
        events
    }

    fn anonymous_name(&self) -> Option<String> {
        Some(String::from("anon_inode:[eventfd]"))
    }

    fn fdinfo(&self, _file: &OpenFile) -> String {
        alloc::format!("eventfd-count: {:16x}\n", *self.count.lock())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
