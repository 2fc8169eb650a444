//! kill -9 of any participant at any moment: undo, robust, detach and hang-up leave everything as it must be.

use super::*;
use libc::*;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

/// Counters in memory that children share.
struct Shared {
    words: [AtomicU64; 64],
}

fn shared() -> &'static Shared {
    unsafe {
        let page = mmap(null_mut(), 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert!(page != MAP_FAILED);
        &*page.cast()
    }
}

fn spawn(body: impl FnOnce()) -> i32 {
    unsafe {
        let pid = fork();
        assert!(pid >= 0);
        if pid == 0 {
            body();
            _exit(0);
        }
        pid
    }
}

/// Kills a child that works for ever; one that had ended by itself had found something wrong.
fn end(pid: i32) {
    let mut status = 0;
    unsafe {
        kill(pid, SIGKILL);
        assert_eq!(waitpid(pid, &mut status, 0), pid);
    }
    assert_eq!(status, SIGKILL, "a child ended before it was killed");
}

/// A robust mutex, with or without priority inheritance: whoever comes after a killed owner is told, once.
pub fn robust_mutexes() {
    for protocol in [PTHREAD_PRIO_NONE, PTHREAD_PRIO_INHERIT] {
        let state = shared();
        let mutex = shared() as *const Shared as *mut pthread_mutex_t;
        unsafe {
            let mut attributes: pthread_mutexattr_t = std::mem::zeroed();
            pthread_mutexattr_init(&mut attributes);
            pthread_mutexattr_setpshared(&mut attributes, PTHREAD_PROCESS_SHARED);
            pthread_mutexattr_setrobust(&mut attributes, PTHREAD_MUTEX_ROBUST);
            pthread_mutexattr_setprotocol(&mut attributes, protocol);
            assert_eq!(pthread_mutex_init(mutex, &attributes), 0);
        }
        // Whoever holds the mutex adds one to both; in between they differ.
        let lock = || unsafe {
            match pthread_mutex_lock(mutex) {
                0 => assert_eq!(state.words[0].load(SeqCst), state.words[1].load(SeqCst)),
                EOWNERDEAD => {
                    state.words[1].store(state.words[0].load(SeqCst), SeqCst);
                    state.words[2].fetch_add(1, SeqCst);
                    assert_eq!(pthread_mutex_consistent(mutex), 0);
                }
                other => panic!("lock: {other}"),
            }
            state.words[0].fetch_add(1, SeqCst);
            for _ in 0..20 {
                std::hint::spin_loop();
            }
            state.words[1].fetch_add(1, SeqCst);
            assert_eq!(pthread_mutex_unlock(mutex), 0);
        };
        let worker = || loop {
            lock();
        };
        let mut workers: Vec<i32> = (0..3).map(|_| spawn(worker)).collect();
        let mut random = Random::new(7);
        for _ in 0..rounds() {
            pause_us(random.below(1500) as u64);
            let at = random.below(3);
            end(std::mem::replace(&mut workers[at], 0));
            workers[at] = spawn(worker);
            let before = state.words[0].load(SeqCst);
            until(|| state.words[0].load(SeqCst) > before);
        }
        workers.into_iter().for_each(end);
        lock();
        assert_eq!(state.words[0].load(SeqCst), state.words[1].load(SeqCst));
    }
}

/// SEM_UNDO: however its users are killed, the semaphore has its value again.
pub fn semaphores_are_undone() {
    let id = new_semaphores(&[2, 0]);
    let one = |number: u16, change: i16| sembuf { sem_num: number, sem_op: change, sem_flg: SEM_UNDO as i16 };
    let mut random = Random::new(11);
    for _ in 0..rounds() {
        let workers: Vec<i32> = (0..4)
            .map(|_| {
                spawn(|| {
                    loop {
                        unsafe {
                            let mut take = [one(0, -1), one(1, 1)];
                            semop(id, take.as_mut_ptr(), 2);
                            let mut give = [one(1, -1), one(0, 1)];
                            semop(id, give.as_mut_ptr(), 2);
                        }
                    }
                })
            })
            .collect();
        pause_us(random.below(3000) as u64);
        workers.into_iter().for_each(end);
        assert_eq!((semaphore(id, 0), semaphore(id, 1)), (2, 0));
    }
    unsafe { semctl(id, 0, IPC_RMID) };
}

/// A semaphore's waiters are killed in line: none is counted any more, and those behind them are served.
pub fn semaphore_waiters() {
    let id = new_semaphores(&[0]);
    for _ in 0..rounds() {
        let waiters: Vec<i32> = (0..3)
            .map(|_| {
                spawn(|| unsafe {
                    let mut take = sembuf { sem_num: 0, sem_op: -1, sem_flg: 0 };
                    assert_eq!(semop(id, &mut take, 1), 0);
                })
            })
            .collect();
        const GETNCNT: i32 = 14;
        until(|| unsafe { semctl(id, 0, GETNCNT) } == 3);
        end(waiters[1]);
        assert_eq!(unsafe { semctl(id, 0, GETNCNT) }, 2);
        let mut give = sembuf { sem_num: 0, sem_op: 2, sem_flg: 0 };
        assert_eq!(unsafe { semop(id, &mut give, 1) }, 0);
        for pid in [waiters[0], waiters[2]] {
            assert_eq!(unsafe { waitpid(pid, null_mut(), 0) }, pid);
        }
        assert_eq!(semaphore(id, 0), 0);
    }
    unsafe { semctl(id, 0, IPC_RMID) };
}

/// Shared memory: attachments of killed processes are counted off, and a removed segment goes with the last of them.
pub fn segments_are_detached() {
    let mut random = Random::new(13);
    for _ in 0..rounds() {
        let id = unsafe { shmget(IPC_PRIVATE, 65536, 0o600) };
        let workers: Vec<i32> = (0..3)
            .map(|_| {
                spawn(|| {
                    loop {
                        unsafe {
                            let place = shmat(id, std::ptr::null(), 0);
                            place.cast::<u8>().write_volatile(1);
                            shmdt(place);
                        }
                    }
                })
            })
            .collect();
        pause_us(random.below(2500) as u64);
        workers.into_iter().for_each(end);
        let mut info: shmid_ds = unsafe { std::mem::zeroed() };
        assert_eq!(unsafe { shmctl(id, IPC_STAT, &mut info) }, 0);
        assert_eq!(info.shm_nattch, 0);
        unsafe {
            let place = shmat(id, std::ptr::null(), 0);
            assert_eq!(shmctl(id, IPC_RMID, null_mut()), 0);
            assert_eq!(shmctl(id, IPC_STAT, &mut info), 0);
            shmdt(place);
            assert_eq!(shmctl(id, IPC_STAT, &mut info), -1);
        }
    }
}

/// Messages of a System V queue: what a killed sender has sent is there whole, and a killed receiver takes at most one.
pub fn message_queues() {
    let id = unsafe { msgget(IPC_PRIVATE, 0o600) };
    let mut random = Random::new(17);
    #[repr(C)]
    struct Text {
        kind: i64,
        bytes: [u8; 64],
    }
    for round in 0..rounds() {
        let sender = spawn(|| {
            for number in 0u8.. {
                let text = Text { kind: 1 + i64::from(number % 3), bytes: [number; 64] };
                unsafe { msgsnd(id, (&raw const text).cast(), 64, 0) };
            }
        });
        let receiver = spawn(|| {
            loop {
                let mut text = Text { kind: 0, bytes: [0; 64] };
                unsafe { msgrcv(id, (&raw mut text).cast(), 64, -3, 0) };
            }
        });
        pause_us(random.below(3000) as u64);
        let (first, second) = if round % 2 == 0 { (sender, receiver) } else { (receiver, sender) };
        end(first);
        end(second);
        let mut info: msqid_ds = unsafe { std::mem::zeroed() };
        assert_eq!(unsafe { msgctl(id, IPC_STAT, &mut info) }, 0);
        let mut left = 0;
        loop {
            let mut text = Text { kind: 0, bytes: [0; 64] };
            match unsafe { msgrcv(id, (&raw mut text).cast(), 64, 0, IPC_NOWAIT) } {
                64 => assert!(text.bytes.iter().all(|byte| *byte == text.bytes[0])),
                _ => break,
            }
            left += 1;
        }
        assert_eq!(left, info.msg_qnum);
    }
    unsafe { msgctl(id, IPC_RMID, null_mut()) };
}

/// A pipe's other end is killed: the reader sees the end, the writer EPIPE; what was written whole is read whole.
pub fn pipes_hang_up() {
    let mut random = Random::new(19);
    for round in 0..rounds() {
        let mut ends = [0; 2];
        assert_eq!(unsafe { pipe(ends.as_mut_ptr()) }, 0);
        let [r, w] = ends;
        let child = spawn(|| unsafe {
            close(if round % 2 == 0 { r } else { w });
            let mut bytes = [b'p'; 512];
            loop {
                if round % 2 == 0 {
                    write(w, bytes.as_ptr().cast(), 512);
                } else {
                    read(r, bytes.as_mut_ptr().cast(), 512);
                }
            }
        });
        let killer = std::thread::spawn({
            let delay = random.below(2000) as u64;
            move || {
                pause_us(delay);
                end(child)
            }
        });
        unsafe {
            signal(SIGPIPE, SIG_IGN);
            let mut bytes = [0u8; 512];
            if round % 2 == 0 {
                close(w);
                loop {
                    let n = read(r, bytes.as_mut_ptr().cast(), 512);
                    if n == 0 {
                        break;
                    }
                    assert_eq!(n, 512);
                }
                close(r);
            } else {
                close(r);
                while write(w, bytes.as_ptr().cast(), 512) == 512 {}
                assert_eq!(errno(), EPIPE);
                close(w);
            }
        }
        killer.join().unwrap();
    }
}

/// A socket's other side is killed: reads end, with a reset or without, and writes are EPIPE; nobody hangs.
pub fn sockets_hang_up() {
    let mut random = Random::new(23);
    for round in 0..rounds() {
        let kind = [SOCK_STREAM, SOCK_SEQPACKET][round as usize % 2];
        let mut ends = [0; 2];
        assert_eq!(unsafe { socketpair(AF_UNIX, kind, 0, ends.as_mut_ptr()) }, 0);
        let [a, b] = ends;
        let child = spawn(|| unsafe {
            close(a);
            let mut bytes = [b's'; 300];
            loop {
                send(b, bytes.as_ptr().cast(), 300, MSG_NOSIGNAL);
                recv(b, bytes.as_mut_ptr().cast(), 300, 0);
            }
        });
        unsafe { close(b) };
        let delay = random.below(2000) as u64;
        let killer = std::thread::spawn(move || {
            pause_us(delay);
            end(child)
        });
        unsafe {
            let mut bytes = [0u8; 300];
            loop {
                let n = recv(a, bytes.as_mut_ptr().cast(), 300, MSG_WAITALL);
                if n <= 0 {
                    assert!(n == 0 || errno() == ECONNRESET);
                    break;
                }
                if send(a, bytes.as_ptr().cast(), 300, MSG_NOSIGNAL) < 0 {
                    assert!([EPIPE, ECONNRESET].contains(&errno()));
                }
            }
            killer.join().unwrap();
            assert_eq!(send(a, bytes.as_ptr().cast(), 1, MSG_NOSIGNAL), -1);
            close(a);
        }
    }
}

/// Locks of killed processes are free, and whoever waits for one gets it.
pub fn locks_are_released() {
    let path = std::ffi::CString::new(format!("/tmp/abi-locks-{}", std::process::id())).unwrap();
    let state = shared();
    let file = || unsafe { open(path.as_ptr(), O_RDWR | O_CREAT, 0o600) };
    let lock_with = |how: u32, fd: i32, kind: i32| unsafe {
        if how == 0 {
            return flock(fd, if kind == F_UNLCK { LOCK_UN } else { LOCK_EX });
        }
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = kind as i16;
        fcntl(fd, if how == 1 { F_SETLKW } else { F_OFD_SETLKW }, &lock)
    };
    let mut random = Random::new(29);
    for round in 0..rounds() {
        let how = round % 3;
        let workers: Vec<i32> = (0..3)
            .map(|_| {
                spawn(|| {
                    let fd = file();
                    loop {
                        assert_eq!(lock_with(how, fd, F_WRLCK), 0);
                        // Nobody else is here.
                        if state.words[0].swap(1, SeqCst) != 0 && state.words[1].load(SeqCst) == 0 {
                            state.words[2].store(1, SeqCst);
                        }
                        state.words[0].store(0, SeqCst);
                        assert_eq!(lock_with(how, fd, F_UNLCK), 0);
                    }
                })
            })
            .collect();
        pause_us(random.below(2000) as u64);
        assert_eq!(state.words[2].load(SeqCst), 0, "two held the lock");
        state.words[1].store(1, SeqCst);
        workers.into_iter().for_each(end);
        let fd = file();
        assert_eq!(lock_with(how, fd, F_WRLCK), 0);
        state.words[0].store(0, SeqCst);
        state.words[1].store(0, SeqCst);
        unsafe { close(fd) };
    }
    unsafe { unlink(path.as_ptr()) };
}

/// Threads in the middle of every kind of IPC while their process is killed: it ends, and its parent hears of it.
pub fn threads_in_ipc() {
    let id = new_semaphores(&[1]);
    let word = shared();
    let mut random = Random::new(31);
    for _ in 0..rounds() {
        let pid = spawn(|| {
            let mut ends = [0; 2];
            unsafe { pipe(ends.as_mut_ptr()) };
            let mut pair = [0; 2];
            unsafe { socketpair(AF_UNIX, SOCK_STREAM, 0, pair.as_mut_ptr()) };
            let event = unsafe { eventfd(0, 0) };
            for number in 0..8u32 {
                std::thread::spawn(move || {
                    let mut bytes = [0u8; 8];
                    let at = &word.words[8];
                    let futex_word = (at as *const AtomicU64).cast::<AtomicU32>();
                    loop {
                        unsafe {
                            match number {
                                0 => drop(read(ends[0], bytes.as_mut_ptr().cast(), 8)),
                                1 => drop(write(ends[1], bytes.as_ptr().cast(), 8)),
                                2 => drop(recv(pair[0], bytes.as_mut_ptr().cast(), 8, 0)),
                                3 => drop(send(pair[1], bytes.as_ptr().cast(), 8, 0)),
                                4 => drop(syscall(SYS_futex, futex_word, 0, 0, 0usize)),
                                5 => drop(syscall(SYS_futex, futex_word, 1, 1)),
                                6 => {
                                    let mut ops = [-1i16, 1].map(|change| sembuf {
                                        sem_num: 0,
                                        sem_op: change,
                                        sem_flg: SEM_UNDO as i16,
                                    });
                                    semop(id, &mut ops[0], 1);
                                    semop(id, &mut ops[1], 1);
                                }
                                _ => {
                                    write(event, 1u64.to_ne_bytes().as_ptr().cast(), 8);
                                    read(event, bytes.as_mut_ptr().cast(), 8);
                                }
                            }
                        }
                    }
                });
            }
            loop {
                unsafe { pause() };
            }
        });
        pause_us(random.below(4000) as u64);
        end(pid);
        assert_eq!(semaphore(id, 0), 1);
    }
    unsafe { semctl(id, 0, IPC_RMID) };
}
