//! Messages of a room, and which text is accepted.
//!
//! Invariant: a body is stored exactly as it was sent, or refused.

use mongodb::bson::{DateTime, oid::ObjectId};
use serde::{Deserialize, Serialize};

/// Most characters (Unicode scalar values) of a body.
pub const MAX_BODY_CHARS: usize = 2_000;
/// Most characters of a client's message id.
pub const MAX_CLIENT_MESSAGE_ID_CHARS: usize = 64;

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Content {
    Text {
        sender_id: i64,
        body: String,
    },
    /// Something happened to the trade post. Nobody sent it, and nobody has to read it.
    System {
        event: PostEvent,
    },
    /// A text whose sender was erased.
    Erased {
        sender_id: i64,
    },
}

/// What system messages tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    #[error("must have at most {max} characters, has {found}")]
    TooLong { max: usize, found: usize },
    #[error("must not contain the control character U+{0:04X}")]
    ControlCharacter(u32),
}

/// Checks a message body: 1 to [`MAX_BODY_CHARS`] characters, not only white space, no control
/// characters but line breaks and tabs.
pub fn check_body(body: &str) -> Result<(), InvalidText> {
    if body.trim().is_empty() {
        return Err(InvalidText::Empty);
    }
    check(body, MAX_BODY_CHARS, |c| {
        c.is_control() && !matches!(c, '\n' | '\r' | '\t')
    })
}

/// Checks a client's message id: 1 to [`MAX_CLIENT_MESSAGE_ID_CHARS`] characters, no control ones.
pub fn check_client_message_id(id: &str) -> Result<(), InvalidText> {
    if id.is_empty() {
        return Err(InvalidText::Empty);
    }
    check(id, MAX_CLIENT_MESSAGE_ID_CHARS, char::is_control)
}

fn check(text: &str, max: usize, refused: impl Fn(char) -> bool) -> Result<(), InvalidText> {
    let found = text.chars().count();
    if found > max {
        return Err(InvalidText::TooLong { max, found });
    }
    text.chars()
        .find(|c| refused(*c))
        .map_or(Ok(()), |c| Err(InvalidText::ControlCharacter(c.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn korean_and_emoji_count_as_characters() {
        assert_eq!(check_body(&"가".repeat(MAX_BODY_CHARS)), Ok(()));
        assert_eq!(check_body(&"😀".repeat(MAX_BODY_CHARS)), Ok(()));
        assert_eq!(
            check_body(&"가".repeat(MAX_BODY_CHARS + 1)),
            Err(InvalidText::TooLong {
                max: MAX_BODY_CHARS,
                found: MAX_BODY_CHARS + 1
            })
        );
    }

    #[test]
    fn blank_and_control_characters_are_refused() {
        assert_eq!(check_body(" \n\t"), Err(InvalidText::Empty));
        assert_eq!(check_body("a\0b"), Err(InvalidText::ControlCharacter(0)));
        assert_eq!(check_body("첫 줄\n둘째 줄"), Ok(()));
        assert_eq!(
            check_client_message_id("a\n"),
            Err(InvalidText::ControlCharacter(10))
        );
    }
}
