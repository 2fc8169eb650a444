//! Power-off and reset: PSCI, else the board's way; then stop.

use crate::boot::tree::{self, EnableMethod};
use aarch64_cpu::asm;
use drivers::traits::PowerControl;
use smccc::{Hvc, Smc, psci};
use spin::Once;

/// The conduit of PSCI calls on this machine.
fn method() -> EnableMethod {
    tree::cpus().first().map_or(EnableMethod::None, |cpu| cpu.method)
}

static BOARD: Once<&'static dyn PowerControl> = Once::new();

/// Installs what ends a machine that has no PSCI.
pub(crate) fn set_board(control: &'static dyn PowerControl) {
    BOARD.call_once(|| control);
}

/// Ends the machine. `status` reaches the host where the platform has a way (semihosting when asked for on the command
/// line); the kernel has already written it to the log port.
pub fn off(status: u8) -> ! {
    crate::cpu::disable_irqs();
    crate::early::drain();
    semihosting_exit(status);
    match method() {
        EnableMethod::PsciHvc => drop(psci::system_off::<Hvc>()),
        EnableMethod::PsciSmc => drop(psci::system_off::<Smc>()),
        _ => BOARD.get().into_iter().for_each(|board| board.off()),
    }
    park_cpu()
}

/// Starts the machine anew. `status` is for a host that listens by semihosting: for it the machine ends.
pub fn reset(status: u8) -> ! {
    crate::cpu::disable_irqs();
    crate::early::drain();
    semihosting_exit(status);
    match method() {
        EnableMethod::PsciHvc => drop(psci::system_reset::<Hvc>()),
        EnableMethod::PsciSmc => drop(psci::system_reset::<Smc>()),
        _ => BOARD.get().into_iter().for_each(|board| board.reset()),
    }
    park_cpu()
}

/// Stops the calling CPU for good (another CPU panicked).
pub fn park_cpu() -> ! {
    crate::cpu::disable_irqs();
    loop {
        asm::wfi();
    }
}

/// SYS_EXIT (0x18) with ADP_Stopped_ApplicationExit and a status, when the command line says that somebody listens.
fn semihosting_exit(status: u8) {
    let asked = |info: &crate::boot::BootInfo| info.cmdline.split_ascii_whitespace().any(|word| word == "semihosting");
    if !crate::boot::try_info().is_some_and(asked) {
        return;
    }
    let block: [u64; 2] = [0x20026, u64::from(status)];
    // SAFETY: only when the command line says that a debugger listens; it reads the block and ends the machine.
    unsafe { core::arch::asm!("hlt #0xf000", in("x0") 0x18, in("x1") block.as_ptr()) };
}
