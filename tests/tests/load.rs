//! Many connections, and peers that mean no good: a machine of 128 MiB keeps serving, in bounded memory. The test itself is on
//! the link and sends what it likes.

use machine_tests::link::{ACK, Peer, SYN, Segment, ipv4, parse_tcp, udp};
use machine_tests::net::{Machine, PATIENCE};
use machine_tests::programs::compile;
use machine_tests::sample;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const ECHO: u16 = 7;
const DAYTIME: u16 = 13;
const CHARGEN: u16 = 19;

/// A machine with 128 MiB that runs the small services, and the test on its link.
fn served(name: &str) -> (Machine, Peer) {
    let link = format!("socket:{name}{}", std::process::id());
    let mut machine =
        Machine::start(&["--quiet", "-m", "128M", "--net", &link, "--name", "server", "--", &sample("services")]);
    machine.wait_for("services are there");
    let mut peer = Peer::on(&link, "server");
    // Everything that is made once is there.
    assert_eq!(peer.ask(ECHO, b"hello", 5), b"hello");
    peer.report();
    (machine, peer)
}

/// Fails unless the machine answers at once and `before` KiB of free memory are there again but for `less` KiB.
#[track_caller]
fn is_well(peer: &mut Peer, before: u64, less: u64) {
    peer.drain();
    assert_eq!(peer.ask(ECHO, b"still there", 11), b"still there");
    let start = Instant::now();
    let mut free = 0;
    while start.elapsed() < Duration::from_secs(60) {
        free = peer.report().free_kib();
        if free + less >= before {
            return;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    panic!("{before} KiB were free, {free} KiB are:\n{}", peer.report().0);
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

#[test]
fn a_thousand_connections_are_held() {
    const COUNT: usize = 1000;
    let (_machine, mut peer) = served("held");
    let before = peer.report().free_kib();
    // All at once, and what the link loses again.
    let handles: Vec<SocketHandle> = (0..COUNT).map(|_| peer.begin(ECHO, 512, 512)).collect();
    peer.until("all connected", |peer| {
        handles.iter().all(|handle| peer.tcp(*handle).state() == State::Established).then_some(())
    });
    for round in 0..2 {
        // A few at a time from here on: the link is no deeper than a socket's buffer.
        for some in handles.chunks(64) {
            for (number, handle) in some.iter().enumerate() {
                peer.tcp(*handle).send_slice(format!("{number:4} {round}").as_bytes()).unwrap();
            }
            for (number, handle) in some.iter().enumerate() {
                let expected = format!("{number:4} {round}");
                let mut came = Vec::new();
                peer.until("an echo", |peer| {
                    let socket = peer.tcp(*handle);
                    socket.recv(|bytes| (bytes.len(), came.extend_from_slice(bytes))).unwrap();
                    (came.len() >= expected.len()).then_some(())
                });
                assert_eq!(String::from_utf8_lossy(&came), expected);
            }
        }
        let free = peer.report().free_kib();
        assert!(free > 16 << 10, "{free} KiB free of {before}");
    }
    for some in handles.chunks(64) {
        for handle in some {
            peer.tcp(*handle).close();
        }
        peer.until("all closed", |peer| {
            let is_over = |state| matches!(state, State::Closed | State::TimeWait);
            some.iter().all(|handle| is_over(peer.tcp(*handle).state())).then_some(())
        });
    }
    for handle in handles {
        peer.forget(handle);
    }
    is_well(&mut peer, before, 4 << 10);
}

/// `count` connections, 32 at a time: to the echo service, which ends after us, and to one that ends first, in turns.
fn churn(peer: &mut Peer, count: usize) {
    let mut live: Vec<(SocketHandle, u16, bool)> = Vec::new();
    let (mut begun, mut ended) = (0, 0);
    peer.until("all came and went", |peer| {
        while live.len() < 32 && begun < count {
            let port = if begun % 2 == 0 { ECHO } else { DAYTIME };
            live.push((peer.begin(port, 256, 256), port, false));
            begun += 1;
        }
        live.retain_mut(|(handle, port, said)| {
            let socket = peer.tcp(*handle);
            if !*said && socket.can_send() {
                *said = true;
                if *port == ECHO {
                    socket.send_slice(b"ping").unwrap();
                }
            }
            let len = socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap_or(0);
            let has_ended = *said && !socket.may_recv();
            if *port == ECHO && len != 0 || *port == DAYTIME && has_ended {
                socket.close();
            }
            let is_over = matches!(socket.state(), State::Closed | State::TimeWait);
            assert!(!is_over || *said, "refused");
            if is_over {
                ended += 1;
                peer.forget(*handle);
            }
            !is_over
        });
        (ended == count).then_some(())
    });
}

#[test]
fn connections_come_and_go() {
    let (_machine, mut peer) = served("churn");
    churn(&mut peer, 500);
    let before = peer.report().free_kib();
    churn(&mut peer, 4000);
    // What is in TIME-WAIT takes its few bytes.
    is_well(&mut peer, before, 2 << 10);
}

/// cargo test -p machine-tests --test load -- --ignored fifty
#[test]
#[ignore = "takes minutes"]
fn fifty_thousand_connections_come_and_go() {
    let (_machine, mut peer) = served("churn50");
    churn(&mut peer, 5000);
    let before = peer.report().free_kib();
    for round in 0..9 {
        churn(&mut peer, 5000);
        println!("{} connections: {} KiB free of {before}", (round + 1) * 5000, peer.report().free_kib());
    }
    is_well(&mut peer, before, 2 << 10);
}

/// A SYN that asks for nothing special.
fn syn(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), seq: u32) -> Vec<u8> {
    Segment { from, to, seq, ack: 0, flags: SYN, window: 64240, options: &[2, 4, 5, 0xb4], payload: &[] }.packet()
}

#[test]
fn a_flood_of_syns() {
    let (_machine, mut peer) = served("flood");
    let before = peer.report().free_kib();
    let [a, b, ..] = peer.address.octets();
    let mut dice = Dice(77);
    let mut served = 0;
    for round in 0..40 {
        let asks = round % 4 == 3;
        if asks {
            // What this test's own address refuses is refused now, so that it makes no room later.
            let quiet = Instant::now() + Duration::from_millis(50);
            while Instant::now() < quiet {
                peer.step();
            }
        }
        // From everywhere on the link and beyond it, and from this test's own address, whose answers nobody wants.
        for _ in 0..500 {
            let [_, _, _, _, c, d, e, f] = dice.next().to_be_bytes();
            let from = if d % 2 == 0 && !asks { peer.address } else { Ipv4Addr::new(a, b, c, d | 1) };
            let packet = syn((from, u16::from_be_bytes([e, f]) | 0x8000), (peer.machine, ECHO), dice.next() as u32);
            peer.send(&packet);
        }
        if asks {
            // In the middle of it somebody else is served.
            let answer = peer.try_ask(ECHO, b"in between", 10, Duration::from_secs(20));
            served += usize::from(answer.as_deref() == Some(b"in between"));
        }
    }
    assert_eq!(served, 10);
    let report = peer.report();
    assert!(report.counter("TcpExt", "SyncookiesSent") > 1000, "{}", report.0);
    assert!(report.counter("TcpExt", "SyncookiesRecv") >= 1, "{}", report.0);
    // Handshakes that nobody goes on with are kept for half a minute, but have no buffers.
    assert!(report.free_kib() + (8 << 10) > before, "{before} KiB were free:\n{}", report.0);
    is_well(&mut peer, before, 4 << 10);
}

/// The largest segment that a SYN says its sender takes.
fn advertised(packet: &[u8]) -> Option<u16> {
    let head = usize::from(*packet.first()? & 15) * 4;
    let tcp = packet.get(head..)?;
    let mut options = tcp.get(20..usize::from(tcp.get(12)? >> 4) * 4)?;
    loop {
        match *options {
            [2, 4, high, low, ..] => return Some(u16::from_be_bytes([high, low])),
            [1, ref rest @ ..] => options = rest,
            [kind, len, ..] if kind != 0 && len >= 2 => options = options.get(usize::from(len)..)?,
            _ => return None,
        }
    }
}

/// A listener's TCP_MAXSEG is what its handshakes say, those that are remembered and those that are not.
#[test]
fn cookies_say_the_largest_segment() {
    let program = compile("segments", "cookies", &["-static"]);
    let link = format!("socket:segments{}", std::process::id());
    let path = program.display().to_string();
    let mut machine = Machine::start(&["--quiet", "-m", "128M", "--net", &link, "--name", "server", "--", &path]);
    machine.wait_for("listening");
    let mut peer = Peer::on(&link, "server");
    let (from, to) = (peer.address, (peer.machine, 7000));
    let mut sizes = BTreeMap::new();
    let deadline = Instant::now() + PATIENCE;
    // More than the listener remembers; some may be lost before the machine knows who asks.
    while sizes.len() < 100 {
        assert!(Instant::now() < deadline, "{sizes:?}");
        for port in (40_000..40_100).filter(|port| !sizes.contains_key(port)).collect::<Vec<u16>>() {
            peer.send(&syn((from, port), to, 5));
        }
        while let Some(packet) = peer.next_packet(Duration::from_millis(200)) {
            if let Some((7000, port, _, 6, flags)) = parse_tcp(&packet)
                && flags & (SYN | ACK) == SYN | ACK
            {
                sizes.insert(port, advertised(&packet));
            }
        }
    }
    machine.wait_for("cookies were sent");
    std::fs::remove_file(program).unwrap();
    assert!(sizes.values().all(|size| *size == Some(700)), "{sizes:?}");
}

#[test]
fn a_scan_of_all_ports() {
    let (_machine, mut peer) = served("scan");
    let before = peer.report().free_kib();
    let (mut open, mut closed) = (BTreeSet::new(), BTreeSet::new());
    let (from, to) = (peer.address, peer.machine);
    let all: Vec<u16> = (1..=u16::MAX).collect();
    // A link may lose some: those are asked again.
    for _ in 0..5 {
        let left: Vec<u16> =
            all.iter().copied().filter(|port| !open.contains(port) && !closed.contains(port)).collect();
        for ports in left.chunks(128) {
            for port in ports {
                peer.send(&syn((from, 40_000), (to, *port), 1));
            }
            while let Some(packet) = peer.next_packet(Duration::from_millis(2)) {
                match parse_tcp(&packet) {
                    Some((port, 40_000, _, 2, flags)) if flags & SYN != 0 => drop(open.insert(port)),
                    Some((port, 40_000, 0, 2, _)) => drop(closed.insert(port)),
                    _ => {}
                }
            }
        }
    }
    assert_eq!(open.into_iter().collect::<Vec<_>>(), [7, 9, 11, 13, 19]);
    assert!(closed.len() > 65_000, "{} resets", closed.len());
    for port in 1..=u16::MAX {
        let datagram = udp((from, 40_000), (to, port), b"anybody?");
        peer.send(&ipv4(from, to, 17, (0, 0), &datagram));
    }
    is_well(&mut peer, before, 2 << 10);
}

#[test]
fn fragments_that_never_complete() {
    let (_machine, mut peer) = served("fragments");
    let before = peer.report().free_kib();
    let (from, to) = (peer.address, peer.machine);
    let body = [7; 1400];
    let mut dice = Dice(5);
    for number in 0..20_000u16 {
        // First parts, middle parts and last parts, each of another datagram.
        let fragment = match number % 3 {
            0 => 0x2000,
            1 => 0x2000 | (1 + dice.below(8000)) as u16,
            _ => (1 + dice.below(7900)) as u16,
        };
        peer.send(&ipv4(from, to, 17, (number, fragment), &body));
    }
    let free = peer.report().free_kib();
    assert!(free + (4 << 10) > before, "{free} KiB free of {before}");
    // A datagram in pieces still gets through, out of order, and is answered whole.
    let question: Vec<u8> = (0..4000u16).map(|at| at as u8).collect();
    let whole = udp((from, 40_000), (to, ECHO), &question);
    let pieces: Vec<(usize, &[u8])> = whole.chunks(1400).enumerate().map(|(at, piece)| (at * 1400, piece)).collect();
    peer.drain();
    let mut answer = 0;
    for _ in 0..20 {
        for (at, piece) in pieces.iter().rev() {
            let more = if at + piece.len() < whole.len() { 0x2000 } else { 0 };
            peer.send(&ipv4(from, to, 17, (0xbeef, more | (at / 8) as u16), piece));
        }
        while let Some(packet) = peer.next_packet(Duration::from_millis(500)) {
            if packet[9] == 17 {
                answer += packet.len() - 20;
            }
        }
        if answer != 0 {
            break;
        }
    }
    assert_eq!(answer, 8 + question.len());
    is_well(&mut peer, before, 2 << 10);
}

#[test]
fn windows_of_one_byte_and_of_none() {
    let (_machine, mut peer) = served("windows");
    let before = peer.report().free_kib();
    // These never read: the machine's buffers fill, and its probes are answered with a window of nothing.
    let mute: Vec<SocketHandle> = (0..200).map(|_| peer.begin(CHARGEN, 16, 64)).collect();
    // These read, a byte at a time.
    let slow: Vec<SocketHandle> = (0..20).map(|_| peer.begin(CHARGEN, 1, 64)).collect();
    let mut came = vec![0; slow.len()];
    peer.until("a few bytes each", |peer| {
        for (handle, came) in slow.iter().zip(&mut came) {
            *came += peer.tcp(*handle).recv(|bytes| (bytes.len(), bytes.len())).unwrap_or(0);
        }
        (came.iter().all(|came| *came > 20) && mute.iter().all(|handle| peer.tcp(*handle).recv_queue() == 16))
            .then_some(())
    });
    assert_eq!(peer.ask(ECHO, b"quick", 5), b"quick");
    let free = peer.report().free_kib();
    assert!(free > 32 << 10, "{free} KiB free of {before}");
    for handle in mute.iter().chain(&slow) {
        peer.tcp(*handle).abort();
    }
    peer.step();
    is_well(&mut peer, before, 4 << 10);
}

/// Options that are too long, too short, twice there, absurd, or cut off.
const BAD_OPTIONS: &[&[u8]] = &[
    &[2, 0, 0, 0],
    &[2, 1, 0, 0],
    &[2, 255, 5, 0xb4],
    &[2, 4, 0, 0],
    &[2, 4, 0, 1],
    &[2, 4, 0xff, 0xff],
    &[3, 3, 255, 0],
    &[3, 0, 0, 0],
    &[3, 1, 0, 0],
    &[5, 2, 0, 0],
    &[5, 3, 1, 0],
    &[5, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    &[8, 10, 0, 0, 0, 0, 0, 0],
    &[8, 2, 0, 0],
    &[1, 1, 1, 2],
    &[253, 40, 0, 0],
    &[0, 2, 4, 0],
    &[2, 4, 5, 0xb4, 2, 4, 0, 1, 3, 3, 14, 3, 3, 200, 0, 0],
    &[30, 12, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
    &[34, 3, 0, 0, 34, 255, 0, 0],
];

#[test]
fn options_that_are_wrong() {
    let (_machine, mut peer) = served("options");
    let before = peer.report().free_kib();
    let (from, to) = (peer.address, peer.machine);
    let mut opened = 0;
    for (number, options) in BAD_OPTIONS.iter().cycle().take(400).enumerate() {
        let own = 30_000 + number as u16;
        let plain = Segment {
            from: (from, own),
            to: (to, CHARGEN),
            seq: 1000,
            ack: 0,
            flags: SYN,
            window: 1024,
            options,
            payload: &[],
        };
        peer.send(&plain.packet());
        // Whoever is answered goes on with the same options.
        while let Some(packet) = peer.next_packet(Duration::from_millis(5)) {
            if let Some((_, port, seq, 1001, flags)) = parse_tcp(&packet)
                && port == own
                && flags & (SYN | ACK) == SYN | ACK
            {
                opened += 1;
                let next = Segment { seq: 1001, ack: seq.wrapping_add(1), flags: ACK, ..plain.clone() };
                peer.send(&next.packet());
                break;
            }
        }
    }
    assert!(opened > 100, "{opened} answers");
    is_well(&mut peer, before, 16 << 10);
}

#[test]
fn frames_that_make_no_sense() {
    let (_machine, mut peer) = served("nonsense");
    let before = peer.report().free_kib();
    let (from, to) = (peer.address, peer.machine);
    let mut good: Vec<Vec<u8>> = vec![
        syn((from, 50_000), (to, ECHO), 9),
        Segment {
            from: (from, 50_000),
            to: (to, ECHO),
            seq: 10,
            ack: 77,
            flags: ACK,
            window: 1,
            options: &[1, 1, 8, 10],
            payload: b"x",
        }
        .packet(),
        ipv4(from, to, 17, (0, 0), &udp((from, 50_001), (to, ECHO), b"echo")),
        ipv4(from, to, 17, (7, 0x2000), &[1; 64]),
        ipv4(from, to, 1, (0, 0), &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]),
        ipv4(from, to, 1, (0, 0), &[&[3, 3, 0, 0, 0, 0, 0, 0][..], &syn((to, ECHO), (from, 50_000), 0)].concat()),
        ipv4(from, to, 2, (0, 0), &[0x11, 10, 0, 0, 224, 0, 0, 1]),
        ipv4(from, to, 47, (0, 0), &[0; 40]),
    ];
    // IPv6: neighbour solicitation, router advertisement, a hop-by-hop header.
    let v6 = |next: u8, payload: &[u8]| {
        let mut packet = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next, 255];
        packet.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        packet.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        packet.extend_from_slice(payload);
        packet
    };
    good.push(v6(58, &[&[135, 0, 0, 0, 0, 0, 0, 0][..], &[1; 24]].concat()));
    good.push(v6(58, &[&[134, 0, 0, 0, 64, 0, 7, 8][..], &[0; 8], &[3, 4, 64, 0xc0], &[1; 28]].concat()));
    good.push(v6(0, &[58, 0, 5, 2, 0, 0, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0]));
    good.push(v6(44, &[17, 0, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8]));
    let mut dice = Dice(2026);
    for number in 0..60_000 {
        let packet = &good[dice.below(good.len())];
        let mut frame = vec![0xff; 6];
        frame.extend([
            2,
            0,
            0,
            0,
            0,
            1,
            if packet[0] >> 4 == 4 { 8 } else { 0x86 },
            if packet[0] >> 4 == 4 { 0 } else { 0xdd },
        ]);
        frame.extend_from_slice(packet);
        for _ in 0..dice.below(4) {
            let at = 12 + dice.below(frame.len() - 12);
            frame[at] = dice.next() as u8;
        }
        if dice.below(8) == 0 {
            // QEMU takes an empty datagram for the end of its link.
            frame.truncate(1 + dice.below(frame.len() - 1));
        }
        peer.send_frame(&frame);
        if number % 20_000 == 0 {
            peer.report();
        }
    }
    is_well(&mut peer, before, 4 << 10);
}

#[test]
fn more_frames_than_the_ring_holds() {
    let (_machine, mut peer) = served("ring");
    let before = peer.report().free_kib();
    let (from, to) = (peer.address, peer.machine);
    let datagram = ipv4(from, to, 17, (0, 0), &udp((from, 40_000), (to, ECHO), &[1; 1400]));
    for _ in 0..5 {
        for _ in 0..20_000 {
            peer.send(&datagram);
        }
        peer.drain();
        // Not stalled: the next who asks is answered.
        assert_eq!(peer.ask(ECHO, b"after the flood", 15), b"after the flood");
    }
    is_well(&mut peer, before, 4 << 10);
}
