//! mmap(2), munmap(2), mprotect(2), and what /proc says of it.

use super::*;

pub fn anonymous() {
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

/// Pages of this process in memory, by /proc/self/statm.
fn resident_pages() -> i64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The resident set goes back by what is unmapped, also when that is many pages or several mappings at once.
pub fn resident_set() {
    const COUNT: usize = 3000;
    // Linux counts on each CPU for a while: 64 pages a CPU.
    const NEAR: i64 = 64 * 8;
    unsafe {
        let before = resident_pages();
        for parts in [1, 3] {
            let at = map(COUNT * PAGE, RW, ANON);
            (0..COUNT).for_each(|page| *at.add(page * PAGE) = 1);
            // Different rights make mappings of their own of the parts.
            for part in (1..parts).step_by(2) {
                assert_eq!(
                    libc::mprotect(at.add(COUNT / parts * part * PAGE).cast(), COUNT / parts * PAGE, PROT_READ),
                    0
                );
            }
            let between = resident_pages();
            assert!((between - before - COUNT as i64).abs() < NEAR, "{before} then {between}");
            assert_eq!(munmap(at.cast(), COUNT * PAGE), 0);
            let after = resident_pages();
            assert!((after - before).abs() < NEAR, "{before}, {between}, then {after}");
        }
    }
}

pub fn shared() {
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

pub fn mmap_errors() {
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

pub fn fixed() {
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

pub fn munmap_holes() {
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

pub fn munmap_errors() {
    unsafe {
        let at = map(PAGE, RW, ANON);
        expect_errno(munmap(at.add(1).cast(), PAGE).into(), EINVAL);
        expect_errno(munmap(at.cast(), 0).into(), EINVAL);
        expect_errno(munmap(at.cast(), usize::MAX).into(), EINVAL);
        expect_errno(munmap((1usize << 52) as *mut _, PAGE).into(), EINVAL);
        assert_eq!(munmap(0x10_0000 as *mut _, PAGE), 0);
    }
}

pub fn mprotect() {
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

pub fn mprotect_errors() {
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

pub fn generated_code() {
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

pub fn proc_maps() {
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

/// smaps: a line of maps, then rows whose numbers end in one column.
pub fn proc_smaps() {
    unsafe {
        let at = map(300 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS);
        for page in 0..257 {
            *at.add(page * PAGE) = 1;
        }
        let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let head = format!("{:08x}-", at as usize);
        let own: Vec<&str> = text.lines().skip_while(|line| !line.starts_with(&head)).skip(1).collect();
        let rows: Vec<&str> = own.into_iter().take_while(|line| !line.contains('-')).collect();
        let value = |name: &str| {
            let row = rows.iter().find(|row| row.starts_with(&format!("{name}:")));
            let row = row.unwrap_or_else(|| panic!("no {name} in {rows:?}"));
            assert!(row.ends_with(" kB") && row.len() == 27, "{row:?}");
            row[name.len() + 1..24].trim_start().parse::<usize>().unwrap()
        };
        assert_eq!((value("Size"), value("Rss"), value("KernelPageSize")), (1200, 1028, 4));
        assert_eq!((value("Swap"), value("Locked"), value("Private_Hugetlb")), (0, 0, 0));
        let parts = ["Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty"].map(value);
        assert_eq!(parts.iter().sum::<usize>(), 1028);
        let flags = rows.iter().find(|row| row.starts_with("VmFlags:")).unwrap();
        assert!(flags.contains(" rd wr ") && flags.contains(" sh "), "{flags}");
    }
}

pub fn null_page() {
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
