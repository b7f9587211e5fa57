//! Why a reconciliation could not be carried out: one sentence each, and what to do next. In all of these nothing
//! was closed, unless it says so.

use super::State;
use crate::{ConnectError, database::DatabaseError, schemas::Table};

/// `Display` leaves the source to the error chain.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error(transparent)]
    Connect(#[from] ConnectError),

    #[error(transparent)]
    NoDatabase(#[from] DatabaseError),

    #[error("PostgreSQL refused; the role in --database-url has to read the tables and write signals")]
    Database(#[from] sqlx::Error),

    #[error(
        "{url:?} is no address of chat-service's admin listener: {reason}; give one like http://127.0.0.1:8091"
    )]
    ChatUrl { url: String, reason: String },

    #[error(
        "chat-service at {url} cannot be reached; check that it runs and that --chat-admin-url (or CHAT_ADMIN_URL) \
         is the address of its admin listener"
    )]
    NoChat { url: String, source: reqwest::Error },

    #[error(
        "what answers at {url} is not chat-service's admin listener ({found}); check --chat-admin-url (or \
         CHAT_ADMIN_URL): by default its port is 8091"
    )]
    NotChat { url: String, found: String },

    #[error("chat-service refuses {request} (HTTP {status}): {detail}")]
    Refused {
        request: String,
        status: u16,
        detail: String,
    },

    #[error(
        "reconciliation {id} has not ended, and there can be only one; end it with `connectors reconcile --cancel \
         {id}`, or wait for it if it is closing"
    )]
    Unfinished { id: String },

    #[error(
        "connector {connector}: {setting} {problem}; put it right as in connectors/trade-posts.json and run \
         `connectors apply`"
    )]
    Setting {
        connector: String,
        setting: &'static str,
        problem: String,
    },

    #[error(
        "connector {connector} is not RUNNING, so nothing would come of it; see `connectors status {connector}`"
    )]
    NotRunning { connector: String },

    #[error(
        "the table {table} is not in the publication {publication} of this database, so a signal would not be seen; \
         check --database-url, or add the table to the publication"
    )]
    NotPublished { table: String, publication: String },

    #[error(
        "nobody reads the replication slot {slot} on this server, so connector {connector} would not see a signal; \
         check --database-url, and the slot in pg_replication_slots"
    )]
    SlotUnread { connector: String, slot: String },

    #[error(
        "the connector still reads the snapshot that the signal {id} asked for; wait until it has, or give more time \
         with --timeout"
    )]
    OtherSnapshot { id: String },

    #[error(
        "transactions that began before have been writing until now, and their deletes could be missed: {who}; \
         end them, or give more time with --timeout"
    )]
    OpenTransactions { who: String },

    #[error(
        "it was still {} when the time was over, and was cancelled; nothing is closed. See `connectors status \
         {connector}` and chat-service's lag, or give more time with --timeout",
        .state.name()
    )]
    TimedOut { state: State, connector: String },

    #[error(
        "reconciliation {id} failed, nothing is closed: {reason}; look at the worker's log and begin anew"
    )]
    Failed { id: String, reason: String },

    #[error("reconciliation {id} was cancelled, nothing is closed")]
    Cancelled { id: String },

    #[error(
        "{} of the rows that were not shown are in {} ({}), so the snapshot did not show everything; nothing is \
         closed. Look for dead letters of these, and begin anew",
        ids.len(),
        table.name(),
        some(ids)
    )]
    Exist { table: Table, ids: Vec<i64> },
}

impl ReconcileError {
    /// Whether the same question may be answered in a moment.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::NoChat { .. } | Self::Refused { status: 503, .. })
    }
}

/// Some of many.
fn some(posts: &[i64]) -> String {
    let some: Vec<String> = posts.iter().take(10).map(ToString::to_string).collect();
    let more = if posts.len() > 10 { ", …" } else { "" };
    some.join(", ") + more
}
