//! The Confluent wire format: byte 0, a big-endian schema id, then the Avro body.
//!
//! Invariant: nothing behind this module sees a body whose header was not exactly that.
//! Source: <https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format>.

/// Length in bytes of the header: the magic byte and the schema id.
pub const HEADER_LEN: usize = 5;

/// A record's bytes after the header was read off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed<'a> {
    /// Id under which the registry keeps the writer schema.
    pub schema_id: u32,
    /// The Avro datum.
    pub body: &'a [u8],
}

/// Why bytes are not in the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("{len} bytes are too short for the 5-byte wire header")]
    TooShort { len: usize },
    #[error("wire header starts with byte {found}, expected 0")]
    WrongMagic { found: u8 },
}

/// Splits `bytes` into schema id and Avro body.
pub fn unframe(bytes: &[u8]) -> Result<Framed<'_>, WireError> {
    match bytes {
        [0, a, b, c, d, body @ ..] => Ok(Framed {
            schema_id: u32::from_be_bytes([*a, *b, *c, *d]),
            body,
        }),
        [found, ..] if *found != 0 => Err(WireError::WrongMagic { found: *found }),
        _ => Err(WireError::TooShort { len: bytes.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_framed_body_comes_back_whole(schema_id: u32, body: Vec<u8>) {
            let mut bytes = vec![0];
            bytes.extend(schema_id.to_be_bytes());
            bytes.extend(&body);
            prop_assert_eq!(unframe(&bytes), Ok(Framed { schema_id, body: &body }));
        }

        #[test]
        fn any_other_first_byte_is_refused(found in 1u8.., rest: Vec<u8>) {
            let bytes = [vec![found], rest].concat();
            prop_assert_eq!(unframe(&bytes), Err(WireError::WrongMagic { found }));
        }
    }

    #[test]
    fn a_cut_header_is_too_short() {
        for len in 0..HEADER_LEN {
            assert_eq!(unframe(&vec![0; len]), Err(WireError::TooShort { len }));
        }
    }
}
