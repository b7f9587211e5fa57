//! Transactions that are repeated while they meet write conflicts, and ended where the server does not know
//! yet that they have.
//!
//! Invariant: a transaction of this process that is not under way any more holds nothing on the server for
//! longer than until the next one begins.

use std::{
    mem::take,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mongodb::{
    Client, ClientSession, Collection,
    bson::{Document, doc},
    error::{Error, ErrorKind, Result, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT},
    results::UpdateResult,
};
use tracing::info;

use super::{Store, is_duplicate_key};

/// After this time of repeats a transaction's conflict is the caller's to deal with. By time and not by
/// number: of many writers to one member's inbox the unlucky lose often, and each loss is short.
const CONFLICTS_BOUND: Duration = Duration::from_secs(10);

/// A transaction that is repeated while it meets write conflicts:
///
/// ```text
/// let mut transaction = store.transaction().await?;
/// let done = loop {
///     transaction.begin().await?;
///     let body = store.body_in(&mut transaction.session).await;
///     if let Some(done) = transaction.end(body).await? {
///         break done;
///     }
/// };
/// ```
///
/// The body must pass on every error of the driver, and be safe to repeat even after it was
/// committed: a lost connection can leave that unknown.
#[derive(Debug)]
pub struct Transaction {
    pub session: ClientSession,
    attempts: u32,
    give_up: Instant,
    /// Whether the server may have it open.
    open: bool,
    left_open: LeftOpen,
}

impl Transaction {
    pub(super) async fn new(client: &Client, left_open: LeftOpen) -> Result<Self> {
        Ok(Self {
            session: client.start_session().await?,
            attempts: 0,
            give_up: Instant::now() + CONFLICTS_BOUND,
            open: false,
            left_open,
        })
    }

    pub async fn begin(&mut self) -> Result<()> {
        self.open = true;
        self.session.start_transaction().await
    }

    /// Commits what the body did, or undoes it. `None` says that the body is to be repeated.
    pub async fn end<R>(&mut self, body: Result<R>) -> Result<Option<R>> {
        let outcome = match body {
            Ok(value) => self.session.commit_transaction().await.map(|()| value),
            Err(error) => Err(error),
        };
        let error = match outcome {
            Ok(value) => {
                self.open = false;
                return Ok(Some(value));
            }
            Err(error) => error,
        };
        // Ends it on the server; an error here says no more than the first one.
        let _ = self.session.abort_transaction().await;
        self.open = is_unanswered(&error);
        if !is_passing(&error) || Instant::now() >= self.give_up {
            return Err(error);
        }
        self.attempts += 1;
        let ceiling = 1 << self.attempts.min(6);
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..ceiling))).await;
        Ok(None)
    }
}

impl Store {
    /// Changes documents together, in a transaction: one that is being written is met as a conflict, and
    /// what was given up while the server did not answer is ended before. Outside of it this would wait,
    /// and some servers keep everybody else from the collection meanwhile, also him who is waited for.
    /// So does whatever changes many documents of a collection of which transactions write several.
    pub(super) async fn change_together<T: Send + Sync>(
        &self,
        collection: &Collection<T>,
        filter: Document,
        update: Document,
    ) -> Result<UpdateResult> {
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let changed = collection
                .update_many(filter.clone(), update.clone())
                .session(&mut transaction.session)
                .await;
            if let Some(changed) = transaction.end(changed).await? {
                return Ok(changed);
            }
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.open {
            self.left_open.sessions().push(self.session.id().clone());
        }
    }
}

/// Sessions whose transaction was given up while the server did not answer. It would keep them open for a
/// minute, and everything they wrote locked.
#[derive(Clone, Debug, Default)]
pub(super) struct LeftOpen(Arc<Mutex<Vec<Document>>>);

impl LeftOpen {
    pub(super) async fn end(&self, client: &Client) -> Result<()> {
        let sessions = take(&mut *self.sessions());
        if sessions.is_empty() {
            return Ok(());
        }
        let kill = doc! { "killSessions": &sessions };
        match client.database("admin").run_command(kill).await {
            Ok(_) => {
                info!("ended {} transactions that were left open", sessions.len());
                Ok(())
            }
            Err(error) => {
                self.sessions().extend(sessions);
                Err(error)
            }
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Vec<Document>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `error` is none of the server's answers, so that nobody knows what it did.
fn is_unanswered(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } | ErrorKind::ServerSelection { .. } => {
            true
        }
        ErrorKind::BulkWrite(error) => error.write_errors.is_empty(),
        _ => false,
    }
}

/// What a transaction had read was changed by another one meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Conflict;

/// Somebody else has made the document that the transaction was about to make: a conflict like any other.
pub(super) fn made_meanwhile(error: Error) -> Error {
    if is_duplicate_key(&error) {
        Error::custom(Conflict)
    } else {
        error
    }
}

/// Whether a transaction that met `error` is to be repeated.
fn is_passing(error: &Error) -> bool {
    const WRITE_CONFLICT: i32 = 112;
    let conflict = match &*error.kind {
        // Some servers report it as the failure of one write, without a label.
        ErrorKind::BulkWrite(error) => error
            .write_errors
            .values()
            .any(|error| error.code == WRITE_CONFLICT),
        _ => error.get_custom::<Conflict>().is_some(),
    };
    conflict
        || error.contains_label(TRANSIENT_TRANSACTION_ERROR)
        || error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT)
}
