//! [`SuperBlock`]: a file system instance with its entries, shared by all its mounts; it ends with the last of them.

use super::path::{Dentry, FileSystem};
use crate::prelude::*;
use core::ops::Deref;

pub struct SuperBlock {
    fs: Arc<dyn FileSystem>,
    root: Arc<Dentry>,
}

impl SuperBlock {
    pub fn new(fs: Arc<dyn FileSystem>) -> Arc<Self> {
        let root = Dentry::new(b"", None, fs.root());
        Arc::new(Self { fs, root })
    }
    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }
}

impl Deref for SuperBlock {
    type Target = dyn FileSystem;
    fn deref(&self) -> &Self::Target {
        &*self.fs
    }
}

impl Drop for SuperBlock {
    /// Whoever watches hears of it, if the file system goes too; known entries hold their directories and go one by one.
    fn drop(&mut self) {
        if Arc::strong_count(&self.fs) == 1 {
            super::notify::unmounted(&self.root.inode);
        }
        let mut rest = alloc::vec![self.root.clone()];
        while let Some(dentry) = rest.pop() {
            let children = dentry.children.lock().take();
            rest.extend(children.into_iter().flatten().map(|(_, child)| child));
        }
    }
}
