//! Waits until a connector is in the state that was asked for: looks again and again, and believes what it
//! sees as [`settle`](crate::settle) says.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    Config, ConnectApi, ConnectError,
    patience::Patience,
    plan::{Plan, taken_over},
    settle::{AfterChange, Settling},
    status::{Standing, Status},
};

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A connector that is waited for.
pub(crate) struct Awaited<'a> {
    pub(crate) api: &'a ConnectApi,
    pub(crate) name: &'a str,
    pub(crate) patience: Patience,
}

/// A configuration that was put.
pub(crate) struct Changed<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) wanted: &'a Config,
    pub(crate) seen: AfterChange,
}

impl Awaited<'_> {
    /// Returns once the connector and its tasks have been RUNNING for a moment, with the configuration that was
    /// wanted after a change. `tell` is given what is seen meanwhile.
    pub(crate) async fn until_running(
        &self,
        mut change: Option<Changed<'_>>,
        tell: &mut impl FnMut(&Status),
    ) -> Result<(), ConnectError> {
        let mut settling = Settling::default();
        let mut last_state = None;
        while !self.patience.is_over() {
            let (tasks, status) = match self.look().await {
                // The time is over, not the server gone: it has answered before.
                Err(ConnectError::NoAnswer { .. }) => break,
                seen => seen?,
            };
            let standing = match (&status, &mut change) {
                (None, _) => Standing::Changing,
                (Some(status), None) => Standing::of(status),
                (Some(status), Some(Changed { plan, wanted, seen })) => {
                    let taken_over = taken_over(plan, wanted, &tasks);
                    seen.standing(self.patience.elapsed(), status, taken_over)
                }
            };
            let connector = self.name.to_owned();
            match (settling.observe(self.patience.elapsed(), standing), status) {
                (Some(Standing::Running), _) => return Ok(()),
                (Some(Standing::Failed), Some(status)) => {
                    let failures = status.failures();
                    return Err(ConnectError::Failed { connector, failures });
                }
                (Some(Standing::Halted(state)), _) => {
                    let state = state.to_string();
                    return Err(ConnectError::Halted { connector, state });
                }
                (_, Some(status)) => {
                    tell(&status);
                    last_state = Some(status);
                }
                (_, None) => (),
            }
            sleep(LOOK_EVERY).await;
        }
        Err(self.not_reached("RUNNING", last_state.as_ref()))
    }

    /// Returns once what was seen is as it should be. A state that somebody asked for needs no proof that
    /// it lasts.
    pub(crate) async fn until(
        &self,
        wanted: &'static str,
        reached: impl Fn(&Status) -> bool,
        tell: &mut impl FnMut(&Status),
    ) -> Result<(), ConnectError> {
        let mut last_state = None;
        while !self.patience.is_over() {
            let status = match self.status().await {
                Err(ConnectError::NoAnswer { .. }) => break,
                seen => seen?,
            };
            if let Some(status) = status {
                if reached(&status) {
                    return Ok(());
                }
                tell(&status);
                last_state = Some(status);
            }
            sleep(LOOK_EVERY).await;
        }
        Err(self.not_reached(wanted, last_state.as_ref()))
    }

    pub(crate) async fn status(&self) -> Result<Option<Status>, ConnectError> {
        self.ask(|| self.api.status(self.name)).await
    }

    pub(crate) async fn ask<T, F>(&self, request: impl Fn() -> F) -> Result<T, ConnectError>
    where
        F: Future<Output = Result<T, ConnectError>>,
    {
        self.patience.ask(self.api.url(), request).await
    }

    /// In this order: a status read after the tasks' configuration is not older than that.
    async fn look(&self) -> Result<(Vec<Config>, Option<Status>), ConnectError> {
        let tasks = self.ask(|| self.api.task_configs(self.name)).await?;
        Ok((tasks, self.status().await?))
    }

    fn not_reached(&self, wanted: &'static str, last: Option<&Status>) -> ConnectError {
        ConnectError::NotReached {
            connector: self.name.to_owned(),
            wanted,
            state: last.map_or("none yet".to_owned(), ToString::to_string),
            waited: self.patience.wait(),
        }
    }
}
