//! eventfd(2): a 64-bit counter that is a file.

use crate::prelude::*;
use crate::sync::{WaitKind, WaitReason};
use crate::vfs::{FileOps, OpenFile, PollEvents, PollSet, PollTable, SeekFrom};
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

/// The largest value the counter may hold.
const MAX: u64 = u64::MAX - 1;

pub struct EventFd {
    /// Changed under `changing`; who only looks needs no lock.
    count: AtomicU64,
    changing: IrqSpinLock<()>,
    semaphore: bool,
    readers: WaitQueue,
    writers: WaitQueue,
    poll_set: PollSet,
}

impl EventFd {
    pub fn new(count: u64, semaphore: bool) -> Arc<Self> {
        Arc::new(Self {
            count: AtomicU64::new(count),
            changing: IrqSpinLock::new(()),
            semaphore,
            readers: WaitQueue::new(),
            writers: WaitQueue::new(),
            poll_set: PollSet::new(),
        })
    }

    #[inline]
    fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    #[inline]
    fn events(&self) -> PollEvents {
        let count = self.count();
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

    /// Out of line, so that a look alone is short.
    #[inline(never)]
    fn register(&self, table: &mut PollTable<'_>) -> PollEvents {
        table.register(&self.poll_set);
        self.events()
    }

    /// Adds `value` as far as it fits, without waiting: for completions signalled by the kernel itself. Any context.
    pub fn signal(&self, value: u64) {
        let changing = self.changing.lock();
        self.count.store(self.count().saturating_add(value), Ordering::Release);
        drop(changing);
        self.readers.wake_one();
        self.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
    }

    /// Takes the counter (or one of it) into `dst` and answers what is left of it; `None` when it was zero.
    fn try_read(&self, dst: &mut UserWriter<'_>) -> Result<Option<u64>, Errno> {
        loop {
            let changing = self.changing.lock();
            let count = self.count();
            if count == 0 {
                return Ok(None);
            }
            let taken = if self.semaphore { 1 } else { count };
            if dst.write_nofault(&taken.to_ne_bytes()) == Ok(8) {
                self.count.store(count - taken, Ordering::Release);
                return Ok(Some(count - taken));
            }
            drop(changing);
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
            self.readers.wait_until(
                WaitMode::Interruptible,
                None,
                WaitReason::on(WaitKind::EventfdRead, file.id),
                || (self.count() != 0).then_some(()),
            )?;
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
            let _changing = self.changing.lock();
            let sum = self.count().checked_add(value).filter(|&sum| sum <= MAX)?;
            self.count.store(sum, Ordering::Release);
            Some(())
        };
        if try_add().is_none() {
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            self.writers.wait_until(
                WaitMode::Interruptible,
                None,
                WaitReason::on(WaitKind::EventfdWrite, file.id),
                try_add,
            )?;
        }
        self.readers.wake_one();
        self.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
        Ok(8)
    }

    fn poll(&self, _file: &OpenFile, table: Option<&mut PollTable<'_>>) -> PollEvents {
        match table {
            None => self.events(),
            Some(table) => self.register(table),
        }
    }
    fn look(&self) -> Option<PollEvents> {
        Some(self.events())
    }

    fn anonymous_name(&self) -> Option<String> {
        Some(String::from("anon_inode:[eventfd]"))
    }

    fn fdinfo(&self, _file: &OpenFile) -> String {
        alloc::format!("eventfd-count: {:16x}\n", self.count())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
