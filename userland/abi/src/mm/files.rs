//! Mappings of files: private, shared, beyond the end, truncated; memfd_create(2) and its seals.

use super::*;

pub fn file_mappings() {
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

pub fn beyond_end() {
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

pub fn truncation() {
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

pub fn readonly_shared() {
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

pub fn memfd() {
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

pub fn memfd_errors() {
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
        // A file of tmpfs takes none, and says so as if it was a memfd.
        let file = open(c"/tmp".as_ptr(), O_TMPFILE | O_RDWR, 0o600);
        assert_eq!(fcntl(file, F_GET_SEALS), F_SEAL_SEAL);
        expect_errno(fcntl(file, F_ADD_SEALS, F_SEAL_GROW).into(), EPERM);
    }
}

pub fn memfd_write_seal() {
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
