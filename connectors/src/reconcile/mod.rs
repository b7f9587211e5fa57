//! Finds and repairs deletes that the capture has missed: no snapshot tells of a row that is not there any more.
//!
//! Debezium is asked, by a signal row, to read the whole table beside the changes that go on. chat-service takes
//! note of what is shown; what lives there and was not shown is not in the table. See
//! `docs/decisions/0007-reconcile.md` for why each step is as it is.
//!
//! Invariant: nothing is closed before [`Reconciling::confirm`]. Whatever ends this before leaves a reconciliation
//! that closes nothing, and that the next one says how to end.

mod chat;
mod database;
mod error;
mod settings;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use chat::Page;
pub use chat::{Candidate, ChatAdmin, KeywordCandidate, PostCandidate, Reconciliation, State};
pub use database::Database;
pub use error::ReconcileError;
pub use settings::Settings;

use crate::{
    ConnectApi, ConnectError, Patience, lsn::Lsn, offsets::Offsets, schemas::Table, status::Standing,
};

/// Between two looks at how it goes.
const PAUSE: Duration = Duration::from_millis(500);
/// How long Kafka Connect's workers may take to agree on who runs what.
const REBALANCE: Duration = Duration::from_secs(30);
/// How long chat-service may be away in between.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long chat-service may take to hear that a post was put back.
const HEARSAY: Duration = Duration::from_secs(10);

/// A reconciliation that was begun, and the servers that it needs.
#[derive(Debug)]
pub struct Reconciling<'a> {
    pub connect: &'a ConnectApi,
    pub chat: &'a ChatAdmin,
    pub database: &'a Database,
    pub connector: &'a str,
    pub table: Table,
    pub id: String,
    /// When it is given up.
    pub deadline: Instant,
}

/// Checks that a reconciliation can work: what is wrong is better known before than by waiting.
///
/// # Errors
/// If the connector is not there, does not run, or is not set up for it.
pub async fn check(
    connect: &ConnectApi,
    database: &Database,
    connector: &str,
) -> Result<Settings, ReconcileError> {
    let patience = Patience::new(REBALANCE);
    let config = patience.ask(connect.url(), || connect.config(connector)).await?;
    let config = config.ok_or_else(|| ConnectError::NotFound {
        connector: connector.to_owned(),
    })?;
    let settings = Settings::of(connector, &config)?;
    let status = connect.status(connector).await?;
    if status.is_none_or(|status| Standing::of(&status) != Standing::Running) {
        return Err(ReconcileError::NotRunning {
            connector: connector.to_owned(),
        });
    }
    database.check(connector, &settings).await?;
    Ok(settings)
}

/// Waits until the connector reads no snapshot that was asked for before, such as one whose reconciliation was
/// cancelled: it would go on with that and say of it that it is the new one.
async fn no_other_snapshot(
    connect: &ConnectApi,
    connector: &str,
    deadline: Instant,
) -> Result<(), ReconcileError> {
    while let Some(id) = connect
        .offsets(connector)
        .await?
        .and_then(|offsets| offsets.snapshot())
    {
        if Instant::now() > deadline {
            return Err(ReconcileError::OtherSnapshot { id });
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Where in the log a reconciliation begins, and when it is given up.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    position: Lsn,
    deadline: Instant,
}

/// Waits for all that is to be over before a reconciliation begins; may be broken off. Answers a position in the log
/// before which nothing is uncommitted.
///
/// # Errors
/// If a server refuses or is away, or the time is over.
pub async fn start(
    connect: &ConnectApi,
    database: &Database,
    connector: &str,
    timeout: Duration,
) -> Result<Start, ReconcileError> {
    let deadline = Instant::now() + timeout;
    no_other_snapshot(connect, connector, deadline).await?;
    let position = database.quiet_position(deadline).await?;
    Ok(Start { position, deadline })
}

impl<'a> Reconciling<'a> {
    /// Begins: chat-service that waits for the snapshot, and the signal that asks for it. Broken off, it may leave one
    /// that waits.
    ///
    /// # Errors
    /// If a server refuses or is away, or another reconciliation has not ended.
    pub async fn begin(
        start: Start,
        connect: &'a ConnectApi,
        chat: &'a ChatAdmin,
        database: &'a Database,
        connector: &'a str,
        settings: &Settings,
        table: Table,
    ) -> Result<Self, ReconcileError> {
        let id = format!("reconcile-{}", uuid::Uuid::now_v7());
        chat.begin(&id, table, start.position).await?;
        let begun = Self {
            connect,
            chat,
            database,
            connector,
            table,
            id,
            deadline: start.deadline,
        };
        if let Err(error) = database.ask_for_snapshot(settings, table, &begun.id).await {
            // Else it would wait for a snapshot that nobody asked for.
            begun.cancel().await?;
            return Err(error);
        }
        Ok(begun)
    }

    /// Waits until what was missed is known. `tell` hears of each look.
    ///
    /// # Errors
    /// If the snapshot fails, or it is not known by the deadline.
    pub async fn ready(
        &self,
        mut tell: impl FnMut(&Reconciliation),
    ) -> Result<Reconciliation, ReconcileError> {
        loop {
            let run = self.look().await?;
            tell(&run);
            match run.state {
                State::Ready => return Ok(run),
                State::Scanned => match self.drain().await {
                    // The next look is patient, and shows whether it was told.
                    Err(error) if error.is_transient() => {}
                    told => told?,
                },
                State::Failed => {
                    return Err(ReconcileError::Failed {
                        id: run.id,
                        reason: run.reason.unwrap_or_default(),
                    });
                }
                State::Cancelled => return Err(ReconcileError::Cancelled { id: run.id }),
                State::Waiting | State::Scanning | State::Draining | State::Closing | State::Done => {}
            }
            if Instant::now() > self.deadline {
                self.cancel().await?;
                return Err(ReconcileError::TimedOut {
                    state: run.state,
                    connector: self.connector.to_owned(),
                });
            }
            sleep(PAUSE).await;
        }
    }

    /// Waits until Kafka has everything that the snapshot has read, and tells chat-service. That the snapshot is
    /// complete comes by another topic, and may be there before its last rows are.
    async fn drain(&self) -> Result<(), ReconcileError> {
        let end = self.database.position().await?;
        loop {
            match self.connect.offsets(self.connector).await {
                Ok(offsets) if offsets.as_ref().and_then(Offsets::acknowledged) >= Some(end) => break,
                Ok(_) => {}
                Err(error) if error.is_transient() && Instant::now() < self.deadline => {}
                Err(error) => return Err(error.into()),
            }
            if Instant::now() > self.deadline {
                self.cancel().await?;
                return Err(ReconcileError::TimedOut {
                    state: State::Scanned,
                    connector: self.connector.to_owned(),
                });
            }
            sleep(PAUSE).await;
        }
        self.chat.drain(&self.id, end).await
    }

    /// Goes through all rows that were not shown, and asks PostgreSQL for each whether it is there. `found` is given
    /// each page that is not. Rows of another table than this is about are none.
    ///
    /// # Errors
    /// If one is there that chat-service goes on to take for one that is not.
    pub async fn second_look<C: Candidate>(&self, mut found: impl FnMut(&[C])) -> Result<(), ReconcileError> {
        let mut cursor: Option<String> = None;
        loop {
            let page = self.gone(cursor.as_deref()).await?;
            found(&page.items);
            let Some(next) = page.next_cursor else {
                return Ok(());
            };
            cursor = Some(next);
        }
    }

    /// A page of rows of which PostgreSQL has none. One that was put back under its old id a moment ago is no
    /// candidate any more as soon as chat-service has heard of it.
    async fn gone<C: Candidate>(&self, cursor: Option<&str>) -> Result<Page<C>, ReconcileError> {
        let begun = Instant::now();
        loop {
            let page: Page<C> = patiently(async || self.chat.candidates(&self.id, cursor).await).await?;
            let ids: Vec<i64> = page.items.iter().map(Candidate::id).collect();
            let there = self.database.existing(C::TABLE, &ids).await?;
            if there.is_empty() {
                return Ok(page);
            }
            if begun.elapsed() > HEARSAY {
                self.cancel().await?;
                return Err(ReconcileError::Exist {
                    table: C::TABLE,
                    ids: there,
                });
            }
            sleep(PAUSE).await;
        }
    }

    /// Has chat-service close what was missed, and waits until it has. From here it goes on whatever becomes of this.
    ///
    /// # Errors
    /// If a server refuses or stays away.
    pub async fn confirm(
        &self,
        mut tell: impl FnMut(&Reconciliation),
    ) -> Result<Reconciliation, ReconcileError> {
        let mut is_heard = false;
        loop {
            let run = self.look().await?;
            tell(&run);
            match run.state {
                State::Done => return Ok(run),
                State::Closing => {}
                // The first time, or an instance was away when it was asked.
                _ if !is_heard => match self.chat.confirm(&self.id).await {
                    Err(error) if error.is_transient() => {}
                    heard => {
                        heard?;
                        is_heard = true;
                        continue;
                    }
                },
                _ => {}
            }
            sleep(PAUSE).await;
        }
    }

    /// Ends it with nothing closed.
    ///
    /// # Errors
    /// If chat-service refuses or is away.
    pub async fn cancel(&self) -> Result<(), ReconcileError> {
        self.chat.cancel(&self.id).await
    }

    /// How it stands.
    async fn look(&self) -> Result<Reconciliation, ReconcileError> {
        patiently(async || self.chat.show(&self.id).await).await
    }
}

/// Asks again: an instance of chat-service may be away for a moment.
async fn patiently<T>(ask: impl AsyncFn() -> Result<T, ReconcileError>) -> Result<T, ReconcileError> {
    let begun = Instant::now();
    loop {
        match ask().await {
            Err(error) if error.is_transient() && begun.elapsed() < PATIENCE => sleep(PAUSE).await,
            answer => return answer,
        }
    }
}
