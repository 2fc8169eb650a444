//! Copies and atomics on user memory, with fault fix-ups.
//!
//! Every function checks that the range lies in the user half. The plain ones resolve page faults (and may sleep in
//! doing so); the `_nofault` ones answer [`UserFault`] at once, for use under spin locks: unlock, fault in, retry.

use base::addr::UserAddr;

/// The user range is not accessible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserFault;

impl From<UserFault> for base::errno::Errno {
    fn from(_: UserFault) -> Self {
        base::errno::Errno::EFAULT
    }
}

pub fn copy_from_user(_dst: &mut [u8], _src: UserAddr) -> Result<(), UserFault> {
    todo!()
}
pub fn copy_to_user(_dst: UserAddr, _src: &[u8]) -> Result<(), UserFault> {
    todo!()
}
/// As much as can be copied; returns how many bytes.
pub fn copy_from_user_partial(_dst: &mut [u8], _src: UserAddr) -> usize {
    todo!()
}
pub fn copy_to_user_partial(_dst: UserAddr, _src: &[u8]) -> usize {
    todo!()
}
pub fn copy_from_user_nofault(_dst: &mut [u8], _src: UserAddr) -> Result<(), UserFault> {
    todo!()
}
pub fn copy_to_user_nofault(_dst: UserAddr, _src: &[u8]) -> Result<(), UserFault> {
    todo!()
}
/// Zeroes user memory.
pub fn zero_user(_dst: UserAddr, _len: usize) -> Result<(), UserFault> {
    todo!()
}
/// Copies a NUL-terminated string; answers its length without the NUL, or `None` when no NUL came within `dst.len()` bytes.
pub fn read_cstr(_dst: &mut [u8], _src: UserAddr) -> Result<Option<usize>, UserFault> {
    todo!()
}

// Aligned atomics on user words (misaligned addresses are the caller's EINVAL). Acquire-release.
pub fn load_u32(_addr: UserAddr) -> Result<u32, UserFault> {
    todo!()
}
pub fn load_u32_nofault(_addr: UserAddr) -> Result<u32, UserFault> {
    todo!()
}
pub fn store_u32(_addr: UserAddr, _value: u32) -> Result<(), UserFault> {
    todo!()
}
/// `Ok(Ok(old))` when `*addr == old` was replaced, `Ok(Err(found))` when not.
pub fn compare_exchange_u32_nofault(_addr: UserAddr, _old: u32, _new: u32) -> Result<Result<u32, u32>, UserFault> {
    todo!()
}
/// As above, resolving faults.
pub fn compare_exchange_u32(_addr: UserAddr, _old: u32, _new: u32) -> Result<Result<u32, u32>, UserFault> {
    todo!()
}

/// Resolves the page fault that a read (or write) at each page of the range would take now.
pub fn fault_in(_addr: UserAddr, _len: usize, _write: bool) -> Result<(), UserFault> {
    todo!()
}
