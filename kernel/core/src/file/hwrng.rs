//! /dev/hwrng: the first hardware random number generator, as it is.

use crate::machine::entropy;
use crate::prelude::*;
use crate::sync::{Park, WaitKind, WaitReason};
use crate::vfs::{Advance, FileOps, OpenFile, PollEvents, PollTable, SeekFrom};
use core::any::Any;
use core::convert::Infallible;

/// How long a generator without a byte is left alone.
const PAUSE_NS: u64 = 1_000_000;

pub struct HardwareRandom;

impl FileOps for HardwareRandom {
    /// ENODEV without a generator, EAGAIN when it has no byte now and nobody wants to wait.
    fn read(&self, file: &OpenFile, _offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        let mut chunk = [0; 64];
        let mut done = 0;
        let or_what_was_read = |done, error| if done == 0 { Err(error) } else { Ok(done) };
        while dst.remaining() != 0 {
            let len = dst.remaining().min(chunk.len());
            let Some(count) = entropy::read(&mut chunk[..len]) else { return or_what_was_read(done, Errno::ENODEV) };
            match dst.write(&chunk[..count]) {
                Ok(written) => done += written,
                Err(error) => return or_what_was_read(done, error),
            }
            if count == 0 && file.is_nonblocking() {
                return or_what_was_read(done, Errno::EAGAIN);
            }
            if count == 0 {
                let deadline = crate::time::now_ns() + PAUSE_NS;
                let never = || None::<Infallible>;
                let reason = WaitReason::new(WaitKind::Hwrng);
                let _ = Park::park_until(WaitMode::Interruptible, Some(deadline), reason, never);
            }
            if current().has_signal() {
                return or_what_was_read(done, Errno::ERESTARTSYS);
            }
            crate::sched::cond_resched();
        }
        Ok(done)
    }
    fn advance(&self) -> Advance {
        Advance::Ignored
    }
    fn seek(&self, _file: &OpenFile, current: u64, _from: SeekFrom) -> Result<u64, Errno> {
        Ok(current)
    }
    fn poll(&self, _file: &OpenFile, _table: Option<&mut PollTable<'_>>) -> PollEvents {
        PollEvents::IN | PollEvents::OUT | PollEvents::RDNORM | PollEvents::WRNORM
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
