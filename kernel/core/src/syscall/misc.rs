//! The machine: uname(2), sysinfo(2), host name, random numbers, the log, reboot(2).

use crate::prelude::*;
use crate::process::exit;
use crate::random;
use crate::task::credentials::cap;
use crate::task::{tree, uts};
use crate::user::read_cstring;
use core::sync::atomic::Ordering;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const NAME_BYTES: usize = 65;

pub fn sys_uname(buf: UserAddr) -> SysResult {
    let version = concat!("#1 SMP Crannog ", env!("CARGO_PKG_VERSION"));
    let fields: [&[u8]; 6] =
        [b"Linux", &uts::host_name(), uts::RELEASE.as_bytes(), version.as_bytes(), b"aarch64", &uts::domain_name()];
    let mut out = [0u8; 6 * NAME_BYTES];
    for (slot, field) in out.chunks_exact_mut(NAME_BYTES).zip(fields) {
        let len = field.len().min(NAME_BYTES - 1);
        slot[..len].copy_from_slice(&field[..len]);
    }
    UserPtr::new(buf).write_slice(&out)?;
    Ok(0)
}

fn read_name(name: UserAddr, len: i32) -> Result<Vec<u8>, Errno> {
    if !current().creds().has_cap(cap::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    if !(0..NAME_BYTES as i32).contains(&len) {
        return Err(Errno::EINVAL);
    }
    let mut bytes = Vec::new();
    bytes.try_resize(len as usize, 0)?;
    hal::user::copy_from_user(&mut bytes, name)?;
    Ok(bytes)
}

pub fn sys_sethostname(name: UserAddr, len: i32) -> SysResult {
    let name = read_name(name, len)?;
    uts::set_host_name(name);
    Ok(0)
}

pub fn sys_setdomainname(name: UserAddr, len: i32) -> SysResult {
    let name = read_name(name, len)?;
    uts::set_domain_name(name);
    Ok(0)
}

/// `struct sysinfo`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SysInfo {
    uptime: i64,
    loads: [u64; 3],
    total: u64,
    free: u64,
    shared: u64,
    buffer: u64,
    total_swap: u64,
    free_swap: u64,
    procs: u16,
    pad: u16,
    pad2: u32,
    total_high: u64,
    free_high: u64,
    unit: u32,
    end: u32,
}

pub fn sys_sysinfo(info: UserAddr) -> SysResult {
    let frames = hal::frame::stats();
    let page = PAGE_SIZE as u64;
    let sysinfo = SysInfo {
        uptime: (crate::time::now_ns() / 1_000_000_000) as i64,
        loads: crate::sched::load::averages(),
        total: frames.total as u64 * page,
        free: frames.free as u64 * page,
        shared: 0,
        buffer: 0,
        total_swap: 0,
        free_swap: 0,
        procs: tree::nr_tasks().min(u16::MAX as usize) as u16,
        pad: 0,
        pad2: 0,
        total_high: 0,
        free_high: 0,
        unit: 1,
        end: 0,
    };
    UserPtr::new(info).write(&sysinfo)?;
    Ok(0)
}

pub fn sys_getrandom(buf: UserAddr, len: usize, flags: u32) -> SysResult {
    const NONBLOCK: u32 = 1;
    const RANDOM: u32 = 2;
    const INSECURE: u32 = 4;
    if flags & !(NONBLOCK | RANDOM | INSECURE) != 0 || flags & (RANDOM | INSECURE) == RANDOM | INSECURE {
        return Err(Errno::EINVAL);
    }
    let mut dst = UserWriter::new(buf, len)?;
    let mut chunk = [0u8; 256];
    while dst.remaining() != 0 {
        let n = dst.remaining().min(chunk.len());
        random::fill(&mut chunk[..n]);
        match dst.write(&chunk[..n]) {
            Ok(_) => {}
            Err(errno) if dst.done() == 0 => return Err(errno),
            Err(_) => break,
        }
        if dst.done() % PAGE_SIZE == 0 {
            if current().has_signal() {
                break;
            }
            crate::sched::cond_resched();
        }
    }
    Ok(dst.done())
}

pub fn sys_syslog(kind: i32, buf: UserAddr, len: i32) -> SysResult {
    const READ: i32 = 2;
    const READ_ALL: i32 = 3;
    const READ_CLEAR: i32 = 4;
    const SIZE_UNREAD: i32 = 9;
    const SIZE_BUFFER: i32 = 10;
    let privileged = current().creds().has_cap(cap::SYSLOG) || current().creds().has_cap(cap::SYS_ADMIN);
    let is_for_all = matches!(kind, READ_ALL | SIZE_BUFFER) && crate::log::DMESG_RESTRICT.load(Ordering::Relaxed) == 0;
    if !privileged && !is_for_all {
        return Err(Errno::EPERM);
    }
    match kind {
        0 | 1 | 5 => Ok(0),
        READ | READ_ALL | READ_CLEAR => {
            if buf.is_null() || len < 0 {
                return Err(Errno::EINVAL);
            }
            let log = crate::log::dmesg();
            let start = log.len().saturating_sub(len as usize);
            UserPtr::new(buf).write_slice(&log[start..])?;
            Ok(log.len() - start)
        }
        6 => Ok(0),
        7 => Ok(0),
        8 if (1..=8).contains(&len) => {
            crate::log::set_console_level(len as u8);
            Ok(0)
        }
        SIZE_UNREAD => Ok(crate::log::dmesg().len()),
        SIZE_BUFFER => Ok(64 << 10),
        _ => Err(Errno::EINVAL),
    }
}

pub fn sys_reboot(magic1: u32, magic2: u32, cmd: u32, arg: UserAddr) -> SysResult {
    const MAGIC1: u32 = 0xfee1_dead;
    const MAGIC2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
    if !current().creds().has_cap(cap::SYS_BOOT) {
        return Err(Errno::EPERM);
    }
    if magic1 != MAGIC1 || !MAGIC2.contains(&magic2) {
        return Err(Errno::EINVAL);
    }
    match cmd {
        // CAD_ON, CAD_OFF: there is no Ctrl-Alt-Del to route.
        0x89ab_cdef | 0 => Ok(0),
        // HALT, POWER_OFF
        0xcdef_0123 | 0x4321_fedc => exit::power_off(0),
        0x0123_4567 => restart(),
        0xa1b2_c3d4 => {
            read_cstring(arg, 255, Errno::EINVAL)?;
            restart()
        }
        _ => Err(Errno::EINVAL),
    }
}

fn restart() -> ! {
    crate::fs::sync::shutdown();
    crate::machine::console::flush();
    hal::power::reset(0)
}
