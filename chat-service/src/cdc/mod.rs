//! From a captured change to its effect: receive → decode → plan → close → store offsets.
//!
//! Invariant: offsets are stored after the effect is durable, and never past a record that neither
//! took effect nor is kept as a dead letter.

use std::{sync::Arc, time::Duration};

use mongodb::bson::DateTime;
use rdkafka::{Message, message::OwnedMessage};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::{
    change_event::{Part, Position, Record, Understood},
    consumer::Consumer,
    error::{Decision, Failure},
    registry::WriterSchemas,
};
use crate::{
    metrics::ChatMetrics,
    store::{Store, now},
};

pub mod change_event;
pub mod close;
pub mod consumer;
mod dead_letter;
pub mod error;
pub mod plan;
mod record;
pub mod registry;
pub mod wire;

/// Longest wait between two tries of a batch.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// How long a batch may go on after the shutdown began.
const DRAIN: Duration = Duration::from_secs(5);

/// What a batch goes through.
#[derive(Debug)]
pub struct Pipeline {
    pub store: Store,
    pub schemas: WriterSchemas,
    pub erase_after: Duration,
    pub metrics: ChatMetrics,
    /// Wakes the eraser.
    pub closed: Arc<Notify>,
}

/// Consumes until `shutdown`, then finishes the batch at hand and commits.
///
/// # Errors
/// On what only an operator can mend.
pub async fn run(
    mut consumer: Consumer,
    pipeline: Arc<Pipeline>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    loop {
        let received = tokio::select! {
            received = consumer.receive() => received.map_err(Failure::from),
            () = shutdown.cancelled() => break,
        };
        let batch = match received {
            Ok(batch) => batch,
            Err(failure) if failure.decide(Duration::ZERO) == Decision::Exit => return Err(failure),
            // The client goes on by itself; a topic that is not there yet comes with its first record.
            Err(failure) => {
                warn!(error = %chain(&failure), "no records from Kafka for now");
                continue;
            }
        };
        let deadline = async {
            shutdown.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            done = consumer.while_polling(pipeline.process(&batch)) => done?,
            () = deadline => {
                warn!("the batch at hand was not done in time; its records come again");
                break;
            }
        }
        consumer.done(&batch);
    }
    info!("the consumer stops");
    tokio::task::spawn_blocking(move || consumer.close())
        .await
        .unwrap_or_else(|panic| {
            error!(%panic, "the consumer did not close");
        });
    Ok(())
}

impl Pipeline {
    /// Carries a batch out, however long its dependencies are away.
    async fn process(&self, batch: &[OwnedMessage]) -> Result<(), Failure> {
        let received_at = now();
        let mut backoff = Duration::from_millis(50);
        loop {
            match self.attempt(batch, received_at).await {
                Ok(()) => return Ok(()),
                Err(failure) if self.decide(&failure) == Decision::Retry => {
                    warn!(error = %chain(&failure), records = batch.len(), "batch not done, trying again");
                    self.metrics.batch_retried();
                    tokio::time::sleep(backoff.mul_f64(rand::random_range(0.5..1.0))).await;
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn attempt(&self, batch: &[OwnedMessage], received_at: DateTime) -> Result<(), Failure> {
        let mut understood = Vec::with_capacity(batch.len());
        let mut dead = Vec::new();
        for message in batch {
            match self.read(message).await {
                Ok(record) => understood.push(record),
                Err(failure) if self.decide(&failure) == Decision::DeadLetter => {
                    dead.push(dead_letter::of(message, &failure, received_at));
                }
                Err(failure) => return Err(failure),
            }
        }
        self.store.bury(&dead).await?;
        for letter in &dead {
            error!(
                kafka.topic = letter.topic,
                kafka.partition = letter.partition,
                kafka.offset = letter.offset,
                "record kept as a dead letter: {}",
                letter.reason
            );
        }
        let count = understood.len();
        for step in plan::plan(understood.into_iter().filter_map(|record| record.event)) {
            let rooms = close::carry_out(&self.store, &step, received_at, self.erase_after).await?;
            if rooms > 0 {
                self.metrics.rooms_closed(rooms);
                self.closed.notify_one();
            }
        }
        self.metrics.batch_done(count, dead.len());
        Ok(())
    }

    /// Reads one record, with its writer schemas fetched first if they are new.
    async fn read(&self, message: &OwnedMessage) -> Result<Understood, Failure> {
        let key = self.frame(Part::Key, message.key()).await?;
        let value = self.frame(Part::Value, message.payload()).await?;
        Ok(change_event::decode(Record {
            position: Position {
                partition: message.partition(),
                offset: message.offset(),
            },
            key,
            value,
            moved_to: consumer::header(message, change_event::MOVED_TO),
        })?)
    }

    async fn frame<'a>(
        &self,
        part: Part,
        bytes: Option<&'a [u8]>,
    ) -> Result<Option<change_event::Datum<'a>>, Failure> {
        let Some(bytes) = bytes else { return Ok(None) };
        let framed =
            wire::unframe(bytes).map_err(|source| change_event::MalformedRecord::Wire { part, source })?;
        Ok(Some((self.schemas.load(framed.schema_id).await?, framed.body)))
    }

    fn decide(&self, failure: &Failure) -> Decision {
        failure.decide(match failure {
            Failure::Schema(registry::SchemaError::Unknown { id }) => self.schemas.unknown_for(*id),
            _ => Duration::ZERO,
        })
    }
}

/// An error and its sources, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
