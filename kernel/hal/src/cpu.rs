//! CPU numbers, per-CPU data, interrupt masking, idling, identification.

/// The most CPUs one kernel drives.
pub const MAX_CPUS: usize = 8;

/// Logical number of the calling CPU, 0..MAX_CPUS. Stable while in the kernel: the kernel is not preemptible.
#[inline(always)]
pub fn id() -> usize {
    todo!()
}

/// Number of CPUs that are up.
pub fn online() -> usize {
    todo!()
}

/// Masks IRQs while it lives; nests.
pub struct IrqGuard {
    _daif: u64,
    _not_send: core::marker::PhantomData<*const ()>,
}

impl IrqGuard {
    #[inline(always)]
    pub fn new() -> Self {
        todo!()
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
        todo!()
    }
}

pub fn irqs_enabled() -> bool {
    todo!()
}
pub fn enable_irqs() {
    todo!()
}
pub fn disable_irqs() {
    todo!()
}

/// Waits until an interrupt is pending; call with IRQs masked (it returns with them masked, the interrupt still pending).
pub fn wait_for_interrupt() {
    todo!()
}

/// One turn of a spin-wait loop.
#[inline(always)]
pub fn relax() {
    core::hint::spin_loop()
}

/// One value per CPU, each on its own cache line.
pub struct PerCpu<T>([Padded<T>; MAX_CPUS]);

#[repr(align(64))]
struct Padded<T>(T);

impl<T> PerCpu<T> {
    /// From one value per CPU: `PerCpu::new([const { X::new() }; MAX_CPUS])`.
    pub const fn new(values: [T; MAX_CPUS]) -> Self {
        let values = core::mem::ManuallyDrop::new(values);
        let mut slots = [const { core::mem::MaybeUninit::<Padded<T>>::uninit() }; MAX_CPUS];
        let mut cpu = 0;
        while cpu < MAX_CPUS {
            // SAFETY: `values` is never dropped, so each element is moved out exactly once.
            let value = unsafe { core::ptr::read((&raw const values).cast::<T>().add(cpu)) };
            slots[cpu] = core::mem::MaybeUninit::new(Padded(value));
            cpu += 1;
        }
        // SAFETY: every slot was initialised by the loop; the array of MaybeUninit has the array's layout.
        Self(unsafe { core::ptr::read((&raw const slots).cast::<[Padded<T>; MAX_CPUS]>()) })
    }
    /// The calling CPU's value.
    #[inline(always)]
    pub fn get(&self) -> &T {
        &self.0[id()].0
    }
    #[inline(always)]
    pub fn on(&self, cpu: usize) -> &T {
        &self.0[cpu].0
    }
}

/// A per-CPU "current object" of the kernel proper (its `Task`): set at each switch, read everywhere.
///
/// `get` hands out a reference that outlives a context switch of the borrowing thread: sound because the kernel proper
/// keeps a thread's object alive for as long as the thread has frames on its stack (it is dropped by another thread).
pub struct Current<T: 'static> {
    _slots: core::marker::PhantomData<fn() -> T>,
}

impl<T: Send + Sync + 'static> Current<T> {
    #[expect(clippy::new_without_default, reason = "statics only")]
    pub const fn new() -> Self {
        Self { _slots: core::marker::PhantomData }
    }
    /// Installs `object` on the calling CPU and returns the previous one.
    pub fn replace(&self, _object: alloc::sync::Arc<T>) -> Option<alloc::sync::Arc<T>> {
        todo!()
    }
    /// The calling CPU's object; panics before the first `replace`.
    #[inline(always)]
    pub fn get(&self) -> &'static T {
        todo!()
    }
    /// A counted reference to it.
    pub fn get_arc(&self) -> alloc::sync::Arc<T> {
        todo!()
    }
    pub fn is_set(&self) -> bool {
        todo!()
    }
}

/// ELF hardware capability words for the auxiliary vector (AT_HWCAP, AT_HWCAP2), of features every CPU has.
pub fn hwcaps() -> (u64, u64) {
    todo!()
}

/// MIDR_EL1 of logical CPU `cpu`, for /proc/cpuinfo.
pub fn midr(_cpu: usize) -> u64 {
    todo!()
}

/// A printable name of the CPU model ("Cortex-A72").
pub fn model_name(_midr: u64) -> &'static str {
    todo!()
}
