//! epoll: interest in many files, answers by hand-over.
//!
//! Each watched file has an [`Item`] in its object's poll set. An event puts the item on the ready list; `wait` takes items
//! off it, asks each file once what holds, and never looks at files that had no event. Every list operation is O(1), and no
//! memory is allocated after an item was added.
//!
//! An item holds its epoll and is held by it: closing the epoll (its description's release) breaks the circle. It does not
//! hold its file: when the file's description goes, so do its items.
//!
//! Lock order: `NESTING` → `items` → the object's own locks → its poll set → `ready` → wait queues; a poll set of an epoll is
//! taken inside the poll set of what it watches, which is why loops are refused.

use crate::prelude::*;
use crate::sync::{Deadline, WaitError, WaitKind, WaitReason};
use crate::task::user::User;
use crate::vfs::poll::{Listen, Listener, Registrations};
use crate::vfs::{Advance, FileOps, OpenFile, PollEvents, PollSet, PollTable, SeekFrom};
use base::epoll::IndexList;
use base::slab::Slab;
use base::tree::Tree;
use core::any::Any;
use core::ops::{ControlFlow, Range};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use spin::Once;
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub const EPOLLEXCLUSIVE: u32 = 1 << 28;
pub const EPOLLWAKEUP: u32 = 1 << 29;
pub const EPOLLONESHOT: u32 = 1 << 30;
pub const EPOLLET: u32 = 1 << 31;
/// Bits that say how to report, not what.
const PRIVATE: u32 = EPOLLEXCLUSIVE | EPOLLWAKEUP | EPOLLONESHOT | EPOLLET;
const ALWAYS: u32 = PollEvents::ERR.bits() | PollEvents::HUP.bits();
/// How deep epolls may watch epolls.
const MAX_NESTING: usize = 4;

/// fs.epoll.max_user_watches, once it was set.
static MAX_WATCHES: AtomicUsize = AtomicUsize::new(usize::MAX);

/// How many files one user's epolls may watch: what takes a 25th of the memory, if nothing else was said.
pub fn max_watches() -> usize {
    match MAX_WATCHES.load(Ordering::Relaxed) {
        usize::MAX => hal::frame::stats().total * PAGE_SIZE / 25 / size_of::<Item>(),
        set => set,
    }
}

/// Sets it: EINVAL.
pub fn set_max_watches(text: &str) -> Result<(), Errno> {
    let number = text.parse::<i64>().ok().and_then(|number| usize::try_from(number).ok()).ok_or(Errno::EINVAL)?;
    MAX_WATCHES.store(number, Ordering::Relaxed);
    Ok(())
}

/// `struct epoll_event` of arm64 (not packed).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct EpollEvent {
    pub events: u32,
    pub pad: u32,
    pub data: u64,
}

impl EpollEvent {
    /// Copies it out, by one store.
    #[inline(always)]
    fn write_to(self, to: UserPtr<Self>) -> Result<(), Errno> {
        Ok(hal::user::store_pair(to.addr(), [u64::from(self.events), self.data])?)
    }
}

/// One watched (description, descriptor number).
pub struct Item {
    epoll: Arc<Epoll>,
    file: Weak<OpenFile>,
    key: Key,
    /// Its number in the epoll's slab and ready list.
    index: u32,
    /// Events asked for, with the private bits; without events after EPOLLONESHOT fired.
    mask: AtomicU32,
    data: AtomicU64,
    registrations: SpinLock<Registrations>,
}

/// Description id and descriptor number: the same file may be added under several numbers.
type Key = (u64, i32);

/// Every place in the tree.
const ALL: Range<base::tree::Key> = (0, 0)..(u64::MAX, 0);

/// The number of an item in the tree of its epoll's.
fn find(items: &Tree<Arc<Item>>, key: Key) -> Option<u32> {
    let (id, fd) = (key.0, u64::from(key.1 as u32));
    items.first((id, fd)..(id, fd + 1), 0)
}

struct Ready {
    slab: Slab<Option<Arc<Item>>>,
    list: IndexList,
}

pub struct Epoll {
    /// Who made it, and is charged for what it watches.
    user: Arc<User>,
    /// By description and descriptor.
    items: Mutex<Tree<Arc<Item>>>,
    ready: IrqSpinLock<Ready>,
    waiters: WaitQueue,
    poll_set: PollSet,
    file: Once<Weak<OpenFile>>,
}

/// The object behind the descriptor.
pub struct EpollFile(pub Arc<Epoll>);

/// Held while an epoll is put under another.
static NESTING: Mutex<()> = Mutex::new(());

impl Listen for Item {
    /// The file reported `events`; answers whether a waiting thread was woken. Any context.
    fn on_event(&self, events: PollEvents) -> bool {
        let mask = self.mask.load(Ordering::Relaxed);
        if mask & !PRIVATE == 0 || events.bits() & (mask | ALWAYS) == 0 {
            return false;
        }
        self.epoll.make_ready(self.index)
    }

    /// The description goes away.
    fn file_is_gone(&self) {
        self.epoll.remove_item(self.key, Some(self.index));
    }
}

impl Item {
    /// What holds now, of what is asked for.
    fn current_events(&self, file: &OpenFile) -> u32 {
        events_of(file, self.mask.load(Ordering::Relaxed))
    }
}

/// What holds now of what `mask` asks for.
#[inline]
fn events_of(file: &OpenFile, mask: u32) -> u32 {
    if mask & !PRIVATE == 0 { 0 } else { file.poll(None).bits() & (mask | ALWAYS) }
}

impl Epoll {
    /// A new, open epoll.
    pub fn create(flags: crate::vfs::OpenFlags) -> Arc<OpenFile> {
        let epoll = Arc::new(Self {
            user: User::current(),
            items: Mutex::new(Tree::new()),
            ready: IrqSpinLock::new(Ready { slab: Slab::new(), list: IndexList::new() }),
            waiters: WaitQueue::new(),
            poll_set: PollSet::new(),
            file: Once::new(),
        });
        let file = OpenFile::anonymous(Arc::new(EpollFile(epoll.clone())), flags | crate::vfs::OpenFlags::RDWR);
        epoll.file.call_once(|| Arc::downgrade(&file));
        file
    }

    /// Queues the item and wakes one waiter; answers whether there was one.
    fn make_ready(&self, index: u32) -> bool {
        self.ready.lock().list.push_back(index);
        let woken = self.waiters.wake_one();
        self.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
        woken
    }

    /// Reserves a number for a new item: ENOMEM.
    fn reserve_index(&self) -> Result<u32, Errno> {
        let mut ready = self.ready.lock();
        let index = ready.slab.insert(None)?;
        let covered = ready.list.cover(index);
        if covered.is_err() {
            ready.slab.remove(index);
        }
        covered.map(|()| index)
    }

    fn forget_index(&self, index: u32) {
        let mut ready = self.ready.lock();
        ready.list.remove(index);
        let item = ready.slab.remove(index);
        drop(ready);
        drop(item);
    }

    /// Takes an item out of everything. No effect when `key` has another item than `wanted` by now.
    fn remove_item(&self, key: Key, wanted: Option<u32>) -> Option<Arc<Item>> {
        let mut items = self.items.lock();
        let place = find(&items, key)?;
        let index = items.get(place)?.index;
        if wanted.is_some_and(|wanted| wanted != index) {
            return None;
        }
        let item = items.remove(place)?;
        let registrations = core::mem::take(&mut *item.registrations.lock());
        drop(registrations); // no event can come from here on
        self.user.epoll_watches.fetch_sub(1, Ordering::Relaxed);
        self.forget_index(index);
        Some(item)
    }

    /// EPOLL_CTL_ADD. EEXIST, ELOOP, EPERM, EINVAL, ENOSPC (fs.epoll.max_user_watches), ENOMEM.
    pub fn add(self: &Arc<Self>, file: &Arc<OpenFile>, fd: i32, event: EpollEvent) -> Result<(), Errno> {
        let nested = file.downcast::<EpollFile>();
        let _nesting = nested.map(|_| NESTING.lock());
        if let Some(target) = nested {
            let mut depth = 1 + self.depth_above(MAX_NESTING)?;
            depth += target.0.depth_below(self, MAX_NESTING)?;
            if depth > MAX_NESTING {
                return Err(Errno::ELOOP);
            }
        }
        let key = (file.id, fd);
        let mut items = self.items.lock();
        if find(&items, key).is_some() {
            return Err(Errno::EEXIST);
        }
        items.reserve()?;
        if self.user.epoll_watches.fetch_add(1, Ordering::Relaxed) >= max_watches() {
            self.user.epoll_watches.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::ENOSPC);
        }
        let index = self.reserve_index().inspect_err(|_| {
            self.user.epoll_watches.fetch_sub(1, Ordering::Relaxed);
        })?;
        let item = Arc::new(Item {
            epoll: self.clone(),
            file: Arc::downgrade(file),
            key,
            index,
            mask: AtomicU32::new(event.events | ALWAYS),
            data: AtomicU64::new(event.data),
            registrations: SpinLock::new(Registrations::new()),
        });
        {
            let mut ready = self.ready.lock();
            if let Some(slot) = ready.slab.get_mut(index) {
                *slot = Some(item.clone());
            }
        }
        items.insert((key.0, u64::from(fd as u32)), 0, item.clone())?;
        file.watchers.lock().push(item.clone());
        let listener = Listener::Object(item.clone());
        let mut table = PollTable::new(&listener);
        table.set_exclusive(event.events & EPOLLEXCLUSIVE != 0);
        let holds = file.poll(Some(&mut table)).bits();
        let heard = table.check();
        *item.registrations.lock() = table.into_registrations();
        if heard.is_err() {
            drop(items);
            self.delete(file, fd)?;
            return heard;
        }
        if holds & (event.events | ALWAYS) != 0 {
            self.make_ready(index);
        }
        Ok(())
    }

    /// EPOLL_CTL_MOD. ENOENT, EINVAL.
    pub fn modify(&self, file: &Arc<OpenFile>, fd: i32, event: EpollEvent) -> Result<(), Errno> {
        let items = self.items.lock();
        let item = find(&items, (file.id, fd)).and_then(|place| items.get(place)).ok_or(Errno::ENOENT)?;
        if item.mask.load(Ordering::Relaxed) & EPOLLEXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        item.data.store(event.data, Ordering::Relaxed);
        item.mask.store(event.events | ALWAYS, Ordering::SeqCst);
        if item.current_events(file) != 0 {
            self.make_ready(item.index);
        }
        Ok(())
    }

    /// EPOLL_CTL_DEL. ENOENT.
    pub fn delete(&self, file: &Arc<OpenFile>, fd: i32) -> Result<(), Errno> {
        let item = self.remove_item((file.id, fd), None).ok_or(Errno::ENOENT)?;
        file.watchers.lock().retain(|other| !core::ptr::addr_eq(Arc::as_ptr(other), Arc::as_ptr(&item)));
        Ok(())
    }

    /// Epolls that watch this one, how many levels of them.
    fn depth_above(&self, limit: usize) -> Result<usize, Errno> {
        let Some(file) = self.file.get().and_then(Weak::upgrade) else { return Ok(0) };
        let item = |listener: &Arc<dyn Listen>| {
            (&**listener as &dyn Any).downcast_ref::<Item>().map(|item| item.epoll.clone())
        };
        let above: Vec<_> = file.watchers.lock().iter().filter_map(item).collect();
        let mut depth = 0;
        for epoll in above {
            let limit = limit.checked_sub(1).ok_or(Errno::ELOOP)?;
            depth = depth.max(1 + epoll.depth_above(limit)?);
        }
        Ok(depth)
    }

    /// Epolls watched from here, how many levels of them; ELOOP when `origin` is among them.
    fn depth_below(&self, origin: &Arc<Epoll>, limit: usize) -> Result<usize, Errno> {
        if core::ptr::eq(self, &**origin) {
            return Err(Errno::ELOOP);
        }
        // The files are let go only after the lock: the last reference to one would come back here.
        let files: Vec<_> = self.items.lock().iter().filter_map(|(_, item)| item.file.upgrade()).collect();
        let below: Vec<_> =
            files.iter().filter_map(|file| file.downcast::<EpollFile>().map(|nested| nested.0.clone())).collect();
        let mut depth = 0;
        for epoll in below {
            let limit = limit.checked_sub(1).ok_or(Errno::ELOOP)?;
            depth = depth.max(1 + epoll.depth_below(origin, limit)?);
        }
        Ok(depth)
    }

    /// What there is to report when the ready list holds one item alone, level-triggered: that can stay where it is. `None` when it is
    /// otherwise, and when nothing of it holds (it must leave the list before that is looked at for good).
    #[inline(always)]
    fn sole_event(&self) -> Option<EpollEvent> {
        let ready = self.ready.lock();
        let item = ready.slab.get(ready.list.sole()?)?.as_ref()?;
        let mask = item.mask.load(Ordering::Relaxed);
        if mask & (EPOLLET | EPOLLONESHOT) != 0 {
            return None;
        }
        let data = item.data.load(Ordering::Relaxed);
        let file = item.file.upgrade()?;
        drop(ready);
        let events = events_of(&file, mask);
        (events != 0).then_some(EpollEvent { events, pad: 0, data })
    }

    /// Takes the first item off the ready list, of which `turns` entries are to be looked at at most (all that are there at the
    /// first call, when it is `None`).
    fn pop_ready(&self, turns: &mut Option<usize>) -> Option<Arc<Item>> {
        let mut ready = self.ready.lock();
        let turns = turns.get_or_insert(ready.list.len());
        while *turns > 0 {
            *turns -= 1;
            let index = ready.list.pop_front()?;
            if let Some(Some(item)) = ready.slab.get(index) {
                return Some(item.clone());
            }
        }
        None
    }

    /// Puts an item back at the end of the ready list, unless it was removed meanwhile: its number may belong to another then.
    fn push_ready(&self, item: &Arc<Item>) -> bool {
        let mut ready = self.ready.lock();
        let is_there = matches!(ready.slab.get(item.index), Some(Some(now)) if Arc::ptr_eq(now, item));
        if is_there {
            ready.list.push_back(item.index);
        }
        is_there
    }

    /// Writes up to `max` ready events to user memory; answers how many. EFAULT when the first cannot be written.
    fn collect(&self, events: UserPtr<EpollEvent>, max: usize) -> SysResult {
        let mut count = 0;
        // Each item of the list as it is now, once: what stays ready joins the end again.
        let mut turns = None;
        let mut is_one_left = false;
        while count < max && turns != Some(0) {
            let Some(item) = self.pop_ready(&mut turns) else { break };
            let Some(file) = item.file.upgrade() else { continue };
            let found = item.current_events(&file);
            if found == 0 {
                continue;
            }
            let report = EpollEvent { events: found, pad: 0, data: item.data.load(Ordering::Relaxed) };
            if let Err(error) = events.at(count).and_then(|at| report.write_to(at)) {
                self.ready.lock().list.push_back(item.index);
                if count == 0 {
                    return Err(error);
                }
                break;
            }
            count += 1;
            let mask = item.mask.load(Ordering::Relaxed);
            if mask & EPOLLONESHOT != 0 {
                item.mask.fetch_and(PRIVATE, Ordering::Relaxed);
            } else if mask & EPOLLET == 0 {
                is_one_left |= self.push_ready(&item);
            }
        }
        // Another waiter may take what is left.
        if is_one_left || !self.ready.lock().list.is_empty() {
            self.waiters.wake_one();
        }
        Ok(count)
    }

    /// epoll_wait: up to `max` events; 0 at the deadline. EINTR, EFAULT.
    #[inline(always)]
    pub fn wait(&self, events: UserPtr<EpollEvent>, max: usize, deadline: Deadline, zero_timeout: bool) -> SysResult {
        let Some(event) = self.sole_event() else {
            return self.wait_for_any(events, max, deadline, zero_timeout);
        };
        event.write_to(events)?;
        self.waiters.wake_one(); // it is there for others too
        Ok(1)
    }

    #[inline(never)]
    fn wait_for_any(
        &self,
        events: UserPtr<EpollEvent>,
        max: usize,
        deadline: Deadline,
        zero_timeout: bool,
    ) -> SysResult {
        loop {
            let count = self.collect(events, max)?;
            if count != 0 {
                return Ok(count);
            }
            if zero_timeout {
                return Ok(0);
            }
            let number = self.file.get().and_then(Weak::upgrade).map_or(0, |file| file.id);
            let reason = WaitReason::on(WaitKind::EpollWait, number);
            let ended = self.waiters.wait_until(WaitMode::Interruptible, deadline, reason, || {
                (!self.ready.lock().list.is_empty()).then_some(())
            });
            match ended {
                Ok(()) => {}
                Err(WaitError::TimedOut) => return Ok(0),
                Err(WaitError::Interrupted) => return Err(Errno::EINTR),
            }
        }
    }
}

impl FileOps for EpollFile {
    fn can_signal(&self) -> bool {
        false
    }
    fn seek(&self, _file: &OpenFile, _current: u64, _from: SeekFrom) -> Result<u64, Errno> {
        Ok(0)
    }
    fn poll(&self, _file: &OpenFile, table: Option<&mut PollTable<'_>>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.0.poll_set);
        }
        let mut turns = None;
        while let Some(item) = self.0.pop_ready(&mut turns) {
            let Some(file) = item.file.upgrade() else { continue };
            if item.current_events(&file) != 0 && self.0.push_ready(&item) {
                return PollEvents::IN | PollEvents::RDNORM;
            }
        }
        PollEvents::empty()
    }

    /// Breaks the circle of items and epoll.
    fn release(&self, _file: &OpenFile) {
        loop {
            let first = {
                let items = self.0.items.lock();
                items.first(ALL, 0).and_then(|place| items.get(place)).map(|item| (item.key, item.index))
            };
            let Some((key, index)) = first else { return };
            if let Some(item) = self.0.remove_item(key, Some(index))
                && let Some(file) = item.file.upgrade()
            {
                file.watchers.lock().retain(|other| !core::ptr::addr_eq(Arc::as_ptr(other), Arc::as_ptr(&item)));
            }
        }
    }

    fn anonymous_name(&self) -> Option<String> {
        Some(String::from("anon_inode:[eventpoll]"))
    }

    fn fdinfo(&self, _file: &OpenFile) -> String {
        let mut out = String::new();
        self.0.items.lock().visit(ALL, 0, &mut |_, item| {
            let _ = core::fmt::Write::write_fmt(
                &mut out,
                format_args!(
                    "tfd: {:8} events: {:8x} data: {:16x}\n",
                    item.key.1,
                    item.mask.load(Ordering::Relaxed),
                    item.data.load(Ordering::Relaxed)
                ),
            );
            ControlFlow::Continue(())
        });
        out
    }

    fn as_epoll(&self) -> Option<&EpollFile> {
        Some(self)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Whether epoll may watch the file: EPERM for what is always ready (regular files, directories, /dev/null).
pub fn can_watch(file: &OpenFile) -> bool {
    file.advance == Advance::Stream
}
