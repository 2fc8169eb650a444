//! What the processes of one real user have together, where a limit is on that: queued signals, pages of pipes, epoll watches.
//!
//! Each process keeps its user's [`User`]; objects that stay charged to who made them keep it too. Locks: `USERS` alone.

use crate::prelude::*;
use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicU64, AtomicUsize};

#[derive(Default)]
pub struct User {
    /// Queued signals and POSIX timers (RLIMIT_SIGPENDING).
    pub signals: AtomicU64,
    /// What the sizes of their pipes come to (fs.pipe-user-pages-soft).
    pub pipe_pages: AtomicUsize,
    /// Files in their epolls (fs.epoll.max_user_watches).
    pub epoll_watches: AtomicUsize,
}

static USERS: IrqSpinLock<BTreeMap<u32, Weak<User>>> = IrqSpinLock::new(BTreeMap::new());

impl User {
    /// The one of `uid`.
    pub fn of(uid: u32) -> Arc<Self> {
        let mut users = USERS.lock();
        if let Some(user) = users.get(&uid).and_then(Weak::upgrade) {
            return user;
        }
        // Those of users that have gone go with them.
        users.retain(|_, user| user.strong_count() != 0);
        let user = Arc::new(Self::default());
        users.insert(uid, Arc::downgrade(&user));
        user
    }
    /// The calling process's.
    pub fn current() -> Arc<Self> {
        current().process.signal.user()
    }
}
