//! MongoDB's wire protocol, as far as a proxy has to understand it: frames, and the name of a command.
//! Source: <https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/>.

use std::io;

use mongodb::bson::{RawDocument, RawDocumentBuf, rawdoc};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Length in bytes of a message's header: its length, its id, the id it answers, its kind.
pub const HEADER: usize = 16;
/// The only kind that commands have since MongoDB 3.6, but for the first greeting.
const OP_MSG: i32 = 2013;
const OP_QUERY: i32 = 2004;
const OP_REPLY: i32 = 1;
/// Longer ones no server accepts.
const MAX_LENGTH: usize = 48_000_000;
/// Commands that read or write documents. The others greet, look whether the server is there, or wait.
const COUNTED: [&str; 9] = [
    "find",
    "insert",
    "update",
    "delete",
    "findAndModify",
    "bulkWrite",
    "commitTransaction",
    "abortTransaction",
    "createIndexes",
];

/// A whole message.
#[derive(Debug)]
pub struct Frame(Vec<u8>);

impl Frame {
    /// Reads the rest of the message that begins with `header`; `None` if that is no header of MongoDB's.
    ///
    /// # Errors
    /// If the connection ends within the message.
    pub async fn read(header: [u8; HEADER], from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let length = usize::try_from(number(&header, 0)).unwrap_or_default();
        let known = matches!(number(&header, 12), OP_MSG | OP_QUERY | OP_REPLY);
        if !known || !(HEADER..=MAX_LENGTH).contains(&length) {
            return Ok(None);
        }
        let mut bytes = header.to_vec();
        bytes.resize(length, 0);
        from.read_exact(&mut bytes[HEADER..]).await?;
        Ok(Some(Self(bytes)))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn request_id(&self) -> i32 {
        number(&self.0, 4)
    }

    pub fn response_to(&self) -> i32 {
        number(&self.0, 8)
    }

    /// The name of the command in it, if it is one that reads or writes documents.
    pub fn command(&self) -> Option<&'static str> {
        let (name, _) = self.body()?.iter().next()?.ok()?;
        COUNTED.into_iter().find(|counted| *counted == name.as_str())
    }

    /// The transaction that the command is part of.
    pub fn transaction(&self) -> Option<Transaction> {
        let body = self.body()?;
        if body.get_bool("autocommit").ok()? {
            return None;
        }
        Some(Transaction {
            session: body.get_document("lsid").ok()?.to_owned(),
            number: body.get_i64("txnNumber").ok()?,
        })
    }

    fn body(&self) -> Option<&RawDocument> {
        if number(&self.0, 12) != OP_MSG {
            return None;
        }
        // Flags, then sections; the command's own one is of kind 0 and comes first with all drivers.
        let (kind, body) = self.0.get(HEADER + 4..)?.split_first()?;
        if *kind != 0 {
            return None;
        }
        let length = usize::try_from(number(body.get(..4)?, 0)).ok()?;
        RawDocument::from_bytes(body.get(..length)?).ok()
    }
}

/// A transaction, as the server knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    pub session: RawDocumentBuf,
    pub number: i64,
}

impl Transaction {
    /// The message that aborts it.
    pub fn abort(&self) -> Vec<u8> {
        let body = rawdoc! {
            "abortTransaction": 1,
            "lsid": self.session.clone(),
            "txnNumber": self.number,
            "autocommit": false,
            "$db": "admin",
        };
        message(OP_MSG, body.as_bytes())
    }
}

/// A message without flags, of one section.
fn message(kind: i32, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(HEADER + 5 + body.len()).unwrap_or(i32::MAX);
    let header = [length, 1, 0, kind, 0].into_iter().flat_map(i32::to_le_bytes);
    header.chain([0]).chain(body.iter().copied()).collect()
}

fn number(bytes: &[u8], at: usize) -> i32 {
    let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, i32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Document, doc, serialize_to_vec};

    use super::*;

    fn of(kind: i32, body: &Document) -> Vec<u8> {
        message(kind, &serialize_to_vec(body).expect("a document"))
    }

    async fn frame(bytes: &[u8]) -> Option<Frame> {
        let (header, mut rest) = bytes.split_first_chunk().expect("a header");
        Frame::read(*header, &mut rest).await.expect("a whole message")
    }

    #[tokio::test]
    async fn a_command_is_known_by_its_name_and_passes_unchanged() {
        let body = doc! { "find": "rooms", "filter": { "_id": 1 }, "$db": "chat" };
        let bytes = of(OP_MSG, &body);
        let found = frame(&bytes).await.expect("a frame");
        assert_eq!(found.bytes(), bytes);
        assert_eq!((found.request_id(), found.response_to()), (1, 0));
        assert_eq!((found.command(), found.transaction()), (Some("find"), None));
        for not_counted in [
            of(OP_MSG, &doc! { "hello": 1, "find": "rooms" }),
            of(OP_QUERY, &doc! { "find": "rooms" }),
        ] {
            assert_eq!(frame(&not_counted).await.expect("a frame").command(), None);
        }
    }

    #[tokio::test]
    async fn a_transaction_is_known_by_its_commands_and_can_be_aborted() {
        let session = doc! { "id": 5 };
        let insert = doc! {
            "insert": "rooms", "lsid": session, "txnNumber": 3_i64, "autocommit": false, "$db": "chat",
        };
        let begun = frame(&of(OP_MSG, &insert)).await.expect("a frame");
        let transaction = begun.transaction().expect("a transaction");
        let abort = frame(&transaction.abort()).await.expect("a frame");
        assert_eq!(abort.command(), Some("abortTransaction"));
        assert_eq!(abort.transaction(), Some(transaction));
    }

    #[tokio::test]
    async fn what_is_not_mongodb_is_no_frame() {
        assert!(frame(b"GET /schemas/ids/1 HTTP/1.1\r\n\r\n").await.is_none());
    }
}
