//! Descriptors, pipes, readiness, terminals.

#![expect(clippy::undocumented_unsafe_blocks, reason = "each block is one system call, which is what is tested")]

use crate::harness::Tests;

mod edges;
mod epoll;
mod events;
mod fcntl;
mod fd;
mod fifo;
mod limits;
mod pipe;
mod pipe_rules;
mod poll;
mod splice;
mod support;
mod tty;

pub const TESTS: Tests = &[
    ("fd_lowest", fd::lowest),
    ("fd_limit", fd::limit),
    ("fd_fdinfo_of_itself", fd::fdinfo_of_itself),
    ("fd_dup3", fd::dup3),
    ("fd_close_range", fd::close_range),
    ("rw_errors", fd::rw_errors),
    ("rw_devices", fd::devices),
    ("rw_positioned", fd::positioned),
    ("eventfd", fd::eventfd),
    ("edges_pipes", edges::pipes),
    ("edges_counters", edges::counters),
    ("edges_sockets", edges::sockets),
    ("edges_turns", edges::turns),
    ("edges_duplicates", edges::duplicates),
    ("eventfd_rules", events::eventfd_rules),
    ("timerfd_rules", events::timerfd_rules),
    ("signalfd_rules", events::signalfd_rules),
    ("pidfd_rules", events::pidfd_rules),
    ("epoll_rules", events::epoll_rules),
    ("process_vm", events::process_vm),
    ("fcntl_flags", fcntl::flags),
    ("fcntl_owner", fcntl::owner),
    ("fcntl_sigio", fcntl::sigio),
    ("ioctl_generic", fcntl::generic_ioctls),
    ("pipe_basic", pipe::basic),
    ("pipe_capacity", pipe::capacity),
    ("pipe_resize", pipe::resize),
    ("pipe_packets", pipe::packets),
    ("pipe_broken", pipe::broken),
    ("pipe_atomic", pipe::atomic),
    ("pipe_fault", pipe::fault),
    ("pipe_interrupt", pipe::interrupt),
    ("pipe_flags", pipe_rules::flags),
    ("pipe_one_file", pipe_rules::one_file),
    ("pipe_packet_mode_switches", pipe_rules::packet_mode_switches),
    ("pipe_sizes", pipe_rules::sizes),
    ("pipe_vectors_and_ends", pipe_rules::vectors_and_ends),
    ("pipe_splice_errors", pipe_rules::splice_errors),
    ("pipe_tee_and_vmsplice", pipe_rules::tee_and_vmsplice),
    ("pipe_sendfile_errors", pipe_rules::sendfile_errors),
    ("pipe_fifo_errors", pipe_rules::fifo_errors),
    ("fifo_open", fifo::open_rules),
    ("fifo_hangup", fifo::hangup),
    ("limits_of_pipes", limits::pipe_pages),
    ("limits_of_epolls", limits::epoll_watches),
    ("splice_moves", splice::moves),
    ("splice_errors", splice::errors),
    ("splice_tee", splice::tee),
    ("sendfile", splice::sendfile),
    ("sendfile_to_itself", splice::sendfile_to_itself),
    ("sendfile_across", splice::sendfile_across),
    ("splice_waits_hold_no_description", splice::waits_hold_no_description),
    ("vmsplice_takes_what_fits", splice::vmsplice_takes_what_fits),
    ("splice_knows_its_files", splice::splice_knows_its_files),
    ("copy_file_range", splice::copy_file_range),
    ("poll_pipe", poll::pipe_events),
    ("poll_timeout", poll::timeouts),
    ("poll_mask", poll::mask),
    ("select_sets", poll::select_sets),
    ("epoll_level_edge", epoll::level_and_edge),
    ("epoll_oneshot", epoll::oneshot),
    ("epoll_errors", epoll::errors),
    ("epoll_nested", epoll::nested),
    ("epoll_close", epoll::close_removes),
    ("epoll_exclusive", epoll::exclusive),
    ("epoll_many", epoll::many),
    ("tty_pty", tty::pty_basic),
    ("tty_canonical", tty::canonical),
    ("tty_raw_timeout", tty::raw_timeouts),
    ("tty_signals", tty::signals),
    ("tty_job_control", tty::job_control),
    ("tty_hangup", tty::hangup),
    ("tty_packet", tty::packet_mode),
    ("tty_flow", tty::flow_and_flush),
    ("pty_without_its_slave", tty::without_its_slave),
    ("tty_canonical_over_raw_input", tty::canonical_over_raw_input),
    ("tty_external_processing", tty::external_processing),
    ("tty_a_member_gives_it_up", tty::a_member_gives_its_terminal_up),
];

/// A pipe: (read end, write end).
pub fn pipe_with(flags: i32) -> (i32, i32) {
    let mut fds = [0; 2];
    support::ok(unsafe { libc::pipe2(fds.as_mut_ptr(), flags) });
    (fds[0], fds[1])
}

pub fn write(fd: i32, bytes: &[u8]) -> isize {
    unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) }
}

/// Up to `len` bytes, or `Err(errno)`.
pub fn read(fd: i32, len: usize) -> Result<Vec<u8>, i32> {
    let mut buffer = vec![0u8; len];
    let n = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), len) };
    if n < 0 {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
    }
    buffer.truncate(n as usize);
    Ok(buffer)
}

pub fn close(fd: i32) {
    support::ok(unsafe { libc::close(fd) });
}

/// What poll(2) says of one descriptor within `ms`.
pub fn poll_one(fd: i32, events: i16, ms: i32) -> i16 {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    support::ok(unsafe { libc::poll(&mut entry, 1, ms) });
    entry.revents
}

/// Installs a handler that does nothing (so that calls are interrupted), without SA_RESTART.
pub fn catch(signal: i32) {
    extern "C" fn nothing(_: i32) {}
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(signal, &action, std::ptr::null_mut());
    }
}
