//! Threads without user memory, and the one that becomes pid 1.

use crate::prelude::*;
use crate::process;
use crate::process::signal;
use crate::task::life::Life;
use crate::task::process::{Relations, initial_limits};
use crate::task::siginfo;
use crate::task::task::{Parts, Task, comm_bytes};
use crate::task::{Credentials, Process, tree};
use crate::vfs::FdTable;
use crate::vfs::FsContext;
use crate::{sched, time};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32};
use hal::context::KernelThread;
use spin::Once;

static KERNEL: Once<Arc<Process>> = Once::new();

fn new_process(pid: u32) -> Arc<Process> {
    Arc::new(Process {
        pid,
        ppid: AtomicU32::new(0),
        relations: IrqSpinLock::new(Relations::new(pid, pid)),
        threads: IrqSpinLock::new(base::slab::List::new()),
        signal: signal::ProcessSignal::new(),
        timers: process::timers::ProcessTimers::new(),
        limits: SpinLock::new(initial_limits()),
        life: Life::new(siginfo::SIGCHLD),
        executable: SpinLock::new(None),
        start_time_ns: time::now_ns(),
        oom_score_adj: AtomicI32::new(0),
        kernel_bytes: AtomicI64::new(0),
        makes_fail: AtomicBool::new(false),
    })
}

fn new_task(tid: u32, process: Arc<Process>, name: &str, thread: KernelThread) -> Arc<Task> {
    let parts = Parts {
        files: FdTable::new(),
        fs: FsContext::detached(),
        mm: None,
        credentials: Arc::new(Credentials::root()),
        sched: sched::TaskSched::new(),
        signal: signal::TaskSignal::new(),
        ipc: Default::default(),
        name: comm_bytes(name.as_bytes()),
        personality: 0,
        timer_slack_ns: crate::task::task::DEFAULT_TIMER_SLACK_NS,
    };
    Task::new(tid, process, thread, parts)
}

/// A task without user memory: idle tasks (tid 0) and, through `spawn_kernel_thread`, kernel threads. All belong to a process
/// of number 0 that nobody sees.
pub fn new_kernel_task(name: &str, thread: KernelThread) -> Arc<Task> {
    let process = KERNEL.call_once(|| new_process(0)).clone();
    new_task(0, process, name, thread)
}

/// A CPU's idle task, which runs on `thread`.
pub fn new_idle_task(thread: KernelThread) -> Arc<Task> {
    new_kernel_task("idle", thread)
}

/// First function of a kernel thread.
fn enter(_argument: usize) -> ! {
    sched::finish_switch();
    hal::cpu::enable_irqs();
    let body = current().body.lock().take();
    if let Some(body) = body {
        body();
    }
    let task = current();
    tree::unregister_task(task);
    task.leave();
    sched::exit_current()
}

fn start(task: &Arc<Task>, body: fn()) {
    *task.body.lock() = Some(body);
    if task.enter(&mut task.process.threads.lock()).is_err() {
        panic!("no memory for a kernel thread");
    }
    tree::register_task(task);
    sched::start(task.clone());
}

fn new_thread() -> KernelThread {
    match KernelThread::new(enter, 0) {
        Ok(thread) => thread,
        Err(_) => panic!("no memory for a kernel thread"),
    }
}

/// Starts a kernel thread that runs `body` with IRQs enabled; it ends when `body` returns. Boot-time only: panics when there
/// is no memory or number for it.
pub fn spawn_kernel_thread(name: &str, body: fn()) -> Arc<Task> {
    let process = KERNEL.call_once(|| new_process(0)).clone();
    let Ok(tid) = tree::allocate_id() else { panic!("no thread number") };
    let task = new_task(tid, process, name, new_thread());
    start(&task, body);
    task
}

/// Starts the task that runs `body` in the kernel and then becomes pid 1 by execve.
pub fn start_init_task(body: fn()) {
    let Ok(pid) = tree::allocate_id() else { panic!("no process number") };
    let process = new_process(pid);
    if tree::register_process(&process).is_err() {
        panic!("no memory for the first process");
    }
    let task = new_task(pid, process, "init", new_thread());
    start(&task, body);
}
