//! Kernel stacks, the context switch, and floating-point state.
//!
//! A [`KernelThread`] is a 16 KiB guarded stack, which keeps the saved registers and, at its top, what a switch needs to know of the
//! thread ([`Control`]): there it stays for as long as any CPU may use it, however its owner moves the thread. FP/SIMD registers belong
//! to user code only; they are saved at a switch when the thread used them since it came, and loaded back when it touches them, which
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
                // SAFETY: a slot of ours, and a frame just allocated, which goes back at once when it cannot be mapped.
                unsafe {
                    kmap::map(stack.bottom() + (page * 4096) as u64, phys, 4096, Kind::Data)
                        .inspect_err(|_| frame::release_raw(phys, Use::Kernel))
                }
            });
            if mapped.is_err() {
                // SAFETY: the pages mapped above, which nobody has used.
                unsafe { kmap::unmap(stack.bottom(), page) };
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
    /// One past the highest byte that code on the stack uses; the thread's FP state and its [`Control`] are above.
    pub(crate) fn top(&self) -> u64 {
        self.bottom() + (KERNEL_STACK_BYTES - size_of::<Control>() - size_of::<FpState>()) as u64
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
        // SAFETY: all of the slot's pages; `KernelThread::drop` has seen that nobody runs on the stack or comes back to it.
        unsafe { kmap::unmap(self.bottom(), STACK_PAGES) };
        MAPPED.fetch_sub(1, Ordering::Relaxed);
        Slots::release(self.0);
    }
}

/// Bytes of the kernel stacks there are: of threads, and ready for the next ones.
pub fn stack_bytes() -> usize {
    MAPPED.load(Ordering::Relaxed) * KERNEL_STACK_BYTES
}

/// What a switch needs to know of a thread, at the top of its stack (of a boot stack, too: boot.S). Written by the CPU that runs the
/// thread or has claimed it (`on_cpu`), one at a time; others only look.
#[repr(C, align(64))]
pub(crate) struct Control {
    /// The suspended thread's stack pointer: a frame of `switch_asm` or of `new`.
    sp: AtomicU64,
    /// 1: some CPU runs on the stack, or has claimed it.
    on_cpu: AtomicU32,
    /// How often the FP state was loaded, modulo 256: above [`LAZY_LOADS`] it is loaded without waiting for the trap.
    fp_loads: AtomicU8,
    /// A [`Stage`].
    stage: AtomicU8,
    /// The stack leaves room for FP state: not a boot stack.
    has_fp_room: bool,
    /// The thread's system calls take tagged addresses (PR_SET_TAGGED_ADDR_CTRL).
    tags: AtomicBool,
    /// FP state while not loaded, in its place below ([`Control::make_fp`]); null when the thread never used FP.
    fp: AtomicPtr<FpState>,
    /// TPIDR_EL0, the user's thread pointer, while the thread is not running.
    pointer: AtomicU64,
}

const _: () = assert!(size_of::<Control>() == 64 && size_of::<FpState>().is_multiple_of(align_of::<FpState>()));

/// Where a thread is in its life.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    /// Never switched to: nothing of the kernel's is on its stack.
    New,
    Started,
    /// Will not be switched to again ([`finish`]): what is on its stack is given up.
    Finished,
}

impl Control {
    fn new(sp: u64, on_cpu: u32, stage: Stage, has_fp_room: bool, pointer: u64) -> Self {
        Self {
            sp: AtomicU64::new(sp),
            on_cpu: AtomicU32::new(on_cpu),
            fp_loads: AtomicU8::new(0),
            stage: AtomicU8::new(stage as u8),
            has_fp_room,
            tags: AtomicBool::new(false),
            fp: AtomicPtr::new(core::ptr::null_mut()),
            pointer: AtomicU64::new(pointer),
        }
    }

    /// The FP state as it was last saved: current unless the registers are loaded.
    ///
    /// # Safety
    /// The caller's CPU runs this thread, and does not replace the state while it uses the reference: nobody else does.
    unsafe fn saved_fp(&self) -> Option<&FpState> {
        // SAFETY: null or the place below this, which was written before the pointer was.
        unsafe { self.fp.load(Ordering::Relaxed).as_ref() }
    }

    /// Keeps `state` as the thread's FP state, in its place at the top of the stack. Panics for idle threads, which run no user code.
    ///
    /// # Safety
    /// The thread is the caller's: it runs on this CPU, its state not loaded, or the caller has claimed it.
    unsafe fn make_fp(&self, state: FpState) -> *mut FpState {
        assert!(self.has_fp_room, "idle threads run no user code");
        let place = core::ptr::from_ref(self).cast::<FpState>().cast_mut().wrapping_sub(1);
        // SAFETY: the room between the stack's `top` and the control is for this alone; nobody else looks by the caller's promise.
        unsafe { place.write(state) };
        self.fp.store(place, Ordering::Relaxed);
        place
    }
}

/// Traps that a thread takes for its FP state before it is loaded with the thread, until the count comes round.
const LAZY_LOADS: u8 = 5;

/// A kernel stack with a suspended (or running) computation.
pub struct KernelThread {
    /// In the memory of the stack, which is this thread's until it is dropped.
    control: &'static Control,
    stack: Option<Stack>,
}

/// The thread a CPU runs (for FP and backtraces) and whether its FP registers are loaded.
pub(crate) struct Running {
    thread: AtomicPtr<Control>,
    fp_loaded: AtomicU32,
}

impl Running {
    pub(crate) const fn none() -> Self {
        Self { thread: AtomicPtr::new(core::ptr::null_mut()), fp_loaded: AtomicU32::new(0) }
    }

    #[inline(always)]
    fn set(&self, thread: &'static Control) {
        self.thread.store(core::ptr::from_ref(thread).cast_mut(), Ordering::Relaxed);
    }

    /// The calling CPU's thread; `None` before `adopt_current`.
    #[inline(always)]
    fn thread(&self) -> Option<&'static Control> {
        // SAFETY: null, or the control of the thread that runs here, which `KernelThread::drop` does not let go while it does.
        unsafe { self.thread.load(Ordering::Relaxed).as_ref() }
    }
}

impl KernelThread {
    /// A thread that will run `entry(argument)` when first switched to, with IRQs masked. `entry` never returns. Its user thread
    /// pointer is the calling thread's.
    pub fn new(entry: fn(usize) -> !, argument: usize) -> Result<Self, OutOfMemory> {
        let stack = Stack::new()?;
        let top = stack.top();
        let frame: [u64; 6] = [0, thread_start_asm as *const () as u64, 0, 0, entry as usize as u64, argument as u64];
        let sp = top - size_of_val(&frame) as u64;
        let control = (stack.bottom() + (KERNEL_STACK_BYTES - size_of::<Control>()) as u64) as *mut Control;
        // SAFETY: the top of a stack that is ours alone, mapped until `stack` is dropped and aligned to 64 bytes; switch_asm pops the first four words,
        // thread_start_asm the others.
        let control = unsafe {
            (sp as *mut [u64; 6]).write(frame);
            control.write(Control::new(sp, 0, Stage::New, true, TPIDR_EL0.get()));
            &*control
        };
        Ok(Self { control, stack: Some(stack) })
    }

    /// Adopts the boot (or secondary-boot) stack the caller runs on: a CPU's idle thread. Panics where a thread runs already.
    pub fn adopt_current() -> Self {
        let _irq = IrqGuard::new();
        let running = &cpu::block().running;
        assert!(running.thread().is_none(), "the CPU has a thread already");
        let control = (stack_bottom() + (KERNEL_STACK_BYTES - size_of::<Control>()) as u64) as *mut Control;
        // SAFETY: a CPU without a thread runs on a stack of boot, whose code leaves the top free (boot.S, smp.rs) and which is never
        // given up; by the check nobody has adopted it before.
        let control = unsafe {
            control.write(Control::new(0, 1, Stage::Started, false, 0));
            &*control
        };
        running.set(control);
        Self { control, stack: None }
    }

    fn bounds(&self) -> (u64, u64) {
        let top = core::ptr::from_ref(self.control) as u64;
        (top & !(KERNEL_STACK_BYTES as u64 - 1), top)
    }

    /// Return addresses of the suspended thread's frames, newest first, into `out`; returns how many. For /proc/PID/stack and
    /// panic reports. Best effort when the thread is running.
    pub fn backtrace(&self, out: &mut [u64]) -> usize {
        let bounds = self.bounds();
        let sp = self.control.sp.load(Ordering::Relaxed);
        if sp < bounds.0 || sp + 16 > bounds.1 || sp & 7 != 0 {
            return 0;
        }
        // SAFETY: an aligned word inside the mapped stack by the check above: the frame record switch_asm left. If the thread runs
        // meanwhile it is any number; `walk` checks what it points to.
        walk(unsafe { (sp as *const u64).read_volatile() }, bounds, out)
    }

    /// Whether some CPU is (still) running on this stack.
    pub fn is_on_cpu(&self) -> bool {
        self.control.on_cpu.load(Ordering::Acquire) != 0
    }

    /// Gives this not-yet-run thread a copy of the calling thread's FP state (fork, clone). Panics if it has run.
    pub fn inherit_fp(&self) {
        let Some(state) = own_fp() else { return };
        let control = self.control;
        // Claimed, as by a CPU that switches to it: nobody else touches the state meanwhile.
        let was_on_cpu = control.on_cpu.swap(1, Ordering::Acquire);
        assert!(was_on_cpu == 0 && control.stage.load(Ordering::Relaxed) == Stage::New as u8, "the thread has run");
        // SAFETY: claimed above.
        unsafe { control.make_fp(state) };
        control.on_cpu.store(0, Ordering::Release);
    }
    /// Whether the thread's system calls take tagged addresses: another thread's is for its creator and for who shows it.
    pub fn takes_tags(&self) -> bool {
        self.control.tags.load(Ordering::Relaxed)
    }
    pub fn set_takes_tags(&self, on: bool) {
        self.control.tags.store(on, Ordering::Relaxed);
    }

    /// Sets TPIDR_EL0 of this not-yet-run thread (CLONE_SETTLS).
    pub fn set_user_pointer(&self, value: u64) {
        self.control.pointer.store(value, Ordering::Relaxed);
    }

    /// Whether the thread owns a stack of its own (idle threads run on boot stacks).
    pub fn owns_stack(&self) -> bool {
        self.stack.is_some()
    }
}

impl Drop for KernelThread {
    /// Panics for a thread that runs, or may still be switched to: its stack goes to the next thread.
    fn drop(&mut self) {
        assert!(!self.is_on_cpu(), "dropping a running thread's stack");
        let stage = self.control.stage.load(Ordering::Relaxed);
        assert!(stage != Stage::Started as u8, "dropping the stack of a thread that has not finished");
    }
}

/// First Rust code of a new thread, from thread_start_asm.
#[expect(improper_ctypes_definitions, reason = "the assembly only passes on what `KernelThread::new` stored")]
#[unsafe(no_mangle)]
extern "C" fn rust_thread_start(entry: fn(usize) -> !, argument: usize) -> ! {
    if let Some(own) = cpu::block().running.thread() {
        own.stage.store(Stage::Started as u8, Ordering::Relaxed);
    }
    entry(argument)
}

/// Says that the calling thread will not be switched to again once it has left the CPU: then its `KernelThread` may be dropped.
pub fn finish() {
    let _irq = IrqGuard::new();
    if let Some(own) = cpu::block().running.thread() {
        own.stage.store(Stage::Finished as u8, Ordering::Relaxed);
    }
}

#[cold]
#[inline(never)]
fn no_thread() -> ! {
    panic!("a switch before `adopt_current`")
}

/// Switches the calling CPU from the thread it runs to `next`. Masks IRQs; they are masked when it returns, which it does when
/// something switches back. Spins while `next` is still being switched out on another CPU (for ever, if `next` runs here).
#[inline]
pub fn switch(next: &KernelThread) {
    cpu::disable_irqs();
    let running = &cpu::block().running;
    let next = next.control;
    let Some(prev) = running.thread() else { no_thread() };
    if running.fp_loaded.load(Ordering::Relaxed) != 0 {
        let mut state = prev.fp.load(Ordering::Relaxed);
        if state.is_null() {
            // SAFETY: the thread runs here; the registers are stored over it below.
            state = unsafe { prev.make_fp(FpState::ZERO) };
        }
        // SAFETY: `state` is this thread's own buffer, which only this CPU touches while the thread runs here; FP access is on.
        unsafe { fp_save_asm(state) };
    }
    while next.on_cpu.swap(1, Ordering::Acquire) != 0 {
        crate::cpu::relax();
    }
    // Here and not at every way in and out of user mode: nobody looks at it in between (4 instructions a system call).
    prev.pointer.store(TPIDR_EL0.get(), Ordering::Relaxed);
    TPIDR_EL0.set(next.pointer.load(Ordering::Relaxed));
    running.set(next);
    let state = next.fp.load(Ordering::Relaxed);
    let loads = next.fp_loads.load(Ordering::Relaxed);
    if loads > LAZY_LOADS && !state.is_null() {
        next.fp_loads.store(loads.wrapping_add(1), Ordering::Relaxed);
        if running.fp_loaded.load(Ordering::Relaxed) == 0 {
            running.fp_loaded.store(1, Ordering::Relaxed);
            fp_access(true);
        }
        // SAFETY: the state of the thread that runs next, claimed above; FP access is on.
        unsafe { fp_load_asm(state) };
    } else if running.fp_loaded.load(Ordering::Relaxed) != 0 {
        running.fp_loaded.store(0, Ordering::Relaxed);
        fp_access(false);
    }
    // SAFETY: IRQs are masked since before `prev` was read, so `prev` is the thread that runs here and its `sp` is ours to write;
    // `next` was claimed above and was suspended (or is new), so its `sp` is a frame of switch_asm on a stack that no CPU runs on. Both
    // controls are there: a thread that runs, or whose `KernelThread` is borrowed, has its stack. `prev.on_cpu` is cleared (STLR) after SP was saved and left. x19, x29 and SP are
    // restored when `prev` runs again, all other registers are declared changed: the compiler saves those that it needs.
    unsafe {
        core::arch::asm!(
            "bl {switch}",
            switch = sym switch_asm,
            in("x0") prev.sp.as_ptr(), in("x1") next.sp.as_ptr(), in("x2") prev.on_cpu.as_ptr(),
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

/// Lets EL0 and EL1 use FP/SIMD, or traps it (CPACR_EL1.FPEN; the ISB makes it count for what follows: Arm ARM D24.2.30).
#[inline]
fn fp_access(on: bool) {
    CPACR_EL1.write(if on { CPACR_EL1::FPEN::TrapNothing } else { CPACR_EL1::FPEN::TrapEl0El1 });
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
    // SAFETY: the calling CPU's thread, with IRQs masked: nothing replaces the state meanwhile; FP access is on.
    unsafe { fp_load_asm(running.thread().and_then(|own| own.saved_fp()).unwrap_or(&FpState::ZERO)) };
}

/// Whether the calling thread's system calls take tagged addresses.
#[cold]
pub fn allows_tags() -> bool {
    let _irq = IrqGuard::new();
    cpu::block().running.thread().is_some_and(|own| own.tags.load(Ordering::Relaxed))
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

/// The calling thread's user FP state; `None` when it never used FP.
fn own_fp() -> Option<FpState> {
    let _irq = IrqGuard::new();
    let running = &cpu::block().running;
    if running.fp_loaded.load(Ordering::Relaxed) == 0 {
        // SAFETY: the calling CPU's thread, with IRQs masked: nothing replaces the state while it is copied.
        return running.thread().and_then(|own| unsafe { own.saved_fp() }).copied();
    }
    let mut state = core::mem::MaybeUninit::<FpState>::uninit();
    let pointer = state.as_mut_ptr();
    // SAFETY: FP access is on and the registers are the calling thread's; every field is stored.
    unsafe {
        fp_save_asm(pointer);
        (&raw mut (*pointer).rest).write(0);
        Some(state.assume_init())
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
    // SAFETY: the calling thread's state is loaded, and FP access on, since `load_own_fp`; a switch comes only in a fault of the
    // accesses, after which both are so again (trap.rs).
    unsafe { crate::user::store_fp(record, u64::from(head[0]) | u64::from(head[1]) << 32) }
}

/// Replaces the calling thread's FP state by V0-V31 at `registers` in user memory, FPSR and FPCR, if zeros stand behind V31 (no
/// record follows): answers whether they do.
pub fn load_fp_from_user(registers: UserAddr, fpsr: u32, fpcr: u32) -> Result<bool, UserFault> {
    load_own_fp();
    // SAFETY: as in `store_fp_to_user`.
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
    if let Some(own) = running.thread() {
        own.fp.store(core::ptr::null_mut(), Ordering::Relaxed);
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

/// Where the stack that the caller runs on begins: stacks are aligned to their size.
fn stack_bottom() -> u64 {
    let sp: u64;
    // SAFETY: reads SP.
    unsafe { core::arch::asm!("mov {}, sp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    sp & !(KERNEL_STACK_BYTES as u64 - 1)
}

/// Return addresses of the caller's own frames, newest first.
pub fn backtrace_here(out: &mut [u64]) -> usize {
    let record: u64;
    // SAFETY: reads FP.
    unsafe { core::arch::asm!("mov {}, x29", out(reg) record, options(nomem, nostack, preserves_flags)) };
    let bottom = stack_bottom();
    walk(record, (bottom, bottom + KERNEL_STACK_BYTES as u64), out)
}
