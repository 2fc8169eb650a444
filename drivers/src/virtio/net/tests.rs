//! The network driver against a device in memory.

use super::*;
use crate::dma::testing::alloc;
use crate::traits::{PartialChecksum, Segmentation};
use crate::virtio::model::{Model, ModelBus};
use crate::virtio::{EVENT_IDX, VERSION_1};
use std::sync::Arc;

const RX: u16 = 0;
const TX: u16 = 1;
const CONFIG: [u8; 12] = [0x52, 0x54, 0, 1, 2, 3, 1, 0, 1, 0, 0xdc, 0x05];
const PLAIN: u64 = VERSION_1 | MAC | STATUS;
const FULL_FEATURED: u64 =
    PLAIN | EVENT_IDX | MRG_RXBUF | CSUM | GUEST_CSUM | HOST_TSO4 | HOST_TSO6 | GUEST_TSO4 | GUEST_TSO6 | MTU;

fn device(features: u64) -> (Arc<Model>, Net) {
    let model = Model::new(features, &CONFIG);
    let net = Net::new(Box::new(ModelBus(model.clone())), alloc, [2, 0, 0, 0, 0, 9], 4).unwrap();
    (model, net)
}

/// A device with room for `max_pairs` pairs and its control queue behind them, for a machine with `nr_cpus` CPUs.
fn with_pairs(max_pairs: u16, nr_cpus: u16, refuses: bool) -> (Arc<Model>, Net) {
    let mut config = CONFIG;
    config[CONFIG_MAX_PAIRS..][..2].copy_from_slice(&max_pairs.to_le_bytes());
    let model = Model::new(FULL_FEATURED | CTRL_VQ | MQ, &config);
    {
        let mut state = model.0.lock().unwrap();
        (state.control, state.refuses) = (Some(2 * max_pairs.max(1)), refuses);
    }
    let net = Net::new(Box::new(ModelBus(model.clone())), alloc, [0; 6], nr_cpus).unwrap();
    (model, net)
}

#[test]
fn as_many_pairs_as_cpus_and_the_device_have() {
    for (max_pairs, nr_cpus, pairs) in [(4, 2, 2), (2, 4, 2), (4, 4, 4), (16, 64, 8)] {
        let (model, net) = with_pairs(max_pairs, nr_cpus, false);
        assert_eq!(net.pairs.len(), pairs);
        assert_eq!(model.0.lock().unwrap().questions, [vec![4, 0, pairs as u8, 0]]);
    }
    // One is there without a word, and is left when the device says no.
    for (max_pairs, nr_cpus, refuses, questions) in
        [(4, 1, false, 0), (1, 4, false, 0), (0, 4, false, 0), (4, 4, true, 1)]
    {
        let (model, net) = with_pairs(max_pairs, nr_cpus, refuses);
        assert_eq!((net.pairs.len(), model.0.lock().unwrap().questions.len()), (1, questions));
        net.transmit(&[&[3; 60]], TxMeta::default()).unwrap();
        assert_eq!(model.notified(TX), 1);
    }
}

/// A frame of stream `port` over IPv4.
fn of_stream(port: u8) -> Vec<u8> {
    let mut frame = vec![0; 60];
    (frame[12], frame[14], frame[34], frame[35]) = (8, 0x45, 7, port);
    frame
}

#[test]
fn streams_keep_to_their_pair_and_all_pairs_are_used() {
    let (model, net) = with_pairs(4, 4, false);
    let mut used = [0; 4];
    for port in 0..64 {
        for _ in 0..3 {
            net.transmit(&[&of_stream(port)], TxMeta::default()).unwrap();
        }
        let waiting: Vec<u16> = (0..4).map(|pair| model.waiting(transmit_queue(pair))).collect();
        let pair = waiting.iter().position(|count| *count == 3).expect("all three by one queue");
        assert_eq!(waiting.iter().sum::<u16>(), 3);
        used[pair] += 1;
        while let Some((number, _, _)) = model.take(transmit_queue(pair)) {
            model.give(transmit_queue(pair), &[(number, 0)]);
        }
    }
    assert!(used.iter().all(|count| *count > 4), "{used:?}");
}

#[test]
fn all_pairs_are_received_from() {
    let (model, net) = with_pairs(4, 4, false);
    for queue in [0, 2, 4, 6] {
        for number in 0..5 {
            deliver_to(&model, queue, &[queue as u8 * 16 + number; 64], 0);
        }
    }
    // Nobody is left out however long the others are.
    let mut came: Vec<u8> = Vec::new();
    while came.len() < 20 {
        assert!(net.enable_interrupt(), "more are there");
        came.extend(receive(&net, 3).iter().map(|(frame, _)| frame[0]));
    }
    assert!(!net.enable_interrupt());
    for queue in [0, 2, 4, 6] {
        let of_queue: Vec<u8> = came.iter().copied().filter(|byte| byte / 32 == queue / 2).collect();
        assert_eq!(of_queue, (0..5).map(|number| queue * 16 + number).collect::<Vec<u8>>(), "in order");
        assert_eq!(model.waiting(queue.into()), 8);
        // An interrupt of any of them.
        let before = model.interrupts(queue.into());
        deliver_to(&model, queue.into(), &[1; 64], 0);
        assert_eq!(model.interrupts(queue.into()), before + 1);
    }
    assert_eq!(receive(&net, 8).len(), 4);
    net.disable_interrupt();
    deliver_to(&model, 6, &[1; 64], 0);
    assert_eq!(model.interrupts(6), 1);
}

/// The device puts a frame into as many buffers as it takes.
fn deliver(model: &Model, frame: &[u8], flags: u8) {
    deliver_to(model, RX, frame, flags);
}

fn deliver_to(model: &Model, queue: u16, frame: &[u8], flags: u8) {
    let mut rest = frame;
    let mut entries = Vec::new();
    let mut first = None;
    while first.is_none() || !rest.is_empty() {
        let (number, address, len) = model.take(queue).expect("a buffer");
        let skip = if first.is_none() { header::BYTES } else { 0 };
        let count = rest.len().min(len as usize - skip);
        model.write(address + skip as u64, &rest[..count]);
        rest = &rest[count..];
        entries.push((number, (skip + count) as u32));
        first.get_or_insert(address);
    }
    let mut header = [0; header::BYTES];
    header[0] = flags;
    header[10] = entries.len() as u8;
    model.write(first.unwrap(), &header);
    model.give(queue, &entries);
}

fn receive(net: &Net, budget: usize) -> Vec<(Vec<u8>, RxMeta)> {
    let mut frames = Vec::new();
    let count = net.receive(budget, &mut |frame, meta| frames.push((frame, meta)));
    assert!(count >= frames.len());
    frames
}

/// The device sends everything that waits; answers header and frame of each.
fn drain(model: &Model) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut sent = Vec::new();
    while let Some((number, address, len)) = model.take(TX) {
        let mut bytes = model.read(address, len);
        let frame = bytes.split_off(header::BYTES);
        sent.push((bytes, frame));
        model.give(TX, &[(number, 0)]);
    }
    sent
}

#[test]
fn takes_address_mtu_and_link_from_the_device() {
    let (model, net) = device(FULL_FEATURED);
    assert_eq!((net.mac(), net.mtu(), net.link_is_up()), ([0x52, 0x54, 0, 1, 2, 3], 1500, true));
    assert_eq!(net.offloads(), Offloads { tx_checksum: true, rx_checksum: true, tso_v4: true, tso_v6: true });
    let (plain, net) = device(VERSION_1);
    assert_eq!((net.mac(), net.mtu(), net.offloads()), ([2, 0, 0, 0, 0, 9], 1500, Offloads::default()));
    assert!(plain.0.lock().unwrap().started && model.0.lock().unwrap().started);
}

#[test]
fn refuses_devices_that_cannot_be() {
    let make = |features, config: &[u8]| {
        let model = Model::new(features, config);
        let error = Net::new(Box::new(ModelBus(model.clone())), alloc, [0; 6], 4).err();
        assert!(model.0.lock().unwrap().failed);
        error
    };
    assert_eq!(make(MAC, &CONFIG), Some(Error::Legacy));
    assert_eq!(make(VERSION_1 | MTU, &[0; 12]), Some(Error::Malformed));
}

#[test]
fn cable_out_and_in() {
    let (model, net) = device(FULL_FEATURED);
    for up in [false, true] {
        {
            let mut state = model.0.lock().unwrap();
            state.config[CONFIG_STATUS] = u8::from(up);
            state.events.config = true;
        }
        assert_eq!(net.acknowledge(), NetEvents { queue: false, config: true });
        assert_eq!(net.link_is_up(), up);
    }
}

#[test]
fn frames_arrive_whole_and_in_order_for_longer_than_the_index_is() {
    for features in [PLAIN, PLAIN | EVENT_IDX, FULL_FEATURED] {
        let (model, net) = device(features);
        for round in 0..70_000u32 {
            let frame = [&round.to_le_bytes()[..], &[7; 60]].concat();
            deliver(&model, &frame, 0);
            let frames = receive(&net, 4);
            assert_eq!(frames.len(), 1, "round {round}");
            assert_eq!(frames[0].0, frame);
        }
        assert_eq!(model.waiting(RX), 8, "every buffer is back in the ring");
    }
}

#[test]
fn large_frames_come_in_pieces() {
    let (model, net) = device(FULL_FEATURED);
    let frame: Vec<u8> = (0..9000u32).map(|byte| byte as u8).collect();
    for _ in 0..20 {
        deliver(&model, &frame, 2);
        let frames = receive(&net, 1);
        assert_eq!(frames[0].0, frame);
        assert!(frames[0].1.checksum_good);
    }
}

#[test]
fn the_budget_is_kept_and_the_second_look_finds_the_rest() {
    let (model, net) = device(FULL_FEATURED);
    for number in 0..5 {
        deliver(&model, &[number; 64], 0);
    }
    assert_eq!(receive(&net, 3).len(), 3);
    assert!(net.enable_interrupt(), "two more are there");
    assert_eq!(receive(&net, 3).len(), 2);
    assert!(!net.enable_interrupt());
}

#[test]
fn interrupts_come_when_wanted_only() {
    for features in [PLAIN, FULL_FEATURED] {
        let (model, net) = device(features);
        // Off until asked for, and off again, however many frames come.
        net.disable_interrupt();
        for _ in 0..200 {
            deliver(&model, &[1; 64], 0);
            receive(&net, 8);
            net.disable_interrupt();
        }
        assert_eq!(model.interrupts(RX), 0);
        assert!(!net.enable_interrupt());
        deliver(&model, &[1; 64], 0);
        assert_eq!(model.interrupts(RX), 1);
        assert!(net.acknowledge().queue);
    }
}

#[test]
fn frames_are_sent_with_their_orders() {
    let (model, net) = device(FULL_FEATURED);
    let checksum = Some(PartialChecksum { start: 34, offset: 16 });
    let segmentation = Some(Segmentation { is_ipv6: false, mss_bytes: 1460, header_bytes: 54 });
    let large = vec![5; 60_000];
    net.transmit(&[&[1; 20], &[2; 80]], TxMeta { checksum, segmentation: None }).unwrap();
    net.transmit(&[&[1; 54], &large], TxMeta { checksum, segmentation }).unwrap();
    let sent = drain(&model);
    assert_eq!(sent[0].0, [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0]);
    assert_eq!(sent[0].1, [vec![1; 20], vec![2; 80]].concat());
    assert_eq!(sent[1].0, [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0]);
    assert_eq!(sent[1].1.len(), 60_054);
    assert_eq!(net.stats().tx_frames, 2);
}

#[test]
fn orders_the_device_cannot_follow_are_dropped_and_counted() {
    let (model, net) = device(PLAIN);
    let checksum = Some(PartialChecksum { start: 34, offset: 16 });
    net.transmit(&[&[1; 100]], TxMeta { checksum, segmentation: None }).unwrap();
    net.transmit(&[&[1; 2000]], TxMeta::default()).unwrap();
    let (full, able) = device(FULL_FEATURED);
    let outside = Some(PartialChecksum { start: 99, offset: 16 });
    able.transmit(&[&[1; 100]], TxMeta { checksum: outside, segmentation: None }).unwrap();
    able.transmit(&[&[1; 65_536], &[2; 100]], TxMeta::default()).unwrap();
    assert_eq!((net.stats().tx_errors, able.stats().tx_errors), (2, 2));
    assert!(drain(&model).is_empty() && drain(&full).is_empty());
}

#[test]
fn a_full_ring_says_so_and_wakes_when_there_is_room() {
    for features in [PLAIN, PLAIN | EVENT_IDX] {
        let (model, net) = device(features);
        for round in 0..10_000 {
            let mut count = 0;
            while net.transmit(&[&[3; 60]], TxMeta::default()).is_ok() {
                count += 1;
            }
            assert_eq!(count, 8, "round {round}");
            let before = model.interrupts(TX);
            assert_eq!(drain(&model).len(), 8);
            assert!(model.interrupts(TX) > before, "whoever waits is told");
            assert!(net.acknowledge().queue);
        }
        // Nobody waits: silence.
        let before = model.interrupts(TX);
        net.transmit(&[&[3; 60]], TxMeta::default()).unwrap();
        drain(&model);
        assert_eq!(model.interrupts(TX), before);
    }
}

#[test]
fn the_device_is_notified_of_every_frame_it_waits_for() {
    let (model, net) = device(PLAIN | EVENT_IDX);
    for round in 0..70_000 {
        let before = model.notified(TX);
        net.transmit(&[&[3; 60]], TxMeta::default()).unwrap();
        assert_eq!(model.notified(TX), before + 1, "round {round}");
        drain(&model);
    }
}

#[test]
fn damaged_frames_are_counted_and_their_buffers_used_again() {
    let (model, net) = device(FULL_FEATURED);
    for (written, nr_buffers) in [(0, 1), (12, 1), (5, 1), (100, 0), (100, 9), (u32::MAX, 60_000)] {
        let (number, address, _) = model.take(RX).unwrap();
        let mut header = [0; header::BYTES];
        header[10..12].copy_from_slice(&u16::to_le_bytes(nr_buffers));
        model.write(address, &header);
        model.give(RX, &[(number, written)]);
        assert!(receive(&net, 8).is_empty(), "{written} {nr_buffers}");
    }
    assert_eq!(net.stats().rx_errors, 6);
    assert_eq!(model.waiting(RX), 8);
}

/// A device that writes anything into its rings ends its own queue and nothing else.
#[test]
fn a_hostile_device_is_shut_out() {
    let lies: [fn(&Model); 4] = [
        |model| model.give(RX, &[(77, 100)]),
        |model| model.give(RX, &[(u32::MAX, u32::MAX)]),
        |model| {
            let (number, _, _) = model.take(RX).unwrap();
            model.give(RX, &[(number, 100), (number, 100)]);
        },
        |model| model.lie_about_used(RX, 40_000),
    ];
    for lie in lies {
        let (model, net) = device(FULL_FEATURED);
        lie(&model);
        receive(&net, 1000);
        receive(&net, 1000);
        assert!(!net.enable_interrupt(), "no endless second look");
        model.lie_about_used(TX, 40_000);
        for _ in 0..100 {
            let _ = net.transmit(&[&[3; 60]], TxMeta::default());
        }
    }
}
