//! Waits until a connector is in the state that was asked for: looks again and again, and believes what it
//! sees as [`settle`](crate::settle) says.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    Config, ConnectApi, ConnectError,
    patience::Patience,
    plan::{Plan, taken_over},
    settle::{Outdated, Settling, standing},
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
}

impl Awaited<'_> {
    /// Returns once the connector and its tasks have been RUNNING for a moment, with the configuration that was
    /// wanted after a change. What is `outdated` is what it has been told to end. `tell` is given what is seen
    /// meanwhile.
    pub(crate) async fn until_running(
        &self,
        change: Option<Changed<'_>>,
        mut outdated: Outdated,
        tell: &mut impl FnMut(&Status),
    ) -> Result<(), ConnectError> {
        let mut settling = Settling::default();
        let mut last_state = None;
        while !self.patience.is_over() {
            let (status, taken_over) = match self.look(change.as_ref()).await {
                // The time is over, not the server gone: it has answered before.
                Err(ConnectError::NoAnswer { .. }) => break,
                seen => seen?,
            };
            let at = self.patience.elapsed();
            let standing = match &status {
                Some(status) if !outdated.observe(at, status) => standing(status, taken_over),
                _ => Standing::Changing,
            };
            let connector = self.name.to_owned();
            match (settling.observe(at, standing), status) {
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

    /// The status, and whether the tasks have the change. The status is read last, so it is not the older of the two.
    async fn look(&self, change: Option<&Changed<'_>>) -> Result<(Option<Status>, bool), ConnectError> {
        let taken_over = match change {
            None => true,
            Some(Changed { plan, wanted }) => {
                let tasks = self.ask(|| self.api.task_configs(self.name)).await?;
                taken_over(plan, wanted, &tasks)
            }
        };
        Ok((self.status().await?, taken_over))
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
