//! /proc/sys: the settings that exist, writable where writing has an effect.

use super::Fixed;
use crate::file::inotify;
use crate::file::{epoll, pipe};
use crate::ipc::{mq, msg, sem, shm};
use crate::log;
use crate::mm::aslr;
use crate::net::unix;
use crate::prelude::*;
use crate::task::credentials::cap;
use crate::task::uts;
use crate::vfs::protected;
use core::sync::atomic::{AtomicUsize, Ordering};

pub const SYS: &[(&str, Fixed)] = &[
    ("fs", Fixed::Directory(FS)),
    ("kernel", Fixed::Directory(KERNEL)),
    ("net", Fixed::Directory(NET)),
    ("vm", Fixed::Directory(VM)),
];

fn show(value: &AtomicUsize) -> String {
    line(value.load(Ordering::Relaxed))
}

/// A number between two bounds: EINVAL.
fn set(value: &AtomicUsize, text: &str, least: usize, most: usize) -> Result<(), Errno> {
    let number: usize = text.parse().map_err(|_| Errno::EINVAL)?;
    if !(least..=most).contains(&number) {
        return Err(Errno::EINVAL);
    }
    value.store(number, Ordering::Relaxed);
    Ok(())
}

/// kernel.kptr_restrict. Kernel addresses are shown nowhere, whatever it says.
static KPTR_RESTRICT: AtomicUsize = AtomicUsize::new(0);

/// A setting that only CAP_SYS_ADMIN changes, by whomever the file was opened: EPERM, EINVAL.
fn set_by_admin(value: &AtomicUsize, text: &str, most: usize) -> Result<(), Errno> {
    if !current().credentials.with(|own| own.has_cap(cap::SYS_ADMIN)) {
        return Err(Errno::EPERM);
    }
    set(value, text, 0, most)
}

fn line(value: impl core::fmt::Display) -> String {
    alloc::format!("{value}\n")
}

const KERNEL: &[(&str, Fixed)] = &[
    ("cap_last_cap", Fixed::Text(|| line(crate::task::credentials::cap::LAST))),
    ("core_pattern", Fixed::Text(|| line("core"))),
    (
        "dmesg_restrict",
        Fixed::Setting(|| show(&log::DMESG_RESTRICT), |text| set_by_admin(&log::DMESG_RESTRICT, text, 1)),
    ),
    ("domainname", Fixed::Text(|| line("(none)"))),
    ("hostname", Fixed::Setting(|| line(String::from_utf8_lossy(&uts::host_name())), set_host_name)),
    ("kptr_restrict", Fixed::Setting(|| show(&KPTR_RESTRICT), |text| set_by_admin(&KPTR_RESTRICT, text, 2))),
    ("msgmax", Fixed::Setting(|| show(&msg::MSGMAX), |text| set(&msg::MSGMAX, text, 0, i32::MAX as usize))),
    ("msgmnb", Fixed::Setting(|| show(&msg::MSGMNB), |text| set(&msg::MSGMNB, text, 0, i32::MAX as usize))),
    ("msg_next_id", Fixed::Setting(|| line(msg::next_id()), msg::set_next_id)),
    ("msgmni", Fixed::Setting(|| show(&msg::MSGMNI), |text| set(&msg::MSGMNI, text, 0, 32_768))),
    ("ngroups_max", Fixed::Text(|| line(65536))),
    ("osrelease", Fixed::Text(|| line(uts::RELEASE))),
    ("ostype", Fixed::Text(|| line("Linux"))),
    ("overflowgid", Fixed::Text(|| line(65534))),
    ("overflowuid", Fixed::Text(|| line(65534))),
    ("panic", Fixed::Text(|| line(0))),
    ("pid_max", Fixed::Text(|| line(32768))),
    ("printk", Fixed::Text(|| line("7\t4\t1\t7"))),
    (
        "pty",
        Fixed::Directory(&[
            ("max", Fixed::Text(|| line(4096))),
            ("nr", Fixed::Text(|| line(crate::file::tty::pty_list().len()))),
        ]),
    ),
    (
        "random",
        Fixed::Directory(&[
            ("boot_id", Fixed::Text(boot_id)),
            ("entropy_avail", Fixed::Text(|| line(256))),
            ("poolsize", Fixed::Text(|| line(256))),
            ("uuid", Fixed::Text(|| line(uuid()))),
        ]),
    ),
    (
        "randomize_va_space",
        Fixed::Setting(|| show(&aslr::RANDOMIZE), |text| set(&aslr::RANDOMIZE, text, 0, i32::MAX as usize)),
    ),
    ("sched_rr_timeslice_ms", Fixed::Text(|| line(100))),
    ("sem", Fixed::Setting(sem::limits_line, sem::set_limits)),
    ("sem_next_id", Fixed::Setting(|| line(sem::next_id()), sem::set_next_id)),
    ("shm_next_id", Fixed::Setting(|| line(shm::next_id()), shm::set_next_id)),
    ("shm_rmid_forced", Fixed::Setting(|| line(u8::from(shm::is_rmid_forced())), shm::set_rmid_forced)),
    ("shmall", Fixed::Setting(|| line(shm::SHMALL.load(Ordering::Relaxed)), |text| shm::set_limit(&shm::SHMALL, text))),
    ("shmmax", Fixed::Setting(|| line(shm::SHMMAX.load(Ordering::Relaxed)), |text| shm::set_limit(&shm::SHMMAX, text))),
    ("shmmni", Fixed::Setting(|| line(shm::SHMMNI.load(Ordering::Relaxed)), |text| shm::set_limit(&shm::SHMMNI, text))),
    ("tainted", Fixed::Text(|| line(0))),
    (
        "threads-max",
        Fixed::Text(|| line(crate::task::process::initial_limits()[crate::task::process::rlimit::NPROC].max)),
    ),
    ("version", Fixed::Text(|| line(concat!("#1 SMP Crannog ", env!("CARGO_PKG_VERSION"))))),
];

const NET: &[(&str, Fixed)] = &[
    ("core", Fixed::Directory(&[("somaxconn", Fixed::Text(|| line(4096)))])),
    (
        "unix",
        Fixed::Directory(&[(
            "max_dgram_qlen",
            Fixed::Setting(|| show(&unix::MAX_DATAGRAMS), |text| set(&unix::MAX_DATAGRAMS, text, 0, i32::MAX as usize)),
        )]),
    ),
];

const FS: &[(&str, Fixed)] = &[
    (
        "epoll",
        Fixed::Directory(&[(
            "max_user_watches",
            Fixed::Setting(|| line(epoll::max_watches()), epoll::set_max_watches),
        )]),
    ),
    ("file-max", Fixed::Text(|| line(i64::MAX))),
    (
        "inotify",
        Fixed::Directory(&[
            (
                "max_queued_events",
                Fixed::Setting(
                    || show(&inotify::MAX_QUEUED),
                    |text| set(&inotify::MAX_QUEUED, text, 0, i32::MAX as usize),
                ),
            ),
            (
                "max_user_instances",
                Fixed::Setting(
                    || show(&inotify::MAX_INSTANCES),
                    |text| set(&inotify::MAX_INSTANCES, text, 0, i32::MAX as usize),
                ),
            ),
            (
                "max_user_watches",
                Fixed::Setting(
                    || show(&inotify::MAX_WATCHES),
                    |text| set(&inotify::MAX_WATCHES, text, 0, i32::MAX as usize),
                ),
            ),
        ]),
    ),
    (
        "mqueue",
        Fixed::Directory(&[
            ("msg_default", Fixed::Setting(|| show(&mq::MSG_DEFAULT), |text| set(&mq::MSG_DEFAULT, text, 1, 65_536))),
            ("msg_max", Fixed::Setting(|| show(&mq::MSG_MAX), |text| set(&mq::MSG_MAX, text, 1, 65_536))),
            (
                "msgsize_default",
                Fixed::Setting(|| show(&mq::MSGSIZE_DEFAULT), |text| set(&mq::MSGSIZE_DEFAULT, text, 128, 16 << 20)),
            ),
            (
                "msgsize_max",
                Fixed::Setting(|| show(&mq::MSGSIZE_MAX), |text| set(&mq::MSGSIZE_MAX, text, 128, 16 << 20)),
            ),
            ("queues_max", Fixed::Setting(|| show(&mq::QUEUES_MAX), |text| set(&mq::QUEUES_MAX, text, 0, 1 << 30))),
        ]),
    ),
    ("nr_open", Fixed::Text(|| line(crate::vfs::table::NR_OPEN))),
    ("pipe-max-size", Fixed::Setting(|| line(pipe::MAX_SIZE.load(Ordering::Relaxed)), set_pipe_size)),
    (
        "pipe-user-pages-hard",
        Fixed::Setting(|| show(&pipe::USER_PAGES_HARD), |text| set(&pipe::USER_PAGES_HARD, text, 0, usize::MAX)),
    ),
    (
        "pipe-user-pages-soft",
        Fixed::Setting(|| show(&pipe::USER_PAGES_SOFT), |text| set(&pipe::USER_PAGES_SOFT, text, 0, usize::MAX)),
    ),
    ("protected_fifos", Fixed::Secret(|| show(&protected::FIFOS), |text| set(&protected::FIFOS, text, 0, 2))),
    (
        "protected_hardlinks",
        Fixed::Secret(|| show(&protected::HARDLINKS), |text| set(&protected::HARDLINKS, text, 0, 1)),
    ),
    ("protected_regular", Fixed::Secret(|| show(&protected::REGULAR), |text| set(&protected::REGULAR, text, 0, 2))),
    ("protected_symlinks", Fixed::Secret(|| show(&protected::SYMLINKS), |text| set(&protected::SYMLINKS, text, 0, 1))),
    ("suid_dumpable", Fixed::Text(|| line(0))),
];

const VM: &[(&str, Fixed)] = &[
    ("max_map_count", Fixed::Text(|| line(65530))),
    ("mmap_min_addr", Fixed::Text(|| line(65536))),
    ("overcommit_memory", Fixed::Text(|| line(0))),
    ("overcommit_ratio", Fixed::Text(|| line(50))),
    ("panic_on_oom", Fixed::Text(|| line(0))),
    ("swappiness", Fixed::Text(|| line(60))),
];

fn uuid() -> String {
    let mut bytes = [0u8; 16];
    crate::random::fill(&mut bytes);
    let value = u128::from_be_bytes(bytes) & !(0xf << 76) | 4 << 76;
    let value = value & !(0x3 << 62) | 2 << 62;
    let hex = alloc::format!("{value:032x}");
    alloc::format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn boot_id() -> String {
    static ID: spin::Once<String> = spin::Once::new();
    line(ID.call_once(uuid))
}

fn set_host_name(name: &str) -> Result<(), Errno> {
    if name.len() > 64 {
        return Err(Errno::EINVAL);
    }
    uts::set_host_name(name.as_bytes().to_vec());
    Ok(())
}

fn set_pipe_size(text: &str) -> Result<(), Errno> {
    let bytes: usize = text.parse().map_err(|_| Errno::EINVAL)?;
    if !(PAGE_SIZE..=1 << 31).contains(&bytes) {
        return Err(Errno::EINVAL);
    }
    pipe::MAX_SIZE.store(bytes.next_power_of_two(), Ordering::Relaxed);
    Ok(())
}
