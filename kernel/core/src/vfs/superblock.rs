//! [`SuperBlock`]: a file system instance with its entries, shared by all its mounts; it ends with the last of them.

use super::path::{Dentry, FileSystem};
use crate::prelude::*;
use core::ops::Deref;

static ALL: SpinLock<Vec<Weak<SuperBlock>>> = SpinLock::new(Vec::new());

pub struct SuperBlock {
    fs: Arc<dyn FileSystem>,
    root: Arc<Dentry>,
}

impl SuperBlock {
    pub fn new(fs: Arc<dyn FileSystem>) -> Arc<Self> {
        let root = Dentry::new(b"", None, fs.root());
        let this = Arc::new(Self { fs, root });
        let mut all = ALL.lock();
        all.retain(|other| other.strong_count() != 0);
        all.push(Arc::downgrade(&this));
        drop(all);
        this
    }
    /// Every one there is.
    pub fn all() -> Vec<Arc<SuperBlock>> {
        ALL.lock().iter().filter_map(Weak::upgrade).collect()
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
        let is_last = Arc::strong_count(&self.fs) == 1;
        if is_last {
            super::notify::unmounted(&self.root.inode);
        }
        let mut rest = alloc::vec![self.root.clone()];
        while let Some(dentry) = rest.pop() {
            let children = dentry.children.lock().take();
            rest.extend(children.into_iter().flatten().map(|(_, child)| child));
        }
        if is_last {
            self.fs.shutdown();
        }
    }
}
