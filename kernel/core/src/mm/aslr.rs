//! Where things are placed, and the entropy for it.

use crate::prelude::*;
use base::addr::{USER_END, page_down};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const PAGE: u64 = PAGE_SIZE as u64;
/// Random bits of the mmap base and of PIE programs (the arm64 default for 4 KiB pages).
const MMAP_RANDOM_BITS: u32 = 18;
/// Random pages of the stack's top.
const STACK_RANDOM_MASK: u64 = 0x3_ffff;
/// Where position-independent programs go: two thirds up the address space, as on Linux.
const PIE_BASE: u64 = page_down(2 * (USER_END / 3));
/// personality(2) bit.
pub const ADDR_NO_RANDOMIZE: u32 = 0x004_0000;

static STATE: AtomicU64 = AtomicU64::new(0);

/// Adds seed material (the boot loader's seed, device entropy).
pub fn add_entropy(seed: u64) {
    STATE.fetch_xor(mix(seed), Ordering::Relaxed);
}

/// A finalising mixer with full avalanche.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ (x >> 32)
}

/// `bits` random bits for placement (not for keys).
pub fn random_bits(bits: u32) -> u64 {
    let fresh = hal::rng::cpu_random().unwrap_or(0) ^ crate::time::now_ns().rotate_left(32);
    let state = STATE.fetch_add(0x9e37_79b9_7f4a_7c15 ^ fresh, Ordering::Relaxed);
    mix(state ^ fresh) & ((1 << bits) - 1)
}

/// kernel.randomize_va_space: 0 nothing, 1 all but the heap, 2 the heap too.
pub static RANDOMIZE: AtomicUsize = AtomicUsize::new(2);

/// Whether a program with this personality(2) is placed at random.
pub fn is_wanted(personality: u32) -> bool {
    personality & ADDR_NO_RANDOMIZE == 0 && RANDOMIZE.load(Ordering::Relaxed) != 0
}

/// Bytes by which the first stack pointer lies below its page's end: less than a page, a multiple of 16.
pub fn stack_offset(randomize: bool) -> u64 {
    if randomize { random_bits(8) * 16 } else { 0 }
}

fn random_pages(mask: u64, randomize: bool) -> u64 {
    if randomize { (random_bits(40) & mask) * PAGE } else { 0 }
}

/// Top of the initial stack.
pub fn stack_top(randomize: bool) -> u64 {
    USER_END - PAGE - random_pages(STACK_RANDOM_MASK, randomize)
}

/// Top of the mmap window, below the stack that `stack_limit` bytes allow.
pub fn mmap_base(stack_limit: u64, randomize: bool) -> u64 {
    let pad = (STACK_RANDOM_MASK + 1) * PAGE + super::area::STACK_GUARD;
    let gap = stack_limit.saturating_add(pad).clamp(128 << 20, USER_END / 6 * 5);
    page_down(USER_END - gap) - random_pages((1 << MMAP_RANDOM_BITS) - 1, randomize)
}

/// Load bias of a position-independent program.
pub fn pie_base(randomize: bool) -> u64 {
    PIE_BASE + random_pages((1 << MMAP_RANDOM_BITS) - 1, randomize)
}

/// Start of the heap for a program whose data ends at `end` (page aligned): up to 32 MiB beyond, as arm64 has it.
pub fn brk_start(end: u64, randomize: bool) -> u64 {
    let randomize = randomize && RANDOMIZE.load(Ordering::Relaxed) > 1;
    end.saturating_add(random_pages((32 << 20) / PAGE - 1, randomize))
}
