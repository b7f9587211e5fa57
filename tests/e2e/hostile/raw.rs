//! One record put into a topic byte by byte, because no Kafka client for Rust lets a header's name be
//! anything but text. Brokers do not look.
//!
//! Sources: <https://kafka.apache.org/protocol#The_Messages_Produce>, version 3, and
//! <https://kafka.apache.org/documentation/#messageformat>.

use e2e::topic::Topic;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PRODUCE: i16 = 0;
const VERSION: i16 = 3;
const CORRELATION: i32 = 17;

/// Puts a record with this value and one header into the topic's first partition, whose leader has to be
/// the broker that the topic names.
pub async fn produce(topic: &Topic, value: &[u8], header: (&[u8], &[u8])) {
    let batch = batch(value, header);
    let mut request = Vec::new();
    request.extend(PRODUCE.to_be_bytes());
    request.extend(VERSION.to_be_bytes());
    request.extend(CORRELATION.to_be_bytes());
    request.extend(string("raw"));
    // No transaction; all replicas acknowledge, within ten seconds.
    request.extend((-1i16).to_be_bytes());
    request.extend((-1i16).to_be_bytes());
    request.extend(10_000i32.to_be_bytes());
    request.extend(1i32.to_be_bytes());
    request.extend(string(&topic.name));
    request.extend(1i32.to_be_bytes());
    request.extend(0i32.to_be_bytes());
    request.extend(length(&batch).to_be_bytes());
    request.extend(batch);

    let mut broker = TcpStream::connect(&topic.bootstrap).await.unwrap();
    broker.write_i32(length(&request)).await.unwrap();
    broker.write_all(&request).await.unwrap();
    let mut answer = vec![0; broker.read_i32().await.unwrap().try_into().unwrap()];
    broker.read_exact(&mut answer).await.unwrap();
    // Correlation, one topic, its name, one partition, its number, and then what went wrong.
    let error = 4 + 4 + 2 + topic.name.len() + 4 + 4;
    assert_eq!(answer[..4], CORRELATION.to_be_bytes());
    assert_eq!(answer[error..error + 2], [0, 0], "Kafka's error code");
}

fn batch(value: &[u8], (name, content): (&[u8], &[u8])) -> Vec<u8> {
    // Attributes, times and offsets from the batch's, no key.
    let mut record = vec![0, 0, 0];
    record.extend(varint(-1));
    for (bytes, headers_follow) in [(value, true), (name, false), (content, false)] {
        record.extend(varint(length(bytes).into()));
        record.extend(bytes);
        if headers_follow {
            record.extend(varint(1));
        }
    }
    let mut rest = Vec::new();
    // Attributes, last offset, first and last time, no idempotent producer.
    rest.extend(0i16.to_be_bytes());
    rest.extend(0i32.to_be_bytes());
    rest.extend([1_700_000_000_000i64.to_be_bytes(); 2].concat());
    rest.extend((-1i64).to_be_bytes());
    rest.extend((-1i16).to_be_bytes());
    rest.extend((-1i32).to_be_bytes());
    rest.extend(1i32.to_be_bytes());
    rest.extend(varint(length(&record).into()));
    rest.extend(record);

    let mut batch = Vec::new();
    batch.extend(0i64.to_be_bytes());
    // Behind the length: leader epoch, magic, checksum.
    batch.extend((length(&rest) + 4 + 1 + 4).to_be_bytes());
    batch.extend((-1i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc32c(&rest).to_be_bytes());
    batch.extend(rest);
    batch
}

fn length(bytes: &[u8]) -> i32 {
    bytes.len().try_into().unwrap()
}

fn string(text: &str) -> Vec<u8> {
    let length: i16 = text.len().try_into().unwrap();
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

/// A number as Kafka and Avro write it.
fn varint(number: i64) -> Vec<u8> {
    let mut rest = (number << 1 ^ number >> 63).cast_unsigned();
    let mut bytes = Vec::new();
    while rest > 0x7f {
        bytes.push(0x80 | rest.to_le_bytes()[0]);
        rest >>= 7;
    }
    bytes.push(rest.to_le_bytes()[0]);
    bytes
}

/// Castagnoli's checksum.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            let odd = crc & 1 == 1;
            (crc >> 1) ^ if odd { 0x82f6_3b78 } else { 0 }
        })
    })
}
