//! The network as the host tool set it up: the machine's name and, on a kernel that does not configure itself, driver modules,
//! address and routes.

use std::ffi::CString;
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

/// `struct ifreq` with an address in it.
#[repr(C)]
struct Request {
    name: [u8; 16],
    value: [u8; 24],
}

fn name_bytes(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes
}

/// `struct sockaddr_in` of an address, in 16 of `size` bytes.
fn socket_address<const SIZE: usize>(address: Ipv4Addr) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    bytes[4..8].copy_from_slice(&address.octets());
    bytes
}

/// Answers the value as the kernel left it.
fn control(socket: &impl AsRawFd, request: libc::c_ulong, interface: &str, value: [u8; 24]) -> [u8; 24] {
    let mut argument = Request { name: name_bytes(interface), value };
    // SAFETY: an ifreq of our own; what the kernel refuses is left as it is.
    unsafe { libc::ioctl(socket.as_raw_fd(), request as _, &raw mut argument) };
    argument.value
}

fn set_up(socket: &impl AsRawFd, interface: &str) {
    let mut flags = control(socket, libc::SIOCGIFFLAGS as libc::c_ulong, interface, [0; 24]);
    let up = u16::from_ne_bytes([flags[0], flags[1]]) | libc::IFF_UP as u16;
    flags[..2].copy_from_slice(&up.to_ne_bytes());
    control(socket, libc::SIOCSIFFLAGS as libc::c_ulong, interface, flags);
}

/// `struct rtentry` with a gateway for everything.
fn add_default_route(socket: &impl AsRawFd, gateway: Ipv4Addr) {
    // SAFETY: all zeroes is a valid rtentry.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    let address = |address| {
        // SAFETY: a sockaddr is 16 plain bytes.
        unsafe { std::mem::transmute::<[u8; 16], libc::sockaddr>(socket_address(address)) }
    };
    route.rt_dst = address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = address(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    // SAFETY: an rtentry of our own.
    unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT as _, &raw const route) };
}

fn load_modules() {
    let mut number = 0;
    while let Ok(data) = fs::read(format!("/.crannog/modules/{number}.ko")) {
        // SAFETY: init_module with a buffer of our own and no options.
        unsafe { libc::syscall(libc::SYS_init_module, data.as_ptr(), data.len(), c"".as_ptr()) };
        number += 1;
    }
}

/// `address` is ADDRESS/LENGTH, and behind commas gateway and name server.
fn configure(address: &str) {
    let mut words = address.split(',');
    let own = words.next().and_then(|word| word.split_once('/'));
    let Some((Ok(own), Ok(len))) = own.map(|(own, len)| (own.parse::<Ipv4Addr>(), len.parse::<u32>())) else { return };
    let Ok(socket) = std::net::UdpSocket::bind("0.0.0.0:0") else { return };
    let mask = Ipv4Addr::from(u32::MAX.checked_shl(32 - len).unwrap_or(0));
    set_up(&socket, "lo");
    control(&socket, libc::SIOCSIFADDR as libc::c_ulong, "eth0", socket_address(own));
    control(&socket, libc::SIOCSIFNETMASK as libc::c_ulong, "eth0", socket_address(mask));
    set_up(&socket, "eth0");
    if let Some(gateway) = words.next().and_then(|word| word.parse().ok()) {
        add_default_route(&socket, gateway);
    }
    if let Some(server) = words.next() {
        let _ = fs::create_dir_all("/etc");
        let _ = fs::write("/etc/resolv.conf", format!("nameserver {server}\n"));
    }
}

pub fn set_up_machine(hostname: Option<&CString>, address: Option<&CString>, configures_itself: bool) {
    if let Some(name) = hostname {
        // SAFETY: the name's own bytes.
        unsafe { libc::sethostname(name.as_ptr(), name.as_bytes().len()) };
    }
    if configures_itself {
        return;
    }
    load_modules();
    if let Some(address) = address.and_then(|address| address.to_str().ok()) {
        configure(address);
    }
}
