//! Deadlocks. On every system the threads of these tests stay blocked for ever; Crannog also says so in /proc/deadlocks, naming
//! every thread and what it waits for. The `near_` tests look like deadlocks and are none: nothing may be reported.

use crate::harness::{Tests, errno};
use std::cell::UnsafeCell;
use std::mem::zeroed;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub const TESTS: Tests = &[
    ("two_mutexes_in_opposite_order", two_mutexes),
    ("a_mutex_taken_twice", taken_twice),
    ("robust_and_plain_mutex", robust_and_plain),
    ("priority_inheritance_and_plain_mutex", inheritance_and_plain),
    ("a_mutex_and_the_end_of_a_thread", mutex_and_join),
    ("three_processes_and_shared_mutexes", shared_mutexes),
    ("system_v_semaphores", semaphores),
    ("flock", flocks),
    ("open_file_description_locks", descriptions),
    ("pipes", pipes),
    ("near_a_timed_lock", near_timed),
    ("near_a_pipe_with_a_third_writer", near_pipe),
    ("near_semaphores_that_signal", near_semaphores),
    ("near_an_alarm", near_alarm),
    ("near_a_chain", near_chain),
];

/// What the kernel has reported; `None` where there is no such file (Linux).
pub fn reports() -> Option<String> {
    std::fs::read_to_string("/proc/deadlocks").ok()
}

/// Longer than any wait that is looked at.
const LONG: Duration = Duration::from_millis(900);

fn gettid() -> i32 {
    // SAFETY: no pointers.
    unsafe { libc::gettid() }
}

/// Waits until a report names all of `threads` and all of `words`; on Linux, until `LONG` is over.
#[track_caller]
fn expect_report(threads: &[i32], words: &[&str]) {
    let start = Instant::now();
    loop {
        let Some(text) = reports() else { break thread::sleep(LONG) };
        let is_named = |tid: &i32| text.contains(&format!("\n  {tid} ("));
        if threads.iter().all(is_named) && words.iter().all(|word| text.contains(word)) {
            return;
        }
        assert!(start.elapsed() < crate::harness::PATIENCE, "threads {threads:?}, words {words:?}, reported: {text:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Numbers that threads or processes tell each other, in shared memory.
struct Shared {
    base: *mut u8,
}

const SHARED_BYTES: usize = 4096;

impl Shared {
    fn new() -> Self {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh mapping.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), SHARED_BYTES, protection, flags, -1, 0) };
        assert!(base != libc::MAP_FAILED);
        Self { base: base.cast() }
    }
    fn word(&self, at: usize) -> &AtomicI32 {
        assert!(at < 64);
        // SAFETY: inside the mapping, which lives as long as the test.
        unsafe { &*self.base.cast::<AtomicI32>().add(at) }
    }
    fn mutex(&self, at: usize) -> *mut libc::pthread_mutex_t {
        assert!(at < 16);
        // SAFETY: inside the mapping, behind the words.
        unsafe { self.base.add(1024 + at * 64).cast() }
    }
    /// Counts the caller in and waits for all.
    fn meet(&self, at: usize, count: i32) {
        self.word(at).fetch_add(1, Ordering::SeqCst);
        while self.word(at).load(Ordering::SeqCst) < count {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A child that runs `body`; its number.
fn spawn(body: impl FnOnce()) -> i32 {
    // SAFETY: the child only runs `body` and leaves.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0);
        if pid == 0 {
            let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err();
            libc::_exit(i32::from(failed));
        }
        pid
    }
}

/// Fails if one of `children` has ended; kills them all.
#[track_caller]
fn still_blocked(children: &[i32]) {
    for &pid in children {
        let mut status = 0;
        // SAFETY: our own child.
        unsafe { assert_eq!(libc::waitpid(pid, &mut status, libc::WNOHANG), 0, "{pid} ended with {status:#x}") };
    }
    for &pid in children {
        let mut status = 0;
        // SAFETY: our own child.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, &mut status, 0);
        }
    }
}

/// Waits for `children` to end with status 0.
#[track_caller]
fn all_succeed(children: &[i32]) {
    for &pid in children {
        let mut status = 0;
        // SAFETY: our own children.
        unsafe { libc::waitpid(pid, &mut status, 0) };
        assert_eq!(status, 0, "child {pid}");
    }
}

struct Mutex(UnsafeCell<libc::pthread_mutex_t>);
// SAFETY: pthread mutexes are made for that.
unsafe impl Sync for Mutex {}
// SAFETY: as above; none is moved while it is in use.
unsafe impl Send for Mutex {}

/// Attributes of a mutex.
#[derive(Clone, Copy, Default)]
struct Kind {
    robust: bool,
    inherits: bool,
    shared: bool,
}

fn initialise(mutex: *mut libc::pthread_mutex_t, kind: Kind) {
    // SAFETY: `mutex` is memory for one; the attribute object is ours.
    unsafe {
        let mut attributes: libc::pthread_mutexattr_t = zeroed();
        assert_eq!(libc::pthread_mutexattr_init(&mut attributes), 0);
        if kind.robust {
            assert_eq!(libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST), 0);
        }
        if kind.inherits {
            assert_eq!(libc::pthread_mutexattr_setprotocol(&mut attributes, libc::PTHREAD_PRIO_INHERIT), 0);
        }
        if kind.shared {
            assert_eq!(libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED), 0);
        }
        assert_eq!(libc::pthread_mutex_init(mutex, &attributes), 0);
    }
}

impl Mutex {
    fn new(kind: Kind) -> Arc<Self> {
        // SAFETY: initialised at its final place right below.
        let mutex = Arc::new(Self(UnsafeCell::new(unsafe { zeroed() })));
        initialise(mutex.0.get(), kind);
        mutex
    }
    fn lock(&self) -> i32 {
        // SAFETY: an initialised mutex.
        unsafe { libc::pthread_mutex_lock(self.0.get()) }
    }
    fn unlock(&self) {
        // SAFETY: an initialised mutex.
        unsafe { libc::pthread_mutex_unlock(self.0.get()) };
    }
    fn lock_for(&self, time: Duration) -> i32 {
        // SAFETY: an initialised mutex and a valid time.
        unsafe {
            let mut until: libc::timespec = zeroed();
            libc::clock_gettime(libc::CLOCK_REALTIME, &mut until);
            let ns = until.tv_nsec + time.as_nanos() as i64;
            until.tv_sec += ns / 1_000_000_000;
            until.tv_nsec = ns % 1_000_000_000;
            libc::pthread_mutex_timedlock(self.0.get(), &until)
        }
    }
}

/// Two threads that each hold one mutex and want the other; answers their numbers once both are about to block.
fn cross(first: &Arc<Mutex>, second: &Arc<Mutex>, done: &Arc<AtomicUsize>) -> Vec<i32> {
    let shared = Arc::new([const { AtomicI32::new(0) }; 3]);
    for (place, own, other) in [(0, first.clone(), second.clone()), (1, second.clone(), first.clone())] {
        let (shared, done) = (shared.clone(), done.clone());
        thread::spawn(move || {
            assert_eq!(own.lock(), 0);
            shared[place].store(gettid(), Ordering::SeqCst);
            shared[2].fetch_add(1, Ordering::SeqCst);
            while shared[2].load(Ordering::SeqCst) < 2 {
                thread::sleep(Duration::from_millis(1));
            }
            other.lock();
            done.fetch_add(1, Ordering::SeqCst);
        });
    }
    while shared[2].load(Ordering::SeqCst) < 2 {
        thread::sleep(Duration::from_millis(1));
    }
    shared[..2].iter().map(|tid| tid.load(Ordering::SeqCst)).collect()
}

fn expect_crossed(first: Kind, second: Kind, words: &[&str]) {
    let done = Arc::new(AtomicUsize::new(0));
    let threads = cross(&Mutex::new(first), &Mutex::new(second), &done);
    expect_report(&threads, words);
    assert_eq!(done.load(Ordering::SeqCst), 0);
}

fn two_mutexes() {
    expect_crossed(Kind::default(), Kind::default(), &["mutex at 0x"]);
}

fn robust_and_plain() {
    expect_crossed(Kind { robust: true, ..Kind::default() }, Kind::default(), &["robust mutex at 0x"]);
}

fn inheritance_and_plain() {
    expect_crossed(Kind { inherits: true, ..Kind::default() }, Kind::default(), &["priority-inheritance mutex at 0x"]);
}

fn taken_twice() {
    let mutex = Mutex::new(Kind::default());
    let tid = Arc::new(AtomicI32::new(0));
    let (own_mutex, own_tid) = (mutex.clone(), tid.clone());
    let thread = thread::spawn(move || {
        own_mutex.lock();
        own_tid.store(gettid(), Ordering::SeqCst);
        own_mutex.lock();
    });
    while tid.load(Ordering::SeqCst) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    expect_report(&[tid.load(Ordering::SeqCst)], &["held by itself"]);
    assert!(!thread.is_finished());
}

fn mutex_and_join() {
    let mutex = Mutex::new(Kind::default());
    let shared = Arc::new(Shared::new().base as usize);
    let outer_mutex = mutex.clone();
    let base = *shared;
    let outer = thread::spawn(move || {
        let shared = Shared { base: base as *mut u8 };
        outer_mutex.lock();
        shared.word(0).store(gettid(), Ordering::SeqCst);
        let inner = thread::spawn(move || {
            let shared = Shared { base: base as *mut u8 };
            shared.word(1).store(gettid(), Ordering::SeqCst);
            outer_mutex.lock();
        });
        let _ = inner.join();
    });
    let shared = Shared { base: base as *mut u8 };
    while shared.word(1).load(Ordering::SeqCst) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let threads = [shared.word(0).load(Ordering::SeqCst), shared.word(1).load(Ordering::SeqCst)];
    expect_report(&threads, &["the end of thread"]);
    assert!(!outer.is_finished());
    drop(mutex);
}

fn shared_mutexes() {
    let shared = Shared::new();
    for at in 0..3 {
        initialise(shared.mutex(at), Kind { shared: true, ..Kind::default() });
    }
    let children: Vec<i32> = (0..3)
        .map(|at| {
            spawn(|| {
                // SAFETY: initialised mutexes in shared memory.
                unsafe {
                    libc::pthread_mutex_lock(shared.mutex(at));
                    shared.meet(0, 3);
                    libc::pthread_mutex_lock(shared.mutex((at + 1) % 3));
                }
            })
        })
        .collect();
    expect_report(&children, &["3 threads wait for each other"]);
    still_blocked(&children);
}

struct Set(i32);

impl Set {
    /// `values` set by SETVAL.
    fn new(values: &[i32]) -> Self {
        // SAFETY: no pointers.
        unsafe {
            let id = libc::semget(libc::IPC_PRIVATE, values.len() as i32, 0o600);
            assert!(id >= 0);
            for (number, value) in values.iter().enumerate() {
                assert_eq!(libc::semctl(id, number as i32, libc::SETVAL, *value), 0);
            }
            Self(id)
        }
    }
    fn change(&self, number: u16, by: i16, flags: i32) {
        let mut op = libc::sembuf { sem_num: number, sem_op: by, sem_flg: flags as i16 };
        // SAFETY: one operation.
        let result = unsafe { libc::semop(self.0, &mut op, 1) };
        assert!(result == 0, "semop: errno {}", errno());
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        // SAFETY: no pointers.
        unsafe { libc::semctl(self.0, 0, libc::IPC_RMID) };
    }
}

fn semaphores() {
    let shared = Shared::new();
    let set = Set::new(&[1, 1]);
    let children: Vec<i32> = (0..2u16)
        .map(|at| {
            spawn(|| {
                // A round in peace first: taken and given back by the same process.
                set.change(at, -1, libc::SEM_UNDO);
                set.change(at, 1, libc::SEM_UNDO);
                set.change(at, -1, libc::SEM_UNDO);
                shared.meet(0, 2);
                set.change(1 - at, -1, libc::SEM_UNDO);
            })
        })
        .collect();
    expect_report(&children, &["semaphore 0 of set", "semaphore 1 of set"]);
    still_blocked(&children);
}

fn open_file(name: &str) -> i32 {
    let path = std::ffi::CString::new(format!("/tmp/deadlock-{}-{name}", std::process::id())).expect("a path");
    // SAFETY: a C string.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o600) };
    assert!(fd >= 0);
    fd
}

fn flocks() {
    let shared = Shared::new();
    let (mine, names) = (std::process::id(), ["a", "b"]);
    let path = |at: usize| format!("/tmp/deadlock-{mine}-{}", names[at]);
    names.iter().for_each(|name| {
        // SAFETY: our own descriptor.
        unsafe { libc::close(open_file(name)) };
    });
    let children: Vec<i32> = (0..2)
        .map(|at| {
            spawn(|| {
                let files = [at, 1 - at].map(|at| std::fs::File::open(path(at)).expect("opens"));
                use std::os::fd::AsRawFd;
                // SAFETY: open descriptors.
                unsafe {
                    assert_eq!(libc::flock(files[0].as_raw_fd(), libc::LOCK_EX), 0);
                    shared.meet(0, 2);
                    libc::flock(files[1].as_raw_fd(), libc::LOCK_EX);
                }
            })
        })
        .collect();
    expect_report(&children, &["the flock lock of inode"]);
    still_blocked(&children);
}

fn set_lock(fd: i32, command: i32, kind: i32, start: i64) -> i32 {
    // SAFETY: a filled-in structure.
    unsafe {
        let mut lock: libc::flock = zeroed();
        lock.l_type = kind as i16;
        lock.l_start = start;
        lock.l_len = 10;
        libc::fcntl(fd, command, &lock)
    }
}

fn descriptions() {
    let shared = Shared::new();
    open_file("ofd");
    let path = format!("/tmp/deadlock-{}-ofd", std::process::id());
    let children: Vec<i32> = (0..2)
        .map(|at| {
            spawn(|| {
                use std::os::fd::AsRawFd;
                let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("opens");
                assert_eq!(set_lock(file.as_raw_fd(), libc::F_OFD_SETLKW, libc::F_WRLCK, at * 100), 0);
                shared.meet(0, 2);
                set_lock(file.as_raw_fd(), libc::F_OFD_SETLKW, libc::F_WRLCK, (1 - at) * 100);
            })
        })
        .collect();
    expect_report(&children, &["the OFD lock of bytes 100 to 109"]);
    still_blocked(&children);
}

fn pipe() -> [i32; 2] {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    ends
}

fn close(fd: i32) {
    // SAFETY: our own descriptor.
    unsafe { libc::close(fd) };
}

fn read_one(fd: i32) -> isize {
    let mut byte = 0u8;
    // SAFETY: room for one byte.
    unsafe { libc::read(fd, (&raw mut byte).cast(), 1) }
}

fn write_one(fd: i32) -> isize {
    // SAFETY: one byte.
    unsafe { libc::write(fd, c"x".as_ptr().cast(), 1) }
}

/// Two children, each of which reads first what the other one would write only then.
fn polite(there: [i32; 2], back: [i32; 2]) -> Vec<i32> {
    let children = vec![
        spawn(|| {
            close(there[0]);
            close(back[1]);
            assert_eq!(read_one(back[0]), 1);
            write_one(there[1]);
        }),
        spawn(|| {
            close(there[1]);
            close(back[0]);
            assert_eq!(read_one(there[0]), 1);
            write_one(back[1]);
        }),
    ];
    children
}

fn pipes() {
    let (there, back) = (pipe(), pipe());
    let children = polite(there, back);
    there.into_iter().chain(back).for_each(close);
    expect_report(&children, &["bytes from pipe"]);
    still_blocked(&children);
}

/// What was reported must not have changed.
#[track_caller]
fn nothing_reported(before: &Option<String>) {
    assert_eq!(&reports(), before);
}

fn near_timed() {
    let before = reports();
    let (first, second) = (Mutex::new(Kind::default()), Mutex::new(Kind::default()));
    let meet = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = [(first.clone(), second.clone(), false), (second, first, true)]
        .into_iter()
        .map(|(own, other, timed)| {
            let meet = meet.clone();
            thread::spawn(move || {
                own.lock();
                meet.fetch_add(1, Ordering::SeqCst);
                while meet.load(Ordering::SeqCst) < 2 {
                    thread::sleep(Duration::from_millis(1));
                }
                let result = if timed { other.lock_for(LONG) } else { other.lock() };
                own.unlock();
                result
            })
        })
        .collect();
    let results: Vec<i32> = threads.into_iter().map(|thread| thread.join().expect("ends")).collect();
    assert_eq!(results, [0, libc::ETIMEDOUT]);
    nothing_reported(&before);
}

fn near_pipe() {
    let before = reports();
    let (there, back) = (pipe(), pipe());
    let children = polite(there, back);
    thread::sleep(LONG);
    assert_eq!(write_one(back[1]), 1);
    all_succeed(&children);
    nothing_reported(&before);
}

fn near_semaphores() {
    let before = reports();
    let set = Set::new(&[0, 0]);
    // Each takes an event of one kind, then wants one of the other kind, which the other one took last.
    let children: Vec<i32> = (0..2u16)
        .map(|at| {
            spawn(|| {
                set.change(at, -1, 0);
                set.change(1 - at, -1, 0);
            })
        })
        .collect();
    for _ in 0..2 {
        thread::sleep(LONG / 2);
        set.change(0, 1, 0);
        set.change(1, 1, 0);
        thread::sleep(LONG);
    }
    all_succeed(&children);
    nothing_reported(&before);
}

extern "C" fn ignore(_: i32) {}

fn near_alarm() {
    let before = reports();
    let shared = Shared::new();
    open_file("alarm");
    let path = format!("/tmp/deadlock-{}-alarm", std::process::id());
    let children: Vec<i32> = (0..2)
        .map(|at| {
            spawn(|| {
                use std::os::fd::AsRawFd;
                let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("opens");
                assert_eq!(set_lock(file.as_raw_fd(), libc::F_OFD_SETLKW, libc::F_WRLCK, at * 100), 0);
                shared.meet(0, 2);
                // SAFETY: an empty handler without SA_RESTART.
                unsafe {
                    let mut action: libc::sigaction = zeroed();
                    action.sa_sigaction = ignore as extern "C" fn(i32) as usize;
                    libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
                    libc::alarm(if at == 0 { 1 } else { 0 });
                }
                let result = set_lock(file.as_raw_fd(), libc::F_OFD_SETLKW, libc::F_WRLCK, (1 - at) * 100);
                assert_eq!((result, errno()), if at == 0 { (-1, libc::EINTR) } else { (0, errno()) });
            })
        })
        .collect();
    all_succeed(&children);
    nothing_reported(&before);
}

fn near_chain() {
    let before = reports();
    let mutexes: Vec<_> = (0..3).map(|_| Mutex::new(Kind::default())).collect();
    mutexes[0].lock();
    let threads: Vec<_> = (0..2)
        .map(|at| {
            let (wanted, own) = (mutexes[at].clone(), mutexes[at + 1].clone());
            thread::spawn(move || {
                own.lock();
                thread::sleep(Duration::from_millis(50));
                wanted.lock();
                wanted.unlock();
                own.unlock();
            })
        })
        .collect();
    thread::sleep(LONG);
    mutexes[0].unlock();
    threads.into_iter().for_each(|thread| thread.join().expect("ends"));
    nothing_reported(&before);
}
