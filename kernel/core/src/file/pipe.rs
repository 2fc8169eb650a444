//! Pipes and FIFOs.
//!
//! A [`Pipe`] is a ring of page slots (see `base::ring`) under a sleeping lock, held while bytes are copied to or from the
//! program. Counts that others ask for without the lock (slots in use, readers, writers) are atomics, changed under it.
//! A [`PipeEnd`] is one open file description of it; a FIFO's inode keeps a [`FifoState`].
//!
//! Wakes: readers and writers wait in queues of their own and are woken one by one; who leaves something behind for the next
//! one passes the wake on. Pollers hear of every write, and of a read that made room in a full pipe.

use crate::prelude::*;
use crate::process::signal;
use crate::sync::{MutexGuard, WaitKind, WaitReason};
use crate::task::credentials::cap;
use crate::task::siginfo;
use crate::task::siginfo::SigInfo;
use crate::task::user::User;
use crate::vfs::FileType;
use crate::vfs::{Attributes, FileOps, OpenFile, OpenFlags, PollEvents, PollSet, PollTable};
use arrayvec::ArrayVec;
use base::abi::ioctl::FIONREAD;
use base::ring::{Slot, SlotRing};
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use hal::frame::Frame;

/// Writes of at most this many bytes are not mixed with others'.
pub const PIPE_BUF: usize = 4096;
/// Slots of a new pipe.
const DEFAULT_SLOTS: usize = 16;
/// fs.pipe-max-size: what a program without CAP_SYS_RESOURCE may ask for, in bytes.
pub static MAX_SIZE: AtomicUsize = AtomicUsize::new(1 << 20);

/// fs.pipe-user-pages-soft and -hard: pages that the pipes of one user without privilege may come to; 0 is no limit. Above the
/// first new pipes have [`LEAST_SLOTS`], above the second there are none.
pub static USER_PAGES_SOFT: AtomicUsize = AtomicUsize::new(16_384);
pub static USER_PAGES_HARD: AtomicUsize = AtomicUsize::new(0);
const LEAST_SLOTS: usize = 2;
/// Linux keeps the slots in one piece of 4 MiB at most.
const MOST_SLOTS: usize = 1 << 16;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What the lock guards.
pub struct Buffer {
    pub ring: SlotRing<Frame>,
    /// Emptied pages kept for the next writes.
    spare: ArrayVec<Frame, 2>,
}

impl Buffer {
    fn page(&mut self) -> Result<Frame, Errno> {
        match self.spare.pop() {
            Some(frame) => Ok(frame),
            None => {
                admit(PAGE_SIZE)?;
                Ok(crate::mm::oom::alloc_uninit()?)
            }
        }
    }
    fn recycle(&mut self, frame: Frame, own: bool) {
        if own && frame.ref_count() == 1 {
            let _ = self.spare.try_push(frame);
        }
    }
}

pub struct Pipe {
    pub id: u64,
    /// Who made it, and is charged for its size.
    user: Arc<User>,
    buffer: Mutex<Buffer>,
    /// Copies of the ring's state for waiters' conditions.
    used: AtomicUsize,
    capacity: AtomicUsize,
    readers: AtomicUsize,
    writers: AtomicUsize,
    /// How many times it was opened for reading and for writing (FIFO open and hang-up rules).
    reader_opens: AtomicU32,
    writer_opens: AtomicU32,
    read_wait: WaitQueue,
    write_wait: WaitQueue,
    open_wait: WaitQueue,
    poll_set: PollSet,
    /// Of a pipe; a FIFO has its inode's.
    attributes: Attributes,
}

/// Whether a user whose pipes come to `pages` has too many of them.
fn is_too_many(pages: usize, limit: &AtomicUsize) -> bool {
    let limit = limit.load(Ordering::Relaxed);
    limit != 0 && pages > limit
}

/// Whether the limits of fs.pipe-user-pages do not hold for the calling thread.
fn is_unlimited() -> bool {
    current().credentials.with(|creds| creds.has_cap(cap::SYS_RESOURCE) || creds.has_cap(cap::SYS_ADMIN))
}

/// Charges `user` for a new pipe; answers its slots: ENFILE.
fn charge(user: &User) -> Result<usize, Errno> {
    let mut slots = DEFAULT_SLOTS;
    let most = MAX_SIZE.load(Ordering::Relaxed) / PAGE_SIZE;
    if slots > most && !current().creds().has_cap(cap::SYS_RESOURCE) {
        slots = most;
    }
    let mut pages = user.pipe_pages.fetch_add(slots, Ordering::Relaxed) + slots;
    if is_too_many(pages, &USER_PAGES_SOFT) && !is_unlimited() {
        user.pipe_pages.fetch_sub(slots - LEAST_SLOTS.min(slots), Ordering::Relaxed);
        pages -= slots - LEAST_SLOTS.min(slots);
        slots = LEAST_SLOTS.min(slots);
    }
    if is_too_many(pages, &USER_PAGES_HARD) && !is_unlimited() {
        user.pipe_pages.fetch_sub(slots, Ordering::Relaxed);
        return Err(Errno::ENFILE);
    }
    Ok(slots)
}

impl Pipe {
    /// A pipe without ends: ENFILE when the user has too many.
    pub fn new() -> Result<Arc<Self>, Errno> {
        let user = User::current();
        let slots = charge(&user)?;
        Ok(Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            user,
            buffer: Mutex::new(Buffer { ring: SlotRing::new(slots), spare: ArrayVec::new() }),
            used: AtomicUsize::new(0),
            capacity: AtomicUsize::new(slots),
            readers: AtomicUsize::new(0),
            writers: AtomicUsize::new(0),
            reader_opens: AtomicU32::new(0),
            writer_opens: AtomicU32::new(0),
            read_wait: WaitQueue::new(),
            write_wait: WaitQueue::new(),
            open_wait: WaitQueue::new(),
            poll_set: PollSet::new(),
            attributes: Attributes::new(0o600),
        }))
    }

    /// F_GETPIPE_SZ.
    pub fn size(&self) -> usize {
        self.capacity.load(Ordering::Relaxed) * PAGE_SIZE
    }

    /// F_SETPIPE_SZ, rounded up to a power of two of pages: EPERM above the limits, EBUSY below what is in use, ENOMEM.
    pub fn set_size(&self, bytes: usize) -> SysResult {
        if bytes > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let slots = bytes.max(1).div_ceil(PAGE_SIZE).next_power_of_two();
        let size = slots * PAGE_SIZE;
        if size > self.size()
            && size > MAX_SIZE.load(Ordering::Relaxed)
            && !current().creds().has_cap(cap::SYS_RESOURCE)
        {
            return Err(Errno::EPERM);
        }
        let mut buffer = self.lock();
        let before = self.capacity.load(Ordering::Relaxed);
        if slots > before {
            let pages = self.user.pipe_pages.load(Ordering::Relaxed) + slots - before;
            if (is_too_many(pages, &USER_PAGES_HARD) || is_too_many(pages, &USER_PAGES_SOFT)) && !is_unlimited() {
                return Err(Errno::EPERM);
            }
        }
        if slots > MOST_SLOTS {
            return Err(Errno::ENOMEM);
        }
        buffer.ring.resize(slots).map_err(|_| Errno::EBUSY)?;
        self.capacity.store(slots, Ordering::Release);
        self.user.pipe_pages.fetch_add(slots, Ordering::Relaxed);
        self.user.pipe_pages.fetch_sub(before, Ordering::Relaxed);
        drop(buffer);
        self.write_wait.wake_all();
        self.poll_set.notify(PollEvents::OUT | PollEvents::WRNORM);
        Ok(size)
    }

    pub fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock()
    }

    /// Open ends for reading and for writing.
    pub fn nr_ends(&self) -> (usize, usize) {
        (self.readers.load(Ordering::Acquire), self.writers.load(Ordering::Acquire))
    }

    pub fn has_writers(&self) -> bool {
        self.writers.load(Ordering::Acquire) != 0
    }
    pub fn has_readers(&self) -> bool {
        self.readers.load(Ordering::Acquire) != 0
    }
    fn is_empty(&self) -> bool {
        self.used.load(Ordering::Acquire) == 0
    }
    fn is_full(&self) -> bool {
        self.used.load(Ordering::Acquire) >= self.capacity.load(Ordering::Acquire)
    }

    /// Publishes the ring's state before the lock goes.
    pub fn publish(&self, buffer: &Buffer) {
        self.used.store(buffer.ring.len(), Ordering::Release);
    }

    /// After slots were taken out: tells writers if the pipe had been full.
    pub fn after_read(&self, was_full: bool) {
        if was_full {
            self.write_wait.wake_one();
            self.poll_set.notify(PollEvents::OUT | PollEvents::WRNORM);
        }
        if !self.is_empty() {
            self.read_wait.wake_one();
        }
    }

    /// After bytes were put in.
    pub fn after_write(&self) {
        self.read_wait.wake_one();
        self.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
        if !self.is_full() {
            self.write_wait.wake_one();
        }
    }

    /// Sleeps until there is something to read or no writer is left.
    pub fn wait_readable(&self) -> Result<(), Errno> {
        self.read_wait.wait_until(
            WaitMode::Interruptible,
            None,
            WaitReason::on(WaitKind::PipeRead, self.id),
            || (!self.is_empty() || !self.has_writers()).then_some(()),
        )?;
        Ok(())
    }

    /// Sleeps until there is room or no reader is left.
    pub fn wait_writable(&self) -> Result<(), Errno> {
        self.write_wait.wait_until(
            WaitMode::Interruptible,
            None,
            WaitReason::on(WaitKind::PipeWrite, self.id),
            || (!self.is_full() || !self.has_readers()).then_some(()),
        )?;
        Ok(())
    }

    /// read(2): EAGAIN, ERESTARTSYS, EFAULT.
    pub fn read(&self, nonblocking: bool, dst: &mut UserWriter<'_>) -> SysResult {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        loop {
            if self.is_empty() {
                // Writers are looked at first: what the last one left is seen after it has gone.
                if !self.has_writers() && self.is_empty() {
                    return Ok(0);
                }
                if nonblocking && self.is_empty() {
                    return Err(Errno::EAGAIN);
                }
                self.wait_readable()?;
            }
            let mut buffer = self.lock();
            if buffer.ring.is_empty() {
                continue;
            }
            let was_full = buffer.ring.is_full();
            let result = take(&mut buffer, dst);
            self.publish(&buffer);
            drop(buffer);
            self.after_read(was_full && !self.is_full());
            return result;
        }
    }

    /// write(2); `packets` is O_DIRECT: EAGAIN, EPIPE, ERESTARTSYS, EFAULT.
    pub fn write(&self, nonblocking: bool, packets: bool, src: &mut UserReader<'_>) -> SysResult {
        let total = src.remaining();
        if total == 0 {
            return Ok(0);
        }
        let mut done = 0;
        loop {
            let mut buffer = self.lock();
            if !self.has_readers() {
                drop(buffer);
                let broken = broken_pipe(); // SIGPIPE even after a part was written
                return if done == 0 { broken } else { Ok(done) };
            }
            let result = put(&mut buffer, src, packets);
            self.publish(&buffer);
            drop(buffer);
            let moved = match result {
                Ok(moved) => moved,
                Err(error) if done == 0 => return Err(error),
                Err(_) => return Ok(done),
            };
            if moved != 0 {
                done += moved;
                self.after_write();
            }
            if src.remaining() == 0 {
                return Ok(done);
            }
            if !self.is_full() && moved != 0 {
                continue; // a fault ended the copy early: the next round reports it
            }
            if nonblocking {
                return if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) };
            }
            match self.wait_writable() {
                Ok(()) => {}
                Err(error) if done == 0 => return Err(error),
                Err(_) => return Ok(done),
            }
        }
    }

    fn add_reader(&self) {
        self.readers.fetch_add(1, Ordering::AcqRel);
        self.reader_opens.fetch_add(1, Ordering::AcqRel);
    }
    fn add_writer(&self) {
        self.writers.fetch_add(1, Ordering::AcqRel);
        self.writer_opens.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.user.pipe_pages.fetch_sub(*self.capacity.get_mut(), Ordering::Relaxed);
    }
}

/// Raises SIGPIPE and answers EPIPE.
pub fn broken_pipe() -> SysResult {
    let task = crate::task::current_arc();
    let info = SigInfo::user(siginfo::SIGPIPE, 0, task.process.pid, task.creds().uid, 0);
    signal::send_to_task(&task, info);
    Err(Errno::EPIPE)
}

/// Moves bytes from the ring to the program: what is there, one packet at most. EFAULT when nothing could be copied.
fn take(buffer: &mut Buffer, dst: &mut UserWriter<'_>) -> SysResult {
    let mut done = 0;
    while dst.remaining() != 0 {
        let Some(slot) = buffer.ring.front() else { break };
        let want = slot.len.min(dst.remaining());
        let (packet, own, len) = (slot.packet, slot.can_merge, slot.len);
        let n = match dst.write_frame(&slot.page, slot.offset, want) {
            Ok(n) => n,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        };
        done += n;
        let used = if packet && n == want { len } else { n };
        if let Some(frame) = buffer.ring.consume(used) {
            buffer.recycle(frame, own);
        }
        if packet || n < want {
            break;
        }
    }
    Ok(done)
}

/// Moves bytes from the program into the ring, as many as there is room for. Answers 0 when the ring is full; EFAULT when
/// nothing could be copied. Writes of PIPE_BUF or less go in whole or not at all, since a free slot holds a page.
fn put(buffer: &mut Buffer, src: &mut UserReader<'_>, packets: bool) -> SysResult {
    let mut done = 0;
    let tail = src.remaining() % PAGE_SIZE;
    // A packet may go behind bytes that are none, as on Linux.
    if tail != 0
        && let Some((page, at)) = buffer.ring.merge_at(tail)
    {
        let n = src.read_frame(page, at, tail)?;
        buffer.ring.merged(n);
        done += n;
        if n < tail {
            return Ok(done);
        }
    }
    while src.remaining() != 0 && !buffer.ring.is_full() {
        let frame = buffer.page()?;
        let want = src.remaining().min(PAGE_SIZE);
        let n = match src.read_frame(&frame, 0, want) {
            Ok(n) => n,
            Err(error) => {
                buffer.recycle(frame, true);
                if done == 0 {
                    return Err(error);
                }
                break;
            }
        };
        let _ = buffer.ring.push(Slot { page: frame, offset: 0, len: n, can_merge: !packets, packet: packets });
        done += n;
        if n < want {
            break;
        }
    }
    Ok(done)
}

/// One open description of a pipe or FIFO.
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    is_fifo: bool,
    reads: bool,
    writes: bool,
    /// The pipe's `writer_opens` when this end was opened: no hang-up before a writer came and went.
    seen_writers: AtomicU32,
    /// The FIFO to clear when its last end goes.
    fifo: Option<Arc<Fifo>>,
}

impl PipeEnd {
    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }
    /// Whether it is open for reading, for writing.
    pub fn directions(&self) -> (bool, bool) {
        (self.reads, self.writes)
    }
    fn events(&self) -> PollEvents {
        let pipe = &self.pipe;
        let mut events = PollEvents::empty();
        if self.reads {
            if !pipe.is_empty() {
                events |= PollEvents::IN | PollEvents::RDNORM;
            }
            if !pipe.has_writers()
                && self.seen_writers.load(Ordering::Relaxed) != pipe.writer_opens.load(Ordering::Acquire)
            {
                events |= PollEvents::HUP;
            }
        }
        if self.writes {
            if !pipe.is_full() {
                events |= PollEvents::OUT | PollEvents::WRNORM;
            }
            if !pipe.has_readers() {
                events |= PollEvents::ERR;
            }
        }
        events
    }
}

/// The two descriptions of pipe2(2); O_NONBLOCK and O_DIRECT of `flags` apply. ENFILE, ENOMEM.
pub fn new_pair(flags: OpenFlags) -> Result<(Arc<OpenFile>, Arc<OpenFile>), Errno> {
    let pipe = Pipe::new()?;
    pipe.attributes.give_to_caller();
    pipe.attributes.start_times();
    let flags = flags & (OpenFlags::NONBLOCK | OpenFlags::DIRECT);
    pipe.add_reader();
    pipe.add_writer();
    let end = |reads| PipeEnd {
        pipe: pipe.clone(),
        is_fifo: false,
        reads,
        writes: !reads,
        seen_writers: AtomicU32::new(0),
        fifo: None,
    };
    // O_DIRECT means packets on the writing side only.
    let reader = OpenFile::anonymous(Arc::new(end(true)), flags & OpenFlags::NONBLOCK);
    let writer = OpenFile::anonymous(Arc::new(end(false)), flags | OpenFlags::WRONLY);
    Ok((reader, writer))
}

impl FileOps for PipeEnd {
    /// Both ends of a pipe are one file.
    fn lock_key(&self) -> Option<usize> {
        Some(Arc::as_ptr(&self.pipe).cast::<()>() as usize)
    }
    /// Another end of the same pipe, as `flags` open it (/proc/PID/fd/N).
    fn reopen(&self, flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        let (reads, writes) = (flags.readable(), flags.writable());
        if reads {
            self.pipe.add_reader();
        }
        if writes {
            self.pipe.add_writer();
        }
        let seen_writers = AtomicU32::new(0);
        Ok(Arc::new(PipeEnd {
            pipe: self.pipe.clone(),
            is_fifo: self.is_fifo,
            reads,
            writes,
            seen_writers,
            fifo: self.fifo.clone(),
        }))
    }
    fn can_splice(&self) -> bool {
        true
    }
    fn read(&self, file: &OpenFile, _offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        self.pipe.read(file.is_nonblocking(), dst)
    }
    fn write(&self, file: &OpenFile, _offset: u64, src: &mut UserReader<'_>) -> SysResult {
        self.pipe.write(file.is_nonblocking(), file.flags().contains(OpenFlags::DIRECT), src)
    }
    fn poll(&self, _file: &OpenFile, table: Option<&mut PollTable<'_>>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.pipe.poll_set);
        }
        self.events()
    }
    fn look(&self) -> Option<PollEvents> {
        Some(self.events())
    }
    fn ioctl(&self, _file: &OpenFile, command: u32, argument: u64) -> SysResult {
        match command {
            FIONREAD => {
                let bytes = self.pipe.lock().ring.bytes();
                UserPtr::<i32>::new(UserAddr(argument)).write(&(bytes.min(i32::MAX as usize) as i32))?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }
    fn release(&self, _file: &OpenFile) {
        let pipe = &self.pipe;
        let mut last = false;
        if self.reads && pipe.readers.fetch_sub(1, Ordering::AcqRel) == 1 {
            pipe.write_wait.wake_all();
            pipe.poll_set.notify(PollEvents::OUT | PollEvents::ERR | PollEvents::HUP);
            last = true;
        }
        if self.writes && pipe.writers.fetch_sub(1, Ordering::AcqRel) == 1 {
            pipe.read_wait.wake_all();
            pipe.poll_set.notify(PollEvents::IN | PollEvents::HUP);
            last = true;
        }
        if let Some(fifo) = &self.fifo
            && last
        {
            fifo.forget_unused();
        }
    }
    fn anonymous_name(&self) -> Option<String> {
        (!self.is_fifo).then(|| alloc::format!("pipe:[{}]", self.pipe.id))
    }
    fn stat(&self, _file: &OpenFile) -> Option<crate::vfs::Stat> {
        if self.is_fifo {
            return None;
        }
        Some(self.pipe.attributes.complete(crate::vfs::Stat {
            dev: 13,
            ino: self.pipe.id,
            mode: FileType::Fifo.mode_bits(),
            nlink: 1,
            block_size: PAGE_SIZE as u32,
            ..Default::default()
        }))
    }
    fn attributes(&self) -> Option<&Attributes> {
        (!self.is_fifo).then_some(&self.pipe.attributes)
    }
    /// ESPIPE: a pipe has no room to reserve.
    fn fallocate(&self, _file: &OpenFile, _mode: u32, _offset: u64, _len: u64) -> Result<(), Errno> {
        Err(Errno::ESPIPE)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The pipe behind a FIFO while anyone has it open.
struct Fifo {
    pipe: SpinLock<Option<Arc<Pipe>>>,
}

impl Fifo {
    fn forget_unused(&self) {
        let mut slot = self.pipe.lock();
        let unused = slot.as_ref().is_some_and(|pipe| !pipe.has_readers() && !pipe.has_writers());
        let pipe = if unused { slot.take() } else { None };
        drop(slot);
        drop(pipe);
    }
}

/// What the inode of a FIFO keeps: the pipe, while anyone has it open.
pub struct FifoState {
    fifo: spin::Once<Arc<Fifo>>,
}

impl FifoState {
    #[expect(clippy::new_without_default, reason = "const constructor is the one used")]
    pub const fn new() -> Self {
        Self { fifo: spin::Once::new() }
    }

    /// open(2) of the FIFO: waits for the other side unless O_NONBLOCK. ENXIO, EINTR, ENOMEM (the user has too many pipes).
    pub fn open(&self, flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        let fifo = self.fifo.call_once(|| Arc::new(Fifo { pipe: SpinLock::new(None) })).clone();
        let (reads, writes) = (flags.readable(), flags.writable());
        let nonblocking = flags.contains(OpenFlags::NONBLOCK);
        let mut fresh = None;
        let pipe = loop {
            let mut slot = fifo.pipe.lock();
            let Some(pipe) = slot.as_ref().or(fresh.as_ref()).cloned() else {
                drop(slot);
                fresh = Some(Pipe::new().map_err(|_| Errno::ENOMEM)?);
                continue;
            };
            *slot = Some(pipe.clone());
            if writes && !reads && nonblocking && !pipe.has_readers() {
                let unused = !pipe.has_writers();
                let gone = if unused { slot.take() } else { None };
                drop(slot);
                drop(gone);
                return Err(Errno::ENXIO);
            }
            // Counted under the slot's lock, so that the pipe is not forgotten meanwhile.
            if reads {
                pipe.add_reader();
            }
            if writes {
                pipe.add_writer();
            }
            break pipe;
        };
        drop(fresh);
        let end = PipeEnd {
            pipe: pipe.clone(),
            is_fifo: true,
            reads,
            writes,
            seen_writers: AtomicU32::new(0),
            fifo: Some(fifo.clone()),
        };
        pipe.open_wait.wake_all();
        if reads && !writes {
            if !pipe.has_writers() {
                // Whoever opens for writing from now on counts, even if it is gone again by the time we look.
                let seen = pipe.writer_opens.load(Ordering::Acquire);
                if nonblocking {
                    end.seen_writers.store(seen, Ordering::Relaxed);
                } else {
                    self.wait_for_peer(&end, |pipe| pipe.writer_opens.load(Ordering::Acquire) != seen)?;
                }
            }
        } else if writes && !reads && !pipe.has_readers() {
            let seen = pipe.reader_opens.load(Ordering::Acquire);
            self.wait_for_peer(&end, |pipe| pipe.reader_opens.load(Ordering::Acquire) != seen)?;
        }
        Ok(Arc::new(end))
    }

    fn wait_for_peer(&self, end: &PipeEnd, is_there: impl Fn(&Pipe) -> bool) -> Result<(), Errno> {
        let pipe = &end.pipe;
        let waited = pipe.open_wait.wait_until(
            WaitMode::Interruptible,
            None,
            WaitReason::on(WaitKind::FifoOpen, pipe.id),
            || is_there(pipe).then_some(()),
        );
        if let Err(error) = waited {
            end.undo_open();
            return Err(error.into());
        }
        Ok(())
    }
}

impl PipeEnd {
    /// Takes back what `open` counted, when it fails.
    fn undo_open(&self) {
        let pipe = &self.pipe;
        if self.reads && pipe.readers.fetch_sub(1, Ordering::AcqRel) == 1 {
            pipe.write_wait.wake_all();
        }
        if self.writes && pipe.writers.fetch_sub(1, Ordering::AcqRel) == 1 {
            pipe.read_wait.wake_all();
        }
        if let Some(fifo) = &self.fifo {
            fifo.forget_unused();
        }
    }
}
