use super::*;
use minke_wire::journal::Fields;

fn stamp(time: u64) -> Stamp {
    Stamp { realtime: 1_700_000_000_000_000 + time, monotonic: time }
}

fn append(ring: &mut Ring, text: &str) -> u64 {
    ring.append(stamp(ring.next_number()), &[(b"MESSAGE", text.as_bytes()), (b"_SYSTEMD_UNIT", b"a.service")])
}

/// All entries as (number, message), and how many were lost.
fn read(ring: &Ring, place: &mut Place) -> (Vec<(u64, String)>, u64) {
    let (mut entries, mut lost) = (Vec::new(), 0);
    loop {
        match ring.advance(place) {
            Found::Entry(entry) => {
                let message = entry.field("MESSAGE").unwrap().to_vec();
                entries.push((entry.number, String::from_utf8(message).unwrap()));
            }
            Found::Lost(count) => lost += count,
            Found::End => return (entries, lost),
        }
    }
}

#[test]
fn entries_come_back_as_they_were() {
    let mut ring = Ring::new(1 << 20);
    let fields: Vec<(Vec<u8>, Vec<u8>)> = vec![
        (b"MESSAGE".to_vec(), b"hello".to_vec()),
        (b"OWN_NAME".to_vec(), b"value of its own".to_vec()),
        (b"CONTAINER_ID_FULL".to_vec(), vec![b'a'; 64]),
        (b"PRIORITY".to_vec(), b"6".to_vec()),
        (b"EMPTY".to_vec(), Vec::new()),
        (b"BYTES".to_vec(), (0..=255).collect()),
    ];
    let borrowed: Vec<Field<'_>> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let times = [stamp(5), stamp(0), Stamp { realtime: 0, monotonic: u64::MAX }];
    for time in times {
        ring.append(time, &borrowed);
    }
    let mut place = ring.start();
    for (number, time) in (1..).zip(times) {
        let Found::Entry(entry) = ring.advance(&mut place) else { panic!("entry {number}") };
        assert_eq!((entry.number, entry.stamp), (number, time));
        assert_eq!(entry.fields().collect::<Vec<_>>(), borrowed);
    }
    assert!(matches!(ring.advance(&mut place), Found::End));
}

#[test]
fn a_field_that_repeats_costs_a_few_bytes() {
    let mut ring = Ring::new(1 << 20);
    let id = [b'f'; 64];
    let fields: [Field<'_>; 3] = [(b"MESSAGE", b"x"), (b"CONTAINER_ID_FULL", &id), (b"OWN_FIELD", b"abcdef")];
    ring.append(stamp(0), &fields);
    let one = ring.end().offset;
    ring.append(stamp(1), &fields);
    assert!(ring.end().offset - one < 20, "{}", ring.end().offset - one);
}

#[test]
fn memory_stays_below_the_limit_and_the_oldest_go() {
    let limit = 4 * CHUNK;
    let mut ring = Ring::new(limit);
    assert_eq!(ring.used(), 0);
    let mut late = ring.start();
    for number in 0..20_000 {
        append(&mut ring, &format!("message number {number} with some text"));
        assert!(ring.used() <= limit);
    }
    let start = ring.start();
    assert!(start.number > 1);
    let (entries, lost) = read(&ring, &mut late);
    assert_eq!(lost, start.number - 1);
    assert_eq!(entries.len() as u64 + lost, 20_000);
    assert!(entries.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0));
    assert_eq!(entries.last().unwrap().1, "message number 19999 with some text");
}

#[test]
fn an_entry_larger_than_a_chunk_is_kept_and_a_monster_is_cut() {
    let mut ring = Ring::new(0);
    let large = vec![b'x'; ENTRY_LIMIT - 7];
    ring.append(stamp(0), &[(b"MESSAGE", &large)]);
    let monster = vec![b'y'; ENTRY_LIMIT];
    ring.append(stamp(0), &[(b"MESSAGE", &monster), (b"PRIORITY", b"6")]);
    let mut place = ring.start();
    let Found::Entry(entry) = ring.advance(&mut place) else { panic!("no entry") };
    assert_eq!(entry.number, 1);
    assert_eq!(entry.field("MESSAGE"), Some(&large[..]));
    let Found::Entry(entry) = ring.advance(&mut place) else { panic!("no entry") };
    assert_eq!(entry.fields().collect::<Vec<_>>(), [(&b"PRIORITY"[..], &b"6"[..])]);
    let many: Vec<Field<'_>> = vec![(b"A", b"1"); FIELDS_LIMIT + 1];
    ring.append(stamp(0), &many);
    let Found::Entry(entry) = ring.advance(&mut place) else { panic!("no entry") };
    assert_eq!(entry.fields().count(), FIELDS_LIMIT);
    assert!(ring.used() <= 4 * CHUNK);
}

#[test]
fn chunks_are_read_backwards() {
    let mut ring = Ring::new(8 * CHUNK);
    for number in 0..5_000 {
        append(&mut ring, &format!("{number}: {}", "x".repeat(40)));
    }
    let mut numbers = Vec::new();
    let mut place = ring.end();
    while let Some((places, begin)) = ring.chunk_before(place) {
        numbers.extend(places.iter().rev().map(|place| place.number));
        place = begin;
    }
    assert_eq!(numbers, (1..=5_000).rev().collect::<Vec<_>>());
    let near = ring.near(4_000);
    assert!(near.number <= 4_000 && near.number > 1);
    assert_eq!(ring.near(0), ring.start());
}

#[test]
fn a_place_at_the_end_sees_what_comes_later() {
    let mut ring = Ring::new(2 * CHUNK);
    let mut early = ring.end();
    assert!(matches!(ring.advance(&mut early), Found::End));
    append(&mut ring, "one");
    assert_eq!(read(&ring, &mut early), (vec![(1, "one".to_owned())], 0));
    let long = "x".repeat(CHUNK / 2);
    append(&mut ring, &long);
    append(&mut ring, &long);
    assert_eq!(read(&ring, &mut early).0.len(), 2);
}

#[test]
fn damaged_memory_makes_nothing_panic() {
    let mut random = 0x1234_5678_9ABC_DEF1_u64;
    let mut below = move |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % limit as u64) as usize
    };
    let mut ring = Ring::new(1 << 20);
    let datagram = b"MESSAGE=hello world\nPRIORITY=6\nOWN=aaaaaa\nSYSLOG_IDENTIFIER=test\n";
    let fields: Vec<Field<'_>> = Fields::new(datagram).flatten().collect();
    for time in 0..20 {
        ring.append(stamp(time), &fields);
    }
    let good = ring.chunks[0].bytes.clone();
    for _ in 0..20_000 {
        let bytes = &mut ring.chunks[0].bytes;
        bytes.clone_from(&good);
        for _ in 0..4 {
            let at = below(bytes.len());
            bytes[at] = below(256) as u8;
        }
        let mut place = ring.start();
        for _ in 0..100 {
            match ring.advance(&mut place) {
                Found::Entry(entry) => assert!(entry.fields().count() < 100_000),
                _ => break,
            }
        }
    }
}

#[test]
fn numbers_and_differences_come_back() {
    for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
        let mut bytes = Vec::new();
        put_number(&mut bytes, number);
        assert_eq!(take_number(&bytes), Some((number, &[][..])));
        assert_eq!(unzigzag(zigzag(number)), number);
    }
    assert_eq!(take_number(&[0x80; 12]), None);
    assert_eq!(zigzag(u64::MAX), 1);
}
