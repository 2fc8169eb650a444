//! The switch itself: picking the next task, idle CPUs, preemption, the slice timer.

use super::queue::{RR_SLICE_NS, RunQueue, SLICE_NS, weight};
use super::{DEAD, NOTIFIED, PARKED, PARKING, RUNNABLE, account, need_resched, policy};
use crate::prelude::*;
use crate::task::task::CURRENT;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use drivers::traits::Ipi;
use hal::cpu::{IrqGuard, MAX_CPUS, PerCpu, set_reschedule};

struct Cpu {
    queue: IrqSpinLock<RunQueue>,
    /// When the slice timer is set to fire (monotonic ns); 0 is not at all.
    slice: AtomicU64,
    /// Id of the address space in TTBR0; 0 is none.
    space: AtomicU64,
    idle: IrqSpinLock<Option<Arc<Task>>>,
}

static CPUS: PerCpu<Cpu> = PerCpu::new(
    [const {
        Cpu {
            queue: IrqSpinLock::new(RunQueue::new()),
            slice: AtomicU64::new(0),
            space: AtomicU64::new(0),
            idle: IrqSpinLock::new(None),
        }
    }; MAX_CPUS],
);

/// Bit n: CPU n idles (waits in wfi or is about to).
static IDLE_MASK: AtomicU32 = AtomicU32::new(0);
/// Bit n: CPU n runs its idle loop and may be given tasks.
static ONLINE_MASK: AtomicU32 = AtomicU32::new(0);

/// Where a woken or new task goes: its last CPU, unless that is busy and another one it may use is idle.
fn choose_cpu(task: &Task) -> usize {
    if task.thread.is_on_cpu() {
        // Still leaving its stack: only that CPU may pick it, or two CPUs could wait for each other's stacks.
        return task.sched.last_cpu() as usize;
    }
    let allowed = task.sched.affinity.load(Ordering::Relaxed) as u32 & ONLINE_MASK.load(Ordering::Relaxed);
    let last = task.sched.last_cpu.load(Ordering::Relaxed) as usize;
    let idle = IDLE_MASK.load(Ordering::Relaxed) & allowed;
    if allowed == 0 {
        // No allowed CPU is up (yet): the boot CPU must do.
        return 0;
    }
    if idle >> last & 1 == 1 {
        return last;
    }
    if idle != 0 {
        return idle.trailing_zeros() as usize;
    }
    if allowed >> last & 1 == 1 { last } else { allowed.trailing_zeros() as usize }
}

/// Queues a task that was just unparked.
pub(super) fn enqueue_woken(task: Arc<Task>) {
    let own = hal::cpu::id();
    // A task that slept on this CPU while its waker runs here goes to the hand-over slot: the waker is likely to sleep.
    let last = task.sched.last_cpu.load(Ordering::Relaxed) as usize;
    if last == own
        && task.sched.may_run_on(own)
        && let Some(running) = CURRENT.try_get()
    {
        let irq = IrqGuard::new();
        let cpu = CPUS.get();
        let mut queue = cpu.queue.leaf(&irq);
        // Who goes to the slot waits for the running task to sleep; who is queued may be better than it.
        let preempt = match queue.push_next(task, running) {
            Ok(()) => false,
            Err(task) => {
                queue.push(task, true);
                queue.should_preempt(running)
            }
        };
        let waiting = queue.len();
        drop(queue);
        if preempt || running.tid() == 0 {
            set_reschedule(true);
        }
        arm_slice(cpu, running, waiting);
        if waiting > 1 {
            kick_idle();
        }
        return;
    }
    let target = choose_cpu(&task);
    push_to(target, task, true);
}

fn push_to(target: usize, task: Arc<Task>, woken: bool) {
    let irq = IrqGuard::new();
    task.sched.last_cpu.store(target as u32, Ordering::Relaxed);
    let mut queue = CPUS.on(target).queue.leaf(&irq);
    queue.push(task, woken);
    if target == hal::cpu::id() {
        let waiting = queue.len();
        let Some(running) = CURRENT.try_get() else { return };
        let preempt = running.tid() == 0 || queue.should_preempt(running);
        drop(queue);
        if preempt {
            set_reschedule(true);
        }
        arm_slice(CPUS.on(target), running, waiting);
    } else {
        drop(queue);
        crate::irq::send_ipi(target, Ipi::Reschedule);
    }
}

/// Wakes one idle CPU, if any, to steal.
fn kick_idle() {
    let own = hal::cpu::id();
    let idle = IDLE_MASK.load(Ordering::Relaxed) & !(1 << own);
    if idle != 0 {
        crate::irq::send_ipi(idle.trailing_zeros() as usize, Ipi::Reschedule);
    }
}

/// Puts a new task into a run queue for the first time.
pub fn start(task: Arc<Task>) {
    let target = choose_cpu(&task);
    push_to(target, task, false);
}

/// The running task's state after it leaves the CPU.
enum Leave {
    /// Back into the queue by its place.
    Preempted,
    /// Back into the queue behind its equals.
    Yielded,
    /// Not runnable.
    Asleep,
}

/// Switches to the next task at counter value `ticks`. A copy for each way to leave: who sleeps takes the shortest.
#[inline(always)]
fn schedule(task: &'static Task, leave: Leave, ticks: u64, irq: &IrqGuard) {
    let own = hal::cpu::id();
    let cpu = CPUS.get();
    set_reschedule(false);
    account::leave(task, ticks);
    let now = hal::time::ticks_to_ns(ticks);
    charge_vruntime(task, now);

    let mut queue = cpu.queue.leaf(irq);
    let idle = task.tid() == 0;
    if !matches!(leave, Leave::Asleep) && !idle && task.sched.may_run_on(own) {
        // Keep running when nobody better waits.
        if queue.len() == 0 {
            drop(queue);
            task.sched.run_start.store(now, Ordering::Relaxed);
            return;
        }
        let own_arc = CURRENT.get_arc();
        match leave {
            Leave::Preempted => queue.push_front(own_arc),
            _ => {
                if task.sched.effective_rt() == 0 {
                    // sched_yield: let everyone else of this queue go first.
                    let vruntime = task.sched.vruntime.load(Ordering::Relaxed);
                    task.sched.vruntime.store(vruntime + SLICE_NS, Ordering::Relaxed);
                }
                queue.push(own_arc, false);
            }
        }
    } else if !matches!(leave, Leave::Asleep) && !idle {
        // Its affinity no longer holds this CPU: `finish_switch` moves it.
        task.sched.migrate.store(1, Ordering::Release);
    }
    let next = queue.pop();
    let waiting = queue.len();
    drop(queue);
    let next = match next.or_else(|| steal(own)) {
        Some(next) => next,
        None if idle => return,
        None => match cpu.idle.lock().clone() {
            Some(idle) => idle,
            None => panic!("no idle task on CPU {own}"),
        },
    };
    if core::ptr::eq(&*next, task) {
        // Still the one to run; the others get their look at the end of its next slice.
        task.sched.run_start.store(now, Ordering::Relaxed);
        arm_slice(cpu, task, waiting);
        return;
    }
    if matches!(leave, Leave::Asleep) {
        add_one(&task.sched.voluntary_switches);
    } else {
        add_one(&task.sched.involuntary_switches);
    }
    account::arrive(&next, ticks);
    switch_to(cpu, own, next, now, waiting);
}

/// Counts what only the running task's CPU changes.
fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

fn charge_vruntime(task: &Task, now: u64) {
    let elapsed = now.saturating_sub(task.sched.run_start.load(Ordering::Relaxed));
    let nice = task.sched.nice.load(Ordering::Relaxed);
    let weighted = if nice == 0 { elapsed } else { elapsed.saturating_mul(1024) / weight(nice) };
    let vruntime = task.sched.vruntime.load(Ordering::Relaxed);
    task.sched.vruntime.store(vruntime.wrapping_add(weighted), Ordering::Relaxed);
    task.sched.run_start.store(now, Ordering::Relaxed);
}

#[inline(never)]
fn steal(own: usize) -> Option<Arc<Task>> {
    let online = hal::cpu::online();
    if online == 1 {
        return None;
    }
    for step in 1..MAX_CPUS {
        let victim = (own + step) % MAX_CPUS;
        if ONLINE_MASK.load(Ordering::Relaxed) >> victim & 1 == 0 {
            continue;
        }
        let stolen = CPUS.on(victim).queue.lock().steal(own);
        if stolen.is_some() {
            return stolen;
        }
    }
    None
}

#[inline(always)]
fn switch_to(cpu: &Cpu, own: usize, next: Arc<Task>, now: u64, waiting: usize) {
    next.sched.last_cpu.store(own as u32, Ordering::Relaxed);
    next.sched.run_start.store(now, Ordering::Relaxed);
    let id = next.mm.with(|mm| match mm {
        Some(mm) => {
            let id = mm.id();
            if cpu.space.load(Ordering::Relaxed) != id {
                mm.activate();
            }
            id
        }
        None => {
            if cpu.space.load(Ordering::Relaxed) != 0 {
                hal::mmu::deactivate();
            }
            0
        }
    });
    cpu.space.store(id, Ordering::Relaxed);
    // The previous task's reference stays with the CPU: whoever runs next here drops it, off that stack.
    CURRENT.replace(next);
    let next = current();
    arm_slice(cpu, next, waiting);
    hal::context::switch(&next.thread);
    // Some time later, perhaps on another CPU.
    finish_switch();
}

/// First thing on a new stack: drops the reference to the task that left this CPU. A new thread's entry calls it.
#[inline]
pub fn finish_switch() {
    if let Some(task) = CURRENT.take_left()
        && task.sched.migrate.load(Ordering::Acquire) != 0
    {
        migrate(task);
    }
}

/// A task that left, runnable (perhaps about to park) and in no queue, because its affinity did not hold this CPU: now it is off its
/// stack and may move.
#[cold]
fn migrate(task: Arc<Task>) {
    if task.sched.migrate.swap(0, Ordering::AcqRel) != 0 {
        let target = choose_cpu(&task);
        push_to(target, task, false);
    }
}

/// Makes `space`, an address space's number and translation, the calling CPU's (or none): execve and exit call it before the running
/// task's old space can go.
pub fn switch_translation(space: Option<(u64, &hal::mmu::Translation)>) {
    let _irq = IrqGuard::new();
    let cpu = CPUS.get();
    match space {
        Some((id, translation)) => {
            translation.activate();
            cpu.space.store(id, Ordering::Relaxed);
        }
        None => {
            hal::mmu::deactivate();
            cpu.space.store(0, Ordering::Relaxed);
        }
    }
}

/// Second half of parking, at counter value `ticks`: PARKING becomes PARKED and the CPU goes elsewhere, unless an unpark came first.
#[inline]
pub(super) fn park_current(task: &'static Task, ticks: u64, irq: &IrqGuard) {
    let state = &task.sched.state;
    match state.compare_exchange(PARKING, PARKED, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => schedule(task, Leave::Asleep, ticks, irq),
        Err(NOTIFIED) => state.store(RUNNABLE, Ordering::Release),
        Err(_) => {}
    }
}

/// Gives up the CPU to another runnable task, if there is one.
pub fn yield_now() {
    crate::sync::might_sleep();
    let irq = IrqGuard::new();
    schedule(current(), Leave::Yielded, hal::time::ticks(), &irq);
}

/// Switches if somebody better waits (return to user mode after `need_resched`).
pub fn preempt() {
    let irq = IrqGuard::new();
    // A fair task's place follows from its run time; a round-robin task goes behind its equals.
    let task = current();
    let round_robin = task.sched.policy() == policy::RR;
    schedule(task, if round_robin { Leave::Yielded } else { Leave::Preempted }, hal::time::ticks(), &irq);
}

/// Yields when the scheduler wants the CPU; for long loops in the kernel.
pub fn cond_resched() {
    if need_resched() && crate::sync::spin_depth() == 0 && hal::cpu::irqs_enabled() {
        preempt();
    }
}

/// Ends the calling thread for good: the last switch. The scheduler drops its reference from another stack.
pub fn exit_current() -> ! {
    let irq = IrqGuard::new();
    let task = current();
    hal::context::finish();
    task.sched.state.store(DEAD, Ordering::Release);
    schedule(task, Leave::Asleep, hal::time::ticks(), &irq);
    unreachable!("a dead task ran")
}

/// Sees to it that the slice timer of the calling CPU, `cpu`, fires by the end of the slice of `task`, which runs here, when
/// somebody waits. A timer that is set to an earlier time is left alone, and so is one that nobody needs any more: it looks again
/// when it fires, so that switching costs no timer access.
#[inline(always)]
fn arm_slice(cpu: &Cpu, task: &Task, waiting: usize) {
    if waiting == 0 {
        return;
    }
    let run_start = task.sched.run_start.load(Ordering::Relaxed);
    let armed = cpu.slice.load(Ordering::Relaxed);
    if armed == 0 || armed > run_start + SLICE_NS {
        set_slice(cpu, task, run_start, armed);
    }
}

#[cold]
#[inline(never)]
fn set_slice(cpu: &Cpu, task: &Task, run_start: u64, armed: u64) {
    let slice = match task.sched.policy() {
        _ if task.tid() == 0 => return,
        policy::FIFO => return,
        policy::RR => RR_SLICE_NS,
        _ => SLICE_NS,
    };
    let deadline = run_start + slice;
    if armed == 0 || armed > deadline {
        cpu.slice.store(deadline, Ordering::Relaxed);
        crate::time::timer::set_slice(Some(deadline));
    }
}

/// Bit n: CPU n is up.
pub fn online_mask() -> u64 {
    u64::from(ONLINE_MASK.load(Ordering::Relaxed))
}

/// The slice timer fired, `now` (timer interrupt): the slice of the task that runs is over, or not yet.
pub(crate) fn slice_expired(now: u64) {
    let cpu = CPUS.get();
    cpu.slice.store(0, Ordering::Relaxed);
    let Some(task) = CURRENT.try_get() else { return };
    let waiting = cpu.queue.lock().len();
    if waiting == 0 {
        return;
    }
    let sched = &task.sched;
    let slice = if sched.policy() == policy::RR { RR_SLICE_NS } else { SLICE_NS };
    if sched.policy() != policy::FIFO && now < sched.run_start.load(Ordering::Relaxed) + slice {
        return arm_slice(cpu, task, waiting);
    }
    set_reschedule(true);
    // Whoever has waited a whole slice here may run at once elsewhere.
    kick_idle();
}

/// Reschedule IPI, in IRQ context: somebody queued a task here, or wants this CPU to look for work.
pub fn handle_reschedule_ipi() {
    let cpu = CPUS.get();
    let Some(running) = CURRENT.try_get() else { return };
    let queue = cpu.queue.lock();
    let waiting = queue.len();
    let preempt = running.tid() == 0 || queue.should_preempt(running);
    drop(queue);
    if preempt {
        set_reschedule(true);
    }
    arm_slice(cpu, running, waiting);
}

/// Moves a task whose class, priority or affinity changed to its new place, wherever it is.
pub(crate) fn requeue(task: &Arc<Task>) {
    for cpu in 0..MAX_CPUS {
        if ONLINE_MASK.load(Ordering::Relaxed) >> cpu & 1 == 0 {
            continue;
        }
        if CPUS.on(cpu).queue.lock().remove(task) {
            let target = choose_cpu(task);
            push_to(target, task.clone(), false);
            return;
        }
    }
    // Running or asleep: the CPU it runs on looks again.
    let cpu = task.sched.last_cpu() as usize;
    if cpu == hal::cpu::id() {
        set_reschedule(true);
    } else if cpu < MAX_CPUS && ONLINE_MASK.load(Ordering::Relaxed) >> cpu & 1 == 1 {
        hal::cpu::ask_reschedule(cpu);
        crate::irq::send_ipi(cpu, Ipi::Reschedule);
    }
}

/// Adopts the calling CPU's boot context as its idle task, which `new_idle` makes, so that `current()` works.
pub fn adopt_idle(new_idle: fn(hal::context::KernelThread) -> Arc<Task>) {
    let own = hal::cpu::id();
    let thread = hal::context::KernelThread::adopt_current();
    let idle = new_idle(thread);
    idle.sched.affinity.store(1 << own, Ordering::Relaxed);
    *CPUS.get().idle.lock() = Some(idle.clone());
    let _irq = IrqGuard::new();
    CURRENT.replace(idle);
}

/// The idle loop: runs tasks when there are any, else waits for an interrupt. Never returns. `adopt_idle` came first.
pub fn run_idle() -> ! {
    let own = hal::cpu::id();
    ONLINE_MASK.fetch_or(1 << own, Ordering::SeqCst);
    let irq = IrqGuard::new();
    loop {
        IDLE_MASK.fetch_or(1 << own, Ordering::SeqCst);
        if CPUS.get().queue.lock().len() == 0 && !need_resched() {
            hal::cpu::wait_for_interrupt();
        }
        IDLE_MASK.fetch_and(!(1 << own), Ordering::SeqCst);
        // Take the interrupt.
        hal::cpu::enable_irqs();
        hal::cpu::disable_irqs();
        schedule(current(), Leave::Preempted, hal::time::ticks(), &irq);
    }
}

/// How long CPU `cpu` has idled, ns.
pub fn idle_ns(cpu: usize) -> u64 {
    let idle = CPUS.on(cpu).idle.lock().clone();
    idle.map_or(0, |task| task.cpu_times().1)
}

/// Number of tasks running or waiting to run, for /proc/loadavg.
pub fn nr_runnable() -> usize {
    let busy = (ONLINE_MASK.load(Ordering::Relaxed) & !IDLE_MASK.load(Ordering::Relaxed)).count_ones() as usize;
    (0..MAX_CPUS).map(|cpu| CPUS.on(cpu).queue.lock().len()).sum::<usize>() + busy
}
