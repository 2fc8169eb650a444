//! Waiting for children: wait4(2), waitid(2), reaping.

use crate::prelude::*;
use crate::sync::{WaitKind, WaitReason};
use crate::task::life::{REAPED, ZOMBIE};
use crate::task::{Process, tree};
use core::ops::ControlFlow;
use core::sync::atomic::Ordering;

bitflags! {
    /// Options of wait4(2) and waitid(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Options: u32 {
        const NOHANG = 1;
        const STOPPED = 2;
        const EXITED = 4;
        const CONTINUED = 8;
        const NOWAIT = 0x0100_0000;
        const NOTHREAD = 0x2000_0000;
        const ALL = 0x4000_0000;
        const CLONE = 0x8000_0000;
    }
}

/// Which children are meant.
#[derive(Clone, Copy)]
pub enum Which {
    Any,
    Pid(u32),
    Group(u32),
}

impl Which {
    fn includes(self, process: &Process) -> bool {
        match self {
            Which::Any => true,
            Which::Pid(pid) => process.pid == pid,
            Which::Group(pgid) => process.pgid() == pgid,
        }
    }
}

/// What happened to a child.
pub struct Event {
    pub pid: u32,
    pub uid: u32,
    /// As wait4(2) reports it.
    pub status: u32,
    /// CLD_* code and value, as waitid(2) reports it.
    pub code: i32,
    pub value: i32,
    /// The child's resource usage, its own waited-for children included.
    pub usage: Usage,
}

/// CPU time in ns and memory, for `struct rusage`.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    pub user_ns: u64,
    pub system_ns: u64,
    pub peak_resident_pages: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
}

const CLD_STOPPED: i32 = 5;
const CLD_CONTINUED: i32 = 6;
const SIGCONT: i32 = 18;
const CONTINUED_STATUS: u32 = 0xffff;

fn usage_of(process: &Process) -> Usage {
    let (user, system) = process.cpu_times();
    let life = &process.life;
    Usage {
        user_ns: user + life.children_user_ns.load(Ordering::Relaxed),
        system_ns: system + life.children_system_ns.load(Ordering::Relaxed),
        peak_resident_pages: life
            .peak_resident_pages
            .load(Ordering::Relaxed)
            .max(life.children_peak_resident_pages.load(Ordering::Relaxed)),
        minor_faults: life.minor_faults.load(Ordering::Relaxed),
        major_faults: life.major_faults.load(Ordering::Relaxed),
        ..Usage::default()
    }
}

/// One look at one child: what there is to report, consumed unless NOWAIT.
fn look(child: &Arc<Process>, options: Options) -> Option<Event> {
    let event = |status: u32, code: i32, value: i32| Event {
        pid: child.pid,
        uid: child.creds().uid,
        status,
        code,
        value,
        usage: usage_of(child),
    };
    let consume = !options.contains(Options::NOWAIT);
    if options.contains(Options::EXITED) && child.life.is_zombie() {
        if consume && !claim(child) {
            return None;
        }
        let info = super::exit::child_info(child);
        return Some(event(child.life.status(), info.code, (info.fields[1] as u32) as i32));
    }
    if child.life.state.load(Ordering::Acquire) == REAPED {
        return None;
    }
    let mut stop = child.life.stop.lock();
    let signal = child.life.stopped_by();
    if options.contains(Options::STOPPED) && stop.report_stop && signal != 0 {
        stop.report_stop = !consume;
        drop(stop);
        return Some(event(signal << 8 | 0x7f, CLD_STOPPED, signal as i32));
    }
    if options.contains(Options::CONTINUED) && stop.report_continue {
        stop.report_continue = !consume;
        drop(stop);
        return Some(event(CONTINUED_STATUS, CLD_CONTINUED, SIGCONT));
    }
    None
}

/// Makes the caller the one who reaps the zombie.
fn claim(child: &Process) -> bool {
    child.life.state.compare_exchange(ZOMBIE, REAPED, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

/// Forgets a zombie: its number is free again.
pub fn reap(child: &Arc<Process>) {
    claim(child);
    forget(child);
}

fn forget(child: &Arc<Process>) {
    tree::TREE.lock().disown(child);
    tree::unregister_process(child.pid);
}

/// Whether the child is there to be waited for still, and its exit signal fits __WCLONE/__WALL.
fn kind_matches(child: &Process, options: Options) -> bool {
    if child.life.state.load(Ordering::Acquire) == REAPED {
        return false;
    }
    let is_clone = child.life.exit_signal.load(Ordering::Relaxed) != crate::task::siginfo::SIGCHLD;
    options.contains(Options::ALL) || is_clone == options.contains(Options::CLONE)
}

/// What the oldest child of many that has something to report reports: ECHILD when none is meant. Children with nothing to report are
/// not looked at, but to see whether there is any.
fn find_report(process: &Process, which: Which, options: Options) -> Result<Option<(Arc<Process>, Event)>, Errno> {
    let is_meant = |child: &Arc<Process>| which.includes(child) && kind_matches(child, options);
    let mut after = 0;
    loop {
        let next = tree::TREE.lock().next_report(process.pid, after);
        let Some((child, place)) = next else { break };
        if is_meant(&child)
            && let Some(event) = look(&child, options)
        {
            return Ok(Some((child, event)));
        }
        after = place;
    }
    let any = tree::TREE.lock().visit_children(process.pid, &mut |child| match is_meant(child) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    if any { Ok(None) } else { Err(Errno::ECHILD) }
}

/// Waits for an event of a child: ECHILD when there is none to wait for, ERESTARTSYS, `None` with NOHANG.
pub fn wait(which: Which, options: Options) -> Result<Option<Event>, Errno> {
    let process = &current().process;
    let attempt = || -> Option<Result<Option<Event>, Errno>> {
        let found = match which {
            Which::Pid(pid) => {
                let child = tree::find_process(pid).filter(|child| child.ppid() == process.pid);
                match child.filter(|child| kind_matches(child, options)) {
                    Some(child) => look(&child, options).map(|event| (child, event)),
                    None => return Some(Err(Errno::ECHILD)),
                }
            }
            Which::Any | Which::Group(_) => match find_report(process, which, options) {
                Ok(found) => found,
                Err(error) => return Some(Err(error)),
            },
        };
        let Some((child, event)) = found else { return options.contains(Options::NOHANG).then_some(Ok(None)) };
        if child.life.state.load(Ordering::Acquire) == REAPED {
            let life = &process.life;
            life.children_user_ns.fetch_add(event.usage.user_ns, Ordering::Relaxed);
            life.children_system_ns.fetch_add(event.usage.system_ns, Ordering::Relaxed);
            life.children_peak_resident_pages.fetch_max(event.usage.peak_resident_pages, Ordering::Relaxed);
            forget(&child);
        }
        Some(Ok(Some(event)))
    };
    let reason = match which {
        Which::Any => WaitReason::new(WaitKind::Wait),
        Which::Pid(pid) => WaitReason::held_by(WaitKind::Wait, u64::from(pid), pid),
        Which::Group(group) => WaitReason::on(WaitKind::Wait, u64::from(group)),
    };
    process.life.child_changed.wait_until(WaitMode::Interruptible, None, reason, attempt)?
}
