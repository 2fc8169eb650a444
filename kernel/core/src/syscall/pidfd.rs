//! Process descriptors: pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2); poll says when the process has ended.

use crate::prelude::*;
use crate::process::may_inspect;
use crate::syscall::signal::kill_one;
use crate::task::find_process;
use crate::task::siginfo::SigInfo;
use crate::vfs::table::{file, install as install_file};
use crate::vfs::{FileOps, OpenFile, OpenFlags, PollEvents, PollTable};
use core::any::Any;

struct PidFile {
    process: Arc<Process>,
}

impl FileOps for PidFile {
    fn can_signal(&self) -> bool {
        false
    }
    fn poll(&self, _file: &OpenFile, table: Option<&mut PollTable<'_>>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.process.life.exit_poll);
        }
        if self.process.nr_threads() == 0 { PollEvents::IN | PollEvents::RDNORM } else { PollEvents::empty() }
    }
    fn anonymous_name(&self) -> Option<String> {
        Some(String::from("anon_inode:[pidfd]"))
    }
    fn fdinfo(&self, _file: &OpenFile) -> String {
        // -1 once it has been waited for.
        let is_gone = self.process.nr_threads() == 0 && !self.process.life.is_zombie();
        let pid = if is_gone { -1 } else { i64::from(self.process.pid) };
        alloc::format!("Pid:\t{pid}\nNSpid:\t{pid}\n")
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Opens a descriptor of `process`, close-on-exec as always.
pub fn install(process: Arc<Process>, nonblocking: bool) -> SysResult {
    let mut flags = OpenFlags::RDWR;
    flags.set(OpenFlags::NONBLOCK, nonblocking);
    install_file(OpenFile::anonymous(Arc::new(PidFile { process }), flags), true)
}

/// The process of descriptor `fd` and whether it is O_NONBLOCK: EBADF.
pub fn lookup(fd: i32) -> Result<(Arc<Process>, bool), Errno> {
    let file = file(fd)?;
    let pid_file = file.downcast::<PidFile>().ok_or(Errno::EBADF)?;
    Ok((pid_file.process.clone(), file.is_nonblocking()))
}

const PIDFD_NONBLOCK: u32 = OpenFlags::NONBLOCK.bits();

pub fn sys_pidfd_open(pid: i32, flags: u32) -> SysResult {
    if flags & !PIDFD_NONBLOCK != 0 || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let process = match find_process(pid as u32) {
        Some(process) => process,
        // A thread that is not a leader.
        None if crate::task::find_task(pid as u32).is_some() => return Err(Errno::EINVAL),
        None => return Err(Errno::ESRCH),
    };
    install(process, flags & PIDFD_NONBLOCK != 0)
}

pub fn sys_pidfd_send_signal(pidfd: i32, sig: i32, info: UserAddr, flags: u32) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    // An open /proc/PID will do as well.
    let process = match crate::observe::proc::process_of(&*file(pidfd)?) {
        Some(process) => process,
        None => lookup(pidfd)?.0,
    };
    if !(0..=64).contains(&sig) {
        return Err(Errno::EINVAL);
    }
    let own = current();
    let given = match UserPtr::<SigInfo>::new(info).non_null() {
        Some(pointer) => {
            let given = pointer.read()?;
            if given.signo != sig {
                return Err(Errno::EINVAL);
            }
            // Only to itself may a process say that the kernel or kill(2) sent something.
            if process.pid != own.process.pid && (given.code >= 0 || given.code == -6) {
                return Err(Errno::EPERM);
            }
            given
        }
        None => SigInfo::user(sig as u32, 0, own.process.pid, own.creds().uid, 0),
    };
    if process.nr_threads() == 0 && !process.life.is_zombie() {
        return Err(Errno::ESRCH);
    }
    kill_one(&process, sig as u32, given)?;
    Ok(0)
}

pub fn sys_pidfd_getfd(pidfd: i32, targetfd: i32, flags: u32) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let (process, _) = lookup(pidfd)?;
    if !may_inspect(&process) {
        return Err(Errno::EPERM);
    }
    let task = process.any_thread().ok_or(Errno::ESRCH)?;
    let file = task.files.get().get(targetfd).ok_or(Errno::EBADF)?;
    install_file(file, true)
}
