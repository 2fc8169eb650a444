//! Each kind of object that a program can have the kernel make, made until it is refused by an ordinary user: the machine lives, and
//! when they are gone the memory is back. Only in a small machine (64 MiB): elsewhere it would take too long, and Linux kills instead.

use crate::harness::{Tests, errno};
use std::ptr::null_mut;

pub const TESTS: Tests = &[
    ("eventfds", || fills(|_| fd(unsafe { libc::eventfd(0, 0) }))),
    ("full_pipes", || fills(full_pipe)),
    ("epolls_and_their_items", || fills(epoll_item)),
    ("timerfds", || fills(|_| fd(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) }))),
    ("unix_sockets_with_data", || fills(unix_data)),
    ("udp_sockets", || fills(|_| fd(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) }))),
    ("tcp_sockets", || fills(|_| fd(unsafe { libc::socket(libc::AF_INET6, libc::SOCK_STREAM, 0) }))),
    ("memfds", || fills(|_| fd(unsafe { libc::memfd_create(c"x".as_ptr(), 0) }))),
    ("open_files", || fills(|_| fd(unsafe { libc::open(c"/".as_ptr(), libc::O_RDONLY) }))),
    ("record_locks", || fills(record_lock)),
    ("single_page_mappings", || fills(single_page)),
    ("shared_mappings", || fills(shared_mapping)),
    ("page_tables", || fills(sparse_page)),
    ("semaphore_sets", || fills(|_| unsafe { libc::semget(libc::IPC_PRIVATE, 32_000, 0o600) } >= 0)),
    ("undo_lists", || fills(undo)),
    ("messages", || fills(message)),
    ("shared_memory_segments", || fills(|_| unsafe { libc::shmget(libc::IPC_PRIVATE, 4096, 0o600) } >= 0)),
    ("files", || fills(|n| fd_closed(&format!("/tmp/exhaust/{n}")))),
    ("directories", || fills(|n| path(&format!("/tmp/exhaust/{n}"), |p| unsafe { libc::mkdir(p, 0o700) }))),
    ("symlinks", || {
        fills(|n| path(&format!("/tmp/exhaust/{n}"), |p| unsafe { libc::symlink(LONG.as_ptr().cast(), p) }))
    }),
    ("pages_of_a_file", || fills(file_page)),
    ("children", || fills(patient_child)),
    ("children_with_a_high_descriptor", high_descriptor),
    ("long_arguments", || arguments(45, 131_000)),
    ("many_empty_arguments", || arguments(700_000, 0)),
];

const LONG: [u8; 4000] = {
    let mut text = [b'x'; 4000];
    text[3999] = 0;
    text
};
const PAGE: usize = 4096;

fn is_small() -> bool {
    meminfo("MemTotal:") < 128 << 10
}

fn meminfo(row: &str) -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    text.lines().find(|line| line.starts_with(row)).unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn fd(result: i32) -> bool {
    result >= 0
}

fn path(name: &str, call: impl Fn(*const libc::c_char) -> i32) -> bool {
    let name = std::ffi::CString::new(name).unwrap();
    call(name.as_ptr()) == 0
}

fn fd_closed(name: &str) -> bool {
    let name = std::ffi::CString::new(name).unwrap();
    // SAFETY: a string that lives across the call.
    let fd = unsafe { libc::open(name.as_ptr(), libc::O_CREAT | libc::O_WRONLY, 0o600) };
    // SAFETY: the descriptor is ours.
    fd >= 0 && unsafe { libc::close(fd) } == 0
}

fn full_pipe(_: usize) -> bool {
    let mut ends = [0; 2];
    // SAFETY: arrays of the sizes given.
    unsafe {
        libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK) == 0 && {
            while libc::write(ends[1], LONG.as_ptr().cast(), LONG.len()) > 0 {}
            errno() == libc::EAGAIN
        }
    }
}

fn epoll_item(n: usize) -> bool {
    static EPOLL: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);
    use std::sync::atomic::Ordering::Relaxed;
    // SAFETY: plain calls with a structure of our own.
    unsafe {
        if n.is_multiple_of(1000) {
            let epoll = libc::epoll_create1(0);
            if epoll < 0 {
                return false;
            }
            EPOLL.store(epoll, Relaxed);
        }
        let file = libc::eventfd(0, 0);
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        file >= 0 && libc::epoll_ctl(EPOLL.load(Relaxed), libc::EPOLL_CTL_ADD, file, &mut event) == 0
    }
}

fn unix_data(_: usize) -> bool {
    let mut ends = [0; 2];
    // SAFETY: arrays of the sizes given.
    unsafe {
        libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0, ends.as_mut_ptr()) == 0 && {
            while libc::send(ends[0], LONG.as_ptr().cast(), LONG.len(), 0) > 0 {}
            errno() == libc::EAGAIN
        }
    }
}

fn record_lock(n: usize) -> bool {
    static FILE: std::sync::OnceLock<i32> = std::sync::OnceLock::new();
    // SAFETY: plain calls with structures of our own.
    unsafe {
        let file =
            *FILE.get_or_init(|| libc::open(c"/tmp/exhaust/locks".as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600));
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = libc::F_WRLCK as i16;
        lock.l_start = 2 * n as i64;
        lock.l_len = 1;
        // Each looks at all the others: enough to have the list grow.
        if n == 4000 {
            *libc::__errno_location() = libc::ENOLCK;
            return false;
        }
        libc::fcntl(file, libc::F_SETLK, &lock) == 0
    }
}

fn map(at: usize, len: usize, prot: i32, flags: i32) -> *mut u8 {
    let flags = flags | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping: the address is a hint.
    unsafe { libc::mmap(at as *mut libc::c_void, len, prot, flags, -1, 0).cast() }
}

/// One place behind the other, far from everything else.
fn place(n: usize) -> usize {
    (1 << 40) + n * 2 * PAGE
}

/// Areas that cannot merge.
fn single_page(n: usize) -> bool {
    let prot = if n.is_multiple_of(2) { libc::PROT_READ } else { libc::PROT_READ | libc::PROT_WRITE };
    map(place(n), PAGE, prot, libc::MAP_PRIVATE) as isize != -1
}

fn shared_mapping(n: usize) -> bool {
    map(place(n), PAGE, libc::PROT_READ, libc::MAP_SHARED) as isize != -1
}

/// One page, and the tables for it alone.
fn sparse_page(n: usize) -> bool {
    let page = map((1 << 40) + (n << 30), 1 << 30, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
    if page as isize == -1 {
        return false;
    }
    // SAFETY: in the new mapping.
    unsafe { page.write_volatile(1) };
    true
}

fn file_page(_: usize) -> bool {
    static FILE: std::sync::OnceLock<i32> = std::sync::OnceLock::new();
    let file = *FILE.get_or_init(|| {
        // SAFETY: plain call.
        unsafe { libc::open(c"/tmp/exhaust/pages".as_ptr(), libc::O_CREAT | libc::O_WRONLY, 0o600) }
    });
    // SAFETY: a buffer of the length given.
    unsafe { libc::write(file, LONG.as_ptr().cast(), LONG.len()) > 0 }
}

fn undo(_: usize) -> bool {
    // SAFETY: plain calls with a structure of our own.
    unsafe {
        let set = libc::semget(libc::IPC_PRIVATE, 2000, 0o600);
        let mut op = libc::sembuf { sem_num: 0, sem_op: 1, sem_flg: libc::SEM_UNDO as i16 };
        set >= 0 && libc::semop(set, &mut op, 1) == 0
    }
}

fn message(n: usize) -> bool {
    static QUEUE: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);
    use std::sync::atomic::Ordering::Relaxed;
    let text = [1u64; 1000];
    // SAFETY: plain calls; the text is as long as said.
    unsafe {
        if n.is_multiple_of(2) {
            let queue = libc::msgget(libc::IPC_PRIVATE, 0o600);
            if queue < 0 {
                return false;
            }
            QUEUE.store(queue, Relaxed);
        }
        libc::msgsnd(QUEUE.load(Relaxed), text.as_ptr().cast(), 7900, libc::IPC_NOWAIT) == 0
    }
}

/// A child that waits for the end of its parent.
fn child(_: usize) -> bool {
    // SAFETY: the child only sleeps.
    unsafe {
        match libc::fork() {
            0 => {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                loop {
                    libc::pause();
                }
            }
            pid => pid > 0,
        }
    }
}

/// As [`child`], and patient with the first: those of the last round may be on their way out still.
fn patient_child(n: usize) -> bool {
    for _ in 0..500 {
        if child(n) {
            return true;
        }
        if n > 0 || errno() != libc::EAGAIN {
            return false;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    false
}

/// Takes away what outlives its maker.
fn clean_up() {
    // SAFETY: plain calls.
    unsafe {
        for (table, remove) in [("sem", 0), ("msg", 1), ("shm", 2)] {
            let text = std::fs::read_to_string(format!("/proc/sysvipc/{table}")).unwrap();
            for id in text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)?.parse().ok()) {
                match remove {
                    0 => libc::semctl(id, 0, libc::IPC_RMID),
                    1 => libc::msgctl(id, libc::IPC_RMID, null_mut()),
                    _ => libc::shmctl(id, libc::IPC_RMID, null_mut()),
                };
            }
        }
    }
    let _ = std::fs::remove_dir_all("/tmp/exhaust");
}

/// Runs `body` in a child of an ordinary user who may open as many files as there can be; answers its wait status.
fn as_user(body: impl FnOnce()) -> i32 {
    std::fs::create_dir_all("/tmp/exhaust").unwrap();
    std::os::unix::fs::chown("/tmp/exhaust", Some(65534), Some(65534)).unwrap();
    // SAFETY: plain calls.
    crate::harness::in_child(|| unsafe {
        libc::setpgid(0, 0);
        let most = libc::rlimit { rlim_cur: 524_288, rlim_max: 524_288 };
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &most), 0);
        assert_eq!(libc::setresgid(65534, 65534, 65534), 0);
        assert_eq!(libc::setresuid(65534, 65534, 65534), 0);
        body();
    })
}

/// Runs `round` twice: after the second, memory is as after the first.
fn memory_comes_back(round: impl Fn()) {
    const SLACK_KIB: i64 = 1536;
    if !is_small() {
        return;
    }
    let mut before = 0;
    for turn in 0..2 {
        round();
        clean_up();
        let mut after = 0;
        for _ in 0..100 {
            after = meminfo("MemAvailable:");
            if turn == 0 || after >= before - SLACK_KIB {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert!(turn == 0 || after >= before - SLACK_KIB, "{before} KiB before, {after} KiB after");
        before = after;
    }
}

/// Has `make` called by an ordinary user until it is refused (a program whose own pages are the last straw is killed).
fn fills(make: fn(usize) -> bool) {
    memory_comes_back(|| {
        let status = as_user(|| {
            let mut made = 0;
            while made < 2_000_000 && make(made) {
                made += 1;
            }
            let refused = errno();
            let known = [
                libc::ENOMEM,
                libc::ENOBUFS,
                libc::ENOSPC,
                libc::ENFILE,
                libc::EMFILE,
                libc::EAGAIN,
                libc::ENOLCK,
                libc::EDQUOT,
            ];
            if made == 0 || !known.contains(&refused) && made < 2_000_000 {
                eprintln!("{made} made, then errno {refused}");
                // SAFETY: ends the child.
                unsafe { libc::_exit(2) };
            }
        });
        assert!(
            status == 0 || libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL,
            "status {status:#x}"
        );
    });
}

fn high_descriptor() {
    memory_comes_back(|| {
        let status = as_user(|| {
            // SAFETY: plain calls; the children only sleep.
            unsafe {
                if libc::dup2(0, 524_287) < 0 {
                    assert_eq!(errno(), libc::ENOMEM);
                    return;
                }
            }
            let mut made = 0;
            while made < 200 && child(made) {
                made += 1;
            }
        });
        assert!(status == 0 || libc::WIFSIGNALED(status), "status {status:#x}");
    });
}

/// Several programs at once that are given `count` arguments of `len` bytes.
fn arguments(count: usize, len: usize) {
    memory_comes_back(|| {
        let status = as_user(|| {
            let mut text = vec![b'a'; len];
            text.push(0);
            let mut list: Vec<*const libc::c_char> = vec![text.as_ptr().cast(); count];
            list.push(std::ptr::null());
            let environment = [std::ptr::null()];
            for _ in 0..8 {
                // SAFETY: lists that end with NULL, of strings that end with NUL.
                unsafe {
                    if libc::fork() == 0 {
                        libc::execve(c"/proc/self/exe".as_ptr(), list.as_ptr(), environment.as_ptr());
                        libc::_exit(0);
                    }
                }
            }
            // SAFETY: plain call.
            while unsafe { libc::wait(null_mut()) } > 0 {}
        });
        assert!(status == 0 || libc::WIFSIGNALED(status), "status {status:#x}");
    });
}
