//! Copies and atomics on user memory, with fault fix-ups.
//!
//! Every function checks that the range lies in the user half. The plain ones resolve page faults (and may sleep in
//! doing so); the `_nofault` ones answer [`UserFault`] at once, for use under spin locks: unlock, fault in, retry.

use crate::context;
use aarch64_cpu::registers::ID_AA64MMFR1_EL1;
use alloc::vec::Vec;
use base::addr::{PAGE_SIZE, USER_END, UserAddr, page_down};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};
use tock_registers::interfaces::Readable;
use zerocopy::FromBytes;

unsafe extern "C" {
    fn copy_user_asm(dst: *mut u8, src: *const u8, len: usize) -> usize;
    fn copy_user_nofault_asm(dst: *mut u8, src: *const u8, len: usize) -> usize;
    fn copy_blocks_asm(dst: *mut u8, src: *const u8, blocks: usize) -> usize;
    fn zero_user_asm(dst: *mut u8, len: usize) -> usize;
    fn store_halfwords_user_asm(dst: *mut u8, src: *const u8, records: usize) -> usize;
    fn cstr_user_asm(dst: *mut u8, src: *const u8, limit: usize) -> isize;
    fn load32_user_asm(addr: u64) -> u64;
    fn load32_user_nofault_asm(addr: u64) -> u64;
    fn store32_user_asm(addr: u64, value: u32) -> u64;
    fn store_pair_user_asm(addr: u64, first: u64, second: u64) -> u64;
    fn cas32_user_asm(addr: u64, old: u32, new: u32) -> u64;
    fn cas32_user_nofault_asm(addr: u64, old: u32, new: u32) -> u64;
    fn store_fp_user_asm(record: u64, head: u64) -> u64;
    fn load_fp_user_asm(registers: u64, fpsr: u32, fpcr: u32) -> u64;
}

/// The user range is not accessible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserFault;

impl From<UserFault> for base::errno::Errno {
    fn from(_: UserFault) -> Self {
        base::errno::Errno::EFAULT
    }
}

/// The CPUs have Privileged Access Never (FEAT_PAN).
static PAN: AtomicBool = AtomicBool::new(false);

pub(crate) fn init_cpu() {
    if ID_AA64MMFR1_EL1.read(ID_AA64MMFR1_EL1::PAN) != 0 {
        PAN.store(true, Ordering::Relaxed);
        set_pan(true);
    }
}

#[inline(always)]
fn set_pan(on: bool) {
    // SAFETY: PSTATE.PAN exists when this is called (FEAT_PAN, seen by `init_cpu`), and only says which accesses of ours to user memory
    // fault. MSR PAN, #imm by encoding (Arm ARM C6.2.248): the assembler's baseline is v8.0.
    unsafe {
        if on {
            core::arch::asm!(".inst 0xd500419f");
        } else {
            core::arch::asm!(".inst 0xd500409f");
        }
    }
}

/// Runs `access` with user memory reachable from EL1.
#[inline(always)]
fn with_user<R>(access: impl FnOnce() -> R) -> R {
    if PAN.load(Ordering::Relaxed) {
        set_pan(false);
        let result = access();
        set_pan(true);
        result
    } else {
        access()
    }
}

#[inline(always)]
fn check(addr: UserAddr, len: usize) -> Result<u64, UserFault> {
    if addr.range_ok(len) {
        return Ok(addr.0);
    }
    let addr = accessible(addr);
    if addr.range_ok(len) { Ok(addr.0) } else { Err(UserFault) }
}

/// The address that the kernel uses for `addr`: without its tag if the calling thread has asked for tagged addresses.
#[inline]
pub fn accessible(addr: UserAddr) -> UserAddr {
    if addr.0 >= USER_END && context::allows_tags() { addr.untagged() } else { addr }
}

/// The part of the range that lies in the user half.
#[inline]
fn clamp(addr: UserAddr, len: usize) -> (u64, usize) {
    let addr = accessible(addr).0;
    if addr >= USER_END { (0, 0) } else { (addr, len.min((USER_END - addr) as usize)) }
}

/// What the vector registers copy at once, and the most they copy with interrupts masked.
const BLOCK: usize = 512;
const MAX_BLOCKS: usize = PAGE_SIZE / BLOCK;
/// From how many bytes on borrowing them is worth it.
const VECTORS_FROM: usize = 4 * BLOCK;

/// Answers how many bytes were copied.
///
/// # Safety
/// One side is `len` bytes of kernel memory, valid for the access; the other lies in the user half.
#[inline]
unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) -> usize {
    // SAFETY: the caller's promise.
    let done = if len < VECTORS_FROM { 0 } else { unsafe { copy_by_vectors(dst, src, len) } };
    let (dst, src) = (dst.wrapping_add(done), src.wrapping_add(done));
    // SAFETY: what is left of both sides; the user side's faults have fix-ups.
    len - with_user(|| unsafe { copy_user_asm(dst, src, len - done) })
}

/// Copies whole blocks, up to the first that faults (it may have been copied in part); answers how many bytes. The faults are left to
/// `copy_user_asm`, which may sleep: that is not possible with another's registers in hand.
///
/// # Safety
/// As [`copy`].
#[inline(never)]
unsafe fn copy_by_vectors(dst: *mut u8, src: *const u8, len: usize) -> usize {
    let mut done = 0;
    loop {
        let blocks = ((len - done) / BLOCK).min(MAX_BLOCKS);
        if blocks == 0 {
            return done;
        }
        let (dst, src) = (dst.wrapping_add(done), src.wrapping_add(done));
        // SAFETY: `blocks` blocks of both sides are left; the user side's faults have fix-ups; vector registers may be used.
        let left = context::with_vectors(|| with_user(|| unsafe { copy_blocks_asm(dst, src, blocks) }));
        done += (blocks - left) * BLOCK;
        if left != 0 {
            return done;
        }
    }
}

/// Copies a page of kernel memory.
///
/// # Safety
/// Both are valid for the access, and distinct or equal.
pub(crate) unsafe fn copy_page(dst: *mut u8, src: *const u8) {
    // SAFETY: the caller's promise; vector registers may be used.
    context::with_vectors(|| unsafe { copy_blocks_asm(dst, src, MAX_BLOCKS) });
}

/// Copies in; answers how many bytes were copied.
///
/// # Safety
/// `dst` must be valid for writes of `len` bytes.
#[inline]
pub(crate) unsafe fn copy_in_raw(dst: *mut u8, src: UserAddr, len: usize) -> usize {
    let (src, len) = clamp(src, len);
    // SAFETY: the user side is in the user half, and its faults have fix-ups; the kernel side is the caller's promise.
    unsafe { copy(dst, src as *const u8, len) }
}

/// Copies out; answers how many bytes were copied.
///
/// # Safety
/// `src` must be valid for reads of `len` bytes.
#[inline]
pub(crate) unsafe fn copy_out_raw(dst: UserAddr, src: *const u8, len: usize) -> usize {
    let (dst, len) = clamp(dst, len);
    // SAFETY: as in `copy_in_raw`.
    unsafe { copy(dst as *mut u8, src, len) }
}

#[inline]
pub fn copy_from_user(dst: &mut [u8], src: UserAddr) -> Result<(), UserFault> {
    if copy_from_user_partial(dst, src) == dst.len() { Ok(()) } else { Err(UserFault) }
}

#[inline]
pub fn copy_to_user(dst: UserAddr, src: &[u8]) -> Result<(), UserFault> {
    if copy_to_user_partial(dst, src) == src.len() { Ok(()) } else { Err(UserFault) }
}

/// As much as can be copied; returns how many bytes.
#[inline]
pub fn copy_from_user_partial(dst: &mut [u8], src: UserAddr) -> usize {
    // SAFETY: a live, exclusive slice.
    unsafe { copy_in_raw(dst.as_mut_ptr(), src, dst.len()) }
}

#[inline]
pub fn copy_to_user_partial(dst: UserAddr, src: &[u8]) -> usize {
    // SAFETY: a live slice.
    unsafe { copy_out_raw(dst, src.as_ptr(), src.len()) }
}

/// Fills `dst` with plain data, straight into its place.
pub fn fill_from_user<T: FromBytes>(dst: &mut [MaybeUninit<T>], src: UserAddr) -> Result<&mut [T], UserFault> {
    let bytes = size_of_val(dst);
    // SAFETY: a live, exclusive slice.
    if unsafe { copy_in_raw(dst.as_mut_ptr().cast(), src, bytes) } != bytes {
        return Err(UserFault);
    }
    // SAFETY: every byte was stored, and whatever the bytes are, they make a `T`.
    Ok(unsafe { dst.assume_init_mut() })
}

/// Stores sixteen bytes.
#[inline]
pub fn store_pair(addr: UserAddr, pair: [u64; 2]) -> Result<(), UserFault> {
    let addr = check(addr, 16)?;
    // SAFETY: checked range with fix-ups.
    word(with_user(|| unsafe { store_pair_user_asm(addr, pair[0], pair[1]) })).map(drop)
}

/// Appends up to `len` bytes straight to the room that `out` has beyond its length; answers how many could be copied. Panics without
/// that much room.
pub fn append_from_user(out: &mut Vec<u8>, src: UserAddr, len: usize) -> usize {
    let room = &mut out.spare_capacity_mut()[..len];
    // SAFETY: a live, exclusive slice.
    let copied = unsafe { copy_in_raw(room.as_mut_ptr().cast(), src, len) };
    // SAFETY: the first `copied` bytes of the room were stored.
    unsafe { out.set_len(out.len() + copied) };
    copied
}

pub fn copy_from_user_nofault(dst: &mut [u8], src: UserAddr) -> Result<(), UserFault> {
    let from = check(src, dst.len())?;
    // SAFETY: checked range with fix-ups; exclusive slice.
    let left = with_user(|| unsafe { copy_user_nofault_asm(dst.as_mut_ptr(), from as *const u8, dst.len()) });
    if left == 0 { Ok(()) } else { Err(UserFault) }
}

pub fn copy_to_user_nofault(dst: UserAddr, src: &[u8]) -> Result<(), UserFault> {
    let to = check(dst, src.len())?;
    // SAFETY: checked range with fix-ups; live slice.
    let left = with_user(|| unsafe { copy_user_nofault_asm(to as *mut u8, src.as_ptr(), src.len()) });
    if left == 0 { Ok(()) } else { Err(UserFault) }
}

/// Stores the halfword at byte `offset` (at most 6) of each 8-byte record of `records` at the same place of the records at
/// `dst`, and nothing else.
pub fn store_halfwords(dst: UserAddr, records: &[[u8; 8]], offset: usize) -> Result<(), UserFault> {
    assert!(offset <= 6);
    let to = check(dst, records.len() * 8)? + offset as u64;
    let from = records.as_ptr().wrapping_byte_add(offset).cast();
    // SAFETY: both ranges hold that many records, and a halfword at `offset` lies in its record; the user side has fix-ups.
    let left = with_user(|| unsafe { store_halfwords_user_asm(to as *mut u8, from, records.len()) });
    if left == 0 { Ok(()) } else { Err(UserFault) }
}

/// Zeroes user memory.
pub fn zero_user(dst: UserAddr, len: usize) -> Result<(), UserFault> {
    let to = check(dst, len)?;
    // SAFETY: checked range with fix-ups.
    if with_user(|| unsafe { zero_user_asm(to as *mut u8, len) }) == 0 { Ok(()) } else { Err(UserFault) }
}

/// Copies a NUL-terminated string; answers its length without the NUL, or `None` when no NUL came within `dst.len()` bytes.
pub fn read_cstr(dst: &mut [u8], src: UserAddr) -> Result<Option<usize>, UserFault> {
    let (from, limit) = clamp(src, dst.len());
    if limit == 0 {
        return Err(UserFault);
    }
    // SAFETY: `limit` bytes of both sides; the user side has fix-ups.
    let len = with_user(|| unsafe { cstr_user_asm(dst.as_mut_ptr(), from as *const u8, limit) });
    match usize::try_from(len) {
        Err(_) => Err(UserFault),
        Ok(len) if len < limit => Ok(Some(len)),
        // Ran into the end of the user half: the next byte is not accessible.
        Ok(_) if limit < dst.len() => Err(UserFault),
        Ok(_) => Ok(None),
    }
}

/// Appends a NUL-terminated string, without the NUL, straight to the room that `out` has beyond its length: answers false when no
/// NUL came within `limit` bytes, which are appended then. Panics without that much room.
pub fn append_cstr(out: &mut Vec<u8>, limit: usize, src: UserAddr) -> Result<bool, UserFault> {
    let (from, readable) = clamp(src, limit);
    if readable == 0 {
        return Err(UserFault);
    }
    let room = &mut out.spare_capacity_mut()[..limit];
    // SAFETY: `readable` bytes of both sides, at most `limit`; the user side has fix-ups.
    let len = with_user(|| unsafe { cstr_user_asm(room.as_mut_ptr().cast(), from as *const u8, readable) });
    let len = usize::try_from(len).map_err(|_| UserFault)?;
    // Ran into the end of the user half: the next byte is not accessible.
    if len == readable && readable < limit {
        return Err(UserFault);
    }
    // SAFETY: the first `len` bytes of the room were stored.
    unsafe { out.set_len(out.len() + len) };
    Ok(len < readable)
}

/// Stores the FP registers as a `struct fpsimd_context`, which begins with `head`, and 16 zero bytes behind it.
///
/// # Safety
/// FP access is on; the registers are the calling thread's.
pub(crate) unsafe fn store_fp(record: UserAddr, head: u64) -> Result<(), UserFault> {
    let record = check(record, 544)?;
    // SAFETY: checked range with fix-ups; FP by the caller's promise.
    if with_user(|| unsafe { store_fp_user_asm(record, head) }) == 0 { Ok(()) } else { Err(UserFault) }
}

/// Loads V0-V31, and FPSR and FPCR with what is given, if the 8 bytes behind V31 are zero: answers whether they are.
///
/// # Safety
/// As for [`store_fp`].
pub(crate) unsafe fn load_fp(registers: UserAddr, fpsr: u32, fpcr: u32) -> Result<bool, UserFault> {
    let registers = check(registers, 520)?;
    // SAFETY: checked range with fix-ups; FP by the caller's promise.
    match with_user(|| unsafe { load_fp_user_asm(registers, fpsr, fpcr) }) {
        0 => Ok(true),
        1 => Ok(false),
        _ => Err(UserFault),
    }
}

fn word(value: u64) -> Result<u32, UserFault> {
    if value >> 32 == 0 { Ok(value as u32) } else { Err(UserFault) }
}

fn check_word(addr: UserAddr) -> Result<u64, UserFault> {
    let addr = check(addr, 4)?;
    if addr & 3 == 0 { Ok(addr) } else { Err(UserFault) }
}

// Aligned atomics on user words (misaligned addresses are the caller's EINVAL). Acquire-release.
pub fn load_u32(addr: UserAddr) -> Result<u32, UserFault> {
    let addr = check_word(addr)?;
    // SAFETY: checked, aligned, with fix-ups.
    word(with_user(|| unsafe { load32_user_asm(addr) }))
}

#[inline]
pub fn load_u32_nofault(addr: UserAddr) -> Result<u32, UserFault> {
    let addr = check_word(addr)?;
    // SAFETY: checked, aligned, with fix-ups.
    word(with_user(|| unsafe { load32_user_nofault_asm(addr) }))
}

pub fn store_u32(addr: UserAddr, value: u32) -> Result<(), UserFault> {
    let addr = check_word(addr)?;
    // SAFETY: checked, aligned, with fix-ups.
    word(with_user(|| unsafe { store32_user_asm(addr, value) })).map(drop)
}

/// `Ok(Ok(old))` when `*addr == old` was replaced, `Ok(Err(found))` when not.
pub fn compare_exchange_u32_nofault(addr: UserAddr, old: u32, new: u32) -> Result<Result<u32, u32>, UserFault> {
    let addr = check_word(addr)?;
    // SAFETY: checked, aligned, with fix-ups.
    let found = word(with_user(|| unsafe { cas32_user_nofault_asm(addr, old, new) }))?;
    Ok(if found == old { Ok(found) } else { Err(found) })
}

/// As above, resolving faults.
pub fn compare_exchange_u32(addr: UserAddr, old: u32, new: u32) -> Result<Result<u32, u32>, UserFault> {
    let addr = check_word(addr)?;
    // SAFETY: checked, aligned, with fix-ups.
    let found = word(with_user(|| unsafe { cas32_user_asm(addr, old, new) }))?;
    Ok(if found == old { Ok(found) } else { Err(found) })
}

/// Resolves the page fault that a read (or write) at each page of the range would take now.
pub fn fault_in(addr: UserAddr, len: usize, write: bool) -> Result<(), UserFault> {
    let start = check(addr, len)?;
    let access = if write { crate::trap::Access::Write } else { crate::trap::Access::Read };
    let mut page = page_down(start);
    while page < start + len as u64 {
        if !crate::trap::hooks().user_copy_fault(UserAddr(page), access) {
            return Err(UserFault);
        }
        page += PAGE_SIZE as u64;
    }
    Ok(())
}
