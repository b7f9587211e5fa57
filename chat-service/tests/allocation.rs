//! How much memory a length takes that a record claims and does not have. Alone in its process: it counts
//! every allocation.

use std::fs;

use chat_service::cdc::{
    change_event::{Position, Record, decode},
    wire::unframe,
    writer_schema::{parse, reader},
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Far more than a real record needs, and what one field may claim.
const MOST: usize = 17 << 20;
/// Lengths as Avro writes them, from 2^16 bytes: what may be claimed, the double of it, and far more; and a
/// negative one.
const LENGTHS: [&[u8]; 7] = [
    &[0x80, 0x80, 0x08],
    &[0x80, 0x80, 0x80, 0x10],
    &[0x80, 0x80, 0x80, 0x20],
    &[0x80, 0x80, 0x80, 0x80, 0x04],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
];

#[test]
fn a_length_that_a_record_claims_takes_bounded_memory() {
    let fixture = |name: &str| fs::read(format!("../schemas/fixtures/{name}")).unwrap();
    let schema = |name| parse(&String::from_utf8(fixture(name)).unwrap()).unwrap();
    let (key_schema, value_schema) = (schema("schema-1.json"), schema("schema-2.json"));
    let (key_reader, value_reader) = (reader(&key_schema).unwrap(), reader(&value_schema).unwrap());
    let (key, value) = (fixture("c.key"), fixture("c.value"));
    let (key, value) = (unframe(&key).unwrap().body, unframe(&value).unwrap().body);
    let peak_of = |body: &[u8]| {
        let before = ALLOCATED.current_usage();
        ALLOCATED.reset_peak_usage();
        let decoded = decode(Record {
            position: Position {
                partition: 0,
                offset: 0,
            },
            key: Some((&key_reader, key)),
            value: Some((&value_reader, body)),
            moved_to: None,
        });
        (ALLOCATED.peak_usage() - before, decoded)
    };

    let (real, decoded) = peak_of(value);
    decoded.unwrap();
    assert!(real < 4096, "{real} bytes for a real record");
    let mut most = 0;
    for at in 0..value.len() {
        for length in LENGTHS {
            let hostile = [&value[..at], length, &value[at..]].concat();
            let (peak, decoded) = peak_of(&hostile);
            assert!(peak <= MOST, "{peak} bytes for {length:x?} at {at}: {decoded:?}");
            most = most.max(peak);
        }
    }
    // Else no length was taken for one.
    assert!(most > 1 << 20, "{most}");
}
