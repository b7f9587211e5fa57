//! Liveness and readiness, and the router of the second listener that only operators reach.
//!
//! Live means the process answers. Ready means it should get traffic: every dependency is up and the
//! service is not draining. Invariant: a dependency starts as down until someone has seen it up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tracing::{error, info, warn};

use crate::metrics::Metrics;
use crate::problem::Problem;

/// What readiness is made of; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    draining: bool,
    /// By name; `Err` holds why it is down.
    dependencies: BTreeMap<&'static str, Result<(), String>>,
}

impl Health {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a dependency, which is down until told otherwise.
    pub fn dependency(&self, name: &'static str) -> Dependency {
        self.change(|state| state.dependencies.insert(name, Err("not reached yet".to_owned())));
        Dependency {
            health: self.clone(),
            name,
        }
    }

    /// The service is shutting down: not ready from here on.
    pub fn draining(&self) {
        self.change(|state| state.draining = true);
    }

    pub fn is_ready(&self) -> bool {
        self.change(|state| state.is_ready())
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn is_ready(&self) -> bool {
        !self.draining && self.dependencies.values().all(Result::is_ok)
    }

    fn report(&self) -> Value {
        let dependencies: serde_json::Map<_, _> = self
            .dependencies
            .iter()
            .map(|(name, state)| {
                let state = match state {
                    Ok(()) => json!({ "up": true }),
                    Err(reason) => json!({ "up": false, "reason": reason }),
                };
                ((*name).to_owned(), state)
            })
            .collect();
        let mut report = json!({ "ready": self.is_ready(), "dependencies": dependencies });
        // Otherwise a service that is shutting down would say that it is not ready and nothing is wrong.
        if self.draining {
            report["draining"] = true.into();
        }
        report
    }
}

/// The handle of whoever watches one dependency. Logs when the state changes, not when it is repeated.
#[derive(Clone, Debug)]
pub struct Dependency {
    health: Health,
    name: &'static str,
}

impl Dependency {
    pub fn up(&self) {
        if self.set(Ok(())).is_err() {
            info!(dependency = self.name, "{} is up", self.name);
        }
    }

    /// `reason` is shown to operators on `/readyz`: no secrets.
    pub fn down(&self, reason: impl Into<String>) {
        let reason = reason.into();
        if self.set(Err(reason.clone())) != Err(reason.clone()) {
            warn!(dependency = self.name, "{} is down: {reason}", self.name);
        }
    }

    fn set(&self, state: Result<(), String>) -> Result<(), String> {
        self.health
            .change(|health| health.dependencies.insert(self.name, state))
            .unwrap_or(Ok(()))
    }
}

/// `/livez`, `/readyz` and `/metrics`. Serve it on a listener that is not public.
pub fn admin_router(health: Health, metrics: Metrics) -> Router {
    Router::new()
        .route("/livez", get(async || Json(json!({ "alive": true }))))
        .route("/readyz", get(async move || readyz(&health)))
        .route("/metrics", get(async move || openmetrics(&metrics)))
}

fn readyz(health: &Health) -> Response {
    let (ready, report) = health.change(|state| (state.is_ready(), state.report()));
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report)).into_response()
}

fn openmetrics(metrics: &Metrics) -> Response {
    match metrics.encode() {
        Ok(text) => (
            [(
                CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(e) => {
            error!(error = %e, "a metric cannot be encoded");
            Problem::internal().into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn get_json(health: &Health, path: &str) -> (u16, Value) {
        let router = admin_router(health.clone(), Metrics::new());
        let response = router
            .oneshot(Request::get(path).body(Body::empty()).unwrap())
            .await
            .unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn ready_when_every_dependency_is_up_and_not_draining() {
        let health = Health::new();
        assert_eq!(
            get_json(&health, "/readyz").await,
            (200, json!({"ready": true, "dependencies": {}}))
        );

        let postgresql = health.dependency("postgresql");
        let kafka = health.dependency("kafka");
        kafka.up();
        let report = json!({"ready": false, "dependencies": {
            "kafka": {"up": true}, "postgresql": {"up": false, "reason": "not reached yet"},
        }});
        assert_eq!(get_json(&health, "/readyz").await, (503, report));

        postgresql.up();
        assert_eq!(get_json(&health, "/readyz").await.0, 200);

        postgresql.down("connection refused");
        let (status, report) = get_json(&health, "/readyz").await;
        assert_eq!(status, 503);
        assert_eq!(
            report["dependencies"]["postgresql"],
            json!({"up": false, "reason": "connection refused"})
        );

        postgresql.up();
        health.draining();
        let (status, report) = get_json(&health, "/readyz").await;
        assert_eq!(
            (status, &report["ready"], &report["draining"]),
            (503, &json!(false), &json!(true))
        );
        assert_eq!(get_json(&health, "/livez").await, (200, json!({"alive": true})));
    }
}
