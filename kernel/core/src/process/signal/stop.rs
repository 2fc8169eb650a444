//! Stopping and continuing whole processes, and telling their parents.

use super::state::{SIG_IGN, sa};
use crate::prelude::*;
use crate::sync::{Park, WaitKind, WaitReason};
use crate::task::siginfo::{SIGCHLD, SigInfo};
use crate::task::task::attention;
use core::sync::atomic::Ordering;

const CLD_STOPPED: i32 = 5;
const CLD_CONTINUED: i32 = 6;

fn tell_parent(process: &Arc<Process>, code: i32, signal: u32) {
    crate::task::tree::note_report(process);
    let Some(parent) = process.parent() else { return };
    let action = parent.signal.action(SIGCHLD);
    if action.flags & sa::NOCLDSTOP == 0 && action.handler != SIG_IGN {
        let uid = process.creds().uid;
        super::send_to_process(&parent, SigInfo::child(code, process.pid, uid, signal as i32, 0, 0));
    }
    parent.life.child_changed.wake_all();
}

/// Stops the calling thread's process by `signal`; returns when it goes on or is killed. `nr_continues` is from before the
/// signal was taken: a SIGCONT since then cancels it.
pub fn stop(signal: u32, nr_continues: u32) {
    let process = current().process.clone();
    let fresh = {
        let mut state = process.life.stop.lock();
        if process.life.nr_continues.load(Ordering::Relaxed) != nr_continues {
            return;
        }
        let fresh = process.life.stopped_by.swap(signal, Ordering::AcqRel) == 0;
        state.report_stop = true;
        state.report_continue = false;
        fresh
    };
    if fresh {
        let others: Vec<_> =
            process.threads.lock().iter().filter(|task| task.tid() != current().tid()).cloned().collect();
        for task in &others {
            super::send::kick(task);
        }
        tell_parent(&process, CLD_STOPPED, signal);
    }
    stay_stopped();
}

/// Sleeps while the process is stopped.
pub fn stay_stopped() {
    let life = &current().process.life;
    let signal = u64::from(life.stopped_by());
    let running = || (life.stopped_by() == 0).then_some(());
    // Only SIGKILL and SIGCONT end it.
    let _ = Park::park_until(WaitMode::Killable, None, WaitReason::on(WaitKind::Stopped, signal), running);
}

/// SIGCONT was sent: the process goes on, whatever becomes of the signal itself.
pub fn resume(process: &Arc<Process>) {
    let was = {
        let mut state = process.life.stop.lock();
        let was = process.life.stopped_by.swap(0, Ordering::AcqRel);
        process.life.nr_continues.fetch_add(1, Ordering::AcqRel);
        state.report_stop = false;
        state.report_continue |= was != 0;
        was
    };
    if was == 0 {
        return;
    }
    let threads = process.threads.lock().to_vec();
    for task in &threads {
        task.unpark();
    }
    tell_parent(process, CLD_CONTINUED, crate::task::siginfo::SIGCONT);
}

/// For [`stop`].
pub fn nr_continues(task: &Task) -> u32 {
    task.process.life.nr_continues.load(Ordering::Acquire)
}

/// Whether the calling thread must stop now.
pub fn is_stopped(task: &Task) -> bool {
    task.process.life.stopped_by() != 0 && task.attention.load(Ordering::Acquire) & attention::KILL == 0
}
