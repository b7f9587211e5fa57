//! What members were told of each room, put together from what is stored for them.

use std::collections::BTreeMap;

use chat_service::notification::Kind;

use crate::{seen::Seen, table::Look};

/// What members were told of a room.
#[derive(Debug, Default)]
pub struct Told {
    pub created: Vec<i64>,
    /// Who was told of the message with that sequence.
    pub messages: BTreeMap<i64, Vec<i64>>,
    /// What the post looked like, as each member was told in this order.
    pub looks: BTreeMap<i64, Vec<Look>>,
    pub closed: Vec<i64>,
}

impl Told {
    /// The statuses that members were told of, without those that were told again with another title.
    pub fn statuses(&self) -> Vec<&str> {
        let looks = self.looks.values().next().map_or(&[][..], Vec::as_slice);
        let mut statuses: Vec<&str> = looks.iter().map(|(_, status)| status.as_str()).collect();
        statuses.dedup();
        statuses
    }

    /// How many system messages the room must have had at least and at most. Whether the first status was a
    /// new one is not told: the change may have been one of the title.
    pub fn events(&self) -> (i64, i64) {
        let statuses = count(self.statuses().len());
        // What lies between the texts is system messages.
        let between = self.messages.keys().last().copied().unwrap_or_default() - self.texts();
        ((statuses - 1).max(between).max(0), statuses)
    }

    pub fn texts(&self) -> i64 {
        count(self.messages.len())
    }

    fn knows(&self, member: i64) -> bool {
        self.created.contains(&member)
            || self.looks.contains_key(&member)
            || self.messages.values().flatten().any(|told| *told == member)
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// By room, with what each member was told in an order that cannot be.
pub fn told(seen: &Seen, wrong: &mut Vec<String>) -> BTreeMap<String, Told> {
    let mut rooms: BTreeMap<String, Told> = BTreeMap::new();
    for (member, notifications) in &seen.notifications {
        for notification in notifications {
            let room = notification.room_id.expect("members here keep no keywords");
            let room = rooms.entry(room.to_hex()).or_default();
            let known = room.knows(*member);
            let closed = room.closed.contains(member);
            let cannot_be = match &notification.kind {
                Kind::RoomCreated => {
                    room.created.push(*member);
                    known || closed
                }
                Kind::Message { message_seq } => {
                    room.messages.entry(*message_seq).or_default().push(*member);
                    closed
                }
                Kind::TradePostChanged { title, status } => {
                    let look = (title.clone(), status.clone());
                    room.looks.entry(*member).or_default().push(look);
                    closed
                }
                Kind::RoomClosed { .. } => {
                    room.closed.push(*member);
                    closed
                }
                // Nobody marks anything as read here, or keeps a keyword.
                Kind::Read { .. } | Kind::TradePostMatched { .. } => true,
            };
            if cannot_be {
                wrong.push(format!(
                    "told what cannot be, or not in this order: {notification:?}"
                ));
            }
        }
    }
    rooms
}
