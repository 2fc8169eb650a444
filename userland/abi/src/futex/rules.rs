//! futex(2) and futex_waitv(2) operation by operation: counts, comparisons, what makes two words the same, errnos.

use super::*;
use std::thread::{JoinHandle, spawn};

type Word = &'static AtomicU32;

/// Pages of memory that stays: `flags` as mmap(2) has them, of `fd` unless that is -1.
fn map(pages: usize, prot: i32, flags: i32, fd: i32) -> &'static [AtomicU32] {
    // SAFETY: a new mapping that is never unmapped.
    unsafe {
        let at = libc::mmap(null_mut(), pages * 4096, prot, flags, fd, 0);
        assert!(at != libc::MAP_FAILED);
        std::slice::from_raw_parts(at.cast(), pages * 1024)
    }
}

fn private_page() -> &'static [AtomicU32] {
    map(1, 3, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
}

fn memory_file() -> i32 {
    // SAFETY: plain calls.
    unsafe {
        let fd = libc::memfd_create(c"futex".as_ptr(), 0);
        assert_eq!(libc::ftruncate(fd, 8192), 0);
        fd
    }
}

/// Threads that wait on `word`, asleep.
fn waiters(word: Word, count: usize, private: i32) -> Vec<JoinHandle<()>> {
    let value = word.load(Ordering::SeqCst);
    let wait = move || assert_eq!(futex(word, WAIT | private, value, 0, 0, 0), 0);
    let threads = (0..count).map(|_| spawn(wait)).collect();
    others_asleep();
    threads
}

fn join(threads: Vec<JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn wake(word: Word, op: i32, count: u32) -> i64 {
    futex(word, op, count, 0, 0, u32::MAX)
}

/// The one that reaches the count is the last: less than 1 wakes one.
pub fn counts() {
    let [first, second, ..] = private_page() else { unreachable!() };
    let threads = waiters(first, 6, 0);
    for count in [0, 1, u32::MAX, i32::MIN as u32] {
        assert_eq!(wake(first, WAKE, count), 1, "{count:#x}");
    }
    assert_eq!(wake(first, WAKE_BITSET, 0), 1);
    assert_eq!(wake(first, WAKE, i32::MAX as u32), 1);
    join(threads);
    let threads = [waiters(first, 2, 0), waiters(second, 2, 0)];
    let both = |nr: u32, nr2: usize| futex(first, WAKE_OP, nr, nr2, second.as_ptr() as usize, 0);
    assert_eq!(both(0, 0), 2);
    assert_eq!(both(u32::MAX, usize::MAX), 2);
    threads.into_iter().for_each(join);
    // Requeueing counts from 0, and not below.
    let threads = waiters(first, 3, 0);
    let requeue = |nr: u32, nr2: usize| futex(first, REQUEUE, nr, nr2, second.as_ptr() as usize, 0);
    expect_errno(requeue(u32::MAX, 1), libc::EINVAL);
    expect_errno(requeue(1, i32::MIN as u32 as usize), libc::EINVAL);
    assert_eq!((requeue(0, 0), requeue(0, 1)), (0, 1));
    // To where they are already: the first wakes, the rest are counted.
    assert_eq!(futex(first, CMP_REQUEUE, 1, 5, first.as_ptr() as usize, 0), 2);
    assert_eq!((wake(first, WAKE, 5), wake(second, WAKE, 5)), (1, 1));
    join(threads);
}

/// FUTEX_WAKE_OP: what the old value is compared with, and how; the operation is done even if the comparison is none.
pub fn comparisons() {
    let [first, second, ..] = private_page() else { unreachable!() };
    let run = |op: u32, argument: u32, compare: u32, against: u32| {
        let encoded = op << 28 | compare << 24 | (argument & 0xfff) << 12 | against & 0xfff;
        futex(first, WAKE_OP, 1, 1, second.as_ptr() as usize, encoded)
    };
    let minus = |n: i32| (-n) as u32;
    let cases = [
        (0, 5, 5, true),
        (0, 5, 6, false),
        (1, 5, 6, true),
        (1, 5, 5, false),
        (2, minus(1), 0, true),
        (2, 0, minus(1), false),
        (3, minus(7), minus(7), true),
        (3, minus(6), minus(7), false),
        (4, 1, minus(1), true),
        (4, minus(1), minus(1), false),
        (5, minus(2048), minus(2048), true),
        (5, 2046, 2047, false),
    ];
    for (compare, old, against, holds) in cases {
        second.store(old, Ordering::SeqCst);
        let thread = waiters(second, 1, 0);
        assert_eq!(run(2, 0, compare, against), i64::from(holds), "{compare}: {old:#x}, {against:#x}");
        assert_eq!(wake(second, WAKE, 1), i64::from(!holds));
        join(thread);
    }
    second.store(1, Ordering::SeqCst);
    for op in [5, 6, 7, 13] {
        expect_errno(run(op, 4, 0, 0), libc::ENOSYS);
    }
    assert_eq!(second.load(Ordering::SeqCst), 1);
    for compare in [6, 15] {
        expect_errno(run(1, 1, compare, 0), libc::ENOSYS);
    }
    assert_eq!(second.load(Ordering::SeqCst), 3, "added twice");
    // A shift that is too far, or negative, is taken modulo 32.
    for (argument, expected) in [(31, 1 << 31), (33, 2), (minus(1), 1 << 31)] {
        assert_eq!(run(8, argument, 0, 0), 0);
        assert_eq!(second.load(Ordering::SeqCst), expected);
    }
}

/// Words are the same by their place in a file or shared memory, or by their address in one process.
pub fn keys() {
    let fd = memory_file();
    let [one, other] = [(); 2].map(|()| map(2, 3, libc::MAP_SHARED, fd));
    let threads = waiters(&one[3], 1, 0);
    assert_eq!((wake(&other[2], WAKE, 5), wake(&other[1027], WAKE, 5), wake(&one[3], WAKE | PRIVATE, 5)), (0, 0, 0));
    assert_eq!(wake(&other[3], WAKE, 5), 1);
    join(threads);
    let threads = waiters(&one[3], 1, PRIVATE);
    assert_eq!(
        (wake(&other[3], WAKE | PRIVATE, 5), wake(&one[3], WAKE, 5), wake(&one[3], WAKE | PRIVATE, 5)),
        (0, 0, 1)
    );
    join(threads);
    // A private word is another one for those who say so and for those who do not.
    let page = private_page();
    for (waits, wakes) in [(0, PRIVATE), (PRIVATE, 0)] {
        let threads = waiters(&page[7], 1, waits);
        assert_eq!((wake(&page[7], WAKE | wakes, 5), wake(&page[7], WAKE | waits, 5)), (0, 1));
        join(threads);
    }
    // What shared memory shows moves with it; read-only is enough to wait and to wake.
    let read_only = map(2, 1, libc::MAP_SHARED, fd);
    let threads = waiters(&read_only[3], 1, 0);
    let from = one.as_ptr().cast_mut().cast();
    // SAFETY: nothing refers to the old place afterwards.
    let moved = unsafe {
        let moved = libc::mremap(from, 8192, 8192, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, 0x5100_0000_0000usize);
        assert!(moved != libc::MAP_FAILED);
        std::slice::from_raw_parts::<'static, AtomicU32>(moved.cast(), 2048)
    };
    assert_eq!(wake(&moved[3], WAKE, 5), 1);
    join(threads);
    // A private mapping shows the file until it is written to, which waiting counts as: there are two words then.
    let copied = map(2, 3, libc::MAP_PRIVATE, fd);
    let threads = waiters(&copied[3], 1, 0);
    assert_eq!((wake(&moved[3], WAKE, 5), wake(&copied[3], WAKE, 5)), (0, 1));
    join(threads);
    child_succeeds(|| {
        let own = map(2, 3, libc::MAP_SHARED, fd);
        let threads = waiters(&own[1030], 1, 0);
        assert_eq!(wake(&moved[1030], WAKE, 5), 1);
        join(threads);
    });
}

/// Addresses: EINVAL for those that are not aligned, EFAULT for what cannot be read, or not shared.
pub fn addresses() {
    let word = &private_page()[0];
    let raw = |at: usize, op: i32, value: u32, second: usize| {
        // SAFETY: bad addresses are what is tested.
        unsafe { libc::syscall(libc::SYS_futex, at, op, value, 1usize, second, 0) }
    };
    let (good, beyond) = (word.as_ptr() as usize, usize::MAX & !3);
    let none = map(1, 0, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1).as_ptr() as usize;
    let timeless = |at: usize, op: i32| {
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_futex, at, op, 1, 0usize) }
    };
    for private in [0, PRIVATE] {
        for (at, error) in [(good + 2, libc::EINVAL), (beyond, libc::EFAULT), (none, libc::EFAULT)] {
            expect_errno(timeless(at, WAIT | private), error);
        }
        for op in [WAKE, REQUEUE, CMP_REQUEUE, WAKE_OP] {
            expect_errno(raw(good + 1, op | private, 1, good), libc::EINVAL);
            expect_errno(raw(beyond, op | private, 1, good), libc::EFAULT);
            if op != WAKE {
                expect_errno(raw(good, op | private, 1, good + 1), libc::EINVAL);
                expect_errno(raw(good, op | private, 1, beyond), libc::EFAULT);
            }
        }
        expect_errno(raw(good, WAKE_OP | private, 1, none), libc::EFAULT);
    }
    // Only shared words must be there when nothing is read.
    expect_errno(raw(none, WAKE, 1, good), libc::EFAULT);
    assert_eq!((raw(none, WAKE | PRIVATE, 1, 0), raw(none, REQUEUE | PRIVATE, 1, none)), (0, 0));
    // Private memory that is read-only could never change: nobody can share a word of it.
    let constant = map(1, 1, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
    expect_errno(futex(&constant[0], WAIT, 1, 0, 0, 0), libc::EFAULT);
    expect_errno(futex(&constant[0], WAIT | PRIVATE, 1, 0, 0, 0), libc::EAGAIN);
    expect_errno(futex(&constant[0], WAKE_OP, 1, 1, constant[0].as_ptr() as usize, 0), libc::EFAULT);
    // FUTEX_FD is gone, as are all numbers above the last.
    for op in [2, 14, 15, 127] {
        expect_errno(futex(word, op, 0, 0, 0, 0), libc::ENOSYS);
    }
    for op in [REQUEUE, CMP_REQUEUE, WAKE_OP, WAKE_BITSET, LOCK_PI, UNLOCK_PI, TRYLOCK_PI, 12] {
        expect_errno(futex(word, op | REALTIME, 1, 0, good, 1), libc::ENOSYS);
    }
}

pub fn waitv_rules() {
    let words = private_page();
    let entry = |index: usize| Waitv { value: 0, addr: words[index].as_ptr() as u64, flags: 2 | 128, reserved: 0 };
    let call = |entries: *const Waitv, count: usize, time: usize, clock: i32| {
        // SAFETY: the kernel checks what is bad.
        unsafe { libc::syscall(449, entries, count, 0, time, clock) }
    };
    let fails = |change: fn(&mut Waitv), error: i32| {
        let mut entries = [entry(0), entry(1), entry(2)];
        change(&mut entries[1]);
        expect_errno(call(entries.as_ptr(), 3, 0, 9), error);
    };
    fails(|entry| entry.flags = 0, libc::EINVAL);
    fails(|entry| entry.flags |= 1, libc::EINVAL);
    fails(|entry| entry.flags |= 4, libc::EINVAL);
    fails(|entry| entry.flags |= 1 << 31, libc::EINVAL);
    fails(|entry| entry.reserved = 1, libc::EINVAL);
    fails(|entry| entry.addr += 2, libc::EINVAL);
    fails(|entry| entry.addr = 8, libc::EFAULT);
    fails(|entry| entry.addr = 0, libc::EFAULT);
    fails(|entry| entry.value = 1, libc::EAGAIN);
    expect_errno(call(null_mut(), 1, 0, 1), libc::EINVAL);
    expect_errno(call(8 as *const Waitv, 1, 0, 1), libc::EFAULT);
    // The time-out is looked at before the list; its clock only if there is one.
    let one = [entry(0)];
    expect_errno(call(8 as *const Waitv, 1, at(&ts(1)), 7), libc::EINVAL);
    expect_errno(call(one.as_ptr(), 1, 8, 1), libc::EFAULT);
    let bad = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
    expect_errno(call(one.as_ptr(), 1, at(&bad), 1), libc::EINVAL);
    for clock in [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC] {
        expect_errno(call(one.as_ptr(), 1, at(&ts(1)), clock), libc::ETIMEDOUT);
    }
    // As many as there may be; one of them, shared, is woken from elsewhere.
    let fd = memory_file();
    let [one, other] = [(); 2].map(|()| map(2, 3, libc::MAP_SHARED, fd));
    let thread = spawn(move || {
        let mut entries: Vec<Waitv> = (0..128)
            .map(|index| Waitv { value: 0, addr: words[index].as_ptr() as u64, flags: 2 | 128, reserved: 0 })
            .collect();
        entries[100].addr = one[9].as_ptr() as u64;
        entries[100].flags = 2;
        // SAFETY: the list lives across the call.
        assert_eq!(unsafe { libc::syscall(449, entries.as_ptr(), 128, 0, 0usize, 0) }, 100);
    });
    others_asleep();
    assert_eq!(wake(&other[9], WAKE, 5), 1);
    thread.join().unwrap();
    assert!(words[..128].iter().all(|word| wake(word, WAKE | PRIVATE, 5) == 0));
}

/// set_robust_list(2) and get_robust_list(2).
pub fn robust_lists() {
    let set = |head: usize, len: usize| unsafe_call(libc::SYS_set_robust_list, [head, len, 0]);
    let get = |pid: i32, head: usize, len: usize| unsafe_call(libc::SYS_get_robust_list, [pid as usize, head, len]);
    let (mut head, mut len) = (0usize, 0usize);
    let (head_at, len_at) = (&raw mut head as usize, &raw mut len as usize);
    let before = {
        assert_eq!(get(0, head_at, len_at), 0);
        head
    };
    for bad in [0, 23, 25] {
        expect_errno(set(before, bad), libc::EINVAL);
    }
    // The head is believed: it is looked at when the thread ends.
    assert_eq!((set(0x1234, 24), get(0, head_at, len_at), head, len), (0, 0, 0x1234, 24));
    assert_eq!((get(tid() as i32, head_at, len_at), head), (0, 0x1234));
    expect_errno(get(0, 8, len_at), libc::EFAULT);
    expect_errno(get(0, head_at, 8), libc::EFAULT);
    for pid in [4_000_000, -1] {
        expect_errno(get(pid, head_at, len_at), libc::ESRCH);
    }
    // Another thread has its own; a child has none.
    spawn(move || {
        let (mut head, mut len) = (0usize, 0usize);
        assert_eq!(get(0, &raw mut head as usize, &raw mut len as usize), 0);
        assert_ne!(head, 0x1234);
    })
    .join()
    .unwrap();
    let parent = tid() as i32;
    child_succeeds(|| {
        // SAFETY: gives up the privilege.
        assert_eq!(unsafe { libc::setresuid(1000, 1000, 1000) }, 0);
        expect_errno(get(parent, head_at, len_at), libc::EPERM);
    });
    assert_eq!(set(before, 24), 0);
}

fn unsafe_call(number: i64, arguments: [usize; 3]) -> i64 {
    // SAFETY: the kernel checks what is bad; lists are set to what is never a list but restored before the thread ends.
    unsafe { libc::syscall(number, arguments[0], arguments[1], arguments[2]) }
}
