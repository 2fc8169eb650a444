//! inotify(7): watches on inodes, and the files that their events are read from.
//!
//! Lock order: `WATCHES` → an instance's `state` → `USERS`; all short. Events go out with neither held by the caller.

use crate::prelude::*;
use crate::sync::{WaitKind, WaitReason};
use crate::vfs::notify::{self, Event, NR_WATCHES, Watcher};
use crate::vfs::{FileOps, OpenFile, PollEvents, PollSet, PollTable, SeekFrom};
use crate::vfs::{FileType, Inode, Path};
use alloc::collections::{BTreeMap, VecDeque};
use base::abi::ioctl::FIONREAD;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use hashbrown::HashMap;
use zerocopy::{Immutable, IntoBytes};

pub const IN_ALL_EVENTS: u32 = 0xfff;
pub const IN_ONLYDIR: u32 = 0x0100_0000;
pub const IN_DONT_FOLLOW: u32 = 0x0200_0000;
pub const IN_EXCL_UNLINK: u32 = 0x0400_0000;
pub const IN_MASK_CREATE: u32 = 0x1000_0000;
pub const IN_MASK_ADD: u32 = 0x2000_0000;
pub const IN_ONESHOT: u32 = 0x8000_0000;

/// fs.inotify.max_queued_events, max_user_instances and max_user_watches.
pub static MAX_QUEUED: AtomicUsize = AtomicUsize::new(16_384);
pub static MAX_INSTANCES: AtomicUsize = AtomicUsize::new(128);
pub static MAX_WATCHES: AtomicUsize = AtomicUsize::new(65_536);

/// What a user has of both.
#[derive(Default)]
struct Usage {
    instances: usize,
    watches: usize,
}

static USERS: SpinLock<BTreeMap<u32, Usage>> = SpinLock::new(BTreeMap::new());

/// Counts one more of a user's instances or watches, unless there are `limit`: false.
fn charge(uid: u32, which: fn(&mut Usage) -> &mut usize, limit: &AtomicUsize) -> bool {
    let mut users = USERS.lock();
    let count = which(users.entry(uid).or_default());
    let has_room = *count < limit.load(Ordering::Relaxed);
    *count += usize::from(has_room);
    has_room
}

fn uncharge(uid: u32, which: fn(&mut Usage) -> &mut usize, by: usize) {
    let mut users = USERS.lock();
    let Some(usage) = users.get_mut(&uid) else { return };
    let count = which(usage);
    *count = count.saturating_sub(by);
    if usage.instances == 0 && usage.watches == 0 {
        users.remove(&uid);
    }
}

/// One inode watched by one instance.
struct Watch {
    number: i32,
    mask: AtomicU32,
    /// Keeps the inode, and so its address, alive.
    inode: Arc<dyn Inode>,
    instance: Weak<Inotify>,
}

static WATCHES: SpinLock<Option<HashMap<usize, Vec<Arc<Watch>>>>> = SpinLock::new(None);

fn key(inode: &Arc<dyn Inode>) -> usize {
    Arc::as_ptr(inode).cast::<()>() as usize
}

fn watches_of(inode: &Arc<dyn Inode>) -> Vec<Arc<Watch>> {
    WATCHES.lock().as_ref().and_then(|watches| watches.get(&key(inode)).cloned()).unwrap_or_default()
}

#[derive(PartialEq, Eq, Clone)]
struct Queued {
    watch: i32,
    mask: u32,
    cookie: u32,
    name: Vec<u8>,
}

/// The head of `struct inotify_event`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Head {
    watch: i32,
    mask: u32,
    cookie: u32,
    len: u32,
}

impl Queued {
    /// Bytes of the name with its padding.
    fn name_len(&self) -> usize {
        if self.name.is_empty() { 0 } else { (self.name.len() + 1).next_multiple_of(size_of::<Head>()) }
    }
    fn len(&self) -> usize {
        size_of::<Head>() + self.name_len()
    }
}

#[derive(Default)]
struct State {
    queue: VecDeque<Queued>,
    watches: BTreeMap<i32, Arc<Watch>>,
    last: i32,
}

/// An inotify instance.
pub struct Inotify {
    /// Who made it, and is charged for it and its watches.
    uid: u32,
    /// fs.inotify.max_queued_events of that time.
    max_queued: usize,
    state: SpinLock<State>,
    readable: WaitQueue,
    poll_set: PollSet,
    own: Weak<Inotify>,
}

struct Watches;

impl Watcher for Watches {
    /// Queues `event` with everybody who watches `inode` for it.
    fn event(
        &self,
        inode: &Arc<dyn Inode>,
        event: Event,
        is_directory: bool,
        is_unlinked: bool,
        name: Option<&[u8]>,
        cookie: u32,
    ) {
        // IN_EXCL_UNLINK: nothing more of what has no name.
        let except = if is_unlinked { IN_EXCL_UNLINK } else { 0 };
        for watch in watches_of(inode) {
            let wanted = watch.mask.load(Ordering::Relaxed);
            if wanted & event.bits() == 0 || wanted & except != 0 {
                continue;
            }
            let Some(instance) = watch.instance.upgrade() else { continue };
            // What happens to the watched thing itself does not say what it is.
            let tells_kind = is_directory && !event.intersects(Event::DELETE_SELF | Event::MOVE_SELF);
            let mask = event.bits() | if tells_kind { Event::ISDIR.bits() } else { 0 };
            instance.push(Queued { watch: watch.number, mask, cookie, name: name.unwrap_or_default().to_vec() });
            if wanted & IN_ONESHOT != 0 {
                instance.remove(watch.number);
            }
        }
    }

    /// DELETE_SELF, and its watches end.
    fn unlinked(&self, inode: &Arc<dyn Inode>) {
        let is_directory = inode.file_type() == FileType::Directory;
        self.event(inode, Event::DELETE_SELF, is_directory, false, None, 0);
        for watch in watches_of(inode) {
            if let Some(instance) = watch.instance.upgrade() {
                instance.remove(watch.number);
            }
        }
    }

    /// UNMOUNT, whatever was asked for, and its watches end.
    fn unmounted(&self, dev: u64) {
        let all: Vec<Arc<Watch>> = match &*WATCHES.lock() {
            Some(table) => table.values().flatten().cloned().collect(),
            None => return,
        };
        for watch in all.iter().filter(|watch| watch.inode.stat().dev == dev) {
            let Some(instance) = watch.instance.upgrade() else { continue };
            let is_directory = watch.inode.file_type() == FileType::Directory;
            let mask = Event::UNMOUNT.bits() | if is_directory { Event::ISDIR.bits() } else { 0 };
            instance.push(Queued { watch: watch.number, mask, cookie: 0, name: Vec::new() });
            instance.remove(watch.number);
        }
    }
}

/// Takes a watch out of the table of inodes.
fn unregister(watch: &Arc<Watch>) {
    let mut guard = WATCHES.lock();
    let Some(table) = guard.as_mut() else { return };
    if let Some(list) = table.get_mut(&key(&watch.inode)) {
        let before = list.len();
        list.retain(|other| !Arc::ptr_eq(other, watch));
        NR_WATCHES.fetch_sub(before - list.len(), Ordering::Relaxed);
        if list.is_empty() {
            let gone = table.remove(&key(&watch.inode));
            drop(guard);
            drop(gone);
        }
    }
}

impl Inotify {
    /// EMFILE when the user has as many as are allowed.
    pub fn new() -> Result<Arc<Self>, Errno> {
        let uid = current().creds().uid;
        if !charge(uid, |usage| &mut usage.instances, &MAX_INSTANCES) {
            return Err(Errno::EMFILE);
        }
        Ok(Arc::new_cyclic(|own| Self {
            uid,
            max_queued: MAX_QUEUED.load(Ordering::Relaxed),
            state: SpinLock::new(State::default()),
            readable: WaitQueue::new(),
            poll_set: PollSet::new(),
            own: own.clone(),
        }))
    }

    fn push(&self, event: Queued) {
        let mut state = self.state.lock();
        // The same again, not yet read, says nothing new.
        if state.queue.back() == Some(&event) {
            return;
        }
        let overflow = Queued { watch: -1, mask: Event::Q_OVERFLOW.bits(), cookie: 0, name: Vec::new() };
        if state.queue.try_room(1).is_err() {
            // Without memory the last event makes way for the news that something is missing.
            if let Some(last) = state.queue.back_mut() {
                *last = overflow;
            }
            return;
        }
        // A queue that is full gets one more, which says that something is missing.
        match state.queue.len() {
            len if len < self.max_queued => state.queue.push_back(event),
            len if len == self.max_queued => state.queue.push_back(overflow),
            _ => return,
        }
        drop(state);
        self.readable.wake_one();
        self.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
    }

    /// Watches `path`: the number of the watch. EEXIST (IN_MASK_CREATE), ENOSPC.
    pub fn add(&self, path: &Path, mask: u32) -> Result<i32, Errno> {
        let inode = path.inode();
        let kept = mask & (IN_ALL_EVENTS | IN_EXCL_UNLINK | IN_ONESHOT);
        let own = watches_of(inode).into_iter().find(|watch| watch.instance.ptr_eq(&self.own));
        if let Some(watch) = own {
            if mask & IN_MASK_CREATE != 0 {
                return Err(Errno::EEXIST);
            }
            if mask & IN_MASK_ADD != 0 {
                watch.mask.fetch_or(kept, Ordering::Relaxed);
            } else {
                watch.mask.store(kept, Ordering::Relaxed);
            }
            return Ok(watch.number);
        }
        let watch = {
            let mut state = self.state.lock();
            if state.last == i32::MAX || !charge(self.uid, |usage| &mut usage.watches, &MAX_WATCHES) {
                return Err(Errno::ENOSPC);
            }
            state.last += 1;
            let watch = Arc::new(Watch {
                number: state.last,
                mask: AtomicU32::new(kept),
                inode: inode.clone(),
                instance: self.own.clone(),
            });
            state.watches.insert(watch.number, watch.clone());
            watch
        };
        notify::set_watcher(&Watches);
        let mut table = WATCHES.lock();
        table.get_or_insert_with(HashMap::new).entry(key(inode)).or_default().push(watch.clone());
        NR_WATCHES.fetch_add(1, Ordering::Relaxed);
        Ok(watch.number)
    }

    /// Ends a watch: EINVAL. IN_IGNORED tells the reader.
    pub fn remove(&self, number: i32) -> bool {
        let watch = self.state.lock().watches.remove(&number);
        let Some(watch) = watch else { return false };
        uncharge(self.uid, |usage| &mut usage.watches, 1);
        unregister(&watch);
        self.push(Queued { watch: number, mask: Event::IGNORED.bits(), cookie: 0, name: Vec::new() });
        true
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        let watches = core::mem::take(&mut self.state.get_mut().watches);
        uncharge(self.uid, |usage| &mut usage.watches, watches.len());
        uncharge(self.uid, |usage| &mut usage.instances, 1);
        for watch in watches.values() {
            unregister(watch);
        }
    }
}

impl FileOps for Inotify {
    fn seek(&self, _file: &OpenFile, _current: u64, _from: SeekFrom) -> Result<u64, Errno> {
        Ok(0)
    }
    /// As many whole events as fit: EINVAL when not even one does.
    fn read(&self, file: &OpenFile, _offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        let mut events: Vec<Queued> = Vec::new();
        let room = dst.remaining();
        let mut take = || -> Option<Result<(), Errno>> {
            let mut state = self.state.lock();
            let mut used = 0;
            while let Some(next) = state.queue.front() {
                if used + next.len() > room || events.try_room(1).is_err() {
                    break;
                }
                used += next.len();
                events.extend(state.queue.pop_front());
            }
            match (events.is_empty(), state.queue.is_empty()) {
                (false, _) => Some(Ok(())),
                (true, false) if used + state.queue.front().map_or(0, Queued::len) <= room => Some(Err(Errno::ENOMEM)),
                (true, false) => Some(Err(Errno::EINVAL)),
                (true, true) if file.is_nonblocking() => Some(Err(Errno::EAGAIN)),
                (true, true) => None,
            }
        };
        self.readable.wait_until(
            WaitMode::Interruptible,
            None,
            WaitReason::on(WaitKind::InotifyRead, file.id),
            &mut take,
        )??;
        let mut written = 0;
        for event in &events {
            let len = event.name_len();
            let head = Head { watch: event.watch, mask: event.mask, cookie: event.cookie, len: len as u32 };
            written += dst.write(head.as_bytes())?;
            written += dst.write(&event.name)?;
            // A name's length is rounded up to a head's.
            written += dst.write(&[0; size_of::<Head>()][..len - event.name.len()])?;
        }
        Ok(written)
    }
    fn poll(&self, _file: &OpenFile, table: Option<&mut PollTable<'_>>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.poll_set);
        }
        if self.state.lock().queue.is_empty() { PollEvents::empty() } else { PollEvents::IN | PollEvents::RDNORM }
    }
    fn ioctl(&self, _file: &OpenFile, command: u32, argument: u64) -> SysResult {
        if command != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let bytes: usize = self.state.lock().queue.iter().map(Queued::len).sum();
        UserPtr::<i32>::new(UserAddr(argument)).write(&(bytes.min(i32::MAX as usize) as i32))?;
        Ok(0)
    }
    fn anonymous_name(&self) -> Option<String> {
        Some(String::from("anon_inode:inotify"))
    }
    fn fdinfo(&self, _file: &OpenFile) -> String {
        let watches: Vec<_> = self.state.lock().watches.values().cloned().collect();
        let line = |watch: &Arc<Watch>| {
            let stat = watch.inode.stat();
            let mask = watch.mask.load(Ordering::Relaxed);
            alloc::format!(
                "inotify wd:{:x} ino:{:x} sdev:{:x} mask:{mask:x} ignored_mask:0\n",
                watch.number,
                stat.ino,
                stat.dev
            )
        };
        watches.iter().map(line).collect()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
