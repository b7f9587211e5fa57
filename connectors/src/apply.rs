//! Makes a connector what its configuration says, and waits until it runs: compare, validate, put, watch.
//! What to do is decided in [`plan`](crate::plan) and [`settle`](crate::settle); this is the order of the
//! requests.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    Config, ConnectApi, ConnectError,
    plan::{Plan, taken_over},
    settle::Settling,
    status::{Standing, Status},
};

/// What [`apply`] did before the connector was RUNNING.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Created,
    Updated,
    /// Its configuration was right and it was RUNNING already: nothing was done.
    Unchanged,
    /// Its configuration was right, but it had to be started again after a failure or was just starting.
    Restarted,
}

const LOOK_EVERY: Duration = Duration::from_millis(100);
const REBALANCE_PAUSE: Duration = Duration::from_millis(250);

/// Creates or updates the connector if it differs, and returns once it and its tasks are RUNNING and have
/// stayed so for a moment. All of it takes `wait` at most. Applying the same again changes nothing; it
/// restarts what has failed.
pub async fn apply(
    api: &ConnectApi,
    name: &str,
    config: &Config,
    wait: Duration,
) -> Result<Outcome, ConnectError> {
    apply_telling(api, name, config, wait, |_| ()).await
}

/// Like [`apply`], and tells what will be changed once Connect has found it valid, just before it is.
pub async fn apply_telling(
    api: &ConnectApi,
    name: &str,
    config: &Config,
    wait: Duration,
    tell: impl FnOnce(&Plan),
) -> Result<Outcome, ConnectError> {
    let connector = Connector {
        api,
        name,
        wanted: named(name, config),
        start: Instant::now(),
        wait,
    };
    let current = connector.patiently(|| api.config(name)).await?;
    let plan = Plan::new(current.as_ref(), &connector.wanted);
    if plan == Plan::Unchanged {
        return connector.keep_running().await;
    }
    connector.validate().await?;
    tell(&plan);
    connector
        .patiently(|| api.put_config(name, &connector.wanted))
        .await?;
    connector.wait_until_running(&plan).await?;
    Ok(match plan {
        Plan::Create => Outcome::Created,
        Plan::Update(_) | Plan::Unchanged => Outcome::Updated,
    })
}

/// Connect adds the name to the configuration it stores, and wants it for validating.
fn named(name: &str, config: &Config) -> Config {
    let mut config = config.clone();
    config.insert("name".to_owned(), name.to_owned());
    config
}

struct Connector<'a> {
    api: &'a ConnectApi,
    name: &'a str,
    wanted: Config,
    start: Instant,
    wait: Duration,
}

impl Connector<'_> {
    async fn keep_running(&self) -> Result<Outcome, ConnectError> {
        let status = self.patiently(|| self.api.status(self.name)).await?;
        match status.as_ref().map(Standing::of) {
            Some(Standing::Running) => return Ok(Outcome::Unchanged),
            // Connect never restarts what has failed by itself.
            Some(Standing::Failed) => self.patiently(|| self.api.restart_failed(self.name)).await?,
            Some(Standing::Halted(_) | Standing::Changing) | None => (),
        }
        self.wait_until_running(&Plan::Unchanged).await?;
        Ok(Outcome::Restarted)
    }

    async fn validate(&self) -> Result<(), ConnectError> {
        let fields = match self.wanted.get("connector.class") {
            Some(class) => self.patiently(|| self.api.validate(class, &self.wanted)).await?,
            None => vec![crate::FieldError {
                field: "connector.class".to_owned(),
                message: "is missing; it says which connector this is".to_owned(),
            }],
        };
        if !fields.is_empty() {
            return Err(ConnectError::InvalidConfig {
                connector: self.name.to_owned(),
                fields,
            });
        }
        self.patiently(|| self.api.put_config(self.name, &self.wanted))
            .await
    }

    async fn wait_until_running(&self, plan: &Plan) -> Result<(), ConnectError> {
        let mut settling = Settling::default();
        let mut last_state = "none yet".to_owned();
        while self.start.elapsed() < self.wait {
            let (tasks, status) = match self.look().await {
                // The time is over, not the server gone: it has answered before.
                Err(ConnectError::NoAnswer { .. }) => break,
                seen => seen?,
            };
            let standing = match &status {
                Some(status) if taken_over(plan, &self.wanted, &tasks) => Standing::of(status),
                _ => Standing::Changing,
            };
            let connector = self.name.to_owned();
            match (settling.observe(self.start.elapsed(), standing), status) {
                (Some(Standing::Running), _) => return Ok(()),
                (Some(Standing::Failed), Some(status)) => {
                    let failures = status.failures();
                    return Err(ConnectError::Failed { connector, failures });
                }
                (Some(Standing::Halted(state)), _) => {
                    let state = state.to_string();
                    return Err(ConnectError::Halted { connector, state });
                }
                (_, Some(status)) => last_state = status.to_string(),
                (_, None) => (),
            }
            sleep(LOOK_EVERY).await;
        }
        Err(ConnectError::NotRunning {
            connector: self.name.to_owned(),
            state: last_state,
            waited: self.wait,
        })
    }

    /// In this order: a status read after the tasks' configuration is not older than that.
    async fn look(&self) -> Result<(Vec<Config>, Option<Status>), ConnectError> {
        let tasks = self.patiently(|| self.api.task_configs(self.name)).await?;
        let status = self.patiently(|| self.api.status(self.name)).await?;
        Ok((tasks, status))
    }

    /// Repeats a request while the workers rebalance, within the time that is left.
    async fn patiently<T, F>(&self, request: impl Fn() -> F) -> Result<T, ConnectError>
    where
        F: Future<Output = Result<T, ConnectError>>,
    {
        let deadline = self.start + self.wait;
        loop {
            let answer = timeout_at(deadline, request())
                .await
                .map_err(|_| ConnectError::NoAnswer {
                    url: self.api.url().to_owned(),
                    waited: self.wait,
                })?;
            match answer {
                Err(error) if error.is_rebalance() && Instant::now() + REBALANCE_PAUSE < deadline => {
                    sleep(REBALANCE_PAUSE).await;
                }
                answer => return answer,
            }
        }
    }
}
