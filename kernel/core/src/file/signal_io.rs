//! O_ASYNC: SIGIO (or the F_SETSIG signal) to a file's owner when it becomes ready.

use crate::prelude::*;
use crate::process::signal;
use crate::task::siginfo;
use crate::task::siginfo::SigInfo;
use crate::task::{find_process, find_task};
use crate::vfs::owner::{FileOwner, SharedOwner, Target};
use crate::vfs::poll::{Listen, Listener, PollEvents, PollTable};
use crate::vfs::{OpenFile, OpenFlags};

/// F_SETOWN_EX kinds.
pub const F_OWNER_TID: i32 = 0;
pub const F_OWNER_PID: i32 = 1;
pub const F_OWNER_PGRP: i32 = 2;

/// The owner record of a file, made at its first use.
pub fn owner_of(file: &OpenFile) -> &SharedOwner {
    file.owner.call_once(|| Arc::new(IrqSpinLock::new(FileOwner::default())))
}

/// fcntl(F_SETOWN_EX): ESRCH when nobody has that number, EINVAL for an unknown kind; pid 0 clears the owner.
pub fn set_owner(file: &OpenFile, kind: i32, pid: u32) -> Result<(), Errno> {
    let target = match (kind, pid) {
        (F_OWNER_TID | F_OWNER_PID | F_OWNER_PGRP, 0) => Target::None,
        (F_OWNER_TID, _) => Target::Task(Arc::downgrade(&find_task(pid).ok_or(Errno::ESRCH)?)),
        (F_OWNER_PID, _) => Target::Process(Arc::downgrade(&find_process(pid).ok_or(Errno::ESRCH)?)),
        (F_OWNER_PGRP, _) => {
            if crate::task::process_group(pid).is_empty() {
                return Err(Errno::ESRCH);
            }
            Target::Group(pid)
        }
        _ => return Err(Errno::EINVAL),
    };
    let shared = owner_of(file);
    if let Some(socket) = file.ops.as_socket() {
        socket.common().set_owner(shared);
    }
    let (uid, euid) = current().credentials.with(|own| (own.uid, own.euid));
    let mut owner = shared.lock();
    owner.kind = kind;
    owner.pid = pid;
    if pid != 0 {
        (owner.uid, owner.euid) = (uid, euid);
    }
    let old = core::mem::replace(&mut owner.target, target);
    drop(owner);
    drop(old);
    Ok(())
}

/// F_SETOWN and FIOSETOWN: a process, or a group when negative. EINVAL, ESRCH.
pub fn set_owner_number(file: &OpenFile, id: i32) -> Result<(), Errno> {
    if id == i32::MIN {
        return Err(Errno::EINVAL);
    }
    let kind = if id < 0 { F_OWNER_PGRP } else { F_OWNER_PID };
    set_owner(file, kind, id.unsigned_abs())
}

/// F_GETOWN and FIOGETOWN.
pub fn owner_number(file: &OpenFile) -> i32 {
    let (kind, pid) = owner(file);
    if kind == F_OWNER_PGRP { -(pid as i32) } else { pid as i32 }
}

/// Kind and number of the owner, (F_OWNER_PID, 0) when there is none.
pub fn owner(file: &OpenFile) -> (i32, u32) {
    match file.owner.get() {
        Some(owner) => {
            let owner = owner.lock();
            (owner.kind, owner.pid)
        }
        None => (F_OWNER_PID, 0),
    }
}

/// F_GETOWNER_UIDS: real and effective user id of who set the owner.
pub fn owner_uids(file: &OpenFile) -> [u32; 2] {
    file.owner.get().map_or([0; 2], |owner| {
        let owner = owner.lock();
        [owner.uid, owner.euid]
    })
}

/// Starts or stops O_ASYNC delivery after the flag changed; `fd` is what siginfo will name.
pub fn update(file: &Arc<OpenFile>, fd: i32) {
    let wanted = file.flags().contains(OpenFlags::ASYNC);
    let registrations = wanted.then(|| {
        let listener = Listener::Object(Arc::new(Signals { owner: owner_of(file).clone(), fd }));
        let mut table = PollTable::new(&listener);
        file.ops.poll(file, Some(&mut table));
        table.into_registrations()
    });
    let old = core::mem::replace(&mut *file.async_registration.lock(), registrations);
    drop(old);
}

/// The place of O_ASYNC in an object's poll set.
struct Signals {
    owner: SharedOwner,
    fd: i32,
}

impl Listen for Signals {
    fn on_event(&self, events: PollEvents) -> bool {
        deliver(&self.owner, self.fd, events);
        false
    }
}

/// Called from `PollSet::notify`, perhaps in IRQ context.
fn deliver(owner: &SharedOwner, fd: i32, events: PollEvents) {
    let owner = owner.lock().clone();
    let (code, band) = if events.contains(PollEvents::HUP) {
        (6, PollEvents::HUP | PollEvents::ERR)
    } else if events.contains(PollEvents::ERR) {
        (4, PollEvents::ERR)
    } else if events.contains(PollEvents::PRI) {
        (5, PollEvents::PRI | PollEvents::RDBAND)
    } else if events.contains(PollEvents::IN) {
        (1, PollEvents::IN | PollEvents::RDNORM)
    } else {
        (2, PollEvents::OUT | PollEvents::WRNORM | PollEvents::WRBAND)
    };
    let info = match owner.signal {
        // Of urgent data SIGURG tells, whether or not the file is O_ASYNC.
        0 if code == 5 => return,
        0 => SigInfo::kernel(siginfo::SIGIO),
        number => SigInfo::poll(number, code, u64::from(band.bits()), fd),
    };
    send(&owner, info);
}

/// SIGURG for data that came out of order.
pub fn urgent(owner: &SharedOwner) {
    let owner = owner.lock().clone();
    send(&owner, SigInfo::kernel(siginfo::SIGURG));
}

/// Sends in the name of who set the owner: what may not be signalled by them hears nothing.
fn send(owner: &FileOwner, info: SigInfo) {
    // When no more can be queued there is SIGIO instead, without the information.
    let instead = SigInfo::kernel(siginfo::SIGIO);
    match &owner.target {
        Target::None => {}
        Target::Task(task) => {
            if let Some(task) = task.upgrade()
                && owner.may_signal(&task)
                && signal::try_send_to_task(&task, info).is_err()
            {
                signal::send_to_task(&task, instead);
            }
        }
        Target::Process(process) => {
            if let Some(process) = process.upgrade() {
                send_to_process(owner, &process, info, instead);
            }
        }
        Target::Group(pgid) => {
            for process in crate::task::process_group(*pgid) {
                send_to_process(owner, &process, info, instead);
            }
        }
    }
}

fn send_to_process(owner: &FileOwner, process: &Arc<Process>, info: SigInfo, instead: SigInfo) {
    if process.any_thread().is_some_and(|task| owner.may_signal(&task))
        && signal::try_send_to_process(process, info).is_err()
    {
        signal::send_to_process(process, instead);
    }
}
