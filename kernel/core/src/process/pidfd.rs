//! Process descriptors: poll says when the process has ended.

use crate::prelude::*;
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
