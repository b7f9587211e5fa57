//! Messages of a room, and which text is accepted.
//!
//! Invariant: a body is stored exactly as it was sent, or refused.

use mongodb::bson::{DateTime, oid::ObjectId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How long a text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Unicode scalar values.
    pub chars: usize,
    /// Bytes of UTF-8.
    pub bytes: usize,
}

/// Of a body: as many Korean characters, or three quarters as many emoji.
pub const BODY: Limit = Limit {
    chars: 2_000,
    bytes: 6_000,
};
/// Of a client's message id.
pub const CLIENT_MESSAGE_ID: Limit = Limit {
    chars: 64,
    bytes: 256,
};

/// A message as it is stored in `messages`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub room_id: ObjectId,
    /// The room's own sequence: from 1, without gaps.
    pub seq: i64,
    #[serde(flatten)]
    pub content: Content,
    /// Of messages that a member sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<String>,
    pub counts: SentCounts,
    pub sent_at: DateTime,
}

/// What a message says, in MongoDB as in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[schema(as = MessageContent, description = "What a message says.")]
pub enum Content {
    Text {
        #[schema(examples(202))]
        sender_id: i64,
        #[schema(examples("아직 팔렸나요?"))]
        body: String,
    },
    /// Something happened to the trade post. Nobody sent it, and nobody has to read it.
    System { event: PostEvent },
    /// A text whose sender was erased.
    Erased { sender_id: i64 },
}

/// What system messages tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PostEvent {
    TradePostOnSale,
    TradePostReserved,
    TradePostSold,
}

/// How many texts of each member a room has up to a message, that one included: from two of them
/// follows what lies between, whatever the distance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentCounts {
    pub seller: i64,
    pub buyer: i64,
}

impl Message {
    /// Who sent it; nobody sends a system message.
    pub fn sender(&self) -> Option<i64> {
        match self.content {
            Content::Text { sender_id, .. } | Content::Erased { sender_id } => Some(sender_id),
            Content::System { .. } => None,
        }
    }
}

/// What is wrong with a text, for the field it came in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    #[error("must not be empty")]
    Empty,
    #[error(
        "must have at most {} characters and {} bytes of UTF-8, has {chars} characters and {bytes} bytes",
        limit.chars,
        limit.bytes
    )]
    TooLong {
        limit: Limit,
        chars: usize,
        bytes: usize,
    },
    #[error("must not contain control characters, has U+{:04X} ({}) as character {place}", u32::from(*character), name(*character))]
    ControlCharacter {
        character: char,
        /// From 1.
        place: usize,
    },
}

/// Checks a message body: not longer than [`BODY`], not only white space, no control characters but
/// line breaks and tabs.
pub fn check_body(body: &str) -> Result<(), InvalidText> {
    if body.trim().is_empty() {
        return Err(InvalidText::Empty);
    }
    check(body, BODY, |c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
}

/// Checks a client's message id: not empty, not longer than [`CLIENT_MESSAGE_ID`], no control characters.
pub fn check_client_message_id(id: &str) -> Result<(), InvalidText> {
    if id.is_empty() {
        return Err(InvalidText::Empty);
    }
    check(id, CLIENT_MESSAGE_ID, char::is_control)
}

fn check(text: &str, limit: Limit, refused: impl Fn(char) -> bool) -> Result<(), InvalidText> {
    let (chars, bytes) = (text.chars().count(), text.len());
    if chars > limit.chars || bytes > limit.bytes {
        return Err(InvalidText::TooLong { limit, chars, bytes });
    }
    let found = text.chars().enumerate().find(|(_, c)| refused(*c));
    found.map_or(Ok(()), |(before, character)| {
        Err(InvalidText::ControlCharacter {
            character,
            place: before + 1,
        })
    })
}

/// What Unicode abbreviates a control character to.
fn name(control: char) -> &'static str {
    const C0: &str = "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI \
                      DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US";
    const C1: &str = "PAD HOP BPH NBH IND NEL SSA ESA HTS HTJ VTS PLD PLU RI SS2 SS3 \
                      DCS PU1 PU2 STS CCH MW SPA EPA SOS SGC SCI CSI ST OSC PM APC";
    let (names, first) = match control {
        '\u{7f}' => return "DEL",
        ..'\u{7f}' => (C0, 0),
        _ => (C1, 0x80),
    };
    let place = usize::try_from(u32::from(control).saturating_sub(first)).unwrap_or(usize::MAX);
    names.split(' ').nth(place).unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_two_limits() {
        let too_long = |chars, bytes| {
            Err(InvalidText::TooLong {
                limit: BODY,
                chars,
                bytes,
            })
        };
        for (text, times, expected) in [
            ("a", 2_000, Ok(())),
            ("a", 2_001, too_long(2_001, 2_001)),
            ("가", 2_000, Ok(())),
            ("가", 2_001, too_long(2_001, 6_003)),
            ("😀", 1_500, Ok(())),
            ("😀", 1_501, too_long(1_501, 6_004)),
            // One family on the screen; a woman, a joiner and so on here.
            ("👩\u{200d}👧", 333, Ok(())),
        ] {
            assert_eq!(check_body(&text.repeat(times)), expected, "{times} {text}");
        }
        assert_eq!(
            check_body(&"가".repeat(2_001)).unwrap_err().to_string(),
            "must have at most 2000 characters and 6000 bytes of UTF-8, has 2001 characters and 6003 bytes"
        );
    }

    #[test]
    fn blank_texts_are_refused() {
        for text in ["", " ", " \n\t", "\u{3000}"] {
            assert_eq!(check_body(text), Err(InvalidText::Empty), "{text:?}");
        }
        assert_eq!(check_client_message_id(""), Err(InvalidText::Empty));
    }

    #[test]
    fn every_control_character_but_line_breaks_and_tabs_is_refused_by_its_name() {
        let controls = (char::MIN..=char::MAX).filter(|c| c.is_control());
        let mut names = Vec::new();
        for control in controls {
            let text = format!("가{control}");
            let problem = check_client_message_id(&text).unwrap_err().to_string();
            if !['\n', '\r', '\t'].contains(&control) {
                assert_eq!(check_body(&text).unwrap_err().to_string(), problem);
            }
            let (code, name) = (u32::from(control), name(control));
            assert_eq!(
                problem,
                format!("must not contain control characters, has U+{code:04X} ({name}) as character 2")
            );
            names.push(name);
        }
        assert_eq!(names.len(), 65);
        assert_eq!(
            (names[0], names[31], names[32], names[64]),
            ("NUL", "US", "DEL", "APC")
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 65, "each has a name of its own");
        assert_eq!(check_body("첫 줄\r\n둘째\t줄"), Ok(()));
    }
}
