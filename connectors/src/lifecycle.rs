//! Restarts, pauses, stops and resumes a connector, and waits until it is so: Connect answers such a
//! request before it has done anything.

use std::time::Duration;

use crate::{
    ConnectApi, ConnectError,
    patience::Patience,
    reach::Awaited,
    status::{State, Status},
};

/// A state that a connector is to be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Captures nothing, and keeps its tasks and their connections: a slot stays in use.
    Pause,
    /// Captures nothing and has no tasks; only so can its offsets be changed.
    Stop,
    Resume,
}

impl Order {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Stop => "stop",
            Self::Resume => "resume",
        }
    }

    /// What gives a connector back the state it had.
    pub(crate) fn back_to(state: &State) -> Option<Self> {
        match state {
            State::Stopped => None,
            State::Paused => Some(Self::Pause),
            State::Running | State::Failed | State::Unassigned | State::Restarting | State::Other(_) => {
                Some(Self::Resume)
            }
        }
    }
}

/// A task that has failed stays so while its connector is paused.
fn is_paused(status: &Status) -> bool {
    let halted = |state: &State| matches!(state, State::Paused | State::Failed);
    status.connector.state == State::Paused && status.tasks.iter().all(|task| halted(&task.instance.state))
}

fn is_stopped(status: &Status) -> bool {
    status.connector.state == State::Stopped && status.tasks.is_empty()
}

/// Gives the order and returns once it is carried out; a resumed connector has to run. All of it takes
/// `wait` at most; `tell` is given what is seen meanwhile.
pub async fn order(
    api: &ConnectApi,
    name: &str,
    order: Order,
    wait: Duration,
    mut tell: impl FnMut(&Status),
) -> Result<(), ConnectError> {
    let awaited = Awaited {
        api,
        name,
        patience: Patience::new(wait),
    };
    awaited.ask(|| api.order(name, order)).await?;
    match order {
        Order::Pause => awaited.until("PAUSED", is_paused, &mut tell).await,
        Order::Stop => awaited.until("STOPPED", is_stopped, &mut tell).await,
        Order::Resume => awaited.until_running(None, &mut tell).await,
    }
}

/// What [`restart`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restart {
    Done,
    /// Only what has failed was to be restarted, and nothing has; this is how it stands.
    NothingFailed(Status),
}

/// Restarts the connector and its tasks, or those of them that have failed, and returns once they run.
pub async fn restart(
    api: &ConnectApi,
    name: &str,
    only_failed: bool,
    wait: Duration,
    mut tell: impl FnMut(&Status),
) -> Result<Restart, ConnectError> {
    let awaited = Awaited {
        api,
        name,
        patience: Patience::new(wait),
    };
    if only_failed {
        let not_found = || ConnectError::NotFound {
            connector: name.to_owned(),
        };
        let status = awaited.status().await?.ok_or_else(not_found)?;
        if status.failures().is_empty() {
            return Ok(Restart::NothingFailed(status));
        }
    }
    awaited.ask(|| api.restart(name, only_failed)).await?;
    awaited.until_running(None, &mut tell).await?;
    Ok(Restart::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(connector: &str, task: Option<&str>) -> Status {
        let tasks: Vec<_> = task
            .map(|state| serde_json::json!({"id": 0, "state": state, "worker_id": "w:1"}))
            .into_iter()
            .collect();
        serde_json::from_value(serde_json::json!({
            "name": "x", "connector": {"state": connector, "worker_id": "w:1"}, "tasks": tasks,
        }))
        .unwrap()
    }

    #[test]
    fn an_order_is_carried_out_when_the_tasks_have_followed() {
        assert!(is_paused(&status("PAUSED", Some("PAUSED"))));
        assert!(is_paused(&status("PAUSED", Some("FAILED"))));
        assert!(is_paused(&status("PAUSED", None)));
        assert!(!is_paused(&status("PAUSED", Some("RUNNING"))));
        assert!(!is_paused(&status("RUNNING", Some("PAUSED"))));
        assert!(is_stopped(&status("STOPPED", None)));
        assert!(!is_stopped(&status("STOPPED", Some("RUNNING"))));
    }

    #[test]
    fn every_state_can_be_given_back() {
        assert_eq!(Order::back_to(&State::Running), Some(Order::Resume));
        assert_eq!(Order::back_to(&State::Failed), Some(Order::Resume));
        assert_eq!(Order::back_to(&State::Paused), Some(Order::Pause));
        assert_eq!(Order::back_to(&State::Stopped), None);
    }
}
