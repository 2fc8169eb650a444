//! A place in the tree (mount and directory entry) and a process's view of it.

use super::Inode;
use crate::prelude::*;

/// A mounted directory entry: what an open file, a working directory or a root refers to.
#[derive(Clone)]
pub struct Path {}

impl Path {
    /// Whether set-user-id bits do not count here (MS_NOSUID).
    pub fn is_nosuid(&self) -> bool {
        false
    }
    pub fn inode(&self) -> &Arc<dyn Inode> {
        todo!()
    }
    /// The name from the calling thread's root: "/usr/bin/env", with " (deleted)" when it is unlinked.
    pub fn display(&self) -> Vec<u8> {
        todo!()
    }
}

/// Root, working directory and umask of a process (shared with CLONE_FS).
pub struct FsContext {}

impl FsContext {
    /// Usable before anything is mounted: lookups answer ENOENT.
    pub fn detached() -> Arc<Self> {
        Arc::new(Self {})
    }
    pub fn fork(&self) -> Arc<Self> {
        todo!()
    }
    pub fn umask(&self) -> u32 {
        todo!()
    }
    pub fn root(&self) -> Path {
        todo!()
    }
    pub fn cwd(&self) -> Path {
        todo!()
    }
}
