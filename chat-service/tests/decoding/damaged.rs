//! Captured records that were damaged.

use proptest::{prelude::*, sample::Index};

use crate::{checks, seeds::captured};

/// A way to damage bytes.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Cut(Index),
    /// A piece of it is put in again elsewhere.
    Splice(Index, Index, Index),
    Insert(Index, Vec<u8>),
    /// A number in place of what was there: the length of a string, the branch of a union, an id.
    Number(Index, i64),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let at = |index: &Index, bytes: &[u8]| index.index(bytes.len() + 1);
        match self {
            Self::Flip(index, bits) => {
                if !bytes.is_empty() {
                    let index = index.index(bytes.len());
                    bytes[index] ^= bits;
                }
            }
            Self::Cut(index) => bytes.truncate(at(index, bytes)),
            Self::Splice(from, to, into) => {
                let (from, to) = (at(from, bytes), at(to, bytes));
                let piece = bytes[from.min(to)..from.max(to)].to_vec();
                let into = at(into, bytes);
                bytes.splice(into..into, piece);
            }
            Self::Insert(index, piece) => {
                let index = at(index, bytes);
                bytes.splice(index..index, piece.iter().copied());
            }
            Self::Number(index, number) => {
                let index = at(index, bytes);
                let end = bytes.len().min(index + 1);
                bytes.splice(index..end, checks::zigzag(*number));
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<Index>;
    prop_oneof![
        (index(), 1u8..).prop_map(|(index, bits)| Damage::Flip(index, bits)),
        index().prop_map(Damage::Cut),
        (index(), index(), index()).prop_map(|(from, to, into)| Damage::Splice(from, to, into)),
        (index(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(index, piece)| Damage::Insert(index, piece)),
        (
            index(),
            prop_oneof![
                any::<i64>(),
                Just(i64::MAX),
                Just(i64::MIN),
                Just(1 << 24),
                -1..100i64
            ]
        )
            .prop_map(|(index, number)| Damage::Number(index, number)),
    ]
}

fn damaged_capture() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop::sample::select(captured());
    (whole, prop::collection::vec(damage(), 1..4)).prop_map(|((_, mut bytes), damages)| {
        for damage in damages {
            damage.apply(&mut bytes);
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_records_pass_every_check(bytes in damaged_capture()) {
        checks::decode(&bytes);
    }

    #[test]
    fn damaged_schemas_pass_every_check(bytes in damaged_capture()) {
        checks::schema(&bytes);
    }

    #[test]
    fn any_bytes_pass_every_check(bytes: Vec<u8>) {
        checks::wire(&bytes);
        checks::decode(&bytes);
        checks::schema(&bytes);
    }
}
