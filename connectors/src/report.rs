//! A connector's state with what it reads from and writes to: its offset, its slot, the heartbeat it leaves
//! in the database, its topics and their subjects.

use std::time::Duration;

use serde::{Serialize, Serializer, ser::SerializeMap};
use sqlx::PgConnection;

use crate::{
    Config, ConnectApi, ConnectError,
    access::{Access, Part},
    doctor::{bytes, time},
    kafka::Kafka,
    lsn::Lsn,
    registry::{RegistryApi, RegistryError},
    schemas::Half,
    slot::{self, Slot},
    status::Status,
};

/// Something that may not have been looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// With the option that would name the server.
    NotAsked(&'static str),
    Failed(String),
    Absent,
    Found(T),
}

/// `{"not_asked": …}`, `{"error": …}`, `null`, or what was found.
impl<T: Serialize> Serialize for Seen<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (key, text) = match self {
            Self::Found(found) => return found.serialize(serializer),
            Self::Absent => return serializer.serialize_none(),
            Self::NotAsked(how) => ("not_asked", *how),
            Self::Failed(error) => ("error", error.as_str()),
        };
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(key, text)?;
        map.end()
    }
}

impl<T> Seen<T> {
    fn shown(&self, absent: &str, found: impl FnOnce(&T) -> String) -> String {
        match self {
            Self::NotAsked(how) => (*how).to_owned(),
            Self::Failed(error) => error.clone(),
            Self::Absent => absent.to_owned(),
            Self::Found(value) => found(value),
        }
    }
}

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

/// Adds to each status what is around the connector.
///
/// # Errors
/// If Kafka Connect does not answer; what else does not is said in the reports.
pub async fn read(
    api: &ConnectApi,
    access: &Access,
    statuses: Vec<Status>,
) -> Result<Vec<Report>, ConnectError> {
    let configs = api.configs().await?;
    let mut database = seen(access.database().await);
    let registry = seen(access.registry());
    let kafka = match access.kafka() {
        Part::NotAsked(how) => Seen::NotAsked(how),
        Part::Failed(never) => match never {},
        Part::Asked(kafka) => Seen::Found(kafka),
    };
    let mut reports = Vec::new();
    for status in statuses {
        let capture = match configs.get(&status.name) {
            Some(config) if config.contains_key("slot.name") => {
                Some(capture(api, &status.name, config, &mut database, &registry, &kafka).await?)
            }
            _ => None,
        };
        reports.push(Report { status, capture });
    }
    Ok(reports)
}

fn seen<T, E: std::error::Error + 'static>(part: Part<T, E>) -> Seen<T> {
    match part {
        Part::NotAsked(how) => Seen::NotAsked(how),
        Part::Failed(error) => failed(&error),
        Part::Asked(asked) => Seen::Found(asked),
    }
}

fn failed<T>(error: &(dyn std::error::Error + 'static)) -> Seen<T> {
    Seen::Failed(crate::doctor::said(error))
}

async fn capture(
    api: &ConnectApi,
    name: &str,
    config: &Config,
    database: &mut Seen<PgConnection>,
    registry: &Seen<RegistryApi>,
    kafka: &Seen<Kafka>,
) -> Result<Capture, ConnectError> {
    let slot_name = config.get("slot.name").map(String::as_str).unwrap_or_default();
    let (slot, beat) = match database {
        Seen::Found(database) => {
            let slot = slot::read(database, slot_name).await;
            (found(slot), found(slot::heartbeat_age(database).await))
        }
        Seen::NotAsked(how) => (Seen::NotAsked(how), Seen::NotAsked(how)),
        Seen::Failed(error) => (Seen::Failed(error.clone()), Seen::Failed(error.clone())),
        Seen::Absent => (Seen::Absent, Seen::Absent),
    };
    // Behind the slot: see `Slot::gap_bytes`.
    let offset = api
        .committed_offsets(name)
        .await?
        .and_then(|offsets| offsets.furthest());
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
        topics: match kafka {
            Seen::Found(kafka) => found(topic_reports(kafka, &topics).await.map(Some)),
            other => unfound(other),
        },
        subjects: match registry {
            Seen::Found(registry) => found(subject_reports(registry, &topics).await.map(Some)),
            other => unfound(other),
        },
    })
}

fn found<T, E: std::error::Error + 'static>(result: Result<Option<T>, E>) -> Seen<T> {
    match result {
        Ok(Some(value)) => Seen::Found(value),
        Ok(None) => Seen::Absent,
        Err(error) => failed(&error),
    }
}

fn unfound<T, U>(other: &Seen<T>) -> Seen<U> {
    match other {
        Seen::NotAsked(how) => Seen::NotAsked(how),
        Seen::Failed(error) => Seen::Failed(error.clone()),
        Seen::Absent | Seen::Found(_) => Seen::Absent,
    }
}

fn map<T, U>(seen: Seen<T>, change: impl FnOnce(T) -> U) -> Seen<U> {
    match seen {
        Seen::Found(value) => Seen::Found(change(value)),
        other => unfound(&other),
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
        let mut state = format!(
            "{name} {}, {wal_status}",
            if reader.is_some() { "active" } else { "not active" }
        );
        if let Some(reason) = invalidation_reason {
            state += &format!(" ({reason})");
        }
        if reader.is_none() && self.gap_bytes.is_some_and(|gap| gap > 0) {
            state += ", begins behind the connector's offset: see `connectors doctor`";
        }
        state
    }

    fn shown(&self) -> String {
        let (retained, lag) = (bytes(self.retained_bytes), bytes(self.lag_bytes));
        format!("{}, keeps {retained} of log, {lag} behind", self.state())
    }
}

impl TopicReport {
    fn shown(&self) -> String {
        match self.partitions {
            Some(partitions) => format!("{} has {partitions} partitions", self.name),
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
                topics: Seen::NotAsked("not asked: give --kafka"),
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
