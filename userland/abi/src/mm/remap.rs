//! mremap(2) and brk(2).

use super::*;

pub fn mremap_basic() {
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
pub fn mremap_next_door() {
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

pub fn mremap_errors() {
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

pub fn mremap_fixed() {
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

pub fn brk_works() {
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
