//! A place in the tree (mount and directory entry) and a process's view of it.

use super::Inode;
use crate::prelude::*;

/// A mounted directory entry: what an open file, a working directory or a root refers to.
#[derive(Clone)]
pub struct Path {}

impl Path {
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
