//! Compares the configuration that a connector should have with the one it has. Pure: whether Connect
//! has to be asked to change anything is decided here alone, because even an equal PUT restarts it.

use std::fmt;

use crate::Config;

/// What has to happen to make a connector what its file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    Create,
    /// Never empty.
    Update(Vec<Change>),
    Unchanged,
}

/// One setting that differs. Values are left out: they can be secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Added(String),
    Changed(String),
    Removed(String),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(key) => write!(f, "+{key}"),
            Self::Changed(key) => write!(f, "~{key}"),
            Self::Removed(key) => write!(f, "-{key}"),
        }
    }
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
