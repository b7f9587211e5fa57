//! A small supervisor: looks at all connectors every few seconds and restarts what has failed, which Kafka
//! Connect never does by itself. What to do when is decided in [`supervision`]; this looks, asks and tells.
//!
//! It may run several times beside itself: see [`supervision`].

pub mod capture;
pub mod metrics;
pub mod supervision;

use std::{collections::BTreeMap, fmt, time::Duration};

use service_kit::{
    clock,
    health::{Dependency, Health, admin_router},
    lifecycle::{TaskError, Tasks},
    metrics::Metrics,
    server::serve,
};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    ConnectApi, ConnectError,
    status::{Standing, State, Status, causes},
    watch::{
        capture::{Gauges, Onlooker},
        metrics::{Board, Seen},
        supervision::{Pace, Step, Supervision},
    },
};

/// What is watched, and how.
#[derive(Clone)]
pub struct Watch {
    /// Connectors; all that there are if none is named.
    pub names: Vec<String>,
    /// Between two looks.
    pub interval: Duration,
    pub pace: Pace,
    /// Draws a lot from 0 to 1; random but in tests.
    pub lot: fn() -> f64,
    /// The captured database, whose slots are told of. It may hold credentials.
    pub database_url: Option<String>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("names", &self.names)
            .field("interval", &self.interval)
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}

/// How often somebody else's restart is looked for while it may come at any moment: Connect shows one for
/// 0.1 s at least.
const LOOK_CLOSELY: Duration = Duration::from_millis(50);

/// What is in flight when it is told to end may take so long.
const DRAIN: Duration = Duration::from_secs(5);

/// Watches until `shutdown` is cancelled, and answers `/livez`, `/readyz` and `/metrics` on the listener.
/// It is ready while Connect answers; a connector that has failed is told by the metrics.
pub async fn run(
    api: ConnectApi,
    watch: Watch,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), TaskError> {
    let metrics = Metrics::new();
    let health = Health::new();
    let mut tasks = Tasks::new();
    if let Some(database_url) = watch.database_url.clone() {
        let onlooker = Onlooker {
            api: api.clone(),
            names: watch.names.clone(),
            database_url,
            gauges: Gauges::registered(&metrics),
            connection: None,
            slots: BTreeMap::new(),
        };
        let (interval, stop) = (watch.interval, shutdown.clone());
        tasks.spawn("capture", async move {
            onlooker.look_on(interval, stop).await;
            Ok::<_, ConnectError>(())
        });
    }
    let mut supervisor = Supervisor {
        board: Board::registered(&metrics),
        connect: health.dependency("kafka_connect"),
        supervised: BTreeMap::new(),
        begun: Instant::now(),
        api,
        watch,
    };
    let admin = admin_router(health.clone(), metrics);
    tasks.spawn(
        "listener",
        serve(listener, admin, shutdown.clone(), Duration::from_secs(1)),
    );
    let stop = shutdown.clone();
    tasks.spawn("supervisor", async move {
        supervisor.supervise(&stop).await;
        health.draining();
        Ok::<_, ConnectError>(())
    });
    tasks.run_until(shutdown, DRAIN).await
}

struct Supervisor {
    api: ConnectApi,
    watch: Watch,
    board: Board,
    connect: Dependency,
    supervised: BTreeMap<String, Supervision>,
    begun: Instant,
}

impl Supervisor {
    async fn supervise(&mut self, shutdown: &CancellationToken) {
        loop {
            // A look may be broken off; a request to restart that was sent is not.
            let Some(pause) = self.turn(shutdown).await else {
                return;
            };
            if shutdown.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Looks once and does what is to be done. Answers when to look again, or `None` at the end.
    async fn turn(&mut self, shutdown: &CancellationToken) -> Option<Duration> {
        let statuses = match shutdown.run_until_cancelled(self.api.statuses()).await? {
            Ok(statuses) => statuses,
            Err(error) => {
                self.not_seen(&error);
                return Some(self.watch.interval);
            }
        };
        self.connect.up();
        self.board.change(|snapshot| snapshot.up = true);
        let mut next_look = self.watch.interval;
        for (name, status) in self.watched(statuses) {
            let step = match &status {
                Some(status) => self.observe(status),
                None => Step::Rest,
            };
            let step = match step {
                Step::Restart => self.restart(&name).await,
                step => step,
            };
            self.note(&name, status, step);
            next_look = next_look.min(self.look_again_in(step));
        }
        Some(next_look)
    }

    /// The named connectors, or all; forgets those that are gone.
    fn watched(&mut self, statuses: Vec<Status>) -> BTreeMap<String, Option<Status>> {
        let names = &self.watch.names;
        let mut watched: BTreeMap<String, Option<Status>> = names.iter().map(|n| (n.clone(), None)).collect();
        for status in statuses {
            if names.is_empty() || names.contains(&status.name) {
                watched.insert(status.name.clone(), Some(status));
            }
        }
        self.supervised
            .retain(|name, _| watched.get(name).is_some_and(Option::is_some));
        self.board.change(|snapshot| {
            snapshot.connectors.retain(|name, _| watched.contains_key(name));
        });
        watched
    }

    fn observe(&mut self, status: &Status) -> Step {
        let now = self.begun.elapsed();
        let standing = standing(status);
        let supervision = self.supervised.entry(status.name.clone()).or_default();
        let known = supervision.restarts();
        let step = supervision.observe(now, &standing, &self.watch.pace, (self.watch.lot)());
        if supervision.restarts() > known {
            info!(
                connector = status.name,
                "{} was restarted by somebody else", status.name
            );
        }
        step
    }

    /// Looks once more, because somebody else can have been faster, and asks for the restart.
    async fn restart(&mut self, name: &str) -> Step {
        let asked = match self.api.status(name).await {
            Ok(Some(status)) => match self.observe(&status) {
                Step::Restart => {
                    tell(&status);
                    self.api.restart_failed(name).await
                }
                step => return step,
            },
            Ok(None) => return Step::Rest,
            Err(error) => Err(error),
        };
        let now = self.begun.elapsed();
        let supervision = self.supervised.entry(name.to_owned()).or_default();
        match asked {
            Ok(()) => {
                supervision.restarted(now);
                let count = |count: &mut u64| *count += 1;
                self.board
                    .change(|snapshot| count(snapshot.restarts.entry(name.to_owned()).or_default()));
                info!(
                    connector = name,
                    restarts = supervision.restarts(),
                    "{name} is restarted; after its next failure not before {:?} are over",
                    self.watch.pace.pause(supervision.restarts())
                );
            }
            Err(error) => {
                supervision.refused(now, self.watch.interval);
                warn!(connector = name, error = %error, "{name} could not be restarted, trying again");
            }
        }
        Step::Rest
    }

    fn note(&self, name: &str, status: Option<Status>, step: Step) {
        let next_restart = match step {
            Step::Wait { at, .. } => Some(at),
            Step::Rest | Step::Restart => None,
        };
        let now = clock::now();
        let seen = Seen {
            status,
            restarts_in_a_row: self.supervised.get(name).map_or(0, Supervision::restarts),
            next_restart: next_restart.map(|at| {
                let until = at.saturating_sub(self.begun.elapsed());
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "milliseconds since 1970 are below 2^53"
                )]
                let now = now.timestamp_millis() as f64 / 1000.0;
                now + until.as_secs_f64()
            }),
        };
        self.board.change(|snapshot| {
            snapshot.restarts.entry(name.to_owned()).or_default();
            snapshot.connectors.insert(name.to_owned(), seen)
        });
    }

    fn look_again_in(&self, step: Step) -> Duration {
        let Step::Wait { look_from, at } = step else {
            return self.watch.interval;
        };
        let now = self.begun.elapsed();
        match look_from.checked_sub(now) {
            Some(far) if !far.is_zero() => far.max(LOOK_CLOSELY),
            _ => LOOK_CLOSELY.min(at.saturating_sub(now)),
        }
    }

    fn not_seen(&self, error: &ConnectError) {
        // The workers agree anew on who runs what; they will answer in a moment.
        if error.is_rebalance() {
            return;
        }
        self.board.change(|snapshot| {
            snapshot.up = false;
            snapshot.connectors.clear();
        });
        self.connect.down(error.to_string());
    }
}

/// What somebody has halted stays so, also if a part of it had failed before.
fn standing(status: &Status) -> Standing {
    match &status.connector.state {
        state @ (State::Paused | State::Stopped) => Standing::Halted(state.clone()),
        _ => Standing::of(status),
    }
}

fn tell(status: &Status) {
    for failure in status.failures() {
        let reason = causes(&failure.trace)
            .last()
            .copied()
            .unwrap_or("no trace")
            .to_owned();
        warn!(
            connector = status.name,
            worker = failure.worker,
            "{} has failed in its {}: {reason}",
            status.name,
            failure.part
        );
    }
}
