//! shmget(2), shmop(2), shmctl(2), flag by flag and errno by errno.

use super::*;

const SHM_STAT_ANY: i32 = 15;
const SHM_NORESERVE: i32 = 0o10000;
const SHMMAX: usize = usize::MAX - (1 << 24);

fn make(size: usize, flags: i32) -> i32 {
    unsafe { shmget(IPC_PRIVATE, size, IPC_CREAT | 0o600 | flags) }
}

fn unprivileged() {
    unsafe {
        assert_eq!(setgroups(0, null()), 0);
        assert_eq!(setresgid(1000, 1000, 1000), 0);
        assert_eq!(setresuid(1000, 1000, 1000), 0);
    }
}

fn at(id: i32, addr: usize, flags: i32) -> i64 {
    unsafe { shmat(id, addr as *const c_void, flags) as i64 }
}

fn control(id: i32, command: i32) -> i64 {
    i64::from(unsafe { shmctl(id, command, null_mut()) })
}

/// Sizes: EINVAL, ENOSPC, ENOMEM (promised memory) and none of them with SHM_NORESERVE.
pub fn sizes() {
    for size in [0, SHMMAX, usize::MAX] {
        expect_errno(make(size, 0).into(), EINVAL);
    }
    expect_errno(make(1 << 50, 0).into(), ENOMEM);
    let huge = Segment(make(1 << 40, SHM_NORESERVE));
    assert!(huge.0 >= 0);
    assert_eq!(huge.stat().shm_segsz, 1 << 40);
    // The size is remembered to the byte; the mapping is of whole pages.
    let odd = Segment::new(PAGE + 1);
    assert_eq!(odd.stat().shm_segsz, PAGE + 1);
    let place = odd.attach();
    unsafe {
        *place.add(2 * PAGE - 1) = 1;
        expect_errno(shmget(odd.stat().shm_perm.__key, 0, IPC_CREAT | IPC_EXCL).into(), EINVAL);
    }
}

/// What comes first: that it exists, its size, then the rights.
pub fn key_order() {
    let key = 0x5eed2;
    unsafe {
        expect_errno(shmget(key, 0, IPC_CREAT | 0o600).into(), EINVAL);
        expect_errno(shmget(key, 0, 0).into(), ENOENT);
        let segment = Segment(shmget(key, PAGE, IPC_CREAT | IPC_EXCL | 0o7773700));
        assert_eq!(segment.stat().shm_perm.mode, 0o700);
        assert_eq!((shmget(key, PAGE, IPC_EXCL), shmget(key, 1, SHM_HUGETLB)), (segment.0, segment.0));
        expect_errno(shmget(key, PAGE + 1, IPC_CREAT | IPC_EXCL).into(), EEXIST);
        child_succeeds(|| {
            unprivileged();
            expect_errno(shmget(key, PAGE + 1, 0o400).into(), EINVAL);
            expect_errno(shmget(key, PAGE, 0o400).into(), EACCES);
            assert_eq!(shmget(key, PAGE, 0), segment.0);
            expect_errno(shmget(key, PAGE, IPC_CREAT | IPC_EXCL | 0o600).into(), EEXIST);
        });
    }
}

/// Without any huge pages ready: ENOMEM; EINVAL for sizes there are none of, EPERM for who may not.
pub fn huge_pages() {
    for log in [0, 16, 21, 25, 30] {
        expect_errno(make(PAGE, SHM_HUGETLB | log << 26).into(), ENOMEM);
    }
    for log in [1, 12, 20, 31, 32] {
        expect_errno(make(PAGE, SHM_HUGETLB | (log << 26)).into(), EINVAL);
    }
    child_succeeds(|| {
        unprivileged();
        expect_errno(make(PAGE, SHM_HUGETLB).into(), EPERM);
        expect_errno(make(PAGE, SHM_HUGETLB | 12 << 26).into(), EINVAL);
    });
}

/// Addresses: rounding, what wraps, what lies beyond, page zero, tags, SHM_REMAP.
pub fn addresses() {
    let segment = Segment::new(2 * PAGE);
    let id = segment.0;
    let end = 1usize << 48;
    expect_errno(at(id, 5, 0), EINVAL);
    expect_errno(at(id, 5, SHM_RND | SHM_REMAP), EINVAL);
    expect_errno(at(id, 0, SHM_REMAP), EINVAL);
    expect_errno(at(id, PAGE.wrapping_neg(), 0), EINVAL);
    expect_errno(at(id, PAGE.wrapping_neg(), SHM_REMAP), ENOMEM);
    for beyond in [end - PAGE, end, 1 << 50] {
        expect_errno(at(id, beyond, 0), ENOMEM);
        expect_errno(at(id, beyond, SHM_REMAP), ENOMEM);
    }
    assert_eq!(at(id, end - 2 * PAGE, 0), (end - 2 * PAGE) as i64);
    unsafe {
        expect_errno(shmdt((0x12 << 56 | (end - 2 * PAGE)) as *const _).into(), EINVAL);
        expect_errno(shmdt(PAGE.wrapping_neg() as *const _).into(), EINVAL);
        assert_eq!(shmdt((end - 2 * PAGE) as *const _), 0);
        // Over two neighbours of other kinds at once; what they had is gone.
        let room = mmap(null_mut(), 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0).cast::<u8>();
        assert_eq!(mprotect(room.add(2 * PAGE).cast(), PAGE, PROT_READ), 0);
        *room.add(PAGE) = 7;
        expect_errno(at(id, room as usize + PAGE, 0), EINVAL);
        assert_eq!(at(id, room as usize + PAGE + 9, SHM_REMAP | SHM_RND), room as i64 + PAGE as i64);
        assert_eq!((*room, *room.add(PAGE), *room.add(3 * PAGE)), (0, 0, 0));
        assert_eq!(segment.stat().shm_nattch, 1);
        assert_eq!(shmdt(room.add(PAGE).cast()), 0);
        assert_eq!(munmap(room.cast(), 4 * PAGE), 0);
    }
    child_succeeds(|| {
        // Rounded down to nothing, it is page zero, for those who may have that.
        assert_eq!(at(id, 5, SHM_RND), 0);
        expect_errno(at(id, 0x12 << 56 | 0x1000_0000, SHM_REMAP), ENOMEM);
        expect_errno(at(id, 0x12 << 56 | 0x1000_0000, 0), ENOMEM);
    });
    child_succeeds(|| {
        unprivileged();
        let own = make(PAGE, 0);
        expect_errno(at(own, 5, SHM_RND), EPERM);
        assert_eq!(control(own, IPC_RMID), 0);
    });
    child_succeeds(|| unsafe {
        let limit = rlimit { rlim_cur: 64 << 20, rlim_max: 64 << 20 };
        assert_eq!(setrlimit(RLIMIT_AS, &limit), 0);
        let large = Segment::new(128 << 20);
        expect_errno(at(large.0, 0, 0), ENOMEM);
        assert_eq!(large.stat().shm_nattch, 0);
    });
}

/// SHM_RDONLY, SHM_EXEC, unknown flags; the segment's rights before the address's errors, its number before both.
pub fn rights() {
    let segment = Segment::new(PAGE);
    let id = segment.0;
    unsafe {
        let executable = shmat(id, null(), SHM_EXEC | SHM_RDONLY);
        assert_ne!(executable as i64, -1);
        assert_eq!(mprotect(executable, PAGE, PROT_READ | PROT_EXEC), 0);
        expect_errno(mprotect(executable, PAGE, PROT_WRITE).into(), EACCES);
        assert_ne!(at(id, 0, 0x87), -1);
        assert_eq!(mprotect(segment.attach().cast(), PAGE, PROT_READ | PROT_EXEC), 0);
    }
    expect_errno(at(-1, 5, 0), EINVAL);
    expect_errno(at(0x7fff_0000, 0, 0), EINVAL);
    let open = |mode: u32, flags: i32| unsafe {
        let mut ds = segment.stat();
        ds.shm_perm.mode = mode;
        assert_eq!(shmctl(id, IPC_SET, &mut ds), 0);
        child_succeeds(|| {
            unprivileged();
            expect_errno(at(id, 5, flags), EINVAL);
            expect_errno(at(id, PAGE.wrapping_neg(), flags), EACCES);
            expect_errno(at(id, 0, flags), EACCES);
        });
    };
    open(0o600, 0);
    open(0o604, 0);
    open(0o602, SHM_RDONLY);
    open(0o606, SHM_EXEC);
    open(0o604, SHM_RDONLY | SHM_EXEC);
    unsafe {
        let mut ds = segment.stat();
        ds.shm_perm.mode = 0o605;
        assert_eq!(shmctl(id, IPC_SET, &mut ds), 0);
        child_succeeds(|| {
            unprivileged();
            assert_ne!(at(id, 0, SHM_RDONLY | SHM_EXEC), -1);
        });
    }
}

/// Moved, grown and cut mappings are still attachments; exec and the end of a process end them.
pub fn attachments() {
    let segment = Segment::new(2 * PAGE);
    let nattch = || segment.stat().shm_nattch;
    unsafe {
        let place = segment.attach();
        let moved = mremap(place.cast(), 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, 0x5000_0000_0000usize);
        assert_eq!(moved as usize, 0x5000_0000_0000);
        assert_eq!(nattch(), 1);
        expect_errno(shmdt(place.cast()).into(), EINVAL);
        assert_eq!((shmdt(moved), nattch()), (0, 0));
        let place = segment.attach();
        let grown = mremap(place.cast(), 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE);
        assert_ne!(grown, MAP_FAILED);
        assert_eq!((nattch(), shmdt(grown), nattch()), (1, 0, 0));
        // The first page is gone: what is left is still found by where it began.
        let place = segment.attach();
        assert_eq!(munmap(place.cast(), PAGE), 0);
        expect_errno(shmdt(place.add(PAGE).cast()).into(), EINVAL);
        assert_eq!((shmdt(place.cast()), nattch()), (0, 0));
        expect_errno(shmdt(place.cast()).into(), EINVAL);
        // Three at once; a child's copies count until it runs another program.
        let places = [segment.attach(), segment.attach(), segment.attach()];
        let [r, w] = {
            let mut ends = [0; 2];
            assert_eq!(pipe2(ends.as_mut_ptr(), O_CLOEXEC), 0);
            ends
        };
        let child = fork();
        if child == 0 {
            assert_eq!(nattch(), 6);
            dup2(r, 0);
            let arguments = [c"abi".as_ptr(), c"-l".as_ptr(), c"no such test".as_ptr(), null()];
            execv(c"/proc/self/exe".as_ptr(), arguments.as_ptr());
            _exit(1);
        }
        let mut status = 0;
        assert_eq!((waitpid(child, &mut status, 0), status), (child, 0));
        close(w);
        assert_eq!((nattch(), segment.stat().shm_lpid), (3, child));
        assert!(places.iter().all(|place| shmdt(place.cast()) == 0));
        assert_eq!((nattch(), segment.stat().shm_lpid), (0, getpid()));
    }
}

/// IPC_RMID while attached: no key, a mode bit, still to be had by number; all that shmctl can do still works.
pub fn removed_but_attached() {
    let key = 0x5eed3;
    unsafe {
        let id = shmget(key, PAGE, IPC_CREAT | 0o777);
        let segment = Segment(id);
        let place = segment.attach();
        *place = 9;
        assert_eq!((control(id, IPC_RMID), control(id, IPC_RMID)), (0, 0));
        let mut ds = segment.stat();
        assert_eq!((ds.shm_perm.mode, ds.shm_perm.__key, ds.shm_nattch), (0o1777, 0, 1));
        assert_eq!((control(id, SHM_LOCK), control(id, SHM_UNLOCK), shmctl(id, IPC_SET, &mut ds)), (0, 0, 0));
        let other = shmget(key, PAGE, IPC_CREAT | 0o600);
        assert!(other >= 0 && other != id);
        drop(Segment(other));
        child_succeeds(|| {
            unprivileged();
            assert_eq!(*segment.attach(), 9);
            std::mem::forget(Segment(id));
        });
        assert_eq!(shmdt(place.cast()), 0);
        expect_errno(at(id, 0, 0), EINVAL);
        expect_errno(control(id, IPC_RMID), EINVAL);
    }
}

/// Errors of shmctl in their order; IPC_SET refuses ids that are none and changes nothing but owner and rights.
pub fn shmctl_errors() {
    let segment = Segment::new(PAGE);
    let id = segment.0;
    unsafe {
        let mut ds: shmid_ds = std::mem::zeroed();
        for command in [7, 16, 99] {
            expect_errno(shmctl(id, command, &mut ds).into(), EINVAL);
        }
        expect_errno(shmctl(id, -1, &mut ds).into(), EINVAL);
        for command in [IPC_INFO, SHM_INFO, SHM_STAT, SHM_STAT_ANY, IPC_STAT, IPC_SET, IPC_RMID, SHM_LOCK] {
            expect_errno(shmctl(-1, command, &mut ds).into(), EINVAL);
        }
        let bad = 0x0000_ffff_ffff_f000usize as *mut shmid_ds;
        for command in [IPC_STAT, IPC_SET, IPC_INFO, SHM_INFO] {
            expect_errno(shmctl(id, command, bad).into(), EFAULT);
        }
        // The buffer is read before anything is looked up, and written after.
        expect_errno(shmctl(0x7fff_0000, IPC_SET, bad).into(), EFAULT);
        for command in [IPC_SET, IPC_STAT, SHM_STAT, SHM_STAT_ANY, SHM_LOCK, SHM_UNLOCK, IPC_RMID] {
            expect_errno(shmctl(0x7fff_7fff, command, &mut ds).into(), EINVAL);
        }
        for (uid, gid) in [(u32::MAX, 0), (0, u32::MAX)] {
            let mut ds = segment.stat();
            (ds.shm_perm.uid, ds.shm_perm.gid) = (uid, gid);
            expect_errno(shmctl(id, IPC_SET, &mut ds).into(), EINVAL);
        }
        let mut ds = segment.stat();
        let before = ds;
        (ds.shm_segsz, ds.shm_perm.cuid, ds.shm_perm.mode, ds.shm_perm.gid) = (1, 77, 0o1430, 55);
        assert_eq!(shmctl(id, IPC_SET, &mut ds), 0);
        let after = segment.stat();
        assert_eq!((after.shm_segsz, after.shm_perm.cuid), (before.shm_segsz, before.shm_perm.cuid));
        assert_eq!((after.shm_perm.mode, after.shm_perm.gid), (0o430, 55));
        child_succeeds(|| {
            unprivileged();
            let mut ds: shmid_ds = std::mem::zeroed();
            expect_errno(shmctl(id, IPC_STAT, &mut ds).into(), EACCES);
            // Who asks for no right beside the number is told all.
            let highest = shmctl(0, IPC_INFO, [0u64; 16].as_mut_ptr().cast());
            let mut find = |command| (0..=highest).any(|index| shmctl(index, command, &mut ds) == id);
            assert!(find(SHM_STAT_ANY) && !find(SHM_STAT));
            for command in [IPC_RMID, IPC_SET, SHM_LOCK, SHM_UNLOCK] {
                expect_errno(shmctl(id, command, &mut ds).into(), EPERM);
            }
        });
        // The owner who did not make it may do all that.
        let mut ds = segment.stat();
        ds.shm_perm.uid = 1000;
        assert_eq!(shmctl(id, IPC_SET, &mut ds), 0);
        child_succeeds(|| {
            unprivileged();
            assert_eq!((control(id, SHM_LOCK), control(id, SHM_UNLOCK)), (0, 0));
            let mut ds = segment.stat();
            assert_eq!((shmctl(id, IPC_SET, &mut ds), control(id, IPC_RMID)), (0, 0));
        });
        expect_errno(control(id, IPC_STAT), EINVAL);
    }
}

/// SHM_LOCK: pages of a real user up to RLIMIT_MEMLOCK, until unlocked or removed; nobody but root without a limit.
pub fn lock_limits() {
    child_succeeds(|| unsafe {
        let limit = |pages: usize| {
            let limit = rlimit { rlim_cur: (pages * PAGE) as u64, rlim_max: (5 * PAGE + 100) as u64 };
            assert_eq!(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
        };
        let foreign = Segment::new(64 * PAGE);
        limit(5);
        unprivileged();
        let (a, b, c) = (Segment::new(3 * PAGE - 5), Segment::new(2 * PAGE), Segment::new(PAGE));
        let lock = |segment: &Segment| control(segment.0, SHM_LOCK);
        let unlock = |segment: &Segment| control(segment.0, SHM_UNLOCK);
        assert_eq!((unlock(&a), lock(&a), lock(&a), lock(&b)), (0, 0, 0, 0));
        expect_errno(lock(&c), ENOMEM);
        assert_eq!(c.stat().shm_perm.mode & 0o2000, 0);
        assert_eq!((unlock(&b), unlock(&b), lock(&c)), (0, 0, 0));
        expect_errno(lock(&b), ENOMEM);
        drop(a);
        assert_eq!(lock(&b), 0);
        // Another process of the user's, whose limit is the same.
        child_succeeds(|| {
            let d = Segment::new(3 * PAGE);
            expect_errno(lock(&d), ENOMEM);
            assert_eq!((unlock(&c), lock(&d), unlock(&d), lock(&c)), (0, 0, 0, 0));
            std::mem::forget([Segment(b.0), Segment(c.0)]);
        });
        limit(0);
        assert_eq!(unlock(&c), 0);
        expect_errno(lock(&c), EPERM);
        expect_errno(lock(&foreign), EPERM);
        std::mem::forget(foreign);
    });
}

/// IPC_INFO, SHM_INFO, and the limits in /proc/sys/kernel.
pub fn limits() {
    let set = |name: &str, value: &str| {
        let path = format!("/proc/sys/kernel/{name}");
        let old = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, value).unwrap();
        old.trim().to_owned()
    };
    let info = || {
        let mut info = [0u64; 9];
        let highest = unsafe { shmctl(0, IPC_INFO, info.as_mut_ptr().cast()) };
        assert!(highest >= 0);
        info
    };
    let usage = || {
        let mut usage = [0u64; 6];
        assert!(unsafe { shmctl(0, SHM_INFO, usage.as_mut_ptr().cast()) } >= 0);
        usage
    };
    let [max, min, mni, seg, all, ..] = info();
    assert_eq!((max, min, mni, seg, all), (SHMMAX as u64, 1, 4096, 4096, SHMMAX as u64));
    let before = usage();
    let segment = Segment::new(2 * PAGE + 1);
    unsafe { *segment.attach() = 1 };
    let after = usage();
    assert_eq!((after[0] as u32 - before[0] as u32, after[1] - before[1], after[2] - before[2]), (1, 3, 1));
    let old = set("shmmax", "8192");
    assert_eq!(info()[0], 8192);
    expect_errno(make(8193, 0).into(), EINVAL);
    assert!(Segment(make(8192, 0)).0 >= 0);
    set("shmmax", &old);
    let old = set("shmall", &(after[1] + 1).to_string());
    expect_errno(make(PAGE + 1, 0).into(), ENOSPC);
    // Said before that there are no huge pages.
    expect_errno(make(PAGE + 1, SHM_HUGETLB).into(), ENOSPC);
    assert!(Segment(make(PAGE, 0)).0 >= 0);
    set("shmall", &old);
    let old = set("shmmni", &(after[0] as u32 + 1).to_string());
    let last = Segment::new(PAGE);
    expect_errno(make(PAGE, 0).into(), ENOSPC);
    drop(last);
    drop(Segment::new(PAGE));
    set("shmmni", &old);
}

/// kernel.shm_rmid_forced: with the last detach, or with who made it.
pub fn removal_is_forced() {
    let set = |value: &str| std::fs::write("/proc/sys/kernel/shm_rmid_forced", value);
    let is_there = |id: i32| unsafe { shmctl(id, IPC_STAT, &mut std::mem::zeroed()) } == 0;
    let childs = |attached: bool| {
        let mut ends = [0; 2];
        unsafe { assert_eq!(pipe(ends.as_mut_ptr()), 0) };
        child_succeeds(|| unsafe {
            let id = make(PAGE, 0);
            if attached {
                assert_ne!(at(id, 0, 0), -1);
            }
            assert_eq!(write(ends[1], (&raw const id).cast(), 4), 4);
        });
        let mut id = -1;
        unsafe { assert_eq!(read(ends[0], (&raw mut id).cast(), 4), 4) };
        id
    };
    let orphan = childs(true);
    let own = Segment::new(PAGE);
    assert!(is_there(orphan));
    set("1").unwrap();
    // Those without a maker go at once.
    assert!(!is_there(orphan) && is_there(own.0));
    assert!(!is_there(childs(true)) && !is_there(childs(false)));
    let place = own.attach();
    child_succeeds(|| {
        own.attach();
        std::mem::forget(Segment(own.0));
    });
    assert!(is_there(own.0));
    assert_eq!(unsafe { shmdt(place.cast()) }, 0);
    assert!(!is_there(own.0));
    assert_eq!(set("2").unwrap_err().raw_os_error(), Some(EINVAL));
    set("0").unwrap();
    assert!(is_there(Segment(childs(true)).0));
}
