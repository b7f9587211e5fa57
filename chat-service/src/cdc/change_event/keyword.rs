//! What a Debezium record says about a keyword. The same holds as for posts.

use super::{
    Beginning, Event, MalformedRecord, Op, Part, Position, Record, Source, Understood, beginning, key, lsn,
    operation, read, record, times,
};

/// Schema and table that these records are about.
const TABLE: (&str, &str) = ("public", "keywords");

/// What the name of their topic ends with, behind the topic prefix.
pub const KEYWORDS_TOPIC: &str = ".public.keywords";

/// One change of one keyword.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeywordEvent {
    pub keyword_id: i64,
    pub position: Position,
    pub change: KeywordChange,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeywordChange {
    /// The row exists and looks like this: operations `c`, `r` and `u`.
    Upsert { lsn: i64, keyword: Keyword },
    /// The row was deleted, or has another id now, under which it is read as well: operation `d`.
    Delete { lsn: i64 },
    /// A null value. It says that the key is gone and carries no LSN.
    Tombstone,
}

/// The columns of a keyword.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyword {
    pub member_id: i64,
    pub text: String,
}

/// Reads what `record` of the keywords' topic says.
pub fn decode_keyword(record: Record<'_>) -> Result<Understood, MalformedRecord> {
    let Some(value) = record.value else {
        return Ok(Understood {
            event: Some(event(record, KeywordChange::Tombstone)?),
            ..Understood::nothing(Op::Tombstone)
        });
    };
    let Envelope {
        op,
        after,
        source,
        ts_ms,
    } = read(Part::Value, value)?;
    let op = operation(&op, &source)?;
    let times = times(&source, ts_ms)?;
    // A snapshot of keywords says nothing of posts that were deleted.
    let beginning = beginning(op, &source, times)?.filter(|begun| matches!(begun, Beginning::Stream { .. }));
    let event = match op {
        Op::Message => None,
        _ if !source.is_of(TABLE) => return Err(source.other_table()),
        Op::Truncate if record.key.is_some() => return Err(MalformedRecord::UnexpectedKey),
        Op::Truncate | Op::Delete if after.is_some() => {
            return Err(MalformedRecord::UnexpectedRow(op.name()));
        }
        Op::Truncate => Some(Event::KeywordsTruncated { lsn: lsn(&source)? }),
        Op::Create | Op::Read | Op::IncrementalRead | Op::Update => {
            let key = key(record.key)?;
            let row = after.ok_or(MalformedRecord::MissingRow(op.name()))?;
            if row.id != key {
                return Err(MalformedRecord::KeyMismatch { key, row: row.id });
            }
            if row.member_id <= 0 {
                return Err(MalformedRecord::InvalidMember(row.member_id));
            }
            let keyword = Keyword {
                member_id: row.member_id,
                text: row.keyword,
            };
            let lsn = lsn(&source)?;
            Some(event(record, KeywordChange::Upsert { lsn, keyword })?)
        }
        Op::Delete => {
            let lsn = lsn(&source)?;
            Some(event(record, KeywordChange::Delete { lsn })?)
        }
        Op::Tombstone | Op::Heartbeat | Op::Notification => None,
    };
    Ok(Understood {
        op,
        committed_ms: Some(times.committed_ms),
        event,
        notification: None,
        beginning,
    })
}

fn event(record: Record<'_>, change: KeywordChange) -> Result<Event, MalformedRecord> {
    Ok(Event::Keyword(KeywordEvent {
        keyword_id: key(record.key)?,
        position: record.position,
        change,
    }))
}

record! {
    struct Envelope {
        op: String,
        after: Option<Row>,
        source: Source,
        ts_ms: Option<i64>,
    }
}

record! {
    struct Row {
        id: i64,
        member_id: i64,
        keyword: String,
    }
}
