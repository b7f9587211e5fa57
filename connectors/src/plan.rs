//! Compares the configuration that a connector should have with the one it has. Pure: whether Connect
//! has to be asked to change anything is decided here alone, because even an equal PUT restarts it.

use std::fmt;

use crate::{Config, secret::Secrets};

/// What has to happen to make a connector what its file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    Create,
    /// Never empty.
    Update(Vec<Change>),
    Unchanged,
}

/// One setting that differs. Values are left out: they can be secrets. [`differences`] has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Added(String),
    Changed(String),
    Removed(String),
}

impl Plan {
    /// `current` is what `GET /connectors/{name}/config` answers, `None` if there is no such connector.
    pub fn new(current: Option<&Config>, wanted: &Config) -> Self {
        let Some(current) = current else {
            return Self::Create;
        };
        let changes = changes(current, wanted);
        if changes.is_empty() {
            Self::Unchanged
        } else {
            Self::Update(changes)
        }
    }
}

fn changes(current: &Config, wanted: &Config) -> Vec<Change> {
    let added_or_changed = wanted.iter().filter_map(|(key, value)| match current.get(key) {
        None => Some(Change::Added(key.clone())),
        Some(now) => (now != value).then(|| Change::Changed(key.clone())),
    });
    let removed = current
        .keys()
        .filter(|key| !wanted.contains_key(*key))
        .map(|key| Change::Removed(key.clone()));
    added_or_changed.chain(removed).collect()
}

/// A setting that differs, as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub key: String,
    /// `None` if it is new.
    pub before: Option<String>,
    /// `None` if it goes.
    pub after: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, before, after } = self;
        match (before, after) {
            (None, Some(after)) => write!(f, "+ {key}: {after}"),
            (Some(before), None) => write!(f, "- {key}: {before}"),
            // What differs is masked.
            (Some(before), Some(after)) if before == after => {
                write!(f, "~ {key}: {before} -> another secret")
            }
            (Some(before), Some(after)) => write!(f, "~ {key}: {before} -> {after}"),
            (None, None) => write!(f, "  {key}"),
        }
    }
}

/// The settings that differ, by name; all of them if the connector is new.
pub fn differences(current: Option<&Config>, wanted: &Config, secrets: &Secrets) -> Vec<Difference> {
    let none = Config::new();
    let current = current.unwrap_or(&none);
    let shown = |config: &Config, key: &String| Some(secrets.shown(key, config.get(key)?));
    let mut keys: Vec<&String> = current.keys().chain(wanted.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        // Connect adds it, and it is the file's name.
        .filter(|key| *key != "name" && current.get(*key) != wanted.get(*key))
        .map(|key| Difference {
            key: key.clone(),
            before: shown(current, key),
            after: shown(wanted, key),
        })
        .collect()
}

/// Whether the tasks have been given this configuration. Connect answers a PUT before it has restarted
/// anything, and reports the old tasks' states meanwhile. A setting that the connector does not hand on
/// to its tasks says nothing.
pub fn taken_over(plan: &Plan, wanted: &Config, tasks: &[Config]) -> bool {
    let Plan::Update(changes) = plan else { return true };
    let handed_on = |key: &String| tasks.iter().any(|task| task.contains_key(key));
    changes.iter().all(|change| match change {
        Change::Added(key) | Change::Changed(key) => {
            !handed_on(key) || tasks.iter().all(|task| task.get(key) == wanted.get(key))
        }
        Change::Removed(key) => !handed_on(key),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn only_a_difference_needs_a_put() {
        let wanted = config(&[("a", "1"), ("b", "2")]);
        assert_eq!(Plan::new(None, &wanted), Plan::Create);
        assert_eq!(Plan::new(Some(&wanted), &wanted), Plan::Unchanged);
        let current = config(&[("b", "3"), ("c", "4")]);
        assert_eq!(
            Plan::new(Some(&current), &wanted),
            Plan::Update(vec![
                Change::Added("a".to_owned()),
                Change::Changed("b".to_owned()),
                Change::Removed("c".to_owned()),
            ])
        );
    }

    #[test]
    fn differences_are_shown_with_values_and_without_secrets() {
        let current = config(&[
            ("a", "1"),
            ("b", "2"),
            ("name", "x"),
            ("p.password", "hunter2"),
            ("q.password", "${env:Q}"),
            ("url", "https://u:old@h"),
        ]);
        let wanted = config(&[
            ("a", "1"),
            ("b", "3"),
            ("c", "4"),
            ("name", "x"),
            ("p.password", "hunter3"),
            ("url", "https://u:new@h"),
        ]);
        let shown = |current| -> Vec<String> {
            let differences = differences(current, &wanted, &Secrets::default());
            differences.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            shown(Some(&current)),
            [
                "~ b: 2 -> 3",
                "+ c: 4",
                "~ p.password: ******** -> another secret",
                "- q.password: ${env:Q}",
                "~ url: https://u:********@h -> another secret",
            ]
        );
        assert_eq!(
            shown(None),
            [
                "+ a: 1",
                "+ b: 3",
                "+ c: 4",
                "+ p.password: ********",
                "+ url: https://u:********@h"
            ]
        );
    }

    #[test]
    fn a_changed_value_is_taken_over_when_every_task_has_it() {
        let (old, wanted) = (config(&[("a", "1")]), config(&[("a", "2")]));
        let plan = Plan::new(Some(&old), &wanted);
        assert!(!taken_over(&plan, &wanted, &[wanted.clone(), old]));
        assert!(taken_over(&plan, &wanted, &[wanted.clone(), wanted.clone()]));
        assert!(
            taken_over(&plan, &wanted, &[config(&[("other", "x")])]),
            "not handed on"
        );
        assert!(taken_over(&Plan::Create, &wanted, &[]));
    }

    #[test]
    fn a_removed_setting_is_taken_over_when_no_task_has_it() {
        let (old, wanted) = (config(&[("a", "1"), ("b", "2")]), config(&[("a", "1")]));
        let plan = Plan::new(Some(&old), &wanted);
        assert!(!taken_over(&plan, &wanted, &[old]));
        assert!(taken_over(&plan, &wanted, std::slice::from_ref(&wanted)));
    }

    #[test]
    fn an_added_setting_waits_until_it_is_seen_only_if_tasks_get_it() {
        let (old, wanted) = (config(&[("a", "1")]), config(&[("a", "1"), ("b", "2")]));
        let plan = Plan::new(Some(&old), &wanted);
        assert!(taken_over(&plan, &wanted, std::slice::from_ref(&wanted)));
        // Not to be told from a setting that is never handed on; the settling time covers it.
        assert!(taken_over(&plan, &wanted, &[old]));
    }
}
