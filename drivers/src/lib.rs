//! Device drivers behind small traits; registers only through `tock-registers` structs.
//!
//! `kernel/core` sees a driver only through the traits in [`traits`]. A driver gets its registers as an [`mmio::Mmio`],
//! which only `hal` makes (by mapping a physical range as device memory), and host tests make from plain memory.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod bcm;
pub mod dma;
pub mod gicv2;
#[cfg(target_arch = "aarch64")]
pub mod gicv3;
pub mod lock;
pub mod mmio;
pub mod ns16550;
pub mod pl011;
pub mod pl031;
pub mod polled;
pub mod traits;
pub mod virtio;
