//! mmap and its family: what Linux does, call by call.

use crate::harness::{Tests, child_dies_of, child_succeeds, errno, expect_errno};
use libc::*;
use std::ptr::null_mut;

pub const TESTS: Tests = &[
    ("anonymous_memory_is_zero_and_private_over_fork", anonymous),
    ("shared_memory_is_seen_by_the_child", shared),
    ("mmap_errors", mmap_errors),
    ("fixed_replaces_and_noreplace_refuses", fixed),
    ("munmap_cuts_holes", munmap_holes),
    ("munmap_errors", munmap_errors),
    ("mprotect_splits_and_faults", mprotect),
    ("mprotect_errors", mprotect_errors),
    ("mremap_grows_moves_and_shrinks", mremap_basic),
    ("mremap_keeps_what_moves_next_door", mremap_next_door),
    ("mremap_errors", mremap_errors),
    ("mremap_fixed_and_dontunmap", mremap_fixed),
    ("brk_grows_and_shrinks", brk_works),
    ("madvise_dontneed_zeroes_anonymous_memory", madvise_dontneed),
    ("madvise_fork_advice", madvise_fork),
    ("madvise_errors_and_populate", madvise_errors),
    ("mlock_limits", mlock_limits),
    ("mincore_tells_residency", mincore_works),
    ("msync_errors", msync_errors),
    ("file_mappings_private_and_shared", file_mappings),
    ("beyond_the_end_of_a_file_is_sigbus", beyond_end),
    ("truncation_takes_mapped_pages_away", truncation),
    ("readonly_file_cannot_be_mapped_shared_writable", readonly_shared),
    ("stack_grows_to_its_limit", stack_growth),
    ("growsdown_mapping_grows", growsdown),
    ("address_space_limit", address_space_limit),
    ("data_limit", data_limit),
    ("memfd_reads_writes_and_seals", memfd),
    ("memfd_errors", memfd_errors),
    ("memfd_write_seal_needs_no_writable_mapping", memfd_write_seal),
    ("generated_code_runs", generated_code),
    ("cow_after_fork_both_ways", cow_both_ways),
    ("cow_storm", cow_storm),
    ("process_vm_copies", process_vm),
    ("proc_maps_shows_mappings", proc_maps),
    ("overcommit_refuses_the_absurd", overcommit),
    ("threads_fault_together", threads_fault),
    ("kernel_copies_fault_pages_in", kernel_copies),
    ("null_page_is_not_mapped", null_page),
    ("a_memory_hog_is_killed_and_the_rest_lives", memory_hog),
];

const PAGE: usize = 4096;
const RW: i32 = PROT_READ | PROT_WRITE;
const ANON: i32 = MAP_PRIVATE | MAP_ANONYMOUS;

unsafe fn map(len: usize, prot: i32, flags: i32) -> *mut u8 {
    let at = unsafe { mmap(null_mut(), len, prot, flags, -1, 0) };
    assert!(at != MAP_FAILED, "mmap: errno {}", errno());
    at.cast()
}

fn temporary_file(len: usize) -> i32 {
    unsafe {
        let fd = memfd_create(c"test".as_ptr(), 0);
        assert!(fd >= 0);
        let bytes: Vec<u8> = (0..len).map(|i| (i / PAGE) as u8 + 1).collect();
        assert_eq!(write(fd, bytes.as_ptr().cast(), len), len as isize);
        fd
    }
}

fn anonymous() {
    unsafe {
        let at = map(16 * PAGE, RW, ANON);
        assert!((0..16 * PAGE).all(|i| *at.add(i) == 0));
        *at = 7;
        child_succeeds(|| {
            assert_eq!(*at, 7);
            *at = 8;
            assert_eq!(*at.add(PAGE), 0);
            *at.add(PAGE) = 9;
        });
        assert_eq!((*at, *at.add(PAGE)), (7, 0));
        assert_eq!(munmap(at.cast(), 16 * PAGE), 0);
        child_dies_of(SIGSEGV, || *at = 1);
    }
}

fn shared() {
    unsafe {
        let at = map(4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS);
        *at = 1;
        child_succeeds(|| {
            assert_eq!(*at, 1);
            *at = 2;
            *at.add(3 * PAGE) = 3;
        });
        assert_eq!((*at, *at.add(3 * PAGE)), (2, 3));
    }
}

fn mmap_errors() {
    unsafe {
        let call = |addr: usize, len: usize, prot, flags, fd, offset| {
            mmap(addr as *mut _, len, prot, flags, fd, offset) as i64
        };
        expect_errno(call(0, 0, RW, ANON, -1, 0), EINVAL);
        expect_errno(call(0, PAGE, RW, MAP_ANONYMOUS, -1, 0), EINVAL);
        expect_errno(call(0, PAGE, RW, MAP_PRIVATE, -1, 0), EBADF);
        expect_errno(call(0, PAGE, RW, MAP_PRIVATE, -1, 1), EINVAL);
        expect_errno(call(1, PAGE, RW, ANON | MAP_FIXED, -1, 0), EINVAL);
        expect_errno(call(0, usize::MAX, RW, ANON, -1, 0), ENOMEM);
        expect_errno(call(0, 1 << 50, RW, ANON | MAP_NORESERVE, -1, 0), ENOMEM);
        expect_errno(call(1 << 48, PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
        let mut fds = [0; 2];
        assert_eq!(pipe(fds.as_mut_ptr()), 0);
        expect_errno(call(0, PAGE, PROT_READ, MAP_PRIVATE, fds[0], 0), ENODEV);
        expect_errno(call(0, PAGE, PROT_READ, MAP_PRIVATE, fds[1], 0), EACCES);
        let fd = temporary_file(PAGE);
        expect_errno(call(0, PAGE, PROT_READ, 0, fd, 0), EINVAL);
        expect_errno(call(0, PAGE, PROT_READ, MAP_SHARED_VALIDATE | 0x20_0000, fd, 0), EOPNOTSUPP);
        expect_errno(call(0, 2 * PAGE, PROT_READ, MAP_SHARED, fd, i64::MAX & !4095), EOVERFLOW);
    }
}

fn fixed() {
    unsafe {
        let at = map(3 * PAGE, RW, ANON);
        at.write_bytes(5, 3 * PAGE);
        let middle = at.add(PAGE);
        expect_errno(mmap(middle.cast(), PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) as i64, EEXIST);
        assert_eq!(mmap(middle.cast(), PAGE, RW, ANON | MAP_FIXED, -1, 0), middle.cast());
        assert_eq!((*at, *middle, *at.add(2 * PAGE)), (5, 0, 5));
        assert_eq!(munmap(middle.cast(), PAGE), 0);
        assert_eq!(mmap(middle.cast(), PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), middle.cast());
        // A free hint is honoured, a taken one is not.
        assert_eq!(munmap(middle.cast(), PAGE), 0);
        assert_eq!(mmap(middle.cast(), PAGE, RW, ANON, -1, 0), middle.cast());
        assert_ne!(mmap(middle.cast(), PAGE, RW, ANON, -1, 0), middle.cast());
    }
}

fn munmap_holes() {
    unsafe {
        let at = map(8 * PAGE, RW, ANON);
        at.write_bytes(1, 8 * PAGE);
        assert_eq!(munmap(at.add(2 * PAGE).cast(), PAGE), 0);
        assert_eq!(munmap(at.add(5 * PAGE).cast(), PAGE), 0);
        // Over holes is fine.
        assert_eq!(munmap(at.add(PAGE).cast(), 6 * PAGE), 0);
        assert_eq!((*at, *at.add(7 * PAGE)), (1, 1));
        for page in 1..7 {
            child_dies_of(SIGSEGV, || {
                std::ptr::read_volatile(at.add(page * PAGE));
            });
        }
    }
}

fn munmap_errors() {
    unsafe {
        let at = map(PAGE, RW, ANON);
        expect_errno(munmap(at.add(1).cast(), PAGE).into(), EINVAL);
        expect_errno(munmap(at.cast(), 0).into(), EINVAL);
        expect_errno(munmap(at.cast(), usize::MAX).into(), EINVAL);
        expect_errno(munmap((1usize << 52) as *mut _, PAGE).into(), EINVAL);
        assert_eq!(munmap(0x10_0000 as *mut _, PAGE), 0);
    }
}

fn mprotect() {
    unsafe {
        let at = map(4 * PAGE, RW, ANON);
        at.write_bytes(3, 4 * PAGE);
        assert_eq!(libc::mprotect(at.add(PAGE).cast(), PAGE, PROT_READ), 0);
        assert_eq!(libc::mprotect(at.add(2 * PAGE).cast(), PAGE, PROT_NONE), 0);
        assert_eq!(*at.add(PAGE), 3);
        *at = 4;
        *at.add(3 * PAGE) = 4;
        child_dies_of(SIGSEGV, || *at.add(PAGE) = 1);
        child_dies_of(SIGSEGV, || {
            std::ptr::read_volatile(at.add(2 * PAGE));
        });
        assert_eq!(libc::mprotect(at.cast(), 4 * PAGE, RW), 0);
        assert_eq!(*at.add(2 * PAGE), 3);
        at.write_bytes(6, 4 * PAGE);
        // Content survives PROT_NONE and a fork.
        assert_eq!(libc::mprotect(at.cast(), PAGE, PROT_NONE), 0);
        child_succeeds(|| {
            assert_eq!(libc::mprotect(at.cast(), PAGE, RW), 0);
            assert_eq!(*at, 6);
            *at = 9;
        });
        assert_eq!(libc::mprotect(at.cast(), PAGE, RW), 0);
        assert_eq!(*at, 6);
    }
}

fn mprotect_errors() {
    unsafe {
        let at = map(3 * PAGE, RW, ANON);
        expect_errno(libc::mprotect(at.add(1).cast(), PAGE, PROT_READ).into(), EINVAL);
        assert_eq!(libc::mprotect(at.cast(), 0, PROT_READ), 0);
        expect_errno(libc::mprotect(at.cast(), PAGE, 0x40).into(), EINVAL);
        expect_errno(libc::mprotect(at.cast(), usize::MAX - 8191, PROT_READ).into(), ENOMEM);
        assert_eq!(munmap(at.add(PAGE).cast(), PAGE), 0);
        expect_errno(libc::mprotect(at.cast(), 3 * PAGE, PROT_READ).into(), ENOMEM);
        // What lies before the hole was changed, what lies behind was not.
        child_dies_of(SIGSEGV, || *at = 1);
        *at.add(2 * PAGE) = 1;
        let fd = temporary_file(PAGE);
        let path = format!("/proc/self/fd/{fd}\0");
        let read_only = open(path.as_ptr().cast(), O_RDONLY);
        if read_only >= 0 {
            let file = mmap(null_mut(), PAGE, PROT_READ, MAP_SHARED, read_only, 0);
            assert!(file != MAP_FAILED);
            expect_errno(libc::mprotect(file, PAGE, RW).into(), EACCES);
        }
    }
}

fn mremap_basic() {
    unsafe {
        let at = map(8 * PAGE, RW, ANON);
        at.write_bytes(2, 4 * PAGE);
        assert_eq!(munmap(at.add(4 * PAGE).cast(), 4 * PAGE), 0);
        // Room above: grows in place.
        assert_eq!(mremap(at.cast(), 4 * PAGE, 6 * PAGE, 0), at.cast());
        assert_eq!((*at.add(3 * PAGE), *at.add(5 * PAGE)), (2, 0));
        // Something above: must move.
        let blocker = mmap(at.add(6 * PAGE).cast(), PAGE, RW, ANON | MAP_FIXED, -1, 0);
        assert_eq!(libc::mprotect(blocker, PAGE, PROT_READ), 0);
        expect_errno(mremap(at.cast(), 6 * PAGE, 16 * PAGE, 0) as i64, ENOMEM);
        let moved: *mut u8 = mremap(at.cast(), 6 * PAGE, 16 * PAGE, MREMAP_MAYMOVE).cast();
        assert!(moved.cast() != MAP_FAILED && moved != at);
        assert_eq!((*moved, *moved.add(3 * PAGE), *moved.add(15 * PAGE)), (2, 2, 0));
        child_dies_of(SIGSEGV, || {
            std::ptr::read_volatile(at);
        });
        *moved.add(15 * PAGE) = 1;
        assert_eq!(mremap(moved.cast(), 16 * PAGE, PAGE, 0), moved.cast());
        child_dies_of(SIGSEGV, || {
            std::ptr::read_volatile(moved.add(PAGE));
        });
        assert_eq!(*moved, 2);
        // Old length 0 of a shared mapping shows it twice.
        let shared = map(2 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS);
        let twin: *mut u8 = mremap(shared.cast(), 0, 2 * PAGE, MREMAP_MAYMOVE).cast();
        assert!(twin.cast() != MAP_FAILED);
        *shared.add(PAGE) = 77;
        assert_eq!(*twin.add(PAGE), 77);
    }
}

/// The new place is in the hole below the old one and shares its translation table.
fn mremap_next_door() {
    const BLOCK: usize = 2 << 20;
    const LEN: usize = 8 * PAGE;
    unsafe {
        let whole = map(4 * BLOCK, PROT_NONE, ANON);
        // `at` ends where a table's reach ends; what lies above stands in the way, below is a hole.
        let end = (whole as usize + 3 * BLOCK) & !(BLOCK - 1);
        let at = (end - LEN) as *mut u8;
        assert_eq!(libc::mprotect(at.cast(), LEN, RW), 0);
        assert_eq!(munmap(whole.cast(), at as usize - whole as usize), 0);
        for page in 0..8 {
            *at.add(page * PAGE) = 10 + page as u8;
        }
        let moved: *mut u8 = mremap(at.cast(), LEN, 2 * LEN, MREMAP_MAYMOVE).cast();
        assert!(moved != at && moved.cast() != MAP_FAILED);
        for page in 0..8 {
            assert_eq!(*moved.add(page * PAGE), 10 + page as u8);
        }
        assert_eq!(*moved.add(2 * LEN - 1), 0);
    }
}

fn mremap_errors() {
    unsafe {
        let at = map(4 * PAGE, RW, ANON);
        let call = |old: *mut u8, len, new, flags| mremap(old.cast(), len, new, flags) as i64;
        expect_errno(call(at.add(1), PAGE, PAGE, 0), EINVAL);
        expect_errno(call(at, PAGE, 0, 0), EINVAL);
        expect_errno(call(at, PAGE, PAGE, 0x80), EINVAL);
        expect_errno(mremap(at.cast(), PAGE, PAGE, MREMAP_FIXED, at.cast::<c_void>()) as i64, EINVAL);
        expect_errno(call(at, 0, PAGE, MREMAP_MAYMOVE), EINVAL);
        assert_eq!(munmap(at.add(2 * PAGE).cast(), PAGE), 0);
        expect_errno(call(at.add(2 * PAGE), PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
        expect_errno(call(at, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE), EFAULT);
        // Overlap of old and new.
        let to = at.cast::<c_void>();
        expect_errno(mremap(at.cast(), 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) as i64, EINVAL);
    }
}

fn mremap_fixed() {
    unsafe {
        let at = map(2 * PAGE, RW, ANON);
        at.write_bytes(1, 2 * PAGE);
        let target = map(4 * PAGE, RW, ANON);
        target.write_bytes(9, 4 * PAGE);
        let moved = mremap(at.cast(), 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target.cast::<c_void>());
        assert_eq!(moved, target.cast());
        assert_eq!((*target, *target.add(PAGE), *target.add(2 * PAGE), *target.add(3 * PAGE)), (1, 1, 0, 9));
        let source = map(2 * PAGE, RW, ANON);
        source.write_bytes(4, 2 * PAGE);
        let copy: *mut u8 = mremap(source.cast(), 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | 4).cast();
        assert!(copy.cast() != MAP_FAILED, "MREMAP_DONTUNMAP: errno {}", errno());
        assert_eq!((*copy, *source), (4, 0));
        expect_errno(mremap(copy.cast(), 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | 4) as i64, EINVAL);
    }
}

fn brk_works() {
    unsafe {
        let raw = |to: usize| syscall(SYS_brk, to) as usize;
        let start = raw(0);
        assert_eq!(raw(start + 5 * PAGE), start + 5 * PAGE);
        let at = start as *mut u8;
        let first = at.add((PAGE - start % PAGE) % PAGE);
        *first.add(3 * PAGE) = 5;
        assert_eq!(*first.add(PAGE), 0);
        assert_eq!(raw(start + 100), start + 100);
        assert_eq!(raw(start + 5 * PAGE), start + 5 * PAGE);
        assert_eq!(*first.add(3 * PAGE), 0, "memory is fresh after shrinking");
        assert_eq!(raw(1), start + 5 * PAGE, "below the start: unchanged");
        assert_eq!(raw(1 << 47), start + 5 * PAGE, "into other mappings or limits: unchanged");
    }
}

fn madvise_dontneed() {
    unsafe {
        let at = map(4 * PAGE, RW, ANON);
        at.write_bytes(1, 4 * PAGE);
        assert_eq!(madvise(at.add(PAGE).cast(), 2 * PAGE, MADV_DONTNEED), 0);
        assert_eq!((*at, *at.add(PAGE), *at.add(2 * PAGE), *at.add(3 * PAGE)), (1, 0, 0, 1));
        let fd = temporary_file(2 * PAGE);
        let file: *mut u8 = mmap(null_mut(), 2 * PAGE, RW, MAP_PRIVATE, fd, 0).cast();
        *file = 99;
        assert_eq!(madvise(file.cast(), PAGE, MADV_DONTNEED), 0);
        assert_eq!(*file, 1, "the file's content is back");
        let shared: *mut u8 = mmap(null_mut(), 2 * PAGE, RW, MAP_SHARED, fd, 0).cast();
        *shared = 55;
        assert_eq!(madvise(shared.cast(), PAGE, MADV_DONTNEED), 0);
        assert_eq!(*shared, 55, "shared data stays");
        assert_eq!(madvise(shared.cast(), PAGE, MADV_REMOVE), 0);
        assert_eq!(*shared, 0, "a hole was punched");
        assert_eq!(madvise(at.cast(), 4 * PAGE, MADV_FREE), 0);
        *at = 3;
        assert_eq!(*at, 3);
    }
}

fn madvise_fork() {
    unsafe {
        let at = map(3 * PAGE, RW, ANON);
        at.write_bytes(1, 3 * PAGE);
        assert_eq!(madvise(at.cast(), PAGE, MADV_DONTFORK), 0);
        assert_eq!(madvise(at.add(PAGE).cast(), PAGE, MADV_WIPEONFORK), 0);
        child_succeeds(|| {
            assert_eq!((*at.add(PAGE), *at.add(2 * PAGE)), (0, 1));
            child_dies_of(SIGSEGV, || {
                std::ptr::read_volatile(at);
            });
        });
        assert_eq!(madvise(at.cast(), PAGE, MADV_DOFORK), 0);
        assert_eq!(madvise(at.add(PAGE).cast(), PAGE, MADV_KEEPONFORK), 0);
        child_succeeds(|| assert_eq!((*at, *at.add(PAGE), *at.add(2 * PAGE)), (1, 1, 1)));
    }
}

fn madvise_errors() {
    unsafe {
        let at = map(4 * PAGE, RW, ANON);
        expect_errno(madvise(at.add(1).cast(), PAGE, MADV_DONTNEED).into(), EINVAL);
        expect_errno(madvise(at.cast(), PAGE, 77).into(), EINVAL);
        assert_eq!(madvise(at.cast(), 0, MADV_DONTNEED), 0);
        let shared = map(PAGE, RW, MAP_SHARED | MAP_ANONYMOUS);
        expect_errno(madvise(shared.cast(), PAGE, MADV_WIPEONFORK).into(), EINVAL);
        expect_errno(madvise(shared.cast(), PAGE, MADV_FREE).into(), EINVAL);
        expect_errno(madvise(at.cast(), PAGE, MADV_REMOVE).into(), EINVAL);
        at.write_bytes(1, 4 * PAGE);
        assert_eq!(munmap(at.add(PAGE).cast(), PAGE), 0);
        expect_errno(madvise(at.cast(), 4 * PAGE, MADV_DONTNEED).into(), ENOMEM);
        assert_eq!((*at, *at.add(2 * PAGE)), (0, 0), "both sides of the hole were advised");
        for advice in
            [MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTDUMP]
        {
            assert_eq!(madvise(at.add(2 * PAGE).cast(), 2 * PAGE, advice), 0, "advice {advice}");
        }
        let fresh = map(4 * PAGE, RW, ANON);
        assert_eq!(madvise(fresh.cast(), 4 * PAGE, MADV_POPULATE_WRITE), 0);
        let mut resident = [0u8; 4];
        assert_eq!(mincore(fresh.cast(), 4 * PAGE, resident.as_mut_ptr()), 0);
        assert_eq!(resident, [1; 4]);
        let read_only = map(PAGE, PROT_READ, ANON);
        assert_eq!(madvise(read_only.cast(), PAGE, MADV_POPULATE_READ), 0);
        expect_errno(madvise(read_only.cast(), PAGE, MADV_POPULATE_WRITE).into(), EINVAL);
    }
}

fn without_privilege() {
    unsafe {
        assert_eq!(setgid(1000), 0);
        assert_eq!(setuid(1000), 0);
    }
}

fn mlock_limits() {
    unsafe {
        let at = map(32 * PAGE, RW, ANON);
        assert_eq!(mlock(at.add(5).cast(), PAGE), 0);
        let mut resident = [0u8; 4];
        assert_eq!(mincore(at.cast(), 4 * PAGE, resident.as_mut_ptr()), 0);
        assert_eq!(resident, [1, 1, 0, 0], "both touched pages");
        expect_errno(madvise(at.cast(), PAGE, MADV_DONTNEED).into(), EINVAL);
        assert_eq!(munlock(at.cast(), 2 * PAGE), 0);
        assert_eq!(madvise(at.cast(), PAGE, MADV_DONTNEED), 0);
        assert_eq!(munmap(at.add(8 * PAGE).cast(), PAGE), 0);
        expect_errno(mlock(at.cast(), 16 * PAGE).into(), ENOMEM);
        expect_errno(munlock(at.cast(), 16 * PAGE).into(), ENOMEM);
        expect_errno(mlockall(0).into(), EINVAL);
        expect_errno(mlockall(64).into(), EINVAL);
        expect_errno(syscall(SYS_mlock2, at, PAGE, 2), EINVAL);
        assert_eq!(syscall(SYS_mlock2, at, PAGE, 1), 0);
        assert_eq!(munlockall(), 0);
        let limit = rlimit { rlim_cur: 4 * PAGE as u64, rlim_max: 4 * PAGE as u64 };
        assert_eq!(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
        child_succeeds(|| {
            without_privilege();
            assert_eq!(mlock(at.cast(), 4 * PAGE), 0);
            assert_eq!(mlock(at.cast(), 4 * PAGE), 0, "locking again counts once");
            expect_errno(mlock(at.add(10 * PAGE).cast(), PAGE).into(), ENOMEM);
            expect_errno(mmap(null_mut(), PAGE, RW, ANON | MAP_LOCKED, -1, 0) as i64, EAGAIN);
        });
        let none = rlimit { rlim_cur: 0, rlim_max: 0 };
        assert_eq!(setrlimit(RLIMIT_MEMLOCK, &none), 0);
        child_succeeds(|| {
            without_privilege();
            expect_errno(mlock(at.cast(), PAGE).into(), EPERM);
            expect_errno(mlockall(MCL_CURRENT).into(), EPERM);
            expect_errno(mmap(null_mut(), PAGE, RW, ANON | MAP_LOCKED, -1, 0) as i64, EPERM);
        });
    }
}

fn mincore_works() {
    unsafe {
        let at = map(4 * PAGE, RW, ANON);
        *at.add(2 * PAGE) = 1;
        let mut resident = [9u8; 4];
        assert_eq!(mincore(at.cast(), 4 * PAGE, resident.as_mut_ptr()), 0);
        assert_eq!(resident, [0, 0, 1, 0]);
        expect_errno(mincore(at.add(1).cast(), PAGE, resident.as_mut_ptr()).into(), EINVAL);
        expect_errno(mincore(at.cast(), PAGE, 1 as *mut u8).into(), EFAULT);
        assert_eq!(munmap(at.cast(), PAGE), 0);
        expect_errno(mincore(at.cast(), 2 * PAGE, resident.as_mut_ptr()).into(), ENOMEM);
    }
}

fn msync_errors() {
    unsafe {
        let at = map(2 * PAGE, RW, ANON);
        assert_eq!(msync(at.cast(), 2 * PAGE, MS_SYNC), 0);
        expect_errno(msync(at.cast(), PAGE, MS_SYNC | MS_ASYNC).into(), EINVAL);
        expect_errno(msync(at.cast(), PAGE, 64).into(), EINVAL);
        expect_errno(msync(at.add(1).cast(), PAGE, MS_SYNC).into(), EINVAL);
        assert_eq!(mlock(at.cast(), PAGE), 0);
        expect_errno(msync(at.cast(), PAGE, MS_INVALIDATE).into(), EBUSY);
        assert_eq!(munmap(at.add(PAGE).cast(), PAGE), 0);
        expect_errno(msync(at.cast(), 2 * PAGE, MS_ASYNC).into(), ENOMEM);
    }
}

fn file_mappings() {
    unsafe {
        let fd = temporary_file(4 * PAGE);
        let shared: *mut u8 = mmap(null_mut(), 4 * PAGE, RW, MAP_SHARED, fd, 0).cast();
        let private: *mut u8 = mmap(null_mut(), 2 * PAGE, RW, MAP_PRIVATE, fd, PAGE as i64).cast();
        assert_eq!((*shared, *shared.add(3 * PAGE), *private), (1, 4, 2));
        *private = 50;
        assert_eq!(*shared.add(PAGE), 2, "private writes stay private");
        *shared.add(2 * PAGE) = 60;
        assert_eq!(*private.add(PAGE), 60, "an untouched private page shows the file");
        let mut byte = 0u8;
        assert_eq!(pread(fd, (&raw mut byte).cast(), 1, 2 * PAGE as i64), 1);
        assert_eq!(byte, 60);
        let new = 70u8;
        assert_eq!(pwrite(fd, (&raw const new).cast(), 1, PAGE as i64), 1);
        assert_eq!((*shared.add(PAGE), *private), (70, 50));
        child_succeeds(|| {
            assert_eq!((*private, *private.add(PAGE)), (50, 60));
            *shared = 80;
            *private = 90;
        });
        assert_eq!((*shared, *private), (80, 50));
    }
}

fn beyond_end() {
    unsafe {
        let fd = temporary_file(PAGE + 100);
        let at: *mut u8 = mmap(null_mut(), 4 * PAGE, RW, MAP_SHARED, fd, 0).cast();
        assert_eq!(*at.add(PAGE + 99), 2);
        assert_eq!(*at.add(PAGE + 100), 0, "zeroes to the end of the last page");
        child_dies_of(SIGBUS, || {
            std::ptr::read_volatile(at.add(2 * PAGE));
        });
        child_dies_of(SIGBUS, || *at.add(3 * PAGE) = 1);
        // The kernel's own copies answer EFAULT.
        let mut fds = [0; 2];
        assert_eq!(pipe(fds.as_mut_ptr()), 0);
        expect_errno(write(fds[1], at.add(2 * PAGE).cast(), 10) as i64, EFAULT);
        assert_eq!(ftruncate(fd, 3 * PAGE as i64), 0);
        assert_eq!(*at.add(2 * PAGE), 0, "now it is part of the file");
    }
}

fn truncation() {
    unsafe {
        let fd = temporary_file(4 * PAGE);
        let shared: *mut u8 = mmap(null_mut(), 4 * PAGE, RW, MAP_SHARED, fd, 0).cast();
        let private: *mut u8 = mmap(null_mut(), 4 * PAGE, RW, MAP_PRIVATE, fd, 0).cast();
        *shared.add(3 * PAGE) = 7;
        *private.add(3 * PAGE) = 8;
        assert_eq!(ftruncate(fd, PAGE as i64 + 10), 0);
        child_dies_of(SIGBUS, || {
            std::ptr::read_volatile(shared.add(3 * PAGE));
        });
        child_dies_of(SIGBUS, || {
            std::ptr::read_volatile(private.add(3 * PAGE));
        });
        assert_eq!((*shared.add(PAGE + 9), *shared.add(PAGE + 10)), (2, 0));
        assert_eq!(ftruncate(fd, 4 * PAGE as i64), 0);
        assert_eq!(*shared.add(3 * PAGE), 0, "what was cut off does not come back");
    }
}

fn readonly_shared() {
    unsafe {
        let path = c"/tmp/abi-readonly";
        let fd = open(path.as_ptr(), O_RDWR | O_CREAT | O_TRUNC, 0o600);
        assert!(fd >= 0, "open: errno {}", errno());
        assert_eq!(write(fd, c"hello".as_ptr().cast(), 5), 5);
        let read_only = open(path.as_ptr(), O_RDONLY);
        let write_only = open(path.as_ptr(), O_WRONLY);
        expect_errno(mmap(null_mut(), PAGE, RW, MAP_SHARED, read_only, 0) as i64, EACCES);
        expect_errno(mmap(null_mut(), PAGE, PROT_READ, MAP_SHARED, write_only, 0) as i64, EACCES);
        expect_errno(mmap(null_mut(), PAGE, PROT_READ, MAP_PRIVATE, write_only, 0) as i64, EACCES);
        let at = mmap(null_mut(), PAGE, PROT_READ, MAP_SHARED, read_only, 0);
        assert!(at != MAP_FAILED);
        expect_errno(libc::mprotect(at, PAGE, RW).into(), EACCES);
        let private: *mut u8 = mmap(null_mut(), PAGE, RW, MAP_PRIVATE, read_only, 0).cast();
        *private = b'J';
        assert_eq!(*at.cast::<u8>(), b'h');
        assert_eq!(close(read_only), 0);
        assert_eq!(unlink(path.as_ptr()), 0);
        assert_eq!(*private.add(1), b'e', "the mapping outlives descriptor and name");
    }
}

#[inline(never)]
fn recurse(depth: usize) -> usize {
    let mut block = [0u8; 8192];
    std::hint::black_box(&mut block);
    if depth == 0 { block[17] as usize } else { recurse(depth - 1) + std::hint::black_box(&block)[5] as usize }
}

fn stack_growth() {
    unsafe {
        let limit = rlimit { rlim_cur: 2 << 20, rlim_max: 8 << 20 };
        child_succeeds(|| {
            assert_eq!(setrlimit(RLIMIT_STACK, &limit), 0);
            // 1 MiB of 2 fits.
            assert_eq!(recurse(128), 0);
        });
        child_dies_of(SIGSEGV, || {
            signal(SIGSEGV, SIG_DFL);
            assert_eq!(setrlimit(RLIMIT_STACK, &limit), 0);
            recurse(300);
        });
    }
}

fn growsdown() {
    unsafe {
        let at = map(1024 * PAGE, RW, ANON);
        assert_eq!(munmap(at.cast(), 1024 * PAGE), 0);
        let stack = at.add(1000 * PAGE);
        let got = mmap(stack.cast(), 2 * PAGE, RW, ANON | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
        assert_eq!(got, stack.cast());
        *stack = 1;
        *stack.sub(PAGE) = 2;
        *stack.sub(10 * PAGE) = 3;
        assert_eq!(*stack.sub(5 * PAGE), 0);
    }
}

fn address_space_limit() {
    child_succeeds(|| unsafe {
        let limit = rlimit { rlim_cur: 64 << 20, rlim_max: 64 << 20 };
        assert_eq!(setrlimit(RLIMIT_AS, &limit), 0);
        expect_errno(mmap(null_mut(), 65 << 20, RW, ANON, -1, 0) as i64, ENOMEM);
        expect_errno(mmap(null_mut(), 65 << 20, PROT_NONE, ANON, -1, 0) as i64, ENOMEM);
        let at = map(16 << 20, RW, ANON);
        expect_errno(mremap(at.cast(), 16 << 20, 65 << 20, MREMAP_MAYMOVE) as i64, ENOMEM);
        assert_eq!(munmap(at.cast(), 16 << 20), 0);
    });
}

fn data_limit() {
    child_succeeds(|| unsafe {
        let limit = rlimit { rlim_cur: 16 << 20, rlim_max: 16 << 20 };
        assert_eq!(setrlimit(RLIMIT_DATA, &limit), 0);
        expect_errno(mmap(null_mut(), 17 << 20, RW, ANON, -1, 0) as i64, ENOMEM);
        let at = map(17 << 20, PROT_READ, ANON);
        expect_errno(libc::mprotect(at.cast(), 17 << 20, RW).into(), ENOMEM);
        map(17 << 20, RW, MAP_SHARED | MAP_ANONYMOUS);
    });
}

fn memfd() {
    unsafe {
        let fd = memfd_create(c"name".as_ptr(), MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert!(fd >= 0);
        assert_eq!(fcntl(fd, F_GETFD), FD_CLOEXEC);
        assert_eq!(write(fd, c"0123456789".as_ptr().cast(), 10), 10);
        let mut stat: stat = std::mem::zeroed();
        assert_eq!(fstat(fd, &mut stat), 0);
        assert_eq!((stat.st_size, stat.st_mode & S_IFMT, stat.st_nlink), (10, S_IFREG, 0));
        assert_eq!(fcntl(fd, F_GET_SEALS), 0);
        assert_eq!(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
        expect_errno(ftruncate(fd, 5).into(), EPERM);
        assert_eq!(ftruncate(fd, 20), 0);
        assert_eq!(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
        expect_errno(ftruncate(fd, 30).into(), EPERM);
        expect_errno(pwrite(fd, c"abcdef".as_ptr().cast(), 6, 18) as i64, EPERM);
        assert_eq!(pwrite(fd, c"xy".as_ptr().cast(), 2, 18), 2);
        assert_eq!(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW);
        assert_eq!(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL), 0);
        expect_errno(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE).into(), EPERM);
        let mut link = [0u8; 64];
        let path = format!("/proc/self/fd/{fd}\0");
        let len = readlink(path.as_ptr().cast(), link.as_mut_ptr().cast(), 64);
        assert_eq!(&link[..len.max(0) as usize], b"/memfd:name (deleted)");
        assert_eq!(lseek(fd, 0, SEEK_DATA), 0);
        assert_eq!(lseek(fd, 0, SEEK_HOLE), 20);
    }
}

fn memfd_errors() {
    unsafe {
        expect_errno(memfd_create(c"x".as_ptr(), 0x4000_0000).into(), EINVAL);
        expect_errno(memfd_create(1 as *const _, 0).into(), EFAULT);
        let long = [b'a'; 300];
        let mut name = long.to_vec();
        name.push(0);
        expect_errno(memfd_create(name.as_ptr().cast(), 0).into(), EINVAL);
        name.truncate(249);
        name.push(0);
        assert!(memfd_create(name.as_ptr().cast(), 0) >= 0);
        let fd = memfd_create(c"x".as_ptr(), 0);
        assert_eq!(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL);
        expect_errno(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW).into(), EPERM);
        let mut fds = [0; 2];
        assert_eq!(pipe(fds.as_mut_ptr()), 0);
        expect_errno(fcntl(fds[0], F_GET_SEALS).into(), EINVAL);
    }
}

fn memfd_write_seal() {
    unsafe {
        let fd = memfd_create(c"w".as_ptr(), MFD_ALLOW_SEALING);
        assert_eq!(ftruncate(fd, PAGE as i64), 0);
        let at = mmap(null_mut(), PAGE, RW, MAP_SHARED, fd, 0);
        assert!(at != MAP_FAILED);
        expect_errno(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE).into(), EBUSY);
        assert_eq!(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
        *at.cast::<u8>() = 5;
        expect_errno(mmap(null_mut(), PAGE, RW, MAP_SHARED, fd, 0) as i64, EPERM);
        expect_errno(write(fd, c"a".as_ptr().cast(), 1) as i64, EPERM);
        assert_eq!(munmap(at, PAGE), 0);
        assert_eq!(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
        let private: *mut u8 = mmap(null_mut(), PAGE, RW, MAP_PRIVATE, fd, 0).cast();
        assert!(private.cast() != MAP_FAILED);
        assert_eq!(*private, 5);
        *private = 6;
    }
}

fn generated_code() {
    unsafe {
        let at = map(PAGE, RW, ANON);
        // mov w0, #value; ret
        for value in [42u32, 43] {
            assert_eq!(libc::mprotect(at.cast(), PAGE, RW), 0);
            at.cast::<u32>().write(0x5280_0000 | value << 5);
            at.cast::<u32>().add(1).write(0xd65f_03c0);
            assert_eq!(libc::mprotect(at.cast(), PAGE, PROT_READ | PROT_EXEC), 0);
            core::arch::asm!("dc cvau, {0}", "dsb ish", "ic ivau, {0}", "dsb ish", "isb", in(reg) at);
            let function: extern "C" fn() -> u32 = std::mem::transmute(at);
            assert_eq!(function(), value);
        }
        assert_eq!(libc::mprotect(at.cast(), PAGE, PROT_READ), 0);
        child_dies_of(SIGSEGV, || {
            let function: extern "C" fn() -> u32 = std::mem::transmute(at);
            function();
        });
    }
}

fn cow_both_ways() {
    unsafe {
        let at = map(64 * PAGE, RW, ANON);
        for page in 0..64 {
            *at.add(page * PAGE) = page as u8;
        }
        let mut fds = [0; 2];
        let mut back = [0; 2];
        assert_eq!(pipe(fds.as_mut_ptr()), 0);
        assert_eq!(pipe(back.as_mut_ptr()), 0);
        let pid = fork();
        if pid == 0 {
            let mut byte = 0u8;
            // The parent writes first.
            read(fds[0], (&raw mut byte).cast(), 1);
            let ok = (0..64).all(|page| *at.add(page * PAGE) == page as u8);
            for page in 0..64 {
                *at.add(page * PAGE) = 200;
            }
            write(back[1], (&raw const byte).cast(), 1);
            _exit(i32::from(!ok));
        }
        for page in 0..32 {
            *at.add(page * PAGE) = 100;
        }
        write(fds[1], c"x".as_ptr().cast(), 1);
        let mut byte = 0u8;
        read(back[0], (&raw mut byte).cast(), 1);
        for page in 0..64 {
            assert_eq!(*at.add(page * PAGE), if page < 32 { 100 } else { page as u8 });
        }
        let mut status = 0;
        waitpid(pid, &mut status, 0);
        assert_eq!(status, 0);
        for page in 0..64 {
            *at.add(page * PAGE) = 1;
        }
    }
}

fn cow_storm() {
    unsafe {
        let at = map(32 * PAGE, RW, ANON);
        for round in 0..50u8 {
            at.write_bytes(round, 32 * PAGE);
            let pids: Vec<i32> = (0..4u8)
                .map(|child| {
                    let pid = fork();
                    assert!(pid >= 0);
                    if pid == 0 {
                        let ok = (0..32 * PAGE).step_by(64).all(|i| *at.add(i) == round);
                        at.write_bytes(round ^ child ^ 0x80, 32 * PAGE);
                        let own = (0..32 * PAGE).step_by(64).all(|i| *at.add(i) == round ^ child ^ 0x80);
                        _exit(i32::from(!(ok && own)));
                    }
                    pid
                })
                .collect();
            for pid in pids {
                let mut status = 0;
                assert_eq!(waitpid(pid, &mut status, 0), pid);
                assert_eq!(status, 0);
            }
        }
    }
}

fn process_vm() {
    unsafe {
        let at = map(4 * PAGE, RW, ANON);
        at.write_bytes(0x11, 4 * PAGE);
        let (mut go, mut done) = ([0; 2], [0; 2]);
        assert_eq!(pipe(go.as_mut_ptr()), 0);
        assert_eq!(pipe(done.as_mut_ptr()), 0);
        let pid = fork();
        if pid == 0 {
            at.write_bytes(0x22, 4 * PAGE);
            write(done[1], c"x".as_ptr().cast(), 1);
            let mut byte = 0u8;
            read(go[0], (&raw mut byte).cast(), 1);
            _exit(i32::from(*at.add(PAGE) != 0x33));
        }
        let mut byte = 0u8;
        read(done[0], (&raw mut byte).cast(), 1);
        let mut buffer = vec![0u8; 2 * PAGE];
        let local = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 2 * PAGE };
        let remote = iovec { iov_base: at.add(100).cast(), iov_len: 2 * PAGE };
        assert_eq!(process_vm_readv(pid, &local, 1, &remote, 1, 0), 2 * PAGE as isize);
        assert!(buffer.iter().all(|&b| b == 0x22));
        buffer.fill(0x33);
        let remote = iovec { iov_base: at.add(PAGE).cast(), iov_len: 2 * PAGE };
        assert_eq!(process_vm_writev(pid, &local, 1, &remote, 1, 0), 2 * PAGE as isize);
        assert_eq!(*at.add(PAGE), 0x11);
        let beyond = iovec { iov_base: at.add(3 * PAGE).cast(), iov_len: 2 * PAGE };
        munmap(at.add(4 * PAGE).cast(), PAGE);
        expect_errno(process_vm_readv(pid, &local, 1, &remote, 1, 1) as i64, EINVAL);
        let wild = iovec { iov_base: 8 as *mut _, iov_len: PAGE };
        expect_errno(process_vm_readv(pid, &local, 1, &wild, 1, 0) as i64, EFAULT);
        expect_errno(process_vm_readv(999_999, &local, 1, &beyond, 1, 0) as i64, ESRCH);
        write(go[1], c"x".as_ptr().cast(), 1);
        let mut status = 0;
        waitpid(pid, &mut status, 0);
        assert_eq!(status, 0);
    }
}

fn proc_maps() {
    unsafe {
        let at = map(8 * PAGE, RW, ANON);
        assert_eq!(libc::mprotect(at.add(2 * PAGE).cast(), PAGE, PROT_READ | PROT_EXEC), 0);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = format!("{:08x}-{:08x} r-xp 00000000 00:00 0", at as usize + 2 * PAGE, at as usize + 3 * PAGE);
        assert!(maps.contains(&line), "no {line} in\n{maps}");
        assert!(maps.contains("[stack]") && maps.contains("[heap]"), "{maps}");
        let shared = map(PAGE, RW, MAP_SHARED | MAP_ANONYMOUS);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| line.starts_with(&format!("{:08x}-", shared as usize))).unwrap();
        assert!(line.contains("rw-s") && line.ends_with("/dev/zero (deleted)"), "{line}");
    }
}

fn overcommit() {
    unsafe {
        expect_errno(mmap(null_mut(), 1 << 45, RW, ANON, -1, 0) as i64, ENOMEM);
        map(1 << 40, PROT_NONE, ANON | MAP_NORESERVE);
        map(256 << 20, RW, ANON);
    }
}

fn threads_fault() {
    unsafe {
        let at = map(512 * PAGE, RW, ANON) as usize;
        let threads: Vec<_> = (0..4usize)
            .map(|n| {
                std::thread::spawn(move || {
                    for page in 0..512 {
                        let word = (at + page * PAGE + n * 8) as *mut u64;
                        *word += page as u64 + n as u64;
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        for page in 0..512usize {
            for n in 0..4 {
                assert_eq!(*((at + page * PAGE + n * 8) as *const u64), (page + n) as u64);
            }
        }
    }
}

fn kernel_copies() {
    unsafe {
        // read(2) into fresh memory, over a copy-on-write page, and into a read-only page.
        let mut fds = [0; 2];
        assert_eq!(pipe(fds.as_mut_ptr()), 0);
        let at = map(2 * PAGE, RW, ANON);
        assert_eq!(write(fds[1], c"abcdefgh".as_ptr().cast(), 8), 8);
        assert_eq!(read(fds[0], at.add(PAGE - 4).cast(), 8), 8);
        assert_eq!(std::slice::from_raw_parts(at.add(PAGE - 4), 8), b"abcdefgh");
        child_succeeds(|| {
            assert_eq!(write(fds[1], c"12345678".as_ptr().cast(), 8), 8);
            assert_eq!(read(fds[0], at.add(PAGE - 4).cast(), 8), 8);
            assert_eq!(std::slice::from_raw_parts(at.add(PAGE - 4), 8), b"12345678");
        });
        assert_eq!(std::slice::from_raw_parts(at.add(PAGE - 4), 8), b"abcdefgh");
        assert_eq!(libc::mprotect(at.cast(), PAGE, PROT_READ), 0);
        assert_eq!(write(fds[1], c"x".as_ptr().cast(), 1), 1);
        expect_errno(read(fds[0], at.cast(), 1) as i64, EFAULT);
        expect_errno(read(fds[0], 16 as *mut _, 1) as i64, EFAULT);
    }
}

fn null_page() {
    unsafe {
        child_dies_of(SIGSEGV, || {
            std::ptr::read_volatile(std::hint::black_box(8 as *const u8));
        });
        child_succeeds(|| {
            without_privilege();
            expect_errno(mmap(null_mut(), PAGE, RW, ANON | MAP_FIXED, -1, 0) as i64, EPERM);
        });
    }
}

fn memory_hog() {
    child_dies_of(SIGKILL, || unsafe {
        // The likeliest victim; without procfs the biggest process is chosen anyway.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        loop {
            map(16 << 20, RW, ANON | MAP_POPULATE);
        }
    });
    // Memory is back: 64 MiB can be touched.
    unsafe {
        let at = map(64 << 20, RW, ANON);
        for page in 0..(64 << 20) / PAGE {
            *at.add(page * PAGE) = 1;
        }
        assert_eq!(munmap(at.cast(), 64 << 20), 0);
    }
}
