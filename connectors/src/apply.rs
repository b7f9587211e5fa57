//! Makes a connector what its configuration says, and waits until it runs: compare, validate, put, watch.
//! What to do is decided in [`plan`](crate::plan) and [`settle`](crate::settle); this is the order of the
//! requests.
//!
//! It has two steps, so that several connectors can be looked at before the first is changed: [`prepare`]
//! changes nothing, [`Prepared::carry_out`] does.

use std::{collections::BTreeSet, fmt, time::Duration};

use crate::{
    Config, ConnectApi, ConnectError,
    patience::Patience,
    plan::{Difference, Plan, differences},
    reach::{Awaited, Changed},
    secret::Secrets,
    settle::Outdated,
    status::{Standing, State, Status},
    validate::validate,
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

/// Creates or updates the connector if it differs, and returns once it and its tasks are RUNNING and have
/// stayed so for a moment. Each of looking and carrying out takes `wait` at most. Applying the same again
/// changes nothing; it restarts what has failed.
pub async fn apply(
    api: &ConnectApi,
    name: &str,
    config: &Config,
    wait: Duration,
) -> Result<Outcome, ConnectError> {
    let prepared = prepare(api, name, config, wait).await?;
    prepared.carry_out(api, wait, |_| ()).await
}

/// What has to be done to one connector, found valid by Connect.
#[derive(Clone)]
pub struct Prepared {
    name: String,
    current: Option<Config>,
    wanted: Config,
    plan: Plan,
    secrets: Secrets,
    /// How the connector stands, if its configuration is right already.
    standing: Option<Standing>,
}

/// Compares and, if something differs, validates. Changes nothing.
pub async fn prepare(
    api: &ConnectApi,
    name: &str,
    config: &Config,
    wait: Duration,
) -> Result<Prepared, ConnectError> {
    let awaited = Awaited {
        api,
        name,
        patience: Patience::new(wait),
    };
    let wanted = named(name, config);
    let current = awaited.ask(|| api.config(name)).await?;
    let plan = Plan::new(current.as_ref(), &wanted);
    let (mut passwords, mut standing) = (BTreeSet::new(), None);
    if plan == Plan::Unchanged {
        standing = awaited.status().await?.as_ref().map(Standing::of);
    } else {
        passwords = validate(&awaited, &wanted).await?;
    }
    Ok(Prepared {
        name: name.to_owned(),
        current,
        wanted,
        plan,
        secrets: Secrets::new(passwords),
        standing,
    })
}

/// Connect adds the name to the configuration it stores, and wants it for validating.
fn named(name: &str, config: &Config) -> Config {
    let mut config = config.clone();
    config.insert("name".to_owned(), name.to_owned());
    config
}

/// Without values, which can be secrets.
impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("name", &self.name)
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

impl Prepared {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The settings that differ, as they may be shown.
    pub fn differences(&self) -> Vec<Difference> {
        differences(self.current.as_ref(), &self.wanted, &self.secrets)
    }

    /// Whether carrying it out changes the configuration, or restarts a connector that has failed.
    pub fn does_something(&self) -> bool {
        self.plan != Plan::Unchanged || self.has_failed()
    }

    /// Its configuration is right, and it has failed.
    pub fn has_failed(&self) -> bool {
        self.standing == Some(Standing::Failed)
    }

    /// Puts the configuration if it differs, restarts what has failed, and waits until all runs. `tell` is
    /// given what is seen meanwhile.
    pub async fn carry_out(
        &self,
        api: &ConnectApi,
        wait: Duration,
        mut tell: impl FnMut(&Status),
    ) -> Result<Outcome, ConnectError> {
        let awaited = Awaited {
            api,
            name: &self.name,
            patience: Patience::new(wait),
        };
        if self.plan == Plan::Unchanged {
            return keep_running(&awaited, &mut tell).await;
        }
        let plan = self.still_right(&awaited).await?;
        if plan == Plan::Unchanged {
            return keep_running(&awaited, &mut tell).await;
        }
        // Its own failure; those of its tasks are judged by their configuration.
        let failed = |status: &Status| status.connector.state == State::Failed;
        let outdated = Outdated::new(awaited.status().await?.filter(failed));
        awaited.ask(|| api.put_config(&self.name, &self.wanted)).await?;
        let change = Changed {
            plan: &plan,
            wanted: &self.wanted,
        };
        awaited.until_running(Some(change), outdated, &mut tell).await?;
        Ok(match plan {
            Plan::Create => Outcome::Created,
            Plan::Update(_) | Plan::Unchanged => Outcome::Updated,
        })
    }

    /// What was shown and agreed to is carried out, or what somebody else has done of it already.
    async fn still_right(&self, awaited: &Awaited<'_>) -> Result<Plan, ConnectError> {
        let current = awaited.ask(|| awaited.api.config(&self.name)).await?;
        let plan = Plan::new(current.as_ref(), &self.wanted);
        if current != self.current && plan != Plan::Unchanged {
            return Err(ConnectError::ChangedMeanwhile {
                connector: self.name.clone(),
            });
        }
        Ok(plan)
    }
}

async fn keep_running(
    awaited: &Awaited<'_>,
    tell: &mut impl FnMut(&Status),
) -> Result<Outcome, ConnectError> {
    let status = awaited.status().await?;
    let mut outdated = Outdated::default();
    match status.as_ref().map(Standing::of) {
        Some(Standing::Running) => return Ok(Outcome::Unchanged),
        // Connect never restarts what has failed by itself.
        Some(Standing::Failed) => {
            awaited.ask(|| awaited.api.restart_failed(awaited.name)).await?;
            outdated = Outdated::new(status);
        }
        Some(Standing::Halted(_) | Standing::Changing) | None => (),
    }
    awaited.until_running(None, outdated, tell).await?;
    Ok(Outcome::Restarted)
}
