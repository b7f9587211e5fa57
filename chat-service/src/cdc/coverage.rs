//! Which partitions nobody in the group has.

use std::{collections::HashSet, time::Duration};

use rdkafka::{
    consumer::{Consumer as _, StreamConsumer},
    error::KafkaResult,
    groups::GroupMemberInfo,
};

use super::context::Context;

/// How long Kafka may take for each answer.
const BOUND: Duration = Duration::from_secs(5);

/// The partitions of `topics` that no member of `group` has; nothing while the group is being balanced. Blocks
/// the thread.
pub fn ask(
    consumer: &StreamConsumer<Context>,
    group: &str,
    topics: &[String],
) -> KafkaResult<Option<Vec<(String, i32)>>> {
    let mut known = Vec::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), BOUND)?;
        // None of a topic that does not exist yet.
        for topic in metadata.topics().iter().filter(|topic| topic.error().is_none()) {
            let partitions = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
            known.push((topic.name().to_owned(), partitions));
        }
    }
    let groups = consumer.fetch_group_list(Some(group), BOUND)?;
    let [group] = groups.groups() else {
        return Ok(None);
    };
    if group.state() != "Stable" {
        return Ok(None);
    }
    let members = group.members().iter();
    Ok(unowned(&known, members.filter_map(GroupMemberInfo::assignment)))
}

/// Partitions of `topics`, given with how many they have, that are in none of `assignments`: what the group's
/// members are assigned, as they and the coordinator write it. `None` if an assignment cannot be read.
fn unowned<'a>(
    topics: &[(String, i32)],
    assignments: impl IntoIterator<Item = &'a [u8]>,
) -> Option<Vec<(String, i32)>> {
    let mut owned = HashSet::new();
    for assignment in assignments {
        read(assignment, &mut owned)?;
    }
    let all = topics
        .iter()
        .flat_map(|(topic, count)| (0..*count).map(move |partition| (topic.clone(), partition)));
    Some(all.filter(|partition| !owned.contains(partition)).collect())
}

/// Reads a `ConsumerProtocolAssignment`: version, then topics, each with its partitions, then what an
/// assignor may add, which is left. Nothing at all is an assignment of nothing.
fn read(mut bytes: &[u8], owned: &mut HashSet<(String, i32)>) -> Option<()> {
    if bytes.is_empty() {
        return Some(());
    }
    let _version = i16::from_be_bytes(take(&mut bytes)?);
    for _ in 0..i32::from_be_bytes(take(&mut bytes)?) {
        let length = usize::try_from(i16::from_be_bytes(take(&mut bytes)?)).ok()?;
        let (topic, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        let topic = str::from_utf8(topic).ok()?;
        for _ in 0..i32::from_be_bytes(take(&mut bytes)?) {
            owned.insert((topic.to_owned(), i32::from_be_bytes(take(&mut bytes)?)));
        }
    }
    Some(())
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As librdkafka writes it, with no data of the assignor.
    fn assignment(topics: &[(&str, &[i32])]) -> Vec<u8> {
        let mut bytes = 0_i16.to_be_bytes().to_vec();
        bytes.extend(i32::try_from(topics.len()).unwrap().to_be_bytes());
        for (topic, partitions) in topics {
            bytes.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
            bytes.extend(topic.as_bytes());
            bytes.extend(i32::try_from(partitions.len()).unwrap().to_be_bytes());
            bytes.extend(partitions.iter().flat_map(|partition| partition.to_be_bytes()));
        }
        bytes.extend((-1_i32).to_be_bytes());
        bytes
    }

    fn topics() -> [(String, i32); 2] {
        [("posts".into(), 3), ("heartbeat".into(), 1)]
    }

    #[test]
    fn what_no_member_has_is_named() {
        let one = assignment(&[("posts", &[0]), ("heartbeat", &[0])]);
        let other = assignment(&[("posts", &[2])]);
        let found = unowned(&topics(), [one.as_slice(), &other]);
        assert_eq!(found, Some(vec![("posts".to_owned(), 1)]));
        let third = assignment(&[("posts", &[1])]);
        assert_eq!(unowned(&topics(), [one.as_slice(), &other, &third]), Some(vec![]));
    }

    #[test]
    fn a_member_may_have_nothing() {
        let found = unowned(&topics(), [[].as_slice(), &assignment(&[])]);
        assert_eq!(found.map(|partitions| partitions.len()), Some(4));
    }

    #[test]
    fn an_assignment_that_is_cut_off_is_not_understood() {
        let whole = assignment(&[("posts", &[0, 1, 2]), ("heartbeat", &[0])]);
        let read_up_to = whole.len() - size_of::<i32>();
        for length in 1..read_up_to {
            assert_eq!(unowned(&topics(), [&whole[..length]]), None, "{length} bytes");
        }
        assert_eq!(unowned(&topics(), [whole.as_slice()]), Some(vec![]));
    }
}
