//! Starting the secondary CPUs: by PSCI, which passes the argument, or by a spin table, whose word holds an entry address
//! only; CPUs released that way find their argument in `spin_args` (boot.S) by their MPIDR.
//!
//! CPUs are started one after the other and numbered as they come, so that the numbers of those that are up have no gap. One that
//! does not come in time has lost its number to the next, and parks should it come later ([`Offer`]).

use crate::boot::tree::{self, EnableMethod};
use crate::cpu;
use crate::layout::{LINEAR_BASE, PHYS_LIMIT, linear, linear_to_phys};
use crate::{kmap, trap};
use aarch64_cpu::asm::{self, barrier};
use aarch64_cpu::registers::*;
use alloc::boxed::Box;
use base::addr::PhysAddr;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
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
    /// The logical number offered, and the CPU's place in the device tree's list.
    cpu: u64,
    node: u64,
}

/// How long a CPU may take to come up.
const PATIENCE_NS: u64 = 5_000_000_000;

/// What became of a number that was offered to a CPU.
#[repr(u8)]
enum Offer {
    Open,
    Taken,
    Withdrawn,
}

/// By the CPU's place in the device tree's list. Whoever changes it from `Open` has decided.
static OFFERS: [AtomicU8; cpu::MAX_CPUS] = [const { AtomicU8::new(Offer::Open as u8) }; cpu::MAX_CPUS];

fn decide(node: usize, to: Offer) -> bool {
    OFFERS[node].compare_exchange(Offer::Open as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

/// The place in the device tree's list of each logical CPU.
static NODES: [AtomicUsize; cpu::MAX_CPUS] = {
    let mut nodes = [const { AtomicUsize::new(usize::MAX) }; cpu::MAX_CPUS];
    nodes[0] = AtomicUsize::new(0);
    nodes
};

/// The calling CPU's place in the device tree's list.
pub fn own_node() -> usize {
    NODES[cpu::id()].load(Ordering::Relaxed)
}

/// The affinity fields of this CPU's MPIDR.
pub(crate) fn own_mpidr() -> u64 {
    MPIDR_EL1.get() & 0xff_00ff_ffff
}

/// MPIDR affinity of logical CPU `cpu` (interrupt controllers route by it).
pub fn mpidr(cpu: usize) -> Option<u64> {
    let node = NODES.get(cpu)?.load(Ordering::Relaxed);
    tree::cpus().get(node).map(|node| node.mpidr)
}

static STARTED: AtomicBool = AtomicBool::new(false);

/// Starts every CPU the device tree names, up to `limit`; each enters [`crate::trap::Hooks::secondary_main`]. Returns how
/// many CPUs did not come up. Panics when called again: a number would be given to two CPUs.
pub fn start_secondaries(limit: usize) -> usize {
    assert!(!STARTED.swap(true, Ordering::Relaxed), "the CPUs were started before");
    let wanted = tree::cpus().len().min(limit);
    for (index, node) in tree::cpus().iter().enumerate().take(wanted).skip(1) {
        start(index, node);
    }
    wanted - cpu::online()
}

fn start(index: usize, node: &tree::CpuNode) {
    let number = cpu::online();
    NODES[number].store(index, Ordering::Relaxed);
    let Ok(stack) = crate::context::Stack::new() else { return };
    let stack_top = stack.top();
    core::mem::forget(stack); // becomes the CPU's idle stack
    let args = Box::leak(Box::new(SecondaryArgs {
        ttbr1: kmap::root(),
        ttbr0: kmap::identity_root(),
        stack: stack_top,
        cpu: number as u64,
        node: index as u64,
    }));
    let args: *const SecondaryArgs = args;
    crate::cache::clean_data_cache(args.cast(), size_of::<SecondaryArgs>());
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
    let give_up = crate::time::now_ns() + PATIENCE_NS;
    while cpu::online() == number {
        if crate::time::now_ns() >= give_up && decide(index, Offer::Withdrawn) {
            return;
        }
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
    crate::cache::clean_data_cache((&raw const *slots).cast(), size_of_val(slots));
    let entry = crate::boot::image_to_phys(spin_entry as *const () as u64);
    let word = linear(PhysAddr(word)).cast::<u64>();
    // SAFETY: an aligned word of RAM that the boot loader keeps for this; device trees reserve its page.
    unsafe { word.write_volatile(entry) };
    crate::cache::clean_data_cache(word.cast(), size_of::<u64>());
    asm::sev();
    true
}

/// First Rust code of a secondary CPU: on its own stack, final tables, IRQs masked.
#[unsafe(no_mangle)]
extern "C" fn rust_secondary(cpu: u64, node: u64) -> ! {
    if !decide(node as usize, Offer::Taken) {
        // Too late: the number is another CPU's. Nothing of this one was ever known to the kernel.
        crate::power::park_cpu()
    }
    let cpu = cpu as usize;
    trap::init_cpu();
    cpu::come_online(cpu);
    barrier::dsb(barrier::SY);
    trap::hooks().secondary_main(cpu)
}
