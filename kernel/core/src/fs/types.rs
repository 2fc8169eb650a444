//! The file systems that mount(2) knows by name. `init` registers the list: some of them show what is above.

use crate::prelude::*;
use crate::vfs::path::FileSystem;
use spin::Once;

/// One type.
pub struct FsType {
    pub name: &'static str,
    /// An instance, of the options of mount(2): EINVAL, ENOMEM.
    pub instance: fn(&[u8]) -> Result<Arc<dyn FileSystem>, Errno>,
}

static TYPES: Once<&'static [FsType]> = Once::new();

/// Says what there is; before the first mount.
pub fn set(types: &'static [FsType]) {
    TYPES.call_once(|| types);
}

/// All of them.
pub fn all() -> &'static [FsType] {
    TYPES.get().copied().unwrap_or(&[])
}

/// An instance of `name`: ENODEV for a type this kernel does not have.
pub fn instance(name: &[u8], options: &[u8]) -> Result<Arc<dyn FileSystem>, Errno> {
    let found = all().iter().find(|known| known.name.as_bytes() == name).ok_or(Errno::ENODEV)?;
    (found.instance)(options)
}
