use super::*;

const SECOND: i64 = 1_000_000_000;
/// 2026-11-21 00:00:00 UTC.
const NOW: i64 = 1_795_219_200 * SECOND;

/// An answer that a server of a public pool gave.
const ANSWER: [u8; 48] = [
    0x24, 0x02, 0x06, 0xe8, 0x00, 0x00, 0x0a, 0x3d, 0x00, 0x00, 0x00, 0x2b, 0xc0, 0x00, 0x02, 0x0a, 0xeb,
    0x8a, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0xeb, 0x8a,
    0x12, 0x00, 0x80, 0x00, 0x00, 0x00, 0xeb, 0x8a, 0x12, 0x00, 0x80, 0x01, 0x00, 0x00,
];

#[test]
fn a_header_reads_and_writes_back() {
    let (packet, rest) = Packet::decode(&ANSWER).unwrap();
    assert!(rest.is_empty());
    assert_eq!((packet.leap, packet.version, packet.mode, packet.stratum), (Leap::None, 4, mode::SERVER, 2));
    assert_eq!((packet.poll, packet.precision, packet.refid), (6, -24, [192, 0, 2, 10]));
    assert_eq!((packet.rootdelay.to_nanos(), packet.rootdisp.to_nanos()), (39_993_286, 656_127));
    assert_eq!(packet.org, Timestamp(0x0102_0304_0506_0708));
    assert_eq!(packet.xmt.since(packet.rec), 15_259);
    assert_eq!(packet.encode(), ANSWER);
    for leap in [Leap::None, Leap::Insert, Leap::Delete, Leap::Unknown] {
        let packet = Packet { leap, version: 3, poll: -6, ..packet };
        assert_eq!(Packet::decode(&packet.encode()), Some((packet, &[][..])));
    }
}

#[test]
fn a_request_tells_nothing() {
    let bytes = Packet::request(Timestamp(0x1122_3344_5566_7788)).encode();
    assert_eq!(bytes[0], 0x23);
    assert_eq!(bytes[1..4], [0, 0, 0x20]);
    assert!(bytes[4..40].iter().all(|byte| *byte == 0));
    assert_eq!(bytes[40..], 0x1122_3344_5566_7788_u64.to_be_bytes());
}

#[test]
fn other_formats_are_refused() {
    assert_eq!(Packet::decode(&ANSWER[..47]), None);
    for version in [0, 5, 6, 7] {
        let mut bytes = ANSWER;
        bytes[0] = 0x04 | version << 3;
        assert_eq!(Packet::decode(&bytes), None);
    }
}

#[test]
fn kisses_have_their_codes() {
    let kiss = |refid: &[u8; 4]| Packet { refid: *refid, ..Packet::default() }.kiss();
    assert_eq!(kiss(b"DENY"), Some(Kiss::Deny));
    assert_eq!(kiss(b"RSTR"), Some(Kiss::Restrict));
    assert_eq!(kiss(b"RATE"), Some(Kiss::Rate));
    assert_eq!(kiss(b"NTSN"), Some(Kiss::NtsNak));
    assert_eq!(kiss(b"INIT"), Some(Kiss::Other));
    assert_eq!((kiss(&[0; 4]), kiss(&[10, 0, 0, 1])), (None, None));
    assert_eq!(Packet { stratum: 1, refid: *b"RATE", ..Packet::default() }.kiss(), None);
}

#[test]
fn times_of_all_eras() {
    assert_eq!(Timestamp::from_nanos(0).0, 2_208_988_800 << 32);
    assert_eq!(Timestamp::from_nanos(SECOND / 2).0, 2_208_988_800 << 32 | 1 << 31);
    // The first second of the next era: 2036-02-07 06:28:16.
    assert_eq!(Timestamp::from_nanos(2_085_978_496 * SECOND).0, 0);
    let year = 31_556_952 * SECOND;
    let times =
        [0, 1, -1, 999_999_999, NOW, NOW + 123_456_789, 2_085_978_496 * SECOND - 1, 2_085_978_496 * SECOND];
    for time in times.into_iter().chain([4_000_000_000 * SECOND + 7, -year]) {
        for pivot in [time, time - 67 * year, time + 67 * year] {
            assert_eq!(Timestamp::from_nanos(time).to_nanos(pivot), time, "{time} near {pivot}");
        }
    }
    // A server of 2040 read by a device of 2026, and the other way round.
    let later = NOW + 14 * year;
    assert_eq!(Timestamp::from_nanos(later).to_nanos(NOW), later);
    assert_eq!(Timestamp::from_nanos(later).since(Timestamp::from_nanos(NOW)), 14 * year);
    assert_eq!(Timestamp::from_nanos(NOW).since(Timestamp::from_nanos(later)), -14 * year);
    for pivot in [i64::MIN, i64::MAX] {
        Timestamp(u64::MAX).to_nanos(pivot);
        Timestamp(0).to_nanos(pivot);
        Timestamp::from_nanos(pivot);
    }
}

#[test]
fn short_times() {
    for (nanos, units) in
        [(0, 0), (1, 1), (1_000_000_000, 1 << 16), (15_258, 1), (15_259, 2), (u64::MAX, u32::MAX)]
    {
        assert_eq!(Short::from_nanos(nanos).0, units, "{nanos}");
    }
    assert_eq!(Short(1 << 16 | 1 << 15).to_nanos(), 1_500_000_000);
}

#[test]
fn extension_fields_and_the_code_behind_them() {
    let mut bytes = Vec::new();
    assert!(put(&mut bytes, 0x0104, &[7; 32], 16));
    assert!(put(&mut bytes, 0x0204, &[9; 5], 28));
    assert!(!put(&mut bytes, 1, &[0; 65_532], 16));
    assert_eq!(bytes.len(), 36 + 28);
    bytes.extend_from_slice(&[1; 20]);
    let mut fields = Extensions::new(&bytes);
    assert_eq!(fields.next(), Some(Extension { kind: 0x0104, value: &[7; 32], start: 0 }));
    let second = fields.next().unwrap();
    assert_eq!((second.kind, second.value.len(), second.start), (0x0204, 24, 36));
    assert_eq!(second.value.get(..6), Some(&[9, 9, 9, 9, 9, 0][..]));
    assert_eq!((fields.next(), fields.rest()), (None, &[1; 20][..]));
    for damaged in [[1, 4, 0, 0], [1, 4, 0, 3], [1, 4, 0, 30], [1, 4, 1, 0]] {
        let bytes = [&damaged[..], &[0; 40]].concat();
        let mut fields = Extensions::new(&bytes);
        assert_eq!((fields.next(), fields.rest().len()), (None, 44), "{damaged:?}");
    }
}

#[test]
fn decoders_never_panic_on_mutated_input() {
    let mut long = ANSWER.to_vec();
    put(&mut long, 0x0104, &[7; 32], 16);
    put(&mut long, 0x0404, &[9; 60], 28);
    crate::journal::mutator::mutate(&[&ANSWER, &long], 100_000, |bytes| {
        if let Some((packet, rest)) = Packet::decode(bytes) {
            assert_eq!(packet.encode(), bytes[..HEADER]);
            packet.kiss();
            packet.xmt.to_nanos(packet.rec.to_nanos(NOW));
            let mut fields = Extensions::new(rest);
            let length: usize = fields.by_ref().map(|field| field.value.len() + 4).sum();
            assert_eq!(length + fields.rest().len(), rest.len());
        }
    });
}
