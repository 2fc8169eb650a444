//! System V shared memory.

mod parts;
mod rules;

use crate::harness::{Tests, child_dies_of, child_succeeds, errno, expect_errno};
use libc::*;
use std::ptr::{null, null_mut};

pub const TESTS: Tests = &[
    ("segment_is_shared", segment_is_shared),
    ("shmget_rules", shmget_rules),
    ("permissions", permissions),
    ("removal_waits_for_the_last_detach", removal),
    ("attach_counts_follow_fork_and_exit", attach_counts),
    ("shmat_addresses", shmat_addresses),
    ("shmat_errors", shmat_errors),
    ("readonly_attach", readonly_attach),
    ("stat_and_set", stat_and_set),
    ("info_commands", info_commands),
    ("shmdt_errors_and_parts", shmdt_parts),
    ("proc_sysvipc_shm", proc_table),
    ("shm_sizes", rules::sizes),
    ("shm_key_order", rules::key_order),
    ("shm_huge_pages", rules::huge_pages),
    ("shm_addresses", rules::addresses),
    ("shm_rights", rules::rights),
    ("shm_attachments", rules::attachments),
    ("shm_attachments_in_parts", parts::counted),
    ("shm_detach_takes_its_own_parts", parts::own_parts),
    ("shm_removed_but_attached", rules::removed_but_attached),
    ("shmctl_errors", rules::shmctl_errors),
    ("shm_lock_limits", rules::lock_limits),
    ("shm_limits", rules::limits),
    ("shm_removal_is_forced", rules::removal_is_forced),
];

const PAGE: usize = 4096;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const IPC_INFO: i32 = 3;

struct Segment(i32);

impl Segment {
    fn new(size: usize) -> Self {
        let id = unsafe { shmget(IPC_PRIVATE, size, IPC_CREAT | 0o600) };
        assert!(id >= 0, "shmget: errno {}", errno());
        Self(id)
    }
    fn attach(&self) -> *mut u8 {
        let at = unsafe { shmat(self.0, null(), 0) };
        assert!(at as isize != -1, "shmat: errno {}", errno());
        at.cast()
    }
    fn stat(&self) -> shmid_ds {
        unsafe {
            let mut ds: shmid_ds = std::mem::zeroed();
            assert_eq!(shmctl(self.0, IPC_STAT, &mut ds), 0);
            ds
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        unsafe { shmctl(self.0, IPC_RMID, null_mut()) };
    }
}

fn segment_is_shared() {
    unsafe {
        let segment = Segment::new(3 * PAGE + 5);
        let (a, b) = (segment.attach(), segment.attach());
        assert_ne!(a, b);
        assert!((0..3 * PAGE + 5).all(|i| *a.add(i) == 0));
        *a.add(2 * PAGE) = 9;
        assert_eq!(*b.add(2 * PAGE), 9);
        child_succeeds(|| {
            assert_eq!(*a.add(2 * PAGE), 9);
            *b.add(3 * PAGE) = 8;
        });
        assert_eq!(*a.add(3 * PAGE), 8);
        assert_eq!(shmdt(a.cast()), 0);
        assert_eq!(*b.add(3 * PAGE), 8);
        child_dies_of(SIGSEGV, || {
            std::ptr::read_volatile(a);
        });
    }
}

fn shmget_rules() {
    unsafe {
        let key = 0x5eed;
        expect_errno(shmget(key, PAGE, 0o600).into(), ENOENT);
        expect_errno(shmget(key, 0, IPC_CREAT | 0o600).into(), EINVAL);
        expect_errno(shmget(IPC_PRIVATE, usize::MAX, IPC_CREAT | 0o600).into(), EINVAL);
        let id = shmget(key, 2 * PAGE, IPC_CREAT | 0o600);
        assert!(id >= 0);
        let _segment = Segment(id);
        assert_eq!(shmget(key, 0, 0), id);
        assert_eq!(shmget(key, PAGE, IPC_CREAT), id);
        expect_errno(shmget(key, 3 * PAGE, 0).into(), EINVAL);
        expect_errno(shmget(key, PAGE, IPC_CREAT | IPC_EXCL | 0o600).into(), EEXIST);
        assert_eq!(shmctl(id, IPC_RMID, null_mut()), 0);
        expect_errno(shmctl(id, IPC_RMID, null_mut()).into(), EINVAL);
        expect_errno(shmget(key, 0, 0).into(), ENOENT);
    }
}

fn permissions() {
    unsafe {
        let key = 0x9e21;
        let id = shmget(key, PAGE, IPC_CREAT | 0o604);
        let segment = Segment(id);
        child_succeeds(|| {
            assert_eq!(setgid(1000), 0);
            assert_eq!(setgroups(0, null()), 0);
            assert_eq!(setuid(1000), 0);
            expect_errno(shmat(id, null(), 0) as i64, EACCES);
            assert!(shmat(id, null(), SHM_RDONLY) as isize != -1);
            expect_errno(shmget(key, 0, 0o600).into(), EACCES);
            assert_eq!(shmget(key, 0, 0o400), id);
            expect_errno(shmctl(id, IPC_RMID, null_mut()).into(), EPERM);
            let mut ds: shmid_ds = std::mem::zeroed();
            assert_eq!(shmctl(id, IPC_STAT, &mut ds), 0);
            expect_errno(shmctl(id, IPC_SET, &mut ds).into(), EPERM);
            expect_errno(shmctl(id, SHM_LOCK, null_mut()).into(), EPERM);
        });
        drop(segment);
    }
}

fn removal() {
    unsafe {
        let key = 0x77;
        let id = shmget(key, PAGE, IPC_CREAT | 0o600);
        let segment = Segment(id);
        let at = segment.attach();
        *at = 5;
        assert_eq!(shmctl(id, IPC_RMID, null_mut()), 0);
        expect_errno(shmget(key, 0, 0).into(), ENOENT);
        let ds = segment.stat();
        assert_eq!((ds.shm_nattch, ds.shm_perm.__key, ds.shm_perm.mode & 0o1000), (1, 0, 0o1000));
        // Still there by identifier.
        let second = segment.attach();
        assert_eq!(*second, 5);
        assert_eq!(shmdt(at.cast()), 0);
        assert_eq!(segment.stat().shm_nattch, 1);
        assert_eq!(shmdt(second.cast()), 0);
        expect_errno(shmat(id, null(), 0) as i64, EINVAL);
    }
}

fn attach_counts() {
    unsafe {
        let segment = Segment::new(PAGE);
        assert_eq!(segment.stat().shm_nattch, 0);
        let at = segment.attach();
        assert_eq!(segment.stat().shm_nattch, 1);
        assert_eq!(segment.stat().shm_lpid, getpid());
        child_succeeds(|| {
            assert_eq!(segment.stat().shm_nattch, 2);
            assert_eq!(shmdt(at.cast()), 0);
            assert_eq!(segment.stat().shm_nattch, 1);
            segment.attach();
            segment.attach();
            assert_eq!(segment.stat().shm_nattch, 3);
            std::mem::forget(Segment(segment.0));
        });
        assert_eq!(segment.stat().shm_nattch, 1, "exit detaches");
        assert_eq!(shmdt(at.cast()), 0);
        let ds = segment.stat();
        assert_eq!(ds.shm_nattch, 0);
        assert_eq!(ds.shm_cpid, getpid());
        assert!(ds.shm_atime > 0 && ds.shm_dtime >= ds.shm_atime && ds.shm_ctime > 0);
    }
}

fn shmat_addresses() {
    unsafe {
        let segment = Segment::new(2 * PAGE);
        let hole = segment.attach();
        assert_eq!(shmdt(hole.cast()), 0);
        assert_eq!(shmat(segment.0, hole.cast(), 0), hole.cast());
        assert_eq!(shmdt(hole.cast()), 0);
        expect_errno(shmat(segment.0, hole.add(10).cast(), 0) as i64, EINVAL);
        assert_eq!(shmat(segment.0, hole.add(10).cast(), SHM_RND), hole.cast());
        *hole = 3;
        expect_errno(shmat(segment.0, hole.cast(), 0) as i64, EINVAL);
        let other = Segment::new(2 * PAGE);
        assert_eq!(shmat(other.0, hole.cast(), SHM_REMAP), hole.cast());
        assert_eq!(*hole, 0);
        assert_eq!(segment.stat().shm_nattch, 0);
    }
}

fn shmat_errors() {
    unsafe {
        expect_errno(shmat(-1, null(), 0) as i64, EINVAL);
        expect_errno(shmat(0x7fff_0000, null(), 0) as i64, EINVAL);
        let segment = Segment::new(PAGE);
        expect_errno(shmat(segment.0, null(), SHM_REMAP) as i64, EINVAL);
        expect_errno(shmat(segment.0, usize::MAX as *const _, SHM_RND) as i64, EINVAL);
        expect_errno(shmctl(segment.0, 99, null_mut()).into(), EINVAL);
        expect_errno(shmctl(-1, IPC_STAT, null_mut()).into(), EINVAL);
        expect_errno(shmctl(segment.0, IPC_STAT, 1 as *mut _).into(), EFAULT);
        expect_errno(shmctl(segment.0, IPC_SET, 1 as *mut _).into(), EFAULT);
    }
}

fn readonly_attach() {
    unsafe {
        let segment = Segment::new(PAGE);
        let writable = segment.attach();
        let at: *mut u8 = shmat(segment.0, null(), SHM_RDONLY).cast();
        *writable = 4;
        assert_eq!(*at, 4);
        child_dies_of(SIGSEGV, || *at = 1);
        expect_errno(mprotect(at.cast(), PAGE, PROT_READ | PROT_WRITE).into(), EACCES);
    }
}

fn stat_and_set() {
    unsafe {
        let segment = Segment::new(5000);
        let mut ds = segment.stat();
        assert_eq!((ds.shm_segsz, ds.shm_perm.mode & 0o777), (5000, 0o600));
        assert_eq!((ds.shm_perm.uid, ds.shm_perm.cuid), (geteuid(), geteuid()));
        ds.shm_perm.uid = 1000;
        ds.shm_perm.gid = 2000;
        ds.shm_perm.mode = 0o7644;
        assert_eq!(shmctl(segment.0, IPC_SET, &mut ds), 0);
        let ds = segment.stat();
        assert_eq!((ds.shm_perm.uid, ds.shm_perm.gid, ds.shm_perm.mode), (1000, 2000, 0o644));
        assert_eq!(shmctl(segment.0, SHM_LOCK, null_mut()), 0);
        assert_eq!(segment.stat().shm_perm.mode & 0o2000, 0o2000);
        assert_eq!(shmctl(segment.0, SHM_UNLOCK, null_mut()), 0);
        assert_eq!(segment.stat().shm_perm.mode & 0o2000, 0);
    }
}

fn info_commands() {
    unsafe {
        let segment = Segment::new(PAGE);
        let mut info = [0u64; 9];
        let highest = shmctl(0, IPC_INFO, info.as_mut_ptr().cast());
        assert!(highest >= 0);
        assert_eq!((info[1], info[2]), (1, 4096));
        let mut usage = [0u64; 6];
        assert!(shmctl(0, SHM_INFO, usage.as_mut_ptr().cast()) >= 0);
        assert!(usage[0] as u32 >= 1 && usage[1] >= 1);
        let found = (0..=highest).any(|index| {
            let mut ds: shmid_ds = std::mem::zeroed();
            shmctl(index, SHM_STAT, &mut ds) == segment.0
        });
        assert!(found);
    }
}

fn shmdt_parts() {
    unsafe {
        expect_errno(shmdt(null()).into(), EINVAL);
        let segment = Segment::new(4 * PAGE);
        let at = segment.attach();
        expect_errno(shmdt(at.add(PAGE).cast()).into(), EINVAL);
        expect_errno(shmdt(at.add(1).cast()).into(), EINVAL);
        // A hole in the middle, different rights: one detach takes all that is left.
        assert_eq!(munmap(at.add(PAGE).cast(), PAGE), 0);
        assert_eq!(mprotect(at.add(3 * PAGE).cast(), PAGE, PROT_READ), 0);
        assert_eq!(shmdt(at.cast()), 0);
        for page in 0..4 {
            child_dies_of(SIGSEGV, || {
                std::ptr::read_volatile(at.add(page * PAGE));
            });
        }
        assert_eq!(segment.stat().shm_nattch, 0);
    }
}

fn proc_table() {
    let segment = Segment::new(12345);
    let table = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
    let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(&header[..4], ["key", "shmid", "perms", "size"]);
    let row = table.lines().find(|line| line.split_whitespace().nth(1) == Some(&segment.0.to_string())).unwrap();
    let fields: Vec<&str> = row.split_whitespace().collect();
    assert_eq!((fields[2], fields[3], fields[6]), ("600", "12345", "0"));
    assert_eq!(fields.len(), header.len());
}
