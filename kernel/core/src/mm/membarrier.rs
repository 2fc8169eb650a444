//! membarrier(2): makes every other CPU run a memory barrier, so that the fast side of a program's algorithm needs none.
//!
//! The calling CPU sends each other CPU an interrupt and waits until all have answered. Taking and leaving the interrupt is also
//! what SYNC_CORE asks for (a context synchronisation event).

use crate::prelude::*;
use core::sync::atomic::{AtomicU64, Ordering, fence};
use drivers::traits::Ipi;
use hal::cpu::{MAX_CPUS, PerCpu};

const GLOBAL: u32 = 1;
const GLOBAL_EXPEDITED: u32 = 1 << 1;
const REGISTER_GLOBAL_EXPEDITED: u32 = 1 << 2;
const PRIVATE_EXPEDITED: u32 = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: u32 = 1 << 4;
const PRIVATE_EXPEDITED_SYNC_CORE: u32 = 1 << 5;
const REGISTER_PRIVATE_EXPEDITED_SYNC_CORE: u32 = 1 << 6;
const GET_REGISTRATIONS: u32 = 1 << 9;
const SUPPORTED: u32 = GLOBAL
    | GLOBAL_EXPEDITED
    | REGISTER_GLOBAL_EXPEDITED
    | PRIVATE_EXPEDITED
    | REGISTER_PRIVATE_EXPEDITED
    | PRIVATE_EXPEDITED_SYNC_CORE
    | REGISTER_PRIVATE_EXPEDITED_SYNC_CORE
    | GET_REGISTRATIONS;

/// Barriers each CPU has run.
static ANSWERS: PerCpu<AtomicU64> = PerCpu::new([const { AtomicU64::new(0) }; MAX_CPUS]);
/// One round at a time.
static ROUND: Mutex<()> = Mutex::new(());

/// The call interrupt, on the CPU that was asked.
fn handle_call_ipi() {
    fence(Ordering::SeqCst);
    ANSWERS.get().fetch_add(1, Ordering::AcqRel);
}

/// Runs a full barrier on every CPU.
fn everywhere() {
    fence(Ordering::SeqCst);
    let online = hal::cpu::online();
    if online == 1 {
        return;
    }
    crate::irq::set_call_handler(handle_call_ipi);
    let _round = ROUND.lock();
    // The thread does not move while it is in the kernel and does not sleep.
    let own = hal::cpu::id();
    let mut before = [0; MAX_CPUS];
    for (cpu, seen) in before.iter_mut().enumerate().take(online).filter(|(cpu, _)| *cpu != own) {
        *seen = ANSWERS.on(cpu).load(Ordering::Acquire);
        crate::irq::send_ipi(cpu, Ipi::Call);
    }
    for (cpu, seen) in before.iter().enumerate().take(online).filter(|(cpu, _)| *cpu != own) {
        while ANSWERS.on(cpu).load(Ordering::Acquire) == *seen {
            hal::cpu::relax();
        }
    }
    fence(Ordering::SeqCst);
}

/// membarrier(2) without flags: EINVAL, EPERM (not registered).
pub fn command(command: u32) -> SysResult {
    let space = current().address_space();
    match command {
        0 => return Ok(SUPPORTED as usize),
        GLOBAL | GLOBAL_EXPEDITED => everywhere(),
        REGISTER_GLOBAL_EXPEDITED | REGISTER_PRIVATE_EXPEDITED | REGISTER_PRIVATE_EXPEDITED_SYNC_CORE => {
            space.membarrier.fetch_or(command, Ordering::Relaxed);
        }
        PRIVATE_EXPEDITED | PRIVATE_EXPEDITED_SYNC_CORE => {
            // Each register command is the bit above its command.
            if space.membarrier.load(Ordering::Relaxed) & command << 1 == 0 {
                return Err(Errno::EPERM);
            }
            everywhere();
        }
        GET_REGISTRATIONS => return Ok(space.membarrier.load(Ordering::Relaxed) as usize),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
