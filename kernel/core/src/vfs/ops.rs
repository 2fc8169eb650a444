//! [`FileOps`], what every file can do, and [`OpenFile`], one open file description.

use super::owner::SharedOwner;
use super::poll::Listen;
use super::poll::Registrations;
use super::poll::{PollEvents, PollTable};
use crate::file::epoll::EpollFile;
use crate::mm::MemObject;
use crate::mm::area::MappedFile;
use crate::prelude::*;
use crate::sync::MutexGuard;
use crate::vfs::Path;
use crate::vfs::notify::Event;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use spin::Once;

bitflags! {
    /// open(2) flags, arm64 values.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct OpenFlags: u32 {
        const WRONLY = 0o1;
        const RDWR = 0o2;
        /// A program's file while it runs: set by the kernel alone, see `vfs::open_exec`.
        const EXEC = 0o40;
        const CREAT = 0o100;
        const EXCL = 0o200;
        const NOCTTY = 0o400;
        const TRUNC = 0o1000;
        const APPEND = 0o2000;
        const NONBLOCK = 0o4000;
        const DSYNC = 0o10000;
        const ASYNC = 0o20000;
        const DIRECTORY = 0o40000;
        const NOFOLLOW = 0o100000;
        const DIRECT = 0o200000;
        const LARGEFILE = 0o400000;
        const NOATIME = 0o1000000;
        const CLOEXEC = 0o2000000;
        const SYNC_BIT = 0o4000000;
        const PATH = 0o10000000;
        const TMPFILE_BIT = 0o20000000;
        const _ = !0;
    }
}

impl OpenFlags {
    pub const ACCMODE: u32 = 3;
    pub fn readable(self) -> bool {
        matches!(self.bits() & Self::ACCMODE, 0 | 2)
    }
    pub fn writable(self) -> bool {
        matches!(self.bits() & Self::ACCMODE, 1 | 2)
    }
}

pub enum SeekFrom {
    Start(u64),
    Current(i64),
    End(i64),
    Data(u64),
    Hole(u64),
}

/// Whether a read or write at "the file's position" applies: streams have none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advance {
    /// A stream (pipe, socket, terminal): pread/pwrite answer ESPIPE.
    Stream,
    /// Has a position kept by [`OpenFile`].
    Position,
    /// Any position will do and none is kept (/dev/null).
    Ignored,
}

/// What a file can do. Methods take `&self`: each object locks itself as finely as it needs. Defaults answer what Linux
/// answers for an object without the operation.
///
/// Blocking calls look at `file.is_nonblocking()`: EAGAIN instead of sleeping.
pub trait FileOps: Any + Send + Sync {
    /// Reads at `offset` (meaningless for streams); 0 is end of file. The caller has checked the open mode.
    fn read(&self, _file: &OpenFile, _offset: u64, _dst: &mut UserWriter<'_>) -> SysResult {
        Err(Errno::EINVAL)
    }
    /// Writes at `offset`; the object itself handles O_APPEND (position is then updated through `append_position`).
    fn write(&self, _file: &OpenFile, _offset: u64, _src: &mut UserReader<'_>) -> SysResult {
        Err(Errno::EINVAL)
    }
    fn advance(&self) -> Advance {
        Advance::Stream
    }
    /// Whether O_ASYNC means anything; where it does not, asking for it changes nothing.
    fn can_signal(&self) -> bool {
        self.advance() == Advance::Stream
    }
    /// Whether splice(2) and sendfile(2) move bytes from and to it.
    fn can_splice(&self) -> bool {
        self.advance() != Advance::Stream || self.as_socket().is_some()
    }
    /// New position for lseek(2), given the current one. Streams: ESPIPE, or 0 always.
    fn seek(&self, _file: &OpenFile, _current: u64, _from: SeekFrom) -> Result<u64, Errno> {
        Err(Errno::ESPIPE)
    }
    /// Which of all events hold now; registers `table`'s waiter on the object's poll set **before** looking.
    fn poll(&self, _file: &OpenFile, _table: Option<&mut PollTable<'_>>) -> PollEvents {
        PollEvents::IN | PollEvents::OUT | PollEvents::RDNORM | PollEvents::WRNORM
    }
    /// What `poll` with no table answers, from objects that need no lock for it: to be called with spin locks held.
    fn look(&self) -> Option<PollEvents> {
        None
    }
    /// ENOTTY when the object does not know `command`.
    fn ioctl(&self, _file: &OpenFile, _command: u32, _argument: u64) -> SysResult {
        Err(Errno::ENOTTY)
    }
    /// The pages behind a mapping: ENODEV when it cannot be mapped.
    fn mem_object(&self, _file: &OpenFile) -> Result<Arc<MemObject>, Errno> {
        Err(Errno::ENODEV)
    }
    /// Directory entries from position `offset` on: `emit(name, ino, type, next_offset)` answers false when full. ENOTDIR.
    fn read_dir(
        &self,
        _file: &OpenFile,
        _offset: u64,
        _emit: &mut dyn FnMut(&[u8], u64, u8, u64) -> bool,
    ) -> Result<(), Errno> {
        Err(Errno::ENOTDIR)
    }
    fn fsync(&self, _file: &OpenFile, _data_only: bool) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
    fn truncate(&self, _file: &OpenFile, _len: u64) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
    fn fallocate(&self, _file: &OpenFile, _mode: u32, _offset: u64, _len: u64) -> Result<(), Errno> {
        Err(Errno::ENODEV)
    }
    /// Called on each close(2) of a descriptor that refers to the file (flush; POSIX locks are dropped by the caller).
    fn flush(&self, _file: &OpenFile) -> Result<(), Errno> {
        Ok(())
    }
    /// Called when the last reference to the open file description is gone.
    fn release(&self, _file: &OpenFile) {}
    /// O_NONBLOCK, O_ASYNC or O_APPEND changed by fcntl(F_SETFL).
    fn flags_changed(&self, _file: &OpenFile) {}
    /// For objects with no path (pipes, sockets, eventfd): "pipe:[12]", "socket:[3]", "anon_inode:[eventpoll]".
    fn anonymous_name(&self) -> Option<String> {
        self.as_socket().map(|socket| socket.label())
    }
    /// Extra lines for /proc/PID/fdinfo/N.
    fn fdinfo(&self, _file: &OpenFile) -> String {
        String::new()
    }
    /// fstat for objects without an inode; `None` means ask the inode. See `vfs::Stat`.
    fn stat(&self, _file: &OpenFile) -> Option<crate::vfs::Stat> {
        self.as_socket().map(|socket| socket.inode_stat())
    }
    /// What fchmod(2) and its like change, of objects without an inode; `None`: nothing can be changed.
    fn attributes(&self) -> Option<&super::Attributes> {
        self.as_socket().map(|socket| &socket.common().attributes)
    }
    /// The socket it is, if it is one.
    fn as_socket(&self) -> Option<&dyn crate::net::Socket> {
        None
    }
    /// The epoll it is, if it is one.
    fn as_epoll(&self) -> Option<&EpollFile> {
        None
    }
    /// What record locks go by where there is no inode: `None` is the object itself.
    fn lock_key(&self) -> Option<usize> {
        None
    }
    /// Another open of an object without a path, by its link in /proc/PID/fd: ENXIO for what cannot be opened by name.
    fn reopen(&self, _flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        Err(Errno::ENXIO)
    }
    /// For downcasts: `ops.as_any().downcast_ref::<Pipe>()`.
    fn as_any(&self) -> &dyn Any;
}

/// One open file description: what dup(2) and fork(2) share.
pub struct OpenFile {
    pub ops: Arc<dyn FileOps>,
    /// `ops.advance()`.
    pub advance: Advance,
    /// Where it was opened (mount and directory entry); `None` for anonymous objects.
    pub path: Option<Path>,
    flags: AtomicU32,
    /// The number of the last write-back error that it has heard of.
    errors_seen: AtomicU64,
    /// The position; the lock makes read+advance one step for regular files, as POSIX asks.
    pub position: Mutex<u64>,
    /// What it was when the call began that holds its lock.
    shown_position: AtomicU64,
    /// Where the last O_APPEND write ended: the object stores it, write(2) makes it the position.
    pub append_position: AtomicU64,
    /// F_SETOWN, F_SETSIG: who hears of O_ASYNC events.
    pub(crate) owner: Once<SharedOwner>,
    /// The place in the object's poll set that O_ASYNC takes.
    pub(crate) async_registration: SpinLock<Option<Registrations>>,
    /// The epoll items that watch this description; they go with it.
    pub(crate) watchers: SpinLock<Vec<Arc<dyn Listen>>>,
    /// A number unique to this open file description (flock and OFD lock owner, kcmp, epoll).
    pub id: u64,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl OpenFile {
    pub fn new(ops: Arc<dyn FileOps>, path: Option<Path>, flags: OpenFlags) -> Arc<Self> {
        Arc::new(Self {
            advance: ops.advance(),
            ops,
            path,
            flags: AtomicU32::new(
                flags
                    .difference(
                        OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::NOCTTY | OpenFlags::TRUNC | OpenFlags::CLOEXEC,
                    )
                    .bits(),
            ),
            errors_seen: AtomicU64::new(crate::mm::object::writeback::last_error()),
            position: Mutex::new(0),
            shown_position: AtomicU64::new(0),
            append_position: AtomicU64::new(0),
            owner: Once::new(),
            async_registration: SpinLock::new(None),
            watchers: SpinLock::new(Vec::new()),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        })
    }
    /// A file with no path.
    pub fn anonymous(ops: Arc<dyn FileOps>, flags: OpenFlags) -> Arc<Self> {
        Self::new(ops, None, flags)
    }
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }
    pub fn set_flags(&self, flags: OpenFlags) {
        self.flags.store(flags.bits(), Ordering::Relaxed);
    }
    pub fn is_nonblocking(&self) -> bool {
        self.flags().contains(OpenFlags::NONBLOCK)
    }
    pub fn is_readable(&self) -> bool {
        !self.is_path() && self.flags().readable()
    }
    pub fn is_writable(&self) -> bool {
        !self.is_path() && self.flags().writable()
    }
    /// O_PATH: names a place, does no I/O.
    pub fn is_path(&self) -> bool {
        self.flags().contains(OpenFlags::PATH)
    }
    pub fn inode(&self) -> Option<&Arc<dyn crate::vfs::Inode>> {
        self.path.as_ref().map(|path| path.inode())
    }
    /// Locks the position for a call that moves it and may take long.
    #[inline]
    #[track_caller]
    pub fn lock_position(&self) -> MutexGuard<'_, u64> {
        let position = self.position.lock();
        self.shown_position.store(*position, Ordering::Relaxed);
        position
    }
    /// The position for others to see, without waiting for a call that moves it: that may be waiting for the caller (a file of
    /// /proc/PID/fdinfo that describes itself).
    pub fn shown_position(&self) -> u64 {
        self.position.try_lock().map_or_else(|| self.shown_position.load(Ordering::Relaxed), |position| *position)
    }
    /// An error of writing `object` back that this description has not heard of: EIO, ENOSPC, once.
    pub fn writeback_error(&self, object: &MemObject) -> Result<(), Errno> {
        match object.error_since(self.errors_seen.load(Ordering::Relaxed)) {
            Some((number, errno)) => {
                self.errors_seen.fetch_max(number, Ordering::Relaxed);
                Err(errno)
            }
            None => Ok(()),
        }
    }
    pub fn poll(&self, table: Option<&mut PollTable<'_>>) -> PollEvents {
        self.ops.poll(self, table)
    }
    /// The object behind it, as its own type.
    pub fn downcast<T: 'static>(&self) -> Option<&T> {
        self.ops.as_any().downcast_ref::<T>()
    }
    /// Reads at `offset` into kernel memory (ELF loader, sendfile).
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> SysResult {
        self.ops.read(self, offset, &mut UserWriter::kernel(buffer))
    }
}

impl MappedFile for OpenFile {
    fn identity(&self) -> (u64, u64) {
        let stat = self.ops.stat(self).or_else(|| self.inode().map(|inode| inode.stat())).unwrap_or_default();
        (stat.dev, stat.ino)
    }
    fn shown_name(&self) -> String {
        match (&self.path, self.ops.anonymous_name()) {
            (_, Some(name)) => name,
            (Some(path), None) => String::from_utf8_lossy(&path.display()).replace('\n', "\\012"),
            (None, None) => "anon_inode".into(),
        }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        for item in core::mem::take(self.watchers.get_mut()) {
            item.file_is_gone();
        }
        *self.async_registration.get_mut() = None;
        crate::vfs::lock::release_description(self);
        if self.path.is_some() {
            let is_program = self.flags().contains(OpenFlags::EXEC);
            if (self.flags().writable() || is_program)
                && !self.is_path()
                && let Some(object) = self.inode().and_then(|inode| inode.mem_object())
            {
                if is_program { object.allow_write() } else { object.put_write_access() }
            }
            if let Some(path) = self.path.as_ref().filter(|_| !self.is_path()) {
                let event = if self.flags().writable() { Event::CLOSE_WRITE } else { Event::CLOSE_NOWRITE };
                crate::vfs::notify::path_event(path, event);
            }
        }
        let ops = self.ops.clone();
        ops.release(self);
    }
}
