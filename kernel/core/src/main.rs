#![no_std]
#![no_main]
#![forbid(unsafe_code)]
extern crate alloc;
use zerocopy::*;
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy)]
#[repr(C)]
struct T { a: u64, b: u32, c: u32 }
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! { loop {} }
