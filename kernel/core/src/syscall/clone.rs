//! clone(2), clone3(2).

use crate::prelude::*;
use crate::process::clone::{CloneArgs, clone, flag};
use hal::trap::UserContext;
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub fn sys_clone(
    context: &mut UserContext,
    flags: u64,
    stack: UserAddr,
    parent_tid: UserAddr,
    tls: u64,
    child_tid: UserAddr,
) -> SysResult {
    // The old call's low byte is the exit signal; pidfd and parent_tid share an argument.
    let args = CloneArgs {
        flags: flags & 0xffff_ff00 & !flag::CSIGNAL,
        exit_signal: (flags & flag::CSIGNAL) as u32,
        pidfd: parent_tid,
        child_tid,
        parent_tid,
        stack: stack.0,
        tls,
    };
    if args.flags & flag::PIDFD != 0 && args.flags & flag::PARENT_SETTID != 0 {
        return Err(Errno::EINVAL);
    }
    clone(context, &args)
}

/// `struct clone_args`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct RawArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const SIZE_VER0: usize = 64;

pub fn sys_clone3(context: &mut UserContext, args: UserAddr, size: usize) -> SysResult {
    if size > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if size < SIZE_VER0 {
        return Err(Errno::EINVAL);
    }
    let known = size_of::<RawArgs>();
    let mut raw = RawArgs::read_from_bytes(&[0; size_of::<RawArgs>()]).map_err(|_| Errno::EINVAL)?;
    hal::user::copy_from_user(&mut raw.as_mut_bytes()[..size.min(known)], args)?;
    // What is beyond this kernel's structure must be zero.
    for at in known..size {
        let mut byte = [0];
        hal::user::copy_from_user(&mut byte, UserAddr(args.0 + at as u64))?;
        if byte != [0] {
            return Err(Errno::E2BIG);
        }
    }
    let valid = flag::CLEAR_SIGHAND | 0xffff_ffff;
    if raw.flags & !valid != 0
        || raw.flags & (flag::DETACHED | flag::CSIGNAL) != 0
        || raw.exit_signal > 64
        || raw.flags & (flag::THREAD | flag::PARENT) != 0 && raw.exit_signal != 0
        || (raw.stack == 0) != (raw.stack_size == 0)
        || (raw.set_tid == 0) != (raw.set_tid_size == 0)
        || raw.set_tid_size > 32
    {
        return Err(Errno::EINVAL);
    }
    if raw.set_tid_size != 0 {
        // Choosing one's number needs checkpoint privileges that nobody has here.
        return Err(Errno::EPERM);
    }
    let stack = raw.stack.checked_add(raw.stack_size).ok_or(Errno::EINVAL)?;
    let args = CloneArgs {
        flags: raw.flags,
        exit_signal: raw.exit_signal as u32,
        pidfd: UserAddr(raw.pidfd),
        child_tid: UserAddr(raw.child_tid),
        parent_tid: UserAddr(raw.parent_tid),
        stack,
        tls: raw.tls,
    };
    clone(context, &args)
}
