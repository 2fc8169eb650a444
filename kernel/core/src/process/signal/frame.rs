//! The frame a handler runs on: `struct rt_sigframe` of arm64 Linux, and its undoing by rt_sigreturn(2).
//!
//! From the stack pointer up: siginfo (128 bytes); ucontext: flags, link, stack, mask, 120 bytes of padding, sigcontext: fault
//! address, x0-x30, sp, pc, pstate, 4096 bytes of records {magic, size, ...} ended by a zero record; above all a frame record
//! (x29, x30) that lets unwinders go on.

use super::state::{Action, AltStack, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK, bit, refresh, sa};
use super::trampoline;
use crate::prelude::*;
use crate::task::siginfo::{SIGBUS, SIGILL, SIGSEGV, SIGTRAP, SigInfo, UserSigInfo};
use core::mem::offset_of;
use core::sync::atomic::Ordering;
use hal::context::{FpState, load_fp_from_user, store_fp_to_user, write_fp};
use hal::trap::UserContext;
use hal::user;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

const RESERVED_BYTES: usize = 4096;
const FP_MAGIC: u32 = 0x4650_8001;
const ESR_MAGIC: u32 = 0x4553_5201;
const EXTRA_MAGIC: u32 = 0x4558_5401;

/// The head of the FP record; V0-V31 follow. `hal` stores it with them.
#[derive(Clone, Copy, PartialEq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct FpHead {
    magic: u32,
    size: u32,
    fpsr: u32,
    fpcr: u32,
}
const FP_RECORD_BYTES: usize = size_of::<FpHead>() + 512;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct EsrRecord {
    magic: u32,
    size: u32,
    esr: u64,
    /// The zero record behind it.
    end: [u64; 2],
}

/// ucontext up to its padding.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Ucontext {
    flags: u64,
    link: u64,
    stack: AltStack,
    mask: u64,
}

/// The frame up to x0, put on the stack as one: a copy for each part costs more than what is copied. x0-x30, sp, pc and pstate
/// follow, then 8 bytes that align the records.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Head {
    info: UserSigInfo,
    ucontext: Ucontext,
    padding: [u64; 16],
    fault_address: u64,
}

/// Offsets in the frame.
const UCONTEXT: u64 = offset_of!(Head, ucontext) as u64;
const REGISTERS: u64 = size_of::<Head>() as u64;
const RECORDS: u64 = REGISTERS + 34 * 8 + 8;
const FRAME_BYTES: u64 = RECORDS + RESERVED_BYTES as u64;
const _: () = assert!(UCONTEXT == 128 && REGISTERS == 312 && RECORDS == 592);

/// Puts a frame for `info` on the thread's stack and points `context` at the handler. EFAULT when the stack is not there.
pub fn push(context: &mut UserContext, info: &SigInfo, action: &Action) -> Result<(), Errno> {
    let task = current();
    let signal = info.signo as u32;
    let mut alt = task.signal.alt_stack.leaf();
    let mut sp = context.sp;
    let mut reported = *alt;
    reported.flags = stack_flags(&alt, sp);
    if action.flags & sa::ONSTACK != 0 && alt.flags & SS_DISABLE == 0 && !alt.contains(sp) {
        sp = alt.sp.wrapping_add(alt.size);
    }
    if alt.flags & SS_AUTODISARM != 0 {
        *alt = AltStack::NONE;
    }
    drop(alt);

    let record = (sp & !15).wrapping_sub(16);
    let frame = record.wrapping_sub(FRAME_BYTES) & !15;
    let esr = task.signal.fault_esr.load(Ordering::Relaxed);
    let is_fault = matches!(signal, SIGSEGV | SIGBUS | SIGILL | SIGTRAP) && info.code > 0 && info.code < 0x80;
    let mut head = Head::new_zeroed();
    head.info.info = *info;
    head.ucontext.stack = reported;
    head.ucontext.mask = task.signal.take_saved_mask().unwrap_or(task.signal.mask());
    head.fault_address = if is_fault { info.fields[0] } else { 0 };
    UserPtr::new(UserAddr(frame)).write(&head)?;
    UserPtr::new(UserAddr(frame + REGISTERS)).write(context.words())?;
    // With the zero record that ends the list.
    store_fp_to_user(UserAddr(frame + RECORDS), [FP_MAGIC, FP_RECORD_BYTES as u32])?;
    if esr != 0 {
        task.signal.fault_esr.store(0, Ordering::Relaxed);
        let record = EsrRecord { magic: ESR_MAGIC, size: offset_of!(EsrRecord, end) as u32, esr, end: [0; 2] };
        UserPtr::new(UserAddr(frame + RECORDS + FP_RECORD_BYTES as u64)).write(&record)?;
    }
    UserPtr::new(UserAddr(record)).write(&[context.x[29], context.x[30]])?;

    let mut mask = task.signal.mask() | action.mask;
    if action.flags & sa::NODEFER == 0 {
        mask |= bit(signal);
    }
    task.signal.set_mask(mask);
    context.x[0] = u64::from(signal);
    context.x[1] = frame;
    context.x[2] = frame + 128;
    context.x[29] = record;
    context.x[30] = if action.flags & sa::RESTORER != 0 { action.restorer } else { trampoline::address(task) };
    context.sp = frame;
    context.pc = action.handler;
    context.set_pstate(0);
    Ok(())
}

/// MINSIGSTKSZ of arm64.
const MIN_STACK: u64 = 5120;

/// Sets the alternate stack: EPERM while it is in use, EINVAL, ENOMEM.
pub fn set_alt_stack(new: &AltStack, sp: u64) -> Result<(), Errno> {
    let mut alt = current().signal.alt_stack.leaf();
    if alt.contains(sp) {
        return Err(Errno::EPERM);
    }
    let mode = new.flags & !SS_AUTODISARM;
    match mode {
        SS_DISABLE => *alt = AltStack { flags: new.flags, ..AltStack::NONE },
        0 | SS_ONSTACK => {
            if new.size < MIN_STACK {
                return Err(Errno::ENOMEM);
            }
            *alt = AltStack { flags: new.flags & SS_AUTODISARM, pad: 0, ..*new };
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// SS_* flags as sigaltstack(2) reports them.
pub fn stack_flags(alt: &AltStack, sp: u64) -> i32 {
    let auto = alt.flags & SS_AUTODISARM;
    if alt.size == 0 || alt.flags & SS_DISABLE != 0 {
        SS_DISABLE | auto
    } else if alt.contains(sp) {
        SS_ONSTACK | auto
    } else {
        auto
    }
}

/// Looks at the records behind the head; answers the FP record's head and where V0 is: EINVAL for what is not well formed, or
/// without FP state.
fn find_fp(mut at: u64) -> Result<(FpHead, u64), Errno> {
    let end = at + RESERVED_BYTES as u64;
    let mut fp = None;
    loop {
        if at + 8 > end {
            return Err(Errno::EINVAL);
        }
        let [magic, size] = UserPtr::<[u32; 2]>::new(UserAddr(at)).read()?;
        match magic {
            0 if size == 0 => return fp.ok_or(Errno::EINVAL),
            FP_MAGIC if size as usize == FP_RECORD_BYTES && fp.is_none() => {
                let head = UserPtr::<FpHead>::new(UserAddr(at)).read()?;
                fp = Some((head, at + size_of::<FpHead>() as u64));
            }
            ESR_MAGIC | EXTRA_MAGIC if size >= 16 => {}
            _ => return Err(Errno::EINVAL),
        }
        if size % 16 != 0 || at + u64::from(size) > end {
            return Err(Errno::EINVAL);
        }
        at += u64::from(size);
    }
}

/// rt_sigreturn(2): back to where the signal came. EFAULT or EINVAL for a frame that is not one (the caller sends SIGSEGV).
pub fn pop(context: &mut UserContext) -> Result<(), Errno> {
    let task = current();
    let frame = context.sp;
    if frame & 15 != 0 {
        return Err(Errno::EINVAL);
    }
    let ucontext = UserPtr::<Ucontext>::new(UserAddr(frame + UCONTEXT)).read()?;
    // As on Linux, registers are taken before the rest has been looked at: the thread dies of a bad frame anyway. With an error below,
    // a SIGSEGV handler starts from this context.
    context.fill_words(|words| user::copy_from_user(words.as_mut_bytes(), UserAddr(frame + REGISTERS)))?;
    let records = frame + RECORDS;
    let first = UserPtr::<FpHead>::new(UserAddr(records)).read()?;
    // The usual frame has the FP record first and the end of the list behind V31; all others are looked through.
    let is_usual = first.magic == FP_MAGIC && first.size as usize == FP_RECORD_BYTES;
    let registers = UserAddr(records + size_of::<FpHead>() as u64);
    if !is_usual || !load_fp_from_user(registers, first.fpsr, first.fpcr)? {
        let (fp, registers) = find_fp(records)?;
        let mut state = UserPtr::<FpState>::new(UserAddr(registers)).read()?;
        (state.fpsr, state.fpcr) = (fp.fpsr, fp.fpcr);
        write_fp(&state);
    }
    task.signal.set_mask(ucontext.mask);
    task.signal.forget_restart();
    // The stack's description may have been changed by the handler, as on Linux.
    let _ = set_alt_stack(&ucontext.stack, context.sp);
    refresh(task);
    Ok(())
}
