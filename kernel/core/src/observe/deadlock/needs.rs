//! Who could end a wait: the owner of a lock, everybody who holds a pipe's other end.
//!
//! A wait whose helpers are not all known has no needs: it is never part of a deadlock.

use super::mutex;
use crate::file::pipe::PipeEnd;
use crate::ipc;
use crate::prelude::*;
use crate::sync::{WaitKind, WaitRecord};
use crate::task::{all_processes, find_process, find_task};
use crate::vfs::lock;
use alloc::collections::BTreeMap;

/// Something that one of several threads must do.
pub struct Need {
    /// The object, in words.
    pub what: String,
    /// Threads any one of which could.
    pub holders: Vec<u32>,
    pub is_pipe: bool,
}

impl Need {
    fn new(what: String, holders: Vec<u32>) -> Self {
        Self { what, holders, is_pipe: false }
    }
}

/// All threads of process `pid`: any of them can give up what the process holds.
fn threads_of(pid: u32) -> Vec<u32> {
    find_process(pid).map_or_else(Vec::new, |process| process.threads.lock().iter().map(|task| task.tid()).collect())
}

/// Which threads reach which open files; looked up when first needed.
pub struct Descriptors(Option<Tables>);

#[derive(Default)]
struct Tables {
    /// By open file description.
    files: BTreeMap<u64, Vec<u32>>,
    /// Pipe ends by the pipe's number: description, for reading, for writing.
    pipes: BTreeMap<u64, Vec<(u64, bool, bool)>>,
}

impl Descriptors {
    pub fn new() -> Self {
        Self(None)
    }

    fn tables(&mut self) -> &Tables {
        self.0.get_or_insert_with(|| {
            let mut tables = Tables::default();
            for process in all_processes() {
                let threads = process.threads.lock().to_vec();
                for task in threads {
                    task.files.get().for_each(|file| {
                        let first = !tables.files.contains_key(&file.id);
                        tables.files.entry(file.id).or_default().push(task.tid());
                        if first && let Some(end) = file.downcast::<PipeEnd>() {
                            let (reads, writes) = end.directions();
                            tables.pipes.entry(end.pipe().id).or_default().push((file.id, reads, writes));
                        }
                    });
                }
            }
            tables
        })
    }

    fn holders_of_file(&mut self, id: u64) -> Vec<u32> {
        self.tables().files.get(&id).cloned().unwrap_or_default()
    }

    /// Who holds the side of a pipe that its reader (or writer) waits for; `None` when an end is in nobody's table (on its way
    /// through a socket, say).
    fn holders_of_pipe(&mut self, pipe: u64, writers: bool, expected: usize) -> Option<Vec<u32>> {
        let tables = self.tables();
        let ends = tables.pipes.get(&pipe)?.iter().filter(|(_, reads, writes)| if writers { *writes } else { *reads });
        let mut holders = Vec::new();
        let mut found = 0;
        for (id, ..) in ends {
            found += 1;
            holders.extend(tables.files.get(id).into_iter().flatten());
        }
        holders.sort_unstable();
        holders.dedup();
        (found == expected).then_some(holders)
    }
}

/// Everything the parked `task` needs from others.
pub fn of(task: &Arc<Task>, record: &WaitRecord, descriptors: &mut Descriptors) -> Vec<Need> {
    let reason = &record.reason;
    let one = |need: Option<Need>| need.into_iter().collect();
    match reason.kind {
        WaitKind::Futex => one(mutex::owner(task, reason.object).and_then(|(owner, kind)| {
            let what = alloc::format!("{kind} at {:#x}", reason.object);
            find_task(owner).map(|_| Need::new(what, alloc::vec![owner]))
        })),
        WaitKind::FutexPi | WaitKind::FutexRequeuePi => one(ipc::futex::pi_owner(task.tid()).map(|owner| {
            Need::new(alloc::format!("priority-inheritance mutex at {:#x}", reason.object), alloc::vec![owner])
        })),
        WaitKind::Semop => one(ipc::sem::holder_for(reason.object, task)
            .filter(|(_, pid)| *pid != task.process.pid)
            .and_then(|(number, pid)| {
                let what = alloc::format!("semaphore {number} of set {}", reason.object);
                let threads = threads_of(pid);
                (!threads.is_empty()).then(|| Need::new(what, threads))
            })),
        WaitKind::FileLock | WaitKind::Flock => lock::blockers_of(task.tid())
            .into_iter()
            .map(|blocker| {
                let holders = match blocker.owner {
                    lock::Owner::Process(pid) => threads_of(pid),
                    lock::Owner::Description(id) => descriptors.holders_of_file(id),
                };
                Need::new(blocker.what, holders)
            })
            .filter(|need| !need.holders.is_empty())
            .collect(),
        WaitKind::PipeRead | WaitKind::PipeWrite => one(pipe(task, record, descriptors)),
        WaitKind::Vfork => one(find_task(reason.owner).map(|child| {
            Need::new(alloc::format!("the memory that process {} uses", child.tid()), threads_of(child.process.pid))
        })),
        _ => Vec::new(),
    }
}

/// The pipe a thread reads or writes: looked up among its own files.
fn pipe(task: &Arc<Task>, record: &WaitRecord, descriptors: &mut Descriptors) -> Option<Need> {
    let reading = record.reason.kind == WaitKind::PipeRead;
    let id = record.reason.object;
    let mut ends = None;
    task.files.get().for_each(|file| {
        if let Some(end) = file.downcast::<PipeEnd>()
            && end.pipe().id == id
        {
            ends = Some(end.pipe().nr_ends());
        }
    });
    let (nr_readers, nr_writers) = ends?;
    let holders = descriptors.holders_of_pipe(id, reading, if reading { nr_writers } else { nr_readers })?;
    let what = if reading { alloc::format!("bytes from pipe {id}") } else { alloc::format!("room in pipe {id}") };
    (!holders.is_empty()).then_some(Need { what, holders, is_pipe: true })
}
