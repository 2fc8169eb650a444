//! Descriptors, directories, locks and watches.

use super::{Entry, mean, moved};
use crate::{check, now_ns};
use std::ffi::{CStr, CString};
use std::io;

pub const ITEMS: &[Entry] = &[
    ("fork_fds", fork_fds, 10_000),
    ("open_among_fds", open_among_fds, 30_000),
    ("epoll_add_among", epoll_add_among, 30_000),
    ("epoll_wait_among", epoll_wait_among, 30_000),
    ("file_among_files", file_among_files, 30_000),
    ("stat_among_files", stat_among_files, 30_000),
    ("readdir_each", readdir_each, 30_000),
    ("path_depth", path_depth, 1000),
    ("sparse_file_page", sparse_file_page, 10_000),
    ("locks_among", locks_among, 10_000),
    ("inotify_among", inotify_among, 3000),
];

const FOLDER: &str = "/tmp/growth";

/// As many descriptors as items need.
pub fn raise_limit() {
    for most in [1 << 18, 1 << 16] {
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } == 0 {
            break;
        }
    }
}

/// Removes what items leave behind.
pub fn clean_up() {
    let _ = std::fs::remove_dir_all(FOLDER);
}

fn path(name: &str) -> io::Result<CString> {
    CString::new(format!("{FOLDER}/{name}")).map_err(io::Error::other)
}

fn make_folder() -> io::Result<()> {
    std::fs::create_dir_all(FOLDER)
}

fn open(path: &CStr, flags: i32) -> io::Result<i32> {
    check(unsafe { libc::open(path.as_ptr(), flags, 0o600) })
}

fn close(fd: i32) -> io::Result<()> {
    check(unsafe { libc::close(fd) }).map(drop)
}

fn make_descriptors(count: usize) -> io::Result<()> {
    (0..count).try_for_each(|_| check(unsafe { libc::dup(0) }).map(drop))
}

fn make_files(count: usize) -> io::Result<()> {
    make_folder()?;
    (0..count).try_for_each(|number| close(open(&path(&format!("f{number}"))?, libc::O_CREAT | libc::O_WRONLY)?))
}

fn fork_fds(count: usize) -> io::Result<u64> {
    make_descriptors(count)?;
    mean(|_| super::tasks::fork_and_wait())
}

fn open_among_fds(count: usize) -> io::Result<u64> {
    make_descriptors(count)?;
    mean(|_| close(open(c"/dev/null", libc::O_RDONLY)?))
}

fn watch(epoll: i32, operation: i32, fd: i32) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    check(unsafe { libc::epoll_ctl(epoll, operation, fd, &mut event) }).map(drop)
}

fn eventfd(value: u32) -> io::Result<i32> {
    check(unsafe { libc::eventfd(value, 0) })
}

fn epoll_add_among(count: usize) -> io::Result<u64> {
    let epoll = check(unsafe { libc::epoll_create1(0) })?;
    (0..count).try_for_each(|_| watch(epoll, libc::EPOLL_CTL_ADD, eventfd(0)?))?;
    let other = eventfd(1)?;
    mean(|_| {
        watch(epoll, libc::EPOLL_CTL_ADD, other)?;
        watch(epoll, libc::EPOLL_CTL_DEL, other)
    })
}

fn epoll_wait_among(count: usize) -> io::Result<u64> {
    let epoll = check(unsafe { libc::epoll_create1(0) })?;
    (0..count).try_for_each(|number| watch(epoll, libc::EPOLL_CTL_ADD, eventfd(u32::from(number == count / 2))?))?;
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    mean(|_| check(unsafe { libc::epoll_wait(epoll, &mut event, 1, 0) }).map(drop))
}

fn file_among_files(count: usize) -> io::Result<u64> {
    make_files(count)?;
    let new = path("new")?;
    mean(|_| {
        close(open(&new, libc::O_CREAT | libc::O_WRONLY)?)?;
        check(unsafe { libc::unlink(new.as_ptr()) }).map(drop)
    })
}

fn stat(path: &CStr) -> io::Result<()> {
    let mut answer = std::mem::MaybeUninit::<libc::stat>::uninit();
    check(unsafe { libc::stat(path.as_ptr(), answer.as_mut_ptr()) }).map(drop)
}

fn stat_among_files(count: usize) -> io::Result<u64> {
    make_files(count)?;
    let name = path(&format!("f{}", count / 2))?;
    mean(|_| stat(&name))
}

/// The cost of each entry of a folder, at least `least` of them.
pub fn read_directory(path: &CStr, least: usize) -> io::Result<u64> {
    let start = now_ns();
    let folder = unsafe { libc::opendir(path.as_ptr()) };
    if folder.is_null() {
        return Err(io::Error::last_os_error());
    }
    let mut entries = 0;
    while !unsafe { libc::readdir(folder) }.is_null() {
        entries += 1;
    }
    unsafe { libc::closedir(folder) };
    let cost = now_ns() - start;
    if entries < least { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(cost / entries as u64) }
}

fn readdir_each(count: usize) -> io::Result<u64> {
    make_files(count)?;
    read_directory(&path("")?, count)
}

/// For each folder of a path.
fn path_depth(count: usize) -> io::Result<u64> {
    make_folder()?;
    let deep = path(&vec!["a"; count].join("/"))?;
    std::fs::create_dir_all(deep.to_string_lossy().as_ref())?;
    mean(|_| stat(&deep)).map(|cost| cost / count as u64)
}

fn sparse_file_page(count: usize) -> io::Result<u64> {
    let fd = check(unsafe { libc::memfd_create(c"x".as_ptr(), 0) })?;
    let mut byte = 1u8;
    let at = (&raw mut byte).cast::<libc::c_void>();
    let offset = |number: usize| (number * 4096 * 7) as i64;
    (0..count).try_for_each(|number| moved(unsafe { libc::pwrite(fd, at, 1, offset(number)) }).map(drop))?;
    mean(|_| moved(unsafe { libc::pread(fd, at, 1, offset(count / 2)) }).map(drop))
}

fn locks_among(count: usize) -> io::Result<u64> {
    make_folder()?;
    let fd = open(&path("locked")?, libc::O_CREAT | libc::O_RDWR)?;
    let lock = |kind: i32, start: usize| {
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        (lock.l_type, lock.l_start, lock.l_len) = (kind as i16, start as i64, 1);
        check(unsafe { libc::fcntl(fd, libc::F_SETLK, &lock) }).map(drop)
    };
    (0..count).try_for_each(|number| lock(libc::F_WRLCK, number * 2))?;
    mean(|_| {
        lock(libc::F_WRLCK, count * 4 + 10)?;
        lock(libc::F_UNLCK, count * 4 + 10)
    })
}

fn inotify_among(count: usize) -> io::Result<u64> {
    make_folder()?;
    let watcher = check(unsafe { libc::inotify_init1(libc::IN_NONBLOCK) })?;
    for number in 0..count {
        let folder = path(&number.to_string())?;
        check(unsafe { libc::mkdir(folder.as_ptr(), 0o777) })?;
        check(unsafe { libc::inotify_add_watch(watcher, folder.as_ptr(), libc::IN_ALL_EVENTS) })?;
    }
    let other = path("other")?;
    mean(|_| close(open(&other, libc::O_CREAT | libc::O_RDWR)?))
}

/// Sends one descriptor through a socket, among `count` socket pairs.
pub fn scm_rights_among(count: usize) -> io::Result<u64> {
    let pair = || -> io::Result<[i32; 2]> {
        let mut ends = [0; 2];
        check(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr()) })?;
        Ok(ends)
    };
    let mut last = [0; 2];
    for _ in 0..count {
        last = pair()?;
    }
    let ends = pair()?;
    let mut byte = 0u8;
    let mut text = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = [0u64; 8];
    mean(|_| unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&mut text, 1);
        (message.msg_control, message.msg_controllen) =
            (control.as_mut_ptr().cast(), libc::CMSG_SPACE(4) as usize as _);
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as usize as _;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(last[0]);
        moved(libc::sendmsg(ends[0], &message, 0))?;
        message.msg_controllen = libc::CMSG_SPACE(4) as usize as _;
        moved(libc::recvmsg(ends[1], &mut message, 0))?;
        close(libc::CMSG_DATA(libc::CMSG_FIRSTHDR(&message)).cast::<i32>().read_unaligned())
    })
}
