//! A connector's state with what it reads from and writes to: its offset, its slot, the heartbeat it leaves
//! in the database, its topics and their subjects.

mod seen;

use std::time::Duration;

use serde::Serialize;
use sqlx::PgConnection;
use tokio::time::timeout;

pub use self::seen::Seen;
use self::seen::{failed, found, map, seen, unfound};
use crate::{
    Config, ConnectApi, ConnectError,
    database::DatabaseError,
    doctor::{bytes, partitions, time},
    kafka::{self, Kafka},
    lsn::Lsn,
    patience::Patience,
    placeholder::unknown,
    registry::{RegistryApi, RegistryError},
    schemas::Half,
    servers::{Part, Servers},
    slot::{self, Slot},
    status::Status,
};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub status: Status,
    /// None of a connector that is not Debezium's for PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,
}

/// Around a connector that captures a PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Capture {
    pub offset: Seen<Lsn>,
    pub slot: Seen<SlotReport>,
    /// Since the connector wrote its last heartbeat into the database.
    pub heartbeat_age_seconds: Seen<u64>,
    pub topics: Seen<Vec<TopicReport>>,
    pub subjects: Seen<Vec<SubjectReport>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlotReport {
    #[serde(flatten)]
    pub slot: Slot,
    pub retained_bytes: u64,
    pub lag_bytes: u64,
    /// Bytes of the log that were never captured and never will be; `None` if the connector's offset is
    /// not known.
    pub gap_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicReport {
    pub name: String,
    /// `None` if there is no such topic yet.
    pub partitions: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubjectReport {
    pub name: String,
    pub versions: Vec<u32>,
}

/// For one connector: statements have a bound of their own, a network that is silent has none.
const DATABASE_ANSWER: Duration = Duration::from_secs(30);

/// The servers around Kafka Connect. One that does not answer is not asked again for the next connector.
struct Around {
    database: Seen<PgConnection>,
    registry: Seen<RegistryApi>,
    kafka: Seen<Kafka>,
}

/// Adds to each status what is around the connector. Kafka Connect has `wait` for each answer.
///
/// # Errors
/// If Kafka Connect does not answer; what else does not is said in the reports.
pub async fn read(
    api: &ConnectApi,
    servers: &Servers,
    statuses: Vec<Status>,
    wait: Duration,
) -> Result<Vec<Report>, ConnectError> {
    let configs = Patience::new(wait).ask(api.url(), || api.configs()).await?;
    let mut around = Around {
        database: seen(servers.database().await),
        registry: seen(servers.registry()),
        kafka: match servers.kafka() {
            Part::NotAsked(how) => Seen::NotAsked(how.into()),
            Part::Failed(never) => match never {},
            Part::Asked(kafka) => Seen::Found(kafka),
        },
    };
    let mut reports = Vec::new();
    for status in statuses {
        let capture = match configs.get(&status.name) {
            Some(config) if config.contains_key("slot.name") => {
                Some(around.capture(api, &status.name, config, wait).await?)
            }
            _ => None,
        };
        reports.push(Report { status, capture });
    }
    Ok(reports)
}

impl Around {
    async fn capture(
        &mut self,
        api: &ConnectApi,
        name: &str,
        config: &Config,
        wait: Duration,
    ) -> Result<Capture, ConnectError> {
        let slot_name = config.get("slot.name").map(String::as_str).unwrap_or_default();
        let (slot, beat) = self.in_database(slot_name).await;
        // Behind the slot: see `Slot::gap_bytes`.
        let offsets = Patience::new(wait).ask(api.url(), || api.offsets(name)).await?;
        let offset = offsets.and_then(|offsets| offsets.furthest());
        let topics = topics(config);
        Ok(Capture {
            slot: map(slot, |slot| SlotReport {
                retained_bytes: slot.retained_bytes(),
                lag_bytes: slot.lag_bytes(),
                gap_bytes: offset.map(|offset| slot.gap_bytes(offset)),
                slot,
            }),
            offset: offset.map_or(Seen::Absent, Seen::Found),
            heartbeat_age_seconds: map(beat, |age| age.as_secs()),
            topics: self.in_kafka(&topics).await,
            subjects: self.in_registry(&topics).await,
        })
    }

    /// The slot and the age of the last heartbeat.
    async fn in_database(&mut self, slot: &str) -> (Seen<Slot>, Seen<Duration>) {
        let Seen::Found(database) = &mut self.database else {
            return (unfound(&self.database), unfound(&self.database));
        };
        let look = timeout(DATABASE_ANSWER, async {
            let seen_slot = match unknown(slot) {
                Some(why) => Seen::NotAsked(why.into()),
                None => found(slot::read(database, slot).await),
            };
            (seen_slot, found(slot::heartbeat_age(database).await))
        });
        let Ok(seen) = look.await else {
            self.database = failed(&DatabaseError::NoAnswer);
            return (unfound(&self.database), unfound(&self.database));
        };
        seen
    }

    async fn in_kafka(&mut self, topics: &[String]) -> Seen<Vec<TopicReport>> {
        let Seen::Found(kafka) = &self.kafka else {
            return unfound(&self.kafka);
        };
        if let Some(why) = topics.iter().find_map(|topic| unknown(topic)) {
            return Seen::NotAsked(why.into());
        }
        let reports = topic_reports(kafka, topics).await;
        if let Err(error) = &reports
            && kafka::is_away(error)
        {
            self.kafka = failed(error);
        }
        found(reports.map(Some))
    }

    async fn in_registry(&mut self, topics: &[String]) -> Seen<Vec<SubjectReport>> {
        let Seen::Found(registry) = &self.registry else {
            return unfound(&self.registry);
        };
        if let Some(why) = topics.iter().find_map(|topic| unknown(topic)) {
            return Seen::NotAsked(why.into());
        }
        let reports = subject_reports(registry, topics).await;
        if let Err(error @ RegistryError::Unreachable { .. }) = &reports {
            self.registry = failed(error);
        }
        found(reports.map(Some))
    }
}

/// Those of the tables that the configuration names.
fn topics(config: &Config) -> Vec<String> {
    let setting = |key: &str| config.get(key).map(String::as_str).unwrap_or_default();
    let prefix = setting("topic.prefix");
    let tables = setting("table.include.list").split(',').map(str::trim);
    tables
        .filter(|table| !table.is_empty())
        .map(|table| format!("{prefix}.{}", table.replace("[.]", ".").replace("\\.", ".")))
        .collect()
}

async fn topic_reports(
    kafka: &Kafka,
    topics: &[String],
) -> Result<Vec<TopicReport>, rdkafka::error::KafkaError> {
    let mut reports = Vec::new();
    for name in topics {
        reports.push(TopicReport {
            name: name.clone(),
            partitions: kafka.topic(name).await?.map(|topic| topic.partitions),
        });
    }
    Ok(reports)
}

async fn subject_reports(
    registry: &RegistryApi,
    topics: &[String],
) -> Result<Vec<SubjectReport>, RegistryError> {
    let mut reports = Vec::new();
    for topic in topics {
        for half in Half::BOTH {
            let name = half.subject(topic);
            let versions = registry.versions(&name).await?;
            reports.push(SubjectReport { name, versions });
        }
    }
    Ok(reports)
}

impl Capture {
    /// Each part with what was seen of it, for people.
    pub fn parts(&self) -> [(&'static str, String); 5] {
        [
            ("offset", self.offset.shown("none", Lsn::to_string)),
            (
                "slot",
                self.slot.shown("there is no such slot", SlotReport::shown),
            ),
            (
                "heartbeat",
                self.heartbeat_age_seconds
                    .shown("never", |age| format!("{} ago", time(Duration::from_secs(*age)))),
            ),
            (
                "topic",
                self.topics
                    .shown("none", |topics| list(topics, TopicReport::shown)),
            ),
            (
                "subject",
                self.subjects
                    .shown("none", |subjects| list(subjects, SubjectReport::shown)),
            ),
        ]
    }

    /// The same without what changes all the time.
    fn steady(&self) -> [(&'static str, String); 3] {
        let [.., topics, subjects] = self.parts();
        [
            (
                "slot",
                self.slot.shown("there is no such slot", SlotReport::state),
            ),
            topics,
            subjects,
        ]
    }
}

fn list<T>(items: &[T], shown: fn(&T) -> String) -> String {
    items.iter().map(shown).collect::<Vec<_>>().join("\n")
}

impl SlotReport {
    fn state(&self) -> String {
        let Slot {
            name,
            reader,
            wal_status,
            invalidation_reason,
            ..
        } = &self.slot;
        let active = if reader.is_some() { "active" } else { "not active" };
        let reason = invalidation_reason.as_ref().map(|reason| format!(" ({reason})"));
        let gap = match self.gap_bytes {
            Some(1..) if reader.is_none() => {
                ", begins behind the connector's offset: see `connectors doctor`"
            }
            _ => "",
        };
        format!("{name} {active}, {wal_status}{}{gap}", reason.unwrap_or_default())
    }

    fn shown(&self) -> String {
        let (retained, lag) = (bytes(self.retained_bytes), bytes(self.lag_bytes));
        format!("{}, keeps {retained} of log, {lag} behind", self.state())
    }
}

impl TopicReport {
    fn shown(&self) -> String {
        match self.partitions {
            Some(count) => format!("{} has {}", self.name, partitions(count)),
            None => format!("{} does not exist yet", self.name),
        }
    }
}

impl SubjectReport {
    fn shown(&self) -> String {
        match self.versions.as_slice() {
            [] => format!("{} does not exist yet", self.name),
            versions => {
                let versions: Vec<String> = versions.iter().map(u32::to_string).collect();
                format!("{} has version {}", self.name, versions.join(", "))
            }
        }
    }
}

impl Report {
    /// What somebody who watches wants to be told when it changes, by part.
    pub fn facts(&self) -> Vec<(String, String)> {
        let name = &self.status.name;
        let mut facts = vec![(
            format!("{name} connector"),
            self.status.connector.state.to_string(),
        )];
        for task in &self.status.tasks {
            facts.push((
                format!("{name} task {}", task.id),
                task.instance.state.to_string(),
            ));
        }
        let steady = self.capture.iter().flat_map(Capture::steady);
        facts.extend(steady.map(|(part, text)| (format!("{name} {part}"), text.replace('\n', ", "))));
        facts
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::slot::tests::healthy;

    fn report(gap: u64) -> Report {
        let mut slot = healthy();
        slot.reader = slot.reader.filter(|_| gap == 0);
        Report {
            status: serde_json::from_value(json!({
                "name": "trade-posts",
                "connector": {"state": "RUNNING", "worker_id": "w:1"},
                "tasks": [{"id": 0, "state": "FAILED", "worker_id": "w:1", "trace": "x"}],
            }))
            .unwrap(),
            capture: Some(Capture {
                offset: Seen::Found(Lsn(1_500)),
                slot: Seen::Found(SlotReport {
                    retained_bytes: slot.retained_bytes(),
                    lag_bytes: slot.lag_bytes(),
                    gap_bytes: Some(gap),
                    slot,
                }),
                heartbeat_age_seconds: Seen::Found(3),
                topics: Seen::NotAsked("not asked: give --kafka".into()),
                subjects: Seen::Failed("no".to_owned()),
            }),
        }
    }

    #[test]
    fn json_tells_what_was_not_asked_from_what_is_not_there() {
        let json = json!(report(0));
        assert_eq!(json["tasks"][0]["state"], "FAILED");
        let capture = &json["capture"];
        assert_eq!(capture["offset"], "0/5DC");
        assert_eq!(capture["slot"]["retained_bytes"], 1_000);
        assert_eq!(capture["slot"]["wal_status"], "reserved");
        assert_eq!(capture["topics"]["not_asked"], "not asked: give --kafka");
        assert_eq!(capture["subjects"]["error"], "no");
    }

    #[test]
    fn facts_do_not_change_with_every_byte() {
        let facts = report(0).facts();
        assert_eq!(facts[1], ("trade-posts task 0".to_owned(), "FAILED".to_owned()));
        assert_eq!(
            facts[2],
            (
                "trade-posts slot".to_owned(),
                "trade_cdc active, reserved".to_owned()
            )
        );
        assert!(report(7).facts()[2].1.contains("connectors doctor"));
    }

    #[test]
    fn topics_are_those_of_the_tables() {
        let config = Config::from([
            ("topic.prefix".to_owned(), "trade".to_owned()),
            (
                "table.include.list".to_owned(),
                "public.trade_posts, public[.]other".to_owned(),
            ),
        ]);
        assert_eq!(
            topics(&config),
            ["trade.public.trade_posts", "trade.public.other"]
        );
    }
}
