//! Terminal ioctls.

use super::{Tty, job};
use crate::prelude::*;
use crate::task::credentials::cap;
use crate::task::siginfo::{SIGTTOU, SIGWINCH};
use crate::vfs::{OpenFile, PollEvents};
use base::abi::ioctl::*;
use base::termios::{NCCS, TERMIOS_LEN, Termios, WinSize, cflag};
use core::sync::atomic::Ordering;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Packet-mode conditions.
pub const PKT_FLUSHREAD: u32 = 1;
pub const PKT_FLUSHWRITE: u32 = 2;
pub const PKT_STOP: u32 = 4;
pub const PKT_START: u32 = 8;
const PKT_NOSTOP: u32 = 16;
const PKT_DOSTOP: u32 = 32;

/// The oldest settings structure, `struct termio`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Termio {
    iflag: u16,
    oflag: u16,
    cflag: u16,
    lflag: u16,
    line: u8,
    cc: [u8; 8],
    pad: u8,
}

/// When new settings take effect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    AfterDrain,
    AfterFlush,
}

/// `through_master`: the command came by the master side of a pseudo-terminal.
pub fn ioctl(tty: &Arc<Tty>, through_master: bool, file: &OpenFile, command: u32, argument: u64) -> SysResult {
    let addr = UserAddr(argument);
    let int = UserPtr::<i32>::new(addr);
    // Changes by a background process stop it, as writes with TOSTOP do.
    if matches!(
        command,
        TCSETS
            | TCSETSW
            | TCSETSF
            | TCSETA
            | TCSETAW
            | TCSETAF
            | TCSETS2
            | TCSETSW2
            | TCSETSF2
            | TCSBRK
            | TCSBRKP
            | TCXONC
            | TCFLSH
            | TIOCSPGRP
            | TIOCSETD
            | TIOCSBRK
            | TIOCCBRK
    ) && !through_master
    {
        job::check_foreground(tty, SIGTTOU)?;
    }
    match command {
        TCGETS => {
            let termios = *tty.state.lock().line.termios();
            hal::user::copy_to_user(addr, &termios.as_bytes()[..TERMIOS_LEN])?;
        }
        TCGETS2 => UserPtr::new(addr).write(tty.state.lock().line.termios())?,
        TCGETA => get_termio(tty, addr)?,
        TCSETS => set_termios(tty, addr, When::Now, false)?,
        TCSETSW => set_termios(tty, addr, When::AfterDrain, false)?,
        TCSETSF => set_termios(tty, addr, When::AfterFlush, false)?,
        TCSETS2 => set_termios(tty, addr, When::Now, true)?,
        TCSETSW2 => set_termios(tty, addr, When::AfterDrain, true)?,
        TCSETSF2 => set_termios(tty, addr, When::AfterFlush, true)?,
        TCSETA => set_termio(tty, addr, When::Now)?,
        TCSETAW => set_termio(tty, addr, When::AfterDrain)?,
        TCSETAF => set_termio(tty, addr, When::AfterFlush)?,
        TCSBRK | TCSBRKP => tty.drain()?, // nobody here sees a break
        TIOCSBRK | TIOCCBRK => {}
        TCXONC => flow(tty, argument)?,
        TCFLSH => flush(tty, argument)?,
        TIOCEXCL => tty.exclusive.store(true, Ordering::Relaxed),
        TIOCNXCL => tty.exclusive.store(false, Ordering::Relaxed),
        TIOCGEXCL => int.write(&i32::from(tty.exclusive.load(Ordering::Relaxed)))?,
        TIOCSCTTY => {
            if through_master {
                return Err(Errno::ENOTTY);
            }
            return job::set_controlling(tty, argument == 1);
        }
        TIOCNOTTY => return job::give_up(tty),
        TIOCGPGRP => int.write(&(job::foreground(tty, through_master)? as i32))?,
        TIOCSPGRP => {
            let pgid = int.read()?;
            return job::set_foreground(tty, pgid);
        }
        TIOCGSID => int.write(&(job::session(tty, through_master)? as i32))?,
        TIOCOUTQ => {
            let queued = match tty.pair() {
                Some(pair) if !through_master => pair.queued(),
                _ => 0,
            };
            int.write(&(queued as i32))?;
        }
        TIOCSTI => {
            if !job::is_controlling(tty) && !current().creds().has_cap(cap::SYS_ADMIN) {
                return Err(Errno::EPERM);
            }
            let byte = UserPtr::<u8>::new(addr).read()?;
            tty.receive(&[byte]);
        }
        TIOCGWINSZ => {
            let window = *tty.window.lock();
            UserPtr::new(addr).write(&window)?;
        }
        TIOCSWINSZ => {
            let new = UserPtr::<WinSize>::new(addr).read()?;
            let old = core::mem::replace(&mut *tty.window.lock(), new);
            if old != new {
                job::signal_foreground(tty, SIGWINCH);
            }
        }
        FIONREAD => {
            let readable = tty.state.lock().line.readable();
            int.write(&(readable as i32))?;
        }
        TIOCGSOFTCAR => {
            let local = tty.state.lock().line.termios().cflag & cflag::CLOCAL != 0;
            int.write(&i32::from(local))?;
        }
        TIOCSSOFTCAR => {
            let local = int.read()? != 0;
            tty.with_line(|state| {
                let mut termios = *state.line.termios();
                termios.cflag = if local { termios.cflag | cflag::CLOCAL } else { termios.cflag & !cflag::CLOCAL };
                state.line.set_termios(termios);
            });
        }
        TIOCGETD => int.write(&0)?,
        TIOCSETD => {
            if int.read()? != 0 {
                return Err(Errno::EINVAL);
            }
        }
        TIOCGDEV => UserPtr::<u32>::new(addr).write(&(tty.rdev as u32))?,
        TIOCMGET if tty.pair().is_none() => int.write(&0x166)?, // a line that is always there: DTR RTS CTS CD DSR
        TIOCVHANGUP => {
            if !current().creds().has_cap(cap::SYS_ADMIN) {
                return Err(Errno::EPERM);
            }
            job::hang_up(tty);
        }
        _ => return Err(Errno::ENOTTY),
    }
    let _ = file;
    Ok(0)
}

fn set_termios(tty: &Arc<Tty>, addr: UserAddr, when: When, with_speeds: bool) -> Result<(), Errno> {
    let mut new = *tty.state.lock().line.termios();
    let len = if with_speeds { size_of::<Termios>() } else { TERMIOS_LEN };
    hal::user::copy_from_user(&mut new.as_mut_bytes()[..len], addr)?;
    new.speeds_from_flags();
    apply(tty, new, when)
}

fn get_termio(tty: &Tty, addr: UserAddr) -> Result<(), Errno> {
    let t = *tty.state.lock().line.termios();
    let mut cc = [0; 8];
    cc.copy_from_slice(&t.cc[..8]);
    UserPtr::new(addr).write(&Termio {
        iflag: t.iflag as u16,
        oflag: t.oflag as u16,
        cflag: t.cflag as u16,
        lflag: t.lflag as u16,
        line: t.line,
        cc,
        pad: 0,
    })
}

fn set_termio(tty: &Arc<Tty>, addr: UserAddr, when: When) -> Result<(), Errno> {
    let old = UserPtr::<Termio>::new(addr).read()?;
    let mut new = *tty.state.lock().line.termios();
    let low = |whole: u32, low: u16| (whole & 0xffff_0000) | u32::from(low);
    new.iflag = low(new.iflag, old.iflag);
    new.oflag = low(new.oflag, old.oflag);
    new.cflag = low(new.cflag, old.cflag);
    new.lflag = low(new.lflag, old.lflag);
    new.line = old.line;
    new.cc[..8].copy_from_slice(&old.cc);
    new.speeds_from_flags();
    apply(tty, new, when)
}

fn apply(tty: &Arc<Tty>, mut new: Termios, when: When) -> Result<(), Errno> {
    use base::termios::{cc, iflag};
    if when != When::Now {
        tty.drain()?;
    }
    new.line = 0;
    if tty.pair().is_some() {
        // A pseudo-terminal has no line: eight bits, no parity.
        new.cflag = (new.cflag & !(cflag::CSIZE | cflag::PARENB)) | cflag::CS8 | cflag::CREAD;
    }
    debug_assert!(new.cc.len() == NCCS);
    let mut stop_changed = None;
    tty.with_line(|state| {
        if when == When::AfterFlush {
            state.raw.clear();
            state.line.flush_input();
        }
        let does_stop = |t: &Termios| t.has_i(iflag::IXON) && t.cc[cc::VSTOP] == 0o23 && t.cc[cc::VSTART] == 0o21;
        let (before, after) = (does_stop(state.line.termios()), does_stop(&new));
        if before != after {
            stop_changed = Some(after);
        }
        state.line.set_termios(new);
    });
    if let (Some(pair), Some(stops)) = (tty.pair(), stop_changed) {
        pair.report(if stops { PKT_DOSTOP } else { PKT_NOSTOP });
    }
    // VMIN or canonical mode may have changed what a waiting read wants.
    tty.read_wait.wake_all();
    Ok(())
}

/// tcflow(3).
fn flow(tty: &Arc<Tty>, action: u64) -> Result<(), Errno> {
    use base::termios::cc;
    match action {
        0 => tty.set_stopped(true),
        1 => tty.set_stopped(false),
        2 | 3 => {
            let index = if action == 2 { cc::VSTOP } else { cc::VSTART };
            let byte = tty.state.lock().line.termios().cc[index];
            if byte != 0 {
                tty.port.write(&[byte]);
            }
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// tcflush(3): 0 input, 1 output, 2 both.
fn flush(tty: &Arc<Tty>, queue: u64) -> Result<(), Errno> {
    if queue > 2 {
        return Err(Errno::EINVAL);
    }
    if queue != 1 {
        let mut state = tty.state.lock();
        state.raw.clear();
        state.line.flush_input();
        tty.publish(&state);
        drop(state);
        if let Some(pair) = tty.pair() {
            pair.report_flush_input();
            pair.input_has_room();
        }
    }
    if queue != 0 {
        if let Some(pair) = tty.pair() {
            pair.flush_output();
        }
        tty.port_has_room();
        tty.poll_set.notify(PollEvents::OUT | PollEvents::WRNORM);
    }
    Ok(())
}
