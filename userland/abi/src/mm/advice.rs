//! madvise(2), mlock(2), mincore(2), msync(2).

use super::*;

pub fn madvise_dontneed() {
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

pub fn madvise_fork() {
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

pub fn madvise_errors() {
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

pub fn mlock_limits() {
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

pub fn mincore_works() {
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

pub fn msync_errors() {
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
