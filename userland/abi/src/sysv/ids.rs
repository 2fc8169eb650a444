//! kernel.msg_next_id, sem_next_id and shm_next_id: the identifier of the next object, for who restores a checkpoint.

use libc::*;
use std::ptr::null_mut;

/// What makes an object and what removes it.
type Kind = (&'static str, fn() -> i32, fn(i32));

pub fn next_ids() {
    let kinds: [Kind; 3] = [
        (
            "msg",
            || unsafe { msgget(IPC_PRIVATE, 0o600) },
            |id| unsafe { assert_eq!(msgctl(id, IPC_RMID, null_mut()), 0) },
        ),
        ("sem", || unsafe { semget(IPC_PRIVATE, 1, 0o600) }, |id| unsafe { assert_eq!(semctl(id, 0, IPC_RMID), 0) }),
        (
            "shm",
            || unsafe { shmget(IPC_PRIVATE, 1, 0o600) },
            |id| unsafe { assert_eq!(shmctl(id, IPC_RMID, null_mut()), 0) },
        ),
    ];
    for (name, make, remove) in kinds {
        let path = format!("/proc/sys/kernel/{name}_next_id");
        let next = || std::fs::read_to_string(&path).unwrap();
        let set = |text: &str| std::fs::write(&path, text).map_err(|error| error.raw_os_error().unwrap());
        assert_eq!(next(), "-1\n");
        for bad in ["-1", "2147483648", "x"] {
            assert_eq!(set(bad), Err(EINVAL), "{name} {bad}");
        }
        let chosen = 77 << 15 | 1234;
        assert_eq!(set(&chosen.to_string()), Ok(()));
        assert_eq!(next(), format!("{chosen}\n"));
        let id = make();
        assert_eq!((id, next()), (chosen, "-1\n".to_owned()), "{name}: used once");
        // What is taken is passed over.
        let other = 78 << 15 | 1234;
        assert_eq!(set(&other.to_string()), Ok(()));
        let second = make();
        assert_eq!(second, other + 1, "{name}");
        let third = make();
        assert!(third >= 0 && third & 0x7fff < 1234, "{name}: the lowest index again");
        [id, second, third].into_iter().for_each(remove);
    }
}
