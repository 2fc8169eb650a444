//! Descriptors in flight: open files that messages hold, and the sockets among them that nobody can reach any more.
//!
//! A socket that is only held by messages, in queues of sockets that are only held by messages, would live for ever. Every file
//! that enters or leaves a message is counted here; [`collect`] looks at the sockets in flight when a socket is closed, and
//! empties the queues of those that cannot be reached (the rules are `base::flight`).
//!
//! Counting goes through one lock, which the collector holds while it looks: whoever has taken a descriptor out of a message, or
//! a copy of one, cannot go on to close the socket it came from before the collector is done. Lock order: `REGISTRY`, then a
//! socket's state, then inboxes.

use super::{Message, UnixSocket};
use crate::prelude::*;
use crate::task::credentials::cap;
use crate::task::process::rlimit;
use crate::vfs::OpenFile;
use alloc::collections::BTreeMap;
use base::flight::{Node, garbage};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A socket in flight.
struct Entry {
    file: Weak<OpenFile>,
    /// Messages that hold it.
    count: usize,
}

struct Registry {
    sockets: BTreeMap<u64, Entry>,
    /// Descriptors in flight by the user who sent them.
    users: BTreeMap<u32, usize>,
}

static REGISTRY: SpinLock<Registry> = SpinLock::new(Registry { sockets: BTreeMap::new(), users: BTreeMap::new() });
/// Sockets in flight: with none there is nothing to collect.
static NR_SOCKETS: AtomicUsize = AtomicUsize::new(0);

fn socket_of(file: &OpenFile) -> Option<&UnixSocket> {
    file.downcast::<UnixSocket>()
}

/// The descriptors of one message.
pub(super) struct Flying {
    files: Vec<Arc<OpenFile>>,
    uid: u32,
}

impl Flying {
    /// ETOOMANYREFS for a user who has as many in flight as RLIMIT_NOFILE allows.
    pub fn new(files: Vec<Arc<OpenFile>>) -> Result<Self, Errno> {
        let creds = current().creds();
        let limit = current().process.limit(rlimit::NOFILE);
        let may_exceed = creds.has_cap(cap::SYS_RESOURCE) || creds.has_cap(cap::SYS_ADMIN);
        let uid = creds.uid;
        let mut registry = REGISTRY.lock();
        let in_flight = registry.users.entry(uid).or_insert(0);
        if *in_flight as u64 > limit && !may_exceed {
            drop(registry);
            return Err(Errno::ETOOMANYREFS);
        }
        *in_flight += files.len();
        for file in &files {
            if let Some(socket) = socket_of(file) {
                let new = || Entry { file: Arc::downgrade(file), count: 0 };
                registry.sockets.entry(socket.id).or_insert_with(new).count += 1;
            }
        }
        NR_SOCKETS.store(registry.sockets.len(), Ordering::Relaxed);
        drop(registry);
        Ok(Self { files, uid })
    }

    fn count_down(&self) {
        if self.files.is_empty() {
            return;
        }
        let mut registry = REGISTRY.lock();
        if let Some(in_flight) = registry.users.get_mut(&self.uid) {
            *in_flight -= self.files.len();
            if *in_flight == 0 {
                registry.users.remove(&self.uid);
            }
        }
        let mut gone: Vec<Entry> = Vec::new();
        for socket in self.files.iter().filter_map(|file| socket_of(file)) {
            let Some(entry) = registry.sockets.get_mut(&socket.id) else { continue };
            entry.count -= 1;
            if entry.count == 0 {
                gone.extend(registry.sockets.remove(&socket.id));
            }
        }
        NR_SOCKETS.store(registry.sockets.len(), Ordering::Relaxed);
        drop(registry);
    }

    /// Takes the files out of the message.
    pub fn land(mut self) -> Vec<Arc<OpenFile>> {
        self.count_down();
        core::mem::take(&mut self.files)
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        self.count_down();
    }
}

/// Copies of the files of a message that stays (MSG_PEEK).
pub(super) fn peek(flying: &Flying) -> Vec<Arc<OpenFile>> {
    let files = flying.files.clone();
    // A collector that has not seen these references is waited for.
    drop(REGISTRY.lock());
    files
}

/// Messages that threads are dropping: a message may hold a socket, whose queue holds messages, and so on; each thread drops them
/// one after the other, and not one inside the other.
static DISCARDING: SpinLock<BTreeMap<u32, Vec<Message>>> = SpinLock::new(BTreeMap::new());

/// Drops messages that nobody will receive, then looks for sockets that nobody can reach.
pub(super) fn discard(messages: impl IntoIterator<Item = Message>) {
    let tid = current().tid();
    let messages: Vec<Message> = messages.into_iter().collect();
    {
        let mut discarding = DISCARDING.lock();
        if let Some(queue) = discarding.get_mut(&tid) {
            queue.extend(messages); // the caller's caller goes on with them
            return;
        }
        if messages.is_empty() && NR_SOCKETS.load(Ordering::Relaxed) == 0 {
            return;
        }
        discarding.insert(tid, messages);
    }
    loop {
        let next = DISCARDING.lock().get_mut(&tid).and_then(Vec::pop);
        match next {
            Some(message) => drop(message),
            None => {
                let found = collect();
                let mut discarding = DISCARDING.lock();
                let Some(queue) = discarding.get_mut(&tid) else { return };
                queue.extend(found);
                if queue.is_empty() {
                    let done = discarding.remove(&tid);
                    drop(discarding);
                    drop(done);
                    return;
                }
            }
        }
    }
}

/// With `n` sockets in flight, every `n / CLOSES_PER_LOOK`th close looks for those nobody can reach.
const CLOSES_PER_LOOK: usize = 16;

/// The messages of all sockets that nobody can reach. One collector is enough; who comes while it works leaves it to look once
/// more.
fn collect() -> Vec<Message> {
    static COLLECTING: AtomicBool = AtomicBool::new(false);
    static AGAIN: AtomicBool = AtomicBool::new(false);
    /// Calls since somebody looked.
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let mut found = Vec::new();
    let nr_sockets = NR_SOCKETS.load(Ordering::Acquire);
    // A look costs as much as there are sockets in flight: with many, not every close pays for one.
    let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    if nr_sockets == 0 || calls * CLOSES_PER_LOOK < nr_sockets {
        return found;
    }
    CALLS.store(0, Ordering::Relaxed);
    AGAIN.store(true, Ordering::SeqCst);
    while AGAIN.load(Ordering::SeqCst) && !COLLECTING.swap(true, Ordering::SeqCst) {
        AGAIN.store(false, Ordering::SeqCst);
        look_for_unreachable(&mut found);
        COLLECTING.store(false, Ordering::SeqCst);
    }
    found
}

fn look_for_unreachable(found: &mut Vec<Message>) {
    let mut unreachable: Vec<Arc<OpenFile>> = Vec::new();
    let registry = REGISTRY.lock();
    let index: BTreeMap<u64, usize> = registry.sockets.keys().enumerate().map(|(at, id)| (*id, at)).collect();
    // References are counted before any is made here.
    let mut nodes: Vec<Node> = registry
        .sockets
        .values()
        .map(|entry| Node { references: entry.file.strong_count(), in_flight: entry.count, holds: Vec::new() })
        .collect();
    let files: Vec<Option<Arc<OpenFile>>> = registry.sockets.values().map(|entry| entry.file.upgrade()).collect();
    for (node, file) in nodes.iter_mut().zip(&files) {
        let Some(socket) = file.as_ref().and_then(|file| socket_of(file)) else { continue };
        socket.each_queue(&mut |message| {
            let held = message.flying.iter().flat_map(|flying| &flying.files).filter_map(|file| socket_of(file));
            node.holds.extend(held.filter_map(|socket| index.get(&socket.id)));
        });
    }
    for (is_garbage, file) in garbage(&nodes).into_iter().zip(&files) {
        if is_garbage {
            unreachable.extend(file.clone());
        }
    }
    drop(registry);
    for socket in unreachable.iter().filter_map(|file| socket_of(file)) {
        socket.empty_queues(found);
    }
}

impl UnixSocket {
    /// Runs `f` with every message of its inbox, and of the inboxes of connections that nobody has accepted yet.
    fn each_queue(&self, f: &mut dyn FnMut(&Message)) {
        self.inbox.lock().messages.iter().for_each(&mut *f);
        let state = self.state.lock();
        for embryo in state.pending.iter().flat_map(|(pending, _)| pending) {
            embryo.inbox.lock().messages.iter().for_each(&mut *f);
        }
    }

    fn empty_queues(&self, into: &mut Vec<Message>) {
        let own = core::mem::take(&mut *self.inbox.lock());
        into.extend(own.messages);
        let embryos: Vec<Arc<UnixSocket>> =
            self.state.lock().pending.iter().flat_map(|(pending, _)| pending).cloned().collect();
        for embryo in embryos {
            let own = core::mem::take(&mut *embryo.inbox.lock());
            into.extend(own.messages);
        }
    }
}
