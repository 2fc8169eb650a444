//! msgget(2), msgop(2), msgctl(2), flag by flag and errno by errno.

use super::{child_succeeds, expect_errno, new_queue, others_asleep, receive, remove_queue, send};
use libc::*;
use std::ptr::null_mut;

const EXCEPT: i32 = 0o20000;
const COPY: i32 = 0o40000;
const MSG_STAT: i32 = 11;
const MSG_INFO: i32 = 12;
const MSG_STAT_ANY: i32 = 13;

fn status(id: i32) -> msqid_ds {
    unsafe {
        let mut state: msqid_ds = std::mem::zeroed();
        assert_eq!(msgctl(id, IPC_STAT, &mut state), 0);
        state
    }
}

fn set_bytes(id: i32, bytes: u64) -> i64 {
    let mut state = status(id);
    state.msg_qbytes = bytes;
    i64::from(unsafe { msgctl(id, IPC_SET, &mut state) })
}

fn unprivileged() {
    unsafe {
        assert_eq!(setgroups(0, std::ptr::null()), 0);
        assert_eq!(setresgid(1000, 1000, 1000), 0);
        assert_eq!(setresuid(1000, 1000, 1000), 0);
    }
}

pub fn msgget_rules() {
    unsafe {
        let key = 0x6d5;
        expect_errno(msgget(key, 0).into(), ENOENT);
        let id = msgget(key, IPC_CREAT | IPC_EXCL | 0o640);
        assert!(id >= 0);
        assert_eq!((msgget(key, 0), msgget(key, IPC_CREAT), msgget(key, IPC_EXCL)), (id, id, id));
        expect_errno(msgget(key, IPC_CREAT | IPC_EXCL).into(), EEXIST);
        let fresh = status(id);
        assert_eq!((fresh.msg_perm.__key, fresh.msg_perm.mode & 0o777), (key, 0o640));
        assert_eq!((fresh.msg_stime, fresh.msg_rtime, fresh.msg_lspid, fresh.msg_lrpid), (0, 0, 0, 0));
        assert!(fresh.msg_ctime > 0);
        child_succeeds(|| {
            unprivileged();
            assert_eq!(msgget(key, 0), id);
            expect_errno(msgget(key, 0o400).into(), EACCES);
            // That it exists is said before that it is not for all.
            expect_errno(msgget(key, IPC_CREAT | IPC_EXCL | 0o666).into(), EEXIST);
        });
        remove_queue(id);
        expect_errno(msgget(key, 0o600).into(), ENOENT);
        let (a, b) = (new_queue(), new_queue());
        assert_ne!(a, b);
        remove_queue(a);
        expect_errno(send(a, 1, b"x", 0), EINVAL);
        let again = new_queue();
        assert_ne!(again, a, "a stale identifier finds nobody");
        remove_queue(again);
        remove_queue(b);
    }
}

pub fn msgsnd_errors() {
    let id = new_queue();
    unsafe {
        let bad = |id: i32, at: usize, size: usize, flags: i32| syscall(SYS_msgsnd, id, at, size, flags);
        let text = [1u64, 2];
        let at = text.as_ptr() as usize;
        // The type is read before anything is looked at.
        expect_errno(bad(-1, 8, usize::MAX, 0), EFAULT);
        expect_errno(bad(id, at, usize::MAX, 0), EINVAL);
        expect_errno(bad(id, at, 8193, 0), EINVAL);
        expect_errno(bad(-1, at, 8, 0), EINVAL);
        let zero = [0u64, 2];
        expect_errno(bad(id, zero.as_ptr() as usize, 8, 0), EINVAL);
        let negative = [-5i64, 2];
        expect_errno(bad(id, negative.as_ptr() as usize, 8, 0), EINVAL);
        // A text that ends outside: the identifier is not even looked up.
        let page = mmap(null_mut(), 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0).cast::<u8>();
        munmap(page.add(4096).cast(), 4096);
        let end = page.add(4096 - 16).cast::<i64>();
        *end = 1;
        expect_errno(bad(12345, end as usize, 9, 0), EFAULT);
        expect_errno(bad(12345, end as usize, 8, 0), EINVAL);
        assert_eq!(bad(id, end as usize, 8, 0), 0);
        assert_eq!(status(id).msg_qnum, 1);
        child_succeeds(|| {
            unprivileged();
            expect_errno(bad(id, at, 8, IPC_NOWAIT), EACCES);
            expect_errno(syscall(SYS_msgrcv, id, at, 8usize, 0, IPC_NOWAIT), EACCES);
            expect_errno(msgctl(id, IPC_STAT, &mut std::mem::zeroed()).into(), EACCES);
            let mut state: msqid_ds = std::mem::zeroed();
            expect_errno(msgctl(id, IPC_SET, &mut state).into(), EPERM);
            expect_errno(msgctl(id, IPC_RMID, null_mut()).into(), EPERM);
        });
    }
    remove_queue(id);
}

pub fn msgrcv_errors() {
    let id = new_queue();
    unsafe {
        let mut text = [0u64; 8];
        let at = text.as_mut_ptr() as usize;
        let call =
            |id: i32, at: usize, size: usize, kind: i64, flags: i32| syscall(SYS_msgrcv, id, at, size, kind, flags);
        expect_errno(call(-1, at, 8, 0, 0), EINVAL);
        expect_errno(call(id, at, usize::MAX, 0, IPC_NOWAIT), EINVAL);
        expect_errno(call(12345, 8, 8, 0, IPC_NOWAIT), EINVAL);
        expect_errno(call(id, 8, 8, 0, IPC_NOWAIT), ENOMSG);
        // COPY goes with NOWAIT only, and not with EXCEPT.
        expect_errno(call(id, at, 8, 0, COPY), EINVAL);
        expect_errno(call(id, at, 8, 0, COPY | EXCEPT | IPC_NOWAIT), EINVAL);
        assert_eq!(send(id, 3, b"longer", 0), 0);
        expect_errno(call(id, at, 5, 0, 0), E2BIG);
        expect_errno(call(id, at, 5, -9, IPC_NOWAIT), E2BIG);
        expect_errno(call(id, at, 5, 4, IPC_NOWAIT), ENOMSG);
        expect_errno(call(id, at, 5, 3, EXCEPT | IPC_NOWAIT), ENOMSG);
        assert_eq!(status(id).msg_qnum, 1);
        // A bad address costs the message, as on Linux.
        expect_errno(call(id, 8, 8, 0, 0), EFAULT);
        assert_eq!(status(id).msg_qnum, 0);
    }
    remove_queue(id);
}

/// MSG_COPY: by place, whatever the type; the message stays. (A kernel may be built without: ENOSYS.)
pub fn msg_copy() {
    let id = new_queue();
    for (kind, text) in [(7, &b"one"[..]), (3, b"second"), (7, b"3")] {
        assert_eq!(send(id, kind, text, 0), 0);
    }
    let before = status(id);
    let copy = |place, size, more| receive(id, place, size, COPY | IPC_NOWAIT | more);
    assert_eq!(copy(0, 64, 0), Ok((7, b"one".to_vec())));
    assert_eq!(copy(1, 6, 0), Ok((3, b"second".to_vec())));
    assert_eq!(copy(2, 64, MSG_NOERROR), Ok((7, b"3".to_vec())));
    expect_errno(copy(3, 64, 0).unwrap_err(), ENOMSG);
    expect_errno(copy(-1, 64, 0).unwrap_err(), ENOMSG);
    expect_errno(copy(1, 5, 0).unwrap_err(), E2BIG);
    expect_errno(copy(1, 5, MSG_NOERROR).unwrap_err(), EINVAL);
    let after = status(id);
    assert_eq!((after.msg_qnum, after.__msg_cbytes, after.msg_lrpid), (3, 10, before.msg_lrpid));
    remove_queue(id);
}

/// A message that fits is sent though a longer one waits; what fits is completed when room is made, whatever stands before it.
pub fn short_messages_pass() {
    let id = new_queue();
    assert_eq!(set_bytes(id, 40), 0);
    assert_eq!(send(id, 1, &[1; 30], 0), 0);
    let long = std::thread::spawn(move || assert_eq!(send(id, 2, &[2; 20], 0), 0));
    others_asleep();
    assert_eq!(send(id, 3, &[3; 5], IPC_NOWAIT), 0);
    expect_errno(send(id, 3, &[3; 6], IPC_NOWAIT), EAGAIN);
    let short = std::thread::spawn(move || assert_eq!(send(id, 4, &[4; 10], 0), 0));
    others_asleep();
    assert_eq!(receive(id, 3, 64, 0), Ok((3, vec![3; 5])));
    short.join().unwrap();
    assert_eq!(receive(id, 1, 64, 0), Ok((1, vec![1; 30])));
    long.join().unwrap();
    assert_eq!(receive(id, 0, 64, 0), Ok((4, vec![4; 10])));
    assert_eq!(receive(id, 0, 64, 0), Ok((2, vec![2; 20])));
    remove_queue(id);
}

/// A receiver that waits with too little room hears E2BIG; the message goes to the next, or stays.
pub fn too_big_for_who_waits() {
    let id = new_queue();
    let small = std::thread::spawn(move || expect_errno(receive(id, 0, 3, 0).unwrap_err(), E2BIG));
    others_asleep();
    assert_eq!(send(id, 1, b"four", 0), 0);
    small.join().unwrap();
    assert_eq!(status(id).msg_qnum, 1);
    assert_eq!(receive(id, 0, 64, 0), Ok((1, b"four".to_vec())));
    let cut = std::thread::spawn(move || assert_eq!(receive(id, 0, 3, MSG_NOERROR), Ok((1, b"fou".to_vec()))));
    others_asleep();
    assert_eq!(send(id, 1, b"four", 0), 0);
    cut.join().unwrap();
    remove_queue(id);
}

/// A change of the queue's rights reaches those who wait in it.
pub fn rights_change_under_a_receiver() {
    let id = unsafe { msgget(IPC_PRIVATE, 0o666) };
    let child = unsafe {
        let pid = fork();
        if pid == 0 {
            unprivileged();
            let failed = receive(id, 0, 8, 0) == Err(-1);
            _exit(if failed && crate::harness::errno() == EACCES { 0 } else { 1 });
        }
        pid
    };
    crate::harness::until_asleep(child);
    let mut state = status(id);
    state.msg_perm.mode = 0o600;
    let mut ended = 0;
    unsafe {
        assert_eq!(msgctl(id, IPC_SET, &mut state), 0);
        assert_eq!(waitpid(child, &mut ended, 0), child);
    }
    assert_eq!(ended, 0);
    remove_queue(id);
}

pub fn msgctl_set_and_limits() {
    let id = new_queue();
    unsafe {
        let mut state = status(id);
        assert_eq!(state.msg_qbytes, 16384);
        state.msg_perm.uid = 1000;
        state.msg_perm.mode = 0o7644;
        state.msg_qbytes = 100_000;
        assert_eq!(msgctl(id, IPC_SET, &mut state), 0);
        let state = status(id);
        assert_eq!((state.msg_perm.uid, state.msg_perm.cuid, state.msg_perm.mode), (1000, 0, 0o644));
        assert_eq!(state.msg_qbytes, 100_000);
        child_succeeds(|| {
            unprivileged();
            expect_errno(set_bytes(id, 16385), EPERM);
            assert_eq!(set_bytes(id, 16384), 0);
            assert_eq!(set_bytes(id, 1), 0);
        });
        let mut bad = status(id);
        bad.msg_perm.gid = u32::MAX;
        expect_errno(msgctl(id, IPC_SET, &mut bad).into(), EINVAL);
        // One byte of queue: one message, even without a text.
        assert_eq!(send(id, 1, b"", IPC_NOWAIT), 0);
        expect_errno(send(id, 1, b"", IPC_NOWAIT), EAGAIN);
        assert_eq!(set_bytes(id, 0), 0);
        assert_eq!(receive(id, 0, 1, 0), Ok((1, vec![])));
        expect_errno(send(id, 1, b"", IPC_NOWAIT), EAGAIN);
        expect_errno(msgctl(id, -1, null_mut()).into(), EINVAL);
        expect_errno(msgctl(-1, IPC_INFO, null_mut()).into(), EINVAL);
        expect_errno(syscall(SYS_msgctl, id, IPC_SET, 8usize), EFAULT);
        expect_errno(syscall(SYS_msgctl, 12345, IPC_SET, 8usize), EFAULT);
    }
    remove_queue(id);
}

pub fn msgctl_info() {
    let id = new_queue();
    assert_eq!(send(id, 1, b"12345", 0), 0);
    unsafe {
        let mut info = [0i32; 8];
        let highest = syscall(SYS_msgctl, 0, IPC_INFO, info.as_mut_ptr());
        assert!(highest >= 0);
        assert_eq!((info[2], info[3], info[4], info[5]), (8192, 16384, 32000, 16));
        let mut usage = [0i32; 8];
        assert_eq!(syscall(SYS_msgctl, 0, MSG_INFO, usage.as_mut_ptr()), highest);
        assert!(usage[0] >= 1 && usage[1] >= 1 && usage[6] >= 5, "{usage:?}");
        for command in [MSG_STAT, MSG_STAT_ANY] {
            let mut state: msqid_ds = std::mem::zeroed();
            let found = (0..=highest as i32).find(|index| msgctl(*index, command, &mut state) == id);
            assert!(found.is_some());
            assert_eq!((state.msg_qnum, state.__msg_cbytes), (1, 5));
            expect_errno(msgctl(30_000, command, &mut state).into(), EINVAL);
        }
        let index = id & 0x7fff;
        child_succeeds(|| {
            unprivileged();
            let mut state: msqid_ds = std::mem::zeroed();
            expect_errno(msgctl(index, MSG_STAT, &mut state).into(), EACCES);
            assert_eq!(msgctl(index, MSG_STAT_ANY, &mut state), id);
        });
    }
    let text = std::fs::read_to_string("/proc/sysvipc/msg").unwrap();
    let row = text.lines().find(|line| line.split_whitespace().nth(1) == Some(&id.to_string())).unwrap();
    let fields: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(fields[2..6], ["600", "5", "1", &std::process::id().to_string()]);
    remove_queue(id);
}

/// Who did it last and when, by hand-over too.
pub fn msg_times_and_pids() {
    let id = new_queue();
    let own = std::process::id() as i32;
    assert_eq!(send(id, 1, b"x", 0), 0);
    let state = status(id);
    assert_eq!((state.msg_lspid, state.msg_lrpid), (own, 0));
    assert!(state.msg_stime > 0 && state.msg_rtime == 0);
    child_succeeds(|| assert!(receive(id, 0, 8, 0).is_ok()));
    let state = status(id);
    assert!(state.msg_lspid == own && state.msg_lrpid != own && state.msg_rtime > 0);
    let receiver = unsafe { fork() };
    if receiver == 0 {
        unsafe { _exit(i32::from(receive(id, 0, 8, 0).is_err())) };
    }
    crate::harness::until_asleep(receiver);
    assert_eq!(send(id, 1, b"x", 0), 0);
    assert_eq!(unsafe { waitpid(receiver, null_mut(), 0) }, receiver);
    let state = status(id);
    assert_eq!((state.msg_lspid, state.msg_lrpid), (own, receiver));
    remove_queue(id);
}

pub fn msg_limits_in_proc() {
    let set = |name: &str, value: &str| std::fs::write(format!("/proc/sys/kernel/{name}"), value).unwrap();
    let get = |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap().trim().to_string();
    let (max, mni) = (get("msgmax"), get("msgmni"));
    let id = new_queue();
    set("msgmax", "16");
    assert_eq!(send(id, 1, &[0; 16], 0), 0);
    expect_errno(send(id, 1, &[0; 17], 0), EINVAL);
    set("msgmax", &max);
    let text = std::fs::read_to_string("/proc/sysvipc/msg").unwrap();
    set("msgmni", &(text.lines().count() - 1).to_string());
    let result = unsafe { msgget(IPC_PRIVATE, 0o600) };
    let found = crate::harness::errno();
    set("msgmni", &mni);
    assert_eq!((result, found), (-1, ENOSPC));
    remove_queue(id);
}
