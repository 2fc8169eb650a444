//! Kernel stacks, the context switch, and floating-point state.
//!
//! A [`KernelThread`] is a 16 KiB guarded stack plus the saved callee-saved registers. FP/SIMD registers belong to user
//! code only; they are saved at a switch when the thread used them since it came, and loaded back when it touches them, which
//! traps. A thread that did so several times in a row gets them loaded at once for a while. The kernel itself borrows a few for
//! large copies ([`with_vectors`]).

use crate::OutOfMemory;
use crate::cpu::{self, IrqGuard};
use crate::frame::{self, Use};
use crate::kmap::{self, Kind};
use crate::layout::STACK_BASE;
use crate::user::UserFault;
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::*;
use base::addr::UserAddr;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use spin::Mutex;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes of one kernel stack.
pub const KERNEL_STACK_BYTES: usize = 16 * 1024;
const SLOT_BYTES: u64 = 2 * KERNEL_STACK_BYTES as u64;

unsafe extern "C" {
    fn switch_asm();
    fn thread_start_asm();
    fn fp_save_asm(state: *mut FpState);
    fn fp_load_asm(state: *const FpState);
}

const STACK_PAGES: usize = KERNEL_STACK_BYTES / 4096;
/// As many threads as there are numbers for, and the kernel's own.
const MOST_STACKS: usize = 1 << 16;

/// A mapped stack in its slot of the stack window. Some that are returned stay mapped for the next thread.
pub(crate) struct Stack(u32);

struct Slots {
    /// Mapped and unused, newest on top.
    free: [u32; 64],
    len: usize,
    /// One bit a slot in use (mapped, or about to be).
    used: [u64; MOST_STACKS / 64],
    /// No word before this one has a free bit.
    first_word: usize,
}

static SLOTS: Mutex<Slots> = Mutex::new(Slots { free: [0; 64], len: 0, used: [0; MOST_STACKS / 64], first_word: 0 });
/// How many stacks are mapped.
static MAPPED: AtomicUsize = AtomicUsize::new(0);

impl Slots {
    fn take(&mut self) -> Option<u32> {
        let first = self.first_word;
        let (index, word) = self.used.iter_mut().enumerate().skip(first).find(|(_, word)| **word != !0)?;
        let bit = (!*word).trailing_zeros();
        *word |= 1 << bit;
        self.first_word = index;
        Some((index * 64) as u32 + bit)
    }
    /// Gives back a slot whose pages are unmapped.
    fn release(slot: u32) {
        let _irq = IrqGuard::new();
        let mut slots = SLOTS.lock();
        let word = slot as usize / 64;
        slots.used[word] &= !(1 << (slot % 64));
        slots.first_word = slots.first_word.min(word);
    }
}

impl Stack {
    pub(crate) fn new() -> Result<Self, OutOfMemory> {
        let _irq = IrqGuard::new();
        let mut slots = SLOTS.lock();
        if slots.len > 0 {
            slots.len -= 1;
            return Ok(Self(slots.free[slots.len]));
        }
        let slot = slots.take().ok_or(OutOfMemory)?;
        drop(slots);
        let stack = core::mem::ManuallyDrop::new(Self(slot));
        for page in 0..STACK_PAGES {
            let mapped = frame::alloc_raw(Use::Kernel).and_then(|phys| {
                kmap::map(stack.bottom() + (page * 4096) as u64, phys, 4096, Kind::Data)
                    .inspect_err(|_| frame::release_raw(phys, Use::Kernel))
            });
            if mapped.is_err() {
                kmap::unmap(stack.bottom(), page);
                Slots::release(slot);
                return Err(OutOfMemory);
            }
        }
        MAPPED.fetch_add(1, Ordering::Relaxed);
        Ok(Self(slot))
    }
    fn bottom(&self) -> u64 {
        STACK_BASE + u64::from(self.0) * SLOT_BYTES + KERNEL_STACK_BYTES as u64
    }
    /// One past the highest byte.
    pub(crate) fn top(&self) -> u64 {
        self.bottom() + KERNEL_STACK_BYTES as u64
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _irq = IrqGuard::new();
        let mut slots = SLOTS.lock();
        if slots.len < slots.free.len() {
            let len = slots.len;
            slots.free[len] = self.0;
            slots.len += 1;
            return;
        }
        drop(slots);
        kmap::unmap(self.bottom(), STACK_PAGES);
        MAPPED.fetch_sub(1, Ordering::Relaxed);
        Slots::release(self.0);
    }
}

/// Bytes of the kernel stacks there are: of threads, and ready for the next ones.
pub fn stack_bytes() -> usize {
    MAPPED.load(Ordering::Relaxed) * KERNEL_STACK_BYTES
}

/// A kernel stack with a suspended (or running) computation.
pub struct KernelThread {
    sp: UnsafeCell<u64>,
    on_cpu: AtomicU32,
    /// FP state while not loaded; null when the thread never used FP.
    fp: AtomicPtr<FpState>,
    /// How often the state was loaded, modulo 256: above [`LAZY_LOADS`] it is loaded without waiting for the trap.
    fp_loads: AtomicU8,
    /// TPIDR_EL0, the user's thread pointer, while the thread is not running.
    pointer: AtomicU64,
    /// The thread's system calls take tagged addresses (PR_SET_TAGGED_ADDR_CTRL).
    tags: AtomicBool,
    stack: Option<Stack>,
    /// Bounds of the stack in use, for backtraces.
    bounds: (u64, u64),
}

/// Traps that a thread takes for its FP state before it is loaded with the thread, until the count comes round.
const LAZY_LOADS: u8 = 5;

// SAFETY: `sp` is touched only by the CPU that switches to or from the thread, one at a time (`on_cpu`).
unsafe impl Send for KernelThread {}
// SAFETY: as above.
unsafe impl Sync for KernelThread {}

/// The thread a CPU runs (for FP and backtraces) and whether its FP registers are loaded.
pub(crate) struct Running {
    thread: AtomicPtr<KernelThread>,
    fp_loaded: AtomicU32,
}

impl Running {
    pub(crate) const fn none() -> Self {
        Self { thread: AtomicPtr::new(core::ptr::null_mut()), fp_loaded: AtomicU32::new(0) }
    }

    /// The calling CPU's thread; `None` before its first switch.
    fn thread(&self) -> Option<&KernelThread> {
        // SAFETY: null, or the thread that runs here, which lives while it does.
        unsafe { self.thread.load(Ordering::Relaxed).as_ref() }
    }
    /// The FP state of the calling CPU's thread as it was last saved: current unless the registers are loaded.
    fn saved_fp(&self) -> Option<&FpState> {
        let state = self.thread()?.fp.load(Ordering::Relaxed);
        // SAFETY: null, or the thread's own buffer, which nobody but this CPU touches while the thread runs here.
        unsafe { state.as_ref() }
    }
}

impl KernelThread {
    /// A thread that will run `entry(argument)` when first switched to, with IRQs masked. `entry` never returns. Its user thread
    /// pointer is the calling thread's.
    pub fn new(entry: fn(usize) -> !, argument: usize) -> Result<Self, OutOfMemory> {
        let stack = Stack::new()?;
        let top = stack.top() - size_of::<FpState>() as u64;
        let frame: [u64; 6] = [0, thread_start_asm as *const () as u64, 0, 0, entry as usize as u64, argument as u64];
        let sp = top - size_of_val(&frame) as u64;
        // SAFETY: the top of a fresh stack of our own; switch_asm pops the first four words, thread_start_asm the others.
        unsafe { (sp as *mut [u64; 6]).write(frame) };
        Ok(Self {
            sp: UnsafeCell::new(sp),
            on_cpu: AtomicU32::new(0),
            fp: AtomicPtr::new(core::ptr::null_mut()),
            fp_loads: AtomicU8::new(0),
            pointer: AtomicU64::new(TPIDR_EL0.get()),
            tags: AtomicBool::new(false),
            bounds: (stack.bottom(), top),
            stack: Some(stack),
        })
    }

    /// Adopts the boot (or secondary-boot) stack the caller runs on: a CPU's idle thread.
    pub fn adopt_current() -> Self {
        let sp: u64;
        // SAFETY: reads SP.
        unsafe { core::arch::asm!("mov {}, sp", out(reg) sp, options(nomem, nostack)) };
        let bottom = sp & !(KERNEL_STACK_BYTES as u64 - 1);
        Self {
            sp: UnsafeCell::new(0),
            on_cpu: AtomicU32::new(1),
            fp: AtomicPtr::new(core::ptr::null_mut()),
            fp_loads: AtomicU8::new(0),
            pointer: AtomicU64::new(0),
            tags: AtomicBool::new(false),
            stack: None,
            bounds: (bottom, bottom + KERNEL_STACK_BYTES as u64),
        }
    }

    /// Return addresses of the suspended thread's frames, newest first, into `out`; returns how many. For /proc/PID/stack and
    /// panic reports. Best effort when the thread is running.
    pub fn backtrace(&self, out: &mut [u64]) -> usize {
        // SAFETY: a racy read of a word; the walk below checks every address against the stack's bounds.
        let sp = unsafe { self.sp.get().read_volatile() };
        if sp < self.bounds.0 || sp + 16 > self.bounds.1 || sp & 7 != 0 {
            return 0;
        }
        // SAFETY: inside the mapped stack by the check above: the frame record switch_asm left.
        walk(unsafe { (sp as *const u64).read_volatile() }, self.bounds, out)
    }

    /// Whether some CPU is (still) running on this stack.
    pub fn is_on_cpu(&self) -> bool {
        self.on_cpu.load(Ordering::Acquire) != 0
    }

    /// Gives this not-yet-run thread a copy of the calling thread's FP state (fork, clone).
    pub fn inherit_fp(&self) {
        let running = &cpu::block().running;
        if running.fp_loaded.load(Ordering::Relaxed) == 0 && running.saved_fp().is_none() {
            return;
        }
        self.make_fp(read_fp());
    }

    /// Keeps `state` as the thread's FP state, in its place at the top of the stack. The thread does not run, or is the caller's own
    /// with its state not loaded.
    fn make_fp(&self, state: FpState) -> *mut FpState {
        assert!(self.stack.is_some(), "idle threads run no user code");
        let place = self.bounds.1 as *mut FpState;
        // SAFETY: the room above the stack's bounds (`new`) is for this alone; nobody else looks while the thread does not run.
        unsafe { place.write(state) };
        self.fp.store(place, Ordering::Release);
        place
    }
    /// Whether the thread's system calls take tagged addresses: another thread's is for its creator and for who shows it.
    pub fn takes_tags(&self) -> bool {
        self.tags.load(Ordering::Relaxed)
    }
    pub fn set_takes_tags(&self, on: bool) {
        self.tags.store(on, Ordering::Relaxed);
    }

    /// Sets TPIDR_EL0 of this not-yet-run thread (CLONE_SETTLS).
    pub fn set_user_pointer(&self, value: u64) {
        self.pointer.store(value, Ordering::Relaxed);
    }

    /// Whether the thread owns a stack of its own (idle threads run on boot stacks).
    pub fn owns_stack(&self) -> bool {
        self.stack.is_some()
    }
}

impl Drop for KernelThread {
    fn drop(&mut self) {
        assert!(!self.is_on_cpu(), "dropping a running thread's stack");
    }
}

/// Tells `hal` which thread the calling CPU runs; the first switch on a CPU does it too.
fn set_running(thread: &KernelThread) {
    cpu::block().running.thread.store(core::ptr::from_ref(thread).cast_mut(), Ordering::Relaxed);
}

/// Switches the calling CPU from `prev` (the thread it runs) to `next`. IRQs must be masked. Spins while `next` is still
/// being switched out on another CPU. Returns when something switches back to `prev`.
#[inline]
pub fn switch(prev: &KernelThread, next: &KernelThread) {
    let running = &cpu::block().running;
    if running.fp_loaded.load(Ordering::Relaxed) != 0 {
        let mut state = prev.fp.load(Ordering::Relaxed);
        if state.is_null() {
            state = prev.make_fp(FpState::ZERO);
        }
        // SAFETY: `state` is this thread's own buffer; FP access is on.
        unsafe { fp_save_asm(state) };
    }
    while next.on_cpu.swap(1, Ordering::Acquire) != 0 {
        crate::cpu::relax();
    }
    // Here and not at every way in and out of user mode: nobody looks at it in between (4 instructions a system call).
    prev.pointer.store(TPIDR_EL0.get(), Ordering::Relaxed);
    TPIDR_EL0.set(next.pointer.load(Ordering::Relaxed));
    set_running(next);
    let state = next.fp.load(Ordering::Relaxed);
    let loads = next.fp_loads.load(Ordering::Relaxed);
    if loads > LAZY_LOADS && !state.is_null() {
        next.fp_loads.store(loads.wrapping_add(1), Ordering::Relaxed);
        if running.fp_loaded.load(Ordering::Relaxed) == 0 {
            running.fp_loaded.store(1, Ordering::Relaxed);
            fp_access(true);
        }
        // SAFETY: the state of the thread that runs next; FP access is on.
        unsafe { fp_load_asm(state) };
    } else if running.fp_loaded.load(Ordering::Relaxed) != 0 {
        running.fp_loaded.store(0, Ordering::Relaxed);
        fp_access(false);
    }
    // SAFETY: `prev` runs here, so its `sp` is ours to write; `next` was claimed above, so its `sp` is a suspended frame of
    // switch_asm. `prev.on_cpu` is cleared after SP was saved and left. x19, x29 and SP are restored when `prev` runs again, all
    // other registers are declared changed: the compiler saves those that it needs.
    unsafe {
        core::arch::asm!(
            "bl {switch}",
            switch = sym switch_asm,
            in("x0") prev.sp.get(), in("x1") next.sp.get(), in("x2") prev.on_cpu.as_ptr(),
            out("x20") _, out("x21") _, out("x22") _, out("x23") _, out("x24") _,
            out("x25") _, out("x26") _, out("x27") _, out("x28") _,
            clobber_abi("C"),
        );
    }
}

/// FP/SIMD state: V0-V31 (two u64 each), FPSR, FPCR.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C, align(16))]
pub struct FpState {
    pub v: [[u64; 2]; 32],
    pub fpsr: u32,
    pub fpcr: u32,
    /// Nothing; up to the alignment.
    pub rest: u64,
}

impl FpState {
    pub const ZERO: Self = Self { v: [[0; 2]; 32], fpsr: 0, fpcr: 0, rest: 0 };
}

/// Lets EL0 and EL1 use FP/SIMD, or traps it.
fn fp_access(on: bool) {
    CPACR_EL1.set(if on { 3 << 20 } else { 0 });
    barrier::isb(barrier::SY);
}

pub(crate) fn init_cpu() {
    fp_access(false);
}

/// User code touched FP with access trapped: give it its registers, which are zero before the first use.
pub(crate) fn enable_fp() {
    let _irq = IrqGuard::new();
    let running = &cpu::block().running;
    fp_access(true);
    running.fp_loaded.store(1, Ordering::Relaxed);
    if let Some(thread) = running.thread() {
        thread.fp_loads.store(thread.fp_loads.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
    // SAFETY: FP access is on.
    unsafe { fp_load_asm(running.saved_fp().unwrap_or(&FpState::ZERO)) };
}

/// Whether the calling thread's system calls take tagged addresses.
#[cold]
pub fn allows_tags() -> bool {
    let _irq = IrqGuard::new();
    let thread = cpu::block().running.thread.load(Ordering::Relaxed);
    // SAFETY: null, or the thread that this CPU runs, which stays while interrupts are masked.
    unsafe { thread.as_ref() }.is_some_and(|thread| thread.tags.load(Ordering::Relaxed))
}

/// Runs `f` with access to the FP/SIMD registers. `f` leaves them as it found them, and may not be long: interrupts are masked, so
/// that no switch comes in between.
#[inline]
pub(crate) fn with_vectors<R>(f: impl FnOnce() -> R) -> R {
    let _irq = IrqGuard::new();
    let is_loaded = cpu::block().running.fp_loaded.load(Ordering::Relaxed) != 0;
    if !is_loaded {
        fp_access(true);
    }
    let result = f();
    if !is_loaded {
        fp_access(false);
    }
    result
}

/// The calling thread's user FP state (all zero when it never used FP).
fn read_fp() -> FpState {
    let _irq = IrqGuard::new();
    let running = &cpu::block().running;
    if running.fp_loaded.load(Ordering::Relaxed) == 0 {
        return running.saved_fp().copied().unwrap_or(FpState::ZERO);
    }
    let mut state = core::mem::MaybeUninit::<FpState>::uninit();
    let pointer = state.as_mut_ptr();
    // SAFETY: FP access is on and the registers are the calling thread's; every field is stored.
    unsafe {
        fp_save_asm(pointer);
        (&raw mut (*pointer).rest).write(0);
        state.assume_init()
    }
}

/// Loads the calling thread's FP state if it is not loaded. It stays so until the next switch; where the kernel sleeps after this,
/// in a fault of the accesses below, it is loaded anew (trap.rs).
fn load_own_fp() {
    if cpu::block().running.fp_loaded.load(Ordering::Relaxed) == 0 {
        enable_fp();
    }
}

/// Stores the calling thread's FP state at `record` in user memory, as the `struct fpsimd_context` of a signal frame, which begins
/// with the words `head`, and a record of zeros behind it.
pub fn store_fp_to_user(record: UserAddr, head: [u32; 2]) -> Result<(), UserFault> {
    load_own_fp();
    // SAFETY: the state is loaded.
    unsafe { crate::user::store_fp(record, u64::from(head[0]) | u64::from(head[1]) << 32) }
}

/// Replaces the calling thread's FP state by V0-V31 at `registers` in user memory, FPSR and FPCR, if zeros stand behind V31 (no
/// record follows): answers whether they do.
pub fn load_fp_from_user(registers: UserAddr, fpsr: u32, fpcr: u32) -> Result<bool, UserFault> {
    load_own_fp();
    // SAFETY: the state is loaded.
    unsafe { crate::user::load_fp(registers, fpsr, fpcr) }
}

/// Replaces the calling thread's user FP state.
pub fn write_fp(state: &FpState) {
    let _irq = IrqGuard::new();
    let running = &cpu::block().running;
    if running.fp_loaded.swap(1, Ordering::Relaxed) == 0 {
        fp_access(true);
    }
    // SAFETY: FP access is on.
    unsafe { fp_load_asm(state) };
}

/// FP state and thread pointer back to their initial state (execve).
pub fn reset_user_state() {
    TPIDR_EL0.set(0);
    let _irq = IrqGuard::new();
    let running = &cpu::block().running;
    if running.fp_loaded.swap(0, Ordering::Relaxed) != 0 {
        fp_access(false);
    }
    let thread = running.thread.load(Ordering::Relaxed);
    if !thread.is_null() {
        // SAFETY: the calling thread's own KernelThread, alive while it runs.
        unsafe { &*thread }.fp.store(core::ptr::null_mut(), Ordering::Relaxed);
    }
}

/// Follows frame records from `record` inside `bounds`.
fn walk(mut record: u64, bounds: (u64, u64), out: &mut [u64]) -> usize {
    let mut count = 0;
    while count < out.len() && record >= bounds.0 && record.saturating_add(16) <= bounds.1 && record & 7 == 0 {
        // SAFETY: inside a mapped kernel stack by the check above.
        let [next, address] = unsafe { (record as *const [u64; 2]).read_volatile() };
        if address == 0 {
            break;
        }
        out[count] = address;
        count += 1;
        if next <= record {
            break;
        }
        record = next;
    }
    count
}

/// Return addresses of the caller's own frames, newest first.
pub fn backtrace_here(out: &mut [u64]) -> usize {
    let (record, sp): (u64, u64);
    // SAFETY: reads FP and SP.
    unsafe { core::arch::asm!("mov {}, x29", "mov {}, sp", out(reg) record, out(reg) sp, options(nomem, nostack)) };
    let bottom = sp & !(KERNEL_STACK_BYTES as u64 - 1);
    walk(record, (bottom, bottom + KERNEL_STACK_BYTES as u64), out)
}
