//! mmap and its family: what Linux does, call by call.

mod advice;
mod faults;
mod files;
mod limits;
mod mapping;
mod remap;

use crate::harness::{Tests, child_dies_of, child_succeeds, errno, expect_errno};
use libc::*;
use std::ptr::null_mut;

pub const TESTS: Tests = &[
    ("anonymous_memory_is_zero_and_private_over_fork", mapping::anonymous),
    ("shared_memory_is_seen_by_the_child", mapping::shared),
    ("resident_set_goes_back", mapping::resident_set),
    ("mmap_errors", mapping::mmap_errors),
    ("fixed_replaces_and_noreplace_refuses", mapping::fixed),
    ("munmap_cuts_holes", mapping::munmap_holes),
    ("munmap_errors", mapping::munmap_errors),
    ("mprotect_splits_and_faults", mapping::mprotect),
    ("mprotect_errors", mapping::mprotect_errors),
    ("mremap_grows_moves_and_shrinks", remap::mremap_basic),
    ("mremap_keeps_what_moves_next_door", remap::mremap_next_door),
    ("mremap_errors", remap::mremap_errors),
    ("mremap_fixed_and_dontunmap", remap::mremap_fixed),
    ("brk_grows_and_shrinks", remap::brk_works),
    ("madvise_dontneed_zeroes_anonymous_memory", advice::madvise_dontneed),
    ("madvise_fork_advice", advice::madvise_fork),
    ("madvise_errors_and_populate", advice::madvise_errors),
    ("mlock_limits", advice::mlock_limits),
    ("mincore_tells_residency", advice::mincore_works),
    ("msync_errors", advice::msync_errors),
    ("file_mappings_private_and_shared", files::file_mappings),
    ("beyond_the_end_of_a_file_is_sigbus", files::beyond_end),
    ("truncation_takes_mapped_pages_away", files::truncation),
    ("readonly_file_cannot_be_mapped_shared_writable", files::readonly_shared),
    ("stack_grows_to_its_limit", limits::stack_growth),
    ("growsdown_mapping_grows", limits::growsdown),
    ("address_space_limit", limits::address_space_limit),
    ("data_limit", limits::data_limit),
    ("memfd_reads_writes_and_seals", files::memfd),
    ("memfd_errors", files::memfd_errors),
    ("memfd_write_seal_needs_no_writable_mapping", files::memfd_write_seal),
    ("generated_code_runs", mapping::generated_code),
    ("cow_after_fork_both_ways", faults::cow_both_ways),
    ("cow_storm", faults::cow_storm),
    ("process_vm_copies", faults::process_vm),
    ("proc_maps_shows_mappings", mapping::proc_maps),
    ("proc_smaps_tells_sizes", mapping::proc_smaps),
    ("overcommit_refuses_the_absurd", limits::overcommit),
    ("threads_fault_together", faults::threads_fault),
    ("kernel_copies_fault_pages_in", faults::kernel_copies),
    ("null_page_is_not_mapped", mapping::null_page),
    ("a_memory_hog_is_killed_and_the_rest_lives", limits::memory_hog),
];

const PAGE: usize = 4096;
const RW: i32 = PROT_READ | PROT_WRITE;
const ANON: i32 = MAP_PRIVATE | MAP_ANONYMOUS;

unsafe fn map(len: usize, prot: i32, flags: i32) -> *mut u8 {
    let at = unsafe { mmap(null_mut(), len, prot, flags, -1, 0) };
    assert!(at != MAP_FAILED, "mmap: errno {}", errno());
    at.cast()
}

fn temporary_file(len: usize) -> i32 {
    unsafe {
        let fd = memfd_create(c"test".as_ptr(), 0);
        assert!(fd >= 0);
        let bytes: Vec<u8> = (0..len).map(|i| (i / PAGE) as u8 + 1).collect();
        assert_eq!(write(fd, bytes.as_ptr().cast(), len), len as isize);
        fd
    }
}

fn without_privilege() {
    unsafe {
        assert_eq!(setgid(1000), 0);
        assert_eq!(setuid(1000), 0);
    }
}
