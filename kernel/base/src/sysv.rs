//! Identifiers of System V IPC objects: index and sequence number, keys, permissions. Shared by shared memory, semaphores and
//! message queues.

use crate::errno::Errno;
use crate::numbers::NumberMap;
use crate::slab::NONE;
use crate::tree::Tree;

/// Bits of an identifier that are the table index; the rest is the sequence number.
const INDEX_BITS: u32 = 15;
const SEQUENCE_MAX: u32 = (i32::MAX as u32) >> INDEX_BITS;

/// IPC_PRIVATE: no key.
pub const IPC_PRIVATE: i32 = 0;
pub const IPC_CREAT: i32 = 0o1000;
pub const IPC_EXCL: i32 = 0o2000;

/// Owner, creator and mode of an object (`struct ipc_perm`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Permissions {
    pub uid: u32,
    pub gid: u32,
    pub creator_uid: u32,
    pub creator_gid: u32,
    /// The nine permission bits.
    pub mode: u32,
}

/// Who asks.
pub trait Caller {
    fn euid(&self) -> u32;
    fn egid(&self) -> u32;
    fn groups(&self) -> &[u32];
    /// CAP_IPC_OWNER: every permission check passes.
    fn is_owner_capable(&self) -> bool;
    /// CAP_SYS_ADMIN: may change and remove any object.
    fn is_admin(&self) -> bool;
}

impl Permissions {
    /// A new object's, of its creator.
    pub fn new(caller: &impl Caller, mode: u32) -> Self {
        let (uid, gid) = (caller.euid(), caller.egid());
        Self { uid, gid, creator_uid: uid, creator_gid: gid, mode: mode & 0o777 }
    }

    /// Whether `caller` has the rights in `wanted` (0o444 read, 0o222 write, 0o111 execute, any of the three places): EACCES.
    #[inline(always)]
    pub fn check(&self, caller: &impl Caller, wanted: u32) -> Result<(), Errno> {
        let wanted = (wanted >> 6 | wanted >> 3 | wanted) & 7;
        let euid = caller.euid();
        let granted =
            if euid == self.creator_uid || euid == self.uid { self.mode >> 6 } else { self.of_others(caller) };
        if wanted & !granted != 0 && !caller.is_owner_capable() { Err(Errno::EACCES) } else { Ok(()) }
    }

    /// The rights of who is not the owner.
    fn of_others(&self, caller: &impl Caller) -> u32 {
        let in_group = |gid| caller.egid() == gid || caller.groups().contains(&gid);
        if in_group(self.creator_gid) || in_group(self.gid) { self.mode >> 3 } else { self.mode }
    }

    /// Whether `caller` may change or remove the object (IPC_SET, IPC_RMID): EPERM.
    pub fn check_owner(&self, caller: &impl Caller) -> Result<(), Errno> {
        if caller.euid() == self.uid || caller.euid() == self.creator_uid || caller.is_admin() {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }
}

struct Slot<T> {
    id: i32,
    key: i32,
    /// The key's place in [`IdTable::keys`].
    key_node: u32,
    object: T,
}

/// The objects of one kind, by identifier and by key.
pub struct IdTable<T> {
    slots: NumberMap<Option<Slot<T>>>,
    /// The index of each key's object.
    keys: Tree<u32>,
    sequence: u32,
    last_index: Option<u32>,
    /// The identifier that the next object is to have, if its index is free.
    next_id: Option<i32>,
}

fn key_of(key: i32) -> crate::tree::Key {
    (u64::from(key as u32), 0)
}

impl<T> Default for IdTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> IdTable<T> {
    pub const fn new() -> Self {
        Self { slots: NumberMap::new(), keys: Tree::new(), sequence: 0, last_index: None, next_id: None }
    }

    /// Objects in existence.
    pub fn used(&self) -> usize {
        self.slots.len()
    }

    /// Highest index in use (what IPC_INFO and friends answer), 0 when empty.
    pub fn max_index(&self) -> usize {
        self.slots.highest().unwrap_or(0) as usize
    }

    /// Asks for the identifier of the next object (kernel.*_next_id): its sequence number is kept, its index is the lowest free one
    /// from there on.
    pub fn set_next_id(&mut self, id: i32) {
        self.next_id = Some(id);
    }

    pub fn next_id(&self) -> Option<i32> {
        self.next_id
    }

    /// Takes an index for a new object; it and its sequence number: ENOSPC, ENOMEM.
    fn new_id(&mut self) -> Result<(u32, u32), Errno> {
        let slots = &mut self.slots;
        let mut take_from = |from: u32| {
            slots.take(core::slice::from_ref(&(from..1 << INDEX_BITS))).map_err(|error| match error {
                Errno::EAGAIN => Errno::ENOSPC,
                error => error,
            })
        };
        if let Some(id) = self.next_id.take() {
            let index = take_from(id as u32 & ((1 << INDEX_BITS) - 1))?;
            return Ok((index, id as u32 >> INDEX_BITS));
        }
        let index = take_from(0)?;
        // A reused index gets a new sequence number, so that stale identifiers miss.
        if self.last_index.is_some_and(|last| index <= last) {
            self.sequence = if self.sequence >= SEQUENCE_MAX { 0 } else { self.sequence + 1 };
        }
        self.last_index = Some(index);
        Ok((index, self.sequence))
    }

    /// Adds an object under `key` (IPC_PRIVATE: none) at the lowest free index: ENOSPC at `limit` objects, ENOMEM.
    pub fn add(&mut self, key: i32, limit: usize, make: impl FnOnce(i32) -> T) -> Result<i32, Errno> {
        if self.used() >= limit.min(1 << INDEX_BITS) {
            return Err(Errno::ENOSPC);
        }
        self.keys.reserve()?;
        let (index, sequence) = self.new_id()?;
        let id = ((sequence << INDEX_BITS) | index) as i32;
        let key_node = match key {
            IPC_PRIVATE => NONE,
            key => self.keys.insert(key_of(key), 0, index)?,
        };
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Some(Slot { id, key, key_node, object: make(id) });
        }
        Ok(id)
    }

    /// The identifier and object under `key`.
    pub fn by_key(&self, key: i32) -> Option<(i32, &T)> {
        let (first, node) = key_of(key);
        let index = *self.keys.get(self.keys.first((first, node)..(first, node + 1), 0)?)?;
        let slot = self.slots.get(index)?.as_ref()?;
        Some((slot.id, &slot.object))
    }

    fn slot(&self, id: i32) -> Result<&Slot<T>, Errno> {
        let index = u32::try_from(id).map_err(|_| Errno::EINVAL)? & ((1 << INDEX_BITS) - 1);
        self.slots.get(index).and_then(Option::as_ref).filter(|slot| slot.id == id).ok_or(Errno::EINVAL)
    }

    /// The object `id`: EINVAL.
    pub fn get(&self, id: i32) -> Result<&T, Errno> {
        Ok(&self.slot(id)?.object)
    }

    /// The key of object `id`: EINVAL.
    pub fn key(&self, id: i32) -> Result<i32, Errno> {
        Ok(self.slot(id)?.key)
    }

    /// The sequence number in `id`.
    pub fn sequence_of(id: i32) -> u16 {
        (id as u32 >> INDEX_BITS) as u16
    }

    /// The object at `index` (the *_STAT commands), sequence number ignored: EINVAL.
    pub fn at_index(&self, index: i32) -> Result<(i32, &T), Errno> {
        let index = u32::try_from(index).map_err(|_| Errno::EINVAL)? & ((1 << INDEX_BITS) - 1);
        let slot = self.slots.get(index).and_then(Option::as_ref).ok_or(Errno::EINVAL)?;
        Ok((slot.id, &slot.object))
    }

    /// Takes away the key of `id`, so that it can be found by identifier only (a removed segment still attached).
    pub fn forget_key(&mut self, id: i32) {
        if self.slot(id).is_ok()
            && let Some(Some(slot)) = self.slots.get_mut(id as u32 & ((1 << INDEX_BITS) - 1))
        {
            slot.key = IPC_PRIVATE;
            self.keys.remove(core::mem::replace(&mut slot.key_node, NONE));
        }
    }

    /// Takes object `id` out: EINVAL.
    pub fn remove(&mut self, id: i32) -> Result<T, Errno> {
        self.slot(id)?;
        self.forget_key(id);
        let slot = self.slots.release(id as u32 & ((1 << INDEX_BITS) - 1)).flatten().ok_or(Errno::EINVAL)?;
        Ok(slot.object)
    }

    /// All objects with identifier and key, by index.
    pub fn iter(&self) -> impl Iterator<Item = (i32, i32, &T)> {
        self.slots.values().flatten().map(|slot| (slot.id, slot.key, &slot.object))
    }
}

/// What a *get call (shmget, semget, msgget) must do.
#[derive(Debug, PartialEq, Eq)]
pub enum Get {
    /// Make a new object.
    Create,
    /// Answer this identifier after the caller's own checks and the permission check.
    Existing(i32),
}

impl<T> IdTable<T> {
    /// The common part of shmget(2) and its kin: ENOENT, EEXIST.
    pub fn get_or_create(&self, key: i32, flags: i32) -> Result<Get, Errno> {
        if key == IPC_PRIVATE {
            return Ok(Get::Create);
        }
        match self.by_key(key) {
            None if flags & IPC_CREAT == 0 => Err(Errno::ENOENT),
            None => Ok(Get::Create),
            Some(_) if flags & IPC_CREAT != 0 && flags & IPC_EXCL != 0 => Err(Errno::EEXIST),
            Some((id, _)) => Ok(Get::Existing(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Asker {
        euid: u32,
        egid: u32,
        groups: &'static [u32],
        owner_capable: bool,
    }

    impl Caller for Asker {
        fn euid(&self) -> u32 {
            self.euid
        }
        fn egid(&self) -> u32 {
            self.egid
        }
        fn groups(&self) -> &[u32] {
            self.groups
        }
        fn is_owner_capable(&self) -> bool {
            self.owner_capable
        }
        fn is_admin(&self) -> bool {
            false
        }
    }

    fn caller(euid: u32, egid: u32) -> Asker {
        Asker { euid, egid, groups: &[], owner_capable: false }
    }

    #[test]
    fn a_reused_index_gets_another_identifier() {
        let mut table = IdTable::new();
        let a = table.add(7, 10, |_| 'a').unwrap();
        let b = table.add(IPC_PRIVATE, 10, |_| 'b').unwrap();
        assert_eq!((a, b), (0, 1));
        assert_eq!(table.by_key(7), Some((a, &'a')));
        assert_eq!(table.remove(a), Ok('a'));
        assert_eq!(table.by_key(7), None);
        let c = table.add(7, 10, |_| 'c').unwrap();
        assert_eq!(c, 1 << 15);
        assert_eq!(table.get(a), Err(Errno::EINVAL));
        assert_eq!(table.at_index(0), Ok((c, &'c')));
        assert_eq!(table.get(-1), Err(Errno::EINVAL));
        assert_eq!(table.max_index(), 1);
    }

    #[test]
    fn the_next_identifier_can_be_chosen_once() {
        let mut table = IdTable::new();
        let first = table.add(IPC_PRIVATE, 10, |_| ()).unwrap();
        let chosen = 7 << 15 | 3;
        table.set_next_id(chosen);
        assert_eq!(table.add(IPC_PRIVATE, 10, |_| ()), Ok(chosen));
        assert_eq!((table.next_id(), table.max_index()), (None, 3));
        // The index is taken: the next one up.
        table.set_next_id(9 << 15 | 3);
        assert_eq!(table.add(IPC_PRIVATE, 10, |_| ()), Ok(9 << 15 | 4));
        assert_eq!(table.add(IPC_PRIVATE, 10, |_| ()), Ok(first + 1));
        table.set_next_id(i32::MAX);
        let last = table.add(IPC_PRIVATE, 10, |_| ()).unwrap();
        assert_eq!((last, table.get(last)), (i32::MAX, Ok(&())));
        table.set_next_id(i32::MAX);
        assert_eq!(table.add(IPC_PRIVATE, 10, |_| ()), Err(Errno::ENOSPC));
        assert_eq!(table.add(IPC_PRIVATE, 10, |_| ()), Ok(first + 2));
    }

    #[test]
    fn the_limit_is_enospc_and_identifiers_stay_positive() {
        let mut table = IdTable::new();
        for _ in 0..200_000 {
            let id = table.add(IPC_PRIVATE, 1, |_| ()).unwrap();
            assert!(id >= 0);
            assert_eq!(table.add(IPC_PRIVATE, 1, |_| ()), Err(Errno::ENOSPC));
            table.remove(id).unwrap();
        }
    }

    #[test]
    fn get_follows_the_manual_page() {
        let mut table = IdTable::new();
        assert_eq!(table.get_or_create(5, 0), Err(Errno::ENOENT));
        assert_eq!(table.get_or_create(5, IPC_CREAT), Ok(Get::Create));
        let id = table.add(5, 10, |_| ()).unwrap();
        assert_eq!(table.get_or_create(5, IPC_CREAT), Ok(Get::Existing(id)));
        assert_eq!(table.get_or_create(5, IPC_CREAT | IPC_EXCL), Err(Errno::EEXIST));
        assert_eq!(table.get_or_create(5, IPC_EXCL), Ok(Get::Existing(id)));
        assert_eq!(table.get_or_create(IPC_PRIVATE, 0), Ok(Get::Create));
        table.forget_key(id);
        assert_eq!(table.get_or_create(5, 0), Err(Errno::ENOENT));
        assert!(table.get(id).is_ok());
    }

    #[test]
    fn rights_are_those_of_owner_group_or_others() {
        let permissions = Permissions { uid: 1, gid: 10, creator_uid: 2, creator_gid: 20, mode: 0o640 };
        assert!(permissions.check(&caller(1, 99), 0o600).is_ok());
        assert!(permissions.check(&caller(2, 99), 0o600).is_ok());
        assert!(permissions.check(&caller(3, 20), 0o400).is_ok());
        assert_eq!(permissions.check(&caller(3, 10), 0o200), Err(Errno::EACCES));
        assert_eq!(permissions.check(&caller(3, 3), 0o444), Err(Errno::EACCES));
        assert!(permissions.check(&Asker { groups: &[10], ..caller(3, 3) }, 0o444).is_ok());
        assert!(permissions.check(&Asker { owner_capable: true, ..caller(3, 3) }, 0o666).is_ok());
        assert_eq!(permissions.check_owner(&caller(3, 10)), Err(Errno::EPERM));
        assert!(permissions.check_owner(&caller(2, 3)).is_ok());
    }
}
