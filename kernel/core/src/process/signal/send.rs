//! Generation: who gets a signal, whether it counts at all, and waking whoever takes it.

use super::slot::Slot;
use super::state::{Action, SIG_DFL, SIG_IGN, bit, sa};
use super::stop;
use crate::prelude::*;
use crate::process::exit::nudge;
use crate::task::credentials::cap;
use crate::task::siginfo::{
    SIGCHLD, SIGCONT, SIGHUP, SIGKILL, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH, SigInfo, SigSet,
};
use crate::task::task::attention;
use crate::task::{Process, process_group, tree};
use core::ops::ControlFlow;
use core::sync::atomic::Ordering;

pub const STOP_SIGNALS: u64 = bit(SIGSTOP) | bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU);
const IGNORED_BY_DEFAULT: u64 = bit(SIGCHLD) | bit(SIGCONT) | bit(SIGURG) | bit(SIGWINCH);

fn is_ignored(action: &Action, signal: u32) -> bool {
    action.handler == SIG_IGN || action.handler == SIG_DFL && SigSet(IGNORED_BY_DEFAULT).contains(signal)
}

/// Makes a thread look at its signals: ends interruptible sleeps, interrupts user mode on another CPU.
pub fn kick(task: &Arc<Task>) {
    task.set_attention(attention::SIGNAL);
    task.unpark();
    nudge(task);
}

/// SIGKILL ends every thread at once.
fn kill(process: &Arc<Process>) {
    process.life.begin_end(SIGKILL);
    let threads = process.threads.lock().to_vec();
    for task in &threads {
        task.set_attention(attention::KILL);
        task.unpark();
        nudge(task);
    }
}

/// Stop and continue signals cancel each other when they are sent.
fn cancel_opposites(process: &Arc<Process>, signal: u32) {
    let cancelled = if signal == SIGCONT {
        STOP_SIGNALS
    } else if SigSet(STOP_SIGNALS).contains(signal) {
        bit(SIGCONT)
    } else {
        return;
    };
    process.signal.pending.discard(cancelled);
    let threads = process.threads.lock().to_vec();
    for task in &threads {
        task.signal.pending.discard(cancelled);
    }
    if signal == SIGCONT {
        stop::resume(process);
    }
}

/// Whether sending `signal` changes nothing: ignored, or without a handler of pid 1's, and not blocked. What is blocked stays
/// pending for sigwaitinfo(2), signalfd(2) or a handler to come.
fn has_no_effect(process: &Process, target: Option<&Task>, signal: u32) -> bool {
    let action = process.signal.action(signal);
    let is_init = process.pid == 1;
    if is_init && matches!(signal, SIGKILL | SIGSTOP) {
        return true;
    }
    if !(is_init && action.handler == SIG_DFL || is_ignored(&action, signal)) {
        return false;
    }
    let blocked =
        |task: &Task| SigSet(task.signal.mask() | task.signal.wait_set.load(Ordering::Acquire)).contains(signal);
    match target {
        Some(task) => !blocked(task),
        None => !process.threads.lock().iter().any(|task| blocked(task)),
    }
}

/// Answers false when the signal is ignored: nobody will ever take it. EAGAIN: see [`PendingSet::push`].
fn send(
    process: &Arc<Process>,
    target: Option<&Arc<Task>>,
    info: SigInfo,
    timer: Option<&Arc<Slot>>,
) -> Result<bool, Errno> {
    let signal = info.signo as u32;
    if !(1..=64).contains(&signal) {
        return Ok(false);
    }
    cancel_opposites(process, signal);
    if has_no_effect(process, target.map(|task| &**task), signal) {
        return Ok(false);
    }
    if signal == SIGKILL {
        kill(process);
        return Ok(true);
    }
    match target {
        Some(task) => {
            task.signal.pending.push(info, &process.signal, timer)?;
            wake_if_wanted(task, signal);
        }
        None => {
            process.signal.pending.push(info, &process.signal, timer)?;
            if let Some(task) = choose(process, signal) {
                wake_if_wanted(&task, signal);
            }
        }
    }
    process.signal.poll.notify(crate::vfs::PollEvents::IN);
    Ok(true)
}

fn waits_for(task: &Task, signal: u32) -> bool {
    SigSet(task.signal.wait_set.load(Ordering::Acquire)).contains(signal)
}

fn wake_if_wanted(task: &Arc<Task>, signal: u32) {
    if !SigSet(task.signal.mask()).contains(signal) {
        kick(task);
    } else if waits_for(task, signal) {
        task.unpark();
    }
}

/// A thread that will take a process-directed signal: one that waits for it, the leader, any that does not block it.
fn choose(process: &Process, signal: u32) -> Option<Arc<Task>> {
    let threads = process.threads.lock();
    let open = |task: &&Arc<Task>| !SigSet(task.signal.mask()).contains(signal);
    let waiting = threads.iter().find(|task| waits_for(task, signal));
    let own = if crate::task::task::CURRENT.is_set() { current().tid() } else { 0 };
    let own = threads.iter().filter(open).find(|task| task.tid() == own);
    waiting.or(own).or_else(|| threads.iter().find(open)).cloned()
}

/// Sends to a process (any thread takes it). No permission check: see `may_signal`. Callable in IRQ context.
pub fn send_to_process(process: &Arc<Process>, info: SigInfo) {
    let _ = try_send_to_process(process, info);
}

/// As [`send_to_process`]: EAGAIN at RLIMIT_SIGPENDING.
pub fn try_send_to_process(process: &Arc<Process>, info: SigInfo) -> Result<(), Errno> {
    send(process, None, info, None).map(drop)
}

/// Sends a POSIX timer's signal, to one thread or to the process; answers false when it is ignored. For IRQ context.
pub fn send_timer(process: &Arc<Process>, target: Option<&Arc<Task>>, info: SigInfo, slot: &Arc<Slot>) -> bool {
    send(process, target, info, Some(slot)) == Ok(true)
}

/// Sends to one thread. Callable in IRQ context.
pub fn send_to_task(task: &Arc<Task>, info: SigInfo) {
    let _ = try_send_to_task(task, info);
}

/// As [`send_to_task`]: EAGAIN at RLIMIT_SIGPENDING.
pub fn try_send_to_task(task: &Arc<Task>, info: SigInfo) -> Result<(), Errno> {
    send(&task.process, Some(task), info, None).map(drop)
}

/// Sends to every process of a group (terminal signals). Callable in IRQ context.
pub fn send_to_group(pgid: u32, info: SigInfo) {
    tree::for_each_in_group(pgid, |process| send_to_process(&process, info));
}

/// kill(2)'s permission rule for the calling thread: EPERM.
pub fn may_signal(target: &Process, signal: u32) -> Result<(), Errno> {
    if target.pid == current().process.pid {
        return Ok(());
    }
    let (own, other) = (current().creds(), target.creds());
    let same = [other.uid, other.suid].iter().any(|uid| *uid == own.euid || *uid == own.uid);
    if same || own.has_cap(cap::KILL) {
        return Ok(());
    }
    if signal == SIGCONT && target.sid() == current().process.sid() {
        return Ok(());
    }
    Err(Errno::EPERM)
}

/// Whether `signal` is blocked or ignored by the calling thread (SIGTTIN/SIGTTOU rules of the terminal).
pub fn is_blocked_or_ignored(signal: u32) -> bool {
    let task = current();
    SigSet(task.signal.mask()).contains(signal) || task.process.signal.action(signal).handler == SIG_IGN
}

/// Whether `process` ignores `signal` by its own will (SIG_IGN).
pub fn is_discarded(process: &Process, signal: u32) -> bool {
    process.signal.action(signal).handler == SIG_IGN
}

/// Whether `process` ignores SIGCHLD or has SA_NOCLDWAIT: its children are reaped at once.
pub fn ignores_children(process: &Arc<Process>) -> bool {
    let action = process.signal.action(SIGCHLD);
    action.handler == SIG_IGN || action.flags & sa::NOCLDWAIT != 0
}

/// Whether group `pgid` of session `sid` has no member with a parent in another group of the session. `without` does not
/// count: it is leaving.
pub fn is_orphaned(pgid: u32, sid: u32, without: Option<u32>) -> bool {
    !process_group(pgid).iter().any(|member| {
        if Some(member.pid) == without || member.life.is_zombie() {
            return false;
        }
        let Some(parent) = member.parent() else { return false };
        Some(parent.pid) != without && parent.pid != 1 && parent.pgid() != pgid && parent.sid() == sid
    })
}

/// `process` is about to leave its group and its children: groups that become orphaned with stopped members get SIGHUP and
/// SIGCONT.
pub fn check_orphaned_groups(process: &Arc<Process>) {
    let (pgid, sid) = (process.pgid(), process.sid());
    let mut groups = Vec::new();
    // It links its own group to the session if its parent is in another group of it, and the groups of its children, if in others.
    if process.parent().is_some_and(|parent| parent.pgid() != pgid && parent.sid() == sid) {
        groups.push(pgid);
    }
    tree::TREE.lock().visit_children(process.pid, &mut |child| {
        let group = child.pgid();
        if group != pgid && groups.last() != Some(&group) {
            groups.push(group);
        }
        ControlFlow::Continue(())
    });
    groups.sort_unstable();
    groups.dedup();
    for pgid in groups {
        let stopped = process_group(pgid)
            .iter()
            .any(|member| member.pid != process.pid && member.sid() == sid && member.life.stopped_by() != 0);
        // It was not orphaned as long as this process linked it to the session.
        if stopped && !is_orphaned(pgid, sid, None) && is_orphaned(pgid, sid, Some(process.pid)) {
            send_to_group(pgid, SigInfo::kernel(SIGHUP));
            send_to_group(pgid, SigInfo::kernel(SIGCONT));
        }
    }
}
