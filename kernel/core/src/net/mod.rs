//! Sockets: the calls, what every family's sockets share, and the families.
//!
//! Map: [`socket`] the trait behind the calls · [`options`] SOL_SOCKET · [`message`] `struct msghdr`, addresses and control data ·
//! [`unix`] · [`iface`] interfaces, addresses, routes · [`inet`] the internet families. [`netlink`] and
//! [`ioctl`] show and change them. Other families: EAFNOSUPPORT.

pub mod iface;
pub mod inet;
pub mod ioctl;
pub mod message;
pub mod netlink;
pub mod options;
pub mod socket;
pub mod unix;

pub use socket::Socket;

/// Makes `lo` and whatever else needs no device.
pub fn init() {
    netlink::init();
    iface::init();
    inet::init();
}
