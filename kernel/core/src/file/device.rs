//! Character devices: which object stands behind a device number; null, zero, full, random.

use super::hwrng::HardwareRandom;
use super::tty;
use crate::mm::MemObject;
use crate::prelude::*;
use crate::random;
use crate::task::credentials::cap;
use crate::vfs::{Advance, FileOps, OpenFile, OpenFlags, PollEvents, PollTable, SeekFrom};
use base::device::{major, makedev, minor};
use core::any::Any;

/// The devices devfs offers at start-up: name below /dev, device number, permission bits.
pub const NODES: &[(&str, u64, u32)] = &[
    ("null", makedev(1, 3), 0o666),
    ("zero", makedev(1, 5), 0o666),
    ("full", makedev(1, 7), 0o666),
    ("random", makedev(1, 8), 0o666),
    ("urandom", makedev(1, 9), 0o666),
    ("kmsg", makedev(1, 11), 0o644),
    ("hwrng", DEV_HWRNG, 0o600),
    ("tty", tty::DEV_TTY, 0o666),
    ("console", tty::DEV_CONSOLE, 0o600),
    ("ptmx", tty::DEV_PTMX, 0o666),
    ("ttyAMA0", tty::DEV_SERIAL, 0o620),
];

/// /dev/hwrng, of the miscellaneous devices.
const DEV_HWRNG: u64 = makedev(10, 183);

/// Opens the character device `rdev` as the calling thread. ENXIO for a device that does not exist. devfs and mknod(2) nodes
/// call this from `Inode::open`.
pub fn open_char(rdev: u64, flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
    let memory = |kind| -> Result<Arc<dyn FileOps>, Errno> { Ok(memory_device(kind)) };
    match (major(rdev), minor(rdev)) {
        (1, 3) => memory(Memory::Null),
        (1, 5) => memory(Memory::Zero),
        (1, 7) => memory(Memory::Full),
        (1, 8 | 9) => memory(Memory::Random),
        (1, 11) => Err(Errno::ENXIO),
        _ if rdev == DEV_HWRNG => Ok(Arc::new(HardwareRandom)),
        _ => tty::open_device(rdev, flags),
    }
}

/// The devices of major 1 that have no state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Memory {
    Null,
    Zero,
    Full,
    Random,
}

struct MemoryDevice(Memory);

/// One object of each kind for all opens.
fn memory_device(kind: Memory) -> Arc<MemoryDevice> {
    static OBJECTS: spin::Once<[Arc<MemoryDevice>; 4]> = spin::Once::new();
    let objects = OBJECTS.call_once(|| {
        [Memory::Null, Memory::Zero, Memory::Full, Memory::Random].map(|kind| Arc::new(MemoryDevice(kind)))
    });
    objects[kind as usize].clone()
}

const RNDGETENTCNT: u32 = 0x8004_5200;
const RNDADDTOENTCNT: u32 = 0x4004_5201;
const RNDADDENTROPY: u32 = 0x4008_5203;
const RNDZAPENTCNT: u32 = 0x5204;
const RNDCLEARPOOL: u32 = 0x5206;
const RNDRESEEDCRNG: u32 = 0x5207;
/// What the generator says it holds, in bits: it is always seeded.
const POOL_BITS: i32 = 256;

impl FileOps for MemoryDevice {
    #[inline]
    fn read(&self, _file: &OpenFile, _offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        match self.0 {
            Memory::Null => Ok(0),
            Memory::Zero | Memory::Full => zeros(dst),
            Memory::Random => random_bytes(dst),
        }
    }
    fn write(&self, _file: &OpenFile, _offset: u64, src: &mut UserReader<'_>) -> SysResult {
        match self.0 {
            Memory::Null | Memory::Zero => Ok(src.remaining()),
            Memory::Full => Err(Errno::ENOSPC),
            Memory::Random => {
                let mut chunk = [0; 64];
                let mut done = 0;
                while src.remaining() != 0 {
                    let len = src.remaining().min(chunk.len());
                    match src.read(&mut chunk[..len]) {
                        Ok(n) => {
                            random::mix(&chunk[..n]);
                            done += n;
                        }
                        Err(error) if done == 0 => return Err(error),
                        Err(_) => break,
                    }
                }
                Ok(done)
            }
        }
    }
    fn advance(&self) -> Advance {
        Advance::Ignored
    }
    fn seek(&self, _file: &OpenFile, current: u64, from: SeekFrom) -> Result<u64, Errno> {
        match (self.0, from) {
            // Random devices accept a seek without effect; the others stay at 0.
            (Memory::Random, _) => Ok(current),
            _ => Ok(0),
        }
    }
    fn poll(&self, _file: &OpenFile, _table: Option<&mut PollTable<'_>>) -> PollEvents {
        PollEvents::IN | PollEvents::OUT | PollEvents::RDNORM | PollEvents::WRNORM
    }
    fn ioctl(&self, _file: &OpenFile, command: u32, argument: u64) -> SysResult {
        if self.0 != Memory::Random {
            return Err(Errno::ENOTTY);
        }
        let argument = UserAddr(argument);
        let privileged = || if current().creds().has_cap(cap::SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) };
        match command {
            RNDGETENTCNT => UserPtr::new(argument).write(&POOL_BITS)?,
            RNDADDTOENTCNT => {
                privileged()?;
                if UserPtr::<i32>::new(argument).read()? < 0 {
                    return Err(Errno::EINVAL);
                }
            }
            RNDADDENTROPY => {
                privileged()?;
                let [bits, len] = UserPtr::<[i32; 2]>::new(argument).read()?;
                let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
                if bits < 0 {
                    return Err(Errno::EINVAL);
                }
                let mut src = UserReader::new(argument.checked_add(8).ok_or(Errno::EFAULT)?, len)?;
                let mut chunk = [0; 64];
                while src.remaining() != 0 {
                    let len = src.remaining().min(chunk.len());
                    let n = src.read(&mut chunk[..len])?;
                    random::mix(&chunk[..n]);
                }
            }
            RNDZAPENTCNT | RNDCLEARPOOL | RNDRESEEDCRNG => privileged()?,
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }
    fn mem_object(&self, _file: &OpenFile) -> Result<Arc<MemObject>, Errno> {
        match self.0 {
            Memory::Zero => Ok(MemObject::anonymous(i64::MAX as u64 & !(PAGE_SIZE as u64 - 1))),
            _ => Err(Errno::ENODEV),
        }
    }
    fn fsync(&self, _file: &OpenFile, _data_only: bool) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Fills the buffer with zeroes, a page at a time, until a signal comes.
fn zeros(dst: &mut UserWriter<'_>) -> SysResult {
    let mut done = 0;
    while dst.remaining() != 0 {
        match dst.write_zeros(dst.remaining().min(16 * PAGE_SIZE)) {
            Ok(n) => done += n,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        if current().has_signal() {
            break;
        }
        crate::sched::cond_resched();
    }
    Ok(done)
}

fn random_bytes(dst: &mut UserWriter<'_>) -> SysResult {
    let mut chunk = [0u8; 256];
    let mut done = 0;
    while dst.remaining() != 0 {
        let len = dst.remaining().min(chunk.len());
        random::fill(&mut chunk[..len]);
        match dst.write(&chunk[..len]) {
            Ok(n) => done += n,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        if done % PAGE_SIZE == 0 {
            if current().has_signal() {
                break;
            }
            crate::sched::cond_resched();
        }
    }
    chunk.fill(0);
    Ok(done)
}
