//! What is kept in MongoDB: one file per collection.
//!
//! Invariant: writes are acknowledged by a majority before anything is built on them, and each
//! change of more than one document that must not be seen in part is one transaction.

use std::time::Duration;

use mongodb::{
    Client, Collection, Database,
    bson::{Bson, DateTime, Document, doc},
    error::{Error, ErrorKind, Result, WriteFailure},
    event::{EventHandler, cmap::CmapEvent},
    options::{Acknowledgment, ClientOptions, ReadConcern, WriteConcern},
};
use prometheus_client::metrics::gauge::Gauge;

use serde::{Deserialize, Serialize};
use service_kit::clock;

use crate::{
    keyword::Kept,
    message::Message,
    notification::Notification,
    room::Room,
    store::{
        blocks::Block,
        dead_letters::DeadLetter,
        deletions::Deletion,
        erasures::Erasure,
        gaps::Gap,
        orphans::Orphan,
        posts::TradePost,
        reconciliations::Reconciliation,
        snapshots::Snapshot,
        sweeps::Sweep,
        transaction::{LeftOpen, Transaction},
        turns::Turns,
    },
};

pub mod blocks;
mod changes;
pub mod closing;
pub mod dead_letters;
pub mod deletions;
pub mod erasures;
pub mod gaps;
mod indexes;
pub mod keywords;
pub mod leases;
mod leaving;
pub mod matches;
pub mod messages;
pub mod missed;
pub mod moves;
pub mod notifications;
pub mod orphans;
pub mod posts;
mod projection;
pub mod reads;
pub mod reconciliations;
mod repairs;
pub mod rooms;
mod snapshots;
pub mod sweeps;
mod transaction;
mod turns;
pub mod writer_schemas;

/// The collections. Cloning shares the client and its pool.
#[derive(Clone, Debug)]
pub struct Store {
    pub client: Client,
    pub db: Database,
    pub posts: Collection<TradePost>,
    pub rooms: Collection<Room>,
    pub messages: Collection<Message>,
    pub inboxes: Collection<Document>,
    pub notifications: Collection<Notification>,
    pub deletions: Collection<Deletion>,
    /// The LSN of the newest truncate of the captured table.
    pub truncates: Collection<Document>,
    pub blocks: Collection<Block>,
    /// Members who are erased.
    pub erasures: Collection<Erasure>,
    /// Repairs of deletes that were missed.
    pub reconciliations: Collection<Reconciliation>,
    latest_reconciliation: Collection<Document>,
    pub orphans: Collection<Orphan>,
    pub sweeps: Collection<Sweep>,
    pub gaps: Collection<Gap>,
    snapshots: Collection<Snapshot>,
    pub dead_letters: Collection<DeadLetter>,
    pub keywords: Collection<Kept>,
    pub writer_schemas: Collection<Document>,
    turns: Turns,
    left_open: LeftOpen,
}

impl Store {
    /// [`Store::counted`] by nobody.
    pub async fn new(uri: &str, database: &str) -> Result<Self> {
        Self::counted(uri, database, Gauge::default()).await
    }

    /// Connects lazily: an unreachable server shows at the first operation. `checked_out` says how many
    /// connections of its client are in use.
    ///
    /// # Errors
    /// If `uri` is not a MongoDB connection string.
    pub async fn counted(uri: &str, database: &str, checked_out: Gauge) -> Result<Self> {
        let mut options = ClientOptions::parse(uri).await?;
        options.cmap_event_handler = Some(EventHandler::callback(move |event| match event {
            CmapEvent::ConnectionCheckedOut(_) => drop(checked_out.inc()),
            CmapEvent::ConnectionCheckedIn(_) => drop(checked_out.dec()),
            _ => {}
        }));
        Self::with_options(options, database)
    }

    /// As [`Store::new`], with `options` of the client's where they say nothing against what this relies on.
    ///
    /// # Errors
    /// If the options contradict each other.
    pub fn with_options(mut options: ClientOptions, database: &str) -> Result<Self> {
        options.app_name.get_or_insert_with(|| "chat-service".into());
        options
            .server_selection_timeout
            .get_or_insert(Duration::from_secs(5));
        options.connect_timeout.get_or_insert(Duration::from_secs(5));
        options.write_concern = Some(WriteConcern::builder().w(Acknowledgment::Majority).build());
        options.read_concern = Some(ReadConcern::majority());
        let client = Client::with_options(options)?;
        let db = client.database(database);
        Ok(Self {
            posts: db.collection("trade_posts"),
            rooms: db.collection("rooms"),
            messages: db.collection("messages"),
            inboxes: db.collection("inboxes"),
            notifications: db.collection("notifications"),
            deletions: db.collection("deletions"),
            truncates: db.collection("truncates"),
            blocks: db.collection("blocks"),
            erasures: db.collection("erasures"),
            reconciliations: db.collection("reconciliations"),
            latest_reconciliation: db.collection("latest_reconciliation"),
            orphans: db.collection("orphans"),
            sweeps: db.collection("sweeps"),
            gaps: db.collection("gaps"),
            snapshots: db.collection("snapshots"),
            dead_letters: db.collection("dead_letters"),
            keywords: db.collection("keywords"),
            writer_schemas: db.collection("writer_schemas"),
            turns: Turns::new(),
            left_open: LeftOpen::default(),
            client,
            db,
        })
    }

    /// Whether the server answers.
    pub async fn ping(&self) -> Result<()> {
        self.db.run_command(doc! { "ping": 1 }).await.map(drop)
    }

    /// Ends the client in order. Without it, work that the client does in the background, such as
    /// closing a cursor, may meet a runtime that has gone.
    pub async fn disconnect(&self) {
        let ended = self.client.clone().shutdown().into_future();
        // Not for ever, where the server does not answer.
        let _ = tokio::time::timeout(DISCONNECT_BOUND, ended).await;
    }

    /// A session for a transaction.
    pub async fn transaction(&self) -> Result<Transaction> {
        self.left_open.end(&self.client).await?;
        Transaction::new(&self.client, self.left_open.clone()).await
    }
}

/// The row of a list that a page begins behind, or ends before. Rows are read away from it: before it the
/// nearest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge<K> {
    After(K),
    Before(K),
}

impl<K> Edge<K> {
    /// The same row by another key.
    pub fn map<L>(self, key: impl FnOnce(K) -> L) -> Edge<L> {
        match self {
            Self::After(row) => Edge::After(key(row)),
            Self::Before(row) => Edge::Before(key(row)),
        }
    }
}

/// What `filter` leaves beyond the edge of a list by `_id`, which goes up (`order` 1) or down (-1), and the order away
/// from the edge.
fn beyond<K: Into<Bson>>(mut filter: Document, edge: Option<Edge<K>>, order: i32) -> (Document, i32) {
    let (id, order) = match edge {
        None => return (filter, order),
        Some(Edge::After(id)) => (id, order),
        Some(Edge::Before(id)) => (id, -order),
    };
    let side = if order > 0 { "$gt" } else { "$lt" };
    filter.insert("_id", doc! { side: id });
    (filter, order)
}

/// The part of a sequence that a page shows: the newest first, or the oldest first behind `after`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// Only what has a smaller number.
    pub before: Option<i64>,
    /// Only what has a larger number.
    pub after: Option<i64>,
}

impl Window {
    /// The condition on the number, and the order.
    fn of_seq(self) -> (Document, Document) {
        let mut seq = doc! { "$gt": self.after.unwrap_or(0) };
        if let Some(before) = self.before {
            seq.insert("$lt", before);
        }
        let order = if self.after.is_some() { 1 } else { -1 };
        (seq, doc! { "seq": order })
    }
}

/// The time as MongoDB keeps it.
pub fn now() -> DateTime {
    DateTime::from_millis(clock::now().timestamp_millis())
}

/// How long the client may take to end.
const DISCONNECT_BOUND: Duration = Duration::from_secs(1);

/// The server's code for a key that a unique index has already.
const DUPLICATE_KEY: i32 = 11_000;

/// Whether `error` says that a unique index already has the key.
pub fn is_duplicate_key(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::Write(WriteFailure::WriteError(error)) => error.code == DUPLICATE_KEY,
        ErrorKind::Command(error) => error.code == DUPLICATE_KEY,
        ErrorKind::InsertMany(error) => error
            .write_errors
            .iter()
            .flatten()
            .any(|error| error.code == DUPLICATE_KEY),
        ErrorKind::BulkWrite(error) => error
            .write_errors
            .values()
            .any(|error| error.code == DUPLICATE_KEY),
        _ => false,
    }
}

/// So large a batch of a cursor that this many documents need no second one.
fn whole(documents: usize) -> u32 {
    u32::try_from(documents).unwrap_or(u32::MAX).saturating_add(1)
}
