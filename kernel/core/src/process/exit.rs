//! How threads and processes end: exit(2), exit_group(2), fatal signals; zombies, orphans, the end of pid 1.

use super::hooks;
use crate::prelude::*;
use crate::process::signal;
use crate::sched;
use crate::task::life::{REAPED, Status, ZOMBIE};
use crate::task::siginfo::{SIGCHLD, SigInfo};
use crate::task::task::attention;
use crate::task::{Process, tree};
use crate::vfs::FdTable;
use core::sync::atomic::Ordering;

/// Ends the whole group with `status`; never returns. The first caller's status counts.
pub fn exit_group(status: Status) -> ! {
    let process = &current().process;
    if process.life.begin_end(status) {
        kill_siblings();
    }
    exit_thread(process.life.status())
}

/// The calling thread saw attention::KILL: its group ends, or another thread's execve wants it gone.
pub fn leave_dying_group() -> ! {
    exit_thread(current().process.life.status())
}

/// Tells every other thread of the group to end. Answers how many there are.
pub fn kill_siblings() -> usize {
    let own = current();
    let others: Vec<_> = own.process.threads.lock().iter().filter(|task| task.tid() != own.tid()).cloned().collect();
    for task in &others {
        task.set_attention(attention::KILL);
        task.unpark();
        nudge(task);
    }
    others.len()
}

/// Makes a task that may be in user mode on another CPU look at its attention word.
pub fn nudge(task: &Task) {
    if task.thread.is_on_cpu() {
        let cpu = task.sched.last_cpu() as usize;
        if cpu != hal::cpu::id() {
            crate::irq::send_ipi(cpu, drivers::traits::Ipi::Reschedule);
        }
    }
}

/// Ends the calling thread; the last one ends the process.
pub fn exit_thread(status: Status) -> ! {
    let task = current();
    let process = task.process.clone();
    (hooks::get().thread_ends)(status);
    release_memory(task);
    (hooks::get().memory_is_gone)(task);
    release_files(task);

    let (user, system) = task.cpu_times();
    process.life.dead_user_ns.fetch_add(user, Ordering::Relaxed);
    process.life.dead_system_ns.fetch_add(system, Ordering::Relaxed);
    process.life.remember_credentials(task.creds());
    if task.tid() == process.pid {
        *process.life.last_sched.lock() = task.sched.remember();
    }
    signal::on_thread_exit(task);
    let last = task.leave();
    tree::unregister_task(task);
    // Nobody takes what is pending any more; its user has the places back before anybody hears of the end.
    task.signal.pending.discard(u64::MAX);
    if last {
        process.signal.pending.discard(u64::MAX);
        process.life.set_status(status);
        exit_process(&process);
    } else {
        process.life.thread_gone.wake_all();
    }
    drop(process);
    sched::exit_current()
}

/// clear_child_tid, vfork's parent, then the address space itself.
pub fn release_memory(task: &'static Task) {
    let clear = task.clear_child_tid.swap(0, Ordering::Relaxed);
    if clear != 0 && task.mm.get().is_some() {
        let addr = UserAddr(clear);
        if UserPtr::<u32>::new(addr).write(&0).is_ok() {
            (hooks::get().word_cleared)(addr);
        }
    }
    if let Some(space) = task.mm.get() {
        let (_, _, peak) = space.sizes();
        task.process.life.peak_resident_pages.fetch_max(peak, Ordering::Relaxed);
        drop(space);
        sched::switch_translation(None);
        drop(task.mm.replace(None));
    }
    finish_vfork(&task.process);
}

/// Lets the parent of a vforked child go on (the child has execed or ended).
pub fn finish_vfork(process: &Process) {
    let waiting = process.life.vfork.lock().take();
    if let Some(waiting) = waiting {
        waiting.done.store(true, Ordering::Release);
        waiting.queue.wake_all();
    }
}

fn release_files(task: &'static Task) {
    if let Some(files) = Arc::into_inner(task.files.replace(FdTable::closed())) {
        files.close_all();
    }
    drop(task.fs.replace(crate::vfs::FsContext::detached()));
}

/// The last thread is gone: children find a new parent, the parent hears, the zombie waits to be reaped.
fn exit_process(process: &Arc<Process>) {
    if process.pid == 1 {
        end_machine(process.life.status());
    }
    process.timers.clear();
    if process.pid == process.sid() {
        (hooks::get().session_leader_ended)(process.sid());
    }
    *process.executable.lock() = None;
    signal::check_orphaned_groups(process);
    // A child that nobody is to wait for is none by the time a waiting parent could see it.
    let leaves_zombie = !process.parent().is_some_and(|parent| reaps_at_once(process, &parent));
    // One by one: there may be many, and interrupts are masked meanwhile.
    loop {
        let mut family = tree::TREE.lock();
        let Some(child) = family.first_child(process.pid) else {
            process.life.state.store(if leaves_zombie { ZOMBIE } else { REAPED }, Ordering::Release);
            break;
        };
        family.disown(&child);
        // There is room for it: it was a child just now.
        if tree::heir(process).is_none_or(|heir| family.adopt(&heir, &child).is_err()) {
            continue;
        }
        // Whoever inherits a child is told as usual, and only with SIGCHLD.
        child.life.exit_signal.store(SIGCHLD, Ordering::Relaxed);
        drop(family);
        let death_signal = child.life.parent_death_signal.load(Ordering::Relaxed);
        // As if the parent had sent it: whom it may not signal, it does not end by dying.
        if death_signal != 0 && signal::may_signal(&child, death_signal).is_ok() {
            signal::send_to_process(&child, SigInfo::from_current(death_signal));
        }
        if child.life.is_zombie() {
            tell_parent(&child);
        }
    }
    tree::note_report(process);
    process.life.exit_poll.notify(crate::vfs::PollEvents::IN);
    tell_parent(process);
}

/// What `parent` is sent at the end of `process`; 0 is nothing.
fn exit_signal(process: &Process, parent: &Process) -> u32 {
    if process.life.parent_exec_id.load(Ordering::Relaxed) != parent.life.exec_id.load(Ordering::Acquire) {
        // The parent is another program than the one that asked for a signal of its own.
        return SIGCHLD;
    }
    process.life.exit_signal.load(Ordering::Relaxed)
}

/// Whether the parent wants no zombie of the child.
fn reaps_at_once(process: &Process, parent: &Arc<Process>) -> bool {
    exit_signal(process, parent) == SIGCHLD && signal::ignores_children(parent)
}

/// Sends the exit signal and wakes waiters; a parent that ignores SIGCHLD reaps at once.
fn tell_parent(process: &Arc<Process>) {
    let Some(parent) = process.parent() else {
        super::wait::reap(process);
        return;
    };
    let number = exit_signal(process, &parent);
    let reap_now = process.life.state.load(Ordering::Acquire) == REAPED || reaps_at_once(process, &parent);
    // Who ignores SIGCHLD is not sent it, blocked or not.
    if number != 0 && !(number == SIGCHLD && signal::is_discarded(&parent, SIGCHLD)) {
        let mut info = child_info(process);
        info.signo = number as i32;
        signal::send_to_process(&parent, info);
    }
    if reap_now {
        super::wait::reap(process);
    }
    parent.life.child_changed.wake_all();
}

/// The SIGCHLD information of a process that ended.
pub fn child_info(process: &Process) -> SigInfo {
    const CLD_EXITED: i32 = 1;
    const CLD_KILLED: i32 = 2;
    const CLD_DUMPED: i32 = 3;
    let status = process.life.status();
    let (code, value) = match status & 0x7f {
        0 => (CLD_EXITED, (status >> 8 & 0xff) as i32),
        signal if status & 0x80 != 0 => (CLD_DUMPED, signal as i32),
        signal => (CLD_KILLED, signal as i32),
    };
    let (user, system) = process.cpu_times();
    SigInfo::child(code, process.pid, process.creds().uid, value, user / 10_000_000, system / 10_000_000)
}

/// The status a shell would report: the exit code, or 128 + the signal.
fn shell_status(status: Status) -> u8 {
    match status & 0x7f {
        0 => (status >> 8) as u8,
        signal => (128 + signal) as u8,
    }
}

/// pid 1 ended: so does the machine, with its status on the log port.
fn end_machine(status: Status) -> ! {
    power_off(shell_status(status))
}

/// Writes everything back and what is queued out, reports the status to the host and powers off.
pub fn power_off(status: u8) -> ! {
    (hooks::get().power_off)();
    let line = alloc::format!("\n[crannog] exit {status}\n");
    hal::early::write_log(line.as_bytes());
    hal::power::off(status)
}
