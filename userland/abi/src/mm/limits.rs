//! Stack growth, limits, overcommit, and a program that wants it all.

use super::*;

#[inline(never)]
fn recurse(depth: usize) -> usize {
    let mut block = [0u8; 8192];
    std::hint::black_box(&mut block);
    if depth == 0 { block[17] as usize } else { recurse(depth - 1) + std::hint::black_box(&block)[5] as usize }
}

pub fn stack_growth() {
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

pub fn growsdown() {
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

pub fn address_space_limit() {
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

pub fn data_limit() {
    child_succeeds(|| unsafe {
        let limit = rlimit { rlim_cur: 16 << 20, rlim_max: 16 << 20 };
        assert_eq!(setrlimit(RLIMIT_DATA, &limit), 0);
        expect_errno(mmap(null_mut(), 17 << 20, RW, ANON, -1, 0) as i64, ENOMEM);
        let at = map(17 << 20, PROT_READ, ANON);
        expect_errno(libc::mprotect(at.cast(), 17 << 20, RW).into(), ENOMEM);
        map(17 << 20, RW, MAP_SHARED | MAP_ANONYMOUS);
    });
}

pub fn overcommit() {
    unsafe {
        expect_errno(mmap(null_mut(), 1 << 45, RW, ANON, -1, 0) as i64, ENOMEM);
        map(1 << 40, PROT_NONE, ANON | MAP_NORESERVE);
        map(256 << 20, RW, ANON);
    }
}

pub fn memory_hog() {
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
