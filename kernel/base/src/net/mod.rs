//! The pure half of the network: packets as bytes, fragments, one TCP connection on smoltcp.
//!
//! Map: [`packet`] IP, TCP and UDP headers and their sums · [`reassembly`] fragments · [`engine`] one TCP connection, [`handshake`]
//! without buffers · [`ring`] bytes between two local ends · [`dhcp`] · [`build`] packets that we make ourselves.

pub mod build;
pub mod dhcp;
pub mod engine;
mod handshake;
pub mod ip_option;
pub mod packet;
pub mod reassembly;
pub mod ring;
pub mod route;

#[cfg(test)]
mod link_tests;
