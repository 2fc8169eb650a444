//! getrusage(2), times(2).

use crate::prelude::*;
use crate::process::wait::Usage;
use crate::time::CLOCK_TICKS_PER_SECOND;
use crate::time::Timeval;
use core::sync::atomic::Ordering;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct rusage`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Rusage {
    utime: Timeval,
    stime: Timeval,
    /// KiB.
    maxrss: i64,
    unused: [i64; 3],
    minflt: i64,
    majflt: i64,
    more: [i64; 6],
    nvcsw: i64,
    nivcsw: i64,
}

impl Rusage {
    pub fn from_usage(usage: &Usage) -> Self {
        Self {
            utime: Timeval::from_ns(usage.user_ns),
            stime: Timeval::from_ns(usage.system_ns),
            maxrss: (usage.peak_resident_pages * 4) as i64,
            unused: [0; 3],
            minflt: usage.minor_faults as i64,
            majflt: usage.major_faults as i64,
            more: [0; 6],
            nvcsw: usage.voluntary_switches as i64,
            nivcsw: usage.involuntary_switches as i64,
        }
    }
}

fn own_usage() -> Usage {
    let process = &current().process;
    let (user_ns, system_ns) = process.cpu_times();
    let life = &process.life;
    let mut usage = Usage {
        user_ns,
        system_ns,
        peak_resident_pages: life.peak_resident_pages.load(Ordering::Relaxed),
        minor_faults: life.minor_faults.load(Ordering::Relaxed),
        major_faults: life.major_faults.load(Ordering::Relaxed),
        ..Usage::default()
    };
    if let Some(space) = current().mm.get() {
        usage.peak_resident_pages = usage.peak_resident_pages.max(space.sizes().2);
    }
    for task in process.threads.lock().iter() {
        usage.voluntary_switches += task.sched.voluntary_switches.load(Ordering::Relaxed);
        usage.involuntary_switches += task.sched.involuntary_switches.load(Ordering::Relaxed);
    }
    usage
}

const RUSAGE_SELF: i32 = 0;
const RUSAGE_CHILDREN: i32 = -1;
const RUSAGE_THREAD: i32 = 1;

pub fn sys_getrusage(who: i32, usage: UserAddr) -> SysResult {
    let task = current();
    let life = &task.process.life;
    let found = match who {
        RUSAGE_SELF => own_usage(),
        RUSAGE_CHILDREN => Usage {
            user_ns: life.children_user_ns.load(Ordering::Relaxed),
            system_ns: life.children_system_ns.load(Ordering::Relaxed),
            peak_resident_pages: life.children_peak_resident_pages.load(Ordering::Relaxed),
            ..Usage::default()
        },
        RUSAGE_THREAD => {
            let (user_ns, system_ns) = task.cpu_times();
            Usage {
                user_ns,
                system_ns,
                voluntary_switches: task.sched.voluntary_switches.load(Ordering::Relaxed),
                involuntary_switches: task.sched.involuntary_switches.load(Ordering::Relaxed),
                ..own_usage()
            }
        }
        _ => return Err(Errno::EINVAL),
    };
    UserPtr::new(usage).write(&Rusage::from_usage(&found))?;
    Ok(0)
}

const NS_PER_TICK: u64 = 1_000_000_000 / CLOCK_TICKS_PER_SECOND;

pub fn sys_times(buf: UserAddr) -> SysResult {
    let process = &current().process;
    let (user, system) = process.cpu_times();
    let life = &process.life;
    let children = (life.children_user_ns.load(Ordering::Relaxed), life.children_system_ns.load(Ordering::Relaxed));
    let times = [user, system, children.0, children.1].map(|ns| ns / NS_PER_TICK);
    UserPtr::new(buf).write_opt(&times)?;
    Ok((crate::time::now_ns() / NS_PER_TICK) as usize)
}
