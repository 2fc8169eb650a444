//! New threads and processes: clone(2), clone3(2), fork, vfork.

use super::{hooks, pidfd};
use crate::mm::AddressSpace;
use crate::prelude::*;
use crate::process::signal::{ProcessSignal, TaskSignal};
use crate::process::timers::ProcessTimers;
use crate::process::timers::timers;
use crate::sched::{self, TaskSched};
use crate::sync::{WaitKind, WaitReason};
use crate::task::credentials::cap;
use crate::task::life::{Life, VforkDone};
use crate::task::process::{Relations, rlimit};
use crate::task::siginfo::SIGCHLD;
use crate::task::task::Parts;
use crate::task::{Credentials, Process, tree};
use crate::time;
use base::slab::List;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32, Ordering};
use hal::context::KernelThread;
use hal::trap::UserContext;

/// clone(2) flags.
pub mod flag {
    pub const CSIGNAL: u64 = 0xff;
    pub const VM: u64 = 0x100;
    pub const FS: u64 = 0x200;
    pub const FILES: u64 = 0x400;
    pub const SIGHAND: u64 = 0x800;
    pub const PIDFD: u64 = 0x1000;
    pub const PTRACE: u64 = 0x2000;
    pub const VFORK: u64 = 0x4000;
    pub const PARENT: u64 = 0x8000;
    pub const THREAD: u64 = 0x1_0000;
    pub const NEWNS: u64 = 0x2_0000;
    pub const SYSVSEM: u64 = 0x4_0000;
    pub const SETTLS: u64 = 0x8_0000;
    pub const PARENT_SETTID: u64 = 0x10_0000;
    pub const CHILD_CLEARTID: u64 = 0x20_0000;
    pub const DETACHED: u64 = 0x40_0000;
    pub const UNTRACED: u64 = 0x80_0000;
    pub const CHILD_SETTID: u64 = 0x100_0000;
    pub const NEWCGROUP: u64 = 0x200_0000;
    pub const NEWUTS: u64 = 0x400_0000;
    pub const NEWIPC: u64 = 0x800_0000;
    pub const NEWUSER: u64 = 0x1000_0000;
    pub const NEWPID: u64 = 0x2000_0000;
    pub const NEWNET: u64 = 0x4000_0000;
    pub const IO: u64 = 0x8000_0000;
    pub const CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    pub const INTO_CGROUP: u64 = 0x2_0000_0000;
    pub const NEWTIME: u64 = 0x80;
    /// Namespaces: this kernel has one of each.
    pub const NAMESPACES: u64 = NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET;
}

/// What clone(2) and clone3(2) ask for.
#[derive(Clone, Copy, Default)]
pub struct CloneArgs {
    pub flags: u64,
    pub exit_signal: u32,
    pub pidfd: UserAddr,
    pub child_tid: UserAddr,
    pub parent_tid: UserAddr,
    /// The child's stack pointer; 0 keeps the parent's.
    pub stack: u64,
    pub tls: u64,
}

impl CloneArgs {
    /// The flag combinations that Linux refuses, in its order.
    fn check(&self) -> Result<(), Errno> {
        let has = |bits: u64| self.flags & bits == bits;
        let bad = has(flag::THREAD) && !has(flag::SIGHAND)
            || has(flag::SIGHAND) && !has(flag::VM)
            || has(flag::CLEAR_SIGHAND | flag::SIGHAND)
            || has(flag::PIDFD) && (has(flag::DETACHED) || has(flag::THREAD))
            || has(flag::PARENT) && current().process.pid == 1;
        if bad {
            return Err(Errno::EINVAL);
        }
        if self.flags & flag::NAMESPACES != 0 {
            let privileged = current().creds().has_cap(cap::SYS_ADMIN);
            return Err(if privileged { Errno::EINVAL } else { Errno::EPERM });
        }
        Ok(())
    }
}

/// The machine's limit, and RLIMIT_NPROC for users without the privilege to pass it.
fn check_task_limit(credentials: &Credentials, process: &Process) -> Result<(), Errno> {
    // The machine's own limit holds for everybody: a fork bomb, of zombies too, ends in EAGAIN, not in no memory.
    if tree::nr_ids() as u64 >= max_threads() {
        return Err(Errno::EAGAIN);
    }
    let limit = process.limit(rlimit::NPROC);
    if limit == rlimit::INFINITY {
        return Ok(());
    }
    let privileged =
        credentials.uid == 0 || credentials.has_cap(cap::SYS_RESOURCE) || credentials.has_cap(cap::SYS_ADMIN);
    if !privileged && tree::nr_ids_of(credentials.uid) as u64 >= limit {
        return Err(Errno::EAGAIN);
    }
    Ok(())
}

/// How many threads the machine carries (kernel.threads-max): their stacks may take an eighth of memory.
pub fn max_threads() -> u64 {
    (hal::frame::stats().total as u64 / 32).clamp(64, 32_000)
}

fn new_process(args: &CloneArgs, pid: u32, parent: &Arc<Process>) -> Arc<Process> {
    let limits = *parent.limits.lock();
    let (pgid, sid) = {
        let relations = parent.relations.lock();
        (relations.pgid, relations.sid)
    };
    let life = Life::new(args.exit_signal);
    life.dumpable.store(parent.life.dumpable.load(Ordering::Relaxed), Ordering::Relaxed);
    life.gave_terminal_up.store(parent.life.gave_terminal_up.load(Ordering::Relaxed), Ordering::Relaxed);
    life.remember_credentials(current().creds());
    Arc::new(Process {
        pid,
        ppid: AtomicU32::new(0),
        relations: IrqSpinLock::new(Relations::new(pgid, sid)),
        threads: IrqSpinLock::new(List::new()),
        signal: ProcessSignal::fork(&parent.signal, args.flags),
        timers: ProcessTimers::new(),
        limits: SpinLock::new(limits),
        life,
        executable: SpinLock::new(parent.executable.lock().clone()),
        start_time_ns: time::now_ns(),
        oom_score_adj: AtomicI32::new(parent.oom_score_adj.load(Ordering::Relaxed)),
        kernel_bytes: AtomicI64::new(0),
        makes_fail: AtomicBool::new(parent.makes_fail.load(Ordering::Relaxed)),
    })
}

fn child_memory(args: &CloneArgs) -> Result<Arc<AddressSpace>, Errno> {
    let space = current().address_space();
    if args.flags & flag::VM != 0 { Ok(space) } else { space.fork() }
}

/// Creates the thread or process `args` describes; answers its number in the parent.
pub fn clone(context: &UserContext, args: &CloneArgs) -> SysResult {
    args.check()?;
    let parent = current();
    let credentials = parent.creds();
    check_task_limit(&credentials, &parent.process)?;
    let thread = KernelThread::new(hooks::get().run_user_thread, 0)?;
    thread.inherit_fp();
    thread.set_takes_tags(parent.thread.takes_tags());
    let memory = child_memory(args)?;
    let files = if args.flags & flag::FILES != 0 { parent.files.get() } else { parent.files.get().fork()? };
    let tid = tree::allocate_id()?;
    let is_thread = args.flags & flag::THREAD != 0;
    let process = if is_thread { parent.process.clone() } else { new_process(args, tid, &parent.process) };
    let parts = Parts {
        files,
        fs: if args.flags & flag::FS != 0 { parent.fs.get() } else { parent.fs.get().fork() },
        mm: Some(memory),
        credentials,
        sched: TaskSched::fork(&parent.sched),
        signal: TaskSignal::fork(&parent.signal, args.flags),
        ipc: parent.ipc.fork(args.flags),
        name: *parent.name.lock(),
        personality: parent.personality.load(Ordering::Relaxed),
        timer_slack_ns: parent.timer_slack_ns.load(Ordering::Relaxed),
    };
    let task = Task::new(tid, process.clone(), thread, parts);
    (hooks::get().cloned)(parent, &task);

    let mut registers = context.clone();
    registers.x[0] = 0;
    if args.stack != 0 {
        registers.sp = args.stack;
    }
    if args.flags & flag::SETTLS != 0 {
        task.thread.set_user_pointer(args.tls);
    }
    *task.start.lock() = Some(Box::new(registers));
    if args.flags & flag::CHILD_SETTID != 0 {
        task.set_child_tid.store(args.child_tid.0, Ordering::Relaxed);
    }
    if args.flags & flag::CHILD_CLEARTID != 0 {
        task.clear_child_tid.store(args.child_tid.0, Ordering::Relaxed);
    }
    if let Err(errno) = tell_parent_of(args, tid, &process) {
        tree::release_id(tid);
        return Err(errno);
    }
    let vfork = (args.flags & flag::VFORK != 0)
        .then(|| Arc::new(VforkDone { done: AtomicBool::new(false), queue: WaitQueue::new() }));
    *process.life.vfork.lock() = vfork.clone().or_else(|| process.life.vfork.lock().take());

    join(&task, args, is_thread)?;
    sched::start(task);
    if let Some(vfork) = vfork {
        let done = || vfork.done.load(Ordering::Acquire).then_some(());
        // Only a fatal signal lets the parent go before the child is done with its memory.
        let _ = vfork.queue.wait_until(
            WaitMode::Killable,
            None,
            WaitReason::held_by(WaitKind::Vfork, u64::from(tid), tid),
            done,
        );
    }
    Ok(tid as usize)
}

/// Writes the child's number and pidfd to where the parent asked.
fn tell_parent_of(args: &CloneArgs, tid: u32, process: &Arc<Process>) -> Result<(), Errno> {
    if args.flags & flag::PARENT_SETTID != 0 {
        UserPtr::<u32>::new(args.parent_tid).write(&tid)?;
    }
    if args.flags & flag::PIDFD != 0 {
        let fd = pidfd::install(process.clone(), false)?;
        UserPtr::<u32>::new(args.pidfd).write(&(fd as u32))?;
    }
    Ok(())
}

/// Makes the child known. Otherwise its number is free again: ERESTARTNOINTR when the group is ending, and the child must not come into
/// being; ENOMEM.
fn join(task: &Arc<Task>, args: &CloneArgs, is_thread: bool) -> Result<(), Errno> {
    let process = &task.process;
    let entered = {
        let mut threads = process.threads.lock();
        match is_thread && (process.life.is_ending() || current().is_dying()) {
            true => Err(Errno::ERESTARTNOINTR),
            false => task.enter(&mut threads),
        }
    };
    if let Err(error) = entered {
        tree::release_id(task.tid());
        return Err(error);
    }
    tree::register_task(task);
    if is_thread {
        return Ok(());
    }
    let cpu_limit = process.limits.lock()[rlimit::CPU];
    timers::set_cpu_limit(process, cpu_limit);
    let own = &current().process;
    let is_sibling = args.flags & flag::PARENT != 0;
    let known = tree::register_process(process).and_then(|()| {
        let mut family = tree::TREE.lock();
        let real_parent = if is_sibling { own.parent() } else { None };
        family.adopt(real_parent.as_ref().unwrap_or(own), process)
    });
    if known.is_err() {
        tree::unregister_process(process.pid);
        task.leave();
        tree::unregister_task(task);
        return known;
    }
    let program = if is_sibling { &own.life.parent_exec_id } else { &own.life.exec_id };
    process.life.parent_exec_id.store(program.load(Ordering::Relaxed), Ordering::Relaxed);
    if is_sibling {
        process.life.exit_signal.store(own.life.exit_signal.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    Ok(())
}

/// The exit signal of fork(2).
pub const DEFAULT_EXIT_SIGNAL: u32 = SIGCHLD;
