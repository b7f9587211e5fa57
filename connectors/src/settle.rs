//! Decides when a connector's state can be believed. Pure: the caller observes and keeps the time.
//!
//! Connect's status lags behind what was asked for: after a change it still shows the old tasks, RUNNING
//! or FAILED, and a task that is RUNNING can fail a moment later at its first read. So a state counts
//! only once it has held for a while, whichever state it is.

use std::time::Duration;

use crate::status::{Standing, State, Status};

/// Longer than Connect needs to replace a task (0.1–0.3 s), and than Debezium needs to find that it may
/// not read a table or that its publication is missing (below 1 s).
pub const SETTLED_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub struct Settling {
    held: Option<(Standing, Duration)>,
}

impl Settling {
    /// Takes what was seen `at` (since the start of the wait) and answers the state if it has held long
    /// enough to be believed. `Changing` never settles.
    pub fn observe(&mut self, at: Duration, standing: Standing) -> Option<Standing> {
        match &self.held {
            Some((held, since)) if *held == standing => (standing != Standing::Changing
                && at.saturating_sub(*since) >= SETTLED_AFTER)
                .then_some(standing),
            _ => {
                self.held = Some((standing, at));
                None
            }
        }
    }
}

/// So long Connect may take to turn to what it was told: its one thread for that may be busy with another connector,
/// which it waits for when that does not stop.
pub const OUTDATED_AFTER: Duration = Duration::from_secs(10);

/// What an order is to end, as it was seen when it was given.
#[derive(Debug, Default)]
pub struct Outdated(Option<Status>);

impl Outdated {
    pub fn new(seen: Option<Status>) -> Self {
        Self(seen)
    }

    /// Whether a status that was seen `at` (since the start of the wait) may be from before the order: nothing else
    /// was seen yet.
    pub fn observe(&mut self, at: Duration, status: &Status) -> bool {
        let outdated = at < OUTDATED_AFTER && self.0.as_ref() == Some(status);
        if !outdated {
            self.0 = None;
        }
        outdated
    }
}

/// What to make of a status. `taken_over` says that the tasks have the configuration that they are to have; they get a
/// new one when the connector starts, so from one that is halted or has failed itself they never do.
pub fn standing(status: &Status, taken_over: bool) -> Standing {
    match &status.connector.state {
        _ if taken_over => Standing::of(status),
        state @ (State::Paused | State::Stopped) => Standing::Halted(state.clone()),
        State::Failed => Standing::Failed,
        _ => Standing::Changing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(connector: &str, task: &str, trace: &str) -> Status {
        serde_json::from_value(serde_json::json!({
            "name": "x",
            "connector": {"state": connector, "worker_id": "w:1", "trace": trace},
            "tasks": [{"id": 0, "state": task, "worker_id": "w:1"}],
        }))
        .unwrap()
    }

    #[test]
    fn who_hands_nothing_on_to_its_tasks_is_believed_without_that() {
        let seen =
            |connector: &str, task: &str, taken_over| standing(&status(connector, task, ""), taken_over);
        assert_eq!(seen("RUNNING", "RUNNING", false), Standing::Changing);
        assert_eq!(
            seen("RUNNING", "FAILED", false),
            Standing::Changing,
            "the old task"
        );
        assert_eq!(seen("RUNNING", "RUNNING", true), Standing::Running);
        for task in ["PAUSED", "FAILED"] {
            assert_eq!(seen("PAUSED", task, false), Standing::Halted(State::Paused));
        }
        assert_eq!(seen("FAILED", "RUNNING", false), Standing::Failed);
        assert_eq!(seen("UNASSIGNED", "RUNNING", false), Standing::Changing);
    }

    #[test]
    fn what_an_order_is_to_end_is_outdated_until_something_else_is_seen() {
        let failed = status("FAILED", "UNASSIGNED", "before");
        let mut outdated = Outdated::new(Some(failed.clone()));
        let mut at = |seconds, status: &Status| outdated.observe(Duration::from_secs(seconds), status);
        assert!(at(0, &failed));
        assert!(at(9, &failed));
        assert!(!at(10, &failed), "it is no better");
        // Something else was seen, so what comes is new.
        for between in ["UNASSIGNED", "RUNNING"] {
            let mut outdated = Outdated::new(Some(failed.clone()));
            let mut at = |seconds, status: &Status| outdated.observe(Duration::from_secs(seconds), status);
            assert!(!at(0, &status(between, "UNASSIGNED", "")));
            assert!(!at(1, &failed));
        }
        let other = status("FAILED", "UNASSIGNED", "after");
        assert!(!Outdated::new(Some(failed.clone())).observe(Duration::ZERO, &other));
        assert!(!Outdated::default().observe(Duration::ZERO, &failed));
    }

    fn settle(seen: &[(u64, Standing)]) -> Option<(u64, Standing)> {
        let mut settling = Settling::default();
        seen.iter().find_map(|(at, standing)| {
            settling
                .observe(Duration::from_millis(*at), standing.clone())
                .map(|settled| (*at, settled))
        })
    }

    #[test]
    fn a_state_must_hold() {
        use Standing::{Changing, Failed, Running};
        assert_eq!(settle(&[(0, Running), (1999, Running)]), None);
        assert_eq!(settle(&[(0, Running), (2000, Running)]), Some((2000, Running)));
        // The old task is still shown, then replaced by one that fails.
        assert_eq!(
            settle(&[
                (0, Running),
                (1000, Changing),
                (1500, Running),
                (2000, Failed),
                (4000, Failed)
            ]),
            Some((4000, Failed))
        );
        // The failure of the old task is no failure of the new one.
        assert_eq!(
            settle(&[(0, Failed), (500, Running), (2400, Running), (2500, Running)]),
            Some((2500, Running))
        );
        assert_eq!(settle(&[(0, Changing), (60_000, Changing)]), None);
    }
}
