//! A keyed hash for tables whose keys peers choose: SipHash with a key from the random pool, so that nobody can fill one bucket.

#[expect(deprecated, reason = "core's only keyed hasher; std's replacement is not in core")]
use core::hash::SipHasher;
use core::hash::{BuildHasher, Hash, Hasher};
use hashbrown::HashMap;

#[derive(Clone)]
pub struct Keyed(u64, u64);

impl Keyed {
    pub fn new() -> Self {
        Self(random_u64(), random_u64())
    }
}

#[expect(deprecated, reason = "see above")]
impl BuildHasher for Keyed {
    type Hasher = SipHasher;
    fn build_hasher(&self) -> SipHasher {
        SipHasher::new_with_keys(self.0, self.1)
    }
}

/// For tables by port, which is a number of this machine's own: one multiplication spreads them.
#[derive(Clone, Copy)]
pub struct ByPort;

pub struct PortHasher(u64);

impl BuildHasher for ByPort {
    type Hasher = PortHasher;
    fn build_hasher(&self) -> PortHasher {
        PortHasher(0)
    }
}

impl Hasher for PortHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }
    fn write_u16(&mut self, port: u16) {
        self.0 = u64::from(port);
    }
    /// The table takes its bits from both ends.
    fn finish(&self) -> u64 {
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Gives memory back of a table that was much larger once.
pub fn shrink<K: Hash + Eq, V>(table: &mut HashMap<K, V, Keyed>) {
    if table.capacity() > 1024 && table.len() < table.capacity() / 8 {
        table.shrink_to(table.len() * 2);
    }
}

pub fn random_u64() -> u64 {
    let mut bytes = [0u8; 8];
    crate::random::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}
