//! Readiness: what poll, select, epoll, SIGIO and blocking calls share.
//!
//! An object keeps a [`PollSet`] and calls `notify(events)` after each change, having dropped its own lock. Pollers are all
//! woken; blocking readers and writers wait in `WaitQueue`s of their own and are woken one by one.

use crate::prelude::*;
use crate::sync::{Deadline, Park, WaitError, WaitReason};
use base::epoll::IndexList;
use base::slab::Slab;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use smallvec::SmallVec;
use spin::Once;

bitflags! {
    /// poll(2) events (epoll's have the same low values).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct PollEvents: u32 {
        const IN = 0x1;
        const PRI = 0x2;
        const OUT = 0x4;
        const ERR = 0x8;
        const HUP = 0x10;
        const NVAL = 0x20;
        const RDNORM = 0x40;
        const RDBAND = 0x80;
        const WRNORM = 0x100;
        const WRBAND = 0x200;
        const MSG = 0x400;
        const RDHUP = 0x2000;
    }
}

impl PollEvents {
    /// What poll(2) reports whether asked for or not.
    pub const ALWAYS: Self = Self::ERR.union(Self::HUP).union(Self::NVAL);
}

/// What is told of events and is no thread.
pub trait Listen: Any + Send + Sync {
    /// `events` may hold now; answers whether a waiting thread was woken. Any context.
    fn on_event(&self, events: PollEvents) -> bool;
    /// The description it listens to goes away.
    fn file_is_gone(&self) {}
}

/// Who is told of an event.
#[derive(Clone)]
pub enum Listener {
    /// A thread in poll or select: it wakes and looks again.
    Task(Arc<PollWaiter>),
    /// Something else: an epoll item, which joins its epoll's ready list; O_ASYNC, for which the file's owner gets SIGIO.
    Object(Arc<dyn Listen>),
}

/// A thread that waits for any of several objects.
pub struct PollWaiter {
    task: Arc<Task>,
    triggered: AtomicBool,
}

impl PollWaiter {
    /// One for the calling thread.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { task: crate::task::current_arc(), triggered: AtomicBool::new(false) })
    }
    fn wake(&self) {
        if !self.triggered.swap(true, Ordering::AcqRel) {
            self.task.unpark();
        }
    }
    /// Sleeps until an object it is registered with has news.
    pub fn wait(&self, deadline: Deadline, reason: WaitReason) -> Result<(), WaitError> {
        Park::park_until(WaitMode::Interruptible, deadline, reason, || {
            self.triggered.swap(false, Ordering::AcqRel).then_some(())
        })
    }
}

/// Waits until `scan` answers `Some`: `scan` polls every object, registering when it is given a table. `Ok(None)` is the
/// time-out; `zero_timeout` says not to wait at all. Interrupted: ERESTARTNOHAND.
pub fn wait_for<R>(
    deadline: Deadline,
    zero_timeout: bool,
    reason: WaitReason,
    mut scan: impl FnMut(Option<&mut PollTable<'_>>) -> Option<R>,
) -> Result<Option<R>, Errno> {
    if let Some(result) = scan(None) {
        return Ok(Some(result));
    }
    if zero_timeout {
        return Ok(None);
    }
    let waiter = PollWaiter::new();
    let listener = Listener::Task(waiter.clone());
    let mut table = PollTable::new(&listener);
    if let Some(result) = scan(Some(&mut table)) {
        return Ok(Some(result));
    }
    table.check()?;
    loop {
        let ended = waiter.wait(deadline, reason);
        if let Some(result) = scan(None) {
            return Ok(Some(result));
        }
        match ended {
            Ok(()) => {}
            Err(WaitError::TimedOut) => return Ok(None),
            Err(WaitError::Interrupted) => return Err(Errno::ERESTARTNOHAND),
        }
    }
}

struct Entry {
    listener: Listener,
    /// Events the listener cares about (epoll items keep their own, changing mask).
    interest: PollEvents,
}

struct Entries {
    slab: Slab<Entry>,
    /// Listeners to tell, all of them.
    all: IndexList,
    /// EPOLLEXCLUSIVE items, of which one is told, the longest untold first.
    exclusive: IndexList,
}

struct Listeners {
    /// Number of entries, so that `notify` need not lock an empty set.
    count: AtomicUsize,
    entries: IrqSpinLock<Entries>,
}

/// Who wants to hear of an object's readiness: threads in poll/select, epoll items, the O_ASYNC owner.
///
/// Nothing is allocated before the first registration, and nothing after that until more listeners than ever are registered.
/// Memory order: a poller registers, then looks at the object; a changer changes the object, then looks for listeners. The
/// fences make one of the two see the other.
pub struct PollSet {
    listeners: Once<Arc<Listeners>>,
}

impl PollSet {
    #[expect(clippy::new_without_default, reason = "const constructor is the one used")]
    pub const fn new() -> Self {
        Self { listeners: Once::new() }
    }

    /// Tells everyone registered that `events` may now hold. Callable in IRQ context. Cheap when nobody listens.
    #[inline]
    pub fn notify(&self, events: PollEvents) {
        fence(Ordering::SeqCst);
        if let Some(listeners) = self.listeners.get()
            && listeners.count.load(Ordering::Relaxed) != 0
        {
            listeners.notify(events);
        }
    }

    /// Whether anyone listens at this instant.
    pub fn has_listeners(&self) -> bool {
        self.listeners.get().is_some_and(|listeners| listeners.count.load(Ordering::Relaxed) != 0)
    }
}

impl Listeners {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            count: AtomicUsize::new(0),
            entries: IrqSpinLock::new(Entries {
                slab: Slab::new(),
                all: IndexList::new(),
                exclusive: IndexList::new(),
            }),
        })
    }

    /// Not inlined: [`PollSet::notify`] is, everywhere, and usually nobody listens.
    #[inline(never)]
    fn notify(&self, events: PollEvents) {
        let mut entries = self.entries.lock();
        let Entries { slab, all, exclusive } = &mut *entries;
        let mut at = all.front();
        while let Some(index) = at {
            at = all.next(index);
            let Some(entry) = slab.get(index) else { continue };
            if !entry.interest.intersects(events) {
                continue;
            }
            match &entry.listener {
                Listener::Task(waiter) => waiter.wake(),
                Listener::Object(object) => {
                    object.on_event(events);
                }
            }
        }
        // One exclusive listener that has someone to wake; it goes to the end of the line.
        for _ in 0..exclusive.len() {
            let Some(index) = exclusive.pop_front() else { break };
            exclusive.push_back(index);
            if let Some(Entry { listener: Listener::Object(object), .. }) = slab.get(index)
                && object.on_event(events)
            {
                break;
            }
        }
    }

    /// ENOMEM.
    fn insert(&self, entry: Entry, is_exclusive: bool) -> Result<u32, Errno> {
        let mut entries = self.entries.lock();
        let index = entries.slab.insert(entry)?;
        let list = if is_exclusive { &mut entries.exclusive } else { &mut entries.all };
        if let Err(error) = list.cover(index) {
            let entry = entries.slab.remove(index);
            drop(entries);
            drop(entry);
            return Err(error);
        }
        list.push_back(index);
        self.count.fetch_add(1, Ordering::Relaxed);
        drop(entries);
        fence(Ordering::SeqCst);
        Ok(index)
    }

    fn remove(&self, index: u32) {
        let mut entries = self.entries.lock();
        if !entries.all.remove(index) {
            entries.exclusive.remove(index);
        }
        let entry = entries.slab.remove(index);
        self.count.fetch_sub(1, Ordering::Relaxed);
        drop(entries);
        drop(entry); // may be the last reference to its item: not under the lock
    }
}

/// One place in one poll set; dropping it leaves.
pub struct Registration {
    listeners: Arc<Listeners>,
    index: u32,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.listeners.remove(self.index);
    }
}

/// What a poller holds while it listens. Most objects have one poll set.
pub type Registrations = SmallVec<[Registration; 2]>;

/// A poller's registration list: `FileOps::poll` calls `table.register(&self.poll_set)`; dropping it deregisters.
pub struct PollTable<'a> {
    listener: &'a Listener,
    interest: PollEvents,
    exclusive: bool,
    failed: bool,
    registrations: Registrations,
}

impl<'a> PollTable<'a> {
    /// An empty list for `listener`, interested in every event.
    pub fn new(listener: &'a Listener) -> Self {
        Self { listener, interest: PollEvents::all(), exclusive: false, failed: false, registrations: SmallVec::new() }
    }
    /// Registrations from now on are for these events (and for errors) only.
    pub fn set_interest(&mut self, interest: PollEvents) {
        self.interest = interest | PollEvents::ALWAYS;
    }
    /// Registrations from now on are woken one by one (EPOLLEXCLUSIVE).
    pub fn set_exclusive(&mut self, exclusive: bool) {
        self.exclusive = exclusive;
    }
    pub fn register(&mut self, set: &PollSet) {
        let listeners = set.listeners.call_once(Listeners::new).clone();
        let entry = Entry { listener: self.listener.clone(), interest: self.interest };
        match listeners.insert(entry, self.exclusive) {
            Ok(index) => self.registrations.push(Registration { listeners, index }),
            Err(_) => self.failed = true,
        }
    }
    /// ENOMEM when there was no memory for a registration: what happens could go unheard.
    pub fn check(&self) -> Result<(), Errno> {
        if self.failed { Err(Errno::ENOMEM) } else { Ok(()) }
    }
    /// The registrations, to be kept beyond the call.
    pub fn into_registrations(self) -> Registrations {
        self.registrations
    }
}
