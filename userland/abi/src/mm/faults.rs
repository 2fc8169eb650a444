//! Copy on write, faults of many threads at once, and copies by the kernel.

use super::*;

pub fn cow_both_ways() {
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

pub fn cow_storm() {
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

pub fn process_vm() {
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

pub fn threads_fault() {
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

pub fn kernel_copies() {
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
