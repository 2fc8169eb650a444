//! The test as a machine on a `--net socket` link: a TCP/IP stack of its own (smoltcp) for connections that behave, and frames
//! made by hand for those that do not.
//!
//! A link is a multicast group on this host; each datagram is an Ethernet frame.

use crate::net::PATIENCE;
use crate::{artifacts, crannog};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as Clock;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::FromRawFd;
use std::time::{Duration, Instant};

pub const ETHERNET: usize = 14;
const BROADCAST: [u8; 6] = [0xff; 6];

/// TCP's flags.
pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// A machine's place on a link, as the tool chooses it.
#[derive(Clone, Copy, Debug)]
struct Place {
    group: SocketAddrV4,
    mac: [u8; 6],
    address: Ipv4Addr,
}

fn place(link: &str, name: &str) -> Place {
    let text =
        crannog(&["--dry-run", "--net", link, "--name", name, "--", &crate::sample("services")]).expect(0).stdout;
    let after = |word: &str| {
        let at = text.find(word).unwrap_or_else(|| panic!("no {word} in {text}")) + word.len();
        text[at..].split([',', ' ', '/', '\'', '"', '\n']).next().unwrap_or_default().to_owned()
    };
    let number = |text: &str| text.parse().expect("a number");
    let address = |text: String| text.parse::<Ipv4Addr>().expect("an address");
    let mut mac = [0; 6];
    for (byte, text) in mac.iter_mut().zip(after("mac=").split(':')) {
        *byte = u8::from_str_radix(text, 16).expect("hexadecimal digits");
    }
    let group = SocketAddrV4::new(address(after("remote.host=")), number(&after("remote.port=")));
    Place { group, mac, address: address(after(" ip=")) }
}

/// A socket that hears the link, beside others on this host that do.
fn join(group: SocketAddrV4) -> UdpSocket {
    // SAFETY: plain system calls with arguments of the right size; the descriptor is new and becomes the socket's.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "a socket");
        let set = |level, name, value: libc::c_int| {
            let size = size_of::<libc::c_int>() as libc::socklen_t;
            libc::setsockopt(fd, level, name, (&raw const value).cast(), size)
        };
        assert_eq!(set(libc::SOL_SOCKET, libc::SO_REUSEADDR, 1), 0);
        set(libc::SOL_SOCKET, libc::SO_RCVBUF, 8 << 20);
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: group.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from(*group.ip()).to_be() },
            sin_zero: [0; 8],
        };
        let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        assert_eq!(libc::bind(fd, (&raw const address).cast(), size), 0, "bind to the link");
        let local = libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() };
        let size = size_of::<libc::in_addr>() as libc::socklen_t;
        assert_eq!(libc::setsockopt(fd, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, (&raw const local).cast(), size), 0);
        UdpSocket::from_raw_fd(fd)
    };
    socket.join_multicast_v4(group.ip(), &Ipv4Addr::LOCALHOST).expect("a multicast group");
    socket.set_nonblocking(true).expect("a socket that does not wait");
    socket
}

struct Wire {
    socket: UdpSocket,
    group: SocketAddrV4,
    mac: [u8; 6],
    /// Frames for us that nobody has looked at.
    came: VecDeque<Vec<u8>>,
}

impl Wire {
    fn fill(&mut self) {
        let mut bytes = [0; 65536];
        while let Ok(len) = self.socket.recv(&mut bytes) {
            let frame = &bytes[..len];
            let is_ours = len >= ETHERNET && (frame[..6] == self.mac || frame[0] & 1 != 0) && frame[6..12] != self.mac;
            if is_ours {
                self.came.push_back(frame.to_vec());
            }
        }
    }
    fn send(&self, frame: &[u8]) {
        // A full buffer loses the frame, as a wire does.
        let _ = self.socket.send_to(frame, self.group);
    }
}

struct Came(Vec<u8>);
struct Sends<'a>(&'a UdpSocket, SocketAddrV4);

impl RxToken for Came {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sends<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        let _ = self.0.send_to(&frame, self.1);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Came;
    type TxToken<'a> = Sends<'a>;
    fn receive(&mut self, _now: Clock) -> Option<(Came, Sends<'_>)> {
        if self.came.is_empty() {
            self.fill();
        }
        let frame = self.came.pop_front()?;
        Some((Came(frame), Sends(&self.socket, self.group)))
    }
    fn transmit(&mut self, _now: Clock) -> Option<Sends<'_>> {
        Some(Sends(&self.socket, self.group))
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut all = DeviceCapabilities::default();
        all.medium = Medium::Ethernet;
        all.max_transmission_unit = 1514;
        all
    }
}

/// This test on the link, with a machine to talk to.
pub struct Peer {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    pub address: Ipv4Addr,
    pub machine: Ipv4Addr,
    machine_mac: [u8; 6],
    next_port: u16,
}

impl Peer {
    /// Joins `link` ("socket:NAME") to talk to the machine of that name on it.
    pub fn on(link: &str, machine: &str) -> Self {
        assert!(artifacts().join("sample-services").exists(), "build first");
        let (own, other) = (place(link, "the test"), place(link, machine));
        let mut wire = Wire { socket: join(own.group), group: own.group, mac: own.mac, came: VecDeque::new() };
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(own.mac)));
        config.random_seed = std::process::id().into();
        let mut interface = Interface::new(config, &mut wire, Clock::now());
        interface.update_ip_addrs(|all| all.push(IpCidr::new(own.address.into(), 16)).expect("room for one address"));
        Self {
            wire,
            interface,
            sockets: SocketSet::new(Vec::new()),
            address: own.address,
            machine: other.address,
            machine_mac: other.mac,
            next_port: 1024,
        }
    }

    /// Moves what there is to move; rests for a moment when there is nothing.
    pub fn step(&mut self) {
        let busy = self.interface.poll(Clock::now(), &mut self.wire, &mut self.sockets);
        if busy == smoltcp::iface::PollResult::None && self.wire.came.is_empty() {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Steps until `done` answers something.
    #[track_caller]
    pub fn until<R>(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Option<R>) -> R {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.step();
            if let Some(result) = done(self) {
                return result;
            }
        }
        panic!("not in {} s: {what}", PATIENCE.as_secs());
    }

    /// A port that no connection of this test had before (until they are all used up).
    pub fn port(&mut self) -> u16 {
        self.next_port = self.next_port.checked_add(1).unwrap_or(1024);
        self.next_port
    }

    /// Begins to connect, with buffers of these sizes.
    pub fn begin(&mut self, port: u16, receive: usize, send: usize) -> SocketHandle {
        let buffer = |len| tcp::SocketBuffer::new(vec![0; len]);
        let mut socket = tcp::Socket::new(buffer(receive), buffer(send));
        socket.set_ack_delay(None);
        let (own, to) = (self.port(), (self.machine, port));
        socket.connect(self.interface.context(), to, own).expect("a new socket");
        self.sockets.add(socket)
    }

    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub fn forget(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    /// Says `question` on a new connection to `port` and reads until `len` bytes have come or the other side has ended;
    /// `None`: no connection, or it was reset.
    pub fn try_ask(&mut self, port: u16, question: &[u8], len: usize, patience: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + patience;
        let handle = self.begin(port, 32768, question.len().max(64));
        let (mut said, mut answer) = (false, Vec::new());
        while Instant::now() < deadline {
            self.step();
            let socket = self.tcp(handle);
            if !said && socket.can_send() {
                said = socket.send_slice(question) == Ok(question.len());
            }
            while let Ok(1..) = socket.recv(|bytes| {
                answer.extend_from_slice(bytes);
                (bytes.len(), bytes.len())
            }) {}
            let is_over = !socket.may_recv() && socket.state() != tcp::State::SynSent;
            if answer.len() >= len || is_over {
                break;
            }
        }
        let is_good = said && !answer.is_empty();
        self.tcp(handle).close();
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline
            && !matches!(self.tcp(handle).state(), tcp::State::Closed | tcp::State::TimeWait | tcp::State::FinWait2)
        {
            self.step();
        }
        self.tcp(handle).abort();
        self.step();
        self.forget(handle);
        is_good.then_some(answer)
    }

    /// As [`Peer::try_ask`], again and again until it answers.
    #[track_caller]
    pub fn ask(&mut self, port: u16, question: &[u8], len: usize) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(answer) = self.try_ask(port, question, len, Duration::from_secs(10)) {
                return answer;
            }
        }
        panic!("port {port} does not answer");
    }

    /// What the machine reports of itself.
    #[track_caller]
    pub fn report(&mut self) -> Report {
        Report(String::from_utf8_lossy(&self.ask(11, b"", usize::MAX)).into_owned())
    }

    /// Puts an IPv4 packet on the link, for the machine.
    pub fn send(&mut self, packet: &[u8]) {
        let mut frame = [&self.machine_mac[..], &self.wire.mac, &[8, 0]].concat();
        frame.extend_from_slice(packet);
        self.wire.send(&frame);
    }

    /// Puts any frame on the link.
    pub fn send_frame(&mut self, frame: &[u8]) {
        self.wire.send(frame);
    }

    /// Answers ARP and so on until the next IPv4 packet for this test; `None` when none comes in this time.
    pub fn next_packet(&mut self, patience: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + patience;
        loop {
            self.wire.fill();
            match self.wire.came.pop_front() {
                Some(frame) if frame[12..14] == [8, 0] => return Some(frame[ETHERNET..].to_vec()),
                Some(frame) => {
                    self.answer_arp(&frame);
                }
                None if Instant::now() >= deadline => return None,
                None => std::thread::sleep(Duration::from_micros(100)),
            }
        }
    }

    fn answer_arp(&self, frame: &[u8]) {
        let asks = frame.len() >= 42 && frame[12..14] == [8, 6] && frame[20..22] == [0, 1];
        if asks && frame[38..42] == self.address.octets() && (frame[..6] == BROADCAST || frame[..6] == self.wire.mac) {
            let mut answer = [&frame[6..12], &self.wire.mac, &frame[12..20], &[0, 2], &self.wire.mac].concat();
            answer.extend_from_slice(&self.address.octets());
            answer.extend_from_slice(&frame[22..32]);
            self.wire.send(&answer);
        }
    }

    /// Says that this link's hosts make themselves addresses in 2001:db8:PREFIX::/64 (RFC 4861, 4.2 and 4.6.2), and that this
    /// test is no router.
    pub fn advertise(&mut self, prefix: u16) {
        let mut bytes = vec![134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 64, 0xc0];
        bytes.extend([3600u32.to_be_bytes(), 1800u32.to_be_bytes(), [0; 4], [0x20, 1, 0xd, 0xb8]].concat());
        bytes.extend(prefix.to_be_bytes());
        bytes.extend([0; 10]);
        let from = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77];
        let to = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let len = (bytes.len() as u16).to_be_bytes();
        let total = sum(&[&from, &to, &[0, 0], &len, &[0, 0, 0, 58], &bytes]);
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
        let mut frame = [&[0x33, 0x33, 0, 0, 0, 1][..], &self.wire.mac, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
        frame.extend([len[0], len[1], 58, 255]);
        frame.extend([from, to].concat());
        frame.extend(bytes);
        self.wire.send(&frame);
    }

    /// Throws away what came.
    pub fn drain(&mut self) {
        self.wire.fill();
        self.wire.came.clear();
    }
}

/// The lines of /proc that port 11 gives.
pub struct Report(pub String);

impl Report {
    /// The number behind `word`.
    #[track_caller]
    pub fn number(&self, word: &str) -> u64 {
        let mut words = self.0.split_whitespace().skip_while(|other| *other != word).skip(1);
        words.next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {word} in\n{}", self.0))
    }
    pub fn free_kib(&self) -> u64 {
        self.number("MemFree:")
    }
    /// The counter `name` of group `group` in /proc/net/snmp or netstat.
    #[track_caller]
    pub fn counter(&self, group: &str, name: &str) -> u64 {
        let mut lines = self.0.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(": "));
        let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let at = names.split(' ').position(|word| word == name);
        let value = at.and_then(|at| values.split(' ').nth(at)?.parse().ok());
        value.unwrap_or_else(|| panic!("no {group} {name} in\n{}", self.0))
    }
}

/// The Internet checksum.
fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut total: u32 = bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(*two.get(1).unwrap_or(&0))).sum();
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

/// An IPv4 packet; `fragment` are the flags and the offset as they stand in the header.
pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, (id, fragment): (u16, u16), payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(len.to_be_bytes());
    packet.extend(id.to_be_bytes());
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let total = sum(&[&packet]);
    packet[10..12].copy_from_slice(&total.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// A TCP segment with any options (padded to a whole word by ends of list), right or wrong.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    pub from: (Ipv4Addr, u16),
    pub to: (Ipv4Addr, u16),
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: &'a [u8],
    pub payload: &'a [u8],
}

impl Segment<'_> {
    pub fn packet(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.from.1.to_be_bytes());
        bytes.extend(self.to.1.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        let words = 5 + self.options.len().div_ceil(4);
        bytes.extend([(words << 4) as u8, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend_from_slice(self.options);
        bytes.resize(words * 4, 0);
        bytes.extend_from_slice(self.payload);
        let len = (bytes.len() as u16).to_be_bytes();
        let total = sum(&[&self.from.0.octets(), &self.to.0.octets(), &[0, 6], &len, &bytes]);
        bytes[16..18].copy_from_slice(&total.to_be_bytes());
        ipv4(self.from.0, self.to.0, 6, (0, 0x4000), &bytes)
    }
}

/// A UDP datagram.
pub fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let len = ((8 + payload.len()) as u16).to_be_bytes();
    let mut bytes = [&from.1.to_be_bytes()[..], &to.1.to_be_bytes(), &len, &[0, 0]].concat();
    bytes.extend_from_slice(payload);
    let total = sum(&[&from.0.octets(), &to.0.octets(), &[0, 17], &len, &bytes]);
    bytes[6..8].copy_from_slice(&total.to_be_bytes());
    bytes
}

/// What came back, as far as a test looks: source port, destination port, sequence, acknowledgement, flags.
pub fn parse_tcp(packet: &[u8]) -> Option<(u16, u16, u32, u32, u8)> {
    let head = usize::from(*packet.first()? & 15) * 4;
    let tcp = packet.get(head..).filter(|tcp| packet[9] == 6 && tcp.len() >= 20)?;
    let word = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
    Some(((word(0) >> 16) as u16, word(0) as u16, word(4), word(8), tcp[13]))
}
