//! Random scripts of operations on a file system and on a model of it; what the model says is what must be read.
//!
//! Every byte of a file says whose it is: at offset `o` stands byte `o % 8` of the file's tag. A byte that is neither zero nor its
//! own file's is somebody else's.

use super::*;
use ext4::{FallocateMode, NewInode, RenameMode};

pub type Shared = Arc<Inode<Lock>>;

#[derive(Clone)]
pub enum Object {
    File { id: u32, content: Arc<Vec<u8>> },
    Dir,
    Symlink(Vec<u8>),
}

/// What must be there after a power cut when `from..=to` events are on disk.
pub struct Promise {
    pub path: String,
    pub object: Object,
    pub from: usize,
    pub to: usize,
}

pub struct Runner<'a> {
    pub fs: Option<Fs<'a>>,
    pub disk: &'a MemDisk,
    pub random: Random,
    /// Paths to objects; hard links share the id of their file.
    pub model: BTreeMap<String, Object>,
    /// Content by id.
    next_id: u32,
    step: u32,
    pub promises: Vec<Promise>,
    /// Unlinked and still in use.
    open: Vec<(Shared, u32, Vec<u8>)>,
    pub full: bool,
    pub trace: Vec<String>,
}

pub fn tag_byte(id: u32, step: u32, offset: u64) -> u8 {
    match offset % 8 {
        0 => 0xA5,
        1 => (id % 251) as u8 + 1,
        2 => (id / 251 % 251) as u8 + 1,
        3 => (step % 251) as u8 + 1,
        4 => (step / 251 % 251) as u8 + 1,
        other => 0xB0 + other as u8,
    }
}

/// Whether all of a file's bytes can be its own. The id is found from the bytes; 0 for none.
pub fn owner(content: &[u8]) -> Option<u32> {
    let (mut low, mut high) = (0u8, 0u8);
    for (offset, byte) in content.iter().enumerate() {
        let offset = offset as u64;
        let fine = match offset % 8 {
            _ if *byte == 0 => true,
            1 => std::mem::replace(&mut low, *byte) == *byte || low == *byte && first(content, 1) == *byte,
            2 => std::mem::replace(&mut high, *byte) == *byte || high == *byte && first(content, 2) == *byte,
            3 | 4 => true,
            _ => *byte == tag_byte(0, 0, offset),
        };
        if !fine {
            return None;
        }
    }
    Some(u32::from(low.saturating_sub(1)) + 251 * u32::from(high.saturating_sub(1)))
}

fn first(content: &[u8], lane: usize) -> u8 {
    content.iter().skip(lane).step_by(8).copied().find(|byte| *byte != 0).unwrap_or(0)
}

fn fill(bytes: &mut [u8], id: u32, step: u32, offset: u64) {
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = tag_byte(id, step, offset + i as u64);
    }
}

const REGULAR: u16 = 0o100644;
const DIRECTORY: u16 = 0o040755;

impl<'a> Runner<'a> {
    pub fn new(disk: &'a MemDisk, seed: u64) -> Self {
        Runner {
            fs: Some(mount(disk)),
            disk,
            random: Random::new(seed),
            model: BTreeMap::new(),
            next_id: 1,
            step: 0,
            promises: Vec::new(),
            open: Vec::new(),
            full: false,
            trace: Vec::new(),
        }
    }

    pub fn fs(&self) -> &Fs<'a> {
        self.fs.as_ref().unwrap()
    }

    fn resolve(&self, path: &str) -> Result<Shared> {
        let mut inode = self.fs().root()?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            inode = self.fs().lookup(&inode, part.as_bytes())?;
        }
        Ok(inode)
    }

    fn split<'p>(&self, path: &'p str) -> Result<(Shared, &'p [u8])> {
        let (dir, name) = path.rsplit_once('/').unwrap();
        Ok((self.resolve(dir)?, name.as_bytes()))
    }

    /// A promise about these paths (and what is below) ends before the operation begins.
    fn touch(&mut self, paths: &[&str]) {
        let now = self.disk.log_len();
        let ids: Vec<u32> = paths.iter().filter_map(|path| self.id(path)).collect();
        for promise in self.promises.iter_mut().filter(|promise| promise.to == usize::MAX) {
            let same_id = matches!(&promise.object, Object::File { id, .. } if ids.contains(id));
            let below = paths.iter().any(|path| promise.path == *path || promise.path.starts_with(&format!("{path}/")));
            if same_id || below {
                promise.to = now;
            }
        }
    }

    fn id(&self, path: &str) -> Option<u32> {
        match self.model.get(path) {
            Some(Object::File { id, .. }) => Some(*id),
            _ => None,
        }
    }

    fn set_content(&mut self, id: u32, content: Vec<u8>) {
        let content = Arc::new(content);
        for object in self.model.values_mut() {
            if let Object::File { id: of, content: old } = object
                && *of == id
            {
                *old = content.clone();
            }
        }
    }

    fn pick(&mut self, want: impl Fn(&Object) -> bool) -> Option<String> {
        let list: Vec<&String> = self.model.iter().filter(|(_, object)| want(object)).map(|(path, _)| path).collect();
        if list.is_empty() {
            return None;
        }
        let at = self.random.below(list.len() as u64) as usize;
        Some(list[at].clone())
    }

    fn pick_file(&mut self) -> Option<String> {
        self.pick(|object| matches!(object, Object::File { .. }))
    }

    fn new_path(&mut self) -> String {
        let dirs: Vec<String> = self
            .model
            .iter()
            .filter(|(path, object)| matches!(object, Object::Dir) && path.matches('/').count() < 3)
            .map(|(path, _)| path.clone())
            .chain([String::new(), String::new()])
            .collect();
        let dir = &dirs[self.random.below(dirs.len() as u64) as usize];
        let number = self.random.below(24);
        // Long names now and then: directories of more blocks.
        if self.random.below(3) == 0 {
            format!("{dir}/{}{number}", "long-name-".repeat(12))
        } else {
            format!("{dir}/n{number}")
        }
    }

    fn promise(&mut self, path: &str) {
        if let Some(object) = self.model.get(path) {
            let from = self.disk.log_len();
            self.promises.push(Promise { path: path.into(), object: object.clone(), from, to: usize::MAX });
        }
    }

    /// One operation; ENOSPC is allowed where `full` says so.
    pub fn step(&mut self) -> Result<()> {
        self.step += 1;
        let kind = self.random.below(100);
        let result = self.operation(kind);
        match result {
            Err(Errno::ENOSPC) if self.full => Ok(()),
            result => result,
        }
    }

    fn operation(&mut self, kind: u64) -> Result<()> {
        match kind {
            0..=19 => self.create(),
            20..=31 => self.write(),
            32..=37 => self.truncate(),
            38..=45 => self.rename(),
            46..=53 => self.unlink(),
            54..=58 => self.mkdir(),
            59..=61 => self.rmdir(),
            62..=64 => self.link(),
            65..=67 => self.symlink(),
            68..=81 => self.fallocate(),
            82..=86 => self.xattr(),
            87..=89 => {
                self.trace.push("sync".into());
                self.fs().sync()?;
                let paths: Vec<String> = self.model.keys().cloned().collect();
                self.promises.retain(|promise| promise.to != usize::MAX);
                for path in paths {
                    self.promise(&path);
                }
                Ok(())
            }
            90..=95 => {
                let Some(path) = self.pick_file() else { return Ok(()) };
                let inode = self.resolve(&path)?;
                let data_only = kind >= 93;
                self.trace.push(format!("fsync {path} {data_only}"));
                self.fs().fsync(&inode, data_only)?;
                self.promise(&path);
                Ok(())
            }
            96 => {
                self.trace.push("tick".into());
                self.fs().tick()
            }
            _ => self.close_one(),
        }
    }

    fn create(&mut self) -> Result<()> {
        let path = self.new_path();
        if self.model.contains_key(&path) {
            return self.write();
        }
        let id = self.next_id;
        self.next_id += 1;
        self.trace.push(format!("create {path} id {id}"));
        self.touch(&[&path]);
        let (dir, name) = self.split(&path)?;
        let inode = self.fs().create(&dir, Some(name), &NewInode { mode: REGULAR, ..NewInode::default() })?;
        self.model.insert(path, Object::File { id, content: Arc::new(Vec::new()) });
        let len = self.len();
        self.write_at(&inode, id, 0, len)
    }

    fn len(&mut self) -> usize {
        match self.random.below(8) {
            0 => 0,
            1..=3 => self.random.below(900) as usize,
            4..=6 => self.random.below(12_000) as usize,
            _ => self.random.below(150_000) as usize,
        }
    }

    fn content(&self, id: u32) -> Option<Vec<u8>> {
        self.model.values().find_map(|object| match object {
            Object::File { id: of, content } if *of == id => Some(content.to_vec()),
            _ => None,
        })
    }

    fn write_at(&mut self, inode: &Shared, id: u32, offset: u64, len: usize) -> Result<()> {
        let mut bytes = vec![0; len];
        fill(&mut bytes, id, self.step, offset);
        self.trace.push(format!("write id {id} at {offset} len {len}"));
        let result = self.fs().write(inode, offset, &bytes).map(|_| ());
        if result.is_err() {
            // As much as there is: whatever the size says now.
            let size = self.fs().stat(inode).size as usize;
            let mut now = vec![0; size];
            self.fs().read(inode, 0, &mut now)?;
            self.set_content(id, now);
            return result;
        }
        if let Some(mut content) = self.content(id) {
            if len != 0 {
                content.resize(content.len().max(offset as usize + len), 0);
                content[offset as usize..offset as usize + len].copy_from_slice(&bytes);
            }
            self.set_content(id, content);
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let Some(path) = self.pick_file() else { return Ok(()) };
        let id = self.id(&path).unwrap();
        self.touch(&[&path]);
        let inode = self.resolve(&path)?;
        let size = self.fs().stat(&inode).size;
        let offset = match self.random.below(5) {
            0 => size,
            1 => size + self.random.below(100_000),
            _ => self.random.below(size + 1),
        };
        let len = self.len();
        self.write_at(&inode, id, offset, len)
    }

    fn truncate(&mut self) -> Result<()> {
        let Some(path) = self.pick_file() else { return Ok(()) };
        let id = self.id(&path).unwrap();
        self.touch(&[&path]);
        let inode = self.resolve(&path)?;
        let mut content = self.content(id).unwrap();
        let size = match self.random.below(3) {
            0 => self.random.below(200_000),
            _ => self.random.below(content.len() as u64 + 1),
        };
        self.trace.push(format!("truncate {path} id {id} {size}"));
        self.fs().truncate(&inode, size)?;
        content.resize(size as usize, 0);
        self.set_content(id, content);
        Ok(())
    }

    fn rename(&mut self) -> Result<()> {
        let Some(from) = self.pick(|_| true) else { return Ok(()) };
        let to = if self.random.below(2) == 0 { self.new_path() } else { self.pick(|_| true).unwrap() };
        if from == to || to.starts_with(&format!("{from}/")) || from.starts_with(&format!("{to}/")) {
            return Ok(());
        }
        self.touch(&[&from, &to]);
        let (dir, name) = self.split(&from)?;
        let (new_dir, new_name) = self.split(&to)?;
        let exchange = self.model.contains_key(&to) && self.random.below(4) == 0;
        let mode = if exchange { RenameMode::Exchange } else { RenameMode::Replace };
        self.trace.push(format!("rename {from} {to} {mode:?}"));
        let target = self.model.get(&to).cloned();
        let result = self.fs().rename(&dir, name, &new_dir, new_name, mode);
        let same_file = self.id(&from).is_some() && self.id(&from) == self.id(&to);
        let moving = self.model.get(&from).cloned().unwrap();
        let expected = if exchange || same_file {
            None
        } else {
            match (&moving, &target) {
                (Object::Dir, Some(Object::Dir)) => {
                    let prefix = format!("{to}/");
                    self.model.keys().any(|path| path.starts_with(&prefix)).then_some(Errno::ENOTEMPTY)
                }
                (Object::Dir, Some(_)) => Some(Errno::ENOTDIR),
                (_, Some(Object::Dir)) => Some(Errno::EISDIR),
                _ => None,
            }
        };
        if let Some(expected) = expected {
            assert_eq!(result.err().map(Errno::name), Some(expected.name()));
            return Ok(());
        }
        let lost = result?;
        if let Some(lost) = lost
            && self.fs().stat(&lost).links == 0
        {
            self.release(lost)?;
        }
        if same_file {
            return Ok(());
        }
        let take = |model: &mut BTreeMap<String, Object>, root: &str| {
            let prefix = format!("{root}/");
            let keys: Vec<String> =
                model.keys().filter(|path| *path == root || path.starts_with(&prefix)).cloned().collect();
            keys.into_iter()
                .map(|path| (path[root.len()..].to_string(), model.remove(&path).unwrap()))
                .collect::<Vec<_>>()
        };
        let moved = take(&mut self.model, &from);
        let replaced = take(&mut self.model, &to);
        for (rest, object) in moved {
            self.model.insert(format!("{to}{rest}"), object);
        }
        if exchange {
            for (rest, object) in replaced {
                self.model.insert(format!("{from}{rest}"), object);
            }
        }
        Ok(())
    }

    fn release(&mut self, inode: Shared) -> Result<()> {
        // Sometimes somebody has it open still.
        if self.random.below(4) == 0 && self.fs().stat(&inode).mode & 0o170000 == 0o100000 {
            let mut content = vec![0; self.fs().stat(&inode).size as usize];
            self.fs().read(&inode, 0, &mut content)?;
            self.trace.push(format!("keep open {}", inode.number));
            self.open.push((inode, 0, content));
            return Ok(());
        }
        self.fs().release(&inode)
    }

    fn close_one(&mut self) -> Result<()> {
        let Some((inode, _, mut content)) = self.open.pop() else { return Ok(()) };
        let mut now = vec![0; content.len()];
        self.fs().read(&inode, 0, &mut now)?;
        assert!(now == content, "an unlinked file changed");
        if self.random.below(2) == 0 {
            let id = self.next_id;
            self.next_id += 1;
            content.resize(5000, 0);
            fill(&mut content, id, self.step, 0);
            match self.fs().write(&inode, 0, &content) {
                Err(Errno::ENOSPC) if self.full => {}
                result => assert_eq!(result?, 5000),
            }
        }
        self.trace.push(format!("release {}", inode.number));
        self.fs().release(&inode)
    }

    fn unlink(&mut self) -> Result<()> {
        let Some(path) = self.pick(|object| !matches!(object, Object::Dir)) else { return Ok(()) };
        self.touch(&[&path]);
        self.trace.push(format!("unlink {path}"));
        let (dir, name) = self.split(&path)?;
        let inode = self.fs().unlink(&dir, name)?;
        self.model.remove(&path);
        if self.fs().stat(&inode).links == 0 {
            self.release(inode)?;
        }
        Ok(())
    }

    fn mkdir(&mut self) -> Result<()> {
        let path = self.new_path();
        if self.model.contains_key(&path) {
            return Ok(());
        }
        self.touch(&[&path]);
        self.trace.push(format!("mkdir {path}"));
        let (dir, name) = self.split(&path)?;
        self.fs().create(&dir, Some(name), &NewInode { mode: DIRECTORY, ..NewInode::default() })?;
        self.model.insert(path, Object::Dir);
        Ok(())
    }

    fn rmdir(&mut self) -> Result<()> {
        let Some(path) = self.pick(|object| matches!(object, Object::Dir)) else { return Ok(()) };
        self.touch(&[&path]);
        self.trace.push(format!("rmdir {path}"));
        let (dir, name) = self.split(&path)?;
        let prefix = format!("{path}/");
        let is_empty = !self.model.keys().any(|other| other.starts_with(&prefix));
        match self.fs().rmdir(&dir, name) {
            Ok(inode) => {
                assert!(is_empty);
                self.model.remove(&path);
                self.fs().release(&inode)
            }
            Err(Errno::ENOTEMPTY) if !is_empty => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn link(&mut self) -> Result<()> {
        let Some(from) = self.pick_file() else { return Ok(()) };
        let path = self.new_path();
        if self.model.contains_key(&path) {
            return Ok(());
        }
        self.touch(&[&from, &path]);
        self.trace.push(format!("link {from} {path}"));
        let inode = self.resolve(&from)?;
        let (dir, name) = self.split(&path)?;
        self.fs().link(&inode, &dir, name)?;
        let object = self.model[&from].clone();
        self.model.insert(path, object);
        Ok(())
    }

    fn symlink(&mut self) -> Result<()> {
        let path = self.new_path();
        if self.model.contains_key(&path) {
            return Ok(());
        }
        self.touch(&[&path]);
        let target = "t/".repeat(1 + self.random.below(60) as usize).into_bytes();
        self.trace.push(format!("symlink {path} {}", target.len()));
        let (dir, name) = self.split(&path)?;
        self.fs().symlink(&dir, name, &target, &NewInode::default())?;
        self.model.insert(path, Object::Symlink(target));
        Ok(())
    }

    fn fallocate(&mut self) -> Result<()> {
        let Some(path) = self.pick_file() else { return Ok(()) };
        let id = self.id(&path).unwrap();
        self.touch(&[&path]);
        let inode = self.resolve(&path)?;
        let mut content = self.content(id).unwrap();
        let size = content.len() as u64;
        let keep_size = self.random.below(2) == 0;
        let block = self.fs().geometry().block_size as u64;
        let (mut offset, mut len) = (self.random.below(size + 8000), 1 + self.random.below(60_000));
        let mode = match self.random.below(6) {
            0 | 1 => FallocateMode::Allocate { keep_size },
            2 => FallocateMode::PunchHole,
            3 => FallocateMode::ZeroRange { keep_size },
            4 => FallocateMode::CollapseRange,
            _ => FallocateMode::InsertRange,
        };
        if matches!(mode, FallocateMode::CollapseRange | FallocateMode::InsertRange) {
            offset = offset / block * block;
            len = (len / 4).div_ceil(block) * block;
        }
        self.trace.push(format!("fallocate {path} id {id} size {size} {mode:?} {offset} {len}"));
        let result = self.fs().fallocate(&inode, mode, offset, len);
        let end = offset + len;
        match mode {
            FallocateMode::CollapseRange if end >= size => {
                assert_eq!(result, Err(Errno::EINVAL).map_err(|e: Errno| e));
                return Ok(());
            }
            FallocateMode::InsertRange if offset >= size => {
                assert_eq!(result, Err(Errno::EINVAL));
                return Ok(());
            }
            _ => {}
        }
        if result.is_err() {
            let size = self.fs().stat(&inode).size as usize;
            let mut now = vec![0; size];
            self.fs().read(&inode, 0, &mut now)?;
            assert!(mode != FallocateMode::CollapseRange);
            self.set_content(id, now);
            return result;
        }
        let (from, to) = ((offset as usize).min(content.len()), (end as usize).min(content.len()));
        match mode {
            FallocateMode::Allocate { keep_size } | FallocateMode::ZeroRange { keep_size } => {
                if matches!(mode, FallocateMode::ZeroRange { .. }) {
                    content[from..to].fill(0);
                }
                if !keep_size {
                    content.resize(content.len().max(end as usize), 0);
                }
            }
            FallocateMode::PunchHole => content[from..to].fill(0),
            FallocateMode::CollapseRange => drop(content.drain(from..to)),
            FallocateMode::InsertRange => drop(content.splice(from..from, vec![0; len as usize])),
        }
        self.set_content(id, content);
        Ok(())
    }

    fn xattr(&mut self) -> Result<()> {
        let Some(path) = self.pick(|object| !matches!(object, Object::Symlink(_))) else { return Ok(()) };
        let inode = self.resolve(&path)?;
        let name = format!("user.name{}", self.random.below(4));
        let len = self.random.below(200) as usize;
        let value = vec![b'v'; len];
        let remove = self.random.below(3) == 0;
        self.trace.push(format!("xattr {path} {name} {len} {remove}"));
        let value = if remove { None } else { Some(&value[..]) };
        match self.fs().set_xattr(&inode, name.as_bytes(), value, 0) {
            Err(Errno::ENODATA) if remove => Ok(()),
            // Four times 200 bytes may be more than a block of 1 KiB holds.
            Err(Errno::ENOSPC) => Ok(()),
            result => result,
        }
    }

    /// Compares the file system with the model.
    pub fn check(&self) {
        check_model(
            &tree(self.fs()).unwrap_or_else(|error| panic!("{}: {:?}", error.name(), self.disk.lines)),
            &self.model,
        );
    }

    /// Releases what is open and unmounts.
    pub fn unmount(&mut self) -> Result<()> {
        for (inode, ..) in std::mem::take(&mut self.open) {
            self.fs().release(&inode)?;
        }
        self.fs.take().unwrap().unmount()
    }
}

pub fn is_object(node: &Node, object: &Object) -> bool {
    match object {
        Object::Dir => node.mode & 0o170000 == 0o040000,
        Object::Symlink(target) => node.content == *target,
        Object::File { content, .. } => node.content == **content,
    }
}

pub fn check_model(tree: &Tree, model: &BTreeMap<String, Object>) {
    let found: Vec<String> = tree.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    let expected: Vec<String> = model.keys().cloned().collect();
    assert_eq!(found, expected);
    for (path, object) in model {
        let node = &tree[path.as_bytes()];
        if !is_object(node, object) {
            if let Object::File { content, id } = object {
                let at = node.content.iter().zip(content.iter()).position(|(a, b)| a != b);
                panic!("{path} (id {id}): {} bytes, not {}; they differ at {at:?}", node.content.len(), content.len());
            }
            panic!("{path} is not what it should be");
        }
        let links = model
            .values()
            .filter(|other| match (other, object) {
                (Object::File { id: a, .. }, Object::File { id: b, .. }) => a == b,
                _ => false,
            })
            .count();
        if links != 0 {
            assert_eq!(node.links as usize, links, "links of {path}");
        }
    }
}
