//! signalfd(2): signals as a file to read.

use crate::prelude::*;
use crate::process::signal::deliver::take;
use crate::sync::{Park, WaitKind, WaitReason};
use crate::task::siginfo::SigInfo;
use crate::vfs::{FileOps, OpenFile, OpenFlags, PollEvents, PollTable, SeekFrom};
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

struct SignalFile {
    set: AtomicU64,
}

const RECORD_BYTES: usize = 128;

/// `struct signalfd_siginfo`.
fn record(info: &SigInfo) -> [u8; RECORD_BYTES] {
    let mut out = [0u8; RECORD_BYTES];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &(info.signo as u32).to_le_bytes());
    put(4, &info.errno.to_le_bytes());
    put(8, &info.code.to_le_bytes());
    let [first, second, third, fourth, ..] = info.fields;
    let (low, high) = (first as u32, (first >> 32) as u32);
    match info.code {
        // SI_TIMER: timer id, overrun, value.
        -2 => {
            put(24, &low.to_le_bytes());
            put(32, &high.to_le_bytes());
            put(44, &(second as u32).to_le_bytes());
            put(48, &second.to_le_bytes());
        }
        code if code > 0 && code < 0x80 && matches!(info.signo, 4 | 5 | 7 | 8 | 11) => put(72, &first.to_le_bytes()),
        code if code > 0 && code < 0x80 && info.signo == 29 => {
            put(28, &(first as u32).to_le_bytes());
            put(20, &(second as u32).to_le_bytes());
        }
        _ => {
            put(12, &low.to_le_bytes());
            put(16, &high.to_le_bytes());
            if info.signo == 17 {
                put(40, &(second as u32).to_le_bytes());
                put(56, &third.to_le_bytes());
                put(64, &fourth.to_le_bytes());
            } else {
                put(44, &(second as u32).to_le_bytes());
                put(48, &second.to_le_bytes());
            }
        }
    }
    out
}

impl FileOps for SignalFile {
    fn can_signal(&self) -> bool {
        false
    }
    fn seek(&self, _file: &OpenFile, _current: u64, _from: SeekFrom) -> Result<u64, Errno> {
        Ok(0)
    }
    fn read(&self, file: &OpenFile, _offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        if dst.remaining() < RECORD_BYTES {
            return Err(Errno::EINVAL);
        }
        let set = self.set.load(Ordering::Relaxed);
        let task = current();
        let first = match take(set) {
            Some(info) => info,
            None if file.is_nonblocking() => return Err(Errno::EAGAIN),
            None => {
                task.signal.wait_set.store(set, Ordering::Release);
                let result = Park::park_until(
                    WaitMode::Interruptible,
                    None,
                    WaitReason::on(WaitKind::Signalfd, file.id),
                    || take(set),
                );
                task.signal.wait_set.store(0, Ordering::Release);
                result?
            }
        };
        let mut done = dst.write(&record(&first))?;
        while dst.remaining() >= RECORD_BYTES {
            let Some(info) = take(set) else { break };
            done += dst.write(&record(&info))?;
        }
        crate::process::signal::state::refresh(task);
        Ok(done)
    }
    fn poll(&self, _file: &OpenFile, table: Option<&mut PollTable<'_>>) -> PollEvents {
        let task = current();
        if let Some(table) = table {
            table.register(&task.process.signal.poll);
        }
        let pending = task.signal.pending.set() | task.process.signal.pending.set();
        if pending & self.set.load(Ordering::Relaxed) != 0 {
            PollEvents::IN | PollEvents::RDNORM
        } else {
            PollEvents::empty()
        }
    }
    fn anonymous_name(&self) -> Option<String> {
        Some(String::from("anon_inode:[signalfd]"))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// signalfd(2): a file that reads the signals of `set`.
pub fn create(set: u64, nonblocking: bool) -> Arc<OpenFile> {
    let mut flags = OpenFlags::RDWR;
    flags.set(OpenFlags::NONBLOCK, nonblocking);
    OpenFile::anonymous(Arc::new(SignalFile { set: AtomicU64::new(set) }), flags)
}

/// Another set for a signalfd that is there: EINVAL for another kind of file.
pub fn change(file: &OpenFile, set: u64) -> Result<(), Errno> {
    file.downcast::<SignalFile>().ok_or(Errno::EINVAL)?.set.store(set, Ordering::Relaxed);
    current().process.signal.poll.notify(PollEvents::IN);
    Ok(())
}
