//! Sessions and their controlling terminals, foreground groups, hang-up.

use super::Tty;
use crate::prelude::*;
use crate::process::signal;
use crate::task::siginfo::{SIGCONT, SIGHUP, SIGTTIN, SigInfo};
use crate::task::{find_process, process_group};
use crate::vfs::PollEvents;
use alloc::collections::BTreeMap;
use core::sync::atomic::Ordering;

/// What a session has for a controlling terminal.
enum Controlling {
    Terminal(Arc<Tty>),
    /// It hung up; the foreground group of then hears of the leader's exit.
    HungUp {
        foreground: u32,
    },
}

static SESSIONS: SpinLock<BTreeMap<u32, Controlling>> = SpinLock::new(BTreeMap::new());

/// The session whose terminal is the process's as well; 0 for one that has given it up (TIOCNOTTY).
fn session_of(process: &Process) -> u32 {
    if process.life.gave_terminal_up.load(Ordering::Relaxed) { 0 } else { process.sid() }
}

/// The controlling terminal of the calling process.
pub fn controlling() -> Option<Arc<Tty>> {
    let sid = session_of(&current().process);
    match SESSIONS.lock().get(&sid) {
        Some(Controlling::Terminal(tty)) => Some(tty.clone()),
        _ => None,
    }
}

pub fn is_controlling(tty: &Tty) -> bool {
    let session = tty.control.lock().session;
    session != 0 && session == session_of(&current().process)
}

/// The controlling terminal of `process`: its device number and foreground process group (0 when none).
pub fn of_process(process: &Process) -> Option<(u64, u32)> {
    match SESSIONS.lock().get(&session_of(process))? {
        Controlling::Terminal(tty) => Some((tty.rdev, tty.control.lock().foreground)),
        Controlling::HungUp { .. } => None,
    }
}

/// Makes `tty` the controlling terminal of the calling process's session (which has none, and leads it).
fn take(tty: &Arc<Tty>) {
    let process = &current().process;
    let (sid, pgid) = (process.sid(), process.pgid());
    process.life.gave_terminal_up.store(false, Ordering::Relaxed);
    let mut sessions = SESSIONS.lock();
    let mut control = tty.control.lock();
    control.session = sid;
    control.foreground = pgid;
    drop(control);
    let old = sessions.insert(sid, Controlling::Terminal(tty.clone()));
    drop(sessions);
    drop(old);
}

/// The rule at open(2): a session leader without a terminal takes a free one.
pub fn take_if_free(tty: &Arc<Tty>) {
    let process = &current().process;
    if process.pid == process.sid() && tty.control.lock().session == 0 && controlling().is_none() {
        take(tty);
    }
}

/// TIOCSCTTY: EPERM.
pub fn set_controlling(tty: &Arc<Tty>, force: bool) -> SysResult {
    let process = &current().process;
    let sid = process.sid();
    let owner = tty.control.lock().session;
    if process.pid == sid && owner == sid {
        return Ok(0);
    }
    if process.pid != sid || controlling().is_some() {
        return Err(Errno::EPERM);
    }
    if owner != 0 {
        if !(force && current().creds().has_cap(crate::task::credentials::cap::SYS_ADMIN)) {
            return Err(Errno::EPERM);
        }
        let old = SESSIONS.lock().remove(&owner);
        drop(old);
    }
    take(tty);
    Ok(0)
}

/// TIOCNOTTY: the calling process gives its terminal up; a session leader does so for the session. ENOTTY.
pub fn give_up(tty: &Arc<Tty>) -> SysResult {
    if !is_controlling(tty) {
        return Err(Errno::ENOTTY);
    }
    let process = &current().process;
    if process.pid != process.sid() {
        process.life.gave_terminal_up.store(true, Ordering::Relaxed);
        return Ok(0);
    }
    let foreground = release(tty);
    for number in [SIGHUP, SIGCONT] {
        send_group(foreground, number);
    }
    Ok(0)
}

/// Ends the tie between `tty` and its session; answers the foreground group.
fn release(tty: &Tty) -> u32 {
    let mut sessions = SESSIONS.lock();
    let control = core::mem::take(&mut *tty.control.lock());
    let old = sessions.remove(&control.session);
    drop(sessions);
    drop(old);
    control.foreground
}

/// The session leader of `sid` exits: its terminal hangs up and is free again.
pub fn session_leader_exits(sid: u32) {
    let entry = SESSIONS.lock().remove(&sid);
    let foreground = match entry {
        None => return,
        Some(Controlling::HungUp { foreground }) => foreground,
        Some(Controlling::Terminal(tty)) => {
            let control = core::mem::take(&mut *tty.control.lock());
            // A line hangs up; a pseudo-terminal's other side may go on with it, so only its jobs hear.
            if tty.pair().is_some() {
                send_group(control.foreground, SIGHUP);
                return;
            }
            kill_descriptions(&tty);
            control.foreground
        }
    };
    for number in [SIGHUP, SIGCONT] {
        send_group(foreground, number);
    }
}

/// The line is gone (the master closed, vhangup): the session leader hears of it, and every open description is dead.
pub fn hang_up(tty: &Arc<Tty>) {
    let control = core::mem::take(&mut *tty.control.lock());
    if control.session != 0 {
        let hung = Controlling::HungUp { foreground: control.foreground };
        let old = SESSIONS.lock().insert(control.session, hung);
        drop(old);
    }
    kill_descriptions(tty);
    if control.session != 0
        && let Some(leader) = find_process(control.session)
    {
        for number in [SIGHUP, SIGCONT] {
            signal::send_to_process(&leader, SigInfo::kernel(number));
        }
    }
}

fn kill_descriptions(tty: &Tty) {
    tty.generation.fetch_add(1, Ordering::AcqRel);
    tty.state.lock().line.flush_input();
    tty.read_wait.wake_all();
    tty.write_wait.wake_all();
    tty.writer_wait.wake_all();
    tty.poll_set.notify(PollEvents::all());
}

fn send_group(pgid: u32, number: u32) {
    if pgid != 0 {
        signal::send_to_group(pgid, SigInfo::kernel(number));
    }
}

/// Sends a terminal signal to the foreground group.
pub fn signal_foreground(tty: &Tty, number: u32) {
    let foreground = tty.control.lock().foreground;
    send_group(foreground, number);
}

/// No member's parent is in another group of the same session: nobody would continue it.
fn is_orphaned(pgid: u32) -> bool {
    !process_group(pgid).iter().any(|process| {
        let (parent, sid) = {
            let relations = process.relations.lock();
            (relations.parent.upgrade(), relations.sid)
        };
        parent.is_some_and(|parent| parent.pgid() != pgid && parent.sid() == sid)
    })
}

/// Job control for a background process of the terminal's session: reads (SIGTTIN) stop it, writes and changes (SIGTTOU) too
/// unless it ignores or blocks that. EIO when stopping would be for ever; ERESTARTSYS when the signal was sent.
pub fn check_foreground(tty: &Tty, number: u32) -> Result<(), Errno> {
    let control = *tty.control.lock();
    let process = &current().process;
    if control.session == 0 || control.session != session_of(process) || control.foreground == 0 {
        return Ok(());
    }
    let pgid = process.pgid();
    if pgid == control.foreground {
        return Ok(());
    }
    if signal::is_blocked_or_ignored(number) {
        return if number == SIGTTIN { Err(Errno::EIO) } else { Ok(()) };
    }
    if is_orphaned(pgid) {
        return Err(Errno::EIO);
    }
    send_group(pgid, number);
    Err(Errno::ERESTARTSYS)
}

/// TIOCGPGRP: ENOTTY.
pub fn foreground(tty: &Tty, through_master: bool) -> Result<u32, Errno> {
    if !through_master && !is_controlling(tty) {
        return Err(Errno::ENOTTY);
    }
    Ok(tty.control.lock().foreground)
}

/// TIOCSPGRP: ENOTTY, EINVAL, ESRCH, EPERM.
pub fn set_foreground(tty: &Tty, pgid: i32) -> SysResult {
    if !is_controlling(tty) {
        return Err(Errno::ENOTTY);
    }
    let pgid = u32::try_from(pgid).map_err(|_| Errno::EINVAL)?;
    let group = process_group(pgid);
    let member = group.first().ok_or(Errno::ESRCH)?;
    if member.sid() != current().process.sid() {
        return Err(Errno::EPERM);
    }
    tty.control.lock().foreground = pgid;
    Ok(0)
}

/// TIOCGSID: ENOTTY.
pub fn session(tty: &Tty, through_master: bool) -> Result<u32, Errno> {
    let session = tty.control.lock().session;
    if session == 0 || (!through_master && !is_controlling(tty)) { Err(Errno::ENOTTY) } else { Ok(session) }
}
