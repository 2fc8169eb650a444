//! The manual page of msgop(2), then every short history against what must hold whatever happens.

use super::*;
use alloc::vec::Vec;

type Ends = Vec<(u32, End<Vec<u8>>)>;

impl Ended<u32, Vec<u8>> for Ends {
    fn push(&mut self, waiter: u32, end: End<Vec<u8>>) {
        Vec::push(self, (waiter, end));
    }
}

fn message(kind: i64, text: &[u8]) -> Message<Vec<u8>> {
    Message { kind, text: text.to_vec() }
}

fn ask(kind: i64, size: usize) -> Request {
    Request { wanted: Wanted::new(kind, false), size, truncate: false }
}

#[test]
fn types_choose() {
    let mut queue: Queue<u32, Vec<u8>> = Queue::new(100);
    let mut ends = Ends::new();
    for (kind, text) in [(5, b"a"), (3, b"b"), (9, b"c"), (3, b"d"), (1, b"e")] {
        assert_eq!(queue.send(message(kind, text), &mut ends), Ok(()));
    }
    let mut take = |wanted| {
        let request = Request { wanted, size: 1, truncate: false };
        queue.receive(&request, &mut Ends::new()).unwrap().map(|message| message.text[0])
    };
    assert_eq!(take(Wanted::new(9, false)), Some(b'c'));
    assert_eq!(take(Wanted::new(5, true)), Some(b'b'));
    assert_eq!(take(Wanted::new(-4, false)), Some(b'e'));
    assert_eq!(take(Wanted::new(-4, false)), Some(b'd'));
    assert_eq!(take(Wanted::new(-4, false)), None);
    assert_eq!(take(Wanted::new(i64::MIN, false)), Some(b'a'));
    assert_eq!(take(Wanted::Any), None);
    assert_eq!((queue.len(), queue.bytes(), ends.len()), (0, 0, 0));
}

#[test]
fn too_big_stays_and_fails_those_who_wait() {
    let mut queue: Queue<u32, Vec<u8>> = Queue::new(100);
    let mut ends = Ends::new();
    queue.wait_to_receive(1, ask(0, 2));
    queue.wait_to_receive(2, ask(7, 9));
    queue.wait_to_receive(3, Request { truncate: true, ..ask(0, 2) });
    assert_eq!(queue.send(message(1, b"long"), &mut ends), Ok(()));
    assert_eq!(ends, [(1, End::Failed(Errno::E2BIG)), (3, End::Received(message(1, b"long")))]);
    assert_eq!(queue.send(message(1, b"long"), &mut ends), Ok(()));
    assert_eq!(queue.receive(&ask(0, 3), &mut ends), Err(Errno::E2BIG));
    assert_eq!(queue.receive(&ask(0, 4), &mut ends), Ok(Some(message(1, b"long"))));
}

#[test]
fn the_limit_counts_bytes_and_messages() {
    let mut queue: Queue<u32, Vec<u8>> = Queue::new(4);
    let mut ends = Ends::new();
    for _ in 0..4 {
        assert_eq!(queue.send(message(1, b""), &mut ends), Ok(()));
    }
    assert_eq!(queue.send(message(1, b""), &mut ends), Err(message(1, b"")));
    queue.wait_to_send(1, message(2, b"four"));
    queue.wait_to_send(2, message(3, b"five!"));
    queue.wait_to_send(3, message(4, b""));
    assert_eq!(queue.receive(&ask(0, 9), &mut ends), Ok(Some(message(1, b""))));
    assert_eq!(ends, [(1, End::Sent)]);
    ends.clear();
    queue.set_max_bytes(10, &mut ends);
    assert_eq!(ends, [(2, End::Sent), (3, End::Sent)]);
}

/// However many lie before it, the message is the one that a look at all of them finds.
#[test]
fn many_messages_of_many_types() {
    let mut queue: Queue<u32, Vec<u8>> = Queue::new(1 << 20);
    let mut list: Vec<(i64, u8)> = Vec::new();
    let mut random = 7u32;
    for step in 0..2000u32 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let kind = i64::from(random >> 16) % 9 + 1;
        if random >> 30 != 0 {
            assert_eq!(queue.send(message(kind, &[step as u8]), &mut Ends::new()), Ok(()));
            list.push((kind, step as u8));
            continue;
        }
        let at = (random >> 20) as usize % 40;
        assert_eq!(queue.peek(at).unwrap().map(|message| (message.kind, message.text[0])), list.get(at).copied());
        let wanted = [Wanted::Any, Wanted::Type(kind), Wanted::NotType(kind), Wanted::UpTo(kind)][step as usize % 4];
        let matching = || list.iter().enumerate().filter(|(_, one)| wanted.matches(one.0));
        let at = match wanted {
            Wanted::UpTo(_) => matching().min_by_key(|(at, one)| (one.0, *at)).map(|(at, _)| at),
            _ => matching().next().map(|(at, _)| at),
        };
        let request = Request { wanted, size: 1, truncate: false };
        let got = queue.receive(&request, &mut Ends::new()).unwrap().map(|message| (message.kind, message.text[0]));
        assert_eq!(got, at.map(|at| list.remove(at)));
    }
    assert_eq!(queue.len(), list.len());
}

/// Every history of five operations on two types and two lengths.
#[test]
fn all_short_histories() {
    const KINDS: u32 = 8;
    for history in 0..KINDS.pow(5) {
        let mut queue: Queue<u32, Vec<u8>> = Queue::new(4);
        let (mut sent, mut got, mut asleep) = (0u32, 0u32, 0u32);
        let mut last_number = [0u8; 3];
        for step in 0..5u32 {
            let mut ends = Ends::new();
            match history / KINDS.pow(step) % KINDS {
                choice @ 0..4 => {
                    let text = alloc::vec![step as u8 + 1; 1 + choice as usize / 2 * 2];
                    match queue.send(Message { kind: 1 + i64::from(choice % 2), text }, &mut ends) {
                        Ok(()) => sent += 1,
                        Err(message) => {
                            queue.wait_to_send(step, message);
                            asleep += 1;
                        }
                    }
                }
                choice @ 4..7 => {
                    let request = ask([1, 2, -2][choice as usize - 4], 3);
                    match queue.receive(&request, &mut ends).unwrap() {
                        Some(message) => {
                            got += 1;
                            check_order(&message, &mut last_number);
                        }
                        None => {
                            queue.wait_to_receive(step, request);
                            asleep += 1;
                        }
                    }
                }
                _ => asleep -= u32::from((0..step).any(|waiter| queue.cancel(&waiter))),
            }
            for (_, end) in ends {
                asleep -= 1;
                match end {
                    End::Sent => sent += 1,
                    End::Received(message) => {
                        got += 1;
                        check_order(&message, &mut last_number);
                    }
                    End::Failed(errno) => panic!("{errno}"),
                }
            }
            // Nobody sleeps who could go on; nothing is lost, counted twice or over the limit.
            assert!(queue.receivers.iter().all(|receiver| queue.find(receiver.request.wanted).is_none()));
            assert!(queue.senders.iter().all(|sender| !queue.has_room(sender.message.text.len())));
            assert_eq!(sent - got, queue.len() as u32);
            assert_eq!(queue.receivers.len() + queue.senders.len(), asleep as usize);
            assert_eq!(queue.bytes(), queue.messages.iter().map(|(_, message)| message.text.len() as u64).sum::<u64>());
            assert!(queue.bytes() <= 4);
        }
        let mut ends = Ends::new();
        assert_eq!(queue.remove(&mut ends).len() as u32, sent - got);
        assert!(ends.len() == asleep as usize && ends.iter().all(|(_, end)| *end == End::Failed(Errno::EIDRM)));
    }
}

/// Messages of one type and one length come out in the order they went in: a longer one may be overtaken while its sender waits.
fn check_order(message: &Message<Vec<u8>>, last: &mut [u8; 3]) {
    if message.text.len() == 1 {
        let last = &mut last[message.kind as usize];
        assert!(message.text[0] > *last);
        *last = message.text[0];
    }
}
