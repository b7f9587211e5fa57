//! What must hold of each room that was opened, when all is over: it is there with everything that was sent
//! into it, or it is gone with everything and both members were told once.

use std::collections::{BTreeMap, BTreeSet};

use chat_service::{
    message::Message,
    notification::Kind,
    room::{Room, RoomState},
};

use crate::{
    history::{History, KnownRoom, Sent},
    seen::Seen,
    table::Row,
};

/// How much was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    pub rooms: i64,
    pub messages: i64,
}

/// What members were told of a room.
#[derive(Debug, Default)]
struct Told {
    created: Vec<i64>,
    /// Who was told of the message with that sequence.
    messages: BTreeMap<i64, Vec<i64>>,
    closed: Vec<i64>,
}

/// Checks all rooms, and answers how much must have been removed.
pub fn check(history: &History, seen: &Seen, wrong: &mut Vec<String>) -> Gone {
    let known = history.rooms();
    let mut told = told(seen, wrong);
    for room in known
        .keys()
        .map(ToString::to_string)
        .chain(seen.rooms.keys().cloned())
    {
        told.entry(room).or_default();
    }
    let mut gone = Gone::default();
    for (id, told) in &told {
        let mut complain = |what: String| wrong.push(format!("room {id}: {what}"));
        let known = known.get(id.as_str());
        if told.created.len() != 1 {
            complain(format!("told as created to {:?}", told.created));
        }
        let messages: BTreeMap<i64, &Message> = seen
            .messages
            .iter()
            .filter(|message| message.room_id.to_hex() == *id)
            .map(|message| (message.seq, message))
            .collect();
        if let Some(room) = seen.rooms.get(id) {
            there(history, room, known, told, &mut complain);
            contents(history, room, &messages, told, &mut complain);
        } else {
            gone.rooms += 1;
            gone.messages += told.messages.keys().last().copied().unwrap_or_default();
            not_there(history, known, told, &mut complain);
            if !messages.is_empty() {
                complain(format!("it is gone and has orphans: {messages:?}"));
            }
        }
        sent(history, id, known, told, &mut complain);
    }
    shown(seen, wrong);
    gone
}

/// By room, with what each member was told in an order that cannot be.
fn told(seen: &Seen, wrong: &mut Vec<String>) -> BTreeMap<String, Told> {
    let mut rooms: BTreeMap<String, Told> = BTreeMap::new();
    for (member, notifications) in &seen.notifications {
        for notification in notifications {
            let room = rooms.entry(notification.room_id.to_hex()).or_default();
            let known =
                room.created.contains(member) || room.messages.values().flatten().any(|told| told == member);
            let out_of_order = match notification.kind {
                Kind::RoomCreated => {
                    room.created.push(*member);
                    known
                }
                Kind::Message { message_seq } => {
                    room.messages.entry(message_seq).or_default().push(*member);
                    room.closed.contains(member)
                }
                Kind::RoomClosed { .. } => {
                    room.closed.push(*member);
                    false
                }
            };
            if out_of_order {
                wrong.push(format!("told in an order that cannot be: {notification:?}"));
            }
        }
    }
    rooms
}

/// A room that is there is open, about a row that lives.
fn there(
    history: &History,
    room: &Room,
    known: Option<&KnownRoom>,
    told: &Told,
    complain: &mut impl FnMut(String),
) {
    let rows: BTreeSet<usize> = match known {
        Some(known) => known.rows.clone(),
        None => history.rows_of_lost_openings(room.buyer_id),
    };
    let rows: Vec<&Row> = rows.iter().map(|row| &history.table.rows[*row]).collect();
    let is_its = |row: &&Row| row.id == Some(room.trade_post_id) && row.seller == room.seller_id;
    if !rows.iter().any(is_its) {
        complain(format!("it is there, about one of {rows:?}: {room:?}"));
    }
    if room.state != RoomState::Open {
        complain(format!("it is closed and not erased: {room:?}"));
    }
    if !told.closed.is_empty() {
        complain(format!("it is there and told as closed to {:?}", told.closed));
    }
}

/// A room that is gone was about a row that has ended, and both members were told once.
fn not_there(history: &History, known: Option<&KnownRoom>, told: &Told, complain: &mut impl FnMut(String)) {
    let mut closed = told.closed.clone();
    closed.sort_unstable();
    let Some(KnownRoom { seller, buyer, rows }) = known else {
        // Its members are known by what they were told alone.
        if closed.len() != 2 || closed[0] == closed[1] {
            complain(format!("it is gone and told as closed to {closed:?}"));
        }
        return;
    };
    let mut members = [*seller, *buyer];
    members.sort_unstable();
    if closed != members {
        complain(format!(
            "it is gone, of {members:?}, and told as closed to {closed:?}"
        ));
    }
    let mut rows = rows.iter().map(|row| &history.table.rows[*row]);
    if rows.clone().all(|row| row.ended.is_none()) {
        complain(format!("it is gone and its post lives: {:?}", rows.next()));
    }
}

/// Its messages are numbered without gaps, and each was sent by somebody and told to the other member.
fn contents(
    history: &History,
    room: &Room,
    messages: &BTreeMap<i64, &Message>,
    told: &Told,
    complain: &mut impl FnMut(String),
) {
    if !messages.keys().copied().eq(1..room.next_seq) {
        complain(format!(
            "it has messages {:?}, and {} is next",
            messages.keys(),
            room.next_seq
        ));
    }
    if !told.messages.keys().eq(messages.keys()) {
        complain(format!(
            "it has messages {:?} and told of {:?}",
            messages.keys(),
            told.messages.keys()
        ));
    }
    let id = room.id.to_hex();
    for message in messages.values() {
        let sent = history.sendings.iter().any(|sent| {
            sent.room == id
                && sent.sender == message.sender_id
                && sent.client_message_id == message.client_message_id
                && sent.body() == message.body
        });
        if !sent {
            complain(format!("nobody has sent {message:?}"));
        }
        if told.messages.get(&message.seq) != Some(&vec![room.other(message.sender_id)]) {
            complain(format!("not told to the other member: {message:?}"));
        }
    }
    for sent in history.sendings.iter().filter(|sent| sent.room == id) {
        let Sent::Message(seq) = sent.answer else { continue };
        let kept = messages.get(&seq);
        let kept = kept.map(|message| (message.sender_id, &message.client_message_id));
        if kept != Some((sent.sender, &sent.client_message_id)) {
            complain(format!("not kept: {sent:?}"));
        }
    }
}

/// What was accepted is there, or was until the room was gone; nothing was taken twice.
fn sent(
    history: &History,
    id: &str,
    known: Option<&KnownRoom>,
    told: &Told,
    complain: &mut impl FnMut(String),
) {
    if !told.messages.keys().copied().eq((1..).take(told.messages.len()))
        || told.messages.values().any(|members| members.len() != 1)
    {
        complain(format!("members were told of messages {:?}", told.messages));
    }
    let mut accepted = BTreeSet::new();
    let mut lost = BTreeSet::new();
    for sent in history.sendings.iter().filter(|sent| sent.room == id) {
        let key = (sent.sender, &sent.client_message_id);
        match sent.answer {
            Sent::Message(seq) => {
                let other = known.map(|room| room.seller + room.buyer - sent.sender);
                if told.messages.get(&seq).and_then(|members| members.first()) != other.as_ref() {
                    complain(format!("not told to the other member: {sent:?}"));
                }
                accepted.insert(key);
            }
            Sent::Lost => {
                lost.insert(key);
            }
            Sent::Gone => {}
        }
    }
    let possible = accepted.union(&lost).count();
    if !(accepted.len()..=possible).contains(&told.messages.len()) {
        complain(format!(
            "{} messages were accepted, {possible} sent, and {} told",
            accepted.len(),
            told.messages.len()
        ));
    }
}

/// Each member is shown the rooms that are there.
fn shown(seen: &Seen, wrong: &mut Vec<String>) {
    for (member, (shown, _)) in &seen.shown {
        let shown: BTreeSet<&str> = shown.iter().map(|room| room.id.as_str()).collect();
        let theirs = seen
            .rooms
            .iter()
            .filter(|(_, room)| room.members.contains(member));
        let theirs: BTreeSet<&str> = theirs.map(|(id, _)| id.as_str()).collect();
        if shown != theirs {
            wrong.push(format!("member {member} is in {theirs:?} and is shown {shown:?}"));
        }
    }
}
