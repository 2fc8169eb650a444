//! Pure logic of the kernel: no assembly, no `unsafe`, no hardware; tested on the host.
//!
//! A module here is a type and its rules (an errno, an address range, a state machine); the thin shells that lock,
//! copy, wait and wake live in `kernel/core`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![feature(allocator_api)]

extern crate alloc;

pub mod abi;
pub mod addr;
pub mod atags;
pub mod bus;
pub mod cpio;
pub mod descriptors;
pub mod device;
pub mod elf;
pub mod epoll;
pub mod errno;
pub mod flight;
pub mod futex;
pub mod heap;
pub mod line_discipline;
pub mod message_queue;
pub mod mqueue;
pub mod net;
pub mod numbers;
pub mod page_table;
pub mod partition;
pub mod path;
pub mod pending;
pub mod priority;
pub mod radix;
pub mod record_locks;
pub mod ring;
pub mod run_queue;
pub mod semaphore;
pub mod slab;
pub mod symbols;
pub mod sysv;
pub mod termios;
pub mod text;
pub mod timer_queue;
pub mod tree;
pub mod vma;
pub mod wait_graph;
