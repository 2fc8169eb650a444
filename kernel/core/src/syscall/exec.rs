//! execve(2), execveat(2).

use crate::prelude::*;
use crate::process::exec::{MAX_STRING, Request, Strings, exec};
use crate::user::{read_cstring, read_path};
use crate::vfs;
use hal::trap::UserContext;

/// The most strings of one list.
const MAX_STRINGS: usize = 0x7fff_ffff / 8;

/// Reads a NULL-terminated list of strings: EFAULT, E2BIG.
fn read_strings(list: UserAddr, budget: &mut usize) -> Result<Strings, Errno> {
    let mut strings = Strings::default();
    if list.is_null() {
        return Ok(strings);
    }
    let pointers = UserPtr::<u64>::new(list);
    for index in 0..MAX_STRINGS {
        let pointer = pointers.at(index)?.read()?;
        if pointer == 0 {
            return Ok(strings);
        }
        let string = read_cstring(UserAddr(pointer), MAX_STRING - 1, Errno::E2BIG)?;
        *budget = budget.checked_sub(string.len() + 9).ok_or(Errno::E2BIG)?;
        strings.push(&string)?;
        crate::sched::cond_resched();
        if current().is_dying() {
            return Err(Errno::EINTR);
        }
    }
    Err(Errno::E2BIG)
}

fn run(context: &mut UserContext, dirfd: i32, path: Vec<u8>, argv: UserAddr, envp: UserAddr, flags: u32) -> SysResult {
    const AT_EMPTY_PATH: u32 = 0x1000;
    let file = vfs::open_exec(dirfd, &path, flags)?;
    // More than three quarters of 8 MiB is refused whatever the stack limit (see exec::check_size).
    let mut budget = 6 << 20;
    let mut args = read_strings(argv, &mut budget)?;
    let env = read_strings(envp, &mut budget)?;
    if args.is_empty() {
        // A program always has a name, as since Linux 5.18.
        args.push(&[])?;
    }
    let by_descriptor = dirfd != vfs::AT_FDCWD && !path.starts_with(b"/");
    let (name, script_path) = if by_descriptor {
        let mut name = alloc::format!("/dev/fd/{dirfd}").into_bytes();
        if !(path.is_empty() && flags & AT_EMPTY_PATH != 0) {
            name.push(b'/');
            name.extend(&path);
        }
        // The interpreter could not open a descriptor that execve closes.
        let closes = current().files.get().flags(dirfd).is_ok_and(|flags| flags.contains(crate::vfs::FdFlags::CLOEXEC));
        (name.clone(), (!closes).then_some(name))
    } else {
        (path.clone(), Some(path))
    };
    *context = exec(Request { file, path: name, args, env, script_path })?;
    Ok(0)
}

pub fn sys_execve(context: &mut UserContext, path: UserAddr, argv: UserAddr, envp: UserAddr) -> SysResult {
    let path = read_path(path)?;
    run(context, vfs::AT_FDCWD, path, argv, envp, 0)
}

pub fn sys_execveat(
    context: &mut UserContext,
    dirfd: i32,
    path: UserAddr,
    argv: UserAddr,
    envp: UserAddr,
    flags: u32,
) -> SysResult {
    const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
    const AT_EMPTY_PATH: u32 = 0x1000;
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = read_path(path)?;
    run(context, dirfd, path, argv, envp, flags)
}
