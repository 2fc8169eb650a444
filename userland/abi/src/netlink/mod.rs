//! Netlink route sockets, the interface ioctls and /proc/net, on the loopback interface that every machine has.

#![expect(clippy::undocumented_unsafe_blocks, reason = "each block is one system call, which is what is tested")]

use crate::harness::{Tests, expect_errno};
use std::fs;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST: u16 = 1;
const MULTI: u16 = 2;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const EXCL: u16 = 0x200;
const IFLA_IFNAME: u16 = 3;
const IFA_LOCAL: u16 = 2;
const SOL_NETLINK: i32 = 270;

pub const TESTS: Tests = &[
    ("socket_kinds_and_names", socket_kinds_and_names),
    ("dump_of_links_ends_with_done", dump_of_links_ends_with_done),
    ("dump_of_addresses_has_loopback", dump_of_addresses_has_loopback),
    ("one_link_by_name_or_index", one_link_by_name_or_index),
    ("errors_and_acknowledgements", errors_and_acknowledgements),
    ("several_requests_in_one_datagram", several_requests_in_one_datagram),
    ("short_buffers_truncate_and_peek_keeps", short_buffers_truncate_and_peek_keeps),
    ("addresses_come_and_go", addresses_come_and_go),
    ("only_root_changes", only_root_changes),
    ("route_to_oneself", route_to_oneself),
    ("interface_ioctls", interface_ioctls),
    ("interface_ioctl_errors", interface_ioctl_errors),
    ("interface_list", interface_list),
    ("getifaddrs_finds_loopback", getifaddrs_finds_loopback),
    ("proc_net_files", proc_net_files),
    ("class_net", class_net),
];

#[track_caller]
fn check(result: i32) -> i32 {
    assert!(result != -1, "{}", std::io::Error::last_os_error());
    result
}

struct Netlink(i32);

impl Drop for Netlink {
    fn drop(&mut self) {
        unsafe { libc::close(self.0) };
    }
}

/// One message of an answer.
#[derive(Debug)]
struct Message {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: Vec<u8>,
}

impl Message {
    fn error(&self) -> i32 {
        assert_eq!(self.kind, NLMSG_ERROR, "{self:?}");
        -i32::from_ne_bytes(self.body[..4].try_into().unwrap())
    }
    fn attribute(&self, fixed: usize, kind: u16) -> Option<&[u8]> {
        let mut rest = &self.body[fixed..];
        while rest.len() >= 4 {
            let len = u16::from_ne_bytes([rest[0], rest[1]]) as usize;
            if u16::from_ne_bytes([rest[2], rest[3]]) == kind {
                return Some(&rest[4..len]);
            }
            rest = rest.get((len + 3) & !3..).unwrap_or(&[]);
        }
        None
    }
}

fn request(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((16 + body.len() as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((REQUEST | flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(body);
    bytes.resize((bytes.len() + 3) & !3, 0);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize((bytes.len() + 3) & !3, 0);
    bytes
}

fn split(mut rest: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while rest.len() >= 16 {
        let len = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
        assert!(len >= 16 && len <= rest.len(), "a message of {len} in {}", rest.len());
        messages.push(Message {
            kind: u16::from_ne_bytes([rest[4], rest[5]]),
            flags: u16::from_ne_bytes([rest[6], rest[7]]),
            sequence: u32::from_ne_bytes(rest[8..12].try_into().unwrap()),
            body: rest[16..len].to_vec(),
        });
        rest = rest.get((len + 3) & !3..).unwrap_or(&[]);
    }
    messages
}

impl Netlink {
    fn new() -> Self {
        Self(check(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) }))
    }
    fn send(&self, bytes: &[u8]) {
        assert_eq!(unsafe { libc::send(self.0, bytes.as_ptr().cast(), bytes.len(), 0) }, bytes.len() as isize);
    }
    fn receive(&self) -> Vec<Message> {
        let mut buffer = vec![0u8; 32768];
        let count = unsafe { libc::recv(self.0, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        assert!(count >= 0, "recv: {}", std::io::Error::last_os_error());
        split(&buffer[..count as usize])
    }
    fn nothing_waits(&self) {
        let mut byte = 0u8;
        let got = unsafe { libc::recv(self.0, (&raw mut byte).cast(), 1, libc::MSG_DONTWAIT) };
        expect_errno(got as i64, libc::EAGAIN);
    }
    /// All of a dump but its end.
    fn dump(&self, kind: u16, body: &[u8]) -> Vec<Message> {
        self.send(&request(kind, DUMP, 77, body));
        let mut all = Vec::new();
        loop {
            for message in self.receive() {
                assert_eq!(message.sequence, 77);
                assert!(message.flags & MULTI != 0, "{message:?}");
                if message.kind == NLMSG_DONE {
                    assert_eq!(message.body[..4], [0; 4]);
                    return all;
                }
                all.push(message);
            }
        }
    }
    /// Sends a request that is acknowledged or refused; answers the errno.
    fn change(&self, kind: u16, flags: u16, body: &[u8]) -> i32 {
        self.send(&request(kind, flags | ACK, 9, body));
        let messages = self.receive();
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages[0].error()
    }
}

fn index_of(name: &str) -> u32 {
    let name = std::ffi::CString::new(name).unwrap();
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

fn address_body(prefix: u8, index: u32, address: [u8; 4]) -> Vec<u8> {
    let mut body = vec![libc::AF_INET as u8, prefix, 0, 0];
    body.extend(index.to_ne_bytes());
    body.extend(attribute(IFA_LOCAL, &address));
    body
}

fn socket_kinds_and_names() {
    unsafe {
        expect_errno(libc::socket(libc::AF_NETLINK, libc::SOCK_STREAM, 0).into(), libc::ESOCKTNOSUPPORT);
        expect_errno(libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 31).into(), libc::EPROTONOSUPPORT);
        let one = Netlink::new();
        let mut name: libc::sockaddr_nl = std::mem::zeroed();
        let mut len = size_of_val(&name) as u32;
        check(libc::getsockname(one.0, (&raw mut name).cast(), &mut len));
        assert_eq!((i32::from(name.nl_family), name.nl_pid, len), (libc::AF_NETLINK, 0, 12));
        name.nl_family = libc::AF_NETLINK as u16;
        check(libc::bind(one.0, (&raw const name).cast(), 12));
        check(libc::getsockname(one.0, (&raw mut name).cast(), &mut len));
        assert_eq!(name.nl_pid, libc::getpid() as u32);
        // The second socket of a process gets another number, and a number is taken once.
        let other = Netlink::new();
        expect_errno(libc::bind(other.0, (&raw const name).cast(), 12).into(), libc::EADDRINUSE);
        expect_errno(libc::bind(other.0, (&raw const name).cast(), 4).into(), libc::EINVAL);
        let own = name.nl_pid;
        name.nl_pid = 0;
        check(libc::bind(other.0, (&raw const name).cast(), 12));
        check(libc::getsockname(other.0, (&raw mut name).cast(), &mut len));
        assert!(name.nl_pid != own && name.nl_pid != 0);
    }
}

fn dump_of_links_ends_with_done() {
    let links = Netlink::new().dump(RTM_GETLINK, &[0; 16]);
    let lo = links.iter().find(|link| link.attribute(16, IFLA_IFNAME) == Some(b"lo\0")).expect("lo");
    assert_eq!(lo.kind, RTM_NEWLINK);
    assert_eq!(u32::from_ne_bytes(lo.body[4..8].try_into().unwrap()), index_of("lo"));
    assert_eq!(u16::from_ne_bytes([lo.body[2], lo.body[3]]), 772);
    let flags = u32::from_ne_bytes(lo.body[8..12].try_into().unwrap());
    assert_eq!(flags & 0x1_0049, 0x1_0049, "LOWER_UP, RUNNING, LOOPBACK, UP: {flags:#x}");
    assert_eq!(lo.attribute(16, 4), Some(&65536u32.to_ne_bytes()[..]));
    assert_eq!(lo.attribute(16, 1), Some(&[0; 6][..]));
    assert!(lo.attribute(16, 23).is_some_and(|stats| stats.len() >= 192));
    // Old programs send one byte of body.
    assert!(!Netlink::new().dump(RTM_GETLINK, &[0]).is_empty());
}

fn dump_of_addresses_has_loopback() {
    let addresses = Netlink::new().dump(RTM_GETADDR, &[0; 8]);
    let own = addresses.iter().find(|own| own.attribute(8, IFA_LOCAL) == Some(&[127, 0, 0, 1])).expect("127.0.0.1");
    assert_eq!(own.kind, RTM_NEWADDR);
    assert_eq!(own.body[..4], [libc::AF_INET as u8, 8, 0x80, 254], "family, length, permanent, host");
    assert_eq!(own.attribute(8, 3), Some(&b"lo\0"[..]));
    assert_eq!(own.attribute(8, 1), Some(&[127, 0, 0, 1][..]));
    // By family.
    let mut body = [0; 8];
    body[0] = libc::AF_INET6 as u8;
    let six = Netlink::new().dump(RTM_GETADDR, &body);
    assert!(six.iter().all(|own| own.body[0] == libc::AF_INET6 as u8));
}

fn one_link_by_name_or_index() {
    let netlink = Netlink::new();
    let mut by_name = vec![0; 16];
    by_name.extend(attribute(IFLA_IFNAME, b"lo\0"));
    netlink.send(&request(RTM_GETLINK, 0, 5, &by_name));
    let one = netlink.receive();
    assert_eq!((one.len(), one[0].kind, one[0].flags & MULTI, one[0].sequence), (1, RTM_NEWLINK, 0, 5));
    let mut by_index = vec![0; 16];
    by_index[4..8].copy_from_slice(&index_of("lo").to_ne_bytes());
    netlink.send(&request(RTM_GETLINK, 0, 6, &by_index));
    assert_eq!(netlink.receive()[0].attribute(16, IFLA_IFNAME), Some(&b"lo\0"[..]));
    let mut unknown = vec![0; 16];
    unknown.extend(attribute(IFLA_IFNAME, b"nosuch\0"));
    netlink.send(&request(RTM_GETLINK, 0, 7, &unknown));
    assert_eq!(netlink.receive()[0].error(), libc::ENODEV);
    netlink.nothing_waits();
}

fn errors_and_acknowledgements() {
    let netlink = Netlink::new();
    // A type nobody knows; the request comes back with the error.
    let bytes = request(200, 0, 3, &[1, 2, 3, 4]);
    netlink.send(&bytes);
    let answer = netlink.receive();
    assert_eq!(answer[0].error(), libc::EOPNOTSUPP);
    assert_eq!(answer[0].body[4..24], bytes[..20]);
    // With NETLINK_CAP_ACK only its header does.
    let on = 1i32;
    check(unsafe { libc::setsockopt(netlink.0, SOL_NETLINK, 10, (&raw const on).cast(), 4) });
    netlink.send(&bytes);
    assert_eq!(netlink.receive()[0].body.len(), 20);
    expect_errno(
        unsafe { libc::setsockopt(netlink.0, SOL_NETLINK, 99, (&raw const on).cast(), 4) }.into(),
        libc::ENOPROTOOPT,
    );
    // An interface that is not there.
    assert_eq!(netlink.change(RTM_NEWADDR, CREATE, &address_body(24, 9999, [10, 9, 9, 9])), libc::ENODEV);
    assert_eq!(netlink.change(RTM_DELADDR, 0, &address_body(24, index_of("lo"), [10, 9, 9, 9])), libc::EADDRNOTAVAIL);
    netlink.nothing_waits();
}

fn several_requests_in_one_datagram() {
    let netlink = Netlink::new();
    let mut body = vec![0; 16];
    body.extend(attribute(IFLA_IFNAME, b"lo\0"));
    let mut bytes = request(RTM_GETLINK, 0, 1, &body);
    bytes.extend(request(200, 0, 2, &[]));
    bytes.extend(request(RTM_GETLINK, 0, 3, &body));
    netlink.send(&bytes);
    let mut sequences = Vec::new();
    while sequences.len() < 3 {
        sequences.extend(netlink.receive().iter().map(|message| message.sequence));
    }
    assert_eq!(sequences, [1, 2, 3]);
}

fn short_buffers_truncate_and_peek_keeps() {
    let netlink = Netlink::new();
    let mut body = vec![0; 16];
    body.extend(attribute(IFLA_IFNAME, b"lo\0"));
    netlink.send(&request(RTM_GETLINK, 0, 1, &body));
    let mut small = [0u8; 20];
    let recv =
        |buffer: &mut [u8], flags| unsafe { libc::recv(netlink.0, buffer.as_mut_ptr().cast(), buffer.len(), flags) };
    let full = recv(&mut small, libc::MSG_PEEK | libc::MSG_TRUNC);
    assert_eq!(full as u32, u32::from_ne_bytes(small[..4].try_into().unwrap()));
    assert_eq!(recv(&mut small, 0), 20);
    netlink.nothing_waits();
}

fn addresses_come_and_go() {
    let netlink = Netlink::new();
    let body = address_body(32, index_of("lo"), [127, 9, 8, 7]);
    let is_listed = || {
        let listed = netlink.dump(RTM_GETADDR, &[0; 8]);
        listed.iter().any(|own| own.attribute(8, IFA_LOCAL) == Some(&[127, 9, 8, 7]))
    };
    assert_eq!(netlink.change(RTM_NEWADDR, CREATE | EXCL, &body), 0);
    assert_eq!(netlink.change(RTM_NEWADDR, CREATE | EXCL, &body), libc::EEXIST);
    assert!(is_listed());
    assert_eq!(netlink.change(RTM_DELADDR, 0, &body), 0);
    assert!(!is_listed());
    assert_eq!(netlink.change(RTM_DELADDR, 0, &body), libc::EADDRNOTAVAIL);
}

fn only_root_changes() {
    check(unsafe { libc::setresuid(1000, 1000, 1000) });
    let netlink = Netlink::new();
    assert_eq!(netlink.change(RTM_NEWADDR, CREATE, &address_body(32, index_of("lo"), [127, 9, 9, 9])), libc::EPERM);
    assert!(!netlink.dump(RTM_GETLINK, &[0; 16]).is_empty());
}

fn route_to_oneself() {
    let netlink = Netlink::new();
    let mut body = vec![0; 12];
    body[0] = libc::AF_INET as u8;
    body[1] = 32;
    body.extend(attribute(1, &[127, 0, 0, 1]));
    netlink.send(&request(RTM_GETROUTE, 0, 4, &body));
    let answer = netlink.receive();
    assert_eq!((answer[0].kind, answer[0].body[0], answer[0].body[7]), (24, libc::AF_INET as u8, 2), "a local route");
    assert_eq!(answer[0].attribute(12, 4), Some(&index_of("lo").to_ne_bytes()[..]));
}

fn ifreq(name: &str) -> [u8; 40] {
    let mut request = [0; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request
}

fn ioctl(fd: i32, command: u64, argument: &mut [u8]) -> i32 {
    unsafe { libc::ioctl(fd, command as _, argument.as_mut_ptr()) }
}

/// Any socket will do.
fn any_socket() -> i32 {
    check(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0) })
}

fn interface_ioctls() {
    let fd = any_socket();
    let mut request = ifreq("lo");
    check(ioctl(fd, 0x8913, &mut request));
    let flags = u16::from_ne_bytes([request[16], request[17]]);
    assert_eq!(flags & 0x49, 0x49, "{flags:#x}");
    check(ioctl(fd, 0x8933, &mut request));
    assert_eq!(request[16..20], index_of("lo").to_ne_bytes());
    // And back to the name.
    request[..16].fill(0);
    check(ioctl(fd, 0x8910, &mut request));
    assert_eq!(request[..3], *b"lo\0");
    check(ioctl(fd, 0x8921, &mut request));
    assert_eq!(request[16..20], 65536u32.to_ne_bytes());
    check(ioctl(fd, 0x8927, &mut request));
    assert_eq!(u16::from_ne_bytes([request[16], request[17]]), 772);
}

fn interface_ioctl_errors() {
    let fd = any_socket();
    expect_errno(ioctl(fd, 0x8913, &mut ifreq("nosuch")).into(), libc::ENODEV);
    let mut request = ifreq("");
    request[16..20].copy_from_slice(&9999u32.to_ne_bytes());
    expect_errno(ioctl(fd, 0x8910, &mut request).into(), libc::ENODEV);
    expect_errno(unsafe { libc::ioctl(fd, 0x8913 as _, 8usize) }.into(), libc::EFAULT);
    check(unsafe { libc::setresuid(1000, 1000, 1000) });
    expect_errno(ioctl(fd, 0x8914, &mut ifreq("lo")).into(), libc::EPERM);
    check(ioctl(fd, 0x8913, &mut ifreq("lo")));
}

fn interface_list() {
    let fd = any_socket();
    let mut conf = [0u8; 16];
    check(ioctl(fd, 0x8912, &mut conf));
    let need = u32::from_ne_bytes(conf[..4].try_into().unwrap()) as usize;
    assert!(need >= 40 && need.is_multiple_of(40), "{need}");
    let mut buffer = vec![0u8; need + 17];
    conf[..4].copy_from_slice(&(buffer.len() as u32).to_ne_bytes());
    conf[8..].copy_from_slice(&(buffer.as_mut_ptr() as u64).to_ne_bytes());
    check(ioctl(fd, 0x8912, &mut conf));
    assert_eq!(u32::from_ne_bytes(conf[..4].try_into().unwrap()) as usize, need);
    assert!(buffer.chunks_exact(40).any(|entry| entry[..3] == *b"lo\0" && entry[20..24] == [127, 0, 0, 1]));
}

fn getifaddrs_finds_loopback() {
    let mut list = std::ptr::null_mut();
    check(unsafe { libc::getifaddrs(&mut list) });
    let (mut at, mut found) = (list, false);
    while let Some(entry) = unsafe { at.as_ref() } {
        let name = unsafe { std::ffi::CStr::from_ptr(entry.ifa_name) };
        let family = unsafe { entry.ifa_addr.as_ref() }.map(|address| i32::from(address.sa_family));
        found |= name == c"lo" && family == Some(libc::AF_INET);
        at = entry.ifa_next;
    }
    unsafe { libc::freeifaddrs(list) };
    assert!(found);
}

fn proc_net_files() {
    let read = |name: &str| fs::read_to_string(format!("/proc/net/{name}")).unwrap();
    let dev = read("dev");
    let lo = dev.lines().find(|line| line.trim_start().starts_with("lo:")).expect("lo");
    assert_eq!(lo.split(':').nth(1).unwrap().split_whitespace().count(), 16);
    assert!(read("route").starts_with("Iface\tDestination\tGateway "));
    assert!(read("tcp").starts_with("  sl  local_address rem_address   st tx_queue"));
    assert!(read("udp").starts_with("   sl  local_address rem_address   st tx_queue"));
    assert!(read("unix").starts_with("Num       RefCount Protocol Flags    Type St Inode Path"));
    assert!(read("arp").starts_with("IP address       HW type     Flags       HW address"));
    assert!(read("sockstat").starts_with("sockets: used "));
    assert!(read("snmp").contains("\nTcp: RtoAlgorithm "));
    let six = read("if_inet6");
    assert!(six.lines().any(|line| line.starts_with("00000000000000000000000000000001 01 80 10 80       lo")), "{six}");
    // A bound name shows up.
    let name = std::os::unix::net::UnixDatagram::bind("/tmp/netlink-test-name").unwrap();
    assert!(read("unix").contains("/tmp/netlink-test-name"));
    drop(name);
    let _ = fs::remove_file("/tmp/netlink-test-name");
}

fn class_net() {
    let read = |name: &str| fs::read_to_string(format!("/sys/class/net/lo/{name}")).unwrap();
    assert_eq!(read("address"), "00:00:00:00:00:00\n");
    assert_eq!(read("mtu"), "65536\n");
    assert_eq!(read("operstate"), "unknown\n");
    assert_eq!(read("ifindex"), format!("{}\n", index_of("lo")));
    assert_eq!(read("type"), "772\n");
    assert!(read("statistics/rx_bytes").trim().parse::<u64>().is_ok());
    assert!(!std::path::Path::new("/sys/class/net/nosuch").exists());
}
