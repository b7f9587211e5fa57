//! From a captured change to its effect: receive → decode → plan → close → store offsets.
//!
//! Invariant: offsets are stored after the effect is durable, and never past a record that neither
//! took effect nor is kept as a dead letter.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use mongodb::bson::DateTime;
use rdkafka::{Message, message::OwnedMessage};
use tokio::{sync::Notify, time::interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::{
    breaker::{Breaker, Outcome},
    change_event::{Change, Event, KeywordChange, Op, Part, Position, Record, Understood},
    consumer::Consumer,
    error::{Decision, Failure},
    hops::Hops,
    registry::{SchemaError, WriterSchemas},
    status::{Effect, Status},
};
use crate::{
    metrics::{ChatMetrics, Stage},
    reconciliation::{self, Ended, Table},
    store::{Store, dead_letters::DeadLetter, now},
};

pub mod breaker;
pub mod change_event;
pub mod close;
pub mod consumer;
mod context;
mod coverage;
pub mod dead_letter;
pub mod error;
mod excerpt;
mod headers;
mod hops;
pub mod keyword_plan;
pub mod notification;
pub mod offsets;
pub mod plan;
mod record;
pub mod registry;
pub mod status;
mod suspect;
pub mod wire;
pub mod writer_schema;

/// Longest wait between two tries of a batch.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// How long a batch may go on after the shutdown began.
const DRAIN: Duration = Duration::from_secs(4);
/// How often partitions that stand still or are nobody's are looked for.
const WATCH: Duration = Duration::from_secs(2);

/// What a batch goes through. The consumer has it, and operators who replay dead letters.
#[derive(Debug)]
pub struct Pipeline {
    pub store: Store,
    pub schemas: WriterSchemas,
    pub erase_after: Duration,
    pub breaker: Mutex<Breaker>,
    pub status: Arc<Status>,
    pub metrics: ChatMetrics,
    /// Wakes the eraser.
    pub closed: Arc<Notify>,
    /// Wakes who matches new posts with keywords.
    pub to_match: Arc<Notify>,
    /// What the connector has begun with, by the ids of gaps: whether each is one is known.
    pub beginnings: Mutex<HashSet<String>>,
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
    let mut watch = interval(WATCH);
    let mut last_complaint = String::new();
    loop {
        let received = tokio::select! {
            received = consumer.receive() => received.map_err(Failure::from),
            _ = watch.tick() => {
                consumer.move_what_stands_still();
                consumer.take_what_nobody_has();
                continue;
            }
            () = shutdown.cancelled() => break,
        };
        let batch = match received {
            Ok(batch) => batch,
            Err(failure) if failure.decide(Duration::ZERO) == Decision::Exit => return Err(failure),
            // The client goes on by itself; a topic that is not there yet comes with its first record.
            Err(failure) => {
                let complaint = chain(&failure);
                if complaint == last_complaint {
                    debug!(error = complaint, "no records from Kafka for now");
                } else if failure.is_missing_topic() {
                    info!("a topic is not there yet; it comes with its first record");
                    last_complaint = complaint;
                } else {
                    warn!(error = complaint, "no records from Kafka for now");
                    last_complaint = complaint;
                }
                continue;
            }
        };
        let hops = consumer.hops(&batch);
        let deadline = async {
            shutdown.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            done = consumer.while_polling(pipeline.process(&batch, &hops)) => done?,
            () = deadline => {
                warn!("the batch at hand was not done in time; its records come again");
                break;
            }
        }
        consumer.done(&batch);
    }
    info!("the consumer stops");
    consumer.close().await;
    Ok(())
}

impl Pipeline {
    /// Carries a batch out, however long its dependencies are away.
    async fn process(&self, batch: &[OwnedMessage], hops: &Hops) -> Result<(), Failure> {
        let received_at = now();
        let mut backoff = Duration::from_millis(50);
        loop {
            match self.attempt(batch, hops, received_at).await {
                Ok(()) => {
                    if self.status.change(|status| status.waiting.take()).is_some() {
                        info!("the batch is done, going on");
                    }
                    return Ok(());
                }
                Err(failure) if self.decide(&failure) == Decision::Retry => {
                    self.wait(&failure, batch.len());
                    tokio::time::sleep(backoff.mul_f64(rand::random_range(0.5..1.0))).await;
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    fn wait(&self, failure: &Failure, records: usize) {
        let cause = failure.cause();
        let detail = chain(failure);
        warn!(error = detail, records, "batch not done, trying again");
        self.metrics.batch_retried();
        if self.status.change(|status| status.wait(cause, detail, now())) {
            self.metrics.paused(cause);
        }
    }

    async fn attempt(
        &self,
        batch: &[OwnedMessage],
        hops: &Hops,
        received_at: DateTime,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        self.suspect_losses(hops, received_at).await?;
        let (mut understood, dead, breaker) = self.read_all(batch, received_at).await?;
        self.bury(&dead).await?;
        self.suspect_beginnings(&understood, received_at).await?;
        self.place_reads(&mut understood).await?;
        self.metrics.stage(Stage::Decode, begun.elapsed());
        let events = understood.iter().filter_map(|record| record.event.clone());
        self.take_in_keywords(events.clone()).await?;
        for step in plan::plan(events) {
            self.carry_out(&step, received_at).await?;
        }
        self.heed(&understood).await?;
        *self.breaker.lock().unwrap_or_else(PoisonError::into_inner) = breaker;
        self.tell(&understood, dead.len());
        Ok(())
    }

    /// Reads every record of a batch, unless they are a flood of dead letters.
    async fn read_all(
        &self,
        batch: &[OwnedMessage],
        received_at: DateTime,
    ) -> Result<(Vec<Understood>, Vec<DeadLetter>, Breaker), Failure> {
        let mut understood = Vec::with_capacity(batch.len());
        let mut dead: Vec<DeadLetter> = Vec::new();
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut unknown_schema = None;
        for message in batch {
            match self.read(message).await {
                Ok(record) => {
                    understood.push(record);
                    outcomes.push(Outcome::Understood);
                }
                Err(failure) if self.decide(&failure) == Decision::DeadLetter => {
                    dead.push(dead_letter::of(message, &failure, received_at));
                    outcomes.push(Outcome::Dead);
                }
                // The time to wait for an id begins when it is first met, so all are met now.
                Err(failure @ Failure::Schema(SchemaError::Unknown { .. })) => {
                    unknown_schema.get_or_insert(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        if let Some(failure) = unknown_schema {
            return Err(failure);
        }
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let breaker = breaker.after(outcomes).map_err(|flood| Failure::Flood {
            flood,
            last: dead
                .last()
                .map_or_else(String::new, |letter| letter.reason.clone()),
        })?;
        Ok((understood, dead, breaker))
    }

    async fn bury(&self, dead: &[DeadLetter]) -> Result<(), Failure> {
        self.store.bury(dead).await?;
        for letter in dead {
            error!(
                kafka.topic = letter.topic,
                kafka.partition = letter.partition,
                kafka.offset = letter.offset,
                "record kept as a dead letter: {}",
                letter.reason
            );
        }
        Ok(())
    }

    async fn carry_out(&self, step: &plan::Step, received_at: DateTime) -> Result<usize, Failure> {
        let begun = Instant::now();
        let closed = close::carry_out(&self.store, step, received_at, self.erase_after).await?;
        self.metrics.stage(Stage::Fence, closed.fenced_in);
        self.metrics
            .stage(Stage::Close, begun.elapsed().saturating_sub(closed.fenced_in));
        if closed.rooms > 0 {
            self.metrics.rooms_closed(closed.rooms);
            self.closed.notify_one();
        }
        if closed.to_match {
            self.to_match.notify_one();
        }
        Ok(closed.rooms)
    }

    async fn take_in_keywords(&self, events: impl Iterator<Item = Event>) -> Result<(), Failure> {
        let plan = keyword_plan::plan(events);
        if !plan.is_empty() {
            let told = self.store.take_in_keywords(&plan, now()).await?;
            self.metrics.matches_told(told);
        }
        Ok(())
    }

    /// Gives the reads of a reconciliation's snapshot the position that they count from: its start.
    async fn place_reads(&self, understood: &mut [Understood]) -> Result<(), Failure> {
        let (mut of_posts, mut of_keywords) = (Vec::new(), Vec::new());
        for record in understood {
            if record.op != Op::IncrementalRead {
                continue;
            }
            match &mut record.event {
                Some(Event::Post(event)) => {
                    if let Change::Upsert { lsn, .. } = &mut event.change {
                        of_posts.push(lsn);
                    }
                }
                Some(Event::Keyword(event)) => {
                    if let KeywordChange::Upsert { lsn, .. } = &mut event.change {
                        of_keywords.push(lsn);
                    }
                }
                _ => {}
            }
        }
        for (table, reads) in [(Table::TradePosts, of_posts), (Table::Keywords, of_keywords)] {
            let Some(newest) = reads.iter().map(|lsn| **lsn).max() else {
                continue;
            };
            let runs = self.store.reconciliations_begun(table, newest).await?;
            for lsn in reads {
                *lsn = reconciliation::position_of_read(*lsn, &runs);
            }
        }
        Ok(())
    }

    /// Takes in what Debezium says of the snapshot that a reconciliation waits for.
    async fn heed(&self, understood: &[Understood]) -> Result<(), Failure> {
        let notifications = understood
            .iter()
            .filter_map(|record| record.notification.as_ref());
        for (id, said) in notification::by_snapshot(notifications) {
            if let Some(reason) = self.store.reconciliation_heard(id, &said, now()).await? {
                self.metrics.reconciliation_ended(Ended::Failed);
                error!(
                    reconciliation.id = id,
                    "the reconciliation failed, nothing is closed: {reason}"
                );
            }
        }
        Ok(())
    }

    /// Tells metrics and operators what took effect.
    fn tell(&self, understood: &[Understood], dead: usize) {
        let at = now();
        self.metrics.batch_done(understood, dead, at);
        self.status.change(|status| {
            for record in understood {
                let Some(committed_at) = record.committed_ms.map(DateTime::from_millis) else {
                    continue;
                };
                match record.event {
                    Some(_) => status.last_effect = Some(Effect { committed_at, at }),
                    None => status.heartbeat = Some(committed_at),
                }
            }
        });
    }

    /// Carries out a record that was a dead letter. Answers how many rooms it closed.
    ///
    /// # Errors
    /// If it still is not understood, or a server is away.
    pub async fn replay(&self, letter: DeadLetter) -> Result<usize, Failure> {
        let message = dead_letter::message(letter);
        let received_at = now();
        let mut understood = [self.read(&message).await?];
        self.place_reads(&mut understood).await?;
        self.heed(&understood).await?;
        let [understood] = understood;
        let mut rooms = 0;
        self.take_in_keywords(understood.event.clone().into_iter())
            .await?;
        for step in plan::plan(understood.event) {
            rooms += self.carry_out(&step, received_at).await?;
        }
        Ok(rooms)
    }

    /// Lets the next dead letters pass where the consumer stands still because of too many.
    pub fn allow(&self, dead_letters: u64) {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        breaker.allow(dead_letters);
    }

    /// Reads one record, with its writer schemas fetched first if they are new.
    async fn read(&self, message: &OwnedMessage) -> Result<Understood, Failure> {
        let value = self.frame(Part::Value, message.payload()).await?;
        if message.topic().ends_with(change_event::HEARTBEATS_TOPIC) {
            return Ok(match value {
                Some(value) => change_event::heartbeat(value)?,
                // Somebody has deleted the row; the connector writes it again.
                None => Understood::nothing(Op::Tombstone),
            });
        }
        if message.topic().starts_with(notification::NOTIFICATION_TOPIC) {
            let value = value.ok_or(change_event::MalformedRecord::MissingValue)?;
            let notification = notification::decode(value)?;
            return Ok(Understood {
                notification,
                ..Understood::nothing(Op::Notification)
            });
        }
        let key = self.frame(Part::Key, message.key()).await?;
        let record = Record {
            position: Position {
                partition: message.partition(),
                offset: message.offset(),
            },
            key,
            value,
            moved_to: headers::value(message, change_event::MOVED_TO),
        };
        if message.topic().ends_with(change_event::KEYWORDS_TOPIC) {
            return Ok(change_event::decode_keyword(record)?);
        }
        let mut understood = change_event::decode(record)?;
        if headers::value(message, change_event::MOVED_FROM).is_some() {
            understood.moved_here();
        }
        Ok(understood)
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

    /// What is done about `failure` now.
    pub fn decide(&self, failure: &Failure) -> Decision {
        failure.decide(match failure {
            Failure::Schema(SchemaError::Unknown { id }) => self.schemas.unknown_for(*id),
            _ => Duration::ZERO,
        })
    }
}

/// An error and its sources, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
