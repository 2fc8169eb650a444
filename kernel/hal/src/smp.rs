//! Starting the secondary CPUs: by PSCI, which passes the argument, or by a spin table, whose word holds an entry address
//! only; CPUs released that way find their argument in `spin_args` (boot.S) by their MPIDR.

use crate::boot::tree::{self, EnableMethod};
use crate::cpu;
use crate::layout::{LINEAR_BASE, PHYS_LIMIT, linear, linear_to_phys};
use crate::{kmap, trap};
use aarch64_cpu::asm::{self, barrier};
use aarch64_cpu::registers::*;
use alloc::boxed::Box;
use base::addr::PhysAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use smccc::{Hvc, Smc, psci};

/// One CPU's entry in `spin_args`: MPIDR, physical address of its [`SecondaryArgs`] or 0.
type SpinSlot = [AtomicU64; 2];
const SPIN_SLOTS: usize = 8;

unsafe extern "C" {
    fn secondary_entry();
    fn spin_entry();
    static spin_args: [SpinSlot; SPIN_SLOTS];
}

/// What a secondary CPU reads with its MMU off; the layout is boot.S's.
#[repr(C)]
struct SecondaryArgs {
    ttbr1: u64,
    ttbr0: u64,
    stack: u64,
    cpu: u64,
}

static UP: [AtomicBool; cpu::MAX_CPUS] = [const { AtomicBool::new(false) }; cpu::MAX_CPUS];

/// The affinity fields of this CPU's MPIDR.
pub(crate) fn own_mpidr() -> u64 {
    MPIDR_EL1.get() & 0xff_00ff_ffff
}

/// MPIDR affinity of logical CPU `cpu` (interrupt controllers route by it).
pub fn mpidr(cpu: usize) -> Option<u64> {
    tree::cpus().get(cpu).map(|node| node.mpidr)
}

/// Starts every CPU the device tree names, up to `limit`; each enters [`crate::trap::Hooks::secondary_main`]. Returns how
/// many CPUs are online, the caller included.
pub fn start_secondaries(limit: usize) -> usize {
    for (index, node) in tree::cpus().iter().enumerate().take(limit).skip(1) {
        start(index, node);
    }
    cpu::online()
}

fn start(index: usize, node: &tree::CpuNode) {
    let Ok(stack) = crate::context::Stack::new() else { return };
    let stack_top = stack.top();
    core::mem::forget(stack); // becomes the CPU's idle stack
    let args = Box::leak(Box::new(SecondaryArgs {
        ttbr1: kmap::root(),
        ttbr0: kmap::identity_root(),
        stack: stack_top,
        cpu: index as u64,
    }));
    let args: *const SecondaryArgs = args;
    crate::mmu::clean_data_cache(args.cast(), size_of::<SecondaryArgs>());
    let args_phys = linear_to_phys(args.cast()).0;
    let entry = crate::boot::image_to_phys(secondary_entry as *const () as u64);
    let started = match node.method {
        EnableMethod::PsciHvc => psci::cpu_on::<Hvc>(node.mpidr, entry, args_phys).is_ok(),
        EnableMethod::PsciSmc => psci::cpu_on::<Smc>(node.mpidr, entry, args_phys).is_ok(),
        EnableMethod::SpinTable(word) => release(index, node.mpidr, word, args_phys),
        EnableMethod::None => false,
    };
    if !started {
        return;
    }
    let give_up = crate::time::now_ns() + 1_000_000_000;
    while !UP[index].load(Ordering::Acquire) && crate::time::now_ns() < give_up {
        cpu::relax();
    }
}

/// Publishes the arguments of CPU `index` and writes the spin table's word. The CPU reads both with its caches off.
fn release(index: usize, mpidr: u64, word: u64, args_phys: u64) -> bool {
    // SAFETY: defined in boot.S with this layout; only read by CPUs that are not up yet.
    let slots = unsafe { &spin_args };
    let Some([slot_mpidr, slot_args]) = slots.get(index) else { return false };
    // A word that is not in RAM, or not a word, is the device tree's mistake.
    if word & 7 != 0 || word >= PHYS_LIMIT || kmap::lookup(LINEAR_BASE + word).is_none() {
        return false;
    }
    slot_mpidr.store(mpidr, Ordering::Relaxed);
    slot_args.store(args_phys, Ordering::Release);
    crate::mmu::clean_data_cache((&raw const *slots).cast(), size_of_val(slots));
    let entry = crate::boot::image_to_phys(spin_entry as *const () as u64);
    let word = linear(PhysAddr(word)).cast::<u64>();
    // SAFETY: an aligned word of RAM that the boot loader keeps for this; device trees reserve its page.
    unsafe { word.write_volatile(entry) };
    crate::mmu::clean_data_cache(word.cast(), size_of::<u64>());
    asm::sev();
    true
}

/// First Rust code of a secondary CPU: on its own stack, final tables, IRQs masked.
#[unsafe(no_mangle)]
extern "C" fn rust_secondary(index: u64) -> ! {
    let index = index as usize;
    trap::init_cpu();
    cpu::come_online(index);
    UP[index].store(true, Ordering::Release);
    barrier::dsb(barrier::SY);
    trap::hooks().secondary_main(index)
}
