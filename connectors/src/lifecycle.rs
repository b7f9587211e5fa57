//! Restarts, pauses, stops and resumes a connector, and waits until it is so: Connect answers such a
//! request before it has done anything.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    ConnectApi, ConnectError,
    patience::Patience,
    reach::Awaited,
    settle::Outdated,
    status::{Standing, State, Status},
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

    /// What gives a connector back the state it had; `None` if it was stopped.
    ///
    /// # Errors
    /// If nobody can ask for the state.
    fn back_to(before: &Status) -> Result<Option<Self>, ConnectError> {
        match &before.connector.state {
            State::Stopped => Ok(None),
            State::Paused => Ok(Some(Self::Pause)),
            State::Running | State::Failed => Ok(Some(Self::Resume)),
            state @ (State::Unassigned | State::Restarting | State::Other(_)) => {
                Err(ConnectError::Unsettled {
                    connector: before.name.clone(),
                    state: state.to_string(),
                })
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
    carried_out(&awaited, order, &mut tell).await
}

async fn carried_out(
    awaited: &Awaited<'_>,
    order: Order,
    tell: &mut impl FnMut(&Status),
) -> Result<(), ConnectError> {
    match order {
        Order::Pause => awaited.until("PAUSED", is_paused, tell).await,
        Order::Stop => awaited.until("STOPPED", is_stopped, tell).await,
        Order::Resume => {
            // Seen after the order, as Connect may not have turned to it yet.
            let halted = |status: &Status| matches!(Standing::of(status), Standing::Halted(_));
            let outdated = Outdated::new(awaited.status().await?.filter(halted));
            awaited.until_running(None, outdated, tell).await
        }
    }
}

/// Between two tries to give a state back.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// A connector that was stopped for a while, and what it was before.
#[derive(Debug)]
pub struct Stopped<'a> {
    api: &'a ConnectApi,
    name: &'a str,
    wait: Duration,
    back: Option<Order>,
}

impl<'a> Stopped<'a> {
    /// Stops it. One that does not stop within `wait` gets its state back.
    ///
    /// # Errors
    /// Also if it is in a state that it could not be given back.
    pub async fn stop(
        api: &'a ConnectApi,
        name: &'a str,
        wait: Duration,
        tell: &mut impl FnMut(&Status),
    ) -> Result<Self, ConnectError> {
        let awaited = Awaited {
            api,
            name,
            patience: Patience::new(wait),
        };
        let before = awaited.status().await?.ok_or_else(|| ConnectError::NotFound {
            connector: name.to_owned(),
        })?;
        let back = Order::back_to(&before)?;
        let stopped = Self {
            api,
            name,
            wait,
            back,
        };
        let done = match awaited.ask(|| api.order(name, Order::Stop)).await {
            Ok(()) => carried_out(&awaited, Order::Stop, tell).await,
            // It may have been heard all the same.
            Err(error @ ConnectError::NoAnswer { .. }) => Err(error),
            Err(error) => return Err(error),
        };
        if let Err(error) = done {
            stopped.give_back(&error.to_string()).await?;
            return Err(error);
        }
        Ok(stopped)
    }

    /// Asks for the state that it had, again and again while Connect does not answer. `done` says what has come of
    /// stopping it.
    ///
    /// # Errors
    /// If it is left stopped.
    pub async fn give_back(&self, done: &str) -> Result<(), ConnectError> {
        let Some(order) = self.back else { return Ok(()) };
        let patience = Patience::new(self.wait);
        loop {
            let asked = patience.ask(self.api.url(), || self.api.order(self.name, order));
            match asked.await {
                // A connector that is gone has no state.
                Ok(()) | Err(ConnectError::NotFound { .. }) => return Ok(()),
                Err(error) if error.is_transient() && !patience.is_over() => sleep(TRY_AGAIN).await,
                Err(error) => {
                    return Err(ConnectError::LeftStopped {
                        connector: self.name.to_owned(),
                        order: order.path(),
                        done: done.to_owned(),
                        source: Box::new(error),
                    });
                }
            }
        }
    }

    /// Returns once it has the state again that it had. A connector that ran has to run.
    pub(crate) async fn is_back(&self, tell: &mut impl FnMut(&Status)) -> Result<(), ConnectError> {
        let Some(order) = self.back else { return Ok(()) };
        let awaited = Awaited {
            api: self.api,
            name: self.name,
            patience: Patience::new(self.wait),
        };
        carried_out(&awaited, order, tell).await
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
    let failed = |status: &Status| !status.failures().is_empty();
    let status = awaited.status().await?;
    if only_failed {
        let status = status.as_ref().ok_or_else(|| ConnectError::NotFound {
            connector: name.to_owned(),
        })?;
        if !failed(status) {
            return Ok(Restart::NothingFailed(status.clone()));
        }
    }
    awaited.ask(|| api.restart(name, only_failed)).await?;
    let outdated = Outdated::new(status.filter(failed));
    awaited.until_running(None, outdated, &mut tell).await?;
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
    fn only_a_state_that_somebody_can_ask_for_is_given_back() {
        let back_to = |state: &str| Order::back_to(&status(state, None));
        assert_eq!(back_to("RUNNING").unwrap(), Some(Order::Resume));
        assert_eq!(back_to("FAILED").unwrap(), Some(Order::Resume));
        assert_eq!(back_to("PAUSED").unwrap(), Some(Order::Pause));
        assert_eq!(back_to("STOPPED").unwrap(), None);
        for state in ["UNASSIGNED", "RESTARTING", "DREAMING"] {
            let error = back_to(state).unwrap_err();
            assert!(error.to_string().contains(&format!("x is {state}, ")), "{error}");
        }
    }
}
