//! mq_notify(3): one process at a time hears of the next message that comes into the empty queue, by a signal, or through a
//! netlink socket on which a thread of the C library waits (SIGEV_THREAD), or not at all.

use super::MessageQueue;
use crate::net::netlink::{AF_NETLINK, NetlinkSocket};
use crate::prelude::*;
use crate::process::signal;
use crate::task::siginfo::SigInfo;
use crate::vfs::OpenFile;
use crate::vfs::table::file;
use core::sync::atomic::Ordering;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const SIGEV_SIGNAL: i32 = 0;
const SIGEV_NONE: i32 = 1;
const SIGEV_THREAD: i32 = 2;

/// Bytes that the C library sends with SIGEV_THREAD; the last one tells it what has happened.
const COOKIE: usize = 32;
const WOKEN_UP: u8 = 1;
const REMOVED: u8 = 2;

/// `struct sigevent`, as far as it is looked at.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Sigevent {
    value: u64,
    signo: i32,
    notify: i32,
    rest: [u64; 6],
}

enum How {
    Signal { number: u32, value: u64 },
    Nothing,
    Thread { socket: Weak<OpenFile>, cookie: [u8; COOKIE] },
}

/// Who hears of a message that comes into the empty queue, once.
pub(crate) struct Notify {
    process: Weak<Process>,
    pid: u32,
    /// Which of the process's programs asked: the next one is not told.
    exec_id: u32,
    how: How,
}

impl Notify {
    /// EINVAL, EFAULT; EBADF and ENOTSOCK for SIGEV_THREAD without its socket.
    pub fn parse(event: &Sigevent) -> Result<Self, Errno> {
        let how = match event.notify {
            SIGEV_SIGNAL => {
                let number = u32::try_from(event.signo).ok().filter(|number| *number <= 64).ok_or(Errno::EINVAL)?;
                How::Signal { number, value: event.value }
            }
            SIGEV_NONE => How::Nothing,
            SIGEV_THREAD => {
                let cookie = UserPtr::<[u8; COOKIE]>::new(UserAddr(event.value)).read()?;
                let socket = file(event.signo)?;
                if socket.ops.as_socket().ok_or(Errno::ENOTSOCK)?.domain() != AF_NETLINK {
                    return Err(Errno::EINVAL);
                }
                How::Thread { socket: Arc::downgrade(&socket), cookie }
            }
            _ => return Err(Errno::EINVAL),
        };
        let process = &current().process;
        let exec_id = process.life.exec_id.load(Ordering::Relaxed);
        Ok(Self { process: Arc::downgrade(process), pid: process.pid, exec_id, how })
    }

    /// What the queue's file shows: the kind, the signal, the process.
    pub fn shown(&self) -> (i32, u32, u32) {
        match self.how {
            How::Signal { number, .. } => (SIGEV_SIGNAL, number, self.pid),
            How::Nothing => (SIGEV_NONE, 0, self.pid),
            How::Thread { .. } => (SIGEV_THREAD, 0, self.pid),
        }
    }

    /// A message has come.
    pub fn tell(self) {
        const SI_MESGQ: i32 = -3;
        match self.how {
            How::Signal { number: 0, .. } | How::Nothing => {}
            How::Signal { number, value } => {
                if let Some(process) = self.process.upgrade()
                    && process.life.exec_id.load(Ordering::Acquire) == self.exec_id
                {
                    let (pid, uid) = (current().process.pid, current().creds().uid);
                    signal::send_to_process(&process, SigInfo::user(number, SI_MESGQ, pid, uid, value));
                }
            }
            How::Thread { .. } => self.say(WOKEN_UP),
        }
    }

    /// Gives the C library's thread its cookie back.
    fn say(self, what: u8) {
        let How::Thread { socket, mut cookie } = self.how else { return };
        cookie[COOKIE - 1] = what;
        if let Some(file) = socket.upgrade()
            && let Some(socket) = file.downcast::<NetlinkSocket>()
        {
            // A reader that lets its buffer fill up has lost this.
            let _ = socket.push(cookie.to_vec());
        }
    }
}

impl MessageQueue {
    /// EBUSY when a living process is registered.
    pub(crate) fn register(&self, notify: Notify) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if state.notify.as_ref().is_some_and(|notify| notify.process.strong_count() > 0) {
            drop(state);
            return Err(Errno::EBUSY);
        }
        let old = state.notify.replace(notify);
        drop(state);
        drop(old);
        Ok(())
    }

    /// Ends the calling process's registration, if it has one.
    pub(crate) fn end_notification(&self) {
        let mut state = self.state.lock();
        let is_own = state.notify.as_ref().is_some_and(|notify| notify.pid == current().process.pid);
        let ended = if is_own { state.notify.take() } else { None };
        drop(state);
        if let Some(notify) = ended {
            notify.say(REMOVED);
        }
    }
}
