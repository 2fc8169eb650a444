//! CPU numbers, per-CPU data, interrupt masking, idling, identification.

use crate::context::Running;
pub use crate::features::hwcaps;
use aarch64_cpu::registers::*;
use alloc::sync::Arc;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// The most CPUs one kernel drives.
pub const MAX_CPUS: usize = 8;

static ONLINE: AtomicUsize = AtomicUsize::new(1);
static MIDRS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// What a CPU needs all the time. TPIDR_EL1 points at it, so that reaching a field takes one instruction for the address (an array
/// indexed by the CPU's number takes four), and the CPU's number is in that address.
#[repr(C, align(64))]
pub(crate) struct Block {
    /// [`Current`]'s object, and the one that left before it.
    current: AtomicPtr<()>,
    left: AtomicPtr<()>,
    pub(crate) running: Running,
    /// TTBR0_EL1 while a user's tables are active, else 0 (mmu).
    pub(crate) translation: AtomicU64,
    reschedule: AtomicBool,
}

/// Aligned to its size: bits 6 to 8 of a block's address are the CPU's number.
#[repr(C, align(512))]
struct Blocks([Block; MAX_CPUS]);

const _: () = assert!(size_of::<Block>() == 64 && size_of::<Blocks>() == 512);

/// boot.S sets TPIDR_EL1 from it.
#[unsafe(no_mangle)]
static CPU_BLOCKS: Blocks = Blocks(
    [const {
        Block {
            current: AtomicPtr::new(null_mut()),
            left: AtomicPtr::new(null_mut()),
            running: Running::none(),
            translation: AtomicU64::new(0),
            reschedule: AtomicBool::new(false),
        }
    }; MAX_CPUS],
);

#[inline(always)]
fn block_address() -> usize {
    let address: usize;
    // SAFETY: reads a register. Volatile, because it must be read again after a context switch, which is an opaque call.
    unsafe { core::arch::asm!("mrs {}, tpidr_el1", out(reg) address, options(nomem, nostack, preserves_flags)) };
    address
}

/// The calling CPU's block.
#[inline(always)]
pub(crate) fn block() -> &'static Block {
    // SAFETY: TPIDR_EL1 holds the address of a block since the first instructions at the kernel's addresses.
    unsafe { &*core::ptr::with_exposed_provenance(block_address()) }
}

/// All CPUs' blocks.
pub(crate) fn blocks() -> impl Iterator<Item = &'static Block> {
    CPU_BLOCKS.0.iter()
}

/// Logical number of the calling CPU, 0..MAX_CPUS. Stable while in the kernel: the kernel is not preemptible.
#[inline(always)]
pub fn id() -> usize {
    block_address() / size_of::<Block>() % MAX_CPUS
}

/// Whether the calling CPU should switch before it returns to user mode.
#[inline(always)]
pub fn needs_reschedule() -> bool {
    block().reschedule.load(Ordering::Relaxed)
}

/// Says whether the calling CPU should switch before it returns to user mode.
#[inline(always)]
pub fn set_reschedule(needed: bool) {
    block().reschedule.store(needed, Ordering::Relaxed);
}

/// CPU `cpu` should switch before it returns to user mode.
pub fn ask_reschedule(cpu: usize) {
    CPU_BLOCKS.0[cpu].reschedule.store(true, Ordering::Relaxed);
}

/// Number of CPUs that are up.
pub fn online() -> usize {
    ONLINE.load(Ordering::Relaxed)
}

/// A CPU says it is up: fixes its feature registers.
pub(crate) fn come_online(cpu: usize) {
    MIDRS[cpu].store(MIDR_EL1.get(), Ordering::Relaxed);
    if cpu != 0 {
        ONLINE.fetch_add(1, Ordering::Release);
    }
}

/// Masks IRQs while it lives; nests. Nothing in this crate that relies on the mask calls code from outside meanwhile, so guards that are
/// dropped in another order, or not at all, cost their owner interrupts and endanger no memory.
pub struct IrqGuard {
    daif: u64,
    _not_send: PhantomData<*const ()>,
}

impl IrqGuard {
    #[inline(always)]
    pub fn new() -> Self {
        let daif: u64;
        // SAFETY: PSTATE.DAIF may be read and written at EL1 (Arm ARM C5.2.2) and touches no memory; not `nomem`, so that what the mask
        // protects stays behind it.
        unsafe { core::arch::asm!("mrs {}, daif", "msr daifset, #2", out(reg) daif) };
        Self { daif, _not_send: PhantomData }
    }
}

impl Default for IrqGuard {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for IrqGuard {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: as in `new`; the masks are those of before. Interrupts find their handlers: the vectors stand since boot.S.
        unsafe { core::arch::asm!("msr daif, {}", in(reg) self.daif) };
    }
}

/// The drivers' lock (`drivers::lock`) masks interrupts by these two.
#[unsafe(no_mangle)]
extern "Rust" fn driver_mask_interrupts() -> u64 {
    core::mem::ManuallyDrop::new(IrqGuard::new()).daif
}
#[unsafe(no_mangle)]
extern "Rust" fn driver_restore_interrupts(masks: u64) {
    drop(IrqGuard { daif: masks, _not_send: PhantomData });
}

#[inline(always)]
pub fn irqs_enabled() -> bool {
    !DAIF.is_set(DAIF::I)
}

#[inline(always)]
pub fn enable_irqs() {
    // SAFETY: as in `IrqGuard`: the vectors stand since boot.S, and an interrupt before `set_hooks` is a panic.
    unsafe { core::arch::asm!("msr daifclr, #2") };
}

#[inline(always)]
pub fn disable_irqs() {
    // SAFETY: as in `IrqGuard::new`.
    unsafe { core::arch::asm!("msr daifset, #2") };
}

/// Waits until an interrupt is pending; call with IRQs masked (it returns with them masked, the interrupt still pending).
pub fn wait_for_interrupt() {
    aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::SY);
    aarch64_cpu::asm::wfi();
}

/// What this CPU has stored is seen by every other before anything that follows happens, messages to them included.
pub fn publish_stores() {
    aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::ISHST);
}

/// One turn of a spin-wait loop.
#[inline(always)]
pub fn relax() {
    core::hint::spin_loop()
}

/// How many spin locks the calling CPU holds, for the kernel's own use. The number is in SP_EL0: that is the user's stack pointer
/// only while user code runs (trap.S saves it on the way in and leaves 0), so counting costs no memory access. At a context switch
/// it is 0, because nobody sleeps with a spin lock.
#[inline(always)]
pub fn lock_depth() -> u64 {
    SP_EL0.get()
}

#[inline(always)]
pub fn set_lock_depth(depth: u64) {
    SP_EL0.set(depth);
}

/// One value per CPU, each on its own cache line.
pub struct PerCpu<T>([Padded<T>; MAX_CPUS]);

#[repr(align(64))]
struct Padded<T>(T);

impl<T> PerCpu<T> {
    /// From one value per CPU: `PerCpu::new([const { X::new() }; MAX_CPUS])`.
    pub const fn new(values: [T; MAX_CPUS]) -> Self {
        let values = ManuallyDrop::new(values);
        let mut slots = [const { MaybeUninit::<Padded<T>>::uninit() }; MAX_CPUS];
        let mut cpu = 0;
        while cpu < MAX_CPUS {
            // SAFETY: `values` is never dropped, so each element is moved out exactly once.
            let value = unsafe { core::ptr::read((&raw const values).cast::<T>().add(cpu)) };
            slots[cpu] = MaybeUninit::new(Padded(value));
            cpu += 1;
        }
        // SAFETY: every slot was initialised by the loop; the array of MaybeUninit has the array's layout.
        Self(unsafe { core::ptr::read((&raw const slots).cast::<[Padded<T>; MAX_CPUS]>()) })
    }
    /// The calling CPU's value.
    #[inline(always)]
    pub fn get(&self) -> &T {
        // SAFETY: `id` is below MAX_CPUS: secondary CPUs are numbered below the limit when they are started.
        unsafe { &self.0.get_unchecked(id()).0 }
    }
    #[inline(always)]
    pub fn on(&self, cpu: usize) -> &T {
        &self.0[cpu].0
    }
}

/// The "current object" of each CPU for the kernel proper (its `Task`), and the one before it until somebody takes it.
///
/// `get` hands out a reference that outlives a context switch of the borrowing thread: sound because the kernel proper
/// keeps a thread's object alive for as long as the thread has frames on its stack (it is dropped by another thread).
pub struct Current<T: 'static>(PhantomData<fn() -> T>);

impl<T: Send + Sync + 'static> Current<T> {
    /// # Safety
    /// All instances are of one type `T`: they are the same object. `replace` is called where the calling CPU is about to switch to
    /// the thread whose object it is given, and `take_left` afterwards, both with IRQs masked. An object lives for as long as its
    /// thread has frames that may use what `get` returned: its count, which `replace` took, is dropped by another thread only.
    pub const unsafe fn new() -> Self {
        Self(PhantomData)
    }
    /// Installs `object` on the calling CPU; the previous one is what `take_left` answers.
    #[inline(always)]
    pub fn replace(&self, object: Arc<T>) {
        let block = block();
        debug_assert!(block.left.load(Ordering::Relaxed).is_null());
        // No atomic exchange: the CPU's own words, with IRQs masked.
        block.left.store(block.current.load(Ordering::Relaxed), Ordering::Relaxed);
        block.current.store(Arc::into_raw(object).cast_mut().cast(), Ordering::Relaxed);
    }
    /// Takes the object that left the calling CPU last, once.
    #[inline(always)]
    pub fn take_left(&self) -> Option<Arc<T>> {
        let block = block();
        let left: *const T = block.left.load(Ordering::Relaxed).cast();
        block.left.store(null_mut(), Ordering::Relaxed);
        // SAFETY: a non-null word came from `Arc::into_raw` and owned one count, which is the caller's now.
        (!left.is_null()).then(|| unsafe { Arc::from_raw(left) })
    }
    /// The calling CPU's object; `None` before the first `replace`.
    #[inline(always)]
    pub fn try_get(&self) -> Option<&'static T> {
        let pointer: *const T = block().current.load(Ordering::Relaxed).cast();
        // SAFETY: null or owned by the block; see the type's page for why the reference stays good.
        unsafe { pointer.as_ref() }
    }
    /// The calling CPU's object; panics before the first `replace`.
    #[inline(always)]
    pub fn get(&self) -> &'static T {
        match self.try_get() {
            Some(object) => object,
            None => no_current(),
        }
    }
    /// A counted reference to it.
    #[inline]
    pub fn get_arc(&self) -> Arc<T> {
        let pointer: *const T = self.get();
        // SAFETY: the pointer came from `Arc::into_raw`; the block's own count keeps it alive meanwhile.
        unsafe {
            Arc::increment_strong_count(pointer);
            Arc::from_raw(pointer)
        }
    }
    #[inline]
    pub fn is_set(&self) -> bool {
        self.try_get().is_some()
    }
}

/// Whether `field` lies within the calling CPU's current object, which is an `O`.
#[inline(always)]
pub(crate) fn is_in_current<O, T>(field: &T) -> bool {
    let object = block().current.load(Ordering::Relaxed).addr();
    (&raw const *field).addr().wrapping_sub(object) < size_of::<O>() && object != 0
}

#[cold]
#[inline(never)]
fn no_current() -> ! {
    panic!("no current task yet")
}

/// MIDR_EL1 of logical CPU `cpu`, for /proc/cpuinfo.
pub fn midr(cpu: usize) -> u64 {
    MIDRS.get(cpu).map_or(0, |midr| midr.load(Ordering::Relaxed))
}

/// MIDR_EL1 of the calling CPU.
pub(crate) fn own_midr() -> u64 {
    MIDR_EL1.get()
}

/// A printable name of the CPU model ("Cortex-A72").
pub fn model_name(midr: u64) -> &'static str {
    match (midr >> 24 & 0xff, midr >> 4 & 0xfff) {
        (0x41, 0xd03) => "Cortex-A53",
        (0x41, 0xd04) => "Cortex-A35",
        (0x41, 0xd05) => "Cortex-A55",
        (0x41, 0xd07) => "Cortex-A57",
        (0x41, 0xd08) => "Cortex-A72",
        (0x41, 0xd09) => "Cortex-A73",
        (0x41, 0xd0b) => "Cortex-A76",
        (0x41, 0xd0c) => "Neoverse-N1",
        (0x41, 0xd40) => "Neoverse-V1",
        (0x41, 0xd47) => "Cortex-A710",
        (0x41, 0xd49) => "Neoverse-N2",
        (0x61, _) => "Apple silicon",
        (0x00, 0x051) => "QEMU max",
        _ => "AArch64",
    }
}
