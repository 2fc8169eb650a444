//! The path walk.

use super::path::{Dentry, Path};
use super::{AT_FDCWD, FileType, Inode, anonymous};
use super::{permission, protected};
use crate::prelude::*;
use crate::vfs::table;
use core::sync::atomic::Ordering;

/// Symbolic links followed in one walk, at most.
const MAX_LINKS: usize = 40;
pub const NAME_MAX: usize = 255;
pub const PATH_MAX: usize = 4096;

bitflags! {
    /// How a walk treats what it meets; the RESOLVE_* values are openat2(2)'s.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Walk: u32 {
        const NO_XDEV = 1;
        const NO_MAGICLINKS = 2;
        const NO_SYMLINKS = 4;
        const BENEATH = 8;
        const IN_ROOT = 16;
        /// Follow a symbolic link in the last component.
        const FOLLOW = 0x100;
        /// An empty path means the directory descriptor itself (AT_EMPTY_PATH).
        const EMPTY = 0x200;
    }
}

/// Where a walk ended.
pub struct Found {
    /// The directory of the last component.
    pub parent: Path,
    /// The last component; empty for "/", "." and "..".
    pub name: Vec<u8>,
    /// What the whole path names, if it exists.
    pub target: Option<Path>,
    /// The path ended in a slash: it must be a directory.
    pub wants_directory: bool,
}

/// The calling thread's root: ENOENT before there is one.
fn root() -> Result<Path, Errno> {
    current().fs.with(|context| context.try_root()).ok_or(Errno::ENOENT)
}

/// The directory a walk begins in.
fn start(dirfd: i32, path: &[u8], flags: Walk) -> Result<Path, Errno> {
    let from_fd = |dirfd: i32| -> Result<Path, Errno> {
        if dirfd == AT_FDCWD {
            current().fs.with(|context| context.try_cwd()).ok_or(Errno::ENOENT)
        } else {
            let file = table::file_or_path(dirfd)?;
            match file.path.clone() {
                Some(path) => Ok(path),
                None if path.is_empty() => Ok(anonymous::place(file)),
                None => Err(Errno::ENOTDIR),
            }
        }
    };
    if flags.contains(Walk::IN_ROOT) {
        return from_fd(dirfd);
    }
    if path.starts_with(b"/") {
        return if flags.contains(Walk::BENEATH) { Err(Errno::EXDEV) } else { root() };
    }
    let base = from_fd(dirfd)?;
    if !path.is_empty() && base.inode().file_type() != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    Ok(base)
}

/// Where one component leads.
enum Step {
    /// To an entry of the same mount: nothing of the mount is counted for it.
    Below(Arc<Dentry>),
    To(Path),
}

impl Step {
    fn inode(&self) -> &Arc<dyn Inode> {
        match self {
            Step::Below(dentry) => &dentry.inode,
            Step::To(path) => path.inode(),
        }
    }
    /// The place itself, `from` the one the step began at.
    fn into_path(self, from: &Path) -> Path {
        match self {
            Step::Below(dentry) => Path { mount: from.mount.clone(), dentry },
            Step::To(path) => path,
        }
    }
}

struct Walker {
    at: Path,
    /// Where BENEATH and IN_ROOT begin; `None` without them.
    base: Option<Path>,
    flags: Walk,
    links: usize,
}

impl Walker {
    /// One component that is not the last, or the last one to be resolved.
    fn step(&mut self, name: &[u8]) -> Result<Step, Errno> {
        permission::check_search(&**self.at.inode())?;
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if name == b".." {
            return match &self.base {
                Some(base) if self.flags.contains(Walk::IN_ROOT) => Ok(Step::To(self.at.parent(base))),
                Some(base) if self.flags.contains(Walk::BENEATH) && self.at == *base => Err(Errno::EXDEV),
                _ => Ok(Step::To(self.at.parent(&root()?))),
            };
        }
        let dentry = self.at.dentry.child(name)?;
        if dentry.mounted.load(Ordering::Acquire) == 0 {
            return Ok(Step::Below(dentry));
        }
        let next = Path { mount: self.at.mount.clone(), dentry }.cross_down();
        if self.flags.contains(Walk::NO_XDEV) && !Arc::ptr_eq(&next.mount, &self.at.mount) {
            return Err(Errno::EXDEV);
        }
        Ok(Step::To(next))
    }

    /// What a symbolic link leads to: a place (magic links), or text to walk on from here.
    fn read_link(&mut self, link: &Path) -> Result<Result<Path, Vec<u8>>, Errno> {
        self.links += 1;
        if self.links > MAX_LINKS || self.flags.contains(Walk::NO_SYMLINKS) {
            return Err(Errno::ELOOP);
        }
        if let Some(place) = link.inode().follow() {
            if self.flags.intersects(Walk::NO_MAGICLINKS | Walk::BENEATH | Walk::IN_ROOT) {
                return Err(Errno::ELOOP);
            }
            return place.map(Ok);
        }
        let text = link.inode().read_link()?;
        if text.is_empty() {
            return Err(Errno::ENOENT);
        }
        if text.starts_with(b"/") {
            if self.flags.contains(Walk::BENEATH) {
                return Err(Errno::EXDEV);
            }
            self.at = match &self.base {
                Some(base) if self.flags.contains(Walk::IN_ROOT) => base.clone(),
                _ => root()?,
            };
        }
        Ok(Err(text))
    }
}

/// Walks `path` up to its last component, which need not exist.
pub fn walk(dirfd: i32, path: &[u8], flags: Walk) -> Result<Found, Errno> {
    walk_with(dirfd, path, flags, |parent, name, target, wants_directory| Found {
        target: target.map(|target| target.into_path(&parent)),
        parent,
        name: name.to_vec(),
        wants_directory,
    })
}

/// Walks to something that exists: ENOENT.
pub fn find(dirfd: i32, path: &[u8], flags: Walk) -> Result<Path, Errno> {
    let place = |mut parent: Path, target: Step| match target {
        Step::Below(dentry) => {
            parent.dentry = dentry;
            parent
        }
        Step::To(path) => path,
    };
    walk_with(dirfd, path, flags, |parent, _, target, _| target.map(|target| place(parent, target)))?
        .ok_or(Errno::ENOENT)
}

/// The walk itself; `found` makes the answer of what [`Found`] holds.
#[inline]
fn walk_with<R>(
    dirfd: i32,
    path: &[u8],
    flags: Walk,
    found: impl FnOnce(Path, &[u8], Option<Step>, bool) -> R,
) -> Result<R, Errno> {
    if path.len() >= PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let base = start(dirfd, path, flags)?;
    if path.is_empty() {
        if !flags.contains(Walk::EMPTY) {
            return Err(Errno::ENOENT);
        }
        return Ok(found(base.clone(), b"", Some(Step::To(base)), false));
    }
    let bound = flags.intersects(Walk::BENEATH | Walk::IN_ROOT).then(|| base.clone());
    let mut walker = Walker { at: base, base: bound, flags, links: 0 };
    // Text still to be walked: the rest of the path, and of the links being followed, innermost last.
    let mut pending: smallvec::SmallVec<[(Vec<u8>, usize); 1]> = smallvec::SmallVec::new();
    let mut text: &[u8] = path;
    let mut position = 0;
    let mut held: Vec<u8>;
    loop {
        // The next component of the current text.
        let Some(component) = base::path::component(text, position) else {
            // This text is done: it was "/" or ended in slashes.
            match pending.pop() {
                Some((outer, at)) => {
                    held = outer;
                    text = &held;
                    position = at;
                    continue;
                }
                None => {
                    let at = walker.at;
                    return Ok(found(at.clone(), b"", Some(Step::To(at)), true));
                }
            }
        };
        let end = component.end;
        let name = &text[component.start..end];
        let last = component.is_last && pending.iter().all(|(outer, at)| base::path::is_done(outer, *at));
        let wants_directory = component.has_slash || pending.iter().any(|(outer, at)| *at < outer.len());
        if name == b"." {
            permission::check_search(&**walker.at.inode())?;
            position = end;
            if last {
                let at = walker.at;
                return Ok(found(at.clone(), b"", Some(Step::To(at)), true));
            }
            continue;
        }
        let step = walker.step(name);
        let next = match step {
            Ok(next) => next,
            Err(Errno::ENOENT) if last => {
                return Ok(found(walker.at, name, None, wants_directory));
            }
            Err(errno) => return Err(errno),
        };
        let is_link = next.inode().file_type() == FileType::Symlink;
        if is_link && (!last || wants_directory || flags.contains(Walk::FOLLOW)) {
            if last {
                protected::may_follow(&**walker.at.inode(), &**next.inode())?;
            }
            let link = next.into_path(&walker.at);
            match walker.read_link(&link)? {
                Ok(place) => {
                    walker.at = place;
                    position = end;
                    if last {
                        let at = walker.at;
                        return Ok(found(at.clone(), b"", Some(Step::To(at)), wants_directory));
                    }
                }
                Err(target) => {
                    let outer = text.to_vec();
                    pending.push((outer, end));
                    held = target;
                    text = &held;
                    position = 0;
                }
            }
            continue;
        }
        if last {
            let name = if name == b".." { &b""[..] } else { name };
            if wants_directory && next.inode().file_type() != FileType::Directory {
                return Err(Errno::ENOTDIR);
            }
            let Walker { at, .. } = walker;
            return Ok(found(at, name, Some(next), wants_directory));
        }
        match next {
            Step::Below(dentry) => walker.at.dentry = dentry,
            Step::To(path) => walker.at = path,
        }
        position = end;
    }
}
