//! Tracing of system calls: what the guest's `trace` program reads.
//!
//! Each open of /proc/trace/records is a [`Session`]. Written to it: `pid N` attaches to a process, `follow` lets what it creates
//! be traced too, `calls N N ...` leaves only these numbers. Read from it: whole [`Record`]s, as they happen; end of file once
//! nothing is traced any more. A session that is read too slowly loses records and says how many.
//!
//! A traced thread has `attention::TRACE` set and runs the traced variant of its main loop (syscall/run.rs), which calls
//! [`entering`] and [`leaving`]; a thread that is not traced runs code that knows nothing of this.
//!
//! Lock order: a session's `reading`, then its `ring`; `Task::trace` alone. No user memory is copied under any but `reading`.

use crate::prelude::*;
use crate::process::{exit, may_inspect};
use crate::sync::{WaitKind, WaitReason};
use crate::syscall::{Entry, TABLE_LEN, restart_errno, table};
use crate::task::find_process;
use crate::task::task::attention;
use crate::vfs::{FileOps, OpenFile};
use alloc::collections::VecDeque;
use core::any::Any;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Bytes of records that wait for their reader.
const RING_BYTES: usize = 256 * 1024;
/// Bytes of a string or buffer that a record holds at most.
const PIECE_BYTES: usize = 256;
/// Strings of an argument list that a record holds at most.
const LIST_STRINGS: usize = 16;

/// What a record says; the number stands in it.
#[derive(Clone, Copy)]
enum Kind {
    /// A call begins: its six arguments, then pieces of memory.
    Enter = 1,
    /// It ended: the result register, then pieces.
    Leave = 2,
    /// A signal (its number) is about to be delivered.
    Signal = 3,
    /// A thread ended: the wait status.
    Ended = 4,
    /// So many records were lost.
    Dropped = 5,
}

/// One record, little-endian: u32 bytes in all, u8 kind, u8 pieces, u16 call number, u32 pid, u32 tid, u64 monotonic ns, its u64 words;
/// then each piece: u8 index of the argument, u8 1 when there was more, u16 bytes, the bytes.
struct Record(Vec<u8>);

const HEADER: usize = 24;

impl Record {
    fn new(kind: Kind, call: u16, words: &[u64]) -> Self {
        let task = current();
        // Infallible: the words of one call; the ring they go to is bounded.
        let mut bytes = Vec::with_capacity(HEADER + 8 * words.len());
        bytes.extend([0, 0, 0, 0, kind as u8, 0]);
        bytes.extend(call.to_le_bytes());
        bytes.extend(task.process.pid.to_le_bytes());
        bytes.extend(task.tid().to_le_bytes());
        bytes.extend(crate::time::now_ns().to_le_bytes());
        for word in words {
            bytes.extend(word.to_le_bytes());
        }
        Self(bytes)
    }

    fn piece(&mut self, index: usize, bytes: &[u8], more: bool) {
        let bytes = &bytes[..bytes.len().min(PIECE_BYTES)];
        self.0.extend([index as u8, u8::from(more)]);
        self.0.extend((bytes.len() as u16).to_le_bytes());
        self.0.extend(bytes);
        self.0[5] += 1;
    }

    /// The string at `addr`, where there is one.
    fn text(&mut self, index: usize, addr: u64) {
        let mut buffer = [0; PIECE_BYTES];
        match hal::user::read_cstr(&mut buffer, UserAddr(addr)) {
            Ok(Some(len)) => self.piece(index, &buffer[..len], false),
            Ok(None) => self.piece(index, &buffer, true),
            Err(_) => {}
        }
    }

    /// The strings of a list that ends with NULL, each with its NUL, as far as they fit.
    fn texts(&mut self, index: usize, list: u64) {
        let mut all = Vec::new();
        let mut more = true;
        for at in 0..LIST_STRINGS {
            let pointer = UserPtr::<u64>::new(UserAddr(list)).at(at).and_then(UserPtr::read);
            let mut buffer = [0; PIECE_BYTES];
            let string = match pointer {
                Ok(0) => {
                    more = false;
                    break;
                }
                Ok(pointer) => hal::user::read_cstr(&mut buffer, UserAddr(pointer)),
                Err(_) => break,
            };
            let Ok(Some(len)) = string else { break };
            if all.len() + len + 1 > PIECE_BYTES {
                break;
            }
            all.extend(&buffer[..=len]);
        }
        if !all.is_empty() {
            self.piece(index, &all, more);
        }
    }

    /// `len` bytes at `addr`, as many as fit and can be read.
    fn memory(&mut self, index: usize, addr: u64, len: u64) {
        let mut buffer = [0; PIECE_BYTES];
        let wanted = len.min(PIECE_BYTES as u64) as usize;
        let count = hal::user::copy_from_user_partial(&mut buffer[..wanted], UserAddr(addr));
        if count == wanted {
            self.piece(index, &buffer[..count], len > count as u64);
        }
    }
}

struct Ring {
    bytes: VecDeque<u8>,
    dropped: u64,
}

/// One reader's trace.
pub struct Session {
    ring: SpinLock<Ring>,
    readers: WaitQueue,
    /// One reader at a time, so that what it copies out stays at the front meanwhile.
    reading: Mutex<()>,
    /// Threads traced now.
    threads: AtomicUsize,
    follow: AtomicBool,
    /// The reader is gone.
    closed: AtomicBool,
    /// Bit n: call n is wanted.
    calls: [AtomicU64; TABLE_LEN.div_ceil(64)],
}

/// A thread's part in a session.
pub struct Traced(Arc<Session>);

impl Traced {
    fn new(session: &Arc<Session>) -> Self {
        session.threads.fetch_add(1, Ordering::AcqRel);
        Self(session.clone())
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.0.threads.fetch_sub(1, Ordering::AcqRel);
        self.0.readers.wake_all();
    }
}

impl Session {
    fn new() -> Result<Arc<Self>, Errno> {
        let mut bytes = VecDeque::new();
        bytes.try_room(RING_BYTES)?;
        Ok(Arc::new(Self {
            ring: SpinLock::new(Ring { bytes, dropped: 0 }),
            readers: WaitQueue::new(),
            reading: Mutex::new(()),
            threads: AtomicUsize::new(0),
            follow: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            calls: [const { AtomicU64::new(u64::MAX) }; TABLE_LEN.div_ceil(64)],
        }))
    }

    fn wants(&self, call: u16) -> bool {
        let word = self.calls.get(usize::from(call) / 64);
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (call % 64) & 1 == 1)
    }

    fn push(&self, mut record: Record) {
        let len = record.0.len();
        record.0[..4].copy_from_slice(&(len as u32).to_le_bytes());
        let mut ring = self.ring.lock();
        // Room is kept for saying what was lost.
        if ring.bytes.len() + len + HEADER + 8 > RING_BYTES {
            ring.dropped += 1;
            return;
        }
        say_dropped(&mut ring);
        let was_empty = ring.bytes.is_empty();
        ring.bytes.extend(&record.0);
        drop(ring);
        if was_empty {
            self.readers.wake_one();
        }
    }

    /// Traces every thread of process `pid`: ESRCH, EPERM.
    fn attach(self: &Arc<Self>, pid: u32) -> Result<(), Errno> {
        let process = find_process(pid).ok_or(Errno::ESRCH)?;
        if !may_inspect(&process) {
            return Err(Errno::EPERM);
        }
        let threads = process.threads.lock().to_vec();
        for task in threads {
            set(&task, Some(Traced::new(self)));
            exit::nudge(&task);
        }
        Ok(())
    }
}

/// Puts a record of lost ones before the next.
fn say_dropped(ring: &mut Ring) {
    if ring.dropped != 0 {
        let mut record = Record::new(Kind::Dropped, 0, &[ring.dropped]);
        let len = record.0.len() as u32;
        record.0[..4].copy_from_slice(&len.to_le_bytes());
        ring.bytes.extend(&record.0);
        ring.dropped = 0;
    }
}

fn set(task: &Task, traced: Option<Traced>) {
    let on = traced.is_some();
    let traced = traced.map(|traced| Box::new(traced) as Box<dyn Any + Send>);
    let before = core::mem::replace(&mut *task.trace.lock(), traced);
    if on {
        task.set_attention(attention::TRACE)
    } else {
        task.clear_attention(attention::TRACE)
    }
    drop(before);
}

fn session_of(task: &Task) -> Option<Arc<Session>> {
    task.trace.lock().as_ref()?.downcast_ref::<Traced>().map(|traced| traced.0.clone())
}

/// The session of the calling thread; leaves one whose reader is gone.
fn session() -> Option<Arc<Session>> {
    let task = current();
    let session = session_of(task);
    match session {
        Some(session) if !session.closed.load(Ordering::Relaxed) => Some(session),
        _ => {
            set(task, None);
            None
        }
    }
}

/// A new thread or process of a traced one.
pub fn inherit(parent: &Task, child: &Task) {
    let session = session_of(parent);
    if let Some(session) = session.filter(|session| session.follow.load(Ordering::Relaxed)) {
        set(child, Some(Traced::new(&session)));
    }
}

/// A call that was recorded as begun.
pub struct Call {
    session: Arc<Session>,
    number: u16,
    arguments: [u64; 6],
}

/// How memory behind an argument is shown: by the spelling of its type in the system-call table.
fn entry(number: u16) -> Option<&'static Entry> {
    table::ENTRIES.get(usize::from(number))?.as_ref()
}

/// The calling, traced thread begins a call.
#[cold]
pub fn entering(context: &hal::trap::UserContext) -> Option<Call> {
    let session = session()?;
    let number = context.x[8].min(u64::from(u16::MAX)) as u16;
    if !session.wants(number) {
        return None;
    }
    let mut arguments = [0; 6];
    arguments.copy_from_slice(&context.x[..6]);
    let mut record = Record::new(Kind::Enter, number, &arguments);
    let kinds = entry(number).map_or(&[][..], |entry| entry.arguments);
    for (index, (_, kind)) in kinds.iter().enumerate().take(6) {
        match *kind {
            "Text" => record.text(index, arguments[index]),
            "Texts" => record.texts(index, arguments[index]),
            "Input" => record.memory(index, arguments[index], arguments.get(index + 1).copied().unwrap_or(0)),
            _ => {}
        }
    }
    session.push(record);
    Some(Call { session, number, arguments })
}

/// The call ended with this x0; one that a signal interrupted has the kernel's own errno in it.
#[cold]
pub fn leaving(call: &Call, answer: u64) {
    const ERRNO_MAX: u64 = 4095;
    let register = restart_errno(answer).map_or(answer, Errno::to_return);
    let mut record = Record::new(Kind::Leave, call.number, &[register]);
    let kinds = entry(call.number).map_or(&[][..], |entry| entry.arguments);
    for (index, (_, kind)) in kinds.iter().enumerate().take(6) {
        if *kind == "Output" && register < ERRNO_MAX.wrapping_neg() {
            record.memory(index, call.arguments[index], register);
        }
    }
    call.session.push(record);
}

/// A signal may be delivered to the calling, traced thread next.
#[cold]
pub fn signal() {
    let Some(session) = session() else { return };
    let task = current();
    let pending = task.signal.pending.set() | task.process.signal.pending.set();
    let open = pending & !task.signal.mask();
    if open != 0 {
        session.push(Record::new(Kind::Signal, 0, &[u64::from(open.trailing_zeros() + 1)]));
    }
}

/// The calling thread ends with this wait status.
pub fn ended(status: u64) {
    if current().attention() & attention::TRACE == 0 {
        return;
    }
    if let Some(session) = session() {
        session.push(Record::new(Kind::Ended, 0, &[status]));
    }
    set(current(), None);
}

/// /proc/trace/calls: a line for each call, `NUMBER NAME ARGUMENT:TYPE...`.
pub fn calls() -> String {
    let mut out = String::new();
    for (number, entry) in table::ENTRIES.iter().enumerate() {
        let Some(entry) = entry else { continue };
        let _ = write!(out, "{number} {}", entry.name);
        for (name, kind) in entry.arguments {
            let _ = write!(out, " {name}:{kind}");
        }
        out.push('\n');
    }
    out
}

/// An open /proc/trace/records.
struct Reader(Arc<Session>);

/// A new session (ENOMEM).
pub fn open() -> Result<Arc<dyn FileOps>, Errno> {
    Ok(Arc::new(Reader(Session::new()?)))
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }
}

impl Reader {
    /// Whole records from the front, `max` bytes at most; EINVAL when the first does not fit.
    fn front(&self, max: usize) -> Result<Vec<u8>, Errno> {
        let mut ring = self.0.ring.lock();
        if ring.bytes.is_empty() {
            say_dropped(&mut ring);
        }
        let mut end = 0;
        while let Some(first) = ring.bytes.get(end) {
            let byte = |at: usize| ring.bytes.get(end + at).copied().unwrap_or(0);
            let len = u32::from_le_bytes([*first, byte(1), byte(2), byte(3)]) as usize;
            if end + len > max {
                break;
            }
            end += len;
        }
        if end == 0 && !ring.bytes.is_empty() {
            return Err(Errno::EINVAL);
        }
        Ok(ring.bytes.range(..end).copied().collect())
    }
}

impl FileOps for Reader {
    fn read(&self, file: &OpenFile, _offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        const READ_MAX: usize = 16 * 1024;
        let session = &self.0;
        let ready = || {
            let waits = { session.ring.lock().bytes.is_empty() } && session.threads.load(Ordering::Acquire) != 0;
            (!waits).then_some(())
        };
        if !file.is_nonblocking() {
            let reason = WaitReason::new(WaitKind::TraceRead);
            session.readers.wait_until(WaitMode::Interruptible, None, reason, ready)?;
        } else if ready().is_none() {
            return Err(Errno::EAGAIN);
        }
        let _reading = session.reading.lock();
        let bytes = self.front(dst.remaining().min(READ_MAX))?;
        let count = dst.write(&bytes)?;
        if count < bytes.len() {
            return Err(Errno::EFAULT);
        }
        session.ring.lock().bytes.drain(..count);
        Ok(count)
    }

    fn write(&self, _file: &OpenFile, _offset: u64, src: &mut UserReader<'_>) -> SysResult {
        if src.remaining() > PAGE_SIZE {
            return Err(Errno::EINVAL);
        }
        let bytes = src.read_all()?;
        let mut words = core::str::from_utf8(&bytes).map_err(|_| Errno::EINVAL)?.split_whitespace();
        let command = words.next();
        let mut numbers = words.map(|word| word.parse::<u32>().map_err(|_| Errno::EINVAL));
        match command {
            Some("follow") => self.0.follow.store(true, Ordering::Relaxed),
            Some("pid") => self.0.attach(numbers.next().ok_or(Errno::EINVAL)??)?,
            Some("calls") => {
                let mut wanted = [0u64; TABLE_LEN.div_ceil(64)];
                for number in numbers {
                    let number = number? as usize;
                    *wanted.get_mut(number / 64).ok_or(Errno::EINVAL)? |= 1 << (number % 64);
                }
                for (word, wanted) in self.0.calls.iter().zip(wanted) {
                    word.store(wanted, Ordering::Relaxed);
                }
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(bytes.len())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
