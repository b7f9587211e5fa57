//! What must hold of each room that was opened, when all is over: it is there with everything that was sent
//! into it, or it is gone with everything and both members were told once.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use chat_service::{
    message::{Content, Message, SentCounts},
    room::{Room, RoomState},
};

use crate::{
    history::{History, KnownRoom, Sent},
    looks,
    seen::Seen,
    table::Row,
    told::{Told, told},
};

/// How much was removed.
#[derive(Debug)]
pub struct Gone {
    pub rooms: i64,
    /// Of system messages it is not known how many the rooms had.
    pub messages: RangeInclusive<i64>,
}

/// Checks all rooms, and answers how much must have been removed.
pub fn check(history: &History, seen: &Seen, wrong: &mut Vec<String>) -> Gone {
    let known = history.rooms();
    let mut all_told = told(seen, wrong);
    for room in known
        .keys()
        .map(ToString::to_string)
        .chain(seen.rooms.keys().cloned())
    {
        all_told.entry(room).or_default();
    }
    let (mut gone, mut at_least, mut at_most) = (0, 0, 0);
    for (id, told) in &all_told {
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
            looks::newest(seen, room, told, &mut complain);
            looks::events(room, messages.values().copied(), told, &mut complain);
        } else {
            gone += 1;
            let (least, most) = told.events();
            at_least += told.texts() + least;
            at_most += told.texts() + most;
            not_there(history, known, told, &mut complain);
            if !messages.is_empty() {
                complain(format!("it is gone and has orphans: {messages:?}"));
            }
        }
        sent(history, id, known, told, &mut complain);
        let members = known.map(|known| [known.seller, known.buyer]);
        looks::check(history, members, told, &mut complain);
    }
    shown(seen, &all_told, wrong);
    Gone {
        rooms: gone,
        messages: at_least..=at_most,
    }
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
    looks::is_about(&rows, told, complain);
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
    let rows: Vec<&Row> = rows.iter().map(|row| &history.table.rows[*row]).collect();
    looks::is_about(&rows, told, complain);
    if rows.iter().all(|row| row.ended.is_none()) {
        complain(format!("it is gone and its post lives: {:?}", rows.first()));
    }
}

/// Its messages are numbered without gaps, and each text is counted, was sent by somebody and told to the other
/// member.
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
    let last = room.last_message.as_ref().map(|last| (last.seq, &last.content));
    if last != messages.values().last().map(|last| (last.seq, &last.content)) {
        complain(format!("its last message is another one: {room:?}"));
    }
    let mut counts = SentCounts::default();
    let mut texts = Vec::new();
    for message in messages.values() {
        match &message.content {
            Content::Text { sender_id, body } => {
                if *sender_id == room.seller_id {
                    counts.seller += 1;
                } else {
                    counts.buyer += 1;
                }
                texts.push(message.seq);
                text(history, room, message, (*sender_id, body), told, complain);
            }
            Content::System { .. } if message.client_message_id.is_none() => {}
            Content::System { .. } => complain(format!("somebody has sent {message:?}")),
            Content::Erased { .. } => complain(format!("nobody was erased: {message:?}")),
        }
        if message.counts != counts {
            complain(format!("{counts:?} were sent up to {message:?}"));
        }
    }
    if (room.seller.sent, room.buyer.sent) != (counts.seller, counts.buyer) {
        complain(format!("{counts:?} were sent: {room:?}"));
    }
    if !told.messages.keys().eq(&texts) {
        complain(format!(
            "it has texts {texts:?} and told of {:?}",
            told.messages.keys()
        ));
    }
    let id = room.id.to_hex();
    for sent in history.sendings.iter().filter(|sent| sent.room == id) {
        let Sent::Message(seq) = sent.answer else { continue };
        let kept = messages.get(&seq);
        let kept = kept.and_then(|message| message.sender().zip(message.client_message_id.as_deref()));
        if kept != Some((sent.sender, &sent.client_message_id)) {
            complain(format!("not kept: {sent:?}"));
        }
    }
}

/// A text was sent by somebody and told to the other member.
fn text(
    history: &History,
    room: &Room,
    message: &Message,
    (sender, body): (i64, &str),
    told: &Told,
    complain: &mut impl FnMut(String),
) {
    let id = room.id.to_hex();
    let sent = history.sendings.iter().any(|sent| {
        sent.room == id
            && sent.sender == sender
            && Some(&sent.client_message_id) == message.client_message_id.as_ref()
            && sent.body() == body
    });
    if !sent {
        complain(format!("nobody has sent {message:?}"));
    }
    if told.messages.get(&message.seq) != Some(&vec![room.other(sender)]) {
        complain(format!("not told to the other member: {message:?}"));
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
    let (least, most) = told.events();
    if told.messages.keys().next().is_some_and(|first| *first < 1)
        || least > most
        || told.messages.values().any(|members| members.len() != 1)
    {
        complain(format!(
            "members were told of messages {:?} and of changes {:?}",
            told.messages, told.looks
        ));
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

/// Each member is shown the rooms that are there, with as many unread texts as the member was told of.
fn shown(seen: &Seen, told: &BTreeMap<String, Told>, wrong: &mut Vec<String>) {
    for (member, (shown, _)) in &seen.shown {
        let unread = |id: &String| {
            let told = told.get(id).into_iter().flat_map(|told| told.messages.values());
            told.filter(|members| members.contains(member)).count()
        };
        let shown: BTreeMap<&String, i64> = shown.iter().map(|room| (&room.id, room.unread)).collect();
        let theirs = seen
            .rooms
            .iter()
            .filter(|(_, room)| room.members.contains(member));
        let theirs: BTreeMap<&String, i64> = theirs
            .map(|(id, _)| (id, i64::try_from(unread(id)).unwrap_or(i64::MAX)))
            .collect();
        if shown != theirs {
            wrong.push(format!(
                "member {member} is in rooms with unread {theirs:?} and is shown {shown:?}"
            ));
        }
    }
}
