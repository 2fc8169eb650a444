//! prctl(2): the options that make sense here; the others answer EINVAL, as on a kernel built without them.

use super::credentials::KEEP_CAPS;
use crate::prelude::*;
use crate::task::Credentials;
use crate::task::credentials::{cap, install};
use core::sync::atomic::Ordering;

const SECURE_ALL: u32 = 0xff;
const LOCKS: u32 = 0xaa;
const NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;

fn change(f: impl FnOnce(&mut Credentials) -> Result<(), Errno>) -> SysResult {
    let mut new = (*current().creds()).clone();
    f(&mut new)?;
    install(new);
    Ok(0)
}

fn capability(number: u64) -> Result<u64, Errno> {
    if number <= u64::from(cap::LAST) { Ok(1 << number) } else { Err(Errno::EINVAL) }
}

fn ambient(action: u64, number: u64) -> SysResult {
    let own = current().creds();
    match action {
        // IS_SET
        1 => Ok(usize::from(own.cap_ambient & capability(number)? != 0)),
        // RAISE
        2 => {
            let bit = capability(number)?;
            if own.cap_permitted & own.cap_inheritable & bit == 0 || own.securebits & NO_CAP_AMBIENT_RAISE != 0 {
                return Err(Errno::EPERM);
            }
            change(|new| {
                new.cap_ambient |= bit;
                Ok(())
            })
        }
        // LOWER
        3 => {
            let bit = capability(number)?;
            change(|new| {
                new.cap_ambient &= !bit;
                Ok(())
            })
        }
        // CLEAR_ALL
        4 if number == 0 => change(|new| {
            new.cap_ambient = 0;
            Ok(())
        }),
        _ => Err(Errno::EINVAL),
    }
}

pub fn prctl(option: i32, arg2: u64, arg3: u64, arg4: u64, arg5: u64) -> SysResult {
    let task = current();
    let life = &task.process.life;
    let rest_zero = arg3 == 0 && arg4 == 0 && arg5 == 0;
    match option {
        // PDEATHSIG
        1 if arg2 <= 64 => {
            life.parent_death_signal.store(arg2 as u32, Ordering::Relaxed);
            Ok(0)
        }
        2 => {
            UserPtr::new(UserAddr(arg2)).write(&life.parent_death_signal.load(Ordering::Relaxed))?;
            Ok(0)
        }
        // DUMPABLE
        3 => Ok(life.dumpable.load(Ordering::Relaxed) as usize),
        4 if arg2 <= 1 => {
            life.dumpable.store(arg2 as u32, Ordering::Relaxed);
            Ok(0)
        }
        // KEEPCAPS
        7 => Ok(usize::from(task.creds().securebits & KEEP_CAPS != 0)),
        8 if arg2 <= 1 => change(|new| {
            if new.securebits & KEEP_CAPS << 1 != 0 {
                return Err(Errno::EPERM);
            }
            new.securebits = new.securebits & !KEEP_CAPS | if arg2 == 1 { KEEP_CAPS } else { 0 };
            Ok(())
        }),
        // NAME
        15 => {
            let mut name = [0u8; 16];
            let len = hal::user::read_cstr(&mut name[..15], UserAddr(arg2))?.unwrap_or(15);
            name[len..].fill(0);
            *task.name.lock() = name;
            Ok(0)
        }
        16 => {
            let name = *task.name.lock();
            UserPtr::new(UserAddr(arg2)).write_slice(&name)?;
            Ok(0)
        }
        // SECCOMP: none here, so the mode is 0.
        21 => Ok(0),
        // CAPBSET
        23 => Ok(usize::from(task.creds().cap_bounding & capability(arg2)? != 0)),
        24 => {
            let bit = capability(arg2)?;
            change(|new| {
                if !new.has_cap(cap::SETPCAP) {
                    return Err(Errno::EPERM);
                }
                new.cap_bounding &= !bit;
                Ok(())
            })
        }
        // SECUREBITS
        27 => Ok(task.creds().securebits as usize),
        28 => change(|new| {
            let bits = u32::try_from(arg2).map_err(|_| Errno::EPERM)?;
            // A locked bit stays as it is, and so does its lock.
            let locks = new.securebits & LOCKS;
            if (new.securebits ^ bits) & (locks >> 1) != 0
                || locks & !bits != 0
                || bits & !SECURE_ALL != 0
                || !new.has_cap(cap::SETPCAP)
            {
                return Err(Errno::EPERM);
            }
            new.securebits = bits;
            Ok(())
        }),
        29 => {
            task.set_timer_slack(arg2);
            Ok(0)
        }
        30 => Ok(task.timer_slack_ns.load(Ordering::Relaxed) as usize),
        // CHILD_SUBREAPER
        36 => {
            life.is_subreaper.store(arg2 != 0, Ordering::Relaxed);
            Ok(0)
        }
        37 => {
            UserPtr::new(UserAddr(arg2)).write(&u32::from(life.is_subreaper.load(Ordering::Relaxed)))?;
            Ok(0)
        }
        // NO_NEW_PRIVS
        38 if arg2 == 1 && rest_zero => change(|new| {
            new.no_new_privs = true;
            Ok(())
        }),
        39 if arg2 == 0 && rest_zero => Ok(usize::from(task.creds().no_new_privs)),
        // GET_TID_ADDRESS
        40 => {
            UserPtr::new(UserAddr(arg2)).write(&task.clear_child_tid.load(Ordering::Relaxed))?;
            Ok(0)
        }
        // TAGGED_ADDR_CTRL: only that system calls take tagged addresses; there is no memory tagging.
        55 if arg2 <= 1 && rest_zero => {
            task.thread.set_takes_tags(arg2 == 1);
            Ok(0)
        }
        56 if arg2 == 0 && rest_zero => Ok(usize::from(task.thread.takes_tags())),
        47 if arg4 == 0 && arg5 == 0 => ambient(arg2, arg3),
        _ => Err(Errno::EINVAL),
    }
}
