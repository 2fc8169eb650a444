//! Lock ranks: which lock may be taken while which others are held. [`OUTER`] and [`INNER`] are the one table of it.
//!
//! A kernel with debug assertions (profile kernel-checked) keeps what each CPU (spin locks) and each thread (locks that sleep) holds, and
//! panics where a lock is about to be taken out of turn, which is a deadlock that only waits for its other half. A kernel without them
//! has none of this: [`Site`] is empty then and its functions do nothing.
//!
//! A lock's class is the file it was made in and what is in it. A class that the table does not name is a leaf: nothing is taken
//! under it but what [`INNER`] names. So a new lock needs a row here only when another is to be taken while it is held.
//! Locks that sleep and spin locks are compared among their own kind: a thread that holds a spin lock takes none that sleeps at all.

#[cfg(not(debug_assertions))]
pub(super) use released::Site;

#[cfg(debug_assertions)]
pub(super) use checked::Site;

/// How locks of one class are taken together.
#[cfg(debug_assertions)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Several {
    /// Never two of them.
    No,
    /// In an order of their own, which their file's page tells (by address, from parent to child).
    Ordered,
}

/// One class: those made in a file whose path ends like this, with this in the name of their contents' type.
#[cfg(debug_assertions)]
struct Class(&'static str, &'static str, Several);

#[cfg(debug_assertions)]
use Several::{No, Ordered};

/// Under which others are taken, outermost first.
#[cfg(debug_assertions)]
const OUTER: &[Class] = &[
    // Sleeping locks.
    Class("file/epoll.rs", "()", No),
    Class("file/epoll.rs", "Tree", No),
    Class("vfs/change.rs", "()", No),
    Class("vfs/path.rs", "()", Ordered),
    Class("vfs/ops.rs", "u64", No),
    Class("file/memfd.rs", "()", No),
    Class("fs/tmpfs/node.rs", "()", No),
    Class("file/pipe.rs", "Buffer", Ordered),
    Class("observe/proc/mod.rs", "Option", No),
    Class("tty/mod.rs", "State", No),
    Class("tty/pty.rs", "VecDeque", No),
    Class("net/unix/mod.rs", "()", No),
    Class("net/netlink/mod.rs", "()", No),
    Class("syscall/trace.rs", "()", No),
    Class("mm/space.rs", "Inner", Ordered),
    // Spin locks.
    Class("vfs/path.rs", "Vec<alloc::sync::Arc<kernel::vfs::path::Mount>>", No),
    Class("vfs/lock.rs", "HashMap", No),
    Class("vfs/lock.rs", "State", No),
    Class("file/inotify.rs", "HashMap", No),
    Class("file/inotify.rs", "State", No),
    Class("fs/tmpfs/node.rs", "Directory", Ordered),
    Class("tty/job.rs", "BTreeMap", No),
    Class("ipc/futex/mod.rs", "Waiter", Ordered),
    Class("ipc/futex/pi.rs", "Locks", No),
    Class("ipc/sem.rs", "IdTable", No),
    Class("ipc/sem.rs", "State", No),
    Class("ipc/mod.rs", "UndoList", No),
    Class("ipc/sem.rs", "UndoList", No),
    Class("ipc/msg.rs", "IdTable", No),
    Class("ipc/msg.rs", "State", No),
    Class("ipc/shm.rs", "IdTable", No),
    Class("ipc/shm.rs", "State", No),
    Class("ipc/mq/mod.rs", "BTreeMap", No),
    Class("machine/entropy.rs", "Source", No),
    Class("net/inet/config.rs", "State", No),
    Class("net/inet/mailbox/mod.rs", "State", No),
    Class("net/inet/tcp/mod.rs", "State", No),
    Class("net/netlink/mod.rs", "NetlinkSocket", No),
    Class("net/unix/flight.rs", "Registry", No),
    Class("net/unix/name.rs", "HashMap", No),
    Class("net/unix/mod.rs", "State", Ordered),
    Class("process/timers/posix.rs", "BTreeMap", No),
    Class("process/timers/timers.rs", "Alarm", No),
    Class("", "Rlimit", No),
    Class("process/signal/state.rs", "AltStack", Ordered),
];

/// What may be taken under any lock, outermost first: all that interrupts take, for they come while any spin lock is held, and what
/// they lead to: signals, waking, timers, run queues, the log.
#[cfg(debug_assertions)]
const INNER: &[Class] = &[
    Class("file/timerfd.rs", "State", No),
    Class("timers/alarm.rs", "Setting", No),
    Class("vfs/poll.rs", "Entries", Ordered),
    Class("file/epoll.rs", "Ready", No),
    Class("file/eventfd.rs", "()", No),
    Class("file/signal_io.rs", "FileOwner", No),
    Class("task/tree.rs", "Family", No),
    Class("task/tree.rs", "Table", No),
    Class("", "Relations", Ordered),
    Class("task/life.rs", "StopState", No),
    Class("", "List<alloc::sync::Arc<kernel::task::task::Task>>", No),
    Class("", "Vec<alloc::sync::Arc<kernel::task::task::Task>>", No),
    Class("process/signal/state.rs", "Arc<kernel::process::signal::state::Actions>", No),
    Class("process/signal/state.rs", "state::Action;", No),
    Class("process/signal/state.rs", "User", No),
    Class("task/user.rs", "User", No),
    Class("process/signal/state.rs", "Pending", No),
    Class("random.rs", "Pool", No),
    Class("inet/bottom_half.rs", "VecDeque", No),
    Class("tty/console.rs", "VecDeque", No),
    Class("machine/console.rs", "Port", No),
    Class("sync/wait.rs", "List", No),
    Class("sched/mod.rs", "WaitRecord", No),
    Class("sched/switch.rs", "Task>>", No),
    Class("time/timer.rs", "Option", No),
    Class("time/timer.rs", "TimerQueue", No),
    Class("sched/switch.rs", "RunQueue", No),
    Class("log/mod.rs", "VecDeque", No),
];

#[cfg(not(debug_assertions))]
mod released {
    /// Where a lock was made: nothing.
    pub struct Site;

    impl Site {
        pub const fn new() -> Self {
            Self
        }
        #[inline(always)]
        pub fn check_spin<T: ?Sized>(&self) {}
        #[inline(always)]
        pub fn hold_spin<T: ?Sized>(&self, _contents: &T) {}
        #[inline(always)]
        pub fn check_sleeping<T: ?Sized>(&self) {}
        #[inline(always)]
        pub fn hold_sleeping<T: ?Sized>(&self, _contents: &T) {}
        #[inline(always)]
        pub fn release_spin<T: ?Sized>(_contents: &T) {}
        #[inline(always)]
        pub fn release_sleeping<T: ?Sized>(_contents: &T) {}
    }
}

#[cfg(debug_assertions)]
mod checked {
    use super::{Class, INNER, OUTER, Several};
    use crate::task::task::CURRENT;
    use arrayvec::ArrayVec;
    use core::any::type_name;
    use core::panic::Location;
    use core::sync::atomic::{AtomicBool, AtomicU16, Ordering};
    use hal::cpu::{IrqGuard, MAX_CPUS, PerCpu};
    use spin::mutex::SpinMutex;

    /// The rank of classes in neither table; those of [`INNER`] come after it.
    const LEAF: u16 = 1000;
    const UNKNOWN: u16 = u16::MAX;

    #[derive(Clone, Copy)]
    struct Held {
        /// Of the lock's contents.
        address: usize,
        rank: u16,
        made: &'static Location<'static>,
    }

    /// What is held, in the order of taking. A list that overflows forgets the newest: a check less, no false alarm.
    pub struct List(SpinMutex<ArrayVec<Held, 16>>);

    impl List {
        pub const fn new() -> Self {
            Self(SpinMutex::new(ArrayVec::new_const()))
        }
        fn push(&self, held: Held) {
            let _irq = IrqGuard::new();
            let _ = self.0.lock().try_push(held);
        }
        fn remove(&self, address: usize) {
            let _irq = IrqGuard::new();
            let mut list = self.0.lock();
            if let Some(at) = list.iter().rposition(|held| held.address == address) {
                list.remove(at);
            }
        }
        /// The first that may not be held when a lock of this rank is taken.
        fn conflict(&self, rank: u16) -> Option<Held> {
            let _irq = IrqGuard::new();
            let list = self.0.lock();
            list.iter().find(|held| held.rank > rank || (held.rank == rank && !is_ordered(rank))).copied()
        }
        fn first(&self) -> Option<Held> {
            let _irq = IrqGuard::new();
            self.0.lock().first().copied()
        }
    }

    /// Spin locks are held by CPUs: nobody sleeps with one.
    static SPINNING: PerCpu<List> = PerCpu::new([const { List::new() }; MAX_CPUS]);

    fn is_ordered(rank: u16) -> bool {
        let row =
            if rank < LEAF { OUTER.get(rank as usize) } else { INNER.get((rank - LEAF).wrapping_sub(1) as usize) };
        row.is_some_and(|Class(_, _, several)| *several == Several::Ordered)
    }

    /// Where a lock was made, and its rank once it is known.
    pub struct Site {
        made: &'static Location<'static>,
        rank: AtomicU16,
    }

    impl Site {
        #[track_caller]
        pub const fn new() -> Self {
            Self { made: Location::caller(), rank: AtomicU16::new(UNKNOWN) }
        }

        fn rank<T: ?Sized>(&self) -> u16 {
            let known = self.rank.load(Ordering::Relaxed);
            if known != UNKNOWN {
                return known;
            }
            let (file, contents) = (self.made.file(), type_name::<T>());
            let is_it = |Class(path, name, _): &Class| file.ends_with(path) && contents.contains(name);
            let rank = match (OUTER.iter().position(is_it), INNER.iter().position(is_it)) {
                (Some(row), _) => row as u16,
                (None, Some(row)) => LEAF + 1 + row as u16,
                (None, None) => LEAF,
            };
            self.rank.store(rank, Ordering::Relaxed);
            rank
        }

        #[track_caller]
        pub fn check_spin<T: ?Sized>(&self) {
            if let Some(held) = SPINNING.get().conflict(self.rank::<T>()) {
                out_of_turn(self.made, type_name::<T>(), held);
            }
        }
        pub fn hold_spin<T: ?Sized>(&self, contents: &T) {
            SPINNING.get().push(Held { address: address(contents), rank: self.rank::<T>(), made: self.made });
        }
        pub fn release_spin<T: ?Sized>(contents: &T) {
            SPINNING.get().remove(address(contents));
        }

        #[track_caller]
        pub fn check_sleeping<T: ?Sized>(&self) {
            let rank = self.rank::<T>();
            let task = CURRENT.try_get();
            let conflict = task.and_then(|task| task.sched.held_locks.conflict(rank));
            if let Some(held) = SPINNING.get().first().or(conflict) {
                out_of_turn(self.made, type_name::<T>(), held);
            }
        }
        pub fn hold_sleeping<T: ?Sized>(&self, contents: &T) {
            if let Some(task) = CURRENT.try_get() {
                task.sched.held_locks.push(Held {
                    address: address(contents),
                    rank: self.rank::<T>(),
                    made: self.made,
                });
            }
        }
        pub fn release_sleeping<T: ?Sized>(contents: &T) {
            if let Some(task) = CURRENT.try_get() {
                task.sched.held_locks.remove(address(contents));
            }
        }
    }

    fn address<T: ?Sized>(contents: &T) -> usize {
        core::ptr::from_ref(contents).cast::<()>().addr()
    }

    /// One report is enough: the panic that it is takes locks of its own.
    static OFF: AtomicBool = AtomicBool::new(false);

    #[cold]
    #[track_caller]
    fn out_of_turn(made: &Location<'_>, contents: &str, held: Held) {
        if OFF.swap(true, Ordering::Relaxed) {
            return;
        }
        panic!(
            "lock order: {contents}, made at {made}, is taken while the one made at {} is held (sync/rank.rs)",
            held.made
        );
    }
}

#[cfg(debug_assertions)]
pub use checked::List as HeldLocks;
