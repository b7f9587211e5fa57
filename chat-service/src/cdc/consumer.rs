//! The Kafka side: batches in, offsets out.
//!
//! Invariant: an offset is stored only by [`Consumer::done`], after the effect of every record up
//! to it. While a batch takes long, its partitions are paused and the consumer is polled on, so
//! that the group does not take the member for dead.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{CommitMode, Consumer as _, StreamConsumer},
    error::{KafkaError, KafkaResult},
    message::OwnedMessage,
    types::RDKafkaErrorCode,
};
use service_kit::health::Dependency;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::{
    context::{Begin, Context, begin_of},
    coverage,
    error::{Decision, Failure},
    headers,
    hops::{Hop, Hops},
    status::Status,
};
use crate::{config::KafkaConfig, metrics::ChatMetrics};

/// Most records of a batch.
pub const MAX_BATCH: usize = 500;
/// Most bytes of keys, values and headers of a batch.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// A batch that takes longer is worked on with its partitions paused.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the end may take.
const CLOSE: Duration = Duration::from_secs(2);
/// How often librdkafka reports lag and the brokers' state.
const STATISTICS_INTERVAL: Duration = Duration::from_secs(2);

/// A consumer of the captured tables' topics, and of what Debezium says beside it.
pub struct Consumer {
    client: ClientConfig,
    topics: Vec<String>,
    inner: Arc<StreamConsumer<Context>>,
    status: Arc<Status>,
    metrics: ChatMetrics,
    /// Came in while a batch was worked on.
    carried: VecDeque<OwnedMessage>,
    /// Came in at a time when nobody could be told.
    failed: Option<KafkaError>,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("carried", &self.carried.len())
            .finish_non_exhaustive()
    }
}

impl Consumer {
    /// Joins the group. Brokers that cannot be reached are tried on in the background.
    ///
    /// # Errors
    /// If librdkafka does not know a property or its value.
    pub fn subscribe(
        config: &KafkaConfig,
        kafka: Dependency,
        status: Arc<Status>,
        metrics: ChatMetrics,
    ) -> KafkaResult<Self> {
        let mut client = ClientConfig::new();
        client
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", config.kafka_offset_reset.name())
            .set("partition.assignment.strategy", assignment_strategy(config))
            // A table's topic comes with its first row, and that waits for nobody.
            .set("topic.metadata.refresh.interval.ms", "1000")
            // Records are small and each is looked at once: a deep queue only costs memory.
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.queue.backoff.ms", "100")
            .set(
                "statistics.interval.ms",
                STATISTICS_INTERVAL.as_millis().to_string(),
            )
            .set_log_level(RDKafkaLogLevel::Warning);
        if let Some(instance) = &config.kafka_group_instance_id {
            client.set("group.instance.id", instance);
        }
        address(&mut client, config);
        let context = Context {
            kafka,
            status: Arc::clone(&status),
            metrics: metrics.clone(),
            left_behind: Arc::default(),
            unchecked: Arc::default(),
            expected: Arc::default(),
            gone_back: Arc::default(),
        };
        let topics = vec![
            config.trade_posts_topic(),
            config.keywords_topic(),
            config.heartbeats_topic(),
            config.notification_topic(),
        ];
        Ok(Self {
            inner: Arc::new(join(&client, &topics, context)?),
            client,
            topics,
            status,
            metrics,
            carried: VecDeque::new(),
            failed: None,
        })
    }

    /// Waits for a record, then takes what else is ready. It never waits to fill a batch.
    pub async fn receive(&mut self) -> Result<Vec<OwnedMessage>, KafkaError> {
        let mut batch: Vec<OwnedMessage> = self.carried.drain(..).collect();
        if batch.is_empty() {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            batch.push(self.next().await?);
        }
        let mut bytes: usize = batch.iter().map(size).sum();
        while batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            match self.next().now_or_never() {
                Some(Ok(message)) => {
                    bytes += size(&message);
                    batch.push(message);
                }
                Some(Err(error)) => {
                    self.tell_later(error);
                    break;
                }
                None => break,
            }
        }
        Ok(batch)
    }

    /// What of `batch`, which was received last, does not lie where it was expected.
    pub(super) fn hops(&self, batch: &[OwnedMessage]) -> Hops {
        let mut expected = self.inner.context().expected();
        let hops = batch
            .iter()
            .filter_map(|message| expected.receive(message.topic(), message.partition(), message.offset()));
        let hops: Vec<Hop> = hops.collect();
        let back = hops.iter().filter(|hop| hop.found < hop.expected);
        let back = back.map(|hop| (hop.topic.clone(), hop.partition));
        self.inner.context().gone_back().extend(back);
        Hops {
            hops,
            consumer: Arc::clone(&self.inner),
        }
    }

    async fn next(&mut self) -> KafkaResult<OwnedMessage> {
        loop {
            let error = match self.inner.recv().await {
                Ok(message) => return Ok(headers::readable(message.detach())),
                Err(error) => error,
            };
            let fenced = error.rdkafka_error_code() == Some(RDKafkaErrorCode::FencedInstanceId);
            if !(fenced && self.inner.context().left_behind.load(Ordering::Relaxed)) {
                return Err(error);
            }
            self.join_again()?;
        }
    }

    /// Begins anew with the group. A client whose session ran out while the group's coordinator was away
    /// sends it commits of before once it is back, and with a name in the group (`group.instance.id`) is
    /// taken for another process that uses its name. That is final for the client, and nobody's fault.
    fn join_again(&mut self) -> KafkaResult<()> {
        warn!("the session with the group ran out; joining again");
        let context = self.inner.context().as_ref().clone();
        let new = join(&self.client, &self.topics, context)?;
        let old = std::mem::replace(&mut self.inner, Arc::new(new));
        // Waits for its threads, and nobody has to wait for that.
        thread::spawn(move || drop(old));
        Ok(())
    }

    /// Keeps an error for the next [`Consumer::receive`]: the client tells some of them only once. Of
    /// several the one that counts is the one that ends the service.
    fn tell_later(&mut self, error: KafkaError) {
        debug!(%error, "the consumer reported an error while it was not asked for records");
        let ends = |error: &KafkaError| Failure::from(error.clone()).decide(Duration::ZERO) == Decision::Exit;
        if !self.failed.as_ref().is_some_and(ends) {
            self.failed = Some(error);
        }
    }

    /// Runs `work`. If it takes long, the partitions are paused and the group is kept.
    pub async fn while_polling<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = sleep(PATIENCE) => {}
        }
        warn!("a batch takes long; its partitions are paused until it is done");
        self.status.change(|status| status.hold(true));
        let mut paused = self.assignment();
        self.pause(&paused);
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                message = self.next() => match message {
                    // From a partition assigned since, or already on its way.
                    Ok(message) => {
                        self.carried.push_back(message);
                        paused = self.assignment();
                        self.pause(&paused);
                    }
                    Err(error) => self.tell_later(error),
                },
            }
        };
        if let Err(error) = self.inner.resume(&paused) {
            warn!(%error, "cannot resume all partitions");
        }
        self.status.change(|status| status.hold(false));
        done
    }

    /// Takes partitions that have records and give none by the hand: they are read from where they
    /// were. A client can lose a wake-up and would be silent for ever.
    pub fn move_what_stands_still(&self) {
        for (topic, partition) in self.status.change(|status| status.standing_still(Instant::now())) {
            let mut one = TopicPartitionList::with_capacity(1);
            one.add_partition(&topic, partition);
            let next = self.inner.position().ok().and_then(|positions| {
                let known = positions.find_partition(&topic, partition)?;
                known.offset().to_raw().filter(|offset| *offset >= 0)
            });
            let moved = self.inner.resume(&one).and_then(|()| match next {
                Some(next) => self
                    .inner
                    .seek(&topic, partition, Offset::Offset(next), Duration::ZERO),
                None => Ok(()),
            });
            warn!(
                kafka.topic = topic,
                kafka.partition = partition,
                kafka.offset = next,
                error = moved.err().map(tracing::field::display),
                "a partition has records and stands still; it is read anew from where it was"
            );
            self.metrics.stood_still(topic, partition);
        }
    }

    /// Leaves the group and joins it again where that gives partitions an owner that have none. A member with a
    /// name that comes back is given what it had when it went, without a rebalance; partitions made in between
    /// are then nobody's, and no lag tells.
    pub fn take_what_nobody_has(&self) {
        let named = self.client.get("group.instance.id").is_some();
        let unchecked = Arc::clone(&self.inner.context().unchecked);
        if !named || !unchecked.swap(false, Ordering::Relaxed) {
            return;
        }
        let (inner, topics) = (Arc::clone(&self.inner), self.topics.clone());
        let group = self.client.get("group.id").unwrap_or_default().to_owned();
        // librdkafka's questions block the thread that asks, and records need not wait for the answer.
        thread::spawn(move || match coverage::ask(&inner, &group, &topics) {
            Ok(Some(partitions)) if partitions.is_empty() => {}
            Ok(Some(partitions)) => {
                warn!(
                    ?partitions,
                    "partitions are nobody's; leaving the group to join it again"
                );
                inner.unsubscribe();
                if let Err(error) = inner.subscribe(&names(&topics)) {
                    warn!(%error, "the group was left and is not joined");
                }
            }
            not_known => {
                debug!(?not_known, "what members of the group have is asked again");
                unchecked.store(true, Ordering::Relaxed);
            }
        });
    }

    fn assignment(&self) -> TopicPartitionList {
        self.inner.assignment().unwrap_or_default()
    }

    fn pause(&self, partitions: &TopicPartitionList) {
        if let Err(error) = self.inner.pause(partitions) {
            warn!(%error, "cannot pause all partitions");
        }
    }

    /// The effect of `batch` is durable: its offsets may be committed.
    pub fn done(&self, batch: &[OwnedMessage]) {
        let mut next: HashMap<(&str, i32), i64> = HashMap::new();
        let of_table = |message: &&OwnedMessage| begin_of(message.topic()) == Begin::Committed;
        for message in batch.iter().filter(of_table) {
            let next = next.entry((message.topic(), message.partition())).or_default();
            *next = (*next).max(message.offset() + 1);
        }
        for ((topic, partition), offset) in next {
            // The partition went to another member, which reads the records again to no effect.
            if let Err(error) = self.store_offset(topic, partition, offset) {
                debug!(kafka.partition = partition, kafka.offset = offset, %error, "offset not stored");
            }
        }
    }

    fn store_offset(&self, topic: &str, partition: i32, offset: i64) -> KafkaResult<()> {
        let mut offsets = TopicPartitionList::with_capacity(1);
        offsets.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        self.inner.store_offsets(&offsets)?;
        let gone_back = self.inner.context().gone_back();
        if gone_back.contains(&(topic.to_owned(), partition)) {
            self.inner.commit(&offsets, CommitMode::Async)?;
        }
        Ok(())
    }

    /// Commits what is stored and leaves the group, if Kafka lets it do so in time.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        // Not one of the runtime's threads: those it waits for at its end, for as long as Kafka is away.
        thread::spawn(move || {
            match self.inner.commit_consumer_state(CommitMode::Sync) {
                Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
                Err(error) => warn!(%error, "the last offsets were not committed; their records come again"),
            }
            drop(self);
            // Nobody may wait for it any more.
            let _ = done.send(());
        });
        if timeout(CLOSE, closed).await.is_err() {
            warn!("Kafka did not take the last offsets in time; their records come again");
        }
    }
}

fn size(message: &OwnedMessage) -> usize {
    let parts = [message.key(), message.payload()];
    parts.into_iter().flatten().map(<[u8]>::len).sum::<usize>() + headers::size(message)
}

/// How the group divides partitions. A cooperative rebalance takes partitions away first and gives them to
/// others once their owner has joined again. An owner with a name that dies in between and comes back is
/// given what it had then, without a rebalance, and what was taken away is nobody's until the next one. So
/// named members divide all at once.
fn assignment_strategy(config: &KafkaConfig) -> &'static str {
    if config.kafka_group_instance_id.is_some() {
        "roundrobin"
    } else {
        "cooperative-sticky"
    }
}

fn join(client: &ClientConfig, topics: &[String], context: Context) -> KafkaResult<StreamConsumer<Context>> {
    let inner: StreamConsumer<Context> = client.create_with_context(context)?;
    inner.subscribe(&names(topics))?;
    Ok(inner)
}

fn names(topics: &[String]) -> Vec<&str> {
    topics.iter().map(String::as_str).collect()
}

/// Where Kafka is, which group this is of, and what the operator says of that.
pub(super) fn address(client: &mut ClientConfig, config: &KafkaConfig) {
    client
        .set("bootstrap.servers", &config.kafka_bootstrap_servers)
        .set("group.id", &config.kafka_group_id)
        .set("client.id", "chat-service")
        .set("session.timeout.ms", "10000");
    for (property, value) in &config.kafka_property {
        client.set(property, value);
    }
}
