//! User and group ids, supplementary groups, capabilities.

use crate::prelude::*;
use crate::task::Credentials;
use crate::task::credentials::{cap, install};

const KEEP: u32 = u32::MAX;
const NGROUPS_MAX: i32 = 65536;
/// SECBIT_KEEP_CAPS.
pub const KEEP_CAPS: u32 = 1 << 4;
const SECBIT_NO_SETUID_FIXUP: u32 = 1 << 2;
/// Capabilities that the file-system user takes and brings: CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID,
/// LINUX_IMMUTABLE, MKNOD, MAC_OVERRIDE.
const OF_FILES: u64 = 0x1f | 1 << 9 | 1 << cap::MKNOD | 1 << 32;

/// Installs changed user ids; capabilities follow them (capabilities(7), "Effect of user ID changes on capabilities").
fn commit(mut new: Credentials) -> SysResult {
    let old = current().creds();
    if new.securebits & SECBIT_NO_SETUID_FIXUP == 0 {
        let is_root = |of: &Credentials| of.uid == 0 || of.euid == 0 || of.suid == 0;
        if is_root(&old) && !is_root(&new) {
            if new.securebits & KEEP_CAPS == 0 {
                new.cap_permitted = 0;
                new.cap_effective = 0;
            }
            new.cap_ambient = 0;
        }
        if old.euid == 0 && new.euid != 0 {
            new.cap_effective = 0;
        }
        if old.euid != 0 && new.euid == 0 {
            new.cap_effective = new.cap_permitted;
        }
    }
    install(new);
    Ok(0)
}

fn copy() -> Credentials {
    (*current().creds()).clone()
}

pub fn sys_setuid(uid: u32) -> SysResult {
    let mut new = copy();
    if uid == KEEP {
        return Err(Errno::EINVAL);
    }
    if new.has_cap(cap::SETUID) {
        new.uid = uid;
        new.suid = uid;
    } else if uid != new.uid && uid != new.suid {
        return Err(Errno::EPERM);
    }
    new.euid = uid;
    new.fsuid = uid;
    commit(new)
}

pub fn sys_setgid(gid: u32) -> SysResult {
    let mut new = copy();
    if gid == KEEP {
        return Err(Errno::EINVAL);
    }
    if new.has_cap(cap::SETGID) {
        new.gid = gid;
        new.sgid = gid;
    } else if gid != new.gid && gid != new.sgid {
        return Err(Errno::EPERM);
    }
    new.egid = gid;
    new.fsgid = gid;
    commit(new)
}

pub fn sys_setreuid(ruid: u32, euid: u32) -> SysResult {
    let old = current().creds();
    let mut new = copy();
    let privileged = old.has_cap(cap::SETUID);
    if ruid != KEEP {
        if !privileged && ruid != old.uid && ruid != old.euid {
            return Err(Errno::EPERM);
        }
        new.uid = ruid;
    }
    if euid != KEEP {
        if !privileged && ![old.uid, old.euid, old.suid].contains(&euid) {
            return Err(Errno::EPERM);
        }
        new.euid = euid;
    }
    if ruid != KEEP || euid != KEEP && euid != old.uid {
        new.suid = new.euid;
    }
    new.fsuid = new.euid;
    commit(new)
}

pub fn sys_setregid(rgid: u32, egid: u32) -> SysResult {
    let old = current().creds();
    let mut new = copy();
    let privileged = old.has_cap(cap::SETGID);
    if rgid != KEEP {
        if !privileged && rgid != old.gid && rgid != old.egid {
            return Err(Errno::EPERM);
        }
        new.gid = rgid;
    }
    if egid != KEEP {
        if !privileged && ![old.gid, old.egid, old.sgid].contains(&egid) {
            return Err(Errno::EPERM);
        }
        new.egid = egid;
    }
    if rgid != KEEP || egid != KEEP && egid != old.gid {
        new.sgid = new.egid;
    }
    new.fsgid = new.egid;
    commit(new)
}

pub fn sys_setresuid(ruid: u32, euid: u32, suid: u32) -> SysResult {
    let old = current().creds();
    let mut new = copy();
    let own = [old.uid, old.euid, old.suid];
    if !old.has_cap(cap::SETUID) && [ruid, euid, suid].iter().any(|id| *id != KEEP && !own.contains(id)) {
        return Err(Errno::EPERM);
    }
    let pick = |id: u32, old: u32| if id == KEEP { old } else { id };
    new.uid = pick(ruid, old.uid);
    new.euid = pick(euid, old.euid);
    new.suid = pick(suid, old.suid);
    new.fsuid = new.euid;
    commit(new)
}

pub fn sys_setresgid(rgid: u32, egid: u32, sgid: u32) -> SysResult {
    let old = current().creds();
    let mut new = copy();
    let own = [old.gid, old.egid, old.sgid];
    if !old.has_cap(cap::SETGID) && [rgid, egid, sgid].iter().any(|id| *id != KEEP && !own.contains(id)) {
        return Err(Errno::EPERM);
    }
    let pick = |id: u32, old: u32| if id == KEEP { old } else { id };
    new.gid = pick(rgid, old.gid);
    new.egid = pick(egid, old.egid);
    new.sgid = pick(sgid, old.sgid);
    new.fsgid = new.egid;
    commit(new)
}

pub fn sys_getresuid(ruid: UserAddr, euid: UserAddr, suid: UserAddr) -> SysResult {
    let own = current().creds();
    UserPtr::new(ruid).write(&own.uid)?;
    UserPtr::new(euid).write(&own.euid)?;
    UserPtr::new(suid).write(&own.suid)?;
    Ok(0)
}

pub fn sys_getresgid(rgid: UserAddr, egid: UserAddr, sgid: UserAddr) -> SysResult {
    let own = current().creds();
    UserPtr::new(rgid).write(&own.gid)?;
    UserPtr::new(egid).write(&own.egid)?;
    UserPtr::new(sgid).write(&own.sgid)?;
    Ok(0)
}

/// Answers the old id whether or not the new one was allowed.
pub fn sys_setfsuid(uid: u32) -> SysResult {
    let old = current().creds();
    if uid != KEEP && (old.has_cap(cap::SETUID) || [old.uid, old.euid, old.suid, old.fsuid].contains(&uid)) {
        let mut new = copy();
        new.fsuid = uid;
        if new.securebits & SECBIT_NO_SETUID_FIXUP == 0 {
            if old.fsuid == 0 && uid != 0 {
                new.cap_effective &= !OF_FILES;
            }
            if old.fsuid != 0 && uid == 0 {
                new.cap_effective |= new.cap_permitted & OF_FILES;
            }
        }
        install(new);
    }
    Ok(old.fsuid as usize)
}

pub fn sys_setfsgid(gid: u32) -> SysResult {
    let old = current().creds();
    if gid != KEEP && (old.has_cap(cap::SETGID) || [old.gid, old.egid, old.sgid, old.fsgid].contains(&gid)) {
        let mut new = copy();
        new.fsgid = gid;
        commit(new)?;
    }
    Ok(old.fsgid as usize)
}

pub fn sys_getuid() -> SysResult {
    Ok(current().creds().uid as usize)
}

pub fn sys_geteuid() -> SysResult {
    Ok(current().creds().euid as usize)
}

pub fn sys_getgid() -> SysResult {
    Ok(current().creds().gid as usize)
}

pub fn sys_getegid() -> SysResult {
    Ok(current().creds().egid as usize)
}

pub fn sys_getgroups(size: i32, list: UserAddr) -> SysResult {
    let own = current().creds();
    let count = own.groups.len();
    if size < 0 || size > 0 && (size as usize) < count {
        return Err(Errno::EINVAL);
    }
    if size > 0 {
        UserPtr::new(list).write_slice(&own.groups)?;
    }
    Ok(count)
}

pub fn sys_setgroups(size: i32, list: UserAddr) -> SysResult {
    let mut new = copy();
    if !new.has_cap(cap::SETGID) {
        return Err(Errno::EPERM);
    }
    if !(0..=NGROUPS_MAX).contains(&size) {
        return Err(Errno::EINVAL);
    }
    // Sorted, as Linux keeps and shows them.
    let mut groups = UserPtr::<u32>::new(list).read_vec(size as usize)?;
    groups.sort_unstable();
    new.groups = groups.into();
    install(new);
    Ok(0)
}

/// Versions of `struct __user_cap_header_struct` and how many data words each has.
const VERSIONS: [(u32, usize); 3] = [(0x1998_0330, 1), (0x2007_1026, 2), (0x2008_0522, 2)];

/// Reads the header: EINVAL (and the preferred version written back) for an unknown one.
fn cap_header(header: UserAddr) -> Result<(usize, i32), Errno> {
    let pointer = UserPtr::<[u32; 2]>::new(header);
    let [version, pid] = pointer.read()?;
    match VERSIONS.iter().find(|(known, _)| *known == version) {
        Some((_, words)) => Ok((*words, pid as i32)),
        None => {
            pointer.write(&[VERSIONS[2].0, pid])?;
            Err(Errno::EINVAL)
        }
    }
}

pub fn sys_capget(header: UserAddr, data: UserAddr) -> SysResult {
    let (words, pid) = match cap_header(header) {
        Err(Errno::EINVAL) if data.is_null() => return Ok(0),
        result => result?,
    };
    if pid < 0 {
        return Err(Errno::EINVAL);
    }
    let own = match pid as u32 {
        0 => current().creds(),
        pid => match crate::task::find_task(pid) {
            Some(task) => task.creds(),
            None => crate::task::find_process(pid).ok_or(Errno::ESRCH)?.creds(),
        },
    };
    for word in 0..words {
        let half = |set: u64| (set >> (32 * word)) as u32;
        let triple = [half(own.cap_effective), half(own.cap_permitted), half(own.cap_inheritable)];
        UserPtr::<[u32; 3]>::new(data).at(word)?.write(&triple)?;
    }
    Ok(0)
}

pub fn sys_capset(header: UserAddr, data: UserAddr) -> SysResult {
    let (words, pid) = cap_header(header)?;
    if pid != 0 && pid as u32 != current().tid() {
        return Err(Errno::EPERM);
    }
    let mut sets = [0u64; 3];
    for word in 0..words {
        let triple = UserPtr::<[u32; 3]>::new(data).at(word)?.read()?;
        for (set, half) in sets.iter_mut().zip(triple) {
            *set |= u64::from(half) << (32 * word);
        }
    }
    let [effective, permitted, inheritable] = sets.map(|set| set & ((1 << (cap::LAST + 1)) - 1));
    let mut new = copy();
    let may_inherit = new.cap_inheritable | new.cap_permitted | if new.has_cap(cap::SETPCAP) { u64::MAX } else { 0 };
    if inheritable & !may_inherit != 0
        || inheritable & !(new.cap_inheritable | new.cap_bounding) != 0
        || permitted & !new.cap_permitted != 0
        || effective & !permitted != 0
    {
        return Err(Errno::EPERM);
    }
    new.cap_effective = effective;
    new.cap_permitted = permitted;
    new.cap_inheritable = inheritable;
    new.cap_ambient &= permitted & inheritable;
    install(new);
    Ok(0)
}
