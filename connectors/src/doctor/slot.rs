//! What PostgreSQL says of the slot and of what goes through it.

use std::time::Duration;

use super::finding::{Finding, bytes, time};
use crate::{
    database::Settings,
    offsets::Offsets,
    placeholder::unknown,
    slot::Slot,
    status::{Standing, State},
};

/// Whether our connector, and it alone, reads through the slot. `others` are connectors of the same Kafka
/// Connect that name it too.
pub(crate) fn slot(
    name: &str,
    slot: Option<&Slot>,
    standing: Option<&Standing>,
    others: &[String],
) -> Finding {
    const CHECK: &str = "slot";
    if !others.is_empty() {
        return Finding::wrong(
            CHECK,
            format!("{} names the slot {name} too", others.join(", ")),
            "give each connector a slot.name of its own: each change reaches only one of them",
        );
    }
    if let Some(why) = unknown(name) {
        return Finding::unseen(CHECK, why);
    }
    let Some(slot) = slot else {
        return Finding::wrong(
            CHECK,
            format!("there is no slot {name}"),
            "Debezium makes it when the connector starts: `connectors apply`. If there was one, it has to begin anew (`connectors offsets reset`), and what was deleted since is missed: run `connectors reconcile` then",
        );
    };
    // It may be unknown, too.
    let running = standing == Some(&Standing::Running);
    match &slot.reader {
        Some(reader) if has_no_reader(standing) || !reader.application.starts_with("Debezium") => {
            let address = reader.address.as_deref().unwrap_or("this machine");
            Finding::wrong(
                CHECK,
                format!(
                    "{name} is held by somebody else: process {} of {:?}, application {:?}, from {address}",
                    reader.pid, reader.user, reader.application
                ),
                format!(
                    "end that reader, or give it a slot of its own; SELECT pg_terminate_backend({}) cuts it off",
                    reader.pid
                ),
            )
        }
        Some(reader) => Finding::ok(
            CHECK,
            format!(
                "{name}, read by process {} of {:?}, {} behind",
                reader.pid,
                reader.user,
                bytes(slot.lag_bytes())
            ),
        ),
        None if running => Finding::wrong(
            CHECK,
            format!("nobody reads through {name}, though the connector is RUNNING"),
            "Debezium tries again and again: the worker's log says why (a missing grant, a slot that was held, a database that is away)",
        ),
        None => Finding::warning(
            CHECK,
            format!(
                "nobody reads through {name}, which keeps {} of log",
                bytes(slot.retained_bytes())
            ),
            "start the connector before the disk or max_slot_wal_keep_size ends that",
        ),
    }
}

/// Only a connector that is stopped has no tasks: one that is paused, or that has failed in part, may keep its
/// reader.
pub(crate) fn has_no_reader(standing: Option<&Standing>) -> bool {
    standing == Some(&Standing::Halted(State::Stopped))
}

pub(crate) fn wal_status(slot: &Slot, settings: &Settings) -> Finding {
    const CHECK: &str = "wal-status";
    const LOST: &str = "drop the slot with SELECT pg_drop_replication_slot(…), have the connector begin anew with `connectors offsets reset`, which makes a new one, and run `connectors reconcile`: deletes in between are missed";
    let seen = format!(
        "{}, keeps {} of log",
        slot.wal_status,
        bytes(slot.retained_bytes())
    );
    if let Some(reason) = &slot.invalidation_reason {
        return Finding::wrong(CHECK, format!("PostgreSQL has given the slot up: {reason}"), LOST);
    }
    match (
        slot.wal_status.as_str(),
        slot.safe_bytes,
        settings.max_slot_wal_keep,
    ) {
        ("lost", ..) => Finding::wrong(CHECK, "the log that the slot needs is removed", LOST),
        ("unreserved", ..) => Finding::wrong(
            CHECK,
            format!("{seen}; it is lost at the next checkpoint"),
            "have the connector read on at once, or raise max_slot_wal_keep_size",
        ),
        (_, Some(safe), Some(limit)) if safe < limit / 2 => Finding::warning(
            CHECK,
            format!("{seen}; lost after {} more", bytes(safe)),
            "have the connector read on, or raise max_slot_wal_keep_size",
        ),
        ("extended", ..) => Finding::warning(
            CHECK,
            format!("{seen}, more than max_wal_size"),
            "the connector is far behind: see `running`, `slot` and `heartbeat`",
        ),
        _ => Finding::ok(CHECK, seen),
    }
}

/// Whether something was changed that the connector has not read and the slot does not have any more.
/// `reading` says that the connector reads through the slot.
pub(crate) fn slot_gap(slot: Option<&Slot>, offsets: Option<&Offsets>, reading: bool) -> Finding {
    const CHECK: &str = "slot-gap";
    const NEXT: &str = "what was deleted in between will never be captured, and the connector may refuse to go on behind it: have it begin anew with `connectors offsets reset`, and run `connectors reconcile`";
    let Some(offsets) = offsets else {
        return Finding::unseen(CHECK, "Kafka Connect does not say how far the connector has come");
    };
    match (slot, offsets.furthest()) {
        (_, None) => Finding::ok(CHECK, "the connector has read nothing yet"),
        (None, Some(offset)) => Finding::wrong(
            CHECK,
            format!(
                "the slot was lost: the connector had read up to {offset}, and nothing keeps the log since then"
            ),
            NEXT,
        ),
        (Some(slot), Some(offset)) => match slot.gap_bytes(offset) {
            0 => Finding::ok(CHECK, "the slot has everything that the connector has not read"),
            gap if reading => Finding::warning(
                CHECK,
                format!(
                    "the slot is {} ahead of the offset that Kafka Connect keeps",
                    bytes(gap)
                ),
                "usual under load until the worker's next flush of offsets (offset.flush.interval.ms): look again in a minute. If it stays, or the slot was made anew, run `connectors reconcile`",
            ),
            gap => Finding::wrong(
                CHECK,
                format!(
                    "the slot was made anew or moved: the connector has read up to {offset}, the slot begins at {}; {} of log in between",
                    slot.confirmed_lsn.unwrap_or(slot.current_lsn),
                    bytes(gap)
                ),
                NEXT,
            ),
        },
    }
}

/// `age` is that of the connector's last heartbeat, `interval` the time between two.
pub(crate) fn heartbeat(age: Option<Duration>, interval: Duration) -> Finding {
    const CHECK: &str = "heartbeat";
    const NEXT: &str = "the connector does not reach the database, or tries again without end: see `running` and `slot`, and the worker's log";
    let bound = (interval * 6).max(Duration::from_secs(30));
    match age {
        None => Finding::wrong(CHECK, "there was never one", NEXT),
        Some(age) if age > bound => Finding::wrong(CHECK, format!("{} ago", time(age)), NEXT),
        Some(age) => Finding::ok(CHECK, format!("{} ago", time(age))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        doctor::finding::Level,
        lsn::Lsn,
        slot::{Reader, tests::healthy},
    };

    fn settings() -> Settings {
        Settings {
            wal_level: "logical".to_owned(),
            max_slot_wal_keep: Some(2 << 30),
        }
    }

    #[test]
    fn the_slot_is_read_by_the_connector_alone() {
        let held_by = |application: &str| Slot {
            reader: Some(Reader {
                application: application.to_owned(),
                ..healthy().reader.unwrap()
            }),
            ..healthy()
        };
        let level = |found: &Slot, standing: &Standing| slot("s", Some(found), Some(standing), &[]).level;
        let idle = Slot {
            reader: None,
            ..healthy()
        };
        let stopped = Standing::Halted(State::Stopped);
        assert_eq!(level(&healthy(), &Standing::Running), Level::Ok);
        assert_eq!(
            level(&held_by("pg_recvlogical"), &Standing::Running),
            Level::Wrong
        );
        assert_eq!(level(&healthy(), &stopped), Level::Wrong);
        for keeps_it in [
            Standing::Halted(State::Paused),
            Standing::Failed,
            Standing::Changing,
        ] {
            assert_eq!(level(&healthy(), &keeps_it), Level::Ok, "{keeps_it:?}");
            assert_eq!(level(&held_by("pg_recvlogical"), &keeps_it), Level::Wrong);
            assert_eq!(level(&idle, &keeps_it), Level::Warning);
        }
        assert_eq!(level(&idle, &Standing::Running), Level::Wrong);
        assert_eq!(level(&idle, &stopped), Level::Warning);
        assert_eq!(slot("s", Some(&idle), None, &[]).level, Level::Warning);
        assert_eq!(slot("s", Some(&healthy()), None, &[]).level, Level::Ok);
        assert_eq!(slot("s", None, None, &[]).level, Level::Wrong);
        let unknown = slot("${env:S}", None, Some(&Standing::Running), &[]);
        assert_eq!(unknown.level, Level::Unseen);
        assert!(unknown.seen.contains("what ${env:S} stands for"), "{unknown:?}");
        let two = slot(
            "s",
            Some(&healthy()),
            Some(&Standing::Running),
            &["other".to_owned()],
        );
        assert_eq!(two.level, Level::Wrong);
    }

    #[test]
    fn a_slot_that_is_or_will_be_lost_is_told() {
        let level = |change: &dyn Fn(&mut Slot)| {
            let mut slot = healthy();
            change(&mut slot);
            wal_status(&slot, &settings()).level
        };
        assert_eq!(level(&|_| ()), Level::Ok);
        assert_eq!(level(&|slot| slot.wal_status = "lost".into()), Level::Wrong);
        assert_eq!(level(&|slot| slot.wal_status = "unreserved".into()), Level::Wrong);
        assert_eq!(level(&|slot| slot.wal_status = "extended".into()), Level::Warning);
        assert_eq!(level(&|slot| slot.safe_bytes = Some(1 << 29)), Level::Warning);
        assert_eq!(
            level(&|slot| slot.invalidation_reason = Some("idle_timeout".into())),
            Level::Wrong
        );
    }

    #[test]
    fn a_gap_is_seen_whichever_way_the_slot_went() {
        let at = |lsn: u64| -> Offsets {
            serde_json::from_value(json!({"offsets": [{"partition": {}, "offset": {"lsn": lsn}}]})).unwrap()
        };
        assert_eq!(
            slot_gap(Some(&healthy()), Some(&at(1_500)), true).level,
            Level::Ok
        );
        // What Kafka has acknowledged since the last flush of offsets.
        assert_eq!(
            slot_gap(Some(&healthy()), Some(&at(1_400)), true).level,
            Level::Warning
        );
        let gap = slot_gap(Some(&healthy()), Some(&at(1_400)), false);
        assert_eq!(gap.level, Level::Wrong);
        assert!(gap.seen.contains("100 bytes"), "{gap:?}");
        assert!(gap.seen.contains(&Lsn(1_500).to_string()), "{gap:?}");
        assert_eq!(slot_gap(None, Some(&at(1_400)), false).level, Level::Wrong);
        assert_eq!(slot_gap(None, None, false).level, Level::Unseen);
    }

    #[test]
    fn heartbeats_may_be_a_few_intervals_old() {
        let level = |age: Option<u64>| heartbeat(age.map(Duration::from_secs), Duration::from_secs(10)).level;
        assert_eq!(level(Some(59)), Level::Ok);
        assert_eq!(level(Some(61)), Level::Wrong);
        assert_eq!(level(None), Level::Wrong);
    }
}
