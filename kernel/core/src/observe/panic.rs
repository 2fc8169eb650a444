//! The end: message, backtrace, every task and what it waits for; then the machine stops with the panic status.

use crate::log::Plain;
use crate::machine::led;
use crate::prelude::*;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicUsize, Ordering};
use drivers::traits::Ipi;

/// Exit status of a machine that panicked.
const PANIC_STATUS: u8 = 101;

struct Port;

impl Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        hal::early::write_log(text.as_bytes());
        Ok(())
    }
}

/// 1 + number of the CPU that panicked first; a panic inside the report ends at once.
static PANICKED: AtomicUsize = AtomicUsize::new(0);

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    hal::cpu::disable_irqs();
    let own = hal::cpu::id() + 1;
    match PANICKED.compare_exchange(0, own, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => report(info),
        Err(first) if first == own => {
            let _ = writeln!(Port, "\npanic inside the panic report: {info}");
        }
        Err(_) => hal::power::park_cpu(),
    }
    hal::early::write_log(b"\n[crannog] panic\n");
    end()
}

/// What `panic=` on the command line asks for, as on Linux: below 0 the machine starts anew at once, at 0 it stays as it is, above
/// it starts anew after so many seconds. Without it, a Raspberry Pi stays, for somebody to see its LED blink and read the report, and
/// any other machine is switched off.
fn end() -> ! {
    let asked = hal::boot::try_info()
        .and_then(|_| crate::command_line::option("panic"))
        .and_then(|value| value.parse::<i64>().ok());
    match asked {
        None if hal::boot::raspberry_pi::board().is_none() => hal::power::off(PANIC_STATUS),
        Some(..0) => {}
        None | Some(0) => led::blink_until(None),
        Some(seconds @ 1..) => {
            let wait_ns = (seconds as u64).saturating_mul(1_000_000_000);
            led::blink_until(Some(hal::time::now_ns().saturating_add(wait_ns)));
        }
    }
    hal::power::reset(PANIC_STATUS)
}

fn report(info: &core::panic::PanicInfo<'_>) {
    for cpu in (0..hal::cpu::online()).filter(|cpu| *cpu != hal::cpu::id()) {
        crate::irq::send_ipi(cpu, Ipi::Stop);
    }
    let _ = writeln!(Port, "\nkernel panic on CPU {}: {info}", hal::cpu::id());
    let mut frames = [0u64; 32];
    let count = hal::context::backtrace_here(&mut frames);
    print_frames(&frames[..count], "  ");
    if crate::task::task::CURRENT.is_set() {
        let task = current();
        let _ = writeln!(Port, "current: tid {} ({})", task.tid(), Plain(&task.comm()));
    }
    print_tasks();
}

fn print_frames(frames: &[u64], indent: &str) {
    for &address in frames {
        // A return address lies behind the call.
        let _ = match crate::log::symbol(address.wrapping_sub(4)) {
            Some((name, offset)) => writeln!(Port, "{indent}{address:016x} {name}+{offset:#x}"),
            None => writeln!(Port, "{indent}{address:016x}"),
        };
    }
}

/// One line per thread: state, what it waits for; then its kernel stack.
fn print_tasks() {
    let now = hal::time::now_ns();
    for process in crate::task::all_processes_if_unlocked() {
        let Some(threads) = process.threads.try_lock() else { continue };
        for task in threads.iter() {
            let _ = write!(
                Port,
                "tid {:5} pid {:5} {} {}",
                task.tid(),
                process.pid,
                task.state_letter(),
                Plain(&task.comm())
            );
            let _ = match task.wait_record() {
                Some(record) => writeln!(
                    Port,
                    " waits for {} {:#x} owner {} since {} ms",
                    record.reason.kind.name(),
                    record.reason.object,
                    record.reason.owner,
                    now.saturating_sub(record.since_ns) / 1_000_000
                ),
                None => writeln!(Port),
            };
            let mut frames = [0u64; 12];
            let count = task.thread.backtrace(&mut frames);
            print_frames(&frames[..count], "      ");
        }
    }
}
