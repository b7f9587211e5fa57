//! What Kafka says of the captured topic, and of the group that reads it.

use std::time::Duration;

use super::finding::{Finding, partitions, time};
use crate::{
    kafka::{Group, Progress, Topic},
    placeholder::unknown,
};

pub(crate) fn topic(name: &str, topic: Option<&Topic>) -> Finding {
    if let Some(why) = unknown(name) {
        return Finding::unseen("topic", why);
    }
    match topic {
        None => Finding::warning(
            "topic",
            format!("there is no topic {name}"),
            "it comes with the first record; if posts were captured, --kafka is another cluster than the worker's",
        ),
        Some(topic) => Finding::ok("topic", format!("{name} has {}", partitions(topic.partitions))),
    }
}

/// Whether what the group has not read yet stays until it has. `fence_ttl` is chat-service's.
pub(crate) fn retention(topic: &Topic, progress: &[Progress], fence_ttl: Duration) -> Finding {
    const CHECK: &str = "retention";
    let kept = topic.retention.map_or("for ever".to_owned(), |retention| {
        format!("for {}", time(retention))
    });
    let oldest = progress.iter().filter_map(|progress| progress.unread_for).max();
    let seen = match oldest {
        None => format!("records are kept {kept}; none is unread"),
        Some(age) => format!(
            "records are kept {kept}; the oldest unread one is {} old",
            time(age)
        ),
    };
    if let (Some(age), Some(retention)) = (oldest, topic.retention)
        && age > retention / 2
    {
        let next = "have chat-service read on, or raise retention.ms of the topic before it removes deletes that were not carried out";
        return if age > retention / 10 * 9 {
            Finding::wrong(CHECK, seen, next)
        } else {
            Finding::warning(CHECK, seen, next)
        };
    }
    if topic.cleanup_policy != "delete" {
        return Finding::warning(
            CHECK,
            format!(
                "cleanup.policy is {}: of a post's changes only the last one is kept, and of a delete only the tombstone, for delete.retention.ms",
                topic.cleanup_policy
            ),
            "set cleanup.policy=delete, or delete.retention.ms well above the longest time that chat-service may stand still",
        );
    }
    if topic.retention.is_none_or(|retention| retention >= fence_ttl) {
        return Finding::warning(
            CHECK,
            format!(
                "records are kept {kept}, fences of chat-service {}",
                time(fence_ttl)
            ),
            "set chat-service's --fence-ttl longer than the topic's retention.ms: an old record could revive a deleted post",
        );
    }
    if let Some(bytes) = topic.retention_bytes {
        return Finding::warning(
            CHECK,
            format!("a partition is cut at {bytes} bytes, however old its records are"),
            "set retention.bytes=-1: a burst of changes would remove deletes that were not carried out",
        );
    }
    Finding::ok(CHECK, seen)
}

/// Whether records were removed before the group has read them.
pub(crate) fn expired(group: &str, progress: &[Progress]) -> Finding {
    const CHECK: &str = "expired";
    let removed = progress.iter().filter_map(|progress| {
        let committed = progress.committed?;
        (committed < progress.low).then(|| {
            format!(
                "partition {} begins at {}, {} records behind {committed}",
                progress.partition,
                progress.low,
                progress.low - committed
            )
        })
    });
    let removed: Vec<String> = removed.collect();
    if !removed.is_empty() {
        return Finding::wrong(
            CHECK,
            format!(
                "records were removed before {group} has read them: {}",
                removed.join("; ")
            ),
            "start chat-service once with KAFKA_OFFSET_RESET=earliest, and run `connectors reconcile`: deletes may be among what was removed",
        );
    }
    let beyond = progress.iter().find(|progress| {
        progress
            .committed
            .is_some_and(|committed| committed > progress.high)
    });
    if let Some(progress) = beyond {
        return Finding::wrong(
            CHECK,
            format!(
                "{group} has read partition {} up to {}, which ends at {}: the topic was made anew",
                progress.partition,
                progress.committed.unwrap_or_default(),
                progress.high
            ),
            "start chat-service once with KAFKA_OFFSET_RESET=earliest, and run `connectors reconcile`",
        );
    }
    Finding::ok(
        CHECK,
        format!("everything that {group} has not read is in the topic"),
    )
}

pub(crate) fn group(name: &str, group: Option<&Group>, progress: &[Progress]) -> Finding {
    const CHECK: &str = "group";
    let lag: i64 = progress.iter().map(Progress::lag).sum();
    let uncommitted = progress.iter().all(|progress| progress.committed.is_none());
    match group {
        Some(group) if group.members > 0 => Finding::ok(
            CHECK,
            format!(
                "{name} is {} with {} members, {lag} records behind",
                group.state.to_lowercase(),
                group.members
            ),
        ),
        _ if uncommitted => Finding::warning(
            CHECK,
            format!("there is no group {name}"),
            "start chat-service; if it runs, name its --kafka-group-id with --group",
        ),
        _ => Finding::wrong(
            CHECK,
            format!("{name} has no members; {lag} records wait"),
            "start chat-service: deletes are not carried out meanwhile",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    const DAY: Duration = Duration::from_hours(24);

    fn kept() -> Topic {
        Topic {
            name: "t".to_owned(),
            partitions: 3,
            cleanup_policy: "delete".to_owned(),
            retention: Some(7 * DAY),
            retention_bytes: None,
        }
    }

    fn read_up_to(committed: Option<i64>, low: i64, unread_for: Option<Duration>) -> Progress {
        Progress {
            partition: 1,
            low,
            high: 100,
            committed,
            unread_for,
        }
    }

    #[test]
    fn what_is_unread_has_to_stay() {
        let level = |topic: &Topic, age: Option<Duration>| {
            retention(topic, &[read_up_to(Some(9), 0, age)], 30 * DAY).level
        };
        assert_eq!(level(&kept(), None), Level::Ok);
        assert_eq!(level(&kept(), Some(3 * DAY)), Level::Ok);
        assert_eq!(level(&kept(), Some(4 * DAY)), Level::Warning);
        assert_eq!(level(&kept(), Some(13 * DAY / 2)), Level::Wrong);
        let compacted = Topic {
            cleanup_policy: "compact".to_owned(),
            ..kept()
        };
        assert_eq!(level(&compacted, None), Level::Warning);
        let cut = Topic {
            retention_bytes: Some(1 << 30),
            ..kept()
        };
        assert_eq!(level(&cut, None), Level::Warning);
    }

    #[test]
    fn fences_outlive_records() {
        let level = |retention_of: Option<Duration>| {
            let topic = Topic {
                retention: retention_of,
                ..kept()
            };
            retention(&topic, &[], 7 * DAY).level
        };
        assert_eq!(level(Some(6 * DAY)), Level::Ok);
        assert_eq!(level(Some(7 * DAY)), Level::Warning);
        assert_eq!(level(None), Level::Warning);
    }

    #[test]
    fn what_was_removed_unread_is_told() {
        let level = |committed, low| expired("g", &[read_up_to(committed, low, None)]).level;
        assert_eq!(level(Some(9), 0), Level::Ok);
        assert_eq!(level(Some(9), 9), Level::Ok);
        assert_eq!(level(Some(9), 10), Level::Wrong);
        assert_eq!(level(Some(101), 10), Level::Wrong);
        assert_eq!(level(None, 10), Level::Ok);
    }

    #[test]
    fn a_group_has_members() {
        let of = |members| Group {
            state: "Stable".to_owned(),
            members,
        };
        let read = [read_up_to(Some(9), 0, None)];
        assert_eq!(group("g", Some(&of(2)), &read).level, Level::Ok);
        assert_eq!(group("g", Some(&of(0)), &read).level, Level::Wrong);
        assert_eq!(group("g", None, &read).level, Level::Wrong);
        assert_eq!(group("g", None, &[]).level, Level::Warning);
    }
}
