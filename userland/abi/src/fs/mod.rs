//! The tree of names, its attributes, locks, events, and what /proc shows. Each test works in a directory of its own below /tmp.

#![expect(clippy::undocumented_unsafe_blocks, reason = "each block is one system call, which is what is tested")]

use crate::harness::Tests;

mod attr;
mod lock;
mod names;
mod proc;
mod support;
mod tmpfs;
mod watch;

pub const TESTS: Tests = &[
    ("names_open_errors", names::open_errors),
    ("names_symlinks", names::symlinks),
    ("names_remove", names::remove),
    ("names_rename", names::rename),
    ("names_rename_flags", names::rename_flags),
    ("names_links", names::links),
    ("names_tmpfile", names::tmpfile),
    ("names_getdents", names::getdents),
    ("names_cwd", names::cwd),
    ("names_openat2", names::openat2),
    ("names_mount", names::mount),
    ("names_unmount_frees", names::unmount_frees),
    ("names_race", names::race),
    ("tmpfs_limits", tmpfs::limits),
    ("tmpfs_parents", tmpfs::parents),
    ("tmpfs_removed_directories_take_no_files", tmpfs::removed_directories),
    ("attr_permissions", attr::permissions),
    ("attr_sticky", attr::sticky),
    ("attr_setgid_umask", attr::setgid_and_umask),
    ("attr_times", attr::times),
    ("attr_sizes", attr::sizes),
    ("attr_append", attr::append),
    ("attr_text_busy", attr::text_busy),
    ("attr_xattr", attr::xattr),
    ("attr_statx", attr::statx),
    ("lock_posix", lock::posix),
    ("lock_deadlock", lock::deadlock),
    ("lock_turns", lock::turns),
    ("lock_ofd", lock::ofd),
    ("lock_flock", lock::flock),
    ("lock_ranges", lock::ranges),
    ("lock_circles_and_owners", lock::circles_and_owners),
    ("lock_ofd_rules", lock::ofd_rules),
    ("lock_flock_rules", lock::flock_rules),
    ("watch_errors", watch::errors),
    ("watch_options", watch::options),
    ("watch_kinds", watch::kinds),
    ("watch_overflow", watch::overflow),
    ("watch_limits", watch::limits),
    ("watch_directory", watch::directory),
    ("watch_file", watch::file),
    ("watch_end_of_a_file", watch::end_of_a_file),
    ("watch_end_of_a_mount", watch::end_of_a_mount),
    ("proc_self", proc::own),
    ("proc_fd", proc::descriptors),
    ("proc_settings", proc::settings),
];
