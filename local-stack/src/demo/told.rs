//! Whether everybody was told exactly what they had to be told. Pure.
//!
//! Invariant: a member of a closed room is told once that it is closed; nobody is told anything else.

use std::collections::BTreeMap;

/// Something that a member was told about a room.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tale<'a> {
    pub(super) member: i64,
    pub(super) room: &'a str,
    /// `room_closed` is all that may be told while nobody writes.
    pub(super) kind: &'a str,
}

const EXPECTED: &str = "room_closed";

/// What is wrong with what was told. `expected` are members and the rooms that were closed for them.
pub(super) fn wrong_tales<'a>(
    expected: impl IntoIterator<Item = (i64, &'a str)>,
    told: impl IntoIterator<Item = Tale<'a>>,
) -> Vec<String> {
    let mut times: BTreeMap<Tale<'a>, (usize, usize)> = BTreeMap::new();
    for (member, room) in expected {
        let kind = EXPECTED;
        times.entry(Tale { member, room, kind }).or_default().0 += 1;
    }
    for tale in told {
        times.entry(tale).or_default().1 += 1;
    }
    let wrong = times.into_iter().filter(|(_, (expected, told))| expected != told);
    wrong
        .map(|(Tale { member, room, kind }, (expected, told))| {
            format!("member {member} was told {kind} of room {room} {told} times instead of {expected}")
        })
        .collect()
}

/// What is wrong with a member's sequences, in the order they were read: each follows the one before.
pub(super) fn wrong_sequence(member: i64, seqs: &[i64]) -> Option<String> {
    let gap = seqs.windows(2).find(|pair| pair[1] != pair[0] + 1)?;
    Some(format!(
        "member {member} read event {} right after event {}",
        gap[1], gap[0]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(member: i64, room: &str) -> Tale<'_> {
        Tale {
            member,
            room,
            kind: "room_closed",
        }
    }

    #[test]
    fn each_member_once_is_right() {
        let told = [closed(2, "a"), closed(1, "b"), closed(1, "a")];
        assert_eq!(
            wrong_tales([(1, "a"), (2, "a"), (1, "b")], told),
            Vec::<String>::new()
        );
    }

    #[test]
    fn missing_repeated_and_strange_tales_are_named() {
        let reset = Tale {
            member: 4,
            room: "",
            kind: "reset",
        };
        let told = [closed(1, "a"), closed(1, "a"), closed(3, "a"), reset];
        assert_eq!(
            wrong_tales([(1, "a"), (2, "a")], told),
            [
                "member 1 was told room_closed of room a 2 times instead of 1",
                "member 2 was told room_closed of room a 0 times instead of 1",
                "member 3 was told room_closed of room a 1 times instead of 0",
                "member 4 was told reset of room  1 times instead of 0",
            ]
        );
    }

    #[test]
    fn a_gap_and_a_repeat_in_a_sequence_are_wrong() {
        assert_eq!(wrong_sequence(1, &[]), None);
        assert_eq!(wrong_sequence(1, &[7, 8, 9]), None);
        assert!(wrong_sequence(1, &[7, 9]).is_some());
        assert!(wrong_sequence(1, &[7, 7]).is_some());
    }
}
