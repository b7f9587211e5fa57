//! One page that says what is wrong with the capture, and what to do. Kafka Connect, PostgreSQL, the
//! registry and Kafka are read; what was read is judged by pure functions, one per check.

mod connect;
mod finding;
mod postgres;
mod registry;
mod slot;
mod topic;

use std::{error::Error, time::Duration};

use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

pub use finding::{CHECKS, Finding, Level, NEEDS_ANOTHER};
pub use finding::{bytes, partitions, time};

use crate::{
    Config, ConnectApi, ConnectError, database,
    kafka::Kafka,
    offsets::Offsets,
    placeholder::unknown,
    registry::{RegistryApi, RegistryError},
    schemas::{self, Table},
    servers::{Part, Servers},
    shipped::{self, Names},
    slot::{Slot, heartbeat_age, read as read_slot, read_settled as read_settled_slot},
    status::{Standing, Status},
};

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Patient {
    /// Of the connector.
    pub connector: String,
    /// The role that it logs in with.
    pub role: String,
    /// chat-service's consumer group.
    pub group: String,
    /// chat-service's `--fence-ttl`.
    pub fence_ttl: Duration,
}

/// Carries out every check; there is one finding for each, in the order of [`CHECKS`].
pub async fn examine(api: &ConnectApi, servers: &Servers, patient: &Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    let connector = match Connector::read(api, &patient.connector).await {
        Ok(connector) => {
            findings.extend(connector.findings(api, &patient.connector));
            Some(connector)
        }
        Err(error) => {
            findings.push(Finding::wrong(
                "connect",
                said(&error),
                "every other check of it waits for that",
            ));
            None
        }
    };
    let names = Names::of(connector.as_ref().and_then(Connector::config));
    let interval = connector
        .as_ref()
        .map_or(Duration::from_secs(5), Connector::heartbeat_interval);
    let standing = connector.as_ref().and_then(Connector::standing);

    let mut seen_slot = None;
    match servers.database().await {
        Part::NotAsked(how) => findings.push(Finding::unseen("database", how)),
        Part::Failed(error) => findings.push(Finding::wrong("database", said(&error), UNREACHABLE)),
        Part::Asked(mut database) => {
            let looked = Looked {
                patient,
                names: &names,
                interval,
                standing: standing.as_ref(),
                others: connector
                    .as_ref()
                    .map_or_else(Vec::new, |connector| connector.sharing(&names.slot)),
            };
            match looked.at_database(&mut database).await {
                Ok((slot, found)) => {
                    seen_slot = unknown(&names.slot).is_none().then_some(slot);
                    findings.extend(found);
                }
                Err(error) => findings.push(Finding::wrong("database", said(&error), UNREACHABLE)),
            }
        }
    }
    // Behind the slot: it only goes forward, so a slot that is ahead of it is ahead for good.
    if connector.is_some() {
        match offsets(
            api,
            &patient.connector,
            seen_slot.as_ref().and_then(Option::as_ref),
        )
        .await
        {
            Ok(offsets) => findings.extend(of_offsets(
                offsets.as_ref(),
                standing.as_ref(),
                seen_slot.as_ref(),
            )),
            Err(error) => findings.push(Finding::unseen("offset", said(&error))),
        }
    }

    let registry = match servers.registry() {
        Part::NotAsked(how) => {
            findings.push(Finding::unseen("registry", how));
            None
        }
        Part::Failed(error) => {
            findings.push(Finding::wrong("registry", said(&error), UNREACHABLE));
            None
        }
        Part::Asked(registry) => match of_registry(&registry, &names.topic_prefix).await {
            Ok(found) => {
                findings.extend(found);
                Some(registry)
            }
            Err(error) => {
                findings.push(Finding::wrong("registry", said(&error), UNREACHABLE));
                None
            }
        },
    };
    match servers.kafka() {
        Part::NotAsked(how) => findings.push(Finding::unseen("kafka", how)),
        Part::Failed(never) => match never {},
        Part::Asked(kafka) => match of_kafka(&kafka, &names, patient, registry.as_ref()).await {
            Ok(found) => findings.extend(found),
            Err(error) => findings.push(Finding::wrong("kafka", said(&*error), UNREACHABLE)),
        },
    }
    in_order(findings)
}

/// For a flush of offsets that is due.
const FLUSH_PATIENCE: Duration = Duration::from_secs(3);
const UNREACHABLE: &str = "the checks that need it wait for that";

/// An error with its innermost cause.
pub(crate) fn said(error: &(dyn Error + 'static)) -> String {
    let innermost = std::iter::successors(error.source(), |&cause| cause.source()).last();
    match innermost {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// One finding for each check: what was not found is unseen.
fn in_order(mut findings: Vec<Finding>) -> Vec<Finding> {
    CHECKS
        .into_iter()
        .map(
            |check| match findings.iter().position(|finding| finding.check == check) {
                Some(place) => findings.swap_remove(place),
                None => Finding::unseen(check, NEEDS_ANOTHER),
            },
        )
        .collect()
}

/// What Kafka Connect says of the connector.
struct Connector {
    worker: crate::connect_api::Worker,
    plugins: Vec<crate::connect_api::Plugin>,
    configs: std::collections::BTreeMap<String, Config>,
    name: String,
    status: Option<Status>,
}

impl Connector {
    async fn read(api: &ConnectApi, name: &str) -> Result<Self, ConnectError> {
        Ok(Self {
            worker: api.worker().await?,
            plugins: api.plugins().await?,
            configs: api.configs().await?,
            name: name.to_owned(),
            status: api.status(name).await?,
        })
    }

    fn config(&self) -> Option<&Config> {
        self.configs.get(&self.name)
    }

    fn standing(&self) -> Option<Standing> {
        self.status.as_ref().map(Standing::of)
    }

    fn heartbeat_interval(&self) -> Duration {
        let set = self
            .config()
            .and_then(|config| config.get("heartbeat.interval.ms"));
        Duration::from_millis(set.and_then(|text| text.parse().ok()).unwrap_or(5_000))
    }

    /// Other connectors to the same database that name this slot.
    fn sharing(&self, slot: &str) -> Vec<String> {
        let setting = |config: Option<&Config>, key: &str| config.and_then(|config| config.get(key).cloned());
        let same_database = |other: &Config| {
            ["database.hostname", "database.port"]
                .iter()
                .all(|key| setting(Some(other), key) == setting(self.config(), key))
        };
        let others = self.configs.iter().filter(|(name, config)| {
            **name != self.name
                && setting(Some(config), "slot.name").as_deref() == Some(slot)
                && same_database(config)
        });
        others.map(|(name, _)| name.clone()).collect()
    }

    fn findings(&self, api: &ConnectApi, name: &str) -> [Finding; 4] {
        let shipped = shipped::config();
        let class = self.config().unwrap_or(&shipped).get("connector.class");
        [
            connect::connect(api.url(), &self.worker),
            connect::plugin(&self.plugins, class.map(String::as_str).unwrap_or_default()),
            connect::config(name, self.config()),
            connect::running(name, self.status.as_ref()),
        ]
    }
}

/// What the database's findings are measured against.
struct Looked<'a> {
    patient: &'a Patient,
    names: &'a Names,
    interval: Duration,
    standing: Option<&'a Standing>,
    others: Vec<String>,
}

impl Looked<'_> {
    async fn at_database(&self, database: &mut PgConnection) -> sqlx::Result<(Option<Slot>, Vec<Finding>)> {
        let Names {
            slot: slot_name,
            publication,
            ..
        } = self.names;
        let role = &self.patient.role;
        let settings = database::settings(database).await?;
        let published = database::publication(database, publication).await?;
        let identity = database::identity(database, shipped::TABLE).await?;
        let of_keywords = database::identity(database, shipped::KEYWORDS).await?;
        let grants = database::grants(database, role).await?;
        let found_slot = match self.standing {
            _ if unknown(slot_name).is_some() => None,
            Some(Standing::Running) => read_settled_slot(database, slot_name).await?,
            _ => read_slot(database, slot_name).await?,
        };
        let mut findings = vec![
            Finding::ok("database", "PostgreSQL answers"),
            postgres::wal_level(&settings),
            postgres::wal_keep(&settings),
            postgres::publication(publication, published.as_ref()),
            postgres::replica_identity(shipped::TABLE, identity.as_ref()).or_worse(
                postgres::replica_identity(shipped::KEYWORDS, of_keywords.as_ref()),
                shipped::KEYWORDS,
            ),
            postgres::grants(role, grants.as_ref()),
            slot::slot(slot_name, found_slot.as_ref(), self.standing, &self.others),
        ];
        if let Some(found) = &found_slot {
            findings.push(slot::wal_status(found, &settings));
        }
        // Without trade-service's migrations there is no such table, which other checks say.
        if identity.is_some() {
            findings.push(match heartbeat_age(database).await {
                Ok(age) => slot::heartbeat(age, self.interval),
                Err(error) => Finding::unseen("heartbeat", said(&error)),
            });
        }
        Ok((found_slot, findings))
    }
}

/// Waits a moment for offsets that are behind a slot somebody reads: they are flushed now and then.
async fn offsets(api: &ConnectApi, name: &str, slot: Option<&Slot>) -> Result<Option<Offsets>, ConnectError> {
    let begun = Instant::now();
    loop {
        let offsets = api.offsets(name).await?;
        let behind = match (slot, offsets.as_ref().and_then(Offsets::furthest)) {
            (Some(slot), Some(offset)) => slot.reader.is_some() && slot.gap_bytes(offset) > 0,
            _ => false,
        };
        if !behind || begun.elapsed() > FLUSH_PATIENCE {
            return Ok(offsets);
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// `slot` is what was seen of it, if the database was.
fn of_offsets(
    offsets: Option<&Offsets>,
    standing: Option<&Standing>,
    slot: Option<&Option<Slot>>,
) -> Vec<Finding> {
    let mut findings = vec![connect::offset(offsets, standing, slot.map(Option::is_some))];
    if let Some(slot) = slot {
        let read = slot.as_ref().is_some_and(|slot| slot.reader.is_some());
        let reading = read && !slot::has_no_reader(standing);
        findings.push(slot::slot_gap(slot.as_ref(), offsets, reading));
    }
    findings
}

async fn of_registry(api: &RegistryApi, topic_prefix: &str) -> Result<Vec<Finding>, RegistryError> {
    let known = api.subjects().await?;
    let answers = Finding::ok("registry", format!("{} subjects at {}", known.len(), api.url()));
    if let Some(why) = unknown(topic_prefix) {
        return Ok(vec![answers, Finding::unseen("subjects", why)]);
    }
    let mut subjects = Vec::new();
    for (table, half, name) in schemas::subjects(topic_prefix) {
        let known = known.contains(&name);
        subjects.push(registry::Subject {
            table,
            half,
            latest: if known { api.latest(&name).await? } else { None },
            compatibility: if known {
                api.compatibility(&name).await?
            } else {
                None
            },
            name,
        });
    }
    let mut findings = vec![
        answers,
        registry::subjects(&subjects),
        registry::reader_schemas(&subjects),
    ];
    if subjects.iter().any(|subject| subject.latest.is_some()) {
        findings.push(registry::compatibility(&subjects));
    }
    Ok(findings)
}

async fn of_kafka(
    kafka: &Kafka,
    names: &Names,
    patient: &Patient,
    registry: Option<&RegistryApi>,
) -> Result<Vec<Finding>, Box<dyn Error + Send + Sync>> {
    let topic = names.topic.as_str();
    let found = match unknown(topic) {
        Some(_) => None,
        None => kafka.topic(topic).await?,
    };
    let group = kafka.group(&patient.group).await?;
    let mut findings = vec![
        Finding::ok("kafka", "the brokers answer"),
        topic::topic(topic, found.as_ref()),
    ];
    let Some(found) = found else { return Ok(findings) };
    let mut progress = kafka.progress(topic, &patient.group).await?;
    let mut retention = topic::retention(&found, &progress, patient.fence_ttl);
    let mut expired = topic::expired(&patient.group, &progress);
    let mut schema_ids = match registry {
        Some(registry) => Some(of_schema_ids(kafka, registry, topic).await?),
        None => None,
    };
    for table in [Table::Keywords, Table::Heartbeats] {
        let topic = table.topic(&names.topic_prefix);
        // It comes with the first record.
        let Some(found) = kafka.topic(&topic).await? else {
            continue;
        };
        let of_table = kafka.progress(&topic, &patient.group).await?;
        // An old heartbeat revives nothing.
        if Table::KEPT.contains(&table) {
            let other = topic::retention(&found, &of_table, patient.fence_ttl);
            retention = retention.or_worse(other, &topic);
        }
        expired = expired.or_worse(topic::expired(&patient.group, &of_table), &topic);
        schema_ids = match (schema_ids, registry) {
            (Some(seen), Some(registry)) => {
                Some(seen.or_worse(of_schema_ids(kafka, registry, &topic).await?, &topic))
            }
            (seen, _) => seen,
        };
        progress.extend(of_table);
    }
    findings.extend([retention, expired]);
    findings.push(topic::group(&patient.group, group.as_ref(), &progress));
    findings.extend(schema_ids);
    Ok(findings)
}

async fn of_schema_ids(
    kafka: &Kafka,
    registry: &RegistryApi,
    topic: &str,
) -> Result<Finding, Box<dyn Error + Send + Sync>> {
    let seen = kafka.newest_schema_ids(topic).await?;
    let mut unknown = Vec::new();
    for id in &seen.ids {
        if registry.schema(*id).await?.is_none() {
            unknown.push(*id);
        }
    }
    Ok(registry::schema_ids(&seen, &unknown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::State;

    #[test]
    fn every_check_has_one_finding_and_its_place() {
        let some = vec![Finding::ok("slot", "a"), Finding::ok("connect", "b")];
        let all = in_order(some);
        let checks: Vec<&str> = all.iter().map(|finding| finding.check).collect();
        assert_eq!(checks, CHECKS);
        let seen = all.iter().filter(|finding| finding.level == Level::Ok);
        assert_eq!(seen.count(), 2);
    }

    #[test]
    fn what_a_paused_connector_is_behind_is_still_to_be_flushed() {
        let behind = serde_json::json!({"offsets": [{"partition": {}, "offset": {"lsn": 1_400}}]});
        let behind: Offsets = serde_json::from_value(behind).unwrap();
        let slot = Some(crate::slot::tests::healthy());
        let gap = |state| {
            let found = of_offsets(Some(&behind), Some(&Standing::Halted(state)), Some(&slot));
            found
                .into_iter()
                .find(|finding| finding.check == "slot-gap")
                .unwrap()
                .level
        };
        assert_eq!(gap(State::Paused), Level::Warning);
        assert_eq!(gap(State::Stopped), Level::Wrong);
    }
}
