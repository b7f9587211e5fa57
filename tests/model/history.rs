//! What was asked of chat-service and what it answered, and which of these answers cannot be right.
//!
//! Invariant: an answer that was lost allows both what would have been answered and that nothing happened;
//! everything else is held to the table as it truly was.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use crate::table::{Known, RowNumber, Table};

#[derive(Debug, Default)]
pub struct History {
    pub table: Table,
    pub openings: Vec<Opening>,
    pub sendings: Vec<Sending>,
    pub readings: Vec<Reading>,
    /// What was seen to be wrong at once.
    pub wrong: Vec<String>,
}

/// A buyer asked for a room.
#[derive(Clone, Debug)]
pub struct Opening {
    pub buyer: i64,
    pub id: i64,
    /// What chat-service knew of the id just before.
    pub before: Option<Known>,
    pub answered: Instant,
    pub answer: Opened,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    Room {
        room: String,
        seller: i64,
        /// The row that chat-service knew at the id just after.
        after: Option<RowNumber>,
    },
    Gone,
    Unknown,
    Own,
    Lost,
}

#[derive(Clone, Debug)]
pub struct Sending {
    pub room: String,
    pub sender: i64,
    pub client_message_id: String,
    pub began: Instant,
    pub answered: Instant,
    pub answer: Sent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Under this sequence.
    Message(i64),
    Gone,
    Lost,
}

#[derive(Clone, Debug)]
pub struct Reading {
    pub room: String,
    pub began: Instant,
    pub answered: Instant,
    /// The room's messages in order; `None` if it was gone.
    pub messages: Option<Vec<Read>>,
}

/// A message that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub seq: i64,
    /// Sender and client's id; none of a system message.
    pub sent: Option<(i64, String)>,
}

impl Sending {
    pub fn body(&self) -> String {
        body(&self.client_message_id)
    }
}

/// The text that goes with a client's id.
pub fn body(client_message_id: &str) -> String {
    format!("{client_message_id}: 아직 있나요?")
}

/// A room that was answered to somebody.
#[derive(Clone, Debug)]
pub struct KnownRoom {
    pub seller: i64,
    pub buyer: i64,
    /// The rows that it can be about.
    pub rows: BTreeSet<RowNumber>,
}

impl History {
    /// The rooms that were answered.
    pub fn rooms(&self) -> BTreeMap<&str, KnownRoom> {
        let mut rooms: BTreeMap<&str, KnownRoom> = BTreeMap::new();
        for opening in &self.openings {
            if let Opened::Room { room, seller, after } = &opening.answer {
                let met = self.met(opening, *after);
                rooms
                    .entry(room)
                    .and_modify(|known| known.rows = &known.rows & &met)
                    .or_insert(KnownRoom {
                        seller: *seller,
                        buyer: opening.buyer,
                        rows: met,
                    });
            }
        }
        rooms
    }

    fn met(&self, opening: &Opening, after: Option<RowNumber>) -> BTreeSet<RowNumber> {
        let Opening {
            id, before, answered, ..
        } = opening;
        self.table.met(*id, Some(*answered), *before, after)
    }

    /// The rows that a room of that buyer can be about whose opening was not answered.
    pub fn rows_of_lost_openings(&self, buyer: i64) -> BTreeSet<RowNumber> {
        self.openings
            .iter()
            .filter(|opening| opening.buyer == buyer && opening.answer == Opened::Lost)
            .flat_map(|opening| self.table.met(opening.id, None, opening.before, None))
            .collect()
    }

    /// Whether one of these rows had ended by then.
    fn ended(&self, rows: &BTreeSet<RowNumber>, then: Instant) -> bool {
        let mut ended = rows.iter().filter_map(|row| self.table.rows[*row].ended);
        ended.any(|ended| ended <= then)
    }

    /// Answers that cannot be right.
    pub fn wrong_answers(&self) -> Vec<String> {
        let mut wrong = self.wrong.clone();
        wrong.extend(self.openings.iter().filter_map(|opening| {
            let reason = self.wrong_opening(opening)?;
            Some(format!("{reason}: {opening:?}"))
        }));
        let rooms = self.rooms();
        for (room, known) in &rooms {
            if known.rows.is_empty() {
                wrong.push(format!(
                    "room {room} was answered for one row and then for another"
                ));
            }
            self.wrong_in_room(room, known, &mut wrong);
        }
        wrong
    }

    fn wrong_opening(&self, opening: &Opening) -> Option<&'static str> {
        let Opening {
            buyer,
            id,
            before,
            answered,
            ..
        } = opening;
        match &opening.answer {
            Opened::Room { after, .. } if self.met(opening, *after).is_empty() => {
                Some("a room about a row that was not there")
            }
            Opened::Gone if !self.table.left(*id, *answered, *before) => {
                Some("410 for a post that was there")
            }
            Opened::Unknown => {
                let is_known = before.is_some_and(|before| !self.table.moved_in(*id, *answered, before));
                is_known.then_some("404 for a post that was known")
            }
            Opened::Own => {
                let met = self.met(opening, None);
                let own = met.iter().any(|row| self.table.rows[*row].seller == *buyer);
                (!own).then_some("409 for a post of somebody else")
            }
            _ => None,
        }
    }

    fn wrong_in_room(&self, room: &str, known: &KnownRoom, wrong: &mut Vec<String>) {
        let sendings: Vec<&Sending> = self.sendings.iter().filter(|sent| sent.room == room).collect();
        let mut first_gone: Option<Instant> = None;
        let mut gone = |answered: Instant, what: String| {
            first_gone = Some(first_gone.map_or(answered, |first| first.min(answered)));
            if !self.ended(&known.rows, answered) {
                wrong.push(format!("410 for a room whose post was there: {what}"));
            }
        };
        for sent in &sendings {
            if sent.answer == Sent::Gone {
                gone(sent.answered, format!("{sent:?}"));
            }
        }
        let readings = self.readings.iter().filter(|read| read.room == room);
        for read in readings.clone() {
            if read.messages.is_none() {
                gone(read.answered, format!("{read:?}"));
            }
        }
        let mut seqs: BTreeMap<(i64, &str), i64> = BTreeMap::new();
        for sent in &sendings {
            let Sent::Message(seq) = sent.answer else { continue };
            if first_gone.is_some_and(|first| first < sent.began) {
                wrong.push(format!("accepted by a room that had answered 410: {sent:?}"));
            }
            let first = *seqs.entry((sent.sender, &sent.client_message_id)).or_insert(seq);
            if first != seq {
                wrong.push(format!(
                    "a repeated message has another sequence than {first}: {sent:?}"
                ));
            }
        }
        for read in readings {
            let Some(messages) = &read.messages else { continue };
            if !messages
                .iter()
                .map(|message| message.seq)
                .eq((1..).take(messages.len()))
            {
                wrong.push(format!("read with gaps: {read:?}"));
            }
            let before = sendings.iter().filter(|sent| sent.answered < read.began);
            for sent in before {
                let Sent::Message(seq) = sent.answer else { continue };
                let message = Read {
                    seq,
                    sent: Some((sent.sender, sent.client_message_id.clone())),
                };
                if !messages.contains(&message) {
                    wrong.push(format!("{message:?} was sent before and not read: {read:?}"));
                }
            }
        }
    }
}
